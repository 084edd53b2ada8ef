from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets_builders import cohort

from medanomaly.datasets.manifest import Record, manifest_fingerprint, read_manifest, write_manifest
from medanomaly.errors import InputError
from medanomaly.types import Box


def table(folder: Path, text: str | bytes) -> Path:
    path = folder / "manifest.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def code_of(path: Path) -> str:
    with pytest.raises(InputError) as refused:
        read_manifest(path)
    assert str(path) in str(refused.value)
    return refused.value.code


def test_only_the_image_column_is_required(tmp_path: Path) -> None:
    (record,) = read_manifest(table(tmp_path, "image\na/b.png\n"))
    assert record == Record(id="a/b.png", patient_id="a/b.png", image=tmp_path.resolve() / "a/b.png")


def test_images_that_are_each_their_own_patient_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_manifest(table(tmp_path, "image,patient_id\na.png,p\nb.png,p\n"))
    assert not caplog.records
    read_manifest(table(tmp_path, "image\na.png\nb.png\n"))
    assert "its own patient" in caplog.text


def test_text_stays_text(tmp_path: Path) -> None:
    rows = "\n".join(f"{name}.png,{name},{name},1" for name in ("00123", "123", "NA", "null", "1e5", "True", "nan"))
    records = read_manifest(table(tmp_path, f"image,id,patient_id,label\n{rows}\n"))
    assert [record.patient_id for record in records] == ["00123", "123", "NA", "null", "1e5", "True", "nan"]
    assert records[2].image.name == "NA.png"
    assert {record.label for record in records} == {"1"}


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_tables_are_read_as_people_save_them(tmp_path: Path, newline: str, delimiter: str, bom: bytes) -> None:
    lines = [["label", "image", "patient_id"], ["healthy", "a.png", "007"], [], ["", "b.png", "008"]]
    text = newline.join(delimiter.join(line) for line in lines) + newline
    first, second = read_manifest(table(tmp_path, bom + text.encode()))
    assert (first.label, first.image.name, first.patient_id) == ("healthy", "a.png", "007")
    assert (second.label, second.image.name, second.patient_id) == (None, "b.png", "008")


def test_blank_empty_and_a_file_are_three_different_masks(tmp_path: Path) -> None:
    text = "image,mask\na.png,\nb.png,empty\nc.png,m/c.png\nd.png,./empty\n"
    blank, empty, file, named_empty = read_manifest(table(tmp_path, text))
    assert (blank.mask, blank.annotated_empty) == (None, False)
    assert (empty.mask, empty.annotated_empty) == (None, True)
    assert (file.mask, file.annotated_empty) == (tmp_path.resolve() / "m/c.png", False)
    assert (named_empty.mask, named_empty.annotated_empty) == (tmp_path.resolve() / "empty", False)


def test_numbers_are_read_with_their_order(tmp_path: Path) -> None:
    text = "image,spacing_mm,intensity_low,intensity_high\na.png,0.5x0.25,-10,165.5\nb.png,0.2,,\n"
    first, second = read_manifest(table(tmp_path, text))
    assert (first.spacing_mm, first.intensity_range) == ((0.5, 0.25), (-10.0, 165.5))
    assert (second.spacing_mm, second.intensity_range) == ((0.2, 0.2), None)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "E_EMPTY"),
        (b"\n \n", "E_EMPTY"),
        (b"\xef\xbb\xbf", "E_EMPTY"),
        (b"image,label\n", "E_EMPTY"),
        ("image\na.png\n".encode("utf-16"), "E_ENCODING"),
        (b"path,label\na.png,x\n", "E_COLUMN"),
        (b"image,image\na.png,b.png\n", "E_COLUMN"),
        (b"image,lable\na.png,x\n", "E_COLUMN"),
        (b"image,patient\na.png,x\n", "E_COLUMN"),
        (b"image,label\na.png,x,y\n", "E_ROW"),
        (b"image,label\na.png\n", "E_ROW"),
        (b'image,label\n"a.png,x\n', "E_ROW"),
        (b'image,label\n"a"b.png,x\n', "E_ROW"),
        (b"image,label\n,x\n", "E_ROW"),
        (b"image,split\na.png,Test\n", "E_SPLIT"),
        (b"image,spacing_mm\na.png,wide\n", "E_ROW"),
        (b"image,spacing_mm\na.png,-1\n", "E_ROW"),
        (b"image,spacing_mm\na.png,1x2x3\n", "E_ROW"),
        (b"image,spacing_mm\na.png,1x\n", "E_ROW"),
        (b"image,intensity_low,intensity_high\na.png,0,nan\n", "E_ROW"),
        (b"image,intensity_low,intensity_high\na.png,0,\n", "E_ROW"),
        (b"image,intensity_low,intensity_high\na.png,5,5\n", "E_ROW"),
        (b"image,id\na.png,1\nb.png,1\n", "E_DUPLICATE_ID"),
        (b"image,label\na.png,healthy\na.png,diseased\n", "E_DUPLICATE_ID"),
        (b"image\n../a.png\n", "E_TRAVERSAL"),
        (b"image,mask\na.png,/etc/passwd\n", "E_TRAVERSAL"),
        (b"image\nhttp://host/a.png\n", "E_TRAVERSAL"),
    ],
)
def test_a_table_with_a_fault_is_refused_with_its_path_and_a_code(tmp_path: Path, text: bytes, code: str) -> None:
    assert code_of(table(tmp_path, text)) == code


def test_a_missing_column_names_the_columns_found_and_a_bad_row_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'path', 'label'"):
        read_manifest(table(tmp_path, "path,label\na.png,x\n"))
    with pytest.raises(InputError, match="rename it to 'label'"):
        read_manifest(table(tmp_path, "image,lable\na.png,x\n"))
    with pytest.raises(InputError, match="line 3: split"):
        read_manifest(table(tmp_path, "image,split\na.png,test\nb.png,exam\n"))
    with pytest.raises(InputError, match=r"2 ids .*'x', 'y'"):
        read_manifest(table(tmp_path, "id,image\nx,1\ny,2\nx,3\ny,4\nz,5\n"))


@pytest.mark.timeout(10)
def test_a_file_outside_of_the_root_is_never_opened(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for a writer
    assert code_of(table(root, "image\n../pipe.png\n")) == "E_TRAVERSAL"
    (record,) = read_manifest(table(root, "image\n../pipe.png\n"), allow_outside=True)
    assert record.image == tmp_path.resolve() / "pipe.png"


@pytest.mark.timeout(10)
def test_a_manifest_that_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    assert code_of(tmp_path / "pipe.csv") == "E_NOT_REGULAR"
    assert code_of(tmp_path) == "E_NOT_REGULAR"
    assert code_of(tmp_path / "none.csv") == "E_MISSING"


def test_paths_start_from_the_root_when_one_is_given(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    path = table(tmp_path / "tables", "image\nimages/a.png\n")
    assert read_manifest(path, tmp_path)[0].image == tmp_path.resolve() / "images/a.png"


def random_record(root: Path, index: int, rng: np.random.Generator) -> Record:
    odd = [
        "plain",
        "00123",
        "NA",
        "a,b",
        "semi;colon",
        'quo"te',
        "new\nline",
        "car\rriage",
        "unicode é 肺",
        os.fsdecode(b"bad\xff"),
    ]
    image = root / f"{odd[rng.integers(len(odd))]}-{index}.png"
    has_mask, has_range = bool(rng.integers(2)), bool(rng.integers(2))
    return Record(
        id=f" {odd[rng.integers(len(odd))]} {index}",
        patient_id=odd[rng.integers(len(odd))],
        image=image,
        label=[None, "healthy", *odd][rng.integers(2 + len(odd))],
        mask=[root / "empty", root / "m" / "x.png"][rng.integers(2)] if has_mask else None,
        annotated_empty=not has_mask and bool(rng.integers(2)),
        split=[None, "train", "val", "test"][rng.integers(4)],
        spacing_mm=None if rng.integers(2) else (float(rng.uniform(0.01, 2)), float(rng.uniform(0.01, 2))),
        intensity_low=float(rng.normal()) if has_range else None,
        intensity_high=float(rng.normal() + 50) if has_range else None,
        boxes=[None, (), (Box(x_min=0.1, y_min=1 / 3, x_max=7.0, y_max=9.0, label="Pleural effusion"),) * 2][rng.integers(3)],
        observations=[(), (("Pleural Effusion", 1), ("No Finding", 0), ("a=b", -1))][rng.integers(2)],
        view=["", " lateral"][rng.integers(2)],
        source=odd[rng.integers(len(odd))],
    )


@pytest.mark.parametrize("seed", range(30))
def test_what_is_written_is_what_is_read(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    records = [random_record(tmp_path.resolve(), index, rng) for index in range(12)]
    write_manifest(records, tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv") == records


def test_paths_are_written_relative_with_forward_slashes(tmp_path: Path) -> None:
    write_manifest(cohort(tmp_path, train=2, val=0, test=0, written=False), tmp_path / "m.csv")
    header, *rows = (tmp_path / "m.csv").read_text().splitlines()
    assert header.split(",")[:3] == ["id", "patient_id", "image"]
    assert rows[2].split(",")[2:5] == ["images/train-1-0.png", "diseased", "masks/train-1-0.png"]


def test_a_manifest_that_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    record = Record(id="1", patient_id="1", image=tmp_path / "a.png")
    for records, code in (([], "E_EMPTY"), ([record, record], "E_DUPLICATE_ID")):
        with pytest.raises(InputError) as refused:
            write_manifest(records, tmp_path / "m.csv")
        assert refused.value.code == code
    with pytest.raises(InputError) as refused:
        write_manifest([record], tmp_path / "sub" / "m.csv")
    assert refused.value.code == "E_TRAVERSAL"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"patient_id": ""},
        {"patient_id": "p "},
        {"label": ""},
        {"label": " healthy"},
        {"split": "testing"},
        {"mask": Path("m.png"), "annotated_empty": True},
        {"spacing_mm": (0.0, 1.0)},
        {"intensity_low": 1.0},
        {"intensity_low": 2.0, "intensity_high": 1.0},
    ],
)
def test_a_record_that_cannot_be_is_refused_where_it_is_made(wrong: dict[str, object]) -> None:
    good = Record(id="1", patient_id="p", image=Path("a.png"))
    with pytest.raises(InputError):
        replace(good, **wrong)  # type: ignore[arg-type]


def test_the_fingerprint_ignores_order_and_place_and_sees_every_change(tmp_path: Path) -> None:
    here, there = cohort(tmp_path / "here", written=False), cohort(tmp_path / "there" / "deep", written=False)
    fingerprint = manifest_fingerprint(here)
    assert len(fingerprint) == 64
    assert manifest_fingerprint(here[::-1]) == fingerprint
    assert manifest_fingerprint(there) == fingerprint
    changes = [
        {"split": "val"},
        {"label": "x"},
        {"patient_id": "x"},
        {"id": "x"},
        {"annotated_empty": True},
        {"boxes": ()},
        {"observations": (("a", 1),)},
    ]
    changed = {manifest_fingerprint([replace(here[0], **change), *here[1:]]) for change in changes}  # type: ignore[arg-type]
    assert len(changed | {fingerprint}) == 1 + len(changes)


def test_a_data_folder_can_be_moved_with_its_manifest(tmp_path: Path) -> None:
    write_manifest(cohort(tmp_path / "a", train=2, val=0, test=0), tmp_path / "a" / "m.csv")
    before = manifest_fingerprint(read_manifest(tmp_path / "a" / "m.csv"))
    shutil.move(tmp_path / "a", tmp_path / "b")
    records = read_manifest(tmp_path / "b" / "m.csv")
    assert manifest_fingerprint(records) == before
    assert all(record.image.is_file() for record in records)


def test_a_row_that_repeats_another_counts_once_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "m.csv").write_text("image,patient_id,label\na.png,p,healthy\nb.png,q,diseased\na.png,p,healthy\n")
    assert [record.id for record in read_manifest(tmp_path / "m.csv")] == ["a.png", "b.png"]
    assert any("1 rows repeat another" in record.getMessage() for record in caplog.records)

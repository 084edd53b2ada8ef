from __future__ import annotations

import os
import shutil
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tree_aptos import build, draw_eye, write_png, write_table

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.public.aptos import aptos
from medanomaly.datasets.public.listing import Listing
from medanomaly.errors import ConfigError, InputError

THIRDS = (0.6, 0.2, 0.2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    build(tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def uploaded(tmp_path: Path) -> Path:
    """Kaggle's re-upload: three graded tables, folders within folders of the same name."""
    root = tmp_path / "again"
    rng = np.random.default_rng(2)
    for table, folder, count in (("train_1", "train", 8), ("valid", "val", 4), ("test", "test", 4)):
        photographs = root / f"{folder}_images/{folder}_images"
        photographs.mkdir(parents=True)
        rows = [(f"{folder}{number}", number % 5) for number in range(count)]
        for code, grade in rows:
            write_png(photographs / f"{code}.png", draw_eye(grade, rng))
        write_table(root / f"{table}.csv", ("id_code", "diagnosis"), rows)
    return root


def listed(root: Path, **options: Any) -> Listing:
    return aptos(root, root.parent / "out", **{"fractions": THIRDS, **options})


def code_of(root: Path, **options: Any) -> str:
    with pytest.raises((InputError, ConfigError)) as refused:
        listed(root, **options)
    return refused.value.code


def findings_of(listing: Listing) -> dict[str, tuple[str, ...]]:
    return {finding.code: finding.ids for finding in listing.findings}


def table(root: Path, *rows: tuple[str, object], header: tuple[str, ...] = ("id_code", "diagnosis")) -> None:
    write_table(root / "train.csv", header, rows)


def graded(root: Path) -> list[tuple[str, object]]:
    """The rows of the twelve photographs without quirks."""
    lines = (root / "train.csv").read_text().splitlines()[1:13]
    return [(line.split(",")[0], line.split(",")[1]) for line in lines]


def pixels(record: Record) -> np.ndarray:
    with Image.open(record.image) as image:
        return np.asarray(image)


def test_each_eye_is_a_row_and_the_quirks_are_all_reported(root: Path) -> None:
    listing = listed(root)
    assert findings_of(listing) == {
        "W_MISSING": ("train_images/eye15",),
        "W_NO_LABEL": ("test_images/blind0",),
        "W_DUPLICATE": ("train_images/eye12.png",),
        "W_LABEL_CONFLICT": ("train_images/eye13.png", "train_images/eye14.png"),
    }
    records = {record.id: record for record in listing.records}
    assert sorted(records) == [f"train_images/eye{number:02d}.png" for number in range(12)]
    record = records["train_images/eye07.png"]
    assert (record.patient_id, record.label, record.source) == ("eye07", "diseased", "APTOS 2019")
    assert {one.label for one in listing.records if int(one.patient_id[3:]) % 2 == 0} == {"healthy"}
    assert Counter((one.split, one.label) for one in listing.records) == {
        **{("train", "healthy"): 4, ("train", "diseased"): 4, ("val", "healthy"): 1, ("val", "diseased"): 1},
        **{("test", "healthy"): 1, ("test", "diseased"): 1},
    }


def test_photographs_are_cut_to_their_disc_and_black_outside(root: Path) -> None:
    for record in listed(root).records:
        picture = pixels(record)
        side = picture.shape[0]
        assert picture.shape == (side, side, 3)
        rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
        assert not picture[np.hypot(rows, columns) > side / 2].any()
        assert picture[side // 2, side // 2, 0] > 60
        is_cut = int(record.patient_id[3:]) % 3 == 0
        assert side == pytest.approx(2 * 48 * (0.56 if is_cut else 0.44), abs=2.5)


def test_side_and_colour_are_as_asked_and_do_not_disturb_each_other(root: Path) -> None:
    rgb = listed(root).records
    green = listed(root, side=32, colour="green").records
    assert {pixels(record).shape for record in green} == {(32, 32)}
    assert {pixels(record).ndim for record in rgb} == {3}
    assert {record.image.parent.name for record in (*rgb, *green)} == {"aptos-rgb-512", "aptos-green-32"}


def test_grades_between_0_and_the_lowest_diseased_one_are_left_out(root: Path) -> None:
    listing = listed(root, min_grade=2, fractions=(0.4, 0.3, 0.3))
    assert {record.patient_id for record in listing.records if record.label == "diseased"} == {"eye01", "eye05", "eye07", "eye09"}
    assert sum(record.label == "healthy" for record in listing.records) == 6


def test_a_conflict_counts_also_where_one_of_the_grades_is_left_out(root: Path) -> None:
    table(root, *graded(root), ("eye13", 1), ("eye14", 4))
    assert "train_images/eye14.png" in findings_of(listed(root, min_grade=2))["W_LABEL_CONFLICT"]


def test_grades_can_stay_as_named_classes(root: Path) -> None:
    listing = listed(root, grades=True)
    assert Counter(record.label for record in listing.records) == {
        **{"no_dr": 6, "mild": 2, "moderate": 2},
        **{"severe": 1, "proliferative": 1},
    }


def test_the_splits_of_the_graded_re_upload_are_kept(uploaded: Path) -> None:
    listing = listed(uploaded)
    assert listing.findings == ()
    assert Counter(record.split for record in listing.records) == {"train": 8, "val": 4, "test": 4}
    assert {record.split for record in listing.records if record.patient_id.startswith("val")} == {"val"}
    assert listing.records[0].id == "train_images/train_images/train0.png"


def test_without_its_val_table_val_comes_out_of_train(uploaded: Path) -> None:
    (uploaded / "valid.csv").unlink()
    listing = listed(uploaded, val_fraction=0.3)
    assert Counter(record.split for record in listing.records) == {"train": 5, "val": 3, "test": 4}


def test_an_eye_in_two_published_splits_stays_in_test(uploaded: Path) -> None:
    photographs = uploaded / "train_images/train_images"
    rng = np.random.default_rng(3)
    write_png(photographs / "test1.png", draw_eye(1, rng))
    shutil.copyfile(uploaded / "test_images/test_images/test2.png", photographs / "train7.png")
    write_table(uploaded / "train_1.csv", ("id_code", "diagnosis"), [("train0", 0), ("test1", 1), ("train7", 2), ("train1", 1)])
    assert findings_of(listed(uploaded)) == {
        "W_LEAKAGE": ("train_images/train_images/test1.png",),
        "W_DUPLICATE": ("train_images/train_images/train7.png",),
    }


def test_repeated_rows_count_once_and_contradicting_ones_not_at_all(root: Path) -> None:
    table(root, *graded(root), ("eye01", 2), ("eye03", 4), ("eye03", 1))
    listing = listed(root)
    assert findings_of(listing)["W_LABEL_CONFLICT"] == ("train_images/eye03.png",)
    assert [record.patient_id for record in listing.records].count("eye01") == 1
    assert "eye03" not in {record.patient_id for record in listing.records}


def test_the_same_pixels_in_another_encoding_are_duplicates_too(root: Path) -> None:
    with Image.open(root / "train_images/eye00.png") as image:
        image.save(root / "train_images/eye12.png", compress_level=1)
    assert findings_of(listed(root))["W_DUPLICATE"] == ("train_images/eye12.png",)


def test_all_missing_photographs_are_named_not_the_first(root: Path) -> None:
    for name in ("eye02", "eye05"):
        (root / f"train_images/{name}.png").unlink()
    listing = listed(root)
    assert findings_of(listing)["W_MISSING"] == ("train_images/eye02", "train_images/eye05", "train_images/eye15")


def test_photographs_that_cannot_be_read_are_left_out_and_named(root: Path) -> None:
    path = root / "train_images/eye04.png"
    path.write_bytes(path.read_bytes()[:-40])
    (root / "train_images/eye07.png").write_bytes(b"")
    listing = listed(root)
    assert findings_of(listing)["W_UNREADABLE"] == ("train_images/eye04.png", "train_images/eye07.png")
    assert len(listing.records) == 10


def test_a_photograph_without_surround_is_written_uncut_and_named(root: Path) -> None:
    write_png(root / "train_images/eye04.png", np.full((48, 60, 3), 99, np.uint8))
    listing = listed(root)
    assert findings_of(listing)["W_NO_DISC"] == ("train_images/eye04.png",)
    record = next(record for record in listing.records if record.patient_id == "eye04")
    assert pixels(record).shape == (48, 60, 3)


def test_a_second_run_cuts_nothing_and_gives_the_same_rows(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = listed(root)
    monkeypatch.setattr(import_module("medanomaly.datasets.public.aptos"), "read_image", None)
    assert listed(root).records == first.records
    assert len(listed(root, min_grade=2, fractions=(0.4, 0.3, 0.3)).records) == 10


def test_a_photograph_that_was_replaced_is_cut_again(root: Path) -> None:
    listed(root)
    write_png(root / "train_images/eye04.png", np.full((48, 60, 3), 99, np.uint8))
    assert "W_NO_DISC" in findings_of(listed(root))


@pytest.mark.parametrize("name", ["eye.jpeg", "eye.jpg"])
def test_jpeg_re_uploads_and_codes_with_a_suffix_are_accepted(root: Path, name: str) -> None:
    with Image.open(root / "train_images/eye06.png") as image:
        image.save(root / "train_images" / name, quality=95)
    table(root, *graded(root)[:6], ("eye", 0), ("eye07.png", 4))
    assert {"train_images/eye07.png", f"train_images/{name}"} <= {record.id for record in listed(root).records}


@pytest.mark.parametrize("code", ["../outside", "/etc/passwd", "C:\\x", "https://example.org/x", "eye00\0"])
def test_a_code_that_leaves_its_folder_is_refused_and_never_opened(root: Path, code: str) -> None:
    os.mkfifo(root / "outside.png")
    table(root, *graded(root), (code, 0))
    assert code_of(root) == ("E_ENCODING" if "\0" in code else "E_TRAVERSAL")


def test_a_link_out_of_the_folder_is_refused(root: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "elsewhere.png", draw_eye(0, np.random.default_rng(0)))
    (root / "train_images/eye15.png").symlink_to(tmp_path / "elsewhere.png")
    assert code_of(root) == "E_TRAVERSAL"


def test_two_codes_of_one_file_are_one_photograph(root: Path) -> None:
    table(root, *graded(root), ("eye00.png", 0), ("../../set/train_images/eye01", 2))
    listing = listed(root)
    assert listing.findings[0].code == "W_NO_LABEL"
    assert len(listing.records) == 12
    table(root, *graded(root), ("eye00.png", 3))
    assert findings_of(listed(root))["W_LABEL_CONFLICT"] == ("train_images/eye00.png",)


def test_codes_stay_text(root: Path) -> None:
    for code in ("00123", "123", "NA"):
        write_png(root / f"train_images/{code}.png", draw_eye(0, np.random.default_rng(len(code))))
    content = "\ufeffid_code;diagnosis\r\n00123;0\r\n123;1\r\nNA;2.0\r\n"
    (root / "train.csv").write_text(content, encoding="utf-8", newline="")
    records = listed(root, fractions=(1, 0, 0)).records
    assert {(record.patient_id, record.label) for record in records} == {
        ("00123", "healthy"),
        ("123", "diseased"),
        ("NA", "diseased"),
    }


def test_tables_that_say_something_else_are_refused(root: Path) -> None:
    for grade in (5, -1, "x", "1.5"):
        table(root, *graded(root), ("eye12", grade))
        assert code_of(root) == "E_LABEL"
    table(root, ("eye00", 0), header=("id_code", "grade"))
    with pytest.raises(InputError, match="'id_code', 'grade'") as refused:
        listed(root)
    assert refused.value.code == "E_COLUMN"
    table(root, ("eye00", 0), header=("image", "diagnosis"))
    assert code_of(root) == "E_COLUMN"


def test_anything_else_is_no_aptos(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train_images") as refused:
        listed(tmp_path / "nowhere")
    assert refused.value.code == "E_LAYOUT"
    shutil.rmtree(root / "train_images")
    assert code_of(root) == "E_LAYOUT"
    (root / "train_images").mkdir()
    assert code_of(root) == "E_EMPTY"


def test_where_nothing_is_left_all_reasons_are_given(root: Path) -> None:
    table(root, ("eye13", 2), ("eye14", 3))
    with pytest.raises(InputError, match="W_LABEL_CONFLICT") as refused:
        listed(root)
    assert refused.value.code == "E_EMPTY"
    table(root, ("eye04", 0), ("eye07", 0))
    for name in ("eye04", "eye07"):
        (root / f"train_images/{name}.png").write_bytes(name.encode())
    with pytest.raises(InputError, match="W_UNREADABLE") as refused:
        listed(root, fractions=(0.5, 0.5, 0))
    assert refused.value.code == "E_EMPTY"


@pytest.mark.parametrize("options", [{"side": 8}, {"side": 5000}, {"min_grade": 0}, {"min_grade": 5}, {"colour": "red"}])
def test_settings_that_cannot_be_are_refused(root: Path, options: dict[str, Any]) -> None:
    assert code_of(root, **options) == "E_CONFIG"

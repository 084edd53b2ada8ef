from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tree_nih import BOX_HEADER, BOXED, CLEAR, HEADER, RGBA, SIDE, TEST, TRAIN, boxes, build, film, name_of

from medanomaly.datasets.findings import Finding
from medanomaly.datasets.manifest import Record, read_manifest, write_manifest
from medanomaly.datasets.public.listing import Listing
from medanomaly.datasets.public.nih import nih
from medanomaly.errors import ConfigError, InputError
from medanomaly.io.reader import read_image

LABELS = "Data_Entry_2017.csv"
BOXES = "BBox_List_2017.csv"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nih")
    build(root)
    return root


@pytest.fixture(scope="module")
def full_size(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree with PNGs of the published side."""
    root = Path(shutil.copytree(tree, tmp_path_factory.mktemp("full") / "tree"))
    for path in root.rglob("*.png"):
        resize(path, (1024, 1024))
    return root


@pytest.fixture
def copy(tree: Path, tmp_path: Path) -> Path:
    """A tree to change."""
    return Path(shutil.copytree(tree, tmp_path / "tree"))


def read(root: Path, **options: object) -> Listing:
    return nih(root, root, **{"image_size": SIDE, **options})  # type: ignore[arg-type]


def resize(path: Path, size: tuple[int, int]) -> None:
    """Write a picture again with (columns, rows)."""
    with Image.open(path) as picture:
        resized = picture.resize(size, Image.Resampling.NEAREST)
    resized.save(path)


def rows(root: Path, **options: object) -> dict[str, Record]:
    return {record.id: record for record in read(root, **options).records}


def codes(listing: Listing) -> dict[str, Finding]:
    return {finding.code: finding for finding in listing.findings}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def in_px(record: Record) -> list[tuple[float, ...]] | None:
    return None if record.boxes is None else [(box.x_min, box.y_min, box.x_max, box.y_max) for box in record.boxes]


def test_no_finding_is_healthy_and_one_finding_diseased_in_the_official_test_split(tree: Path) -> None:
    found = rows(tree)
    named = {name_of(p, f): (p, labels, view) for p, f, labels, view in (*TRAIN, *TEST) if labels != "Cardiomegaly"}
    assert set(found) == set(named)
    tested = {name_of(p, f) for p, f, _, _ in TEST}
    for id_, record in found.items():
        patient, labels, view = named[id_]
        folder = "images_002" if patient >= 20 else "images_001"
        assert record.image == (tree / folder / "images" / id_).resolve()
        assert record.label == ("healthy" if labels == CLEAR else "diseased")
        assert (record.patient_id, record.view, record.source, record.mask) == (str(patient), view, "NIH ChestX-ray14", None)
        assert (record.split == "test") == (id_ in tested)
        assert {name for name, value in record.observations if value == 1} == set(labels.split("|")) - {CLEAR}
        assert len(record.observations) == 14
    assert codes(read(tree)) == {}


def test_patients_never_cross_splits_whatever_the_seed(tree: Path) -> None:
    for seed in range(10):
        splits: dict[str, set[str | None]] = {}
        for record in read(tree, seed=seed, val_fraction=0.3).records:
            splits.setdefault(record.patient_id, set()).add(record.split)
        assert all(len(names) == 1 for names in splits.values())
        assert {"train", "val", "test"} == set.union(*({str(n) for n in names} for names in splits.values()))


def test_only_boxed_images_have_boxes_and_nobody_looked_at_the_others(tree: Path, full_size: Path) -> None:
    found = rows(tree)
    for patient, follow_up in BOXED:
        scaled = [(x, y, x + w, y + h) for x, y, w, h in (np.array(box) * SIDE / 1024 for box in boxes(patient, follow_up))]
        assert in_px(found[name_of(patient, follow_up)]) == [pytest.approx(box) for box in sorted(scaled)]
    assert [id_ for id_, record in found.items() if record.boxes is not None] == [name_of(*one) for one in BOXED]
    published = rows(full_size, image_size=1024)[name_of(*BOXED[0])]
    x, y, w, h = boxes(*BOXED[0])[0]
    assert in_px(published)[0] == pytest.approx((x, y, x + w, y + h))  # type: ignore[index]


def test_a_box_lies_on_the_fluid_of_the_image_as_it_is_read(tree: Path) -> None:
    for patient, follow_up in BOXED:
        record = rows(tree)[name_of(patient, follow_up)]
        assert read_image(record.image).native_size == (SIDE, SIDE)
        inside = np.zeros((SIDE, SIDE), np.bool_)
        for box in record.boxes or ():
            inside[round(box.y_min) : round(box.y_max), round(box.x_min) : round(box.x_max)] = True
        mask = film(patient, follow_up).mask
        assert mask.any()
        assert inside[mask].all()


@pytest.mark.parametrize(
    ("size", "image_size", "message"),
    [
        ((SIDE, SIDE), 1024, r"48 rows x 48 columns.*E_BOX_SIZE.*give --image-size 48"),
        ((SIDE, SIDE), 47, r"E_BOX_SIZE.*give --image-size 48"),
        ((1024, 1024), SIDE, r"E_BOX_SIZE.*give --image-size 1024"),
        ((SIDE + 2, SIDE), SIDE, r"48 rows x 50 columns.*E_BOX_SIZE.*square PNGs"),
    ],
)
def test_pngs_of_another_side_than_told_are_refused(copy: Path, size: tuple[int, int], image_size: int, message: str) -> None:
    boxed = rows(copy)[name_of(*BOXED[0])].image
    resize(boxed, size)
    with pytest.raises(InputError, match=message) as caught:
        read(copy, image_size=image_size)
    assert str(boxed) in str(caught.value)


def test_without_boxes_the_side_is_checked_as_well_since_spacing_follows_it(copy: Path) -> None:
    (copy / BOXES).unlink()
    with pytest.raises(InputError, match=r"E_BOX_SIZE.*give --image-size 48"):
        read(copy, image_size=1024)


def test_one_header_is_read_and_a_broken_png_is_left_to_the_data_check(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda path, **options: opened.append(path.name) or real(path, **options))
    read(copy)
    assert opened == [name_of(*BOXED[0])]
    rows(copy)[name_of(*BOXED[0])].image.write_bytes(b"no picture")
    opened.clear()
    assert len(read(copy).records) == 15
    assert opened == [name_of(*one) for one in BOXED]


def test_a_film_with_four_equal_channels_is_read_as_gray(tree: Path) -> None:
    raw = read_image(rows(tree)[name_of(*RGBA)].image)
    np.testing.assert_array_equal(raw.pixels[0], film(*RGBA).pixels)


def test_spacing_is_that_of_the_stretched_png(tree: Path, full_size: Path) -> None:
    published = rows(full_size, image_size=1024)
    # 2048 rows of 0.168 mm and 2500 columns of 0.168 mm became 1024 each.
    assert published["00000001_000.png"].spacing_mm == pytest.approx((0.168 * 2, 0.168 * 2500 / 1024))
    assert published["00000001_001.png"].spacing_mm == pytest.approx((0.171 * 2500 / 1024, 0.171 * 2))
    assert rows(tree)["00000001_000.png"].spacing_mm == pytest.approx((0.168 * 2048 / SIDE, 0.168 * 2500 / SIDE))


def test_a_blank_spacing_is_unknown_and_a_wrong_one_refused(copy: Path) -> None:
    edit(copy / LABELS, "|Infiltration,0,3,43,M,AP,2048,2500,0.171,0.171,", "|Infiltration,0,3,43,M,AP,,,,,")
    assert rows(copy)["00000003_000.png"].spacing_mm is None
    edit(copy / LABELS, "|Infiltration,0,3,43,M,AP,,,,,", "|Infiltration,0,3,43,M,AP,2048,2500,0,0.171,")
    with pytest.raises(InputError, match=r"line 6: .*E_ROW"):
        read(copy)
    edit(copy / LABELS, "2048,2500,0,0.171,", "2048,2500,wide,0.171,")
    with pytest.raises(InputError, match=r"line 6: .*E_ROW"):
        read(copy)


def plain(text: str) -> str:
    return text


def without_end(text: str) -> str:
    return "\n".join(line.rstrip(",") for line in text.splitlines()) + "\n"


def header_without_end(text: str) -> str:
    head, rest = text.split("\n", 1)
    return head.rstrip(",") + "\n" + rest


def rows_without_end(text: str) -> str:
    head, rest = text.split("\n", 1)
    return head + "\n" + without_end(rest)


def quoted(text: str) -> str:
    head, rest = text.split("\n", 1)
    for name in ("OriginalImage[Width,Height]", "OriginalImagePixelSpacing[x,y]", "Bbox [x,y,w,h]"):
        head = head.replace(name, f'"{name}"')
    return head + "\n" + rest


def windows(text: str) -> str:
    return "\ufeff" + text.replace("\n", "\r\n")


@pytest.mark.parametrize("change", [plain, without_end, header_without_end, rows_without_end, quoted, windows])
def test_bracketed_names_and_commas_at_line_ends_are_understood(tree: Path, copy: Path, change: object) -> None:
    for name in (LABELS, BOXES):
        text = (tree / name).read_text()
        assert text.startswith((HEADER, BOX_HEADER))
        (copy / name).write_bytes(change(text).encode())  # type: ignore[operator]
    assert [(r.id, r.label, r.boxes, r.spacing_mm, r.split) for r in read(copy).records] == [
        (r.id, r.label, r.boxes, r.spacing_mm, r.split) for r in read(tree).records
    ]


def test_the_later_table_and_the_owners_other_names_are_understood(tree: Path, copy: Path) -> None:
    (copy / "train_val_list.txt").rename(copy / "train_val_list_NIH.txt")
    (copy / "test_list.txt").rename(copy / "test_list_NIH.txt")
    (copy / BOXES).rename(copy / "BBox_List_2017_Official_NIH.csv")
    assert len(read(copy).records) == len(read(tree).records)
    assert in_px(rows(copy)[name_of(*BOXED[0])])
    text = without_end((copy / LABELS).read_text()).replace("_000.png,No Finding,0,6,", "_000.png,Hernia,0,6,")
    (copy / "Data_Entry_2017_v2020.csv").write_text(text)
    assert "00000006_000.png" in rows(tree)
    assert "00000006_000.png" not in rows(copy)


@pytest.mark.parametrize("layout", ["images", "images_001", "images_012/images"])
def test_images_lie_in_one_folder_or_in_numbered_ones(tree: Path, copy: Path, layout: str) -> None:
    pictures = sorted(copy.rglob("*.png"))
    (copy / "pile").mkdir()
    for path in pictures:
        path.rename(copy / "pile" / path.name)
    for name in ("images_001", "images_002"):
        (copy / name / "images").rmdir()
        (copy / name).rmdir()
    (copy / layout).parent.mkdir(exist_ok=True)
    (copy / "pile").rename(copy / layout)
    found = rows(copy)
    assert set(found) == set(rows(tree))
    assert {record.image.parent for record in found.values()} == {(copy / layout).resolve()}


def test_an_image_in_two_folders_is_taken_from_the_first_and_reported(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "00000001_000.png"
    os.link(copy / "images_001" / "images" / name, copy / "images_002" / "images" / name)
    real = os.listdir
    for is_backwards in (False, True):
        monkeypatch.setattr(os, "listdir", lambda path, turned=is_backwards: sorted(real(path), reverse=turned))
        listing = read(copy)
        assert codes(listing)["W_DUPLICATE"].ids == (name,)
        assert {record.id: record.image.parts[-3] for record in listing.records}[name] == "images_001"


def test_a_patient_with_a_box_is_in_test_with_all_images(copy: Path) -> None:
    with (copy / BOXES).open("a") as stream:
        stream.write(f"{name_of(1, 1)},Effusion,100,200,300,400,,,\n")
    listing = read(copy)
    found = {record.id: record for record in listing.records}
    assert {found[name_of(1, n)].split for n in (0, 1)} == {"test"}
    assert in_px(found[name_of(1, 1)])
    assert found[name_of(1, 0)].boxes is None
    assert codes(listing)["W_MOVED"].ids == ("1",)
    # A box of another finding moves nobody.
    edit(copy / BOXES, f"{name_of(1, 1)},Effusion", f"{name_of(1, 1)},Atelectasis")
    assert rows(copy)[name_of(1, 1)].split != "test"


def test_infiltrate_of_the_boxes_is_infiltration_of_the_labels(copy: Path) -> None:
    edit(copy / LABELS, "Effusion|Mass", "Effusion|Infiltration")
    found = rows(copy, finding="Infiltration", val_fraction=0)
    scaled = tuple(edge * SIDE / 1024 for edge in (100.5, 200.25, 400.5, 350.25))
    assert in_px(found[name_of(21, 1)]) == [pytest.approx(scaled)]
    assert {box.label for box in found[name_of(21, 1)].boxes or ()} == {"Infiltration"}


def test_contradictions_are_reported_and_left_out(copy: Path) -> None:
    edit(copy / LABELS, "00000004_000.png,No Finding", "00000004_000.png,Effusion|No Finding")
    listing = read(copy)
    assert codes(listing)["W_CONFLICT"].ids == ("00000004_000.png",)
    assert "00000004_000.png" not in {record.id for record in listing.records}


def test_a_box_without_its_label_is_reported_and_the_image_left_out(copy: Path) -> None:
    with (copy / BOXES).open("a") as stream:
        stream.write(f"{name_of(22, 0)},Effusion,100,200,300,400,,,\nnowhere.png,Effusion,1,2,3,4,,,\n")
    listing = read(copy)
    assert codes(listing)["W_CONFLICT"].ids == (name_of(22, 0),)
    assert codes(listing)["W_BOX"].ids == ("nowhere.png",)
    assert name_of(22, 0) not in {record.id for record in listing.records}


def test_without_the_table_of_boxes_there_are_none_and_it_is_said(copy: Path) -> None:
    (copy / BOXES).unlink()
    listing = read(copy)
    assert {record.boxes for record in listing.records} == {None}
    assert set(codes(listing)) == {"W_NO_BOXES"}


def test_an_image_in_neither_list_is_reported_and_left_out(copy: Path) -> None:
    edit(copy / "test_list.txt", name_of(24, 0), "")
    listing = read(copy)
    assert codes(listing)["W_NO_SPLIT"].ids == (name_of(24, 0),)
    assert name_of(24, 0) not in {record.id for record in listing.records}


def test_a_patient_in_both_lists_is_refused(copy: Path) -> None:
    edit(copy / "train_val_list.txt", name_of(1, 1), name_of(24, 0))
    edit(copy / "test_list.txt", name_of(24, 0), name_of(1, 1))
    with pytest.raises(InputError, match=r"1 patients are in both lists: 1 \[E_LEAKAGE\]"):
        read(copy)


def test_an_image_in_both_lists_is_refused(copy: Path) -> None:
    with (copy / "test_list.txt").open("a") as stream:
        stream.write(f"\n{name_of(2, 0)}")
    with pytest.raises(InputError, match=r"both lists: 2 \[E_LEAKAGE\]"):
        read(copy)


def test_rows_that_are_there_twice_count_once_or_are_refused(copy: Path) -> None:
    row = next(line for line in (copy / LABELS).read_text().splitlines() if line.startswith(name_of(2, 0)))
    with (copy / LABELS).open("a") as stream:
        stream.write(row + "\n")
    listing = read(copy)
    assert codes(listing)["W_DUPLICATE"].ids == (name_of(2, 0),)
    assert len(listing.records) == 15
    with (copy / LABELS).open("a") as stream:
        stream.write(row.replace(CLEAR, "Effusion") + "\n")
    with pytest.raises(InputError, match=rf"{name_of(2, 0)} \[E_LABEL_CONFLICT\]"):
        read(copy)


def test_a_box_that_is_there_twice_counts_once(copy: Path) -> None:
    lines = (copy / BOXES).read_text().splitlines()
    (copy / BOXES).write_text("\n".join([*lines, lines[1]]) + "\n")
    assert {record.id: record.boxes for record in read(copy).records} == {r.id: r.boxes for r in read(copy).records}
    assert len(rows(copy)[lines[1].split(",")[0]].boxes or ()) == len(boxes(*BOXED[0]))


def test_missing_images_are_all_named_and_the_rest_is_used(copy: Path) -> None:
    gone = [name_of(1, 0), name_of(4, 0), name_of(21, 0)]
    for name in gone:
        next(copy.rglob(name)).unlink()
    listing = read(copy)
    assert codes(listing)["W_MISSING"].ids == tuple(gone)
    assert len(listing.records) == 12
    for path in copy.rglob("*.png"):
        path.unlink()
    with pytest.raises(InputError, match="E_LAYOUT"):
        read(copy)
    (copy / "images_001" / "images" / "other.png").touch()
    with pytest.raises(InputError, match=r"15 files are missing.*E_EMPTY"):
        read(copy)


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/passwd", "https://example.org/x.png", "C:\\x.png"])
def test_an_image_index_never_leaves_the_data_set(copy: Path, name: str) -> None:
    (copy.parent.parent / "secret.png").touch()
    for table in (LABELS, "train_val_list.txt"):
        edit(copy / table, name_of(2, 0), name)
    with pytest.raises(InputError, match=r"Data_Entry_2017.csv: .*E_TRAVERSAL"):
        read(copy)


def test_a_link_out_of_the_data_set_is_refused(copy: Path) -> None:
    image = copy / "images_001" / "images" / name_of(2, 0)
    image.rename(copy.parent / "elsewhere.png")
    image.symlink_to(copy.parent / "elsewhere.png")
    with pytest.raises(InputError, match="E_TRAVERSAL"):
        read(copy)


def test_views_choose_the_projection(tree: Path) -> None:
    assert {record.view for record in read(tree, views=("PA",), val_fraction=0).records} == {"PA"}
    assert len(read(tree, views=("PA",), val_fraction=0).records) == 8
    assert {record.view for record in read(tree).records} == {"PA", "AP"}


def test_one_image_a_patient_thins_training_and_keeps_test(tree: Path) -> None:
    found = read(tree, one_image_a_patient=True).records
    assert Counter(record.patient_id for record in found if record.split != "test") == dict.fromkeys("12345678", 1)
    assert sum(record.split == "test" for record in found) == 5
    chosen = {seed: {r.id for r in read(tree, one_image_a_patient=True, seed=seed).records} for seed in range(8)}
    assert len(set(map(frozenset, chosen.values()))) > 1


def test_a_sample_keeps_so_many_of_each_class_and_all_with_boxes(tree: Path) -> None:
    found = read(tree, sample=2, val_fraction=0).records
    unboxed = Counter((record.split, record.label) for record in found if not record.boxes)
    assert unboxed == {("train", "healthy"): 2, ("train", "diseased"): 2, ("test", "healthy"): 2, ("test", "diseased"): 1}
    assert sum(bool(record.boxes) for record in found) == 2
    with pytest.raises(ConfigError, match="E_CONFIG"):
        read(tree, sample=-1)


def test_other_findings_are_kept_without_a_label_where_asked(tree: Path) -> None:
    assert name_of(10, 0) not in rows(tree)
    kept = rows(tree, keep_unlabelled=True)[name_of(10, 0)]
    assert (kept.label, kept.boxes, dict(kept.observations)["Cardiomegaly"]) == (None, None, 1)


@pytest.mark.parametrize(
    "options",
    [{"finding": "effusion"}, {"finding": CLEAR}, {"views": ()}, {"views": ("LL",)}, {"image_size": 0}, {"val_fraction": 1.0}],
)
def test_an_option_that_cannot_be_is_refused(tree: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="E_CONFIG"):
        read(tree, **options)


@pytest.mark.parametrize("name", [LABELS, "test_list.txt", "train_val_list.txt"])
def test_without_a_table_or_a_list_the_expected_tree_is_told(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(InputError, match=r"found: .*E_LAYOUT.*expected Data_Entry_2017"):
        read(copy)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E_MISSING"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        (LABELS, "Finding Labels", "Findings", "E_COLUMN"),
        (LABELS, "Patient ID,", "Somebody,", "'Patient ID'.*E_COLUMN"),
        (LABELS, "00000002_000.png,No Finding", ",No Finding", "line 4.*E_ROW"),
        (LABELS, "00000002_000.png,No Finding", "00000002_000.png,Nothing", "line 4.*E_ROW"),
        (LABELS, "00000002_000.png,No Finding", "00000002_000.png,", "line 4.*E_ROW"),
        (LABELS, "0.171,0.171,\n", "0.171,0.171,1,2\n", "line 3.*E_ROW"),
        (LABELS, "Effusion,0,1,41", "Effusion,0,,41", "line 2.*E_ROW"),
        (LABELS, "00000001_000.png,", '"00000001_000.png,', "E_ROW"),
        (BOXES, "Bbox [x,y,w,h]", "Bbox [x,y,w]", "E_COLUMN"),
        (BOXES, "Effusion,", "Effusion,wide,2,3,4\nx.png,Effusion,", "line 2.*E_BOX"),
        (BOXES, "Effusion,", "Effusion,1,2,0,4,,,\nx.png,Effusion,", "line 2.*E_BOX"),
    ],
)
def test_a_table_that_is_not_the_published_one_is_refused(copy: Path, table: str, old: str, new: str, message: str) -> None:
    edit(copy / table, old, new)
    with pytest.raises(InputError, match=message) as caught:
        read(copy)
    assert table in str(caught.value)


@pytest.mark.parametrize(("name", "content"), [(LABELS, b""), (LABELS, b"a\0b"), ("test_list.txt", b""), (BOXES, b"")])
def test_an_empty_or_binary_file_is_refused(copy: Path, name: str, content: bytes) -> None:
    (copy / name).write_bytes(content)
    with pytest.raises(InputError, match=r"E_EMPTY|E_ENCODING"):
        read(copy)


def test_the_rows_do_not_depend_on_the_order_of_files_or_rows(tree: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(root: Path, **options: object) -> list[object]:
        found = read(root, sample=2, one_image_a_patient=True, **options).records
        return [(r.id, r.split, r.label, r.boxes, r.image.name) for r in found]

    first = told(tree)
    real_listing, real_scan = os.listdir, os.scandir

    class Backwards:
        def __init__(self, path: object) -> None:
            self.entries = sorted(real_scan(path), key=lambda entry: entry.name, reverse=True)  # type: ignore[call-overload]

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *_: object) -> None:
            return None

    head, *body = (copy / LABELS).read_text().splitlines()
    (copy / LABELS).write_text("\n".join([head, *reversed(body)]) + "\n")
    monkeypatch.setattr(os, "listdir", lambda path: sorted(real_listing(path), reverse=True))
    monkeypatch.setattr(os, "scandir", Backwards)
    assert told(copy) == first
    assert any(told(copy, seed=seed) != first for seed in (1, 2, 3))


def test_the_manifest_keeps_the_rows(tree: Path, tmp_path: Path) -> None:
    records = read(tree, keep_unlabelled=True).records
    write_manifest(records, tmp_path / "manifest.csv", allow_outside=True)
    assert read_manifest(tmp_path / "manifest.csv", allow_outside=True) == records

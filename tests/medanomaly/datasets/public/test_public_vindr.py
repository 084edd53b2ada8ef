from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from tree_vindr import CLEAR, COLUMNS, FLUID, HEART, MONOCHROME1, SIDE, TEST, TRAIN, build, edges, film, image_id

from medanomaly.cli.preprocess import preprocess
from medanomaly.datasets.findings import Finding
from medanomaly.datasets.manifest import Record, read_manifest, write_manifest
from medanomaly.datasets.public.listing import Listing
from medanomaly.datasets.public.vindr import vindr
from medanomaly.errors import ConfigError, InputError
from medanomaly.io.reader import read_image
from medanomaly.io.writers import write_png
from medanomaly.types import Box

LONG_HEADER = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vindr")
    build(root)
    return root


def copied(tree: Path, out: Path) -> Path:
    """A tree to change; the images are links."""
    for path in sorted(tree.rglob("*")):
        target = out / path.relative_to(tree)
        if path.is_dir():
            target.mkdir(parents=True)
        elif path.suffix == ".csv":
            target.write_bytes(path.read_bytes())
        else:
            os.link(path, target)
    return out


def write_part(root: Path, part: str, rows: list[str], header: str = LONG_HEADER) -> Path:
    """A part by its table of boxes alone, its images empty files: none is opened."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / part).mkdir(exist_ok=True)
    table = root / "annotations" / f"annotations_{part}.csv"
    table.write_text("\n".join([header, *rows]) + "\n")
    for row in rows:
        name = row.split(",")[0].strip()
        if name and "/" not in name and "\\" not in name:
            (root / part / f"{name}.dicom").touch()
    return root


def said(image: str, *opinions: str) -> list[str]:
    """Rows of readers R1, R2, ... who say "No finding" or have a box of the finding."""
    return [f"{image},R{n},{name},{',,,' if name == CLEAR else '1,2,11,22'}" for n, name in enumerate(opinions, start=1)]


def read(root: Path, **options: object) -> Listing:
    return vindr(root, root, **options)  # type: ignore[arg-type]


def rows(root: Path, **options: object) -> dict[str, Record]:
    return {record.id: record for record in read(root, **options).records}


def codes(listing: Listing) -> dict[str, Finding]:
    return {finding.code: finding for finding in listing.findings}


def in_px(record: Record) -> list[tuple[float, ...]] | None:
    return None if record.boxes is None else [(box.x_min, box.y_min, box.x_max, box.y_max) for box in record.boxes]


def test_the_rows_are_those_the_readers_agree_on(tree: Path) -> None:
    found = rows(tree)
    expected = {image_id(n): "diseased" if n % 2 else "healthy" for n in (*range(8), 20, 21, 22, 23)}
    assert {id_: record.label for id_, record in found.items()} == expected
    for id_, record in found.items():
        part = "test" if id_ in map(image_id, TEST) else "train"
        assert record.image == (tree / part / f"{id_}.dicom").resolve()
        assert (record.patient_id, record.view, record.source, record.mask) == (id_, "PA", "VinDr-CXR", None)
        assert (record.split == "test") == (part == "test")
    assert Counter(record.split for record in found.values()) == {"train": 6, "val": 2, "test": 4}


def test_boxes_are_those_of_the_readers_who_agree_averaged(tree: Path) -> None:
    found = rows(tree)
    readers = {1: (0, 1, 2), 3: (0, 1), 5: (0, 1, 2), 7: (0, 1)}
    for number, agreeing in readers.items():
        expected = sorted(np.mean([edges(number, reader) for reader in agreeing], axis=0).tolist())
        assert in_px(found[image_id(number)]) == [pytest.approx(tuple(box)) for box in expected], number
    for number in (21, 23):
        assert in_px(found[image_id(number)]) == sorted(edges(number))
    for number in (0, 2, 20):
        assert found[image_id(number)].boxes == ()
    assert {box.label for box in found[image_id(1)].boxes or ()} == {FLUID}


def test_a_box_lies_on_the_fluid_of_the_image_as_it_is_read(tree: Path) -> None:
    for number in (MONOCHROME1, 21):
        record = rows(tree)[image_id(number)]
        raw = read_image(record.image)
        assert raw.native_size == (SIDE, COLUMNS)
        left = (SIDE - COLUMNS) // 2
        phantom = film(number)
        np.testing.assert_allclose(raw.pixels[0], phantom.pixels[:, left : left + COLUMNS] * 16.0)
        inside = np.zeros((SIDE, COLUMNS), np.bool_)
        for box in record.boxes or ():
            inside[int(box.y_min) : int(np.ceil(box.y_max)), int(box.x_min) : int(np.ceil(box.x_max))] = True
        mask = phantom.mask[:, left : left + COLUMNS]
        assert mask[inside].sum() >= 0.9 * mask.sum() > 0


def test_disagreement_is_reported_and_left_out_or_kept_without_a_label(tree: Path) -> None:
    assert codes(read(tree))["W_DISPUTED"].ids == (image_id(9),)
    assert set(codes(read(tree))) == {"W_DISPUTED"}
    kept = rows(tree, keep_unlabelled=True)
    assert set(kept) == {image_id(number) for number in (*TRAIN, *TEST)}
    for number in (9, 10, 24):
        assert (kept[image_id(number)].label, kept[image_id(number)].boxes) == (None, None)
    assert kept[image_id(24)].split == "test"


@pytest.mark.parametrize(
    ("opinions", "labels"),
    [
        ((CLEAR, CLEAR, CLEAR), ("healthy", "healthy", "healthy")),
        ((CLEAR, CLEAR, HEART), ("healthy", "healthy", None)),
        ((CLEAR, HEART, HEART), ("healthy", None, None)),
        ((FLUID, CLEAR, CLEAR), ("diseased", None, None)),
        ((FLUID, FLUID, CLEAR), ("diseased", "diseased", None)),
        ((FLUID, FLUID, FLUID), ("diseased", "diseased", "diseased")),
        ((HEART, HEART, HEART), (None, None, None)),
    ],
)
def test_the_label_follows_how_many_readers_agree(
    tmp_path: Path, opinions: tuple[str, ...], labels: tuple[str | None, ...]
) -> None:
    table = [*said("one", *opinions), *said("sick", FLUID, FLUID, FLUID), *said("well", CLEAR, CLEAR, CLEAR)]
    root = write_part(tmp_path, "train", table)
    found = [rows(root, min_readers=k, keep_unlabelled=True, test_fraction=0, val_fraction=0)["one"].label for k in (1, 2, 3)]
    assert tuple(found) == labels


def test_a_test_image_needs_no_second_reader(tree: Path) -> None:
    assert rows(tree, min_readers=3)[image_id(21)].label == "diseased"


def test_observations_say_present_absent_or_uncertain_of_every_finding(tree: Path) -> None:
    found = {number: dict(rows(tree, keep_unlabelled=True)[image_id(number)].observations) for number in (3, 5, 10, 23)}
    assert (found[3][FLUID], found[3][HEART], found[3]["Pneumonia"]) == (1, -1, 0)
    assert found[5]["Pneumonia"] == 1
    assert found[10][HEART] == 1
    assert found[23]["Other diseases"] == 1
    assert CLEAR not in found[3]
    assert len(found[3]) == 27


def test_another_finding_has_its_own_boxes_and_a_diagnosis_none(tree: Path) -> None:
    hearts = rows(tree, finding="cardiomegaly")
    assert in_px(hearts[image_id(10)]) == [(15, 18, 29, 34)]
    assert [id_ for id_, record in hearts.items() if record.label == "diseased"] == sorted(map(image_id, (10, 23, 24)))
    listing = read(tree, finding="Pneumonia", val_fraction=0)
    found = {record.id: record for record in listing.records}
    assert (found[image_id(5)].label, found[image_id(5)].boxes) == ("diseased", None)
    assert codes(listing)["W_NO_BOX"].ids == (image_id(5),)


@pytest.mark.parametrize("spelling", ["Other disease", "other diseases"])
def test_the_two_spellings_of_other_diseases_are_one_finding(tree: Path, spelling: str) -> None:
    found = rows(tree, finding=spelling, val_fraction=0)
    assert found[image_id(23)].label == "diseased"


def test_a_reader_who_says_both_is_reported_and_the_image_left_out(tmp_path: Path) -> None:
    table = [
        *said("both", FLUID, FLUID, FLUID),
        "both,R1,No finding,,,,",
        *said("sick", FLUID, FLUID),
        *said("well", CLEAR, CLEAR),
    ]
    listing = read(write_part(tmp_path, "train", table), test_fraction=0, val_fraction=0)
    assert [record.id for record in listing.records] == ["sick", "well"]
    assert codes(listing)["W_CONFLICT"].ids == ("both",)


def test_a_row_that_is_there_twice_counts_once_and_is_reported(tmp_path: Path) -> None:
    table = [*said("one", FLUID, FLUID), *said("one", FLUID)[:1], *said("well", CLEAR, CLEAR)]
    listing = read(write_part(tmp_path, "train", table), test_fraction=0, val_fraction=0)
    assert codes(listing)["W_DUPLICATE"].ids == ("one",)
    assert in_px(listing.records[0]) == [(1, 2, 11, 22)]


def test_two_different_rows_of_one_reader_are_refused(tree: Path, tmp_path: Path) -> None:
    root = copied(tree, tmp_path / "tree")
    table = root / "annotations" / "image_labels_train.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[1]]) + "\n")
    assert codes(read(root))["W_DUPLICATE"].ids == (image_id(0),)
    changed = ",".join([*lines[1].split(",")[:2], *["0"] * 27, "0"])
    table.write_text("\n".join([*lines, changed]) + "\n")
    with pytest.raises(InputError, match=r"E_LABEL_CONFLICT") as caught:
        read(root)
    assert image_id(0) in str(caught.value)


@pytest.mark.parametrize("edges_", ["5,5,5,9", "5,5,9,2", ",,,", "1,2,,4"])
def test_a_rectangle_without_area_is_left_out_and_reported(tmp_path: Path, edges_: str) -> None:
    table = [f"one,R1,{FLUID},{edges_}", *said("one", CLEAR, FLUID)[1:], *said("well", CLEAR, CLEAR), *said("none", HEART)]
    table += [f"bare,R{n},{FLUID},{edges_}" for n in (1, 2)]
    listing = read(write_part(tmp_path, "train", table), test_fraction=0, val_fraction=0)
    found = {record.id: record for record in listing.records}
    assert codes(listing)["W_BOX"].ids == ("bare", "one")
    assert in_px(found["one"]) == [(1, 2, 11, 22)]
    # All that was drawn is unusable: that is not "looked and found none".
    assert (found["bare"].label, found["bare"].boxes) == ("diseased", None)


def test_missing_images_are_all_named_and_the_rest_is_used(tree: Path, tmp_path: Path) -> None:
    root = copied(tree, tmp_path / "tree")
    gone = [image_id(number) for number in (1, 4, 21)]
    for id_ in gone:
        next(root.glob(f"*/{id_}.dicom")).unlink()
    listing = read(root)
    assert sorted(codes(listing)["W_MISSING"].ids) == sorted(gone)
    assert len(listing.records) == 9
    for path in root.glob("*/*.dicom"):
        path.unlink()
    with pytest.raises(InputError, match="E_EMPTY"):
        read(root)


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "https://example.org/x", "C:\\x"])
def test_an_image_id_never_leaves_the_data_set(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.dicom").touch()
    root = write_part(tmp_path / "set", "train", [*said(name, FLUID, FLUID), *said("well", CLEAR, CLEAR)])
    with pytest.raises(InputError, match="E_TRAVERSAL"):
        read(root)


def test_a_link_out_of_the_data_set_is_refused_and_one_within_it_is_followed(tmp_path: Path) -> None:
    root = write_part(tmp_path / "set", "train", [*said("sick", FLUID, FLUID), *said("well", CLEAR, CLEAR)])
    image = root / "train" / "sick.dicom"
    (root / "annex").mkdir()
    image.rename(root / "annex" / "object.dicom")
    image.symlink_to(root / "annex" / "object.dicom")
    assert rows(root, test_fraction=0, val_fraction=0)["sick"].image == (root / "annex" / "object.dicom").resolve()
    (tmp_path / "secret.dicom").touch()
    image.unlink()
    image.symlink_to(tmp_path / "secret.dicom")
    with pytest.raises(InputError, match="E_TRAVERSAL"):
        read(root)
    # A part on another disk is linked as a whole.
    image.unlink()
    image.touch()
    (root / "train").rename(tmp_path / "disk")
    (root / "train").symlink_to(tmp_path / "disk")
    assert rows(root, test_fraction=0, val_fraction=0)["sick"].image == (tmp_path / "disk" / "sick.dicom").resolve()


def test_kaggle_has_one_table_and_pictures_and_gets_a_test_split(tmp_path: Path) -> None:
    header = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
    table = []
    for number in range(20):
        name, cells = (CLEAR, ",,,") if number % 2 else (FLUID, "10,20,110,220")
        table += [f"i{number:02d},{name},{14 if number % 2 else 10},R{reader},{cells}" for reader in (8, 9, 10)]
    for folder in ("train", "test"):
        (tmp_path / folder).mkdir()
    for number in range(20):
        (tmp_path / "train" / f"i{number:02d}.png").touch()
    (tmp_path / "test" / "unknown.png").touch()
    (tmp_path / "train.csv").write_text("\n".join([header, *table]) + "\n")
    listing = read(tmp_path)
    assert Counter((record.split, record.label) for record in listing.records) == {
        (split, label): count for split, count in (("train", 7), ("val", 1), ("test", 2)) for label in ("healthy", "diseased")
    }
    assert len(codes(listing)["W_BOX_FRAME"].ids) == 10
    assert "--resized-fit stretch" in codes(listing)["W_BOX_FRAME"].fix
    assert {record.split for record in read(tmp_path, test_fraction=0).records} == {"train", "val"}

    # Pictures made square: boxes follow the first size, rows and columns each by its own factor.
    with pytest.raises(InputError, match="E_MISSING"):
        read(tmp_path, resized_to=512, resized_fit="stretch")
    sizes = "\n".join(f"i{number:02d},2048,1024" for number in range(1, 20))
    (tmp_path / "train_meta.csv").write_text(f"image_id,dim0,dim1\n{sizes}\n")
    listing = read(tmp_path, resized_to=512, resized_fit="stretch")
    found = {record.id: record for record in listing.records}
    assert in_px(found["i02"]) == [(5, 5, 55, 55)]
    assert found["i00"].boxes is None
    assert codes(listing)["W_BOX_FRAME"].ids == ("i00",)
    # Padded: both by the factor of the longer side, and black columns to the left.
    found = {record.id: record for record in read(tmp_path, resized_to=512, resized_fit="pad").records}
    assert in_px(found["i02"]) == [(128 + 2.5, 5, 128 + 27.5, 55)]
    # A size that the box does not fit into: no box is left, which is not "looked and found none".
    (tmp_path / "train_meta.csv").write_text(f"image_id,dim0,dim1\ni00,8,8\n{sizes}\n")
    listing = read(tmp_path, resized_to=512, resized_fit="stretch")
    assert {record.id: record for record in listing.records}["i00"].boxes is None
    assert codes(listing)["W_BOX_FRAME"].ids == ("i00",)
    for size in ("0,1024", "1024,", "1024,100.5"):
        (tmp_path / "train_meta.csv").write_text(f"image_id,dim0,dim1\ni00,{size}\n")
        with pytest.raises(InputError, match="line 2: dim0 and dim1"):
            read(tmp_path, resized_to=512, resized_fit="stretch")


@pytest.mark.parametrize(("fit", "expected"), [("pad", (8, 8, 16, 16)), ("stretch", (6.4, 8, 16, 16))])
def test_boxes_follow_resized_pictures_as_those_of_a_preprocessed_manifest_do(
    tmp_path: Path, fit: Literal["pad", "stretch"], expected: tuple[float, ...]
) -> None:
    root = tmp_path / "native"
    (root / "train").mkdir(parents=True)
    table = []
    for name, finding, cells in (("sick", FLUID, "10,15,25,30"), ("well", CLEAR, ",,,")):
        write_png(root / "train" / f"{name}.png", np.zeros((60, 50), np.uint8))
        table += [f"{name},R{reader},{finding},{cells}" for reader in (1, 2, 3)]
    (root / "train.csv").write_text("\n".join([LONG_HEADER, *table]) + "\n")
    (root / "train_meta.csv").write_text("image_id,dim0,dim1\nsick,60,50\nwell,60,50\n")

    # The manifest first and its pictures afterwards, or the pictures first and the manifest of them.
    write_manifest(read(root, test_fraction=0, val_fraction=0).records, root / "manifest.csv")
    preprocess(root / "manifest.csv", tmp_path / "of_manifest", size=32, fit=fit, workers=1, quiet=True)
    preprocess(root, tmp_path / "of_tree", size=32, fit=fit, workers=1, quiet=True)
    of_manifest = {record.id: record for record in read_manifest(tmp_path / "of_manifest" / "manifest.csv")}
    of_tree = rows(tmp_path / "of_tree", resized_to=32, resized_fit=fit, test_fraction=0, val_fraction=0)
    assert in_px(of_tree["sick"]) == in_px(of_manifest["sick"]) == [pytest.approx(expected)]
    assert of_tree["well"].boxes == of_manifest["well"].boxes == ()


def test_how_pictures_were_made_square_is_asked_for(tree: Path) -> None:
    with pytest.raises(ConfigError, match=r"E_CONFIG.*stretch: rows and columns were scaled apart; pad: scaled together"):
        read(tree, resized_to=512)


def test_the_image_as_published_wins_over_its_conversion(tree: Path, tmp_path: Path) -> None:
    root = copied(tree, tmp_path / "tree")
    (root / "train" / f"{image_id(0)}.png").touch()
    (root / "train" / f"{image_id(1)}.dicom").rename(root / "train" / f"{image_id(1)}.PNG")
    found = rows(root)
    assert found[image_id(0)].image.suffix == ".dicom"
    assert found[image_id(1)].image.suffix == ".PNG"


@pytest.mark.parametrize("absent", ["image_labels", "annotations"])
def test_one_of_the_two_tables_of_a_part_is_enough(tree: Path, tmp_path: Path, absent: str) -> None:
    root = copied(tree, tmp_path / "tree")
    for part in ("train", "test"):
        (root / "annotations" / f"{absent}_{part}.csv").unlink()
    found, whole = rows(root), rows(tree)
    assert {id_: record.label for id_, record in found.items()} == {id_: record.label for id_, record in whole.items()}
    if absent == "annotations":
        assert all(not record.boxes for record in found.values())
    else:
        assert {id_: record.boxes for id_, record in found.items()} == {id_: record.boxes for id_, record in whole.items()}


def test_a_part_that_was_not_downloaded_is_left_out(tree: Path, tmp_path: Path) -> None:
    root = copied(tree, tmp_path / "tree")
    (root / "train").rename(root / "elsewhere")
    assert {record.split for record in read(root).records} == {"test"}


def test_the_folder_above_the_release_is_understood(tree: Path, tmp_path: Path) -> None:
    copied(tree, tmp_path / "vindr-cxr" / "1.0.0")
    assert len(rows(tmp_path / "vindr-cxr")) == 12


def test_without_labels_every_image_is_there_once_and_test_stays_test(tree: Path) -> None:
    listing = read(tree, unlabelled=True)
    assert {record.id for record in listing.records} == {image_id(number) for number in (*TRAIN, *TEST)}
    assert {(record.label, record.boxes, record.mask) for record in listing.records} == {(None, None, None)}
    assert Counter(record.split for record in listing.records) == {"train": 9, "val": 1, "test": 5}
    assert listing.findings == ()


def test_merged_test_images_train_and_are_named(tree: Path) -> None:
    listing = read(tree, unlabelled=True, merge_test=True)
    assert Counter(record.split for record in listing.records) == {"train": 14, "val": 1}
    assert codes(listing)["W_TEST_MERGED"].ids == tuple(sorted(map(image_id, TEST)))
    with pytest.raises(ConfigError, match="merge_test"):
        read(tree, merge_test=True)


def test_without_labels_no_table_is_needed(tree: Path, tmp_path: Path) -> None:
    root = copied(tree, tmp_path / "tree")
    (root / "annotations").rename(root / "other")
    assert len(read(root, unlabelled=True).records) == 15
    with pytest.raises(InputError, match="E_LAYOUT"):
        read(root)
    for path in root.glob("*/*.dicom"):
        path.unlink()
    with pytest.raises(InputError, match="E_EMPTY"):
        read(root, unlabelled=True)


def test_an_image_in_both_parts_is_refused(tree: Path, tmp_path: Path) -> None:
    root = copied(tree, tmp_path / "tree")
    os.link(root / "train" / f"{image_id(0)}.dicom", root / "test" / f"{image_id(0)}.dicom")
    with pytest.raises(InputError, match=rf"{image_id(0)}.*E_LEAKAGE"):
        read(root, unlabelled=True)
    with (root / "annotations" / "annotations_test.csv").open("a") as stream:
        stream.write(f"{image_id(0)},No finding,,,,\n")
    with pytest.raises(InputError, match=rf"{image_id(0)}.*E_LEAKAGE"):
        read(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_id,rad_id,class_name,x_min,y_min,x_max\na,R1,No finding,,,\n", "y_max.*E_COLUMN"),
        ("image_id,class_name,x_min,y_min,x_max,y_max\na,No finding,,,,\n", "rad_id.*E_COLUMN"),
        ("name,rad_id\na,R1\n", "E_COLUMN"),
        (f"{LONG_HEADER}\n", "E_EMPTY"),
        ("", "E_EMPTY"),
        (f"{LONG_HEADER}\n,R1,No finding,,,,\n", "line 2.*E_ROW"),
        (f"{LONG_HEADER}\na,,No finding,,,,\n", "line 2.*E_ROW"),
        (f"{LONG_HEADER}\na,R1,,,,,\n", "line 2.*E_ROW"),
        (f"{LONG_HEADER}\na,R1,{FLUID},1,2,x,4\n", "line 2.*E_BOX"),
        (f"{LONG_HEADER}\na,R1,{FLUID},1,2,3\n", "line 2.*E_ROW"),
    ],
)
def test_a_table_that_is_not_the_published_one_is_refused(tmp_path: Path, text: str, message: str) -> None:
    root = write_part(tmp_path, "train", [])
    (root / "annotations" / "annotations_train.csv").write_text(text)
    with pytest.raises((InputError, ConfigError), match=message):
        read(root)


@pytest.mark.parametrize("cell", ["2", "yes", "-1"])
def test_a_label_is_0_or_1(tree: Path, tmp_path: Path, cell: str) -> None:
    root = copied(tree, tmp_path / "tree")
    table = root / "annotations" / "image_labels_train.csv"
    head, first, *others = table.read_text().splitlines()
    cells = first.split(",")
    for value, fails in (("1.0", False), ("", False), (cell, True)):
        table.write_text("\n".join([head, ",".join([*cells[:2], value, *cells[3:]]), *others]) + "\n")
        if not fails:
            read(root)
            continue
        with pytest.raises(InputError, match=r"line 2: 'Aortic enlargement' must be 0 or 1"):
            read(root)


def test_a_folder_that_is_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E_MISSING"):
        read(tmp_path / "nowhere")
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match=r"found: images.*E_LAYOUT.*expected train/"):
        read(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"finding": "Effusion of the pleura"},
        {"finding": CLEAR},
        {"min_readers": 0},
        {"min_readers": 4},
        {"resized_to": -1, "resized_fit": "pad"},
        {"resized_to": 512},
        {"resized_fit": "stretch"},
        {"test_fraction": 1.0},
        {"val_fraction": 1.0},
        {"val_fraction": -0.1},
    ],
)
def test_an_option_that_cannot_be_is_refused(tree: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="E_CONFIG"):
        read(tree, **options)


def test_a_misspelt_finding_is_answered_with_the_nearest(tree: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'Pleural effusion'"):
        read(tree, finding="Pleural efusion")


def test_the_rows_depend_on_the_seed_and_not_on_the_order_of_files(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(tree, unlabelled=True), read(tree)
    real = os.scandir

    class Backwards:
        def __init__(self, path: object) -> None:
            self.entries = sorted(real(path), key=lambda entry: entry.name, reverse=True)  # type: ignore[call-overload]

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(os, "scandir", Backwards)
    assert (read(tree, unlabelled=True), read(tree)) == first
    assert read(tree, seed=1) != first[1]


def test_bom_semicolons_and_windows_line_ends_change_nothing(tree: Path, tmp_path: Path) -> None:
    root = copied(tree, tmp_path / "tree")
    for table in (root / "annotations").iterdir():
        text = table.read_text().replace(",", ";").replace("\n", "\r\n")
        table.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert {id_: (r.label, r.boxes, r.split) for id_, r in rows(root).items()} == {
        id_: (r.label, r.boxes, r.split) for id_, r in rows(tree).items()
    }


def test_the_manifest_keeps_the_rows(tree: Path, tmp_path: Path) -> None:
    records = read(tree, keep_unlabelled=True).records
    write_manifest(records, tmp_path / "manifest.csv", allow_outside=True)
    assert read_manifest(tmp_path / "manifest.csv", allow_outside=True) == records
    assert any(isinstance(box, Box) for record in records for box in record.boxes or ())

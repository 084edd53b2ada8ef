"""Tables keep every byte but the suffixes of the images that were converted."""

from __future__ import annotations

from pathlib import Path

import pytest

from medanomaly.datasets.copied_tables import copy_tables, table_files

NAMES = {"train/p1/view1.jpg": "train/p1/view1.png", "train/p2/view1.jpg": "train/p2/view1-0a1b.png", "x/a b.dcm": "x/a b.png"}


def copied(tmp_path: Path, text: str, name: str = "train.csv") -> str:
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    copy_tables(tmp_path, tmp_path / "out", NAMES, [Path(name)])
    return (tmp_path / "out" / name).read_bytes().decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Path,No Finding\r\ntrain/p1/view1.jpg,1.0\r\n", "Path,No Finding\r\ntrain/p1/view1.png,1.0\r\n"),
        ("CheXpert-v1.0-small/train/p1/view1.jpg,Male", "CheXpert-v1.0-small/train/p1/view1.png,Male"),
        ('"train\\p1\\view1.jpg";1', '"train\\p1\\view1.png";1'),
        ("./train/p2/view1.jpg 1\n", "./train/p2/view1-0a1b.png 1\n"),
        ("a b.dcm,0\ntrain/p1/view1.jpg train/p1/view1.jpg", "a b.png,0\ntrain/p1/view1.png train/p1/view1.png"),
        ("view1.jpg,p1", "view1.jpg,p1"),
        ("train/p1/view1.jpg.bak,1", "train/p1/view1.jpg.bak,1"),
        ("train/p3/view1.jpg,other.jpg,1.jpg.2", "train/p3/view1.jpg,other.jpg,1.jpg.2"),
        ("\ufeffPath\ntrain/p1/view1.jpg", "\ufeffPath\ntrain/p1/view1.png"),
    ],
)
def test_a_path_of_a_converted_image_gets_its_new_name_and_nothing_else_changes(tmp_path: Path, before: str, after: str) -> None:
    assert copied(tmp_path, before) == after


def test_bytes_that_are_not_utf8_survive(tmp_path: Path) -> None:
    text = b"Path,Name\ntrain/p1/view1.jpg,Andr\xe9\n".decode("utf-8", "surrogateescape")
    assert copied(tmp_path, text).encode("utf-8", "surrogateescape") == b"Path,Name\ntrain/p1/view1.png,Andr\xe9\n"


def test_columns_in_native_pixels_are_told(tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("image_id,x_min,y_min,x_max,y_max\na,1,2,3,4\n")
    (tmp_path / "labels.csv").write_text("image_id,weight,max\na,1,2\n")
    (finding,) = copy_tables(tmp_path, tmp_path / "out", {}, [Path("boxes.csv"), Path("labels.csv")])
    assert (finding.code, finding.ids) == ("W_TABLE_PX", ("boxes.csv",))


@pytest.mark.parametrize(
    ("header", "is_told"), [("id,y", False), ("x;label", False), ('id,"X",Y', True), ("id,w,h", True), ("id,bbox", True)]
)
def test_one_column_named_x_y_w_or_h_is_not_taken_for_pixels_but_two_are(tmp_path: Path, header: str, is_told: bool) -> None:
    (tmp_path / "t.csv").write_text(f"{header}\n")
    assert bool(copy_tables(tmp_path, tmp_path / "out", {}, [Path("t.csv")])) == is_told


def test_hidden_tables_and_links_that_leave_the_set_are_not_copied(tmp_path: Path) -> None:
    root = tmp_path / "set"
    (root / ".cache").mkdir(parents=True)
    for name in (".cache/a.csv", ".hidden.csv", "b.CSV", "notes.txt", "image.png"):
        (root / name).write_text("x")
    (tmp_path / "secret.csv").write_text("x")
    (root / "c.csv").symlink_to(tmp_path / "secret.csv")
    assert table_files(root) == [Path("b.CSV"), Path("notes.txt")]

from __future__ import annotations

import os
from pathlib import Path

import pytest

from medanomaly.datasets.walk_files import image_files, stem_of
from medanomaly.errors import InputError


def names(root: Path, *, recursive: bool = True) -> list[str]:
    return [path.as_posix() for path in image_files(root, recursive=recursive)]


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 200)


def test_images_are_told_by_suffix_in_any_case_and_everything_else_is_left(tmp_path: Path) -> None:
    touch(
        *(
            tmp_path / name
            for name in ("a.PNG", "b.jpeg", "c.npy", "d.nii.gz", "e.dcm", "sub/f.tif", "Thumbs.db", "x.csv", "x.gz")
        )
    )
    touch(tmp_path / "._a.png", tmp_path / ".cache" / "a.png", tmp_path / "README")
    assert names(tmp_path) == ["a.PNG", "b.jpeg", "c.npy", "d.nii.gz", "e.dcm", "sub/f.tif"]
    assert names(tmp_path, recursive=False) == ["a.PNG", "b.jpeg", "c.npy", "d.nii.gz", "e.dcm"]


def test_a_file_without_suffix_is_an_image_if_it_is_dicom_inside(tmp_path: Path) -> None:
    touch(tmp_path / "LICENSE")
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(10))
    (tmp_path / "1.2.840.113619.2").write_bytes(bytes(128) + b"DICM" + bytes(10))
    (tmp_path / "empty").touch()
    assert names(tmp_path) == ["1.2.840.113619.2", "IM0001"]


@pytest.mark.timeout(10)
def test_links_end_stay_inside_and_say_what_was_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "root"
    touch(root / "a.png", root / "sub" / "b.png", tmp_path / "secret.png")
    (root / "sub" / "loop").symlink_to(root)
    (root / "near.png").symlink_to(root / "a.png")
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "outside").symlink_to(tmp_path)
    (root / "dangling.png").symlink_to(root / "none.png")
    assert names(root) == ["a.png", "dangling.png", "near.png", "sub/b.png"]
    assert [record.getMessage().split(": ")[0] for record in caplog.records] == [str(root / "out.png")]


@pytest.mark.timeout(10)
def test_a_pipe_with_an_images_name_is_left_out_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    assert names(tmp_path) == []
    assert "is not a regular file" in caplog.text


def test_the_order_of_the_file_system_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(*(tmp_path / folder / f"{name}.png" for folder in "ba" for name in "3120"))
    expected = [f"{folder}/{name}.png" for folder in "ab" for name in "0123"]
    assert names(tmp_path) == expected
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda *args, **options: reversed(list(walk(*args, **options))))
    assert names(tmp_path) == expected


def test_names_that_are_no_utf8_are_found_and_can_be_opened(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/bad\xff\n.png"
    with open(raw, "wb") as stream:
        stream.write(b"x")
    (found,) = image_files(tmp_path)
    assert os.fsencode(found) == b"bad\xff\n.png"
    assert (tmp_path / found).read_bytes() == b"x"


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    for path, code in ((tmp_path / "a.png", "E_NOT_REGULAR"), (tmp_path / "none", "E_MISSING")):
        with pytest.raises(InputError) as refused:
            image_files(path)
        assert refused.value.code == code


@pytest.mark.parametrize(
    ("name", "stem"), [("a.png", "a"), ("a.b.nii.gz", "a.b"), ("IM1", "IM1"), ("1.2.840.5", "1.2.840.5"), ("a.JPG", "a")]
)
def test_the_stem_of_a_name(name: str, stem: str) -> None:
    assert stem_of(name) == stem

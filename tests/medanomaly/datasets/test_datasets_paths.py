from __future__ import annotations

import os
from pathlib import Path

import pytest

from medanomaly.datasets.paths import path_below, resolve_inside
from medanomaly.errors import InputError


@pytest.mark.parametrize(
    "written",
    [
        "../secret.png",
        "images/../../secret.png",
        "/etc/passwd",
        "C:\\x.png",
        "c:/x.png",
        "\\\\server\\share\\x.png",
        "http://host/x.png",
        "HTTPS://host/x.png",
        "file:///etc/passwd",
        "s3://bucket/x.png",
    ],
)
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, written: str) -> None:
    with pytest.raises(InputError) as refused:
        resolve_inside(tmp_path, written)
    assert refused.value.code == "E_TRAVERSAL"
    assert refused.value.fix


def test_a_link_that_leaves_the_folder_is_refused_and_one_within_is_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "away").symlink_to(tmp_path)
    (root / "a.png").touch()
    (root / "near.png").symlink_to(root / "a.png")
    assert resolve_inside(root, "near.png") == (root / "a.png").resolve()
    with pytest.raises(InputError) as refused:
        resolve_inside(root, "away/b.png")
    assert refused.value.code == "E_TRAVERSAL"


def test_a_folder_whose_name_merely_begins_alike_is_outside(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError):
        resolve_inside(tmp_path / "data", "../data-secret/x.png")


def test_outside_is_allowed_when_a_person_says_so_but_an_address_never(tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert resolve_inside(root, "../x.png", allow_outside=True) == (tmp_path / "x.png").resolve()
    with pytest.raises(InputError):
        resolve_inside(root, "http://host/x.png", allow_outside=True)


def test_a_nul_character_is_an_error_with_a_code(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        resolve_inside(tmp_path, "a\0.png")
    assert refused.value.code == "E_PATH"


@pytest.mark.parametrize(
    "name", ["a.png", "b c/d;e.png", 'q"u,ote.png', "IM: 1.png", "new\nline.png", os.fsdecode(b"bad\xff.png")]
)
def test_writing_and_resolving_a_path_are_inverse(tmp_path: Path, name: str) -> None:
    path = tmp_path.resolve() / name
    assert path_below(tmp_path, path) == name
    assert resolve_inside(tmp_path, name) == path


def test_writing_a_path_outside_of_the_folder_is_refused_unless_allowed(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        path_below(tmp_path / "root", tmp_path / "x.png")
    assert refused.value.code == "E_TRAVERSAL"
    assert path_below(tmp_path / "root", tmp_path / "x.png", allow_outside=True) == "../x.png"

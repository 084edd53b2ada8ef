import errno
import json
import os
from pathlib import Path

import pytest

from medanomaly.errors import ResourceError
from medanomaly.files import atomic_write, safe_name, sha256_of, write_json


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_appears_whole_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.bin"
    with atomic_write(path) as stream:
        stream.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    assert names(path.parent) == ["c.bin"]


def test_an_error_inside_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "c.bin"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as stream:
        print(stream.write(b"half of the new") / 0)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["c.bin"]


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "E_DISK_FULL"), (errno.EDQUOT, "E_DISK_FULL"), (errno.EFBIG, "E_DISK_FULL"), (errno.EACCES, "E_OUTPUT")],
)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_or_closed_disk_leaves_the_old_file_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str, call: str
) -> None:
    path = tmp_path / "c.bin"
    path.write_bytes(b"old")

    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fails)
    with pytest.raises(ResourceError, match=code) as refused, atomic_write(path) as stream:
        stream.write(b"new")
    assert refused.value.exit_code == 6
    assert refused.value.path == path
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["c.bin"]


def test_an_error_of_another_kind_stays_itself(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "c.bin"):
        (tmp_path / "absent").read_bytes()
    assert names(tmp_path) == []


def test_a_folder_or_a_pipe_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(ResourceError, match="E_NOT_REGULAR"), atomic_write(tmp_path / name):
            pass
    assert (tmp_path / "folder").is_dir()
    assert (tmp_path / "pipe").is_fifo()


def test_a_file_in_place_of_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    for path in (tmp_path / "taken" / "c.bin", tmp_path / "taken" / "deeper" / "c.bin"):
        with pytest.raises(ResourceError, match="E_OUTPUT"), atomic_write(path):
            pass
    assert (tmp_path / "taken").read_text() == "x"


def test_json_is_valid_whatever_numbers_it_is_given(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": float("nan"), "b": [float("inf"), 1.5, (2, None)], 3: {"c": -float("inf")}})
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == {"a": None, "b": [None, 1.5, [2, None]], "3": {"c": None}}
    assert text.endswith("}\n")


@pytest.mark.parametrize(
    "identifier",
    ["plain", "../../etc/passwd", "a/b\\c", "..", ".", "", "CON", "a b\n\0c", "é" * 300, "x" * 500, "-rf", "名前", "\udcff"],
)
def test_a_name_for_an_id_is_one_plain_path_component(tmp_path: Path, identifier: str) -> None:
    name = safe_name(identifier)
    assert 0 < len(name) <= 89
    assert name.isascii()
    assert set(name).isdisjoint("./\\:\0 \n")
    assert (tmp_path / name).parent == tmp_path
    (tmp_path / name).write_text("")
    assert names(tmp_path) == [name]


def test_ids_that_read_alike_get_names_of_their_own() -> None:
    alike = [
        "a/b",
        "a_b",
        "a b",
        "a//b",
        "a.b",
        "A/b",
        "_a_b",
        *("x" * 100 + end for end in "12"),
        *(head + "x" * 100 for head in "12"),
    ]
    found = [safe_name(identifier) for identifier in alike]
    assert len({name.casefold() for name in found}) == len(alike)
    assert found == [safe_name(identifier) for identifier in alike]
    assert found[0].startswith("a_b-")


def test_a_digest_is_of_the_files_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

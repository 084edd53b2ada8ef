"""Where a job writes: below its output folder and nowhere else, under names that every file system takes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from cli_builders import localize, picture, report_lines, write_png
from dicom_canaries import write_source

from medanomaly.cli.main import main

_WRITTEN: list[str] | None = None
"""Files that were opened for writing while somebody watches; an audit hook cannot be taken off again."""


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _WRITTEN is None:
        return
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        if int(arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            _WRITTEN.append(os.fsdecode(arguments[0]))
    elif event in ("tempfile.mkstemp", "tempfile.mkdtemp"):
        _WRITTEN.append(os.fsdecode(arguments[0]))


@contextmanager
def files_written() -> Iterator[list[str]]:
    """Paths that this process opens for writing inside the block."""
    global _WRITTEN
    _WRITTEN = found = []
    try:
        yield found
    finally:
        _WRITTEN = None


@pytest.fixture(scope="module", autouse=True)
def hook() -> None:
    sys.addaudithook(_note)


def elsewhere(written: list[str], out: Path) -> list[str]:
    """Written files outside of ``out``, without what Python and matplotlib keep of themselves, and devices."""
    own = (str(out), matplotlib.get_cachedir(), "/dev/")
    paths = [str(Path(path).absolute()) for path in written]
    return [path for path in paths if not path.startswith(own) and "__pycache__" not in path]


def test_the_watch_sees_a_temporary_file(tmp_path: Path) -> None:
    import tempfile

    with files_written() as written, tempfile.NamedTemporaryFile():
        (tmp_path / "own").write_text("")
    assert len(elsewhere(written, tmp_path)) >= 1
    assert str(tmp_path / "own") in written


def test_no_pixel_of_an_image_is_written_outside_of_the_output_folder(checkpoint: Path, tmp_path: Path) -> None:
    write_source(tmp_path / "in" / "film.dcm", BurnedInAnnotation="NO")
    write_png(tmp_path / "in" / "picture.png", picture(0))
    for name, words in (
        ("localized", ["localize", str(checkpoint), str(tmp_path / "in"), "OUT", "--to", "png,sc,seg,pm,nifti"]),
        ("deblurred", ["deblur", "wiener", str(tmp_path / "in"), "OUT", "--kernel", "linear 5@30", "--gate", "false"]),
        ("walk.gif", ["animate", str(checkpoint), str(tmp_path / "in" / "film.dcm"), "OUT"]),
    ):
        out = tmp_path / name
        with files_written() as written:
            assert main([str(out) if word == "OUT" else word for word in words]) == 0
        assert len(written) > 0
        assert elsewhere(written, tmp_path / name if out.is_dir() else tmp_path) == []
        if not out.is_dir():
            assert {Path(path).parent for path in written if path.startswith(str(tmp_path))} == {tmp_path}


def test_an_id_longer_than_a_file_name_may_be_is_written_under_a_hash(checkpoint: Path, tmp_path: Path) -> None:
    stem = "thorax_" * 43
    for index in range(2):
        write_png(tmp_path / f"{index}.png", picture(index))
    rows = "".join(f"{stem}{index},{index}.png,healthy\n" for index in range(2))
    (tmp_path / "list.csv").write_text(f"id,image,label\n{rows}")
    out = tmp_path / "out"
    assert localize(checkpoint, tmp_path / "list.csv", out) == 0
    assert [line["id"] for line in report_lines(out)] == [f"{stem}{index}" for index in range(2)]
    assert len(list((out / "maps").iterdir())) == 2
    assert max(len(path.name) for path in out.rglob("*")) < 100


@pytest.mark.parametrize("name", ["o" * 300, "/".join(["deep" * 20] * 60)])
def test_an_output_folder_whose_name_is_too_long_is_refused_in_one_line(
    name: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_png(tmp_path / "in" / "picture.png", picture(0))
    assert localize(checkpoint, tmp_path / "in", tmp_path / name) == 6
    said = capsys.readouterr().err
    assert "[E_OUTPUT]" in said
    assert "internal error" not in said

"""One bad file never stops a job: each is named in the report with its reason, and every good one is done."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from cli_builders import localize, output_of, picture, reasons, report_lines, write_dicom, write_png, written


def chunk(name: bytes, content: bytes) -> bytes:
    """One chunk of a PNG (PNG specification, section 5.3)."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_bomb(side: int) -> bytes:
    """A PNG whose header promises side x side pixels, in a few hundred bytes."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def pickle_that_touches(sentinel: Path) -> bytes:
    """A protocol-0 pickle of ``open(sentinel, "w")``, written by hand: opcodes c (global), ( V t (arguments), R (call)."""
    return f"cio\nopen\n(V{sentinel}\nVw\ntR.".encode()


def write_bad_files(folder: Path, sentinel: Path) -> dict[str, str]:
    """One file of every kind of fault; name -> the reason it must be given."""
    folder.mkdir(parents=True, exist_ok=True)
    cut = write_dicom(folder / "cut.dcm", picture(1, 20, 20))
    cut.write_bytes(cut.read_bytes()[:-200])
    (folder / "pickle.npy").write_bytes(pickle_that_touches(sentinel))
    np.save(folder / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (folder / "bomb.png").write_bytes(png_bomb(13_000))
    (folder / "empty.png").touch()
    (folder / "empty.dcm").touch()
    (folder / "text.png").write_text("this is no picture\n")
    os.mkfifo(folder / "pipe.png")
    write_png(folder / "colour.png", np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    np.save(folder / "nan.npy", np.full((16, 16), np.nan, np.float32))
    (folder / "dangling.png").symlink_to("nowhere.png")
    return {
        "cut.dcm": "E_TRUNCATED",
        "pickle.npy": "E_PICKLE",
        "objects.npy": "E_PICKLE",
        "bomb.png": "E_LIMIT",
        "empty.png": "E_EMPTY",
        "empty.dcm": "E_EMPTY",
        "text.png": "E_FORMAT",
        "pipe.png": "E_NOT_REGULAR",
        "colour.png": "E_COLOR",
        "nan.npy": "E_NONFINITE",
        "dangling.png": "E_NOT_FOUND",
    }


def test_bad_files_are_reported_with_their_reason_and_good_ones_are_all_done(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out, sentinel = tmp_path / "in", tmp_path / "out", tmp_path / "sentinel"
    expected = write_bad_files(source, sentinel)
    good = [write_png(source / f"good-{index}.png", picture(index)).name for index in range(4)]
    start = time.perf_counter()
    assert localize(checkpoint, source, out, "--batch-size", "3") == 3
    assert time.perf_counter() - start < 30
    assert reasons(out) == expected | dict.fromkeys(good, "")
    assert not sentinel.exists()
    assert len(written(out)) == 6 * len(good)
    for line in report_lines(out):
        assert line["status"] == ("failed" if line["id"] in expected else "ok")
        assert bool(line["outputs"]) is (line["id"] in good)
        assert line["reason_code"] in line["message"]
    text = capsys.readouterr().out
    assert f"4 localized, 0 already there, {len(expected)} failed" in text
    assert "E_EMPTY: 2" in text


def test_what_failed_is_tried_again_and_done_once_it_is_mended(checkpoint: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write_png(source / "good.png", picture(0))
    (source / "empty.png").touch()
    assert localize(checkpoint, source, out) == 3
    before = written(out)
    assert localize(checkpoint, source, out) == 3
    assert written(out) == before
    write_png(source / "empty.png", picture(1))
    assert localize(checkpoint, source, out) == 0
    assert reasons(out) == {"good.png": "", "empty.png": ""}


def test_a_folder_of_bad_files_only_is_no_input_and_each_is_reported(checkpoint: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    expected = write_bad_files(source, tmp_path / "sentinel")
    assert localize(checkpoint, source, out) == 4
    assert reasons(out) == expected
    assert written(out) == {}


def test_a_pipe_given_as_the_source_is_refused_unopened(checkpoint: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert localize(checkpoint, tmp_path / "pipe.png", tmp_path / "out") == 4
    assert reasons(tmp_path / "out") == {"pipe.png": "E_NOT_REGULAR"}


def test_an_image_outside_of_the_folder_is_not_reached_through_a_link(checkpoint: Path, tmp_path: Path) -> None:
    outside = write_png(tmp_path / "private.png", picture(1))
    write_png(tmp_path / "in" / "good.png", picture(0))
    (tmp_path / "in" / "link.png").symlink_to(outside)
    assert localize(checkpoint, tmp_path / "in", tmp_path / "out") == 0
    assert reasons(tmp_path / "out") == {"good.png": ""}


def test_a_manifest_that_points_outside_of_its_folder_needs_leave(checkpoint: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "outside.png", picture(0))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "list.csv").write_text("image\n../outside.png\n")
    assert localize(checkpoint, tmp_path / "in" / "list.csv", tmp_path / "out") == 4
    assert localize(checkpoint, tmp_path / "in" / "list.csv", tmp_path / "out", "--allow-outside", "true") == 0


def test_colour_is_localized_where_the_user_allows_it(checkpoint: Path, tmp_path: Path) -> None:
    image = write_png(tmp_path / "colour.png", np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    assert localize(checkpoint, image, tmp_path / "out", "--allow-color", "true") == 0
    assert np.load(output_of(tmp_path / "out", "colour.png", "maps")).shape == (16, 16)


def test_an_image_of_one_value_is_localized_and_the_report_says_so(checkpoint: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "constant.npy", np.full((16, 16), 4000, np.float32))
    assert localize(checkpoint, tmp_path / "constant.npy", tmp_path / "out") == 0
    assert "constant image" in report_lines(tmp_path / "out")[0]["message"]
    assert np.isfinite(np.load(output_of(tmp_path / "out", "constant.npy", "maps"))).all()


NAMES = [
    b"a b.png",
    b"two\nlines.png",
    b"quo\"te's.png",
    "\u00fcml\u00e4ut \u8133.png".encode(),
    b"not-utf8-\xff.png",
    b"a" * 251 + b".png",
    b"c:\\d.png",
]


def test_strange_names_are_done_and_each_line_of_the_report_stays_one_line(checkpoint: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for index, name in enumerate(NAMES):
        write_png(tmp_path / "image.png", picture(index)).rename(Path(os.fsdecode(os.path.join(os.fsencode(source), name))))  # noqa: PTH118
    (source / os.fsdecode(b"bad\n\xff.png")).touch()
    assert localize(checkpoint, source, out) == 3
    lines = (out / "report.jsonl").read_bytes().split(b"\n")
    assert len(lines) == len(NAMES) + 1 + 1
    assert lines[-1] == b""
    assert all(line.decode("ascii") for line in lines[:-1])
    assert reasons(out) == {os.fsdecode(name): "" for name in NAMES} | {os.fsdecode(b"bad\n\xff.png"): "E_EMPTY"}
    before = written(out)
    assert len(before) == 6 * len(NAMES)
    assert localize(checkpoint, source, out) == 3
    assert written(out) == before


def test_a_promise_of_too_many_pixels_is_refused_without_the_memory_for_them(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bomb.png").write_bytes(png_bomb(30_000))
    script = (
        "import resource, sys\nfrom medanomaly.cli.main import main\n"
        "from medanomaly.cli import localize\nbefore = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "code = main(sys.argv[1:])\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\nsys.exit(code)"
    )
    words = ["localize", str(checkpoint), str(tmp_path / "in"), str(tmp_path / "out"), "--device", "cpu", "--quiet", "true"]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=280)
    assert done.returncode == 4, done.stderr
    assert reasons(tmp_path / "out") == {"bomb.png": "E_LIMIT"}
    kib_more = int(done.stdout.split()[-1])
    assert kib_more < 300 * 1024

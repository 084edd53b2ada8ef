"""A batch of thousands of files with one percent bad ones of every kind: each reported by its reason, the others done, memory flat.

    python -m benchmarks.drills.bad_batch runs/drills --count 10000

Files that are odd and whole are among the good ones: 16-bit PNGs, names that are no UTF-8, upper-case suffixes. Memory is that of the
process between a third of the images and the end.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian

from benchmarks.drills.formats import save_dicom
from benchmarks.drills.outcome import Outcome, counted, finish
from benchmarks.drills.processes import Running, ready, start
from benchmarks.drills.tiny import draw, localize_words, write_tiny_checkpoint
from medanomaly.errors import EXIT_SOME_FAILED

GROWTH_MIB = 64
"""What the process may grow by between a third of the images and the end."""
BATCH_S = 7200.0


def picture(index: int) -> np.ndarray:
    """uint8 (16, 16), another for each index."""
    return np.random.default_rng(index).integers(0, 256, (16, 16), dtype=np.uint8)


def cut_png(path: Path, index: int) -> None:
    """The first 60 bytes of a PNG."""
    path.write_bytes(draw(path, index).read_bytes()[:60])


def cut_dicom(path: Path, _index: int) -> None:
    """Half of a DICOM object's pixels."""
    content = dicom(path)
    path.write_bytes(content[:-400])


def no_pixels(path: Path, _index: int) -> None:
    """A DICOM object without pixel data."""
    dicom(path)
    dataset = dcmread(path)
    del dataset.PixelData
    dataset.save_as(path)


def dicom(path: Path) -> bytes:
    """A whole DICOM object under this name, and its bytes."""
    with tempfile.TemporaryDirectory() as name:
        save_dicom(ExplicitVRLittleEndian)(Path(name))
        content = (Path(name) / "drill.dcm").read_bytes()
    path.write_bytes(content)
    return content


def absurd_header(path: Path, index: int) -> None:
    """A PNG whose header says 60,000 x 60,000."""
    content = bytearray(draw(path, index).read_bytes())
    content[16:24] = struct.pack(">II", 60000, 60000)
    import zlib

    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    path.write_bytes(content)


def pages(path: Path, index: int) -> None:
    """A TIFF of three pages."""
    images = [Image.fromarray(picture(index + page)) for page in range(3)]
    images[0].save(path, save_all=True, append_images=images[1:])


def holes(path: Path, index: int) -> None:
    """An array with a hole in it."""
    values = picture(index).astype(np.float32)
    values[3, 3] = np.nan
    np.save(path, values)


def colour(path: Path, index: int) -> None:
    """Three different planes."""
    Image.fromarray(np.stack([picture(index + plane) for plane in range(3)], axis=-1)).save(path)


BAD: dict[str, tuple[str, Callable[[Path, int], object], frozenset[str]]] = {
    "truncated PNG": (".png", cut_png, frozenset({"E_TRUNCATED", "E_MALFORMED"})),
    "no bytes": (".png", lambda path, _index: path.write_bytes(b""), frozenset({"E_EMPTY"})),
    "text": (".png", lambda path, _index: path.write_text("patient,label\n1,healthy\n"), frozenset({"E_FORMAT"})),
    "absurd header": (".png", absurd_header, frozenset({"E_LIMIT"})),
    "truncated DICOM": (".dcm", cut_dicom, frozenset({"E_TRUNCATED"})),
    "DICOM without pixels": (".dcm", no_pixels, frozenset({"E_NO_PIXELS"})),
    "pages": (".tif", pages, frozenset({"E_MULTIFRAME"})),
    "colour": (".png", colour, frozenset({"E_COLOR"})),
    "not a number": (".npy", holes, frozenset({"E_NONFINITE"})),
    "objects": (
        ".npy",
        lambda path, _index: np.save(path, np.array([{}], dtype=object), allow_pickle=True),
        frozenset({"E_PICKLE"}),
    ),
    "link to itself": (".png", lambda path, _index: path.symlink_to(path), frozenset({"E_UNREADABLE"})),
    "dangling link": (".png", lambda path, _index: path.symlink_to(path.with_name("gone")), frozenset({"E_NOT_FOUND"})),
    "pipe": (".png", lambda path, _index: os.mkfifo(path), frozenset({"E_NOT_REGULAR"})),
}
"""Kind -> (suffix, how it is made, reasons that may be given)."""


def write_batch(root: Path, count: int) -> dict[str, str]:
    """The files; name -> kind of each bad one."""
    bad = {}
    for index in range(count):
        folder = root / f"{index % 64:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        if index % 100 == 50:
            kind = list(BAD)[index // 100 % len(BAD)]
            suffix, make, _ = BAD[kind]
            path = folder / f"{index}{suffix}"
            make(path, index)
            bad[path.relative_to(root).as_posix()] = kind
        elif index % 100 == 7:
            Image.fromarray(picture(index).astype(np.uint16) * 257).save(folder / f"{index}.PNG")
        elif index % 100 == 8:
            draw(folder / os.fsdecode(b"not-utf8-\xff-%d.png" % index), index)
        else:
            draw(folder / f"{index}.png", index)
    return bad


def watched(running: Running, report: Path, count: int) -> tuple[int, int, float]:
    """(exit code, MiB grown since a third of the images, MiB at most) of the job."""
    begun, at_third, most = time.monotonic(), 0, 0
    while True:
        ended = running.wait(0.5)
        if ended is not None:
            return ended.code, most - at_third, most
        if time.monotonic() - begun > BATCH_S:
            running.kill()
            return -9, most - at_third, most
        try:
            now = int(Path(f"/proc/{running.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20
        except (OSError, IndexError):
            continue
        most = max(most, now)
        if not at_third and report.is_file() and report.read_bytes().count(b"\n") > count / 3:
            at_third = most


def drill(count: int, batch_size: int) -> Outcome:
    """One job over the batch."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "weights").mkdir()
        write_tiny_checkpoint(root / "weights")
        bad = write_batch(root / "images", count)
        words = localize_words(root / "weights", root / "images", root / "out", "--batch-size", str(batch_size))
        code, grown, most = watched(start(words, root / "log"), root / "out" / "report.jsonl", count)
        lost = [] if code == EXIT_SOME_FAILED else [f"ended with {code}: {(root / 'log').read_text()[-300:]}"]
        lines = [json.loads(line) for line in (root / "out" / "report.jsonl").read_bytes().splitlines()]
        lost += wrong_lines(lines, bad, count)
        if grown > GROWTH_MIB:
            lost.append(f"grew by {grown} MiB after a third of the images")
        maps = sum(1 for _ in (root / "out" / "maps").iterdir())
        if maps != count - len(bad):
            lost.append(f"{maps} maps of {count - len(bad)} good images")
    return counted(
        f"{count:,} files in one job, {len(BAD)} kinds of bad ones",
        len(bad),
        lost,
        began,
        f"{count - len(bad):,} others done, {grown} MiB grown, {most} MiB at most",
    )


def wrong_lines(lines: list[dict[str, str]], bad: dict[str, str], count: int) -> list[str]:
    """What the report says otherwise than it should."""
    found = []
    if len(lines) != count or len({line["id"] for line in lines}) != count:
        found.append(f"{len(lines)} lines of {count} files")
    odd = Counter[str]()
    for line in lines:
        kind = bad.get(line["id"])
        if kind is None and line["status"] != "ok":
            found.append(f"{line['id']!a} is good and failed with {line['reason_code']}")
        elif kind is not None and line["reason_code"] not in BAD[kind][2]:
            odd[f"{kind}: {line['status']} {line['reason_code']}"] += 1
    return found + [f"{text} ({times} times)" for text, times in odd.items()]


def main(arguments: list[str] | None = None) -> int:
    """Localize a batch."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for bad_batch.json")
    parser.add_argument("--count", type=int, default=10_000, help="files")
    parser.add_argument("--batch_size", type=int, default=64)
    given = parser.parse_args(arguments)
    ready("localize")
    return finish([drill(given.count, given.batch_size)], given.out / "bad_batch.json")


if __name__ == "__main__":
    sys.exit(main())

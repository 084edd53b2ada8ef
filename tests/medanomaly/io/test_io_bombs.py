"""Small files that claim to be huge: refused from their headers, in a process whose memory is watched."""

import gzip
import json
import struct
import subprocess
import sys
import zlib

import numpy as np
from io_builders import ramp, write_dicom, write_image, write_nifti

PROGRAM = """
import json, resource, sys
from pathlib import Path
from medanomaly.errors import InputError
from medanomaly.io.reader import read_image, read_mask

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before, answers = peak_mib(), {}
for name in sys.argv[1:]:
    for read in (read_image, read_mask):
        try:
            read(Path(name))
            answers[name] = ["read", ""]
        except InputError as error:
            answers[name] = [error.code, error.message]
print(json.dumps({"answers": answers, "mib": peak_mib() - before}))
"""


def png_bomb(path, side):
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = zlib.compressobj(1)
    content = b"".join(rows.compress(bytes(side + 1)) for _ in range(side)) + rows.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b""))
    return path


def jpeg_bomb(path, side):
    """A small JPEG whose frame header (SOF0, ITU-T T.81 section B.2.2) claims side x side samples."""
    content = bytearray(write_image(path, ramp()).read_bytes())
    struct.pack_into(">HH", content, content.index(b"\xff\xc0") + 5, side, side)
    path.write_bytes(content)
    return path


def tiff_bomb(path, side):
    """A small TIFF whose ImageWidth and ImageLength (TIFF 6.0, tags 256 and 257) are side."""
    content = bytearray(write_image(path, ramp()).read_bytes())
    (start,) = struct.unpack_from("<I", content, 4)
    for entry in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", content, start)[0], 12):
        tag, kind = struct.unpack_from("<HH", content, entry)
        if tag in (256, 257):
            struct.pack_into("<I" if kind == 4 else "<H", content, entry + 8, side)
    path.write_bytes(content)
    return path


def gzip_bomb(path):
    """A gzipped volume of 525 MiB of zeros under a header that says so, in 3 MB."""
    plain = bytearray(write_nifti(path.with_suffix(""), np.zeros((4, 4, 4), np.uint8)).read_bytes())
    struct.pack_into("<3h", plain, 42, 512, 512, 2100)
    squeezed = zlib.compressobj(1, zlib.DEFLATED, 31)
    pieces = [squeezed.compress(bytes(plain)), *(squeezed.compress(bytes(2**20)) for _ in range(525)), squeezed.flush()]
    path.write_bytes(b"".join(pieces))
    return path


def test_bombs_of_every_format_are_refused_by_our_limit_in_less_than_300_mib(tmp_path):
    claims = write_nifti(tmp_path / "claims.nii", np.zeros((4, 4, 1), np.uint8))
    content = bytearray(claims.read_bytes())
    struct.pack_into("<3h", content, 42, 32767, 32767, 32767)
    (tmp_path / "claims.nii.gz").write_bytes(gzip.compress(content))
    paths = [
        png_bomb(tmp_path / "pixels.png", 13_000),  # below the 179 M pixels at which Pillow itself refuses
        jpeg_bomb(tmp_path / "pixels.jpg", 13_000),
        jpeg_bomb(tmp_path / "absurd.jpg", 65_500),
        tiff_bomb(tmp_path / "pixels.tif", 13_000),
        write_dicom(tmp_path / "rows.dcm", ramp(), Rows=60_000, Columns=60_000),
        write_dicom(tmp_path / "frames.dcm", ramp(), NumberOfFrames=10**6),
        tmp_path / "claims.nii.gz",
        gzip_bomb(tmp_path / "inflates.nii.gz"),
    ]
    assert all(path.stat().st_size < 2**22 for path in paths)
    done = subprocess.run([sys.executable, "-c", PROGRAM, *map(str, paths)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {name: code for name, (code, _) in found["answers"].items()} == {str(path): "E_LIMIT" for path in paths}
    assert all(message for _, message in found["answers"].values())
    assert found["mib"] < 300

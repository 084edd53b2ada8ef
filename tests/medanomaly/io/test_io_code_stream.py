"""JPEG-LS can be decoded wherever DICOM can be written, so its own size is asked before that."""

from __future__ import annotations

import struct
from pathlib import Path

import jpeg_ls
import numpy as np
import pytest
from io_builders import ramp, write_encapsulated_dicom
from pydicom.uid import JPEGLSLossless

from medanomaly.errors import InputError
from medanomaly.io.code_stream import jpeg_ls_size
from medanomaly.io.reader import read_image


def encoded(pixels: np.ndarray) -> bytes:
    return bytes(jpeg_ls.encode_array(pixels))


def test_a_jpeg_ls_image_is_read_as_it_was(tmp_path: Path) -> None:
    path = write_encapsulated_dicom(tmp_path / "a.dcm", ramp(), encoded(ramp()), JPEGLSLossless)
    np.testing.assert_array_equal(read_image(path).pixels[0], ramp())


def test_a_code_stream_that_claims_more_than_the_header_is_refused_undecoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = encoded(ramp())
    at = honest.index(b"\xff\xf7") + 5
    bomb = honest[:at] + struct.pack(">HH", 60_000, 60_000) + honest[at + 4 :]

    def decoded(*_words: object, **_options: object) -> None:
        raise AssertionError("was decoded")

    monkeypatch.setattr("medanomaly.io.dicom.pixel_array", decoded)
    with pytest.raises(InputError, match="60000 x 60000") as caught:
        read_image(write_encapsulated_dicom(tmp_path / "a.dcm", ramp(), bomb, JPEGLSLossless))
    assert caught.value.code == "E_MALFORMED"


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8", b"RLE data", b"\xff\xd8\xff\xda\0\x08", b"\xff\xd8\xff\xe0\0\0", b"\xff\xd8\xff\xf7\0\x0b\x08"]
)
def test_what_is_no_jpeg_ls_has_no_size(content: bytes) -> None:
    assert jpeg_ls_size(content) is None


def test_segments_before_the_frame_header_are_stepped_over() -> None:
    content = encoded(ramp())
    assert jpeg_ls_size(content[:2] + b"\xff\xe8\x00\x06abcd" + content[2:]) == ramp().shape

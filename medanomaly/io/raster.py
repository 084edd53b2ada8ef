"""PNG, JPEG and TIFF through Pillow: 8- and 16-bit gray, float TIFF, and a stated policy for every colour mode.

| Pillow mode | read as |
|---|---|
| 1, L | gray in 0..255 (1-, 2- and 4-bit files are spread over 0..255 by Pillow) |
| I;16 (any byte order) | gray in 0..2^bits - 1: 65535 for 16 bit, 4095 for 12-bit TIFF |
| I, F | gray, range unknown (32-bit integer and float TIFF) |
| P, RGB, YCbCr | colour in 0..255, the palette looked up |
| LA, PA, RGBA | as above where every pixel is opaque, else refused: a transparent pixel has no brightness |
| others (CMYK, Lab, ...) | refused: their colours depend on a profile |

A JPEG's, PNG's or TIFF's EXIF orientation is applied, to images and masks alike, so all see the picture upright.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from medanomaly.errors import InputError
from medanomaly.io.channels import to_channels
from medanomaly.io.faults import library_faults
from medanomaly.io.limits import check_frame_count, check_shape
from medanomaly.io.options import ReadOptions, chosen_frame
from medanomaly.types import RawImage

_GRAY_MODES = frozenset({"1", "L", "I", "F", "I;16", "I;16L", "I;16B"})
_COLOR_MODES = frozenset({"P", "PA", "LA", "RGB", "RGBA", "YCbCr"})
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262
_DEFAULT_BITS = {"1": 1, "L": 8, "I": 32, "F": 32}


def read_raster(path: Path, format_name: str, options: ReadOptions) -> RawImage:
    """Image (C, H, W) from a PNG, JPEG or TIFF, decoded to its last byte (``Image.verify`` passes truncated files).

    Args:
        path: the file.
        format_name: "PNG", "JPEG" or "TIFF": the only decoder that may look at it.
        options: channels, colour, page and limits.

    Raises:
        InputError: E_LIMIT, E_MULTIFRAME, E_COLOR, E_ALPHA, E_DEPTH, E_TRUNCATED or E_MALFORMED.
    """
    with library_faults(path, format_name):
        try:
            with path.open("rb") as stream, Image.open(stream, formats=[format_name]) as image:
                _check_header(image, path, options)
                num_frames = int(getattr(image, "n_frames", 1))
                check_frame_count(path, num_frames, options.limits)
                index = chosen_frame(path, num_frames, options)
                if num_frames > 1:
                    image.seek(index)
                    _check_header(image, path, options)
                # Before load(), in which Pillow's TIFF reader turns the picture itself and drops the tag.
                orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
                image.load()
                upright = ImageOps.exif_transpose(image)
                planes, value_range, notes = _planes(upright, image, path)
        except Image.DecompressionBombError as error:  # Pillow looks first where a side is absurd; the limit is ours
            raise InputError("claims too many pixels", code="E_LIMIT", path=path, fix="resample it") from error
    if orientation not in (0, 1):
        notes += (f"EXIF orientation {orientation} applied",)
    pixels, channel_notes = to_channels(planes, options, path)
    return RawImage(pixels=pixels, value_range=value_range, notes=(*notes, *channel_notes))


def _check_header(image: Image.Image, path: Path, options: ReadOptions) -> None:
    """Refuse by size, mode and depth, which are known before any pixel is decoded."""
    check_shape(path, image.height, image.width, options.limits, bytes_per_pixel=4)
    if image.mode not in _GRAY_MODES | _COLOR_MODES:
        raise InputError(
            f"has Pillow mode {image.mode!r}, whose brightness is not defined",
            code="E_COLOR",
            path=path,
            fix="convert it to gray",
        )
    # Pillow halves 16-bit colour and gray-with-alpha to 8 bit without a word.
    bits = _stored_bits(image)
    if bits > 8 and image.mode in _COLOR_MODES:
        raise InputError(
            f"has {bits} bits a channel, which cannot be read without loss",
            code="E_DEPTH",
            path=path,
            fix="save it as 16-bit gray",
        )


def _planes(upright: Image.Image, source: Image.Image, path: Path) -> tuple[Any, tuple[float, float] | None, tuple[str, ...]]:
    """((1 or 3, H, W) float32, value_range, notes) of a decoded picture."""
    if upright.mode in _COLOR_MODES:
        rgb, notes = _opaque_rgb(upright, path)
        return np.moveaxis(rgb, 2, 0).astype(np.float32), (0.0, 255.0), notes
    notes = ("transparency key ignored",) if "transparency" in source.info else ()
    values = np.asarray(upright)
    if upright.mode == "1":
        return values[None].astype(np.float32) * 255, (0.0, 255.0), notes
    white = None
    if upright.mode == "L":
        white = 255.0
    elif upright.mode.startswith("I;16"):
        white = float(2 ** _stored_bits(source) - 1)
    elif upright.mode == "I" and values.min() < 0 and _is_unsigned(source):
        raise InputError("has 32-bit values beyond 2^31", code="E_DEPTH", path=path, fix="save it as 16 bit or float")
    pixels = values[None].astype(np.float32)
    # Pillow inverts a white-is-zero TIFF of up to 8 bits but not a deeper one.
    if source.format == "TIFF" and _tag(source, _PHOTOMETRIC, 1) == 0 and upright.mode not in ("1", "L"):
        if white is None:
            raise InputError("is white-is-zero with an unknown white", code="E_PHOTOMETRIC", path=path, fix="save black as zero")
        pixels, notes = white - pixels, (*notes, "white-is-zero TIFF inverted")
    return pixels, None if white is None else (0.0, white), notes


def _opaque_rgb(image: Image.Image, path: Path) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """(H, W, 3) uint8 of a colour picture in which nothing is transparent."""
    if image.mode in ("LA", "PA", "RGBA") or (image.mode == "P" and "transparency" in image.info):
        rgba = np.asarray(image.convert("RGBA"))
        if rgba[..., 3].min() < 255:
            raise InputError("has transparent pixels", code="E_ALPHA", path=path, fix="flatten it onto a background first")
        return rgba[..., :3], ("opaque alpha channel dropped",)
    notes = ("transparency key ignored",) if "transparency" in image.info else ()
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB")), notes


def _stored_bits(image: Image.Image) -> int:
    """Bits a sample in the file, which Pillow's mode does not always tell."""
    if image.format == "TIFF":
        bits = _tag(image, _BITS_PER_SAMPLE, None)
        if bits is not None:
            return int(max(bits)) if isinstance(bits, tuple) else int(bits)
    if image.format == "PNG" and image.mode in _COLOR_MODES:
        return _png_bit_depth(image)
    return 16 if image.mode.startswith("I;16") else _DEFAULT_BITS.get(image.mode, 8)


def _png_bit_depth(image: Image.Image) -> int:
    """Byte 24 of a PNG: the bit depth in IHDR (W3C PNG, section 11.2.1)."""
    stream = image.fp
    if stream is None:
        return 8
    position = stream.tell()
    stream.seek(24)
    depth = stream.read(1)[0]
    stream.seek(position)
    return int(depth)


def _is_unsigned(image: Image.Image) -> bool:
    sample_format = _tag(image, 339, (1,))
    return bool(sample_format in (1, (1,)))


def _tag(image: Image.Image, number: int, otherwise: Any) -> Any:
    tags = getattr(image, "tag_v2", None)
    return otherwise if tags is None else tags.get(number, otherwise)

"""DICOM images through pydicom: what must be checked before its decoders may run, and what comes out in display order."""

from __future__ import annotations

import contextlib
import io
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_file_meta_info
from pydicom.pixels import apply_color_lut, get_decoder, pixel_array
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import UID

from medanomaly.errors import InputError
from medanomaly.io.channels import to_channels
from medanomaly.io.code_stream import jpeg_ls_size
from medanomaly.io.dicom_values import Display, apply_modality, apply_voi, invert_monochrome1, numbers_of, stored_range
from medanomaly.io.faults import library_faults
from medanomaly.io.limits import check_frame_count, check_shape
from medanomaly.io.options import ReadOptions, chosen_frame
from medanomaly.types import RawImage

_GRAY = ("MONOCHROME1", "MONOCHROME2")
_COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
_FLOAT_ELEMENTS = ("FloatPixelData", "DoubleFloatPixelData")
_DEFLATED = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205", "1.2.840.10008.1.2.8.1")
_RE_EXPORT = "export it again from the archive"


def read_dicom(path: Path, options: ReadOptions) -> RawImage:
    """One frame (C, H, W): decoded, modality LUT, VOI, then MONOCHROME1 inverted (PS3.4 section N.2), low = dark.

    ``value_range`` of gray is what the header allows, never this image's extremes: with a window or without, the range of
    BitsStored after rescale; with a VOI LUT 0..2^bits - 1 of its entries; None for float pixel data, which is not windowed.
    ``spacing_mm`` is PixelSpacing, else ImagerPixelSpacing (at the detector, noted). Pixel padding is noted, not replaced. Notes
    and messages hold technical values only, never identity.

    Raises:
        InputError: E_NO_PIXELS, E_HEADER, E_PHOTOMETRIC, E_COLOR, E_MULTIFRAME, E_LIMIT, E_CODEC, E_TRUNCATED, E_RESCALE, E_LUT,
            E_WINDOW or E_MALFORMED.
    """
    with library_faults(path, "DICOM", quote=False), _silent_pydicom():
        syntax = _transfer_syntax(path)
        dataset = pydicom.dcmread(path)
        element = _pixel_element(dataset, path)
        num_frames = _check_header(dataset, element, path, options)
        index = chosen_frame(path, num_frames, options)
        stored = _decode(dataset, element, syntax, index, num_frames, path)
        photometric = str(dataset.PhotometricInterpretation)
        spacing, notes = _spacing(_group(dataset, index, "PixelMeasuresSequence"))
        notes += _content_notes(dataset)
        value_range: tuple[float, float] | None
        if photometric in _COLOR:
            planes, value_range = _color_planes(stored, dataset, photometric)
        elif element in _FLOAT_ELEMENTS:
            planes, value_range = stored[None].astype(np.float32), None
            notes += ("float pixel data: neither windowed nor rescaled",)
        else:
            low, high = stored_range(dataset)
            display = Display(values=stored.astype(np.float64), low=low, high=high)
            display = apply_modality(display, _group(dataset, index, "PixelValueTransformationSequence"), path)
            display = apply_voi(display, _group(dataset, index, "FrameVOILUTSequence"), path, options)
            if photometric == "MONOCHROME1":
                display = invert_monochrome1(display)
            planes, value_range = display.values[None].astype(np.float32), (display.low, display.high)
            notes += display.notes
    pixels, channel_notes = to_channels(planes, options, path)
    return RawImage(pixels=pixels, value_range=value_range, spacing_mm=spacing, notes=(*notes, *channel_notes))


@contextlib.contextmanager
def _silent_pydicom() -> Iterator[None]:
    """Keep pydicom's log records, which quote element values such as names, out of the application's log."""
    logger = logging.getLogger("pydicom")

    def reject(_record: logging.LogRecord) -> bool:
        return False

    logger.addFilter(reject)
    try:
        yield
    finally:
        logger.removeFilter(reject)


def _transfer_syntax(path: Path) -> UID:
    """Transfer syntax from the file meta group alone, so that a deflated file is refused before anything inflates it."""
    syntax = read_file_meta_info(path).get("TransferSyntaxUID")
    if not syntax:
        raise InputError("does not say how it is encoded (no Transfer Syntax UID)", code="E_HEADER", path=path, fix=_RE_EXPORT)
    if syntax in _DEFLATED:
        raise InputError(
            f"is deflated ({_named(syntax)}), and its real size cannot be told in advance",
            code="E_LIMIT",
            path=path,
            fix="save it as Explicit VR Little Endian",
        )
    return UID(syntax)


def _pixel_element(dataset: Dataset, path: Path) -> str:
    """Keyword of the one element with pixels; a report, a PDF or a file cut inside its header has none."""
    found = [name for name in ("PixelData", *_FLOAT_ELEMENTS) if dataset.get(name)]
    if not found:
        kind = _named(dataset.SOPClassUID) if dataset.get("SOPClassUID") else "DICOM object of unknown class"
        raise InputError(
            f"is a {kind} without pixel data", code="E_NO_PIXELS", path=path, fix="give image objects only, or copy it again"
        )
    return found[0]


def _check_header(dataset: Dataset, element: str, path: Path, options: ReadOptions) -> int:
    """Number of frames of a header that is complete, consistent and within the limits."""
    needed = ["SOPClassUID", "Rows", "Columns", "SamplesPerPixel", "BitsAllocated"]
    if element == "PixelData":
        needed += ["BitsStored", "PixelRepresentation"]
    missing = [name for name in needed if dataset.get(name) in (None, "")]
    if missing:
        raise InputError(f"lacks {', '.join(missing)}", code="E_HEADER", path=path, fix=_RE_EXPORT)
    photometric = dataset.get("PhotometricInterpretation")
    if photometric not in _GRAY + _COLOR or (element in _FLOAT_ELEMENTS and photometric != "MONOCHROME2"):
        raise InputError(
            "does not say whether low values are dark (Photometric Interpretation is missing, unknown or impossible here)",
            code="E_PHOTOMETRIC",
            path=path,
            fix=_RE_EXPORT,
        )
    samples = 1 if photometric in (*_GRAY, "PALETTE COLOR") else 3
    allocated, stored = int(dataset.BitsAllocated), int(dataset.get("BitsStored") or dataset.BitsAllocated)
    bits_fit = allocated in (1, 8, 16, 32, 64) and 1 <= stored <= allocated and dataset.get("HighBit", stored - 1) == stored - 1
    if dataset.SamplesPerPixel != samples or not bits_fit or dataset.get("PixelRepresentation", 0) not in (0, 1):
        raise InputError("has samples or bits that contradict each other", code="E_HEADER", path=path, fix=_RE_EXPORT)
    frames = 1 if dataset.get("NumberOfFrames") is None else int(dataset.NumberOfFrames)
    bytes_per_pixel = samples * allocated / 8
    check_shape(path, int(dataset.Rows), int(dataset.Columns), options.limits, frames=frames, bytes_per_pixel=bytes_per_pixel)
    check_frame_count(path, frames, options.limits)
    return frames


def _decode(dataset: Dataset, element: str, syntax: UID, index: int, num_frames: int, path: Path) -> npt.NDArray[Any]:
    """(H, W[, 3]) stored values of one frame: the caller's own copy, never pydicom's cached array."""
    _check_codec(syntax, path)
    if syntax.is_compressed:
        _check_encapsulated_size(dataset, index, num_frames, path)
    else:
        _check_native_length(dataset, element, path)
    frame = np.array(pixel_array(dataset, index=index))
    if frame.shape[:2] != (dataset.Rows, dataset.Columns):
        raise InputError(f"decodes to shape {frame.shape}, unlike its header", code="E_MALFORMED", path=path, fix=_RE_EXPORT)
    return frame


def _check_codec(syntax: UID, path: Path) -> None:
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise InputError(
            f"is compressed as {_named(syntax)} ({syntax}), for which no decoder is installed",
            code="E_CODEC",
            path=path,
            fix="pip install pylibjpeg pylibjpeg-openjpeg pyjpegls python-gdcm, or decompress it",
        )


def _check_encapsulated_size(dataset: Dataset, index: int, num_frames: int, path: Path) -> None:
    """Refuse a code stream whose own size differs from Rows x Columns before it is decoded: it may be a bomb."""
    code_stream = get_frame(dataset.PixelData, index, number_of_frames=num_frames)
    size: tuple[int, int] | None
    try:
        with Image.open(io.BytesIO(code_stream), formats=["JPEG", "JPEG2000"]) as image:
            size = image.height, image.width
    except Image.UnidentifiedImageError:
        size = jpeg_ls_size(code_stream)
    # None: RLE, which has no size of its own.
    if size is not None and size != (dataset.Rows, dataset.Columns):
        raise InputError(
            f"says {dataset.Rows} x {dataset.Columns} but its code stream says {size[0]} x {size[1]}",
            code="E_MALFORMED",
            path=path,
            fix=_RE_EXPORT,
        )


def _check_native_length(dataset: Dataset, element: str, path: Path) -> None:
    """pydicom reads what is there: half the rows, or twice, without complaint."""
    expected, found = get_expected_length(dataset), len(dataset[element].value)
    if found < expected:
        raise InputError(
            f"has {found} of {expected} bytes of pixel data", code="E_TRUNCATED", path=path, fix="copy it again from the archive"
        )
    if found > expected + expected % 2:
        raise InputError(
            f"has {found} bytes of pixel data where its header needs {expected}", code="E_MALFORMED", path=path, fix=_RE_EXPORT
        )


def _color_planes(stored: npt.NDArray[Any], dataset: Dataset, photometric: str) -> tuple[Any, tuple[float, float]]:
    """(3, H, W) red, green, blue; pydicom has turned YBR into RGB, a palette is looked up here and its index never used."""
    high = 2.0 ** int(dataset.BitsStored) - 1
    if photometric == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
        high = float(np.iinfo(stored.dtype).max)
    return np.moveaxis(stored[..., :3], 2, 0).astype(np.float32), (0.0, high)


def _group(dataset: Dataset, index: int, keyword: str) -> Dataset:
    """Where a frame's attributes are: its own functional group, the shared one (enhanced objects), else the data set."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    for groups in (*per_frame[index : index + 1], *(dataset.get("SharedFunctionalGroupsSequence") or [])):
        if groups.get(keyword):
            return groups[keyword].value[0]
    return dataset


def _spacing(measures: Dataset) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """(row, column) spacing in mm, and what to know about it (PS3.3 section 10.7.1.3)."""
    for name, note in (
        ("PixelSpacing", None),
        ("ImagerPixelSpacing", "spacing is ImagerPixelSpacing, at the detector: in the patient it is smaller"),
    ):
        values = numbers_of(measures.get(name))
        if len(values) == 2 and all(math.isfinite(value) and value > 0 for value in values):
            return (values[0], values[1]), (() if note is None else (note,))
    return None, ()


def _content_notes(dataset: Dataset) -> tuple[str, ...]:
    """What the header tells about the picture itself."""
    notes = []
    if dataset.get("BurnedInAnnotation") == "YES":
        notes.append("BurnedInAnnotation is YES: text, perhaps identity, is part of the pixels")
    if dataset.get("PresentationLUTShape") == "INVERSE" and dataset.PhotometricInterpretation == "MONOCHROME2":
        notes.append("PresentationLUTShape INVERSE contradicts MONOCHROME2 and is not applied")
    padding = dataset.get("PixelPaddingValue")
    if isinstance(padding, int):
        notes.append(f"PixelPaddingValue {padding} is left in place")
    return tuple(notes)


def _named(uid: Any) -> str:
    """A UID's name in the standard; a private one is not repeated, as it may be made from a serial number or an id."""
    name = UID(uid).name
    return "a private class or syntax" if name == uid else str(name)

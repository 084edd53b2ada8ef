"""From stored DICOM values to brightness: modality LUT, then VOI, then MONOCHROME1 inversion (PS3.4 section N.2).

Written out here, not left to pydicom, because pydicom 3.0.2 ignores a slope without an intercept, inverts the window's output
under a negative slope, and wraps values beyond 255 in an 8-bit VOI LUT. Where it is right the results are equal (tested).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from medanomaly.errors import InputError
from medanomaly.io.options import ReadOptions

Float64Array = npt.NDArray[np.float64]
_MAX_LUT_ENTRIES = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """Values on their way to the screen, and the range they can take by the header, not by this image's extremes."""

    values: Float64Array
    """(H, W), any unit."""
    low: float
    high: float
    notes: tuple[str, ...] = ()


def stored_range(dataset: Dataset) -> tuple[float, float]:
    """Smallest and largest value BitsStored and PixelRepresentation allow (PS3.3 section C.7.6.3.1)."""
    bits = int(dataset.BitsStored)
    return (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if dataset.PixelRepresentation == 1 else (0.0, 2.0**bits - 1)


def apply_modality(display: Display, attributes: Dataset, path: Path) -> Display:
    """Modality LUT or rescale (PS3.3 section C.11.1): values in the modality's own unit.

    Args:
        display: stored values and their range.
        attributes: the data set, or the functional group of the frame, that holds the rescale or the LUT.
        path: the file, for the message.

    Returns:
        Rescaled values and range. A missing slope counts as 1 and a missing intercept as 0, with a note when only one is missing.

    Raises:
        InputError: E_RESCALE, the slope is 0, or slope or intercept is not one finite number; E_LUT, the LUT is unusable.
    """
    if attributes.get("ModalityLUTSequence"):
        return _look_up(display, attributes.ModalityLUTSequence[0], "modality LUT", path)
    slope, intercept = (_number(attributes, name, path) for name in ("RescaleSlope", "RescaleIntercept"))
    if slope is None and intercept is None:
        return display
    notes = display.notes
    if slope is None:
        notes, slope = (*notes, "RescaleSlope is missing and counts as 1"), 1.0
    if intercept is None:
        notes, intercept = (*notes, "RescaleIntercept is missing and counts as 0"), 0.0
    if slope == 0:
        raise InputError("has RescaleSlope 0, which erases the image", code="E_RESCALE", path=path, fix="export it again")
    ends = sorted((display.low * slope + intercept, display.high * slope + intercept))
    return Display(values=display.values * slope + intercept, low=ends[0], high=ends[1], notes=notes)


def apply_voi(display: Display, attributes: Dataset, path: Path, options: ReadOptions) -> Display:
    """VOI LUT, else window (PS3.3 section C.11.2), the view ``options.window_index`` of the file.

    A LUT sets the range to 0..2^bits - 1 of its entries. A window spreads its interval over the whole range of the rescaled
    values and clips the rest, so images of one detector stay comparable. A window that cannot be meant is left out with a note.

    Raises:
        InputError: E_WINDOW, there is no view of that index, or its function is unknown; E_LUT, the LUT is unusable.
    """
    if options.voi == "none":
        return display
    index = options.window_index
    if attributes.get("VOILUTSequence"):
        tables = attributes.VOILUTSequence
        _check_index(index, len(tables), "VOI LUTs", path)
        return _look_up(display, tables[index], "VOI LUT", path)
    centers, widths = numbers_of(attributes.get("WindowCenter")), numbers_of(attributes.get("WindowWidth"))
    if not centers and not widths:
        return _noted(display, "the file has no window: values are only rescaled")
    if len(centers) != len(widths):
        return _noted(display, "window centres and widths do not pair up: not applied")
    _check_index(index, len(centers), "windows", path)
    function = str(attributes.get("VOILUTFunction") or "LINEAR").upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise InputError("has a VOI LUT Function that is not known", code="E_WINDOW", path=path, fix="read it without VOI")
    center, width = centers[index], widths[index]
    smallest = 1.0 if function == "LINEAR" else math.ulp(0.0)
    if not (math.isfinite(center) and math.isfinite(width)) or width < smallest:
        return _noted(display, f"WindowWidth {width:g} with WindowCenter {center:g} is no window: not applied")
    share = _window(display.values, center, width, function)
    note = f"window applied: centre {center:g}, width {width:g}, {function}"
    return Display(
        values=share * (display.high - display.low) + display.low,
        low=display.low,
        high=display.high,
        notes=(*display.notes, note),
    )


def invert_monochrome1(display: Display) -> Display:
    """MONOCHROME1 shows low values bright; mirrored inside the known range, so all images of a detector stay comparable."""
    mirrored = display.low + display.high - display.values
    return Display(values=mirrored, low=display.low, high=display.high, notes=(*display.notes, "MONOCHROME1 inverted"))


def _window(values: Float64Array, center: float, width: float, function: str) -> Float64Array:
    """Share 0..1 of the output range (PS3.3 sections C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2)."""
    if function == "SIGMOID":
        # Beyond +-700 the share is 0 or 1 anyway and exp would overflow.
        shares: Float64Array = 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
        return shares
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if width == 0:  # a step
        return np.where(values <= center, 0.0, 1.0)
    return np.clip((values - center) / width + 0.5, 0, 1)


def _look_up(display: Display, item: Dataset, name: str, path: Path) -> Display:
    """Values through a LUT of PS3.3 section C.11.1.1.1: (entries, first value mapped, bits an entry) and the entries."""
    descriptor = item.get("LUTDescriptor")
    content = item.get("LUTData")
    if descriptor is None or len(descriptor) != 3 or content is None:
        raise InputError(f"has an incomplete {name}", code="E_LUT", path=path, fix="export it again, or read it without VOI")
    num_entries, first, bits = int(descriptor[0]) or _MAX_LUT_ENTRIES, int(descriptor[1]), int(descriptor[2])
    entries = lut_entries(content, num_entries, little_endian=item.original_encoding[1] is not False)
    if not 1 <= bits <= 16 or entries.size != num_entries or entries.max() >= 2**bits:
        raise InputError(f"has a {name} that contradicts its descriptor", code="E_LUT", path=path, fix="export it again")
    row = np.clip(np.round(display.values) - first, 0, num_entries - 1).astype(np.int64)
    return Display(values=entries[row], low=0.0, high=2.0**bits - 1, notes=(*display.notes, f"{name} applied"))


def lut_entries(content: Any, num_entries: int, *, little_endian: bool) -> Float64Array:
    """LUT data as numbers: a list of US, or bytes (OW) of two, or one where they are packed, an entry."""
    if not isinstance(content, bytes):
        return np.atleast_1d(np.asarray(content, dtype=np.float64))
    if len(content) == num_entries + num_entries % 2 and num_entries > 1:
        return np.frombuffer(content, np.uint8)[:num_entries].astype(np.float64)
    return np.frombuffer(content, "<u2" if little_endian else ">u2").astype(np.float64)


def _number(attributes: Dataset, name: str, path: Path) -> float | None:
    """The element's one finite number; None where it is absent or empty."""
    found = numbers_of(attributes.get(name))
    if not found:
        return None
    if len(found) > 1 or not math.isfinite(found[0]):
        raise InputError(f"has a {name} that is not one finite number", code="E_RESCALE", path=path, fix="export it again")
    return found[0]


def numbers_of(value: Any) -> list[float]:
    """An element's values (VM 0, 1 or n) as floats; what is not a number becomes NaN."""
    if value is None or value == "":
        return []
    values = [value] if isinstance(value, str | int | float) or not hasattr(value, "__iter__") else list(value)
    return [_float(each) for each in values]


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _check_index(index: int, count: int, what: str, path: Path) -> None:
    if index >= count:
        raise InputError(
            f"has {count} {what}, so number {index} does not exist", code="E_WINDOW", path=path, fix="choose another"
        )


def _noted(display: Display, note: str) -> Display:
    return Display(values=display.values, low=display.low, high=display.high, notes=(*display.notes, note))

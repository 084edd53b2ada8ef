"""One image of a data set as a small square PNG, with its mask; what can be decided before training is decided once."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from skimage.exposure import equalize_adapthist, equalize_hist

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.resample import Extent, Fit, boxes_lost, extent_of, resample, resample_mask
from medanomaly.datasets.transforms import NUM_COLOURS, PreprocessConfig, intensity_windows
from medanomaly.errors import ConfigError, InputError, MedanomalyError
from medanomaly.files import sha256_of
from medanomaly.io.options import ReadOptions
from medanomaly.io.reader import read_image, read_mask
from medanomaly.io.writers import write_png
from medanomaly.types import BoolArray, FloatArray, RawImage

MAX_SIZE_PX = 8192
CLIP_LIMIT, CLAHE_TILES, HISTOGRAM_BINS = 0.01, 8, 256
"""scikit-image's defaults: clip limit (share of a tile's pixels), tiles along each side, bins of the histogram."""
NARROW = 0.25
"""Share of the format's range below which an image is taken for one of fewer bits, e.g. 12 bits in a 16-bit PNG."""


@dataclass(frozen=True, kw_only=True)
class ResizeConfig:
    """What every image of a job becomes."""

    size: int = 256
    """Side of the square, px. Reduced by exact area averages, enlarged bilinearly."""
    fit: Fit = "pad"
    """pad = all of the image centred on black, crop = its centred square, stretch = all of it, out of proportion."""
    equalise: Literal["none", "clahe", "histogram"] = "none"
    """clahe = contrast-limited adaptive (8 x 8 tiles, clip limit 0.01), histogram = global; 256 bins, on the resized image without
    its padding. Of colour, the largest channel (HSV's value) is equalised and the others keep their ratio to it."""
    bits: Literal[8, 16] = 8
    """Of the PNG; 16 for gray only."""
    gray: bool = False
    """Turn colour into luma; otherwise colour stays colour."""
    frame: int | None = None
    """Which frame, page or slice of files that hold several."""

    def __post_init__(self) -> None:
        if not 1 <= self.size <= MAX_SIZE_PX:
            raise ConfigError(f"size must be in 1..{MAX_SIZE_PX} px, got {self.size}", code="E_CONFIG")
        for name, known in (("fit", ("pad", "stretch", "crop")), ("equalise", ("none", "clahe", "histogram")), ("bits", (8, 16))):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name} must be one of {', '.join(map(str, known))}, got {getattr(self, name)!r}", code="E_CONFIG"
                )
        if self.frame is not None and self.frame < 0:
            raise ConfigError(f"frame must be 0 or more, got {self.frame}", code="E_CONFIG")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One image to prepare, and where its results go."""

    record: Record
    image_out: str
    """Below the output folder, forward slashes."""
    mask_out: str | None = None
    """None = the record has no mask file."""
    is_mask: bool = False
    """The image itself is a mask: nearest neighbour, 0 and 255."""

    @property
    def outputs(self) -> list[str]:
        """Files that are there once it is done."""
        return [self.image_out] if self.mask_out is None else [self.image_out, self.mask_out]


def prepared(
    raw: RawImage, config: ResizeConfig, intensity_range: tuple[float, float] | None = None
) -> tuple[npt.NDArray[Any], Extent]:
    """The image as it will be stored.

    What becomes black and white: ``intensity_range``, else the range the format gives, else percentiles 0.5 and 99.5 of the
    image (of each channel but in colour): the rule of ``PreprocessConfig(intensity="auto")``. Values outside are clipped before
    they are averaged. Padding is black.

    Args:
        raw: pixels (C, H, W) finite, C = 1 or 3.
        intensity_range: (black, white) from the manifest, in the file's units.

    Returns:
        (S, S) gray or (S, S, 3) colour, uint8 or uint16 over the full range, and what part of the source it shows.

    Raises:
        InputError: E_CHANNELS, E_DEPTH (16 bits of colour) or E_LIMIT.
    """
    count = len(raw.pixels)
    if count not in (1, NUM_COLOURS):
        raise InputError(
            f"holds {count} channels; a PNG holds 1 or 3", code="E_CHANNELS", fix="train on it as it is: train resizes by itself"
        )
    if count == NUM_COLOURS and config.bits == 16:
        raise InputError("is a colour image, which is written with 8 bits", code="E_DEPTH", fix="use --bits 8 or --gray true")
    windows = intensity_windows(raw, PreprocessConfig(image_size=config.size, channels=count), intensity_range)
    extent = extent_of(raw.native_size, config.size, config.fit)
    planes = []
    for plane, (low, high) in zip(raw.pixels, windows, strict=True):
        clipped = plane if raw.value_range == (low, high) else np.clip(plane, np.float32(low), np.float32(high))
        (averaged,), inside = resample(clipped[None], extent)
        # Averages first, scale afterwards: linear, so the same, on far fewer pixels. Padding counts as ``low``.
        planes.append((averaged - np.float32(low) * inside) / np.float32(high - low) if low < high else np.zeros_like(averaged))
    values: FloatArray = np.stack(planes).clip(0, 1)  # (C, S, S) in [0, 1]
    if config.equalise != "none":
        values = equalised(values, inside, config.equalise)
    white, dtype = (255, np.uint8) if config.bits == 8 else (65535, np.uint16)
    stored = np.rint(values.astype(np.float64) * white).astype(dtype)
    return (stored[0] if count == 1 else np.moveaxis(stored, 0, 2)), extent


def equalised(values: FloatArray, inside: FloatArray, method: Literal["clahe", "histogram"]) -> FloatArray:
    """Contrast equalised where the image is; padding and constant images stay as they are.

    Args:
        values: (C, S, S) in [0, 1].
        inside: (S, S), 0 where there is only padding.
        method: CLAHE (Zuiderveld 1994, Graphics Gems IV) or global, both as scikit-image computes them.
    """
    rows, columns = (np.flatnonzero(inside.max(axis=axis) > 0) for axis in (1, 0))
    here = np.s_[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    part = values[here]
    brightness = part.max(axis=0)  # (h, w)
    if brightness.min() == brightness.max():
        return values
    if method == "clahe":
        tile = tuple(max(1, side // CLAHE_TILES) for side in brightness.shape)
        wanted = equalize_adapthist(brightness, kernel_size=tile, clip_limit=CLIP_LIMIT, nbins=HISTOGRAM_BINS)
    else:
        wanted = equalize_hist(brightness, nbins=HISTOGRAM_BINS)
    result = values.copy()
    # A black pixel has no colour to keep: all its channels take the new brightness.
    ratio = np.divide(part, brightness, out=np.ones_like(part), where=brightness > 0)
    result[here] = (ratio * wanted).clip(0, 1)
    return result


def prepare_file(work: Work, out: Path, config: ResizeConfig) -> dict[str, Any]:
    """Read one image and its mask, write both below ``out``, and return what the report says of it.

    Raises:
        InputError: the image or the mask cannot be used; neither is written then.
        ResourceError: the output cannot be written.
    """
    record = work.record
    mask: BoolArray | None = None
    notes: tuple[str, ...] = ()
    if work.is_mask:
        lesion = read_mask(record.image, frame=config.frame)
        stored: npt.NDArray[Any] = resample_mask(lesion, extent_of((lesion.shape[0], lesion.shape[1]), config.size, config.fit))
        native_size, spacing = (int(lesion.shape[0]), int(lesion.shape[1])), record.spacing_mm
        notes = lost(lesion, stored)
    else:
        channels = 1 if config.gray else None
        raw = read_image(record.image, ReadOptions(channels=channels, allow_color=config.gray, frame=config.frame))
        notes = raw.notes + narrow(raw, config, record.intensity_range)
        stored, extent = prepared(raw, config, record.intensity_range)
        native_size, spacing = raw.native_size, raw.spacing_mm or record.spacing_mm
        notes += boxes_lost(record.boxes, extent)
        if record.mask is not None:
            lesion = read_mask(record.mask, native_size, image_path=record.image, frame=config.frame)
            mask = resample_mask(lesion, extent)
            notes += lost(lesion, mask)
    write_png(out / work.image_out, stored)
    if work.mask_out is not None and mask is not None:
        write_png(out / work.mask_out, mask)
    return {
        "status": "ok",
        "reason_code": "",
        "message": "; ".join(notes),
        "outputs": work.outputs,
        "sha256_in": sha256_of(record.image),
        "native_size": list(native_size),
        "spacing_mm": None if spacing is None else list(spacing),
    }


def narrow(raw: RawImage, config: ResizeConfig, intensity_range: tuple[float, float] | None) -> tuple[str, ...]:
    """A note where an image lies in the lowest (inverted: the highest) quarter of its format's range, and 8 bits lose levels of it.

    Quiet where the manifest gives the range, the format knows none (floats), the source has 8 bits, or every level is kept.

    Raises:
        InputError: E_RANGE, the output has 8 bits and is not equalised, which would spread the levels before they are rounded.
    """
    if intensity_range is not None or raw.value_range in (None, (0, 255)) or not np.isfinite(raw.pixels).all():
        return ()
    low, high = raw.value_range
    least, most = float(raw.pixels.min()), float(raw.pixels.max())
    if most >= low + NARROW * (high - low) and least <= high - NARROW * (high - low):
        return ()
    levels = np.unique(raw.pixels).astype(np.float64)
    num_left = len(np.unique(np.rint((levels - low) / (high - low) * 255)))
    if num_left == len(levels):
        return ()
    said = f"uses only {least:.9g}..{most:.9g} of {low:.9g}..{high:.9g}"
    if config.bits == 8 and config.equalise == "none":
        raise InputError(
            f"{said}: 8 bits would leave {num_left} gray levels",
            code="E_RANGE",
            fix="--bits 16, or give intensity_low and intensity_high in a manifest",
        )
    return (f"W_RANGE: {said}; intensity_low and intensity_high in a manifest would say what is black and white",)


def lost(before: BoolArray, after: npt.NDArray[Any]) -> tuple[str, ...]:
    """A note where a lesion is too small for the new grid."""
    return (f"W_LESION_LOST: {int(before.sum())} px of lesion, none left",) if before.any() and not after.any() else ()


def stamps_of(work: Work) -> list[list[int]]:
    """[bytes, time of change in ns] of the image and of its mask: what tells a file that was changed since.

    Raises:
        OSError: one is not there.
    """
    files = [file for file in (work.record.image, work.record.mask) if file is not None]
    return [[status.st_size, status.st_mtime_ns] for status in map(os.stat, files)]


def attempt(work: Work, out: Path, config: ResizeConfig) -> dict[str, Any]:
    """As :func:`prepare_file`, with every failure as a line of its own: exceptions of ours do not travel between processes.

    A failed line carries ``error``: the parts of the exception (message, code, fix, exit_code).
    """
    started = time.perf_counter()
    facts: Mapping[str, Any]
    try:
        stamps = stamps_of(work)
        facts = {**prepare_file(work, out, config), "stamps": stamps}
    except MedanomalyError as error:
        facts = failed(error.message, error.code, error.fix, error.exit_code)
    except FileNotFoundError:
        facts = failed("does not exist", "E_NOT_FOUND", "check the path", InputError.exit_code)
    except (Exception, RecursionError, MemoryError) as error:
        facts = failed(f"cannot be read ({type(error).__name__})", "E_UNREADABLE", "check the file", InputError.exit_code)
    return {**facts, "seconds": time.perf_counter() - started}


def failed(message: str, code: str, fix: str, exit_code: int) -> dict[str, Any]:
    """The line of an image that could not be done."""
    error = {"message": message, "code": code, "fix": fix, "exit_code": exit_code}
    return {"status": "failed", "reason_code": code, "outputs": [], "sha256_in": "", "error": error}

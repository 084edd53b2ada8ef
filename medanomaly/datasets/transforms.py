"""The only way into model space and back: scale to [-1, 1], pad to a square, resize; then resize, crop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import ScaleIntensityRange, SpatialPad
from torch import Tensor

from medanomaly.errors import ConfigError, InputError
from medanomaly.types import FloatArray, Geometry, RawImage

MAX_SIDE_PX = 8192
"""Longest native side accepted: the padded square has the square of it in pixels, however thin the image is."""
NUM_COLOURS = 3
"""Channels of a colour image; every other number is of planes that are not colours of one picture."""


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """How an image becomes what the network sees; stored in the checkpoint, so inference repeats training's choice."""

    image_size: int
    """Side of the square the network sees, px."""
    channels: int = 1
    """1 = gray, 3 = colour (red, green, blue); another number = planes with a unit each, e.g. four MRI sequences."""
    intensity: Literal["auto", "range", "percentile"] = "auto"
    """What becomes -1 and 1: "auto" = the manifest's intensity columns, else what the format calls black and white, else
    percentiles of the image; "range" = low and high below; "percentile" = percentiles of the image, always. Percentiles are
    those of all three planes of a colour image together, which keeps its colours, and of each channel by itself where their
    number is not 3: MRI sequences have unrelated units. One range given is for all channels."""
    low: float | None = None
    """Value that becomes -1, in the file's units; only with intensity="range"."""
    high: float | None = None
    """Value that becomes 1, in the file's units; only with intensity="range"."""
    percentiles: tuple[float, float] = (0.5, 99.5)
    """Percentiles, 0..100, that become -1 and 1; the tails are clipped."""
    pad_value: float = -1.0
    """What fills the square beside the image, in model space."""

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ConfigError(f"image_size must be at least 1 px, got {self.image_size}", code="E_CONFIG")
        if self.channels < 1:
            raise ConfigError(
                f"channels must be 1 (gray), 3 (colour) or another number of planes, got {self.channels}", code="E_CONFIG"
            )
        if self.intensity not in ("auto", "range", "percentile"):
            raise ConfigError(f"intensity must be 'auto', 'range' or 'percentile', got {self.intensity!r}", code="E_CONFIG")
        given = (self.low is not None, self.high is not None)
        if given != ((self.intensity == "range"),) * 2:
            raise ConfigError(
                f"low and high belong to intensity='range' and only to it, got intensity={self.intensity!r}, "
                f"low={self.low}, high={self.high}",
                code="E_CONFIG",
                fix="give both with intensity='range', or neither",
            )
        if self.low is not None and self.high is not None and not -np.inf < self.low < self.high < np.inf:
            raise ConfigError(f"low must be below high and both finite, got {self.low}, {self.high}", code="E_CONFIG")
        if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ConfigError(f"percentiles must rise within 0..100, got {self.percentiles}", code="E_CONFIG")
        if not -1 <= self.pad_value <= 1:
            raise ConfigError(f"pad_value must be in [-1, 1], got {self.pad_value}", code="E_CONFIG")


def to_model(
    raw: RawImage, config: PreprocessConfig, intensity_range: tuple[float, float] | None = None
) -> tuple[Tensor, Geometry]:
    """The image in model space and the way back.

    Steps: values are scaled linearly and clipped (:func:`intensity_windows`, :func:`scale_to_model`); the image is padded to
    a centred square; the square is resized to ``config.image_size`` by antialiased bilinear interpolation. MONAI's
    ``Resize(anti_aliasing=True)`` is not used: it smooths as if zeros lay beyond the border (MONAI 1.6.1: a constant 1 comes
    back with corners of 0.80), which in model space paints a gray frame on a black image. An image that is a square of that
    size already is scaled and not resampled.

    Args:
        raw: pixels (C, H, W) finite, C = config.channels, H and W in 1..8192 px.
        config: size, channels and intensity.
        intensity_range: (black, white) from the manifest, in the file's units; used by intensity="auto" only.

    Returns:
        x (C, S, S) float32 in [-1, 1], S = config.image_size, sharing no memory with ``raw``; and its :class:`Geometry`.

    Raises:
        InputError: E_CHANNELS, E_LIMIT, E_HEADER (no pixels) or E_NONFINITE.
    """
    pixels = raw.pixels
    if pixels.ndim != 3 or pixels.shape[0] != config.channels:
        raise InputError(
            f"pixels must be ({config.channels}, rows, columns), got {pixels.shape}",
            code="E_CHANNELS",
            fix="read the image with as many channels as the model was trained on",
        )
    rows, columns = raw.native_size
    side, size = max(rows, columns), config.image_size
    if min(rows, columns) < 1:
        raise InputError(f"the image has no pixels ({rows} x {columns})", code="E_HEADER")
    if side > MAX_SIDE_PX:
        raise InputError(
            f"the image is {rows} x {columns} px; the longest side may be {MAX_SIDE_PX}", code="E_LIMIT", fix="crop or resize it"
        )
    x = scale_to_model(pixels, intensity_windows(raw, config, intensity_range))  # (C, H, W)
    if rows != columns:
        x = SpatialPad((side, side), mode="constant", value=config.pad_value)(x).as_tensor()  # (C, side, side)
    if side != size:
        x = resize(x, size).clamp(-1, 1)  # (C, S, S)
    geometry = Geometry(
        native_size=(rows, columns), pad_before=((side - rows) // 2, (side - columns) // 2), model_size=config.image_size
    )
    return x, geometry


def intensity_windows(
    raw: RawImage, config: PreprocessConfig, intensity_range: tuple[float, float] | None = None
) -> tuple[tuple[float, float], ...]:
    """(low, high) of each channel in the file's units that become -1 and 1; equal only for constant pixels of unknown range.

    All channels have the same, but for the percentiles of images that are not colour (see :class:`PreprocessConfig`).
    Percentiles that coincide fall back to minimum and maximum: on an image that is black but for a few pixels, those few may
    be the lesion.
    """
    if not np.isfinite(raw.pixels).all():
        count = int(np.size(raw.pixels) - np.isfinite(raw.pixels).sum())
        raise InputError(
            f"{count} pixels are NaN or infinite", code="E_NONFINITE", fix="repair the file or give a value for them"
        )
    count = len(raw.pixels)
    if config.low is not None and config.high is not None:
        return ((config.low, config.high),) * count
    if config.intensity == "auto" and intensity_range is not None:
        return (intensity_range,) * count
    if config.intensity == "auto" and raw.value_range is not None:
        return (raw.value_range,) * count
    if count == NUM_COLOURS:
        return (_percentile_window(raw.pixels, config.percentiles),) * count
    return tuple(_percentile_window(plane, config.percentiles) for plane in raw.pixels)


def _percentile_window(values: FloatArray, percentiles: tuple[float, float]) -> tuple[float, float]:
    low, high = (float(value) for value in np.percentile(values, percentiles))
    return (low, high) if low < high else (float(values.min()), float(values.max()))


def scale_to_model(pixels: FloatArray, windows: Sequence[tuple[float, float]]) -> Tensor:
    """(C, H, W) float32 tensor of (C, H, W) pixels, channel c by its window (:func:`scale_plane`)."""
    return torch.stack([scale_plane(plane, low, high) for plane, (low, high) in zip(pixels, windows, strict=True)])


def scale_plane(pixels: FloatArray, low: float, high: float) -> Tensor:
    """Float32 tensor of the same shape: low -> -1, high -> 1, linear between, clipped; all -1 where ``low >= high``.

    Computed in float64: 16-bit steps stay distinct, and no finite input overflows. MONAI's own answer to ``low == high`` is
    not used: it leaves values outside [-1, 1].
    """
    if low >= high:
        return torch.full(pixels.shape, -1.0, dtype=torch.float32)
    scale = ScaleIntensityRange(a_min=low, a_max=high, b_min=-1.0, b_max=1.0, clip=True)
    scaled: Tensor = scale(torch.from_numpy(pixels.astype(np.float64))).as_tensor()
    return scaled


def to_native(x: Tensor, geometry: Geometry) -> FloatArray:
    """A map or image of the model, back at the rows and columns of its source; the padding is cut off, so no metric sees it.

    Args:
        x: (C, S, S) float, S = geometry.model_size, on any device; values keep their scale.
        geometry: what :func:`to_model` returned for the image.

    Returns:
        (C, H, W) float32: resized to the padded square (bilinear; antialiased where that is a
        reduction), then cropped. Bit for bit ``x`` where the source is S x S.

    Raises:
        ValueError: x is not (C, S, S).
    """
    size, side = geometry.model_size, geometry.square_side
    if x.ndim != 3 or tuple(x.shape[1:]) != (size, size):
        raise ValueError(f"x must be (C, {size}, {size}), got {tuple(x.shape)}; give one image of the batch, x[i]")
    square = x.detach().to(torch.float32)
    if side != size:
        square = resize(square, side)  # (C, side, side)
    (rows, columns), (top, left) = geometry.native_size, geometry.pad_before
    native: FloatArray = square[:, top : top + rows, left : left + columns].cpu().numpy().copy()
    return native


def resize(x: Tensor, size: int) -> Tensor:
    """(C, S, S) -> (C, size, size): bilinear on pixel centres, widened to the source pixels covered when reducing."""
    return F.interpolate(x[None], size=(size, size), mode="bilinear", align_corners=False, antialias=True)[0]

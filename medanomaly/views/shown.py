"""What a person is shown of an image: gray as gray, colour in colour, of other channels the first; marks stand on gray only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from medanomaly.types import FloatArray
from medanomaly.views.canvas import RgbArray
from medanomaly.views.checks import check_image, check_plane

_COLOURS = 3


def to_gray8(pixels: FloatArray) -> npt.NDArray[np.uint8]:
    """Model space to display: -1 is black (0), 1 is white (255), what lies outside is clipped and never wraps.

    Args:
        pixels: (H, W) float, nominally in [-1, 1].

    Returns:
        (H, W) uint8.

    Raises:
        InputError: not two-dimensional, empty, or not finite.
    """
    check_plane(pixels, "pixels")
    return np.rint((np.clip(pixels.astype(np.float64), -1, 1) + 1) * 127.5).astype(np.uint8)


def picture(pixels: FloatArray) -> npt.NDArray[np.uint8]:
    """The image by itself: (H, W, 3) uint8 of three channels, which are red, green, blue; else (H, W) uint8 of the first channel.

    Args:
        pixels: (C, H, W) in [-1, 1], or (H, W) gray.

    Raises:
        InputError: another shape, empty, or not finite.
    """
    check_image(pixels, "pixels")
    planes = pixels[None] if pixels.ndim == 2 else pixels
    if len(planes) == _COLOURS:
        return np.stack([to_gray8(plane) for plane in planes], axis=-1)
    return to_gray8(planes[0])


def ground(pixels: FloatArray) -> npt.NDArray[np.uint8]:
    """(H, W) uint8 to lay a map or a contour on: colour as its luma (ITU-R BT.601), else as :func:`picture`.

    Red tissue under a map that runs from purple to yellow would pass for anomaly. On gray all colour is a mark.
    """
    shown = picture(pixels)
    return shown if shown.ndim == 2 else np.asarray(Image.fromarray(shown).convert("L"))


def in_rgb(image: npt.NDArray[np.uint8]) -> RgbArray:
    """(H, W, 3) of (H, W) gray, colour as it is."""
    return np.repeat(image[..., None], 3, axis=-1) if image.ndim == 2 else image


def shown_channel(num_channels: int) -> str:
    """What a page must say of its pictures: "channel 1 of 4 shown"; "" where the whole image is shown."""
    return "" if num_channels in (1, _COLOURS) else f"channel 1 of {num_channels} shown"


def map_unit(unit: str, num_channels: int) -> str:
    """Unit of a map that is a sum over channels: what one channel gives, and how many were summed."""
    return unit if num_channels == 1 else f"{unit} ({num_channels} channels summed)"

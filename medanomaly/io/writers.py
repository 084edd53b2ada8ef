"""Plain files out: PNG for eyes, npy for numbers; whole or not at all, and never with a cast that wraps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from medanomaly.files import atomic_write
from medanomaly.types import FloatArray


def write_png(path: Path, pixels: npt.NDArray[Any]) -> None:
    """Lossless PNG of exactly these values.

    Args:
        path: replaced when it exists, only once the new file is complete.
        pixels: uint8 (H, W) gray, uint16 (H, W) gray, uint8 (H, W, 3) RGB, or bool (H, W) mask, saved as 0 and 255.

    Raises:
        TypeError: another dtype. Floats are not rounded here: choose the scale, clip and cast where the meaning is known.
        ValueError: another shape, or a side of 0.
        ResourceError: the file cannot be written.
    """
    if pixels.dtype not in (np.uint8, np.uint16, np.bool_):
        raise TypeError(f"pixels must be uint8, uint16 or bool, got {pixels.dtype}; scale, clip and cast them first")
    is_rgb = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8
    if not (pixels.ndim == 2 or is_rgb) or 0 in pixels.shape:
        raise ValueError(f"pixels must be (H, W), or (H, W, 3) uint8, with H and W at least 1, got {pixels.shape} {pixels.dtype}")
    if pixels.dtype == np.bool_:
        pixels = np.where(pixels, np.uint8(255), np.uint8(0))
    image = Image.fromarray(np.ascontiguousarray(pixels))
    with atomic_write(path) as stream:
        image.save(stream, format="PNG")


def write_npy(path: Path, array: FloatArray) -> None:
    """float32 array of any shape as ``.npy``, format version 1, without pickle.

    Args:
        path: replaced when it exists, only once the new file is complete.
        array: float32; saved in C order.

    Raises:
        TypeError: another dtype.
        ResourceError: the file cannot be written.
    """
    if array.dtype != np.float32:
        raise TypeError(f"array must be float32, got {array.dtype}; cast it first")
    with atomic_write(path) as stream:
        np.lib.format.write_array(stream, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)

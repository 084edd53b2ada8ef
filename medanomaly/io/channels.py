"""From the planes a file holds to the planes the caller asked for, without guessing whether colour may be dropped."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medanomaly.errors import InputError
from medanomaly.io.options import ReadOptions
from medanomaly.types import FloatArray

LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""Red, green, blue shares of luma E'_Y (ITU-R BT.601-7, section 2.5.1)."""


def to_channels(planes: FloatArray, options: ReadOptions, path: Path) -> tuple[FloatArray, tuple[str, ...]]:
    """Planes as asked for, and what was done to get them.

    Args:
        planes: (1, H, W) gray, (3, H, W) red, green, blue, or (C, H, W) of an array or a NIfTI file; any range.
        options: ``channels`` and ``allow_color``.
        path: the file, for the message.

    Returns:
        (channels, H, W) float32 in the same range, and notes. Gray becomes three equal planes for three channels; colour with
        three equal planes is gray: nothing is lost. No other number of planes is turned into another.

    Raises:
        InputError: E_COLOR, true colour where one channel was asked for and colour was not allowed; E_CHANNELS, another
            number of planes than was asked for.
    """
    wanted, held = options.channels, len(planes)
    if wanted is None or wanted == held:
        return planes, ()
    if (held, wanted) == (1, 3):
        return np.repeat(planes, 3, axis=0), ("gray, repeated in 3 channels",)
    if (held, wanted) != (3, 1):
        raise InputError(
            f"holds {held} channel{'' if held == 1 else 's'} where {wanted} {'is' if wanted == 1 else 'are'} needed",
            code="E_CHANNELS",
            path=path,
            fix=f"give images with {wanted}, or use a model trained with preprocess.channels {held}",
        )
    if all(np.array_equal(planes[0], plane, equal_nan=True) for plane in planes[1:]):
        return planes[:1].copy(), ("colour with equal planes, read as gray",)
    if not options.allow_color:
        raise InputError(
            "is a colour image where a gray one is needed",
            code="E_COLOR",
            path=path,
            fix="allow colour to read its luma, convert it to gray, or use a model trained with preprocess.channels 3",
        )
    luma = np.tensordot(np.asarray(LUMA_WEIGHTS, np.float32), planes, axes=1)[None].astype(np.float32)
    return luma, ("colour turned into luma (ITU-R BT.601)",)

"""Where a radiograph carries lettering: the side marker and what was typed beside it, which no colour may cover."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medanomaly.types import BoolArray

LEAST_SIDE_PX = 400
"""Below it ribs are as steep, pixel for pixel, as letters are, and none is told apart."""

# Measured on five openly licensed films of 512 to 1955 px: letters stand 0.31 to 0.70 of the range above their
# surroundings and rise by 0.33 to 0.46 of it a pixel, clips by 0.28 and more; ribs and folds near the margin by 0.04 to 0.18.
_STROKE_SHARE, _LEAST_CONTRAST, _LEAST_SHARPNESS = 0.035, 0.2, 0.25
_LEAST_LENGTH, _LEAST_BREADTH, _MOST_LENGTH = 0.012, 0.008, 0.1
_MARGIN_SHARE = 0.2
_TOUCHING = np.ones((3, 3), dtype=bool)


def side_markers(gray: npt.NDArray[np.uint8]) -> BoolArray:
    """(H, W) True on thin, bright, sharply cut strokes in the outer fifth of the picture, one pixel of their rim included.

    A letter is narrower than 3.5 % of the shorter side (white top-hat, Soille 2003, Morphological Image Analysis, section 4.5), at most
    10 % of it long, and steeper at its edge than anything that X-rays have passed through. A metal clip at the margin counts as one.

    Args:
        gray: (H, W) uint8 of a radiograph; under 400 px a side nothing is found.
    """
    side = min(gray.shape)
    found = np.zeros(gray.shape, dtype=bool)
    if side < LEAST_SIDE_PX:
        return found
    level = gray.astype(np.float32) / 255
    raised = ndimage.white_tophat(level, size=round(_STROKE_SHARE * side) | 1)
    # Rise a pixel, Beucher's gradient: the central difference would be blind on top of a stroke one pixel wide.
    steepness = ndimage.morphological_gradient(level, size=3) / 2
    pieces, _ = ndimage.label(raised >= _LEAST_CONTRAST, _TOUCHING)
    for index, place in enumerate(ndimage.find_objects(pieces), start=1):
        if not (_at_the_margin(place, gray.shape) and _as_large_as_a_letter(place, side)):
            continue
        piece = pieces[place] == index
        rim = piece & ~ndimage.binary_erosion(piece)
        if np.median(steepness[place][rim]) >= _LEAST_SHARPNESS * np.percentile(raised[place][piece], 90):
            found[place] |= piece
    return np.asarray(ndimage.binary_dilation(found, _TOUCHING), dtype=bool)


def _at_the_margin(place: tuple[slice, slice], shape: tuple[int, ...]) -> bool:
    middles = [(along.start + along.stop) / 2 / length for along, length in zip(place, shape, strict=True)]
    return any(not _MARGIN_SHARE <= middle <= 1 - _MARGIN_SHARE for middle in middles)


def _as_large_as_a_letter(place: tuple[slice, slice], side: int) -> bool:
    shorter, longer = sorted(along.stop - along.start for along in place)
    return bool(shorter >= _LEAST_BREADTH * side and _LEAST_LENGTH * side <= longer <= _MOST_LENGTH * side)

"""A GIF of images as they form: x_t and the predicted clean image of a few, level by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from medanomaly.errors import ConfigError, InputError
from medanomaly.types import FloatArray
from medanomaly.views.animation import MAX_BYTES, encoded
from medanomaly.views.canvas import DIM_TEXT, RgbArray, blank, pixels_of, put_text, wrapped
from medanomaly.views.shown import in_rgb, picture

MOST_FRAMES = 40
MOST_ROWS = 5
PER_ROW = 3
"""Images of a label that are shown."""
_CELL_PX = 64
_MARGIN, _GAP, _TOP, _FOOT, _NAME = 12, 4, 52, 26, 84


@dataclass(frozen=True, slots=True, kw_only=True)
class FormingStep:
    """What the images of one label were at one level."""

    level: int
    """0..T, that was reached."""
    x_t: FloatArray
    """(n, C, H, W), n at most ``PER_ROW``; nominally in [-1, 1] at level 0, wider above."""
    x_0: FloatArray
    """(n, C, H, W) predicted clean images."""


class ReverseRecorder:
    """A WalkObserver that keeps the first images of a batch, at the end and at evenly spaced steps."""

    def __init__(self, num_steps: int) -> None:
        self.every = max(1, -(-num_steps // MOST_FRAMES))
        self.num_seen = 0
        self.steps: list[FormingStep] = []

    def __call__(self, level: int, x_t: Tensor, x_0: Tensor) -> None:
        """Copy what is shown."""
        if self.num_seen % self.every == 0 or level == 0:
            first, second = (one[:PER_ROW].detach().cpu().float().numpy().copy() for one in (x_t, x_0))
            self.steps.append(FormingStep(level=level, x_t=first, x_0=second))
        self.num_seen += 1


def reverse_gif(rows: Sequence[tuple[str, Sequence[FormingStep]]], *, title: str, max_bytes: int = MAX_BYTES) -> bytes:
    """The rows, each a label with its steps, as an endless GIF whose last frame stays longer.

    Gray images are shown in 256 grays, colour images in 256 colours that all frames share. Where the file would be too large, frames
    are left out evenly, the last one never.

    Args:
        rows: at most ``MOST_ROWS`` are shown; all with the same levels.
        title: first line of each frame, before the level.
        max_bytes: of the file.

    Raises:
        InputError: E_EMPTY, no step.
        ConfigError: E_LIMIT, not even the first and the last frame fit.
    """
    if not rows or not all(steps for _, steps in rows):
        raise InputError("no step to show", code="E_EMPTY", fix="record a walk first")
    shown = rows[:MOST_ROWS]
    count = min(len(steps) for _, steps in shown)
    frames = [
        frame([(name, steps[index]) for name, steps in shown], title=f"{title}, level {shown[0][1][index].level}")
        for index in range(count)
    ]
    is_colour = shown[0][1][0].x_0.shape[1] == len("RGB")
    images = in_palette(frames) if is_colour else [Image.fromarray(one).convert("L") for one in frames]
    for stride in (1, 2, 3, 4, 6, 8, 12, 16, len(frames)):
        content = encoded([*images[:-1:stride], images[-1]])
        if len(content) <= max_bytes:
            return content
    raise ConfigError(f"two frames take more than {max_bytes} bytes", code="E_LIMIT", fix="allow more bytes")


def frame(rows: Sequence[tuple[str, FormingStep]], *, title: str) -> RgbArray:
    """(H, W, 3) uint8: a row for each label, x_t at the left and the predicted x_0 at the right, clipped to [-1, 1]."""
    pictures = [[[cell(image) for image in images] for images in (step.x_t, step.x_0)] for _, step in rows]
    height, width = pictures[0][0][0].shape[:2]
    columns = max(len(images) for pair in pictures for images in pair)
    block = columns * (width + _GAP)
    lefts = (_MARGIN + _NAME, _MARGIN + _NAME + block + 3 * _GAP)
    figure = blank(max(lefts[1] + block + _MARGIN, 440), _TOP + len(rows) * (height + _GAP) + _FOOT, ground=(0, 0, 0))
    put_text(figure, _MARGIN, 8, title, size_px=15, weight="bold")
    for left, heading in zip(lefts, ("x_t", "predicted x_0"), strict=True):
        put_text(figure, left, _TOP - 18, heading, size_px=12, colour=DIM_TEXT)
    foot = _TOP + len(rows) * (height + _GAP) + 6
    put_text(figure, _MARGIN, foot, "Generated images, of no patient. Not for diagnosis.", size_px=11, colour=DIM_TEXT)
    for index, (name, _) in enumerate(rows):
        said = wrapped(name, width_px=_NAME - 8, lines=3, size_px=12)
        put_text(figure, _MARGIN, _TOP + index * (height + _GAP) + 2, said, size_px=12)
    page = pixels_of(figure)
    for index, pair in enumerate(pictures):
        top = _TOP + index * (height + _GAP)
        for left, images in zip(lefts, pair, strict=True):
            for column, image in enumerate(images):
                x = left + column * (width + _GAP)
                page[top : top + height, x : x + width] = image
    return page


def cell(image: FloatArray) -> RgbArray:
    """(H, W, 3) uint8 about 64 px high, by a whole factor: larger images are averaged down."""
    finite = np.nan_to_num(np.clip(image, -1, 1), nan=-1.0)
    shown = in_rgb(picture(finite))
    side = shown.shape[0]
    if side < _CELL_PX:
        factor = -(-_CELL_PX // side)
        return np.ascontiguousarray(shown.repeat(factor, axis=0).repeat(factor, axis=1))
    factor = max(1, side // (2 * _CELL_PX))
    small = Image.fromarray(np.ascontiguousarray(shown)).resize((shown.shape[1] // factor, side // factor), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.uint8)


def in_palette(frames: Sequence[RgbArray]) -> list[Image.Image]:
    """The frames in the 256 colours that render the last and the middle one best; without dithering, which would look like noise."""
    palette = Image.fromarray(np.concatenate([frames[len(frames) // 2], frames[-1]])).quantize(256, Image.Quantize.MEDIANCUT)
    return [Image.fromarray(one).quantize(palette=palette, dither=Image.Dither.NONE) for one in frames]

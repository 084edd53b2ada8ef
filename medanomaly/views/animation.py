"""A GIF of one walk: x_t, the predicted clean image and the map between it and the input, level by level, on fixed scales."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image
from torch import Tensor

from medanomaly.errors import ConfigError, InputError
from medanomaly.types import FloatArray
from medanomaly.views.canvas import DIM_TEXT, RgbArray, blank, pixels_of, put_text, wrapped
from medanomaly.views.overlay import COLOUR_MAP, map_colours
from medanomaly.views.shown import ground, in_rgb

FRAME_MS, LAST_MS = 120, 2500
MAX_BYTES = 3_000_000
_MARGIN, _GAP, _TOP, _FOOT = 14, 8, 62, 24
_CELL_PX = 192


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkStep:
    """What a walk showed at one level."""

    level: int
    """0..T; the level that was reached."""
    is_encoding: bool
    """True on the way up."""
    x_t: FloatArray
    """(C, H, W), nominally in [-1, 1] at level 0, wider above."""
    x_0: FloatArray
    """(C, H, W) predicted clean image."""


class WalkRecorder:
    """A WalkObserver that keeps the first image of the batch at each level."""

    def __init__(self) -> None:
        self.steps: list[WalkStep] = []

    def __call__(self, level: int, x_t: Tensor, x_0: Tensor) -> None:
        """Copy the first image; up or down is told by the level before, the first step of a walk that starts at 0 is up."""
        before = self.steps[-1].level if self.steps else 0
        first = [one[0].detach().cpu().float().numpy().copy() for one in (x_t, x_0)]
        self.steps.append(WalkStep(level=level, is_encoding=level > before, x_t=first[0], x_0=first[1]))


def walk_gif(
    x: FloatArray,
    steps: Sequence[WalkStep],
    *,
    final_map: FloatArray,
    pseudo_healthy: FloatArray,
    scale_max: float,
    unit: str,
    forming: Callable[[FloatArray], FloatArray],
    max_bytes: int = MAX_BYTES,
) -> bytes:
    """The walk as an endless GIF whose last frame, the result, stays longer.

    Every frame has the same palette, half of it gray and half the map's colours, and the same scales: what flickers is the image.
    Where the file would be too large, frames are left out evenly, the last one never.

    Args:
        x: (C, H, W) in [-1, 1], the input as the network saw it.
        steps: in the order of the walk.
        final_map: (H, W) >= 0, the method's finished map.
        pseudo_healthy: (C, H, W) in [-1, 1].
        scale_max: value of the brightest colour of all maps.
        unit: what the map's numbers are.
        forming: predicted clean image (C, H, W) -> its (H, W) map against the input, as the method compares the two.
        max_bytes: of the file.

    Raises:
        InputError: no step.
        ConfigError: E_LIMIT, not even one frame and the result fit into ``max_bytes``.
    """
    if not steps:
        raise InputError("the walk has no step to show", code="E_EMPTY", fix="use a method that walks between noise levels")
    top = max(step.level for step in steps)
    frames = [
        frame(
            [step.x_t, step.x_0],
            forming(step.x_0),
            title=f"{'encode: up' if step.is_encoding else 'decode: down'} to level {step.level} of {top}",
            headings=("x_t", "predicted x_0", "input against x_0"),
            scale_max=scale_max,
            unit=unit,
        )
        for step in steps
    ]
    last = frame(
        [x, pseudo_healthy],
        final_map,
        title="result",
        headings=("input", "pseudo-healthy", "finished map"),
        scale_max=scale_max,
        unit=unit,
    )
    palette = shared_palette()
    for stride in (1, 2, 3, 4, 6, 8, 12, 16, len(frames)):
        kept = [*frames[::stride], last]
        content = encoded([quantised(one, palette) for one in kept])
        if len(content) <= max_bytes:
            return content
    raise ConfigError(f"two frames take more than {max_bytes} bytes", code="E_LIMIT", fix="allow more bytes")


def frame(
    images: Sequence[FloatArray],
    anomaly_map: FloatArray,
    *,
    title: str,
    headings: Sequence[str],
    scale_max: float,
    unit: str,
) -> RgbArray:
    """Two images, clipped to [-1, 1], and a map side by side under a title; colours are gray in the images and only in the map."""
    cells = [to_cell(in_rgb(ground(np.clip(one, -1, 1)))) for one in images]
    cells.append(to_cell(map_colours(anomaly_map.astype(np.float32), scale_max=scale_max)))
    height, width = cells[0].shape[:2]
    figure = blank(2 * _MARGIN + 3 * width + 2 * _GAP, _TOP + height + _FOOT + 8, ground=(0, 0, 0))
    put_text(figure, _MARGIN, 10, title, size_px=17, weight="bold")
    said = wrapped(
        f"map: 0 (black) to ≥ {scale_max:.3g} (bright), {unit}. Not for diagnosis.", width_px=3 * width, lines=1, size_px=12
    )
    put_text(figure, _MARGIN, _TOP + height + 8, said, size_px=12, colour=DIM_TEXT)
    lefts = [_MARGIN + index * (width + _GAP) for index in range(3)]
    for left, heading in zip(lefts, headings, strict=True):
        put_text(figure, left, _TOP - 22, heading, size_px=13, colour=DIM_TEXT)
    page = pixels_of(figure)
    for left, cell in zip(lefts, cells, strict=True):
        page[_TOP : _TOP + height, left : left + width] = cell
    return page


def to_cell(image: RgbArray) -> RgbArray:
    """(H, W, 3) as close to the cell's size as whole pixels allow: small images grow by a factor, large ones are averaged down."""
    side = max(image.shape[:2])
    if side <= _CELL_PX:
        factor = max(1, _CELL_PX // side)
        return image.repeat(factor, axis=0).repeat(factor, axis=1)
    shown = Image.fromarray(image)
    shown.thumbnail((_CELL_PX, _CELL_PX), Image.Resampling.BOX)
    return np.asarray(shown, dtype=np.uint8)


def shared_palette() -> Image.Image:
    """A palette image: 128 grays and 128 colours of the map, for all frames alike."""
    grays = np.repeat(np.linspace(0, 255, 128).round().astype(np.uint8)[:, None], 3, axis=1)
    colours = np.asarray(matplotlib.colormaps[COLOUR_MAP](np.linspace(0, 1, 128), bytes=True), dtype=np.uint8)[:, :3]
    made = Image.new("P", (1, 1))
    made.putpalette(np.concatenate([grays, colours]).tobytes())
    return made


def quantised(page: RgbArray, palette: Image.Image) -> Image.Image:
    """The frame in the shared palette, each pixel at its nearest colour: dithering would look like noise of the walk."""
    return Image.fromarray(page).quantize(palette=palette, dither=Image.Dither.NONE)


def encoded(frames: Sequence[Image.Image]) -> bytes:
    """GIF bytes; the last frame is held."""
    stream = io.BytesIO()
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_MS]
    frames[0].save(
        stream, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=False, disposal=1
    )
    return stream.getvalue()

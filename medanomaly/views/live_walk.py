"""A localization as it happens: the input, x_t, the predicted x_0, the pseudo-healthy image and the map, level by level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from medanomaly.types import AnomalyMethod, AnomalyResult, FloatArray, WalkObserver
from medanomaly.views.canvas import RgbArray
from medanomaly.views.checks import check_scale
from medanomaly.views.live import LiveView, first_rows
from medanomaly.views.live_frame import MAX_ROWS, Column, image_cells, images_shown, map_cells, row_names, sheet
from medanomaly.views.live_panes import Picture
from medanomaly.views.shown import shown_channel


@dataclass(frozen=True, slots=True, kw_only=True)
class MapScale:
    """The colour scales of a job's maps, the same for every image."""

    scale_max: float
    """Value of the finished map's brightest colour."""
    unit: str
    """What the finished map's numbers are."""
    forming: Callable[[Tensor, Tensor], Tensor]
    """(x, predicted x_0), each (B, C, H, W) in [-1, 1] -> (B, 1, H, W) map of the walk so far."""
    forming_max: float
    """Value of that map's brightest colour: the same, unless the finished map has another unit."""
    forming_unit: str
    """What its numbers are; the pseudo-healthy image so far is the predicted x_0."""

    def __post_init__(self) -> None:
        check_scale(0.0, self.scale_max)
        check_scale(0.0, self.forming_max)


class Watched:
    """A method that shows its walks and its results, and answers as the method does."""

    def __init__(self, method: AnomalyMethod, view: LiveView, scale: MapScale) -> None:
        self.method, self.view, self.scale = method, view, scale

    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
        """What the method says of x (B, C, H, W) in [-1, 1]."""
        walk = Walk()

        def watch(level: int, x_t: Tensor, x_0: Tensor) -> None:
            walk.reach(level)
            self.view.show("walk", lambda: self.step(x, x_t, x_0, walk), seldom=True)
            if observer is not None:
                observer(level, x_t, x_0)

        result = self.method.localize(x, watch)
        self.view.show("finished", lambda: self.finished(x, result))
        return result

    def step(self, x: Tensor, x_t: Tensor, x_0: Tensor, walk: Walk) -> Callable[[], Picture]:
        """What draws one step of a walk, its images copied."""
        forming = None
        if walk.direction == "decoding":
            forming = first_rows(self.scale.forming(x[:MAX_ROWS], x_0[:MAX_ROWS].clamp(-1, 1)))
        images = (first_rows(x), first_rows(x_t), first_rows(x_0))
        level, where, count = walk.level, walk.text(), len(x)
        scale_max, unit = self.scale.forming_max, self.scale.forming_unit

        def draw() -> Picture:
            pixels = walk_sheet(*images, forming, level=level, batch_size=count, scale_max=scale_max)
            title = f"{where}, {images_shown(len(images[0]), count)}; map 0 to {scale_max:.3g}"
            return Picture(pixels=pixels, title=title, caption=caption(images[0], f"map so far: {unit}"))

        return draw

    def finished(self, x: Tensor, result: AnomalyResult) -> Callable[[], Picture]:
        """What draws the answer to a batch, its images copied."""
        inputs, maps, twin = first_rows(x), first_rows(result.anomaly_map), result.pseudo_healthy
        pseudo_healthy = None if twin is None else first_rows(twin)
        count, scale_max, unit = len(x), self.scale.scale_max, self.scale.unit

        def draw() -> Picture:
            pixels = result_sheet(inputs, pseudo_healthy, maps, batch_size=count, scale_max=scale_max)
            title = f"finished: {images_shown(len(inputs), count)}; map 0 to {scale_max:.3g}"
            return Picture(pixels=pixels, title=title, caption=caption(inputs, f"map: {unit}"))

        return draw


@dataclass(slots=True)
class Walk:
    """Where the walks of a batch have been, as far as the levels tell."""

    level: int = 0
    direction: str = ""
    """encoding, decoding, or "" where that cannot be known."""
    top: int = 0
    """Highest level so far."""

    def reach(self, level: int) -> None:
        """One more step."""
        # After level 0 a walk rises, or it has begun with noise and falls.
        self.direction = "" if not self.level else "encoding" if level > self.level else "decoding"
        self.level, self.top = level, max(self.top, level)

    def text(self) -> str:
        """ "encoding: level 120", "decoding: level 120 of 500", where the top of the walk is known only after it was reached."""
        if not self.direction:
            return f"level {self.level}"
        return f"{self.direction}: level {self.level}" + (f" of {self.top}" if self.direction == "decoding" else "")


def walk_sheet(
    x: FloatArray,
    x_t: FloatArray,
    x_0: FloatArray,
    forming: FloatArray | None,
    *,
    level: int,
    batch_size: int,
    scale_max: float,
) -> RgbArray:
    """(H, W, 3) uint8 of one step: (rows, C, H, W) images, and where the walk decodes what forms in it.

    Args:
        x: the input.
        x_t: where the walk is.
        x_0: predicted clean image; decoding, the pseudo-healthy image is this, clamped.
        forming: (rows, 1, H, W) map so far; None = the walk does not lead to a map yet.
        level: t.
        batch_size: of which the rows are the first.
        scale_max: value of the brightest map colour.
    """
    rows = row_names(len(x), batch_size)
    nothing = (None,) * len(rows)
    columns = [
        Column(title="input", cells=image_cells(x)),
        Column(title=f"x_t, t = {level}", cells=image_cells(x_t)),
        Column(title="predicted x_0", cells=image_cells(x_0)),
        Column(title="pseudo-healthy", cells=nothing if forming is None else image_cells(np.clip(x_0, -1, 1))),
        Column(title="map", cells=nothing if forming is None else map_cells(forming, scale_max=scale_max)),
    ]
    return sheet(columns, rows=rows, scale_max=scale_max)


def result_sheet(
    x: FloatArray, pseudo_healthy: FloatArray | None, anomaly_map: FloatArray, *, batch_size: int, scale_max: float
) -> RgbArray:
    """(H, W, 3) uint8: (rows, C, H, W) input and, where there is one, pseudo-healthy image, and the (rows, 1, H, W) map."""
    columns = [Column(title="input", cells=image_cells(x))]
    if pseudo_healthy is not None:
        columns.append(Column(title="pseudo-healthy", cells=image_cells(pseudo_healthy)))
    columns.append(Column(title="map", cells=map_cells(anomaly_map, scale_max=scale_max)))
    return sheet(columns, rows=row_names(len(x), batch_size), scale_max=scale_max)


def caption(x: FloatArray, text: str) -> str:
    """The text, which of several channels is shown, and what this is not for."""
    return "; ".join(part for part in (text, shown_channel(x.shape[1]), "not for diagnosis") if part)

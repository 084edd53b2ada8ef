"""Images as they form, in the live view: x_t and the predicted clean image of the first of a batch."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from medanomaly.types import WalkObserver
from medanomaly.views.live import LiveView, first_rows
from medanomaly.views.live_frame import Column, image_cells, images_shown, row_names, sheet
from medanomaly.views.live_panes import Picture
from medanomaly.views.shown import shown_channel


def watch_reverse(view: LiveView, title: str) -> WalkObserver:
    """An observer that shows each step of one batch; ``title`` says which, without a file's name."""

    def watch(level: int, x_t: Tensor, x_0: Tensor) -> None:
        def copied() -> Callable[[], Picture]:
            noisy, clean, count = first_rows(x_t), first_rows(x_0), len(x_t)

            def draw() -> Picture:
                columns = [
                    Column(title=f"x_t, t = {level}", cells=image_cells(noisy)),
                    Column(title="predicted x_0", cells=image_cells(clean)),
                ]
                said = "; ".join(part for part in (shown_channel(noisy.shape[1]), "generated", "not for diagnosis") if part)
                heading = f"{title}, level {level}, {images_shown(len(noisy), count)}"
                return Picture(pixels=sheet(columns, rows=row_names(len(noisy), count)), title=heading, caption=said)

            return draw

        # The last step always: it is the result.
        view.show("generation", copied, seldom=level > 0)

    return watch

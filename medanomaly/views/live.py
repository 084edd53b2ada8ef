"""The live view: a training run and the walks between noise levels, seen in a browser while they happen (fossasia/visdom).

An observer: it copies what it is shown, draws and sends in a thread, and whatever happens there changes nothing in the run. No name of
a file, a patient or a folder is sent; images are told apart by their position in the batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import TracebackType

from torch import Tensor

from medanomaly.types import FloatArray
from medanomaly.views.canvas import RgbArray
from medanomaly.views.live_frame import MAX_ROWS, Column, image_cells, row_names, sheet
from medanomaly.views.live_panes import History, Picture
from medanomaly.views.live_sender import CPU_SHARE, LOOPBACK, Pane, Sender, server_of, visdom_client
from medanomaly.views.shown import in_rgb, picture

INTERVAL_S = 0.5
"""At most two pictures of a pane a second."""


class LiveView:
    """Shows a run on a Visdom server. Nothing here raises, waits (but :meth:`close`) or draws a random number."""

    def __init__(self, sender: Sender) -> None:
        self.sender = sender
        self.history = History()

    def __enter__(self) -> LiveView:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Send the last panes, waiting at most two seconds."""
        self.sender.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one training step: the loss with its validation, the learning rate, the other terms."""
        for pane in sorted(self.history.add(step, values)):
            curves = self.history.curves(pane)
            self.show(pane, lambda curves=curves: lambda: curves)  # type: ignore[misc]

    def images(self, name: str, step: int, x: Tensor) -> None:
        """A batch (B, C, H, W) in [-1, 1] in a pane of its own: the first four, or a single one at its own size."""

        def copied() -> Callable[[], Picture]:
            shown, count = first_rows(x), len(x)
            return lambda: Picture(pixels=_batch(shown, count), title=f"{name}, step {step}")

        self.show(name, copied)

    def show(self, name: str, copied: Callable[[], Callable[[], Pane]], *, seldom: bool = False) -> None:
        """Put something into the pane of this name.

        Args:
            name: of the pane; its older content is replaced.
            copied: called now, copies what will be drawn; what it returns is called in the thread, and draws.
            seldom: leave it out where the pane was filled a moment ago (``interval_s`` and ``cpu_share`` of :func:`open_view`).
        """
        if self.sender.given_up or (seldom and not self.sender.due(name)):
            return
        try:
            self.sender.put(name, copied())
        except Exception as error:  # whatever it is, watching must not end the run
            self.sender.give_up(f"failed ({type(error).__name__}: {error})")


def _batch(x: FloatArray, batch_size: int) -> RgbArray:
    if batch_size == 1:
        return in_rgb(picture(x[0]))
    return sheet([Column(title="", cells=image_cells(x))], rows=row_names(len(x), batch_size))


def first_rows(x: Tensor) -> FloatArray:
    """(at most 4, C, H, W) copy of the first images of a batch as float32; the tensor may change afterwards."""
    return x[:MAX_ROWS].detach().to("cpu").float().numpy().copy()


def open_view(
    url: str, *, warn: Callable[[str], None], interval_s: float = INTERVAL_S, cpu_share: float = CPU_SHARE
) -> LiveView | None:
    """A view on a Visdom server that need not be there; None where visdom is not installed, which is said.

    Of several processes of one job (``RANK``, set by torchrun) only the first has a view: the others get None.

    Args:
        url: address of the server, as ``http://127.0.0.1:8097``.
        warn: told in one line what is wrong, at most once after the start.
        interval_s: least time between two pictures of a pane.
        cpu_share: most of this process's CPU time that drawing and sending may take, by longer intervals.

    Raises:
        ConfigError: E_CONFIG, the address is none.
    """
    if os.environ.get("RANK", "0") not in ("", "0"):
        return None
    host = server_of(url)[0].partition("://")[2].strip("[]")
    if host not in LOOPBACK:
        warn(f"live view: images are sent to {host}, where whoever reaches the server can see them")
    try:
        client = visdom_client(url)
    except ImportError as error:
        warn(f"live view: {error}; the run goes on without it (pip install visdom)")
        return None
    return LiveView(Sender(client, warn=warn, interval_s=interval_s, cpu_share=cpu_share))

"""What a pane of the live view holds, as the message that a Visdom server takes: a picture, or curves against the step.

The messages are Visdom's own (github.com/fossasia/visdom, README, "Details" and "Customizing plots"): an image as a data URI, a plot as
Plotly traces and layout.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from medanomaly.views.canvas import RgbArray
from medanomaly.views.curves import PALETTE

JPEG_QUALITY = 90
_PANES = {"learning_rate": "learning rate", "grad_norm": "gradient norm"}
MAX_POINTS = 1000
"""Of one curve; a longer one loses every second point, so that a message stays below a few hundred kB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture with its title and a line below it."""

    pixels: RgbArray
    """(H, W, 3) uint8."""
    title: str
    caption: str = ""

    def message(self) -> dict[str, Any]:
        """The pane as Visdom's ``events`` endpoint takes it; JPEG, which costs a tenth of PNG."""
        stream = io.BytesIO()
        Image.fromarray(self.pixels).save(stream, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
        address = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
        height, width = self.pixels.shape[:2]
        content = {"src": address, "caption": self.caption}
        # Visdom draws its title bar and caption inside of the height.
        opts = {"title": self.title, "caption": self.caption, "width": width + 20, "height": height + 60}
        return {"data": [{"content": content, "type": "image"}], "opts": opts}


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Lines against the training step."""

    title: str
    lines: Mapping[str, tuple[tuple[int, float], ...]]
    """Name -> (step, value) points; a value that is not finite is a gap."""

    def message(self) -> dict[str, Any]:
        """The pane as Visdom's ``events`` endpoint takes it; the axis is logarithmic where every value is positive."""
        known = [value for points in self.lines.values() for _, value in points if math.isfinite(value)]
        axis = "log" if known and min(known) > 0 else "linear"
        traces = [
            {
                "type": "scatter",
                # A few points, such as those of validation, would be lost as a line without marks.
                "mode": "lines" if len(points) > 50 else "lines+markers",
                "name": name,
                "x": [step for step, _ in points],
                "y": [value if math.isfinite(value) else None for _, value in points],
                "line": {"color": PALETTE[index % len(PALETTE)], "width": 1.5},
            }
            for index, (name, points) in enumerate(self.lines.items())
        ]
        layout = {"xaxis": {"title": {"text": "step"}}, "yaxis": {"type": axis}, "showlegend": True}
        margins = {"margin": {"l": 60, "r": 20, "t": 20, "b": 40}}
        return {"data": traces, "layout": layout | margins, "opts": {"title": self.title, "width": 460, "height": 320}}


def pane_of(name: str) -> str:
    """Which pane a logged number belongs to: the loss with its validation, the learning rate, gradient norms, or the other terms."""
    if name in ("loss", "val_loss"):
        return "loss"
    return next((pane for part, pane in _PANES.items() if part in name), "terms")


@dataclass(slots=True)
class History:
    """The logged numbers so far, thinned, by pane and name."""

    panes: dict[str, dict[str, list[tuple[int, float]]]] = field(default_factory=dict)

    def add(self, step: int, values: Mapping[str, float]) -> set[str]:
        """Keep one step's numbers; returns the panes that changed."""
        changed = set()
        for name, value in values.items():
            if name == "skipped" and not value:
                # Seen where it happens; zeros would forbid the logarithmic axis.
                continue
            points = self.panes.setdefault(pane_of(name), {}).setdefault(name, [])
            points.append((step, float(value)))
            if len(points) > MAX_POINTS:
                # The newest stays.
                del points[-2:0:-2]
            changed.add(pane_of(name))
        return changed

    def curves(self, pane: str) -> Curves:
        """The pane as it is now."""
        return Curves(title=pane, lines={name: tuple(points) for name, points in self.panes[pane].items()})

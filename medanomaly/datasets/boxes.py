"""Boxes around lesions as one cell of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medanomaly.errors import InputError
from medanomaly.types import Box

EMPTY = "empty"
"""In the boxes column: somebody looked and drew none. A blank cell says that nobody drew boxes."""


def boxes_text(boxes: Sequence[Box] | None) -> str:
    """``x_min y_min x_max y_max label`` of each box, separated by semicolons; ``empty`` for none, "" for None."""
    if boxes is None:
        return ""
    return (
        "; ".join(
            " ".join([*(repr(float(edge)) for edge in (box.x_min, box.y_min, box.x_max, box.y_max)), *box.label.split()])
            for box in boxes
        )
        or EMPTY
    )


def boxes_of(cell: str) -> tuple[Box, ...] | None:
    """Undo of :func:`boxes_text`.

    Raises:
        InputError: E_BOX, not four finite numbers with x_min < x_max and y_min < y_max, and then an optional label.
    """
    if not cell.strip():
        return None
    return () if cell.strip() == EMPTY else tuple(box_of(part) for part in cell.split(";"))


def box_of(text: str) -> Box:
    """One box from ``x_min y_min x_max y_max label``."""
    words = text.split()
    try:
        x_min, y_min, x_max, y_max = (float(word) for word in words[:4])
    except ValueError as error:
        raise InputError(
            f"a box must be 'x_min y_min x_max y_max label', got {text!a}", code="E_BOX", fix="separate boxes by semicolons"
        ) from error
    return checked_box(x_min, y_min, x_max, y_max, " ".join(words[4:]))


def checked_box(x_min: float, y_min: float, x_max: float, y_max: float, label: str = "") -> Box:
    """A box with edges in order.

    Raises:
        InputError: E_BOX.
    """
    if not (math.isfinite(x_min + y_min + x_max + y_max) and x_min < x_max and y_min < y_max):
        raise InputError(
            f"a box must have x_min < x_max and y_min < y_max, got {x_min:g} {y_min:g} {x_max:g} {y_max:g}",
            code="E_BOX",
            fix="give the left, upper, right and lower edge in px",
        )
    if ";" in label:
        raise InputError(f"a box's label must not hold a semicolon, got {label!a}", code="E_BOX")
    return Box(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max, label=label)

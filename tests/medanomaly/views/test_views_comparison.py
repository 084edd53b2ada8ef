from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from medanomaly.errors import InputError
from medanomaly.views import comparison
from medanomaly.views.comparison import dice_box_figure, dice_by_size_figure


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The figures that are made, before they become pixels."""
    figures: list[object] = []
    original = comparison.png_of
    monkeypatch.setattr(comparison, "png_of", lambda figure: figures.append(figure) or original(figure))
    return figures


def test_the_box_is_that_of_the_quartiles_and_undefined_values_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = drawn(monkeypatch)
    values = {"one": np.array([0.1, 0.2, 0.3, 0.4, 0.5, np.nan]), "$two_": np.array([0.9, 0.7])}
    assert pixels(dice_box_figure(values)).shape[1] > 900
    (axes,) = figures[0].axes  # type: ignore[attr-defined]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["one (n = 5)", r"\$two_ (n = 2)"]
    boxes = [line for line in axes.lines if len(line.get_xdata()) == 5 and line.get_linestyle() == "-"]
    assert (min(boxes[0].get_xdata()), max(boxes[0].get_xdata())) == pytest.approx((0.2, 0.4))
    points = [line for line in axes.lines if line.get_marker() == "."]
    assert [len(line.get_xdata()) for line in points] == [5, 2]


def test_the_same_values_give_the_same_picture() -> None:
    values = {"one": np.linspace(0, 1, 20)}
    assert dice_box_figure(values) == dice_box_figure(values)


def test_means_stand_with_their_ends_and_undefined_ones_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = drawn(monkeypatch)
    nan = float("nan")
    estimates = {"one": [(0.5, 0.25, 0.625), (nan, nan, nan)], "two": [(0.25, 0.25, 0.25), (0.75, nan, nan)]}
    dice_by_size_figure(estimates, ["small", "large"])
    (axes,) = figures[0].axes  # type: ignore[attr-defined]
    first, second = axes.containers
    assert first.lines[0].get_ydata()[0] == 0.5
    segment = first.lines[2][0].get_segments()[0]
    assert sorted(segment[:, 1]) == pytest.approx([0.25, 0.625])
    # Methods stand side by side, and can be told apart without colour.
    assert first.lines[0].get_xdata()[0] < second.lines[0].get_xdata()[0]
    assert first.lines[0].get_marker() != second.lines[0].get_marker()
    assert [text.get_text() for text in axes.get_xticklabels()] == ["small", "large"]


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(InputError, match="no method"):
        dice_box_figure({})
    for wrong in ({}, {"one": [(0.1, 0.1, 0.1)]}):
        with pytest.raises(InputError, match="one estimate a group"):
            dice_by_size_figure(wrong, ["small", "large"])

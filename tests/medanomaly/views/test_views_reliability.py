import io

import numpy as np
import pytest
from PIL import Image

from medanomaly.errors import InputError
from medanomaly.views.colour_scale import colour_scale
from medanomaly.views.overlay import map_colours
from medanomaly.views.reliability import reliability_figure

CURVE = {"probability": [0.1, 0.9], "frequency": [0.0, 1.0], "low": [0.0, 0.6], "high": [0.4, 1.0], "count": [7, 3]}


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_another_frequency_is_another_picture_and_the_same_is_the_same() -> None:
    first = reliability_figure({"a": CURVE})
    assert first == reliability_figure({"a": CURVE})
    assert first != reliability_figure({"a": CURVE | {"frequency": [0.2, 0.8], "low": [0.1, 0.6]}})


@pytest.mark.parametrize(
    ("curves", "code"),
    [({}, "E_EMPTY"), ({"a": CURVE | {"count": [1]}}, "E_MALFORMED"), ({"a": CURVE | {"high": [0.4, 1.5]}}, "E_RANGE")],
)
def test_a_curve_that_is_none_is_refused(curves: dict, code: str) -> None:
    with pytest.raises(InputError) as caught:
        reliability_figure(curves)
    assert caught.value.code == code


def test_the_colour_scale_shows_the_maps_own_colours_and_marks_the_threshold() -> None:
    scale = pixels(colour_scale(2.0, 0.5, unit="units"))
    ends = map_colours(np.array([[0.0, 2.0]], np.float32), scale_max=2.0)[0]
    ramp = next(row for row in scale if (row == ends[1]).all(axis=1).any())
    inner = np.flatnonzero((ramp == ends[1]).all(axis=1))[-1]
    cyan = np.flatnonzero((scale == (0, 229, 255)).all(axis=2).any(axis=0))
    bar = (24, inner)
    assert bar[0] + 0.25 * (bar[1] - bar[0]) in [pytest.approx(place, abs=2) for place in cyan]
    bare = pixels(colour_scale(2.0, None, unit="units"))
    assert not (bare == (0, 229, 255)).all(axis=2).any()

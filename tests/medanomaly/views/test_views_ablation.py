from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from medanomaly.errors import InputError
from medanomaly.views.ablation import AblationStrip, ablation_figure


def strip(value: float, gray: float, count: int = 2) -> AblationStrip:
    return AblationStrip(
        name="a_$b$", images=[np.full((1, 8, 8), gray, np.float32)] * count, estimates=[(value, value - 0.1, value + 0.1)]
    )


def pixels(*strips: AblationStrip, references: tuple[float, ...] = ()) -> np.ndarray:
    made = ablation_figure(strips, ["FID"], title="t", references=references)
    return np.asarray(Image.open(io.BytesIO(made)).convert("RGB"), dtype=np.int64)


def test_each_setting_has_a_row_of_its_images_and_no_line_crosses_them() -> None:
    page = pixels(strip(1.0, -1.0, count=6), strip(2.0, -1.0, count=6))
    # Each image is one black rectangle: its rows are black from end to end, two of them, one below the other.
    black = (page.sum(axis=2) == 0).sum(axis=1)
    wide = black > 0.3 * page.shape[1]
    starts = np.flatnonzero(np.diff(wide.astype(int)) == 1)
    ends = np.flatnonzero(np.diff(wide.astype(int)) == -1)
    assert len(starts) == 2
    height = int(ends[0] - starts[0])
    assert abs(black[starts[0] + height // 2] / 6 - height) < 0.2 * height  # square, nearly


def test_a_number_that_is_not_defined_leaves_its_place_empty_and_real_images_a_line() -> None:
    blue, orange = (0, 114, 178), (213, 94, 0)
    both = pixels(strip(1.0, 0.0), strip(2.0, 0.0), references=(1.5,))
    one = pixels(strip(1.0, 0.0), strip(float("nan"), 0.0), references=(float("nan"),))
    # Heights at which something blue begins: a dot a row.
    dots = [int((np.diff((page == blue).all(axis=2).any(axis=1).astype(int)) == 1).sum()) for page in (both, one)]
    assert dots == [2, 1]
    assert (both == orange).all(axis=2).any()
    assert not (one == orange).all(axis=2).any()


def test_nothing_to_draw_and_a_missing_estimate_are_refused() -> None:
    with pytest.raises(InputError, match="E_EMPTY"):
        ablation_figure([], ["FID"], title="t")
    with pytest.raises(InputError, match="E_MALFORMED"):
        ablation_figure([strip(1.0, 0.0)], ["FID", "KID"], title="t")

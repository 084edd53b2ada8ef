import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from medanomaly.errors import InputError
from medanomaly.views.curves import PALETTE, histogram_figure, loss_figure, roc_pr_figure

PERFECT = ([0, 0, 1], [0, 1, 1], [1, 1, 0], [0.5, 1, 1])
CHANCE = ([0, 1], [0, 1], [1, 0], [0.5, 0.5])


def decoded(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def pixels_like(image: np.ndarray, colour: str) -> np.ndarray:
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.abs(image - rgb).max(axis=-1) < 12


def test_each_curve_has_its_own_colour():
    image = decoded(roc_pr_figure({"first": PERFECT, "second": CHANCE}))
    assert pixels_like(image, PALETTE[0]).sum() > 200
    assert pixels_like(image, PALETTE[1]).sum() > 200
    assert pixels_like(image, PALETTE[2]).sum() == 0


def test_a_better_curve_lies_higher():
    image = decoded(roc_pr_figure({"better": PERFECT, "worse": ([0, 1, 1], [0, 0, 1], [1, 0], [0.1, 0.1])}))
    plots = image[: int(0.8 * len(image))]
    heights = [np.nonzero(pixels_like(plots, colour))[0].mean() for colour in PALETTE[:2]]
    assert heights[0] < heights[1] - 100


def test_precision_recall_is_the_same_in_either_direction():
    fpr, tpr, recall, precision = [0, 1], [0, 1], [1, 0.6, 0.6, 0.2, 0], [0.4, 0.5, 0.8, 0.9, 1]
    assert roc_pr_figure({"a": (fpr, tpr, recall, precision)}) == roc_pr_figure({"a": (fpr, tpr, recall[::-1], precision[::-1])})


def test_precision_recall_promises_nothing_between_its_points():
    image = decoded(roc_pr_figure({"a": ([0, 1], [0, 1], [0, 1], [1, 0.3])}))
    right = image[: int(0.8 * len(image)), image.shape[1] // 2 :]
    rows, _ = np.nonzero(pixels_like(right, PALETTE[0]))
    assert np.ptp(rows) > 250
    # A straight line would visit every height alike; a step stays at the bottom but for one vertical stroke.
    assert np.median(rows) > rows.max() - 10


def test_the_prevalence_is_drawn_as_the_chance_level():
    assert roc_pr_figure({"a": PERFECT}, prevalence=0.3) != roc_pr_figure({"a": PERFECT})


@pytest.mark.parametrize("name", ["costs $5 and $6", "_hidden?", "a" * 60, "Ω ≥ 1 µm", r"$\nonsense{$"])
def test_any_name_can_be_a_legend_entry(name):
    named, other = (decoded(roc_pr_figure({text: PERFECT})) for text in (name, "zzz"))
    legend = slice(int(0.9 * len(named)), None)
    assert (named[legend].min(axis=-1) < 128).any()
    assert not np.array_equal(named[legend], other[legend])


@pytest.mark.parametrize(
    ("curves", "code"),
    [
        ({}, "E_EMPTY"),
        ({"a": ([0, 1], [0, 1, 1], [0, 1], [1, 0])}, "E_MALFORMED"),
        ({"a": ([0, 1], [0, 100], [0, 1], [1, 0])}, "E_RANGE"),
        ({"a": ([0, 1], [0, float("nan")], [0, 1], [1, 0])}, "E_RANGE"),
        ({"a": ([], [], [], [])}, "E_RANGE"),
    ],
)
def test_curves_that_are_no_rates_are_refused(curves, code):
    with pytest.raises(InputError) as refused:
        roc_pr_figure(curves)
    assert refused.value.code == code


def test_a_loss_with_values_lost_is_drawn_and_says_so():
    steps, values = np.arange(300), np.exp(-np.arange(300) / 50)
    broken = values.copy()
    broken[100:110] = np.nan
    title = slice(0, 40)
    whole, gap = decoded(loss_figure(steps, values)), decoded(loss_figure(steps, broken))
    assert not np.array_equal(whole[title], gap[title])
    assert pixels_like(gap, PALETTE[0]).sum() > 200


@pytest.mark.parametrize("values", [[0.5], [float("nan")] * 3, [0.0, -1.0, 2.0], [1e-9, 1.0, 1e9], [3.0, 3.0]])
def test_any_loss_can_be_drawn(values):
    assert decoded(loss_figure(range(len(values)), values)).shape[2] == 3


@pytest.mark.parametrize(("steps", "values"), [([], []), ([1, 2], [1]), ([[1]], [[1]])])
def test_a_loss_without_one_value_per_step_is_refused(steps, values):
    with pytest.raises(InputError, match="equal lists"):
        loss_figure(steps, values)


def test_a_group_counts_as_a_share_of_itself():
    few = histogram_figure([0.1, 0.2], [0.8, 0.9])
    many = histogram_figure([0.1, 0.2] * 2, [0.8, 0.9] * 2)
    legend_off = slice(200, None)
    assert few != many
    np.testing.assert_array_equal(*(decoded(png)[legend_off] for png in (few, many)))


def test_one_empty_group_leaves_the_other_to_be_drawn():
    image = decoded(histogram_figure([0.1, 0.2, 0.3], []))
    assert pixels_like(image, PALETTE[0]).sum() > 200
    assert pixels_like(image, PALETTE[1]).sum() == 0


@pytest.mark.parametrize(("healthy", "diseased", "code"), [([], [], "E_EMPTY"), ([1.0], [float("inf")], "E_NONFINITE")])
def test_scores_that_cannot_be_counted_are_refused(healthy, diseased, code):
    with pytest.raises(InputError) as refused:
        histogram_figure(healthy, diseased)
    assert refused.value.code == code


def test_equal_scores_in_both_groups_are_drawn():
    assert pixels_like(decoded(histogram_figure([0.5] * 4, [0.5] * 4, threshold=0.5)), PALETTE[1]).any()


def test_figures_are_the_same_bytes_twice_and_leave_no_global_state():
    before = dict(matplotlib.rcParams)
    assert roc_pr_figure({"a": PERFECT}) == roc_pr_figure({"a": PERFECT})
    assert loss_figure([1, 2], [3, 4]) == loss_figure([1, 2], [3, 4])
    assert dict(matplotlib.rcParams) == before

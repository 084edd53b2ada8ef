from __future__ import annotations

import pytest
import torch
from scipy.ndimage import gaussian_filter, median_filter

from medanomaly.errors import ConfigError, InputError
from medanomaly.scoring.image_score import image_score
from medanomaly.scoring.maps import difference_map, median, smooth


def some_maps(batch: int = 2, height: int = 17, width: int = 23) -> torch.Tensor:
    return torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(0))


def test_the_difference_is_summed_over_channels_and_keeps_its_scale() -> None:
    x = torch.full((2, 3, 4, 5), 1.0)
    pseudo_healthy = torch.full((2, 3, 4, 5), -1.0)
    pseudo_healthy[1] = 0.5
    found = difference_map(x, pseudo_healthy)
    assert found.shape == (2, 1, 4, 5)
    assert (found[0] == 6).all()
    assert (found[1] == 1.5).all()


def test_a_change_of_one_sign_keeps_the_pixels_of_that_sign_channel_by_channel() -> None:
    x = torch.tensor([0.5, -0.5, 0.0]).reshape(1, 1, 1, 3).repeat(1, 2, 1, 1)
    pseudo_healthy = torch.zeros_like(x)
    pseudo_healthy[0, 1] = 0.25
    assert difference_map(x, pseudo_healthy, "brighter").flatten().tolist() == [0.75, 0, 0]
    assert difference_map(x, pseudo_healthy, "darker").flatten().tolist() == [0, 1.25, 0.25]
    both = difference_map(x, pseudo_healthy, "brighter") + difference_map(x, pseudo_healthy, "darker")
    torch.testing.assert_close(both, difference_map(x, pseudo_healthy))


def test_the_difference_is_symmetric_and_refuses_to_broadcast() -> None:
    x = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(difference_map(x, -x), difference_map(-x, x))
    with pytest.raises(InputError):
        difference_map(x, x[:1])
    with pytest.raises(InputError):
        difference_map(x[0], x[0])


@pytest.mark.parametrize("sigma_px", [0.5, 1.0, 2.7, 9.0])
def test_smoothing_is_scipys_with_repeated_edges(sigma_px: float) -> None:
    maps = some_maps().double()
    for index, found in enumerate(smooth(maps, sigma_px)):
        expected = gaussian_filter(maps[index, 0].numpy(), sigma_px, mode="nearest", truncate=4)
        torch.testing.assert_close(found[0], torch.from_numpy(expected), atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_the_median_is_scipys_with_repeated_edges(size: int) -> None:
    maps = some_maps()
    for index, found in enumerate(median(maps, size)):
        expected = median_filter(maps[index, 0].numpy(), size, mode="nearest")
        torch.testing.assert_close(found[0], torch.from_numpy(expected), atol=0, rtol=0)


def test_filters_keep_constant_maps_and_work_on_maps_smaller_than_their_window() -> None:
    constant = torch.full((1, 1, 2, 3), 0.7)
    torch.testing.assert_close(smooth(constant, 3.0), constant)
    torch.testing.assert_close(median(constant, 7), constant)


@pytest.mark.parametrize("apply", [lambda m: smooth(m, 1.5), median, lambda m: image_score(m)[:, None]])
def test_maps_are_never_rescaled_by_what_else_is_in_the_batch(apply: object) -> None:
    maps = some_maps()
    maps[1] *= 1000
    alone = apply(maps[:1])  # type: ignore[operator]
    torch.testing.assert_close(apply(maps)[:1], alone, atol=1e-6, rtol=0)  # type: ignore[operator]
    torch.testing.assert_close(apply(maps[:1] * 8), alone * 8)  # type: ignore[operator]


def test_no_smoothing_returns_an_equal_copy() -> None:
    maps = some_maps()
    copy = smooth(maps, 0)
    assert torch.equal(copy, maps)
    assert copy.data_ptr() != maps.data_ptr()


@pytest.mark.parametrize(
    "wrong", [torch.rand(1, 2, 4, 4), torch.rand(4, 4), torch.rand(1, 1, 4, 4).bfloat16(), torch.rand(1, 1, 4, 4).half()]
)
def test_several_channels_and_half_precision_are_refused(wrong: torch.Tensor) -> None:
    for apply in (lambda m: smooth(m, 1.0), median, image_score):
        with pytest.raises(InputError):
            apply(wrong)


def test_settings_that_cannot_be_are_refused() -> None:
    for sigma_px in (-1.0, float("nan")):
        with pytest.raises(ConfigError):
            smooth(some_maps(), sigma_px)
    for size in (0, 4):
        with pytest.raises(ConfigError):
            median(some_maps(), size)


def test_image_scores_of_a_ramp_by_hand() -> None:
    ramp = torch.arange(400.0).reshape(1, 1, 20, 20)
    assert image_score(ramp).tolist() == [pytest.approx((399 + 398 + 397 + 396) / 4)]
    assert image_score(ramp, "mean").tolist() == [199.5]
    assert image_score(ramp, "max").tolist() == [399]


def test_the_top_percent_of_a_tiny_map_is_its_maximum() -> None:
    assert image_score(torch.tensor([[[[1.0, 3.0], [2.0, 0.0]]]])).tolist() == [3]


def test_an_unknown_image_score_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="top1, mean, max"):
        image_score(some_maps(), "top5")

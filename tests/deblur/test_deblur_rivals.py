from __future__ import annotations

import math

import pytest
import torch

from deblur.kernels import check_kernel, identity, linear_motion
from deblur.rivals import disk, rival_powers, square
from deblur.whittle import blur_power
from medanomaly.errors import ConfigError


@pytest.mark.parametrize("radius", [1.0, 2.6, 5.25])
def test_a_disk_is_a_kernel_that_looks_the_same_from_all_sides_and_has_its_area_and_spread(radius: float) -> None:
    kernel = check_kernel(disk(radius))
    torch.testing.assert_close(kernel, kernel.flip(0), atol=0, rtol=0)
    torch.testing.assert_close(kernel, kernel.T, atol=0, rtol=0)
    middle = kernel.shape[0] // 2
    assert 1 / float(kernel[middle, middle]) == pytest.approx(math.pi * radius**2, rel=0.08)
    offset = torch.arange(kernel.shape[0], dtype=torch.float64) - middle
    # A disk's variance along an axis is r² / 4; the pixels that it is drawn with add about 1 / 12, and more to the smallest.
    assert float((kernel.sum(0) * offset**2).sum()) == pytest.approx(radius**2 / 4 + 1 / 12, rel=0.05, abs=0.08)


def test_a_disk_of_half_a_pixel_is_no_blur() -> None:
    for radius in (0.0, 0.3, 0.5):
        torch.testing.assert_close(disk(radius), identity())


@pytest.mark.parametrize("radius", [-1.0, 61.0, math.nan])
def test_a_radius_that_cannot_be_is_refused(radius: float) -> None:
    with pytest.raises(ConfigError) as caught:
        disk(radius)
    assert caught.value.code == "E_KERNEL"


def test_a_square_is_as_wide_as_its_side_both_ways() -> None:
    torch.testing.assert_close(square(5), torch.full((5, 5), 1 / 25, dtype=torch.float64))
    torch.testing.assert_close(square(4.5).sum(0), linear_motion(4.5, 0)[0])
    torch.testing.assert_close(square(4.5).sum(1), linear_motion(4.5, 0)[0])


def test_the_rivals_are_no_blur_and_widths_up_to_the_longest_motion() -> None:
    powers = rival_powers(32, 10)
    torch.testing.assert_close(powers[0], torch.ones_like(powers[0]))
    assert len(powers) == 1 + 33 + 17
    for kernel in (disk(1), disk(5), square(2), square(10)):
        power = blur_power(kernel, 32)
        assert float((powers - power).abs().max(dim=1).values.min()) < 1e-6

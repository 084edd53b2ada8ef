from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from toys import gaussian_eps, images, recorded

from deblur.tiles import tiled, windows
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.errors import ConfigError

SIZES = [(16, 16, 0), (17, 16, 0), (17, 16, 8), (31, 16, 4), (40, 16, 8), (41, 16, 15), (64, 8, 1), (5, 16, 4)]
"""(axis, tile, overlap)."""


def place_of(x_t: Tensor, t: int) -> Tensor:
    """A predictor whose answer depends on where in its tile a pixel lies."""
    rows = torch.linspace(0, 1, x_t.shape[-2], dtype=x_t.dtype)[:, None]
    return x_t + rows + torch.linspace(0, 2, x_t.shape[-1], dtype=x_t.dtype)


@pytest.mark.parametrize(("size", "tile", "overlap"), SIZES)
def test_the_weights_sum_to_one_at_every_pixel_and_are_never_zero(size: int, tile: int, overlap: int) -> None:
    total = torch.zeros(size, dtype=torch.float64)
    for start, weight in windows(size, tile, overlap):
        total[start : start + len(weight)] += weight
        assert float(weight.min()) > 0
    torch.testing.assert_close(total, torch.ones(size, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("size", "tile", "overlap"), SIZES)
def test_tiles_reach_from_border_to_border_and_neighbours_share_what_was_asked(size: int, tile: int, overlap: int) -> None:
    placed = windows(size, tile, overlap)
    assert placed[0][0] == 0
    assert placed[-1][0] + len(placed[-1][1]) == size
    assert {len(weight) for _, weight in placed} == {min(size, tile)}
    starts = [start for start, _ in placed]
    assert all(before + tile - after >= overlap for before, after in pairwise(starts))
    # One tile fewer could not.
    assert len(placed) == 1 or (len(placed) - 1) * (tile - overlap) + overlap < size


def test_a_predictor_that_looks_at_single_pixels_does_not_notice_the_tiles() -> None:
    schedule = NoiseSchedule.linear()
    x = images(2, side=40)[..., :27].double()
    eps_fn = gaussian_eps(0.1, 0.3, schedule)
    torch.testing.assert_close(tiled(eps_fn, 16, 6)(x, 300), eps_fn(x, 300), atol=1e-12, rtol=0)


@pytest.mark.parametrize("shape", [(16, 16), (16, 9), (4, 12)])
def test_an_image_of_one_tile_goes_to_the_predictor_as_it_is(shape: tuple[int, int]) -> None:
    x = images(2)[..., : shape[0], : shape[1]]
    assert tiled(lambda x_t, t: x_t, 16, 8)(x, 7) is x
    assert torch.equal(tiled(place_of, 16, 8)(x, 7), place_of(x, 7))


def test_between_two_tiles_the_answer_passes_from_one_to_the_other_without_a_step() -> None:
    # Tile 0 says 0, tile 1 says 1.
    answers = iter([0.0, 1.0])
    x = torch.zeros(1, 1, 16, 24)
    blended = tiled(lambda x_t, t: torch.full_like(x_t, next(answers)), 16, 8)(x, 1)[0, 0, 0]
    assert blended[:8].tolist() == [0] * 8
    assert blended[16:].tolist() == [1] * 8
    # Hann windows that share half a tile: cos^2 + sin^2 = 1, the weight of tile 1 is sin^2 at pixel centres.
    expected = torch.sin(torch.pi * (torch.arange(8) + 0.5) / 16) ** 2
    torch.testing.assert_close(blended[8:16], expected, atol=1e-6, rtol=0)


def test_every_tile_is_asked_once_at_the_level_with_the_whole_batch() -> None:
    asked: list[int] = []
    shapes = []

    def watched(x_t: Tensor, t: int) -> Tensor:
        shapes.append(tuple(x_t.shape))
        return torch.zeros_like(x_t)

    tiled(recorded(watched, asked), 16, 8)(torch.zeros(3, 2, 32, 24), 55)
    assert asked == [55] * 6
    assert shapes == [(3, 2, 16, 16)] * 6


def test_an_axis_shorter_than_the_tile_is_not_cut() -> None:
    shapes = []

    def watched(x_t: Tensor, t: int) -> Tensor:
        shapes.append(tuple(x_t.shape[-2:]))
        return x_t

    x = images(1, side=32)[..., :12, :]
    torch.testing.assert_close(tiled(watched, 16, 0)(x, 1), x)
    assert shapes == [(12, 16), (12, 16)]


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0), (-1, 0), (16, 16), (16, -1)])
def test_tiles_that_cannot_be_are_refused(tile: int, overlap: int) -> None:
    with pytest.raises(ConfigError, match="cannot overlap"):
        tiled(place_of, tile, overlap)

from __future__ import annotations

import pytest
import torch

from baselines.simplex import corners, simplex_fields, simplex_noise, unit_variance


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_noise_has_mean_zero_and_variance_one() -> None:
    noise = simplex_noise((400, 1, 24, 24), draws())
    # Neighbours are alike, so the fields and not the pixels are counted: standard error about 0.04.
    assert float(noise.mean()) == pytest.approx(0, abs=0.12)
    assert float((noise**2).mean()) == pytest.approx(1, abs=0.12)


def test_the_variance_of_a_field_is_the_integral() -> None:
    steps = torch.arange(40) * 0.37
    points = torch.stack(torch.meshgrid(steps, steps, indexing="ij"))[:, None].expand(2, 300, 40, 40)
    offsets = 200 * torch.rand((2, 300, 1, 1), generator=draws(1))
    found = simplex_fields(points + offsets, draws(2))
    assert float((found**2).mean()) == pytest.approx(unit_variance(), rel=0.05)


def test_a_field_is_zero_on_the_lattice_and_continuous_everywhere() -> None:
    # On a lattice point the distance to its own corner is zero and the others are out of reach.
    lattice = torch.tensor([[0.0, 1, 2], [0, 1, 0]], dtype=torch.float64)
    unskewed = lattice - (3 - 3**0.5) / 6 * lattice.sum(dim=0)
    points = unskewed[:, None, None].float()
    assert float(simplex_fields(points, draws()).abs().max()) < 1e-5
    line = torch.linspace(0, 5, 20_001)
    along = simplex_fields(torch.stack([line, 0.3 * line])[:, None, None], draws())
    # Gradients are at most 1 long; the kernel's slope bounds a step of 0.00026 far below this.
    assert float(along.diff().abs().max()) < 1e-3
    assert float(along.std()) > 1e-3


def test_corners_are_the_three_nearest_lattice_points_of_a_simplex() -> None:
    points = torch.rand((2, 50, 1, 1), generator=draws(), dtype=torch.float64) * 10
    found = corners(points)
    for index, distance in found:
        position = index - (3 - 3**0.5) / 6 * index.sum(dim=0).double()
        torch.testing.assert_close(points - position, distance)
        # A simplex has sides of sqrt(2/3): no corner is farther away.
        assert float((distance**2).sum(dim=0).max()) <= 2 / 3 + 1e-9


def test_coarse_octaves_make_neighbours_alike() -> None:
    noise = simplex_noise((100, 1, 32, 32), draws(3))
    along = (noise[..., 1:] * noise[..., :-1]).mean() / (noise**2).mean()
    assert float(along) > 0.5
    white = torch.randn((100, 1, 32, 32), generator=draws(3))
    assert abs(float((white[..., 1:] * white[..., :-1]).mean())) < 0.05


def test_the_same_generator_gives_the_same_noise_and_planes_differ() -> None:
    one, other = simplex_noise((2, 3, 8, 8), draws(5)), simplex_noise((2, 3, 8, 8), draws(5))
    assert torch.equal(one, other)
    planes = one.reshape(6, -1)
    assert len({tuple(plane.tolist()) for plane in planes}) == 6
    assert not torch.equal(one, simplex_noise((2, 3, 8, 8), draws(6)))

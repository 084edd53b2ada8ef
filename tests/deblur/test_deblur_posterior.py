from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from toys import gaussian_eps, images

from deblur.blur import blur_periodic, masked_step, periodic_step
from deblur.canvas import Canvas
from deblur.diffpir import DiffPirConfig, Restoration, diffpir, to_unit
from deblur.posterior import PosteriorSamples, deblur_transform, posterior, share_outside
from deblur.tiles import tiled
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.errors import ConfigError, InputError
from medanomaly.rng import image_generator

SCHEDULE = NoiseSchedule.linear()
PRIOR = gaussian_eps(0.0, 0.3, SCHEDULE)
ROW = torch.tensor([[0.1, 0.2, 0.4, 0.2, 0.1]], dtype=torch.float64)
"""Erases no frequency, so that a prior without knowledge of the scene is enough."""
FEW = DiffPirConfig(num_steps=8)


def samples_of(y: Tensor, *, seed: int = 0, config: DiffPirConfig = FEW, num_samples: int | None = None) -> PosteriorSamples:
    """Restorations of unblurred images."""
    return posterior(
        Restoration(
            eps_fn=PRIOR, data_step=lambda z, rho: (y + rho * z) / (1 + rho), schedule=SCHEDULE, noise_sd=0.05, config=config
        ),
        y,
        seed=seed,
        num_samples=num_samples,
    )


def smooth_scene(side: int) -> Tensor:
    """(1, 1, side, side) float32 in model space, with structure that the row kernel blurs."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return (0.6 * torch.sin(2 * math.pi * columns / 9) * torch.cos(2 * math.pi * rows / 13))[None, None].float()


def test_mean_and_deviation_are_those_of_the_samples() -> None:
    y = images(2, side=6) / 4 + 0.5
    found = samples_of(y, num_samples=4)
    assert found.samples.shape == (4, 2, 1, 6, 6)
    assert found.std is not None
    torch.testing.assert_close(found.mean, found.samples.sum(0) / 4)
    torch.testing.assert_close(found.std, ((found.samples - found.mean).square().sum(0) / 3).sqrt())
    assert float(found.std.min()) > 0


def test_one_sample_has_no_deviation_and_is_the_mean() -> None:
    found = samples_of(images(1, side=6) / 4 + 0.5)
    assert found.std is None
    assert torch.equal(found.mean, found.samples[0])


def test_the_number_of_samples_is_the_configs_unless_it_is_given() -> None:
    y = images(1, side=6) / 4 + 0.5
    config = DiffPirConfig(num_steps=2, num_samples=3)
    assert len(samples_of(y, config=config).samples) == 3
    assert len(samples_of(y, config=config, num_samples=2).samples) == 2
    with pytest.raises(ConfigError, match="num_samples"):
        samples_of(y, num_samples=0)


def test_a_sample_is_one_diffpir_restoration() -> None:
    y = images(1, side=6) / 4 + 0.5
    alone = diffpir(
        Restoration(
            eps_fn=PRIOR, data_step=lambda z, rho: (y + rho * z) / (1 + rho), schedule=SCHEDULE, noise_sd=0.05, config=FEW
        ),
        y,
        generators=[image_generator(7, "diffpir 0", y[0])],
    )
    assert torch.equal(samples_of(y, seed=7, num_samples=2).samples[0], alone)


def test_samples_follow_from_the_seed_and_the_image_alone() -> None:
    y = images(2, side=6) / 4 + 0.5
    together = samples_of(y, num_samples=2)
    assert torch.equal(together.samples, samples_of(y, num_samples=2).samples)
    assert torch.equal(together.samples[:, 1:], samples_of(y[1:], num_samples=2).samples)
    assert torch.equal(together.samples[:1], samples_of(y).samples)
    assert not torch.equal(together.samples, samples_of(y, seed=1, num_samples=2).samples)


def test_the_share_outside_counts_what_noise_does_not_explain() -> None:
    x = torch.zeros(2, 1, 4, 5)
    x[0, 0, 0] = 1.5
    x[1, 0, 0, 0] = -1.5
    x[1, 0, 1] = 1.05  # 0.025 beyond in [0, 1], within three deviations of 0.01
    assert share_outside(x, 0.01).tolist() == [0.25, 0.05]
    assert share_outside(x, 0.005).tolist() == [0.25, 0.3]


def test_the_share_outside_is_taken_before_the_clamp() -> None:
    y = torch.full((2, 1, 4, 4), 0.5)

    def leads_outside(z: Tensor, rho: float) -> Tensor:
        z = torch.full_like(z, 0.5)
        z[1, 0, 0] = 2.0
        return z

    found = posterior(
        Restoration(eps_fn=PRIOR, data_step=leads_outside, schedule=SCHEDULE, noise_sd=0.05, config=FEW), y, seed=0, num_samples=2
    )
    assert found.share_outside.tolist() == [0.0, 0.25]
    assert float(found.mean.max()) == 1.0


def test_deblurring_undoes_a_known_blur_with_unknown_borders() -> None:
    # The scene is larger than the picture, whose left is dark and whose right is bright.
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    waves = 0.4 * torch.sin(2 * math.pi * columns / 5) * torch.cos(2 * math.pi * rows / 13)
    sharp = (waves + torch.linspace(-0.6, 0.6, 40))[None, None]
    x = sharp[..., 8:32, 6:35]
    blurred = blur_periodic(sharp, ROW)[..., 8:32, 6:35]
    settings = DiffPirConfig(num_steps=20)
    found = deblur_transform(PRIOR, SCHEDULE, ROW, noise_sd=0.5 / 255, size_multiple=8, config=settings)(blurred)
    assert found.shape == x.shape
    assert found.dtype == x.dtype
    assert float(found.abs().max()) <= 1

    def error(restored: Tensor) -> float:
        """Mean square away from the columns next to the border, which depend on what was never seen."""
        return float((restored - x)[..., 3:-3].square().mean())

    # 10 dB.
    assert error(found) < 0.1 * error(blurred)
    # As if the picture went on periodically, the jump from right to left rings far into it.
    y = to_unit(blurred)
    torus = posterior(
        Restoration(eps_fn=PRIOR, data_step=periodic_step(y, ROW), schedule=SCHEDULE, noise_sd=0.5 / 255, config=settings),
        y,
        seed=0,
    )
    assert error(found) < 0.3 * error(2 * torus.mean - 1)


def test_the_prior_sees_sides_of_the_multiple_and_the_picture_chooses_the_noise() -> None:
    x = smooth_scene(13)
    shapes = set()

    def watched(x_t: Tensor, t: int) -> Tensor:
        shapes.add(tuple(x_t.shape))
        return PRIOR(x_t, t)

    found = deblur_transform(watched, SCHEDULE, ROW, noise_sd=0.02, size_multiple=8, config=FEW, seed=3)(x)
    assert shapes == {(1, 1, 16, 24)}
    canvas = Canvas.around((13, 13), ROW, multiple=8)
    placed = canvas.place(to_unit(x))
    expected = diffpir(
        Restoration(eps_fn=PRIOR, data_step=masked_step(placed, ROW, canvas.mask), schedule=SCHEDULE, noise_sd=0.02, config=FEW),
        placed,
        generators=[image_generator(3, "diffpir 0", to_unit(x)[0])],
    )
    assert torch.equal(found, 2 * canvas.crop(expected) - 1)


def test_a_batch_of_two_is_two_batches_of_one() -> None:
    x = images(2, side=12) / 2
    undo = deblur_transform(PRIOR, SCHEDULE, ROW, noise_sd=0.02, size_multiple=4, config=FEW)
    torch.testing.assert_close(undo(x), torch.cat([undo(x[:1]), undo(x[1:])]), atol=1e-5, rtol=0)


def test_rounding_counts_as_noise() -> None:
    x = smooth_scene(12)
    rounded, plain, louder = (
        deblur_transform(PRIOR, SCHEDULE, ROW, noise_sd=sd, size_multiple=4, config=FEW, num_gray_levels=levels)(x)
        for sd, levels in ((0.5 / 255, 256), (0.5 / 255, None), (math.sqrt(0.25 + 1 / 12) / 255, None))
    )
    torch.testing.assert_close(rounded, louder, atol=1e-6, rtol=0)
    assert not torch.allclose(rounded, plain, atol=1e-6)


def test_pixels_that_are_not_usable_do_not_matter() -> None:
    x, usable = smooth_scene(16), torch.ones(16, 16, dtype=torch.bool)
    usable[:3] = False
    marked = x.clone()
    marked[..., :3, :] = 1.0
    undo = deblur_transform(
        PRIOR, SCHEDULE, ROW, noise_sd=0.02, size_multiple=4, config=DiffPirConfig(num_steps=20), usable=usable
    )
    everywhere = deblur_transform(PRIOR, SCHEDULE, ROW, noise_sd=0.02, size_multiple=4, config=DiffPirConfig(num_steps=20))
    masked = undo(marked)[..., :3, :]
    # The burned-in white is kept where it counts as data, and filled in by the prior, whose mean is gray, where it does not.
    assert float(everywhere(marked)[..., :3, :].mean()) > 0.9
    assert float(masked.mean()) < 0.5


def test_a_tiled_prior_restores_images_larger_than_its_tile() -> None:
    x = smooth_scene(24)
    plain, cut = (
        deblur_transform(eps_fn, SCHEDULE, ROW, noise_sd=0.02, size_multiple=8, config=FEW)(x)
        for eps_fn in (PRIOR, tiled(PRIOR, 16, 8))
    )
    torch.testing.assert_close(plain, cut, atol=1e-4, rtol=0)


def test_settings_that_cannot_be_are_refused_before_there_is_an_image() -> None:
    with pytest.raises(ConfigError, match="num_steps"):
        deblur_transform(PRIOR, SCHEDULE, ROW, noise_sd=0.1, size_multiple=1, config=DiffPirConfig(num_steps=1001))
    with pytest.raises(ConfigError, match="noise_sd"):
        deblur_transform(PRIOR, SCHEDULE, ROW, noise_sd=0.0, size_multiple=1, config=FEW)


@pytest.mark.parametrize(("x", "code"), [(torch.full((1, 1, 8, 8), 200.0), "E_RANGE"), (torch.zeros(1, 8, 8), "E_SHAPE")])
def test_what_is_no_image_in_model_space_is_refused(x: Tensor, code: str) -> None:
    with pytest.raises(InputError, match=code):
        deblur_transform(PRIOR, SCHEDULE, ROW, noise_sd=0.1, size_multiple=1, config=FEW)(x)

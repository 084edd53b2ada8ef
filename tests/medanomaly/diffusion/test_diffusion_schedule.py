from itertools import pairwise

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler

from medanomaly.diffusion.schedule import BETAS, NoiseSchedule, ScheduleConfig
from medanomaly.errors import ConfigError

MONAI_NAMES = {
    "linear": ("linear_beta", {}),
    # MONAI's scaled_linear keeps the linear schedule's ends by default: that is our quadratic; Rombach's ends must be given.
    "scaled_linear": ("scaled_linear_beta", {"beta_start": 0.00085, "beta_end": 0.012}),
    "quadratic": ("scaled_linear_beta", {}),
    "cosine": ("cosine", {}),
    "sigmoid": ("sigmoid_beta", {}),
}


@pytest.mark.parametrize("name", BETAS)
def test_each_schedule_is_monais_at_a_thousand_levels(name: str) -> None:
    theirs, settings = MONAI_NAMES[name]
    expected = DDIMScheduler(num_train_timesteps=1000, schedule=theirs, **settings).alphas_cumprod
    ours = NoiseSchedule.from_config(ScheduleConfig(name=name)).alpha_bar[1:]  # type: ignore[arg-type]
    torch.testing.assert_close(ours.float(), expected, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "quadratic", "sigmoid"])
@pytest.mark.parametrize("num_levels", [250, 4000])
def test_other_lengths_destroy_about_as_much_signal_where_monai_does_not_rescale(name: str, num_levels: int) -> None:
    full = NoiseSchedule.from_config(ScheduleConfig(name=name)).alpha_bar[-1]  # type: ignore[arg-type]
    other = NoiseSchedule.from_config(ScheduleConfig(name=name, num_levels=num_levels)).alpha_bar[-1]  # type: ignore[arg-type]
    assert float(other.log() / full.log()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", BETAS)
@pytest.mark.parametrize("num_levels", [2, 10, 1000])
def test_level_0_is_the_clean_image_and_signal_only_falls(name: str, num_levels: int) -> None:
    schedule = NoiseSchedule.from_config(ScheduleConfig(name=name, num_levels=num_levels))  # type: ignore[arg-type]
    assert schedule.num_levels == num_levels
    assert len(schedule.alpha_bar) == num_levels + 1
    assert schedule.signal(0) == 1
    assert schedule.noise(0) == 0
    assert bool((schedule.alpha_bar.diff() < 0).all())
    assert schedule.alpha_bar.dtype == torch.float64
    for t in (0, 1, num_levels):
        assert schedule.signal(t) ** 2 + schedule.noise(t) ** 2 == pytest.approx(1, abs=1e-12)


def test_a_grid_rises_strictly_from_0_to_the_noise_level_in_the_steps_asked_for() -> None:
    schedule = NoiseSchedule.linear(40)
    for noise_level in range(1, 41):
        for num_steps in range(1, noise_level + 1):
            levels = schedule.grid(noise_level, num_steps)
            assert (levels[0], levels[-1], len(levels)) == (0, noise_level, num_steps + 1)
            gaps = [after - before for before, after in pairwise(levels)]
            assert min(gaps) >= 1
            assert max(gaps) - min(gaps) <= 2


def test_a_grid_of_as_many_steps_as_levels_leaves_none_out() -> None:
    assert NoiseSchedule.linear(30).grid(30, 30) == list(range(31))


@pytest.mark.parametrize(("noise_level", "num_steps"), [(-1, 1), (0, 1), (1001, 10), (500, 0), (500, 501), (1, 2)])
def test_an_impossible_grid_is_refused_with_the_range(noise_level: int, num_steps: int) -> None:
    with pytest.raises(ConfigError, match=r"must be in 1\.\."):
        NoiseSchedule.linear().grid(noise_level, num_steps)


def test_noise_is_added_at_each_images_own_level() -> None:
    schedule, x_0 = NoiseSchedule.linear(), torch.full((3, 1, 2, 2), 0.5)
    eps = torch.full_like(x_0, 2.0)
    x_t = schedule.add_noise(x_0, eps, torch.tensor([0, 500, 1000]))
    for index, t in enumerate((0, 500, 1000)):
        expected = 0.5 * schedule.signal(t) + 2.0 * schedule.noise(t)
        torch.testing.assert_close(x_t[index], torch.full((1, 2, 2), expected))
    assert torch.equal(x_t[0], x_0[0])
    assert x_t.dtype == torch.float32


@pytest.mark.parametrize("level", [-1, 1001])
def test_a_level_outside_the_schedule_is_refused_not_wrapped_around(level: int) -> None:
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"0\.\.1000"):
        NoiseSchedule.linear().add_noise(x, x, torch.tensor([level]))


@pytest.mark.parametrize("values", [[1.0, 0.5, 0.5], [0.9, 0.5], [1.0, 0.5, 0.0], [1.0, 0.5, 0.6], [[1.0, 0.5]]])
def test_signal_power_that_is_no_schedule_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="alpha_bar"):
        NoiseSchedule(torch.tensor(values, dtype=torch.float64))


@pytest.mark.parametrize("settings", [{"name": "liner"}, {"num_levels": 1}, {"num_levels": 0}])
def test_a_schedule_that_cannot_be_is_refused_when_it_is_configured(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"schedule.{next(iter(settings))}"):
        ScheduleConfig(**settings)  # type: ignore[arg-type]

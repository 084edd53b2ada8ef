from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import gaussian_eps, images, recorded

from deblur.blur import DataStep
from deblur.diffpir import DiffPirConfig, Restoration, diffpir, levels_of, noise_floor
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.errors import ConfigError, InputError

SCHEDULE = NoiseSchedule.linear()
MEAN, STD = 0.1, 0.1
"""The prior of these tests, in model space: far enough from -1 and 1 that the first step's clamp never acts."""
KERNEL = np.array([[0.0, 0.2, 0.1], [0.1, 0.4, 0.0], [0.2, 0.0, 0.0]])


def unblurred(y: Tensor) -> DataStep:
    """The data step of the identity kernel: a weighted mean."""
    return lambda z, rho: ((y.double() + rho * z.double()) / (1 + rho)).to(z.dtype)


def matrix_of(kernel: np.ndarray, side: int) -> np.ndarray:
    """(side^2, side^2) periodic convolution, its origin at size // 2, built pixel by pixel."""
    blur = np.zeros((side, side, side, side))
    for row in range(side):
        for column in range(side):
            for (down, right), weight in np.ndenumerate(kernel):
                blur[row, column, (row - down + 1) % side, (column - right + 1) % side] += weight
    return blur.reshape(side**2, side**2)


def dense_step(y: Tensor, blur: np.ndarray) -> DataStep:
    """argmin ||y - A x||^2 + rho ||x - z||^2 by the normal equations."""
    matrix, right = torch.from_numpy(blur.T @ blur), y.double().flatten(1) @ torch.from_numpy(blur)

    def step(z: Tensor, rho: float) -> Tensor:
        system = matrix + rho * torch.eye(len(matrix), dtype=torch.float64)
        return torch.linalg.solve(system, (right + rho * z.double().flatten(1)).T).T.reshape(z.shape).to(z.dtype)

    return step


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def restored(y: Tensor, *, noise_sd: float = 0.05, seeds: tuple[int, ...] = (0,), **settings: object) -> Tensor:
    """DiffPIR of unblurred images with the exact Gaussian prior."""
    config = DiffPirConfig(**({"num_steps": 20} | settings))  # type: ignore[arg-type]
    eps_fn = gaussian_eps(MEAN, STD, SCHEDULE)
    return diffpir(
        Restoration(eps_fn=eps_fn, data_step=unblurred(y), schedule=SCHEDULE, noise_sd=noise_sd, config=config),
        y,
        generators=seeded(*seeds),
    )


def expected_recursion(
    y: np.ndarray, blur: np.ndarray, noise_sd: float, lambda_: float, zeta: float, indices: list[int]
) -> np.ndarray:
    """DEBLUR by the paper's equations on flat images in [-1, 1], with the published 0-based levels and its betas; float64.

    The prior enters as its posterior mean instead of its noise, and the data step is scaled to [-1, 1].
    """
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    draws = torch.Generator().manual_seed(0)
    side = math.isqrt(y.size)

    def normal() -> np.ndarray:
        return torch.randn(1, side, side, generator=draws).double().numpy().ravel()

    a = alpha_bar[indices[0]]
    x = np.sqrt(a) * y + np.sqrt(1 - a - a * (2 * noise_sd) ** 2) * normal()
    for step, index in enumerate(indices):
        a = alpha_bar[index]
        clean = MEAN + np.sqrt(a) * STD**2 / (a * STD**2 + 1 - a) * (x - np.sqrt(a) * MEAN)
        rho = lambda_ * noise_sd**2 * a / (1 - a)
        clean = np.linalg.solve(blur.T @ blur + rho * np.eye(y.size), blur.T @ y + rho * clean)
        if step == len(indices) - 1:
            return clean
        eps = (x - np.sqrt(a) * clean) / np.sqrt(1 - a)
        following = alpha_bar[indices[step + 1]]
        x = np.sqrt(following) * clean + np.sqrt(1 - following) * (np.sqrt(1 - zeta) * eps + np.sqrt(zeta) * normal())
    raise AssertionError("no levels")


@pytest.mark.parametrize("zeta", [0.0, 0.3, 1.0])
def test_the_walk_is_the_papers_recursion_computed_independently(zeta: float) -> None:
    blur = matrix_of(KERNEL, 6)
    y = (torch.from_numpy(blur) @ (0.5 + 0.05 * images(1, side=6).double()).flatten()).reshape(1, 1, 6, 6)
    config = DiffPirConfig(num_steps=20, zeta=zeta)
    found = diffpir(
        Restoration(
            eps_fn=gaussian_eps(MEAN, STD, SCHEDULE),
            data_step=dense_step(y, blur),
            schedule=SCHEDULE,
            noise_sd=0.02,
            config=config,
        ),
        y,
        generators=seeded(0),
    )
    indices = [level - 1 for level in levels_of(SCHEDULE, config)]
    expected = expected_recursion(2 * y.numpy().ravel() - 1, blur, 0.02, 7.0, zeta, indices)
    assert np.abs(2 * found.numpy().ravel() - 1 - expected).max() < 1e-9


def test_with_lambda_four_and_fresh_noise_the_mean_is_that_of_the_posterior() -> None:
    # Where z = x + sigma_bar^2 grad log p(x), the data step stands still at x - y = lambda sigma^2 grad log p(x) / 2 in [0, 1]
    # units: the posterior's mode, for lambda = 4 in the published unit. Noise about it averages out over the pixels of an image.
    noise_sd = 0.02
    y = torch.tensor([0.45, 0.5, 0.62], dtype=torch.float64).view(3, 1, 1, 1).expand(3, 1, 32, 32).clone()
    found = restored(y, noise_sd=noise_sd, lambda_=4.0, zeta=1.0, num_steps=1000, seeds=(0, 1, 2)).mean(dim=(1, 2, 3))
    gain = STD**2 / (STD**2 + (2 * noise_sd) ** 2)
    posterior_mean = (1 + MEAN) / 2 + gain * (y[:, 0, 0, 0] - (1 + MEAN) / 2)
    # 1000 levels lag behind the fixed point by 1 % of the distance from the prior's mean (0.1 here); the mean of 1024 pixels of
    # deviation 0.012 is known to 0.0004.
    assert float((found - posterior_mean).abs().max()) < 0.002
    assert float((y[:, 0, 0, 0] - posterior_mean).abs().max()) > 0.01


def test_without_noise_and_without_blur_the_input_comes_back() -> None:
    # The last step gives rho / (1 + rho) = 0.065 of its weight to the prior, which sees y with noise of 0.005 in [0, 1].
    y = images(2, side=8).double() / 8 + 0.55
    found = restored(y, noise_sd=1e-12, seeds=(0, 1))
    assert 0 < float((found - y).abs().max()) < 0.5 / 255


def test_levels_of_the_published_quadratic_grid_are_one_above_its_indices() -> None:
    twenty = [level - 1 for level in levels_of(SCHEDULE, DiffPirConfig(num_steps=20))]
    assert len(twenty) == 20
    assert twenty[:5] == [999, 770, 675, 602, 541]
    assert twenty[-5:] == [111, 82, 54, 26, 0]
    hundred = [level - 1 for level in levels_of(SCHEDULE, DiffPirConfig())]
    assert len(hundred) == 100
    assert hundred[:4] == [999, 899, 857, 825]
    assert hundred[-4:] == [15, 10, 5, 0]


def test_a_uniform_grid_has_even_steps() -> None:
    assert levels_of(SCHEDULE, DiffPirConfig(num_steps=4, grid="uniform")) == [1000, 667, 334, 1]


@pytest.mark.parametrize("grid", ["quadratic", "uniform"])
@pytest.mark.parametrize("top", [1, 2, 3, 7, 60])
def test_any_number_of_steps_falls_strictly_from_the_start_to_level_one(top: int, grid: str) -> None:
    for num_steps in range(1, top + 1):
        levels = levels_of(SCHEDULE, DiffPirConfig(num_steps=num_steps, t_start=top, grid=grid))  # type: ignore[arg-type]
        assert len(levels) == num_steps
        assert levels[0] == top
        assert all(before > after for before, after in pairwise(levels))
        assert levels[-1] == (1 if num_steps > 1 else top)


def test_the_network_is_asked_once_a_level_and_each_answer_meets_the_data_once() -> None:
    asked: list[int] = []
    weights: list[float] = []
    y = torch.full((1, 1, 4, 4), 0.5)

    def counted(z: Tensor, rho: float) -> Tensor:
        weights.append(rho)
        return unblurred(y)(z, rho)

    config = DiffPirConfig(num_steps=20)
    eps_fn = recorded(gaussian_eps(MEAN, STD, SCHEDULE), asked)
    diffpir(
        Restoration(eps_fn=eps_fn, data_step=counted, schedule=SCHEDULE, noise_sd=0.5 / 255, config=config),
        y,
        generators=seeded(0),
    )
    assert asked == levels_of(SCHEDULE, config)
    assert len(weights) == 20
    # rho at 0.5 / 255 and lambda 7: 1.1e-9 at the published index 999, 0.27 at index 0.
    assert weights[0] == pytest.approx(1.1e-9, rel=0.02)
    assert weights[-1] == pytest.approx(0.27, rel=0.01)


def test_what_comes_back_is_the_last_image_of_the_data_step() -> None:
    made: list[Tensor] = []
    y = images(1, side=8) / 8 + 0.5

    def kept(z: Tensor, rho: float) -> Tensor:
        made.append(unblurred(y)(z, rho))
        return made[-1]

    config = DiffPirConfig(num_steps=5)
    found = diffpir(
        Restoration(eps_fn=gaussian_eps(MEAN, STD, SCHEDULE), data_step=kept, schedule=SCHEDULE, noise_sd=0.02, config=config),
        y,
        generators=seeded(3),
    )
    torch.testing.assert_close(found, made[-1], atol=1e-6, rtol=0)


def test_the_data_step_is_not_clamped_on_the_way_and_the_result_is() -> None:
    # A data step that always leads outside: at the end it has the last word.
    seen: list[tuple[int, float]] = []
    y = torch.full((1, 1, 4, 4), 0.9)
    found = diffpir(
        Restoration(
            eps_fn=gaussian_eps(MEAN, STD, SCHEDULE),
            data_step=lambda z, rho: torch.full_like(z, 1.25),
            schedule=SCHEDULE,
            noise_sd=0.02,
            config=DiffPirConfig(num_steps=3),
        ),
        y,
        generators=seeded(0),
        observer=lambda level, x, x_0: seen.append((level, float(x_0.max()))),
    )
    levels = levels_of(SCHEDULE, DiffPirConfig(num_steps=3))
    assert seen == [(levels[1], 1.5), (levels[2], 1.5), (0, 1.5)]
    assert found.unique().tolist() == [1.0]


def test_the_networks_image_is_clamped_before_it_meets_the_data() -> None:
    # No noise at all predicted: the first step's clean image is x_t / sqrt(alpha_bar), far outside at level T.
    shown: list[Tensor] = []
    y = torch.full((1, 1, 8, 8), 0.5)

    def kept(z: Tensor, rho: float) -> Tensor:
        shown.append(z)
        return y

    config = DiffPirConfig(num_steps=2)
    diffpir(
        Restoration(eps_fn=lambda x, t: torch.zeros_like(x), data_step=kept, schedule=SCHEDULE, noise_sd=0.02, config=config),
        y,
        generators=seeded(0),
    )
    assert sorted(shown[0].unique().tolist()) == [0.0, 1.0]


def test_a_seed_fixes_the_result_and_zero_is_one() -> None:
    y = images(1, side=8) / 8 + 0.5
    first, again, other = (restored(y, seeds=(seed,)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert float((first - other).abs().max()) > 0.01


def test_an_image_does_not_depend_on_its_batch() -> None:
    y = images(2, side=8) / 8 + 0.5
    together = restored(y, seeds=(5, 6))
    assert torch.equal(together[:1], restored(y[:1], seeds=(5,)))
    assert torch.equal(together[1:], restored(y[1:], seeds=(6,)))


def test_at_half_a_gray_level_of_noise_float32_is_finite_and_as_good_as_float64() -> None:
    y = images(1, side=8) / 8 + 0.5
    for num_steps in (20, 100):
        single, double = (restored(x, noise_sd=0.5 / 255, num_steps=num_steps) for x in (y, y.double()))
        assert single.dtype == torch.float32
        assert double.dtype == torch.float64
        # A hundredth of a gray level.
        torch.testing.assert_close(single.double(), double, atol=0.01 / 255, rtol=0)


def test_from_a_low_start_less_is_made_up_of_what_the_blur_erased() -> None:
    # The mean of two neighbours erases what changes its sign from column to column.
    blur = matrix_of(np.array([[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 0.0]]), 8)
    y = torch.full((1, 1, 8, 8), (1 + MEAN) / 2, dtype=torch.float64)
    erased = (-1.0) ** torch.arange(8, dtype=torch.float64)
    energy = {}
    for t in (10, 1000):
        config = DiffPirConfig(num_steps=10, t_start=t)
        eps_fn = gaussian_eps(MEAN, STD, SCHEDULE)
        found = diffpir(
            Restoration(eps_fn=eps_fn, data_step=dense_step(y, blur), schedule=SCHEDULE, noise_sd=0.002, config=config),
            y,
            generators=seeded(0),
        )
        energy[t] = float((found @ erased).square().mean())
    assert energy[10] < 0.3 * energy[1000]


def test_the_start_has_the_noise_of_its_level_whatever_y_brings_along() -> None:
    # y = 0.5 + noise, in model space noise alone: x_t must have the variance 1 - alpha_bar.
    t, noise_sd = 200, 0.1
    y = 0.5 + noise_sd * torch.randn(1, 1, 128, 128, generator=torch.Generator().manual_seed(9))
    begun: list[Tensor] = []

    def first(x: Tensor, level: int) -> Tensor:
        begun.append(x)
        return torch.zeros_like(x)

    config = DiffPirConfig(num_steps=1, t_start=t)
    diffpir(
        Restoration(eps_fn=first, data_step=unblurred(y), schedule=SCHEDULE, noise_sd=noise_sd, config=config),
        y,
        generators=seeded(0),
    )
    # 16,384 values give a deviation to 0.55 %; without counting y's noise it would be 12 % larger.
    assert float(begun[0].std()) == pytest.approx(SCHEDULE.noise(t), rel=0.02)


def test_rounding_to_gray_levels_is_noise_of_a_twelfth() -> None:
    assert noise_floor(0.5 / 255) == 0.5 / 255
    assert noise_floor(0.5 / 255, 256) == pytest.approx(math.sqrt(0.25 + 1 / 12) / 255)
    assert noise_floor(1e-9) == 0.001
    assert noise_floor(1e-9, 65536) == 0.001
    assert noise_floor(1e-9, 256) == pytest.approx(math.sqrt(1 / 12) / 255)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"num_steps": 0}, "num_steps"),
        ({"num_samples": 0}, "num_samples"),
        ({"lambda_": 0.0}, "lambda_"),
        ({"lambda_": math.nan}, "lambda_"),
        ({"zeta": -0.1}, "zeta"),
        ({"zeta": 1.1}, "zeta"),
        ({"zeta": math.nan}, "zeta"),
        ({"t_start": 0}, "t_start"),
        ({"t_start": -5}, "t_start"),
        ({"grid": "cubic"}, "grid"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        DiffPirConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"num_steps": 1001}, "num_steps is 1001"),
        ({"num_steps": 31, "t_start": 30}, "num_steps is 31"),
        ({"t_start": 1001}, "t_start is 1001"),
        ({"noise_sd": 0.0}, "noise_sd"),
        ({"noise_sd": -0.1}, "noise_sd"),
        ({"noise_sd": math.nan}, "noise_sd"),
        ({"noise_sd": 12.75}, "noise_sd"),
        ({"noise_sd": 0.3, "t_start": 20}, "less noise than the image"),
    ],
)
def test_a_start_that_cannot_be_is_refused(settings: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        restored(torch.full((1, 1, 4, 4), 0.5), **settings)  # type: ignore[arg-type]


def test_gray_levels_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_gray_levels"):
        noise_floor(0.1, 1)


@pytest.mark.parametrize(
    ("y", "code"),
    [
        (torch.full((1, 1, 4, 4), torch.nan), "E_NONFINITE"),
        (torch.full((1, 1, 4, 4), torch.inf), "E_NONFINITE"),
        (torch.full((1, 1, 4, 4), -0.9), "E_RANGE"),
        (torch.full((1, 1, 4, 4), 128.0), "E_RANGE"),
        (torch.full((1, 4, 4), 0.5), "E_SHAPE"),
        (torch.full((2, 1, 4, 4), 0.5), "E_SHAPE"),
        (torch.full((1, 0, 4, 4), 0.5), "E_SHAPE"),
        (torch.ones((1, 1, 4, 4), dtype=torch.uint8), "E_SHAPE"),
    ],
)
def test_what_is_no_measurement_is_refused(y: Tensor, code: str) -> None:
    with pytest.raises(InputError, match=code):
        restored(y)


def test_a_prior_that_makes_no_numbers_is_an_error_and_no_image() -> None:
    y = torch.full((1, 1, 4, 4), 0.5)
    with pytest.raises(InputError, match="E_NONFINITE"):
        diffpir(
            Restoration(
                eps_fn=lambda x, t: torch.full_like(x, torch.nan),
                data_step=unblurred(y),
                schedule=SCHEDULE,
                noise_sd=0.1,
                config=DiffPirConfig(num_steps=2),
            ),
            y,
            generators=seeded(0),
        )

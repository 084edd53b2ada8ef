import pytest
import torch
from toys import gaussian_eps, recorded

from medanomaly.diffusion.guidance import classifier_free, classifier_guided, dynamic_thresholding, within_levels
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.walk import predicted_clean

SCHEDULE = NoiseSchedule.linear()
CLASS, NULL = gaussian_eps(-0.4, 0.3, SCHEDULE), gaussian_eps(0.2, 0.3, SCHEDULE)
X = torch.linspace(-1, 1, 32, dtype=torch.float64).reshape(2, 1, 4, 4)


@pytest.mark.parametrize("t", [1, 250, 1000])
def test_guidance_0_is_the_null_class_and_1_is_the_class(t: int) -> None:
    torch.testing.assert_close(classifier_free(CLASS, NULL, 0.0)(X, t), NULL(X, t))
    torch.testing.assert_close(classifier_free(CLASS, NULL, 1.0)(X, t), CLASS(X, t))


@pytest.mark.parametrize("guidance_scale", [0.5, 3.0, 7.5])
def test_guidance_is_linear_in_its_scale(guidance_scale: float) -> None:
    expected = (1 - guidance_scale) * NULL(X, 250) + guidance_scale * CLASS(X, 250)
    torch.testing.assert_close(classifier_free(CLASS, NULL, guidance_scale)(X, 250), expected)


@pytest.mark.parametrize("w", [0.0, 2.0, 4.0])
def test_a_seed_commands_w_is_a_guidance_scale_of_w_plus_1(w: float) -> None:
    seed = (1 + w) * CLASS(X, 250) - w * NULL(X, 250)
    torch.testing.assert_close(classifier_free(CLASS, NULL, w + 1)(X, 250), seed)


def test_inside_the_interval_guidance_holds_ends_included_and_outside_it_does_not() -> None:
    guided: list[int] = []
    plain: list[int] = []
    eps_fn = within_levels(recorded(CLASS, guided), recorded(NULL, plain), (100, 300))
    for t in (1, 99, 100, 200, 300, 301, 1000):
        expected = CLASS if 100 <= t <= 300 else NULL
        assert torch.equal(eps_fn(X, t), expected(X, t))
    assert guided == [100, 200, 300]
    assert plain == [1, 99, 301, 1000]


def test_thresholding_leaves_alone_what_predicts_an_image_in_range() -> None:
    x_t = SCHEDULE.signal(250) * 0.9 * X + SCHEDULE.noise(250) * 0.7
    eps_fn = dynamic_thresholding(lambda x, t: torch.full_like(x, 0.7), SCHEDULE)
    torch.testing.assert_close(eps_fn(x_t, 250), torch.full_like(X, 0.7))


def test_thresholding_brings_each_image_into_range_by_its_own_quantile() -> None:
    x_0 = torch.stack([0.5 * X[0], 4.0 * X[1]])
    x_t = SCHEDULE.signal(250) * x_0 + SCHEDULE.noise(250) * 0.7
    eps = dynamic_thresholding(lambda x, t: torch.full_like(x, 0.7), SCHEDULE, quantile=0.5)(x_t, 250)
    clean = predicted_clean(x_t, eps, 250, SCHEDULE)
    torch.testing.assert_close(clean[0], x_0[0])
    limit = torch.quantile(x_0[1].abs(), 0.5)
    assert float(limit) > 1
    torch.testing.assert_close(clean[1], x_0[1].clamp(-limit, limit) / limit)
    assert float(clean.abs().max()) == pytest.approx(1)


def test_classifier_guidance_is_the_score_of_the_tilted_gaussian() -> None:
    # p(class | x_t) = exp(a x_t - ...) has the gradient a everywhere: guided noise is eps - sqrt(1 - ab) s a, at every level.
    schedule, slope = NoiseSchedule.linear(), 0.7
    guided = classifier_guided(lambda x, t: 2 * x, lambda x, t: slope * x.flatten(1).sum(dim=1), 5.0, schedule)
    x = torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(2, 1, 2, 2)
    for t in (1, 300, 1000):
        torch.testing.assert_close(guided(x, t), 2 * x - schedule.noise(t) * 5.0 * slope)


def test_classifier_guidance_moves_uphill_and_leaves_no_graph() -> None:
    schedule = NoiseSchedule.linear()

    def log_prob(x: torch.Tensor, t: int) -> torch.Tensor:
        return -((x - 3) ** 2).flatten(1).sum(dim=1)

    x = torch.zeros(1, 1, 2, 2)
    with torch.no_grad():
        eps = classifier_guided(lambda x_t, t: torch.zeros_like(x_t), log_prob, 1.0, schedule)(x, 500)
    # Less noise predicted = a brighter clean image, towards 3.
    assert bool((eps < 0).all())
    assert not eps.requires_grad
    assert not x.requires_grad

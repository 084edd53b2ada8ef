from typing import Literal

import pytest
import torch
from torch import Tensor

from medanomaly.diffusion.loss import diffusion_loss, eps_from_output
from medanomaly.diffusion.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.linear(50)
DRAWS = torch.Generator().manual_seed(0)
X_0 = torch.rand((4, 2, 4, 4), generator=DRAWS) * 2 - 1
EPS = torch.randn(X_0.shape, generator=DRAWS)
T = torch.tensor([1, 2, 25, 50])


def velocity() -> Tensor:
    """v = sqrt(ab) eps - sqrt(1 - ab) x_0, from the definition."""
    signal = torch.tensor([SCHEDULE.signal(int(t)) for t in T]).view(-1, 1, 1, 1)
    noise = torch.tensor([SCHEDULE.noise(int(t)) for t in T]).view(-1, 1, 1, 1)
    return signal * EPS - noise * X_0


@pytest.mark.parametrize(("prediction", "answer"), [("eps", EPS), ("v", velocity())])
def test_a_perfect_predictor_has_no_squared_error(prediction: Literal["eps", "v"], answer: Tensor) -> None:
    terms = diffusion_loss(lambda x, t: answer, X_0, T, EPS, SCHEDULE, prediction=prediction)
    assert float(terms["mse"]) == pytest.approx(0, abs=1e-10)
    assert terms.keys() == {"loss", "mse"}
    wrong = diffusion_loss(lambda x, t: answer + 0.5, X_0, T, EPS, SCHEDULE, prediction=prediction)
    assert float(wrong["loss"]) == pytest.approx(0.25, rel=1e-4)


def test_a_velocity_means_the_noise_it_was_made_of() -> None:
    x_t = SCHEDULE.add_noise(X_0, EPS, T)
    torch.testing.assert_close(eps_from_output(velocity(), x_t, T, SCHEDULE, "v"), EPS, atol=1e-5, rtol=1e-5)
    assert eps_from_output(EPS, x_t, T, SCHEDULE, "eps") is EPS


def test_the_network_sees_the_noisy_image_and_its_level() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append((x_t, t))
        return EPS

    diffusion_loss(network, X_0, T, EPS, SCHEDULE)
    [(x_t, levels)] = seen
    assert torch.equal(x_t, SCHEDULE.add_noise(X_0, EPS, T))
    assert torch.equal(levels, T)


def gradients(bound_weight: float, prediction: Literal["eps", "v"]) -> Tensor:
    output = torch.cat([EPS + 0.1, torch.full_like(EPS, 0.3)], dim=1).requires_grad_()
    terms = diffusion_loss(
        lambda x, t: output, X_0, T, EPS, SCHEDULE, prediction=prediction, learn_sigma=True, bound_weight=bound_weight
    )
    terms["loss"].backward()  # type: ignore[no-untyped-call]
    assert output.grad is not None
    return output.grad


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_only_the_variance_learns_from_the_bound(prediction: Literal["eps", "v"]) -> None:
    without, with_bound = gradients(0.0, prediction), gradients(1.0, prediction)
    assert torch.equal(without[:, :2], with_bound[:, :2])
    assert float(without[:, :2].abs().min()) > 0
    assert float(without[:, 2:].abs().max()) == 0
    assert float(with_bound[:, 2:].abs().min()) > 0


def test_the_loss_is_the_squared_error_plus_the_weighted_bound() -> None:
    output = torch.cat([EPS + 0.1, torch.full_like(EPS, 0.3)], dim=1)
    terms = diffusion_loss(lambda x, t: output, X_0, T, EPS, SCHEDULE, learn_sigma=True, bound_weight=0.01)
    torch.testing.assert_close(terms["loss"], terms["mse"] + 0.01 * terms["bound"])
    assert float(terms["mse"]) == pytest.approx(0.01, rel=1e-4)

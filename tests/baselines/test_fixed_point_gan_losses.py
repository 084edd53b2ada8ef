import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from toys import images

from baselines.fixed_point_gan.losses import LossWeights, critic_loss, gradient_penalty, translator_loss
from medanomaly.errors import ConfigError

X, OTHER = images(3, side=4), images(3, seed=1, side=4)
LABEL, WANTED = torch.tensor([0, 1, 0]), torch.tensor([1, 1, 0])
MIX = torch.tensor([0.2, 0.5, 0.9])
NO_WEIGHTS = LossWeights(classification=0, gradient_penalty=0, identity=0, reconstruction=0)
SLOPE = 0.5 * torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(2))


def linear_critic(x: Tensor) -> tuple[Tensor, Tensor]:
    """Realness <SLOPE, x> + 7, spread over two patches; logits that prefer class 1 by the first pixel."""
    realness = (x * SLOPE).sum(dim=(1, 2, 3)).view(-1, 1, 1, 1) + 7
    return torch.cat([0.25 * realness, 0.75 * realness], dim=3), torch.stack([torch.zeros(len(x)), x[:, 0, 0, 0]], dim=1)


def quadratic_critic(x: Tensor) -> tuple[Tensor, Tensor]:
    """Realness |x|^2 / 2, whose slope at x is x itself."""
    return (0.5 * x**2).sum(dim=(1, 2, 3)).view(-1, 1, 1, 1), torch.zeros(len(x), 2)


def shift(x: Tensor, label: Tensor) -> Tensor:
    """Adds 0.1 to become class 0 and 0.3 to become class 1."""
    return x + (0.1 + 0.2 * label.to(x)).view(-1, 1, 1, 1)


def test_the_penalty_of_a_linear_critic_is_its_closed_form_wherever_it_is_asked() -> None:
    expected = (float(SLOPE.norm()) - 1) ** 2
    assert expected > 0.01
    for mix in (MIX, torch.zeros(3), torch.ones(3)):
        assert float(gradient_penalty(linear_critic, X, OTHER, mix)) == pytest.approx(expected, rel=1e-5)


def test_the_slope_is_taken_at_each_images_own_mix_of_real_and_fake() -> None:
    expected = [
        (float((share * real + (1 - share) * fake).norm()) - 1) ** 2
        for share, real, fake in zip(MIX.tolist(), X, OTHER, strict=True)
    ]
    assert float(gradient_penalty(quadratic_critic, X, OTHER, MIX).detach()) == pytest.approx(sum(expected) / 3, rel=1e-5)


def test_the_penalty_can_be_differentiated_by_the_critics_weights() -> None:
    weight = torch.full((1, 4, 4), 0.5, requires_grad=True)

    def critic(x: Tensor) -> tuple[Tensor, Tensor]:
        return (x * weight).sum(dim=(1, 2, 3)).view(-1, 1, 1, 1), torch.zeros(len(x), 2)

    gradient_penalty(critic, X, OTHER, MIX).backward()  # type: ignore[no-untyped-call]
    # d/dw (|w| - 1)^2 = 2 (|w| - 1) w / |w|, |w| = 2.
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, torch.full((1, 4, 4), 2 * (2 - 1) * 0.5 / 2))


def test_the_critics_loss_is_fake_minus_real_plus_its_weighted_terms() -> None:
    realness, logits = linear_critic(X)
    wasserstein = realness.mean() - linear_critic(OTHER)[0].mean()
    cross_entropy, penalty = F.cross_entropy(logits, LABEL), (SLOPE.norm() - 1) ** 2
    terms = critic_loss(linear_critic, X, OTHER, LABEL, MIX, LossWeights(classification=3, gradient_penalty=5))
    assert float(terms["d_adv"]) == pytest.approx(-float(wasserstein), abs=1e-6)
    assert float(terms["d_cls"]) == pytest.approx(float(cross_entropy), rel=1e-6)
    assert float(terms["d_gp"]) == pytest.approx(float(penalty), rel=1e-5)
    assert float(terms["d_loss"]) == pytest.approx(float(-wasserstein + 5 * penalty + 3 * cross_entropy), rel=1e-5)
    # Real above fake is what the critic wants.
    assert float(critic_loss(linear_critic, X - SLOPE, X, LABEL, MIX, NO_WEIGHTS)["d_loss"]) > 0
    assert float(critic_loss(linear_critic, X + SLOPE, X, LABEL, MIX, NO_WEIGHTS)["d_loss"]) < 0


def test_the_translators_terms_are_those_of_the_paper() -> None:
    terms = translator_loss(shift, linear_critic, X, LABEL, WANTED, LossWeights())
    crossed, stayed = shift(X, WANTED), shift(X, LABEL)
    adversarial = -linear_critic(crossed)[0].mean() - linear_critic(stayed)[0].mean()
    classification = F.cross_entropy(linear_critic(crossed)[1], WANTED) + F.cross_entropy(linear_critic(stayed)[1], LABEL)
    # Class 0 moves by 0.1 and class 1 by 0.3: there and back is the sum of the two ways.
    there = torch.tensor([0.3, 0.3, 0.1])
    home = torch.tensor([0.1, 0.3, 0.1])
    assert float(terms["g_id"]) == pytest.approx(float(home.mean()), rel=1e-5)
    assert float(terms["g_rec"]) == pytest.approx(float((there + home).mean() + (home + home).mean()), rel=1e-5)
    assert float(terms["g_adv"]) == pytest.approx(float(adversarial), rel=1e-5)
    assert float(terms["g_cls"]) == pytest.approx(float(classification), rel=1e-5)
    total = adversarial + classification + 10 * terms["g_rec"] + 10 * terms["g_id"]
    assert float(terms["g_loss"]) == pytest.approx(float(total), rel=1e-5)


@pytest.mark.parametrize(("term", "name"), [("g_cls", "classification"), ("g_rec", "reconstruction"), ("g_id", "identity")])
def test_each_weight_scales_its_own_term(term: str, name: str) -> None:
    weights = LossWeights(**{key: 2.0 if key == name else 0.0 for key in LossWeights.__dataclass_fields__})
    terms = translator_loss(shift, linear_critic, X, LABEL, WANTED, weights)
    assert float(terms["g_loss"]) == pytest.approx(float(terms["g_adv"] + 2 * terms[term]), rel=1e-5)


def test_a_perfect_translator_of_one_class_pays_only_the_critic() -> None:
    terms = translator_loss(lambda x, _label: x, linear_critic, X, LABEL, WANTED, LossWeights(classification=0))
    assert float(terms["g_rec"]) == float(terms["g_id"]) == 0
    assert float(terms["g_loss"]) == pytest.approx(-2 * float(linear_critic(X)[0].mean()), rel=1e-6)


@pytest.mark.parametrize("name", LossWeights.__dataclass_fields__)
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_weight_that_cannot_be_is_named(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"weights\.{name}"):
        LossWeights(**{name: value})

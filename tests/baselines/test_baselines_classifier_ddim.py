from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from toys import TINY, gaussian_denoiser, images

from baselines.classifier_ddim import ClassifierDdim, ClassifierDdimConfig, GradientSamplerConfig
from medanomaly.classifiers.network import ClassifierConfig, NoisyClassifier, log_prob_of
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.errors import ConfigError
from medanomaly.training.config import TrainingConfig
from medanomaly.types import Batch

SMALL = ClassifierConfig(channels=(16, 16), attention=(False, True), head_channels=16, norm_groups=8)
CPU = torch.device("cpu")


class Bright(nn.Module):
    """Scores (healthy, diseased) = (0, k sum x): disease is brightness."""

    classes = ("healthy", "diseased")

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """(B, 2)."""
        brightness = 0.01 * x_t.flatten(1).sum(dim=1)
        return torch.stack([torch.zeros_like(brightness), brightness], dim=1)


def method(gradient_scale: float, target: str = "healthy") -> ClassifierDdim:
    config = ClassifierDdimConfig(
        target=target,
        network=TINY,
        classifier=SMALL,
        sampler=GradientSamplerConfig(noise_level=500, num_steps=50, gradient_scale=gradient_scale),
    )
    denoiser = gaussian_denoiser({None: 0.0}, ())
    return ClassifierDdim(config, denoiser, Bright())  # type: ignore[arg-type]


def test_guidance_towards_healthy_darkens_where_disease_is_brightness() -> None:
    x = images(2)
    plain, towards, away = (method(*setting).localize(x).pseudo_healthy for setting in ((0.0,), (50.0,), (50.0, "diseased")))
    assert plain is not None
    assert towards is not None
    assert away is not None
    assert float((towards - plain).mean()) < -0.01
    assert float((away - plain).mean()) > 0.01


def test_scale_zero_is_the_round_trip() -> None:
    x = images(2)
    unguided = method(0.0)
    found = unguided.localize(x).pseudo_healthy
    assert found is not None
    torch.testing.assert_close(found, unguided.round_trip(x), atol=1e-6, rtol=0)


def test_more_guidance_moves_further() -> None:
    x = images(1)
    means = [float(method(scale).localize(x).pseudo_healthy.mean()) for scale in (0.0, 20.0, 40.0)]  # type: ignore[union-attr]
    # The gradient is nearly constant here, so the way is nearly proportional to the scale.
    assert means[2] - means[0] == pytest.approx(2 * (means[1] - means[0]), rel=0.1)
    assert means[2] < means[1] < means[0]


def test_the_classifier_is_told_the_level_and_names_decide_the_column() -> None:
    classifier = NoisyClassifier(SMALL, image_channels=1, classes=("diseased", "healthy")).eval()
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        # As MONAI starts them, residual blocks add nothing, and with them the level says nothing.
        for parameter in classifier.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=draws))
    x = images(2)
    early, late = classifier(x, torch.tensor([1, 1])), classifier(x, torch.tensor([900, 900]))
    assert early.shape == (2, 2)
    assert not torch.allclose(early, late)
    expected = torch.log_softmax(early, dim=1)[:, 1]
    torch.testing.assert_close(log_prob_of(classifier, "healthy")(x, 1), expected)
    with pytest.raises(ConfigError, match="unknown"):
        log_prob_of(classifier, "well")


def test_the_classifier_takes_any_size_that_its_halvings_allow() -> None:
    classifier = NoisyClassifier(SMALL, image_channels=1, classes=("a", "b")).eval()
    for side in (8, 16, 24):
        assert classifier(images(1, side=side), torch.tensor([5])).shape == (1, 2)


def test_a_step_trains_both_networks_and_names_both_losses() -> None:
    config = ClassifierDdimConfig(network=TINY, classifier=SMALL, sampler=GradientSamplerConfig(noise_level=400, num_steps=4))
    training = TrainingConfig(num_steps=4, warmup_steps=0, learning_rate=1e-3)
    recipe = config.recipe(image_channels=1, training=training, device=CPU)
    networks = (recipe.diffusion.denoiser, recipe.classifier)
    before = {name: value.clone() for network in networks for name, value in network.named_parameters()}
    values = recipe.step(Batch(x=images(4), label=torch.tensor([0, 1, 0, 1])), torch.Generator().manual_seed(0))
    assert values.keys() >= {"loss", "cross_entropy", "accuracy", "skipped"}
    after = {name: value for network in networks for name, value in network.named_parameters()}
    assert not torch.equal(after["head.2.weight"], before["head.2.weight"])
    # The denoiser's last layer starts at zero and is the first to move.
    assert not torch.equal(after["net.out.2.conv.weight"], before["net.out.2.conv.weight"])


def test_a_loss_that_is_not_finite_skips_the_step_of_both() -> None:
    config = ClassifierDdimConfig(network=TINY, classifier=SMALL, sampler=GradientSamplerConfig(noise_level=400, num_steps=4))
    recipe = config.recipe(image_channels=1, training=TrainingConfig(num_steps=4), device=CPU)
    before = recipe.weights()
    values = recipe.step(Batch(x=images(2) * float("nan"), label=torch.tensor([0, 1])), torch.Generator().manual_seed(0))
    assert values["skipped"] == 1
    assert all(torch.equal(value, before[name]) for name, value in recipe.weights().items())


def test_a_level_the_schedule_does_not_reach_is_refused() -> None:
    sampler = GradientSamplerConfig(noise_level=1500, num_steps=4)
    with pytest.raises(ConfigError, match="num_levels"):
        ClassifierDdimConfig(sampler=sampler)
    with pytest.raises(ConfigError, match="gradient_scale"):
        replace(sampler, gradient_scale=-1.0)
    assert NoiseSchedule.linear().num_levels == 1000

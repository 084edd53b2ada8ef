import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import SIDE, images, random_weights

from baselines.fixed_point_gan import FixedPointGan, FixedPointGanConfig
from baselines.fixed_point_gan.nets import Critic, Translator
from baselines.presets import BASELINE_PRESETS
from medanomaly.cli.methods import ALL_METHODS
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.errors import CheckpointError, ConfigError
from medanomaly.methods.experiment import Experiment
from medanomaly.rng import initial_weights
from medanomaly.scoring.finish import MapConfig
from medanomaly.training.config import TrainingConfig

CPU = torch.device("cpu")
TINY_GAN = FixedPointGanConfig(base_channels=4, num_res_blocks=1, critic_channels=4, num_critic_layers=2)


def restored(config: FixedPointGanConfig, weights: dict[str, Tensor]) -> FixedPointGan:
    return config.restore(weights, image_channels=1, device=CPU, source="this test")


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 20), (64, 32)])
def test_the_translator_keeps_the_shape_and_stays_in_range(height: int, width: int) -> None:
    translator = Translator(3, 5, base_channels=4, num_res_blocks=2)
    translated = translator(torch.ones(2, 3, height, width), torch.tensor([0, 4]))
    assert translated.shape == (2, 3, height, width)
    assert float(translated.detach().abs().max()) < 1


def test_the_translation_is_tanh_of_image_plus_change() -> None:
    translator = Translator(1, 2, base_channels=4, num_res_blocks=1)
    last = translator.change[-1]
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, 0.25)
    torch.testing.assert_close(translator(images(2), torch.tensor([0, 1])), torch.tanh(images(2) + 0.25))


@pytest.mark.parametrize(("side", "num_layers"), [(16, 2), (16, 4), (64, 6), (128, 6)])
def test_the_critic_judges_patches_and_names_one_class_an_image_at_any_size(side: int, num_layers: int) -> None:
    realness, logits = Critic(1, 3, base_channels=2, num_layers=num_layers)(images(2, side=side))
    assert realness.shape == (2, 1, side // 2**num_layers, side // 2**num_layers)
    assert logits.shape == (2, 3)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, -1), (-1, 0), (-1, -1), (8, 8)])
def test_every_place_of_an_image_counts_for_its_class(row: int, column: int) -> None:
    with initial_weights(0):
        critic = Critic(1, 2, base_channels=4, num_layers=2)
    x = images(1)
    changed = x.clone()
    changed[..., row, column] += 1
    assert not torch.allclose(critic(x)[1], critic(changed)[1], atol=1e-6, rtol=0)


def test_the_critic_sees_each_image_alone() -> None:
    critic = Critic(1, 2, base_channels=4, num_layers=2)
    together, alone = critic(images(3))[0], critic(images(3)[:1])[0]
    torch.testing.assert_close(together[:1], alone)


def test_the_map_is_the_distance_to_the_translation_to_healthy() -> None:
    method = restored(TINY_GAN, random_weights(TINY_GAN))
    x = images(2)
    found = method.localize(x)
    label = torch.full((2,), TINY_GAN.classes.index("healthy"))
    healthy = method.translator(x, label).detach()
    assert found.pseudo_healthy is not None
    torch.testing.assert_close(found.pseudo_healthy, healthy)
    torch.testing.assert_close(found.anomaly_map, (x - healthy).abs())
    assert not torch.allclose(healthy, method.translate(x, "diseased"))


def test_the_order_of_the_classes_means_nothing() -> None:
    weights = random_weights(TINY_GAN)
    turned = replace(TINY_GAN, classes=("diseased", "healthy"))
    # The label map's channels come after the image's one.
    exchanged = weights | {"change.0.weight": weights["change.0.weight"][:, [0, 2, 1]]}
    expected = restored(TINY_GAN, weights).localize(images(2)).anomaly_map
    torch.testing.assert_close(restored(turned, exchanged).localize(images(2)).anomaly_map, expected)
    # With the same weights under other names, the target is another one: position decides nothing.
    assert not torch.allclose(restored(turned, weights).localize(images(2)).anomaly_map, expected)


def test_labels_reach_the_networks_by_name() -> None:
    method = restored(TINY_GAN, random_weights(TINY_GAN))
    with pytest.raises(ValueError, match="not in tuple"):
        method.translate(images(1), "well")


@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 3, 16, 16), (1, 1, 18, 16), (1, 1, 4, 4)])
def test_an_image_that_does_not_fit_is_refused_with_its_shape(shape: tuple[int, ...]) -> None:
    method = restored(TINY_GAN, random_weights(TINY_GAN))
    with pytest.raises(ValueError, match=r"x must .*got \("):
        method.localize(torch.zeros(shape))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"classes": ("healthy",)}, "classes"),
        ({"classes": ("healthy", "healthy")}, "classes"),
        ({"target": "well"}, "target"),
        ({"num_res_blocks": 0}, "num_res_blocks"),
        ({"n_critic": 0}, "n_critic"),
        ({"betas": (0.5, 1.0)}, "betas"),
        ({"map": MapConfig(subtract_round_trip=True)}, "subtract_round_trip"),
    ],
)
def test_a_setting_that_cannot_be_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        replace(TINY_GAN, **changes)


def test_weights_of_other_class_counts_are_refused() -> None:
    three = replace(TINY_GAN, classes=("healthy", "diseased", "unclear"))
    with pytest.raises(CheckpointError, match=r"change\.0\.weight"):
        restored(three, random_weights(TINY_GAN))


@pytest.mark.parametrize(("num_layers", "multiple"), [(1, 8), (3, 8), (4, 16), (6, 64)])
def test_an_experiment_refuses_an_image_that_the_critic_would_shrink_to_nothing(num_layers: int, multiple: int) -> None:
    config = replace(TINY_GAN, num_critic_layers=num_layers)
    assert config.size_multiple == multiple
    for side in (multiple, 3 * multiple):
        Experiment(name="fits", method=config, preprocess=PreprocessConfig(image_size=side), training=TrainingConfig())
        Critic(1, 2, base_channels=1, num_layers=num_layers)(torch.zeros(1, 1, side, side))
    with pytest.raises(ConfigError, match=f"multiple of {multiple}"):
        Experiment(
            name="odd", method=config, preprocess=PreprocessConfig(image_size=multiple + SIDE // 4), training=TrainingConfig()
        )


@pytest.mark.parametrize("name", ["cxr256-fpgan", "gray64-fpgan", "phantom64-fpgan"])
def test_every_gan_preset_survives_json_and_translates_to_healthy(name: str) -> None:
    experiment = BASELINE_PRESETS[name]()
    assert experiment.name == name
    assert experiment.method.target == "healthy"
    assert BASELINE_PRESETS[name].__doc__
    assert Experiment.from_dict(json.loads(json.dumps(experiment.to_dict())), ALL_METHODS) == experiment


def test_the_chest_preset_is_the_seeds_setting() -> None:
    experiment = BASELINE_PRESETS["cxr256-fpgan"]()
    method, training = experiment.method, experiment.training
    assert isinstance(method, FixedPointGanConfig)
    assert (experiment.preprocess.image_size, experiment.preprocess.channels) == (256, 1)
    assert (training.num_steps, training.batch_size, training.learning_rate) == (50_000, 4, 1e-4)
    assert (method.base_channels, method.num_res_blocks, method.n_critic, method.betas) == (128, 14, 5, (0.5, 0.999))
    weights = method.weights
    assert (weights.classification, weights.gradient_penalty, weights.identity, weights.reconstruction) == (1, 10, 10, 10)
    with torch.device("meta"):
        translator, critic = method.translator(1), method.critic(1)
    assert num_parameters(translator) / 1e6 == pytest.approx(71, rel=0.02)
    assert num_parameters(critic) / 1e6 == pytest.approx(45, rel=0.02)

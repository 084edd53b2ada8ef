from dataclasses import replace
from typing import Any

import pytest
import torch
from monai.networks.nets.diffusion_model_unet import SpatialAttentionBlock
from torch import Tensor, nn
from toys import TINY, gaussian_denoiser, gaussian_eps, images, net_of, randomise

from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.unet import Denoiser, NetworkConfig, condition
from medanomaly.errors import ConfigError
from medanomaly.presets import PRESETS

SCHEDULE = NoiseSchedule.linear()
CLASSES = ("healthy", "diseased")
MEANS = {"healthy": -0.3, "diseased": 0.4, None: 0.1}


@pytest.mark.parametrize(("level", "table_index"), [(0, 0), (1, 0), (2, 1), (500, 499), (1000, 999)])
def test_the_networks_table_starts_at_level_1_and_level_0_asks_its_first_row(level: int, table_index: int) -> None:
    denoiser = gaussian_denoiser(MEANS, CLASSES)
    condition(denoiser, None, SCHEDULE)(images(2), level)
    assert net_of(denoiser).asked == [table_index]


@pytest.mark.parametrize("name", ["healthy", "diseased", None])
def test_a_class_is_asked_for_by_name_and_null_is_the_last_row(name: str | None) -> None:
    denoiser = gaussian_denoiser(MEANS, CLASSES)
    condition(denoiser, name, SCHEDULE)(images(2), 500)
    row = {"healthy": 0, "diseased": 1, None: 2}[name]
    assert net_of(denoiser).rows == [[row, row]]


@pytest.mark.parametrize("classes", [("healthy", "diseased"), ("diseased", "healthy"), ("other", "diseased", "healthy")])
@pytest.mark.parametrize("name", ["healthy", None])
def test_the_order_of_the_classes_changes_no_prediction(classes: tuple[str, ...], name: str | None) -> None:
    denoiser, x = gaussian_denoiser(MEANS | {"other": 0.9}, classes), images(2).double()
    expected = gaussian_eps(MEANS[name], 0.3, SCHEDULE)(x, 500)
    torch.testing.assert_close(condition(denoiser, name, SCHEDULE)(x, 500), expected)


def test_an_unknown_class_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'normal' is unknown.*healthy, diseased"):
        condition(gaussian_denoiser(MEANS, CLASSES), "normal", SCHEDULE)


def test_variance_channels_never_reach_a_noise_prediction() -> None:
    denoiser, x = gaussian_denoiser(MEANS, CLASSES), images(2)
    output = denoiser(x, torch.tensor([500, 500]), torch.tensor([0, 0]))
    assert output.shape == (2, 2, 16, 16)
    assert float(output[:, 1].min()) == 1e6
    eps = condition(denoiser, "healthy", SCHEDULE)(x, 500)
    assert eps.shape == x.shape
    assert torch.equal(eps, output[:, :1])


@pytest.mark.parametrize("image_channels", [1, 3])
@pytest.mark.parametrize("learn_sigma", [True, False])
def test_the_networks_output_has_variance_channels_where_asked(image_channels: int, learn_sigma: bool) -> None:
    denoiser = Denoiser(replace(TINY, learn_sigma=learn_sigma), image_channels=image_channels, classes=CLASSES)
    output = denoiser(torch.zeros(2, image_channels, 16, 16), torch.tensor([1, 1000]), torch.tensor([0, 2]))
    assert output.shape == (2, image_channels * (2 if learn_sigma else 1), 16, 16)


def test_a_network_that_predicts_velocity_is_asked_for_the_noise_it_means() -> None:
    denoiser = randomise(Denoiser(replace(TINY, prediction="v"), image_channels=1, classes=CLASSES)).eval()
    x, level = images(2), 300
    with torch.inference_mode():
        velocity = denoiser(x, torch.full((2,), level), torch.full((2,), 1))[:, :1]
        eps = condition(denoiser, "diseased", SCHEDULE)(x, level)
    torch.testing.assert_close(eps, SCHEDULE.signal(level) * velocity + SCHEDULE.noise(level) * x)


def random_network(**changes: Any) -> Denoiser:
    return randomise(Denoiser(replace(TINY, **changes), image_channels=1, classes=CLASSES))


def ask(denoiser: Denoiser, seed: int | None) -> Tensor:
    denoiser.dropout_generator = None if seed is None else torch.Generator().manual_seed(seed)
    with torch.no_grad():
        output: Tensor = denoiser(images(2), torch.tensor([10, 500]), torch.tensor([0, 1]))
    return output


def test_dropout_is_drawn_from_the_generator_it_is_given_and_from_nothing_else() -> None:
    denoiser, before = random_network(dropout=0.5).train(), torch.random.get_rng_state()
    assert torch.equal(ask(denoiser, 1), ask(denoiser, 1))
    assert not torch.equal(ask(denoiser, 1), ask(denoiser, 2))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_training_with_dropout_but_no_generator_is_refused() -> None:
    with pytest.raises(RuntimeError, match="dropout_generator"):
        ask(random_network(dropout=0.5).train(), None)


def test_dropout_is_off_when_a_network_is_used() -> None:
    torch.testing.assert_close(ask(random_network(dropout=0.5).eval(), None), ask(random_network().eval(), None))


def test_dropout_zeroes_the_fraction_asked_for_and_keeps_the_mean() -> None:
    denoiser = random_network(dropout=0.25).train()
    denoiser.dropout_generator = torch.Generator().manual_seed(0)
    (dropped,) = denoiser._drop(nn.Identity(), (torch.ones(1, 1, 200, 200),))
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert sorted(set(dropped.flatten().tolist())) == pytest.approx([0, 4 / 3])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"channels": (16, 16), "attention": (False,)}, "one entry a level"),
        ({"channels": (16, 20), "attention": (False, True)}, "multiples of norm_groups"),
        ({"dropout": 1.0}, "network.dropout"),
        ({"dropout": -0.1}, "network.dropout"),
        ({"dropout": float("nan")}, "network.dropout"),
        ({"prediction": "x0"}, "network.prediction"),
    ],
)
def test_a_network_that_cannot_be_is_refused_when_it_is_configured(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        NetworkConfig(**settings)


@pytest.fixture(scope="module")
def seed_network() -> Denoiser:
    """The 256-px preset's network without storage."""
    method = PRESETS["cxr256-cfg"]().method
    with torch.device("meta"):
        return Denoiser(method.network, image_channels=1, classes=method.classes)


def test_the_256_px_preset_has_the_seeds_113_7_million_parameters(seed_network: Denoiser) -> None:
    assert sum(parameter.numel() for parameter in seed_network.parameters()) / 1e6 == pytest.approx(113.7, abs=0.05)


def test_the_256_px_presets_levels_attend_at_16_px_only_with_one_head(seed_network: Denoiser) -> None:
    image_size, num_levels = PRESETS["cxr256-cfg"]().preprocess.image_size, len(seed_network.config.channels)
    sides: dict[str, set[int]] = {"down": set(), "up": set()}
    for name, module in seed_network.net.named_modules():
        if isinstance(module, SpatialAttentionBlock):
            assert module.attn.num_heads == 1
            half, _, place = name.partition("_blocks.")
            if half in sides:
                depth = int(place.split(".")[0]) if half == "down" else num_levels - 1 - int(place.split(".")[0])
                sides[half].add(image_size >> depth)
    assert sides == {"down": {16}, "up": {16}}

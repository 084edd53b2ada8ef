from dataclasses import replace
from typing import Any

import pytest
import torch
from toys import SIDE, TINY, gaussian_denoiser, images, net_of, samples, tiny_config, tiny_method

from medanomaly.datasets.dataset import to_batch
from medanomaly.diffusion import unet
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.errors import CheckpointError, ConfigError
from medanomaly.methods.cfg_diffusion import CfgDiffusion, CfgDiffusionConfig
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.scoring.finish import MapConfig
from medanomaly.scoring.image_score import image_score
from medanomaly.scoring.maps import difference_map, median, smooth
from medanomaly.training.config import TrainingConfig

STD = 0.3
MEANS: dict[str | None, float] = {"healthy": -0.05, "diseased": 0.25, None: 0.1}
ORDERS = [("healthy", "diseased"), ("diseased", "healthy")]
FINE = SamplerConfig(noise_level=500, num_steps=250, guidance_scale=3.0)
X = MEANS[None] + 0.3 * images(2)


def exact_method(classes: tuple[str, ...] = ORDERS[0], **changes: Any) -> CfgDiffusion:
    """The method around a network that is exact for Gaussian classes."""
    config = CfgDiffusionConfig(classes=classes, network=TINY, **({"sampler": FINE} | changes))
    return CfgDiffusion(config, gaussian_denoiser(MEANS, classes, std=STD))


def closed_form_shift(target: str, guidance_scale: float, noise_level: int = 500) -> float:
    """How far guided decoding moves every pixel: g (mu_target - mu_null) (1 - s sqrt(ab) / sqrt(ab s^2 + 1 - ab))."""
    alpha_bar = float(NoiseSchedule.linear().alpha_bar[noise_level])
    left_over = STD * alpha_bar**0.5 / (alpha_bar * STD**2 + 1 - alpha_bar) ** 0.5
    return guidance_scale * (MEANS[target] - MEANS[None]) * (1 - float(left_over))


@pytest.mark.parametrize("classes", ORDERS)
@pytest.mark.parametrize("target", ["healthy", "diseased"])
def test_an_image_moves_towards_the_class_that_is_named_wherever_it_stands(classes: tuple[str, ...], target: str) -> None:
    found = exact_method(classes, target=target).localize(X)
    assert found.pseudo_healthy is not None
    shift = closed_form_shift(target, 3.0)
    # The two targets lie on opposite sides of the image, so a swapped one cannot pass.
    assert (shift < 0) == (target == "healthy")
    torch.testing.assert_close(found.pseudo_healthy - X, torch.full_like(X, shift), atol=0.02, rtol=0)
    torch.testing.assert_close(found.anomaly_map, torch.full_like(X, abs(shift)), atol=0.02, rtol=0)
    torch.testing.assert_close(found.score, torch.full((2,), abs(shift)), atol=0.02, rtol=0)


def test_the_order_of_the_classes_changes_nothing() -> None:
    one, other = (exact_method(classes).localize(X) for classes in ORDERS)
    assert torch.equal(one.anomaly_map, other.anomaly_map)


def test_without_guidance_the_image_comes_back() -> None:
    unguided = exact_method(sampler=replace(FINE, guidance_scale=0.0))
    found = unguided.localize(X)
    assert float(found.anomaly_map.max()) < 0.02
    assert torch.equal(found.pseudo_healthy, unguided.round_trip(X))  # type: ignore[arg-type]


def test_the_network_is_asked_for_every_level_of_one_grid_up_and_down() -> None:
    method = exact_method(sampler=SamplerConfig(noise_level=500, num_steps=7, guidance_scale=3.0))
    method.localize(X)
    up = [max(level, 1) - 1 for level in method.levels[:-1]]
    # On the way down each level is asked for once for both: healthy, then null.
    down = [level - 1 for level in method.levels[:0:-1]]
    net = net_of(method.denoiser)
    assert net.asked == up + down
    assert net.rows == [[2, 2]] * len(up) + [[0, 0, 2, 2]] * len(down)


def test_classes_asked_together_and_apart_give_the_same_map(monkeypatch: pytest.MonkeyPatch) -> None:
    method = tiny_method()
    together = method.localize(X)
    monkeypatch.setattr(unet, "JOINT_PIXELS", {"cpu": 2 * len(X) * SIDE**2 - 1})
    apart = method.localize(X)
    assert float(together.anomaly_map.max()) > 1e-3
    torch.testing.assert_close(together.anomaly_map, apart.anomaly_map, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("bound", "calls"), [(2 * 2 * SIDE**2, [[0, 0, 2, 2]]), (2 * 2 * SIDE**2 - 1, [[0, 0], [2, 2]])])
def test_a_batch_too_large_for_two_classes_is_asked_twice(
    monkeypatch: pytest.MonkeyPatch, bound: int, calls: list[list[int]]
) -> None:
    monkeypatch.setattr(unet, "JOINT_PIXELS", {"cpu": bound})
    method = exact_method()
    unet.condition_pair(method.denoiser, "healthy", method.schedule)(images(2), 500)
    assert net_of(method.denoiser).rows == calls


def test_an_observer_follows_the_walk_up_and_then_down() -> None:
    method, reached = exact_method(sampler=SamplerConfig(noise_level=500, num_steps=5)), []
    method.localize(X, lambda level, x, x_0: reached.append(level))
    assert reached == [100, 200, 300, 400, 500, 400, 300, 200, 100, 0]


def test_a_pseudo_healthy_image_is_clamped_once_at_the_end() -> None:
    method = exact_method(sampler=replace(FINE, guidance_scale=30.0))
    leaving: list[float] = []
    found = method.localize(X, lambda level, x, x_0: leaving.append(float(x_0.abs().max())))
    assert found.pseudo_healthy is not None
    assert max(leaving) > 1.5
    assert float(found.pseudo_healthy.abs().max()) == 1


def test_guidance_in_an_interval_moves_less_than_everywhere_and_more_than_the_class_alone() -> None:
    def moved(sampler: SamplerConfig) -> float:
        return float(exact_method(sampler=sampler).localize(X).score.mean())

    inside = moved(replace(FINE, guidance_interval=(100, 300)))
    assert moved(replace(FINE, guidance_scale=1.0)) + 0.05 < inside < moved(FINE) - 0.05


def test_thresholding_keeps_the_predicted_image_in_range_all_the_way_down() -> None:
    method = exact_method(sampler=replace(FINE, guidance_scale=30.0, dynamic_threshold=0.995))
    clean: list[float] = []
    method.localize(X, lambda level, x, x_0: clean.append(float(x_0.abs().max())))
    assert max(clean[FINE.num_steps :]) < 1.0001


def test_subtracting_the_round_trip_leaves_nothing_where_guidance_changes_nothing() -> None:
    coarse = SamplerConfig(noise_level=500, num_steps=5, guidance_scale=0.0)
    assert float(exact_method(sampler=coarse).localize(X).anomaly_map.max()) > 0.01
    assert float(exact_method(sampler=coarse, map=MapConfig(subtract_round_trip=True)).localize(X).anomaly_map.max()) == 0


def test_the_filters_and_the_score_a_config_names_are_the_ones_applied() -> None:
    plain = tiny_method()
    x = images(2)
    raw = difference_map(x, plain.localize(x).pseudo_healthy)  # type: ignore[arg-type]
    for settings, expected in (
        (MapConfig(), raw),
        (MapConfig(median_px=3), median(raw, 3)),
        (MapConfig(smooth_px=1.5), smooth(raw, 1.5)),
        (MapConfig(median_px=3, smooth_px=1.5), smooth(median(raw, 3), 1.5)),
    ):
        torch.testing.assert_close(tiny_method(tiny_config(map=settings)).localize(x).anomaly_map, expected)
    for rule in ("top1", "mean", "max"):
        found = tiny_method(tiny_config(map=MapConfig(image_score=rule))).localize(x)
        torch.testing.assert_close(found.score, image_score(raw, rule))


@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 2, 16, 16), (1, 1, 15, 16), (1, 1, 16, 17)])
def test_an_image_the_network_cannot_take_is_refused_with_a_way_out(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"x must .* got \("):
        tiny_method().localize(torch.zeros(shape))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"classes": ("healthy",)}, "method.classes"),
        ({"classes": ("healthy", "healthy")}, "method.classes"),
        ({"target": "normal"}, "'normal' is not one of method.classes healthy, diseased"),
        ({"p_uncond": 1.1}, "method.p_uncond"),
        ({"p_uncond": -0.1}, "method.p_uncond"),
        ({"sampler": SamplerConfig(noise_level=1001)}, "at most schedule.num_levels=1000"),
    ],
)
def test_a_method_that_cannot_be_is_refused_when_it_is_configured(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        CfgDiffusionConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"noise_level": 0}, "sampler.num_steps"),
        ({"noise_level": -1}, "sampler.num_steps"),
        ({"num_steps": 0}, "sampler.num_steps"),
        ({"num_steps": 501}, "sampler.num_steps"),
        ({"guidance_scale": float("nan")}, "sampler.guidance_scale"),
        ({"guidance_scale": float("inf")}, "sampler.guidance_scale"),
        ({"guidance_scale": -5.0}, "sampler.guidance_scale"),
        ({"guidance_scale": 1e6}, "sampler.guidance_scale"),
        ({"guidance_interval": (300, 100)}, "sampler.guidance_interval"),
        ({"dynamic_threshold": 0.0}, "sampler.dynamic_threshold"),
        ({"dynamic_threshold": 1.5}, "sampler.dynamic_threshold"),
    ],
)
def test_sampler_settings_that_cannot_be_are_refused_by_name(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SamplerConfig(**settings)


@pytest.mark.parametrize("settings", [{"median_px": 4}, {"median_px": -1}, {"smooth_px": -0.5}, {"smooth_px": float("nan")}])
def test_map_settings_that_cannot_be_are_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"map.{next(iter(settings))}"):
        MapConfig(**settings)


def test_the_top_level_and_a_single_step_work() -> None:
    for sampler in (SamplerConfig(noise_level=1000, num_steps=3), SamplerConfig(noise_level=1, num_steps=1)):
        assert bool(tiny_method(tiny_config(sampler=sampler)).localize(images(1)).anomaly_map.isfinite().all())


def test_weights_of_another_network_are_refused_where_they_are_restored() -> None:
    weights = tiny_method().denoiser.state_dict()
    with pytest.raises(CheckpointError, match="E_CKPT_KEYS"):
        tiny_config(classes=("a", "b", "healthy")).restore(weights, image_channels=1, device=torch.device("cpu"), source="w")


def test_a_continuation_that_swaps_the_classes_is_refused() -> None:
    def recipe(classes: tuple[str, ...]) -> Any:
        config = tiny_config(classes=classes)
        return config.recipe(image_channels=1, training=TrainingConfig(), device=torch.device("cpu"))

    state = recipe(("healthy", "diseased")).state()
    recipe(("healthy", "diseased")).load_state(state)
    with pytest.raises(CheckpointError, match=r"healthy, diseased.*diseased, healthy"):
        recipe(("diseased", "healthy")).load_state(state)


def test_a_recipes_method_holds_the_averaged_weights_and_shares_none_of_them() -> None:
    config = tiny_config()
    recipe = config.recipe(image_channels=1, training=TrainingConfig(ema_decay=0.5), device=torch.device("cpu"))
    batch = to_batch(samples(4), ("healthy", "diseased"))
    for step in range(3):
        recipe.step(batch, torch.Generator().manual_seed(step))
    method = recipe.method()
    assert isinstance(method, CfgDiffusion)
    held = {name: value.clone() for name, value in method.denoiser.state_dict().items()}
    for name, value in recipe.average.module.state_dict().items():
        assert torch.equal(held[name], value)
    assert any(not torch.equal(held[name], value) for name, value in recipe.denoiser.state_dict().items())
    recipe.step(batch, torch.Generator().manual_seed(9))
    assert all(torch.equal(held[name], value) for name, value in method.denoiser.state_dict().items())
    assert not method.denoiser.training
    assert method.localize(batch.x).anomaly_map.shape == (4, 1, SIDE, SIDE)

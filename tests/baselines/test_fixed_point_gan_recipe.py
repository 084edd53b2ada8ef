import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import SIDE, images

from baselines.fixed_point_gan import FixedPointGan, FixedPointGanConfig, FixedPointGanRecipe
from baselines.fixed_point_gan.method import frozen
from medanomaly.checkpoint import load_train_state, save_train_state
from medanomaly.errors import CheckpointError, ConfigError
from medanomaly.rng import generator
from medanomaly.scoring.finish import MapConfig
from medanomaly.training.config import TrainingConfig
from medanomaly.types import Batch

CPU = torch.device("cpu")
TINY_GAN = FixedPointGanConfig(base_channels=4, num_res_blocks=1, critic_channels=4, num_critic_layers=2, n_critic=3)
BATCH = Batch(x=images(4), label=torch.tensor([0, 1, 0, 1]))
BROKEN = Batch(x=torch.full((4, 1, SIDE, SIDE), math.nan), label=BATCH.label)


def recipe(config: FixedPointGanConfig = TINY_GAN, **training: Any) -> FixedPointGanRecipe:
    settings: dict[str, Any] = {"num_steps": 100, "warmup_steps": 0, "learning_rate": 1e-3, "decay": "none", "grad_clip": 0.0}
    return config.recipe(image_channels=1, training=TrainingConfig(**(settings | training)), device=CPU)


def steps(trainer: FixedPointGanRecipe, first: int, last: int) -> list[dict[str, float]]:
    return [trainer.step(BATCH, generator(0, "train", step)) for step in range(first, last)]


def copied(state: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(state)


def differences(one: Any, other: Any, where: str = "state") -> list[str]:
    if isinstance(one, Tensor):
        return [] if torch.equal(one, other) else [where]
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return [found for key in one for found in differences(one[key], other[key], f"{where}.{key}")]
    if isinstance(one, list):
        return [found for n, (a, b) in enumerate(zip(one, other, strict=True)) for found in differences(a, b, f"{where}.{n}")]
    return [] if one == other else [where]


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_the_critic_learns_every_step_and_the_translator_each_n_critics() -> None:
    trainer = recipe()
    moved: list[tuple[bool, bool]] = []
    reported: list[bool] = []
    for step in range(8):
        before = weights_of(trainer.critic), weights_of(trainer.translator)
        reported.append("g_loss" in trainer.step(BATCH, generator(0, "train", step)))
        after = weights_of(trainer.critic), weights_of(trainer.translator)
        critic, translator = (bool(differences(one, other)) for one, other in zip(before, after, strict=True))
        moved.append((critic, translator))
    assert [critic for critic, _ in moved] == [True] * 8
    assert [translator for _, translator in moved] == [True, False, False, True, False, False, True, False]
    assert reported == [translator for _, translator in moved]


def test_a_step_reports_the_terms_of_the_networks_that_moved() -> None:
    first, second = steps(recipe(), 0, 2)
    critic = {"loss", "d_loss", "d_adv", "d_gp", "d_cls", "grad_norm", "learning_rate", "skipped"}
    assert second.keys() == critic
    assert first.keys() == critic | {"g_loss", "g_adv", "g_cls", "g_rec", "g_id", "g_grad_norm"}
    assert all(math.isfinite(value) for value in first.values())
    assert first["loss"] == first["d_loss"]


def test_the_translators_step_changes_nothing_of_the_critic() -> None:
    weights: list[dict[str, Any]] = []
    for n_critic in (1, 100):
        trainer = recipe(replace(TINY_GAN, n_critic=n_critic))
        trainer.num_critic_steps_waiting = 0
        assert ("g_loss" in steps(trainer, 0, 1)[0]) == (n_critic == 1)
        assert all(parameter.requires_grad for parameter in trainer.critic.parameters())
        # Its gradient too: one from the translator's loss would be made for nothing.
        gradients = {
            name: parameter.grad.clone() for name, parameter in trainer.critic.named_parameters() if parameter.grad is not None
        }
        weights.append({"weights": weights_of(trainer.critic), "gradients": gradients})
    assert weights[0]["gradients"]
    assert differences(weights[0], weights[1]) == []


def test_a_frozen_network_is_thawed_whatever_happens_inside() -> None:
    network = nn.Linear(1, 1)

    def fail() -> None:
        with frozen(network):
            assert not network.weight.requires_grad
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        fail()
    assert network.weight.requires_grad


def test_a_training_is_a_function_of_its_seed_and_generators() -> None:
    def trained(seed: int, shift: int = 0) -> dict[str, Any]:
        torch.rand(1)
        trainer = recipe(seed=seed)
        before = torch.random.get_rng_state()
        steps(trainer, shift, 4 + shift)
        assert torch.equal(torch.random.get_rng_state(), before)
        return trainer.state()

    assert differences(trained(0), trained(0)) == []
    assert differences(trained(0), trained(1))
    assert differences(trained(0), trained(0, shift=1))


def test_the_wanted_classes_and_the_mix_come_from_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = recipe()
    seen: list[Tensor] = []
    translate = trainer.translator.forward
    monkeypatch.setattr(trainer.translator, "forward", lambda x, label: seen.append(label) or translate(x, label))
    for step in range(20):
        trainer.step(BATCH, generator(0, "train", step))
    # The first pass of a step makes the critic's fakes; the other calls are the translator's own.
    orders = {tuple(label.tolist()) for label in seen}
    assert all(sorted(order) == [0, 0, 1, 1] for order in orders)
    assert len(orders) > 3


@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_a_training_continues_bit_for_bit_through_a_file(stop: int, tmp_path: Any) -> None:
    whole = recipe()
    expected = steps(whole, 0, stop)
    save_train_state(tmp_path / "train_state.pt", whole.state())
    expected = steps(whole, stop, 8)
    continued = recipe(seed=9)
    continued.load_state(load_train_state(tmp_path / "train_state.pt"))
    assert steps(continued, stop, 8) == expected
    assert differences(whole.state(), continued.state()) == []


def test_a_state_of_classes_in_another_order_is_refused() -> None:
    turned = recipe(replace(TINY_GAN, classes=("diseased", "healthy")))
    with pytest.raises(CheckpointError, match="diseased, healthy"):
        turned.load_state(recipe().state())


def test_a_batch_that_is_not_finite_is_skipped_and_changes_nothing_but_the_count() -> None:
    trainer = recipe()
    steps(trainer, 0, 3)
    before = copied(trainer.state())
    assert trainer.step(BROKEN, generator(0, "train", 3))["skipped"] == 1
    assert differences(before, trainer.state()) == ["state.num_steps_done"]
    # The translator was due: it takes its step with the next good batch.
    assert "g_loss" in steps(trainer, 4, 5)[0]


def test_a_translator_whose_gradient_is_not_finite_stays_and_tries_again_each_step() -> None:
    trainer = recipe()
    steps(trainer, 0, 3)
    before = copied(trainer.state())
    hook = next(trainer.translator.parameters()).register_hook(lambda gradient: torch.full_like(gradient, math.inf))  # type: ignore[no-untyped-call]
    # Each of them counts: the loop stops a run whose steps are skipped in a row.
    assert [values["skipped"] for values in steps(trainer, 3, 6)] == [1, 1, 1]
    changed = {place.split(".")[1] for place in differences(before, trainer.state())}
    assert changed == {"critic", "critic_optimizer", "num_steps_done", "num_critic_steps_waiting"}
    hook.remove()
    assert [values["skipped"] for values in steps(trainer, 6, 9)] == [0, 0, 0]
    assert "translator" in {place.split(".")[1] for place in differences(before, trainer.state())}


def test_the_released_weights_are_the_moving_average_of_the_translator() -> None:
    decay = 0.25
    trainer = recipe(replace(TINY_GAN, n_critic=1), ema_decay=decay)
    steps(trainer, 0, 1)
    expected = weights_of(trainer.translator)
    for step in (1, 2, 3):
        steps(trainer, step, step + 1)
        ramp = min(decay, (1 + step) / (10 + step))
        expected = {name: ramp * expected[name] + (1 - ramp) * value for name, value in weights_of(trainer.translator).items()}
    released = trainer.weights()
    assert released.keys() == expected.keys()
    for name, value in released.items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-5)
    method = trainer.method()
    assert isinstance(method, FixedPointGan)
    assert differences(weights_of(method.translator), released) == []
    before = method.localize(BATCH.x).anomaly_map
    steps(trainer, 4, 6)
    assert torch.equal(method.localize(BATCH.x).anomaly_map, before)


def test_validation_is_the_fixed_point_error_of_the_averaged_translator() -> None:
    trainer = recipe(replace(TINY_GAN, n_critic=1), ema_decay=0.9)
    steps(trainer, 0, 4)
    found = trainer.validate(BATCH, generator(0, "validation", 0))
    method = trainer.method()
    assert isinstance(method, FixedPointGan)
    names = [TINY_GAN.classes[index] for index in BATCH.label]
    errors = [
        float((method.translate(image[None], name) - image[None]).abs().mean())
        for image, name in zip(BATCH.x, names, strict=True)
    ]
    assert found["loss"] == pytest.approx(sum(errors) / 4, rel=1e-5)
    assert found.keys() == {"loss", "cls"}


def test_the_gradient_penalty_reaches_the_critics_weights_through_the_optimiser() -> None:
    def critic_after(weight: float) -> dict[str, Tensor]:
        weights = replace(TINY_GAN.weights, gradient_penalty=weight)
        trainer = recipe(replace(TINY_GAN, weights=weights))
        steps(trainer, 0, 1)
        return weights_of(trainer.critic)

    assert differences(critic_after(10.0), critic_after(0.0))


def test_the_uncalibrated_method_of_a_run_needs_no_calibration() -> None:
    trainer = recipe(replace(TINY_GAN, map=MapConfig(healthy_z=True)))
    assert float(trainer.method().localize(images(1)).anomaly_map.max()) > 0


def test_half_precision_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match="second derivatives"):
        recipe(precision="bf16")

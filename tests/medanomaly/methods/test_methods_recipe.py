import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import SIDE, TINY, gaussian_denoiser, images, net_of, tiny_config

from medanomaly.diffusion.unet import Denoiser, NetworkConfig
from medanomaly.methods.cfg_diffusion import CfgDiffusionRecipe
from medanomaly.training.config import TrainingConfig
from medanomaly.types import Batch

CPU = torch.device("cpu")
BATCH = Batch(x=images(4), label=torch.tensor([0, 1, 0, 1]))
DROPPING = NetworkConfig(
    channels=TINY.channels, attention=TINY.attention, head_channels=TINY.head_channels, norm_groups=TINY.norm_groups, dropout=0.2
)


def recipe(p_uncond: float = 0.1, network: NetworkConfig = TINY, **training: Any) -> CfgDiffusionRecipe:
    return tiny_config(p_uncond=p_uncond, network=network).recipe(
        image_channels=1, training=TrainingConfig(**training), device=CPU
    )


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weights_of(trainer: CfgDiffusionRecipe) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.denoiser.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("p_uncond", "lowest", "highest"), [(0.0, 0.0, 0.0), (0.1, 0.08, 0.12), (0.5, 0.46, 0.54), (1.0, 1.0, 1.0)]
)
def test_labels_become_null_with_the_probability_asked_for_and_stay_themselves_otherwise(
    p_uncond: float, lowest: float, highest: float
) -> None:
    denoiser = gaussian_denoiser({"healthy": 0.0, "diseased": 0.0, None: 0.0}, ("healthy", "diseased"))
    label = torch.arange(4000) % 2
    recipe(p_uncond).loss(denoiser, Batch(x=torch.zeros(4000, 1, 2, 2), label=label), draws())
    [rows] = net_of(denoiser).rows
    null = torch.tensor(rows) == denoiser.null_index
    assert lowest <= float(null.float().mean()) <= highest
    assert torch.equal(torch.tensor(rows)[~null], label[~null])


def test_every_level_from_1_to_t_is_trained_and_no_other() -> None:
    denoiser = gaussian_denoiser({"healthy": 0.0, "diseased": 0.0, None: 0.0}, ("healthy", "diseased"))
    seen: list[Tensor] = []
    denoiser.net.register_forward_pre_hook(lambda _module, _inputs, named: seen.append(named["timesteps"]), with_kwargs=True)
    recipe().loss(denoiser, Batch(x=torch.zeros(20_000, 1, 1, 1), label=torch.zeros(20_000, dtype=torch.int64)), draws())
    assert torch.equal(torch.tensor(sorted(set(seen[0].tolist()))), torch.arange(1000))


@pytest.mark.parametrize("network", [TINY, DROPPING])
def test_building_and_stepping_leave_every_global_generator_alone(network: NetworkConfig) -> None:
    # Off any state that building a recipe could have left behind, here or in an earlier test.
    torch.rand(3)
    before = torch.random.get_rng_state(), random.getstate(), str(np.random.get_state())
    recipe(network=network).step(BATCH, draws())
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert str(np.random.get_state()) == before[2]


def test_weights_start_from_the_seed_whatever_the_global_generator_says() -> None:
    torch.rand(7)
    first = weights_of(recipe(seed=3))
    torch.rand(5)
    assert same(weights_of(recipe(seed=3)), first)
    assert not same(weights_of(recipe(seed=4)), first)


def test_a_step_is_a_function_of_its_generator() -> None:
    def after(seed: int) -> dict[str, Tensor]:
        trainer = recipe(network=DROPPING)
        trainer.step(BATCH, draws(seed))
        return weights_of(trainer)

    assert same(after(1), after(1))
    assert not same(after(1), after(2))


def test_the_released_weights_are_the_moving_average_of_the_trained_ones() -> None:
    decay = 0.25
    trainer = recipe(ema_decay=decay, warmup_steps=0)
    trainer.step(BATCH, draws(0))
    # The average starts at the first step's weights.
    expected = weights_of(trainer)
    for step in (1, 2, 3):
        trainer.step(BATCH, draws(step))
        ramp = min(decay, (1 + step) / (10 + step))
        expected = {name: ramp * expected[name] + (1 - ramp) * value for name, value in weights_of(trainer).items()}
    for name, value in trainer.weights().items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-5)
    assert not same(trainer.weights(), weights_of(trainer))


def poisoned_state(trainer: CfgDiffusionRecipe, step: Any) -> None:
    """Trains once, then checks that ``step`` is skipped and changes neither weights, average nor optimiser."""
    trainer.step(BATCH, draws(0))
    before = {"denoiser": weights_of(trainer), "average": trainer.weights()}
    moments = [value.clone() for held in trainer.optimizer.state.values() for value in held.values()]
    values = step()
    assert values["skipped"] == 1
    assert same(weights_of(trainer), before["denoiser"])
    assert same(trainer.weights(), before["average"])
    now = [value for held in trainer.optimizer.state.values() for value in held.values()]
    assert all(torch.equal(one, other) for one, other in zip(moments, now, strict=True))
    assert all(parameter.grad is None for parameter in trainer.denoiser.parameters())


def test_a_non_finite_loss_is_skipped_and_changes_nothing() -> None:
    trainer = recipe()
    broken = Batch(x=torch.full((4, 1, SIDE, SIDE), float("nan")), label=BATCH.label)
    poisoned_state(trainer, lambda: trainer.step(broken, draws(1)))


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("grad_clip", [0.0, 1.0])
def test_a_non_finite_gradient_under_a_finite_loss_is_skipped_and_changes_nothing(poison: float, grad_clip: float) -> None:
    trainer = recipe(grad_clip=grad_clip)

    def step() -> dict[str, float]:
        hook = next(trainer.denoiser.parameters()).register_hook(lambda gradient: torch.full_like(gradient, poison))  # type: ignore[no-untyped-call]
        values = trainer.step(BATCH, draws(1))
        hook.remove()
        return values

    poisoned_state(trainer, step)
    assert trainer.step(BATCH, draws(2))["skipped"] == 0


def test_a_step_reports_its_terms_and_the_rate_it_used() -> None:
    values = recipe(learning_rate=1e-3, warmup_steps=10).step(BATCH, draws())
    assert values.keys() == {"loss", "mse", "bound", "grad_norm", "learning_rate", "skipped"}
    assert values["learning_rate"] == pytest.approx(1e-4)
    assert values["skipped"] == 0


def test_the_gradient_that_is_applied_is_clipped() -> None:
    trainer = recipe(grad_clip=1e-3, warmup_steps=0)
    norms: list[float] = []
    trainer.optimizer.register_step_pre_hook(
        lambda *_: norms.append(
            float(torch.stack([p.grad.norm() for p in trainer.denoiser.parameters() if p.grad is not None]).norm())
        )
    )
    values = trainer.step(BATCH, draws())
    assert values["grad_norm"] > 1e-2
    assert norms[0] == pytest.approx(1e-3, rel=1e-3)


def test_validation_uses_the_averaged_weights_and_repeats_itself() -> None:
    trainer = recipe(ema_decay=0.9, warmup_steps=0, learning_rate=1e-2)
    for step in range(3):
        trainer.step(BATCH, draws(step))
    first = trainer.validate(BATCH, draws(5))
    assert first == trainer.validate(BATCH, draws(5))
    average = trainer.average.module.eval()
    assert isinstance(average, Denoiser)
    averaged = trainer.loss(average, BATCH, draws(5))
    trained = trainer.loss(trainer.denoiser.eval(), BATCH, draws(5))
    assert first["loss"] == float(averaged["loss"])
    assert first["loss"] != float(trained["loss"].detach())


def test_bfloat16_leaves_weights_average_and_loss_in_float32() -> None:
    trainer, full = recipe(precision="bf16", warmup_steps=0), recipe(warmup_steps=0)
    # The last layer starts at zero in any precision: only the second step's loss can tell the two apart.
    values, expected = [[one.step(BATCH, draws(step)) for step in range(2)][-1] for one in (trainer, full)]
    assert values["skipped"] == 0
    for held in (trainer.denoiser.state_dict(), trainer.weights()):
        assert {value.dtype for value in held.values() if value.is_floating_point()} == {torch.float32}
    assert values["loss"] != expected["loss"]
    assert values["loss"] == pytest.approx(expected["loss"], rel=0.02)

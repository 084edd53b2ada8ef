"""The whole of it on chest phantoms of 32 x 32: half a minute of one core shows that it learns, not how good it can be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.fixed_point_gan import FixedPointGan, FixedPointGanConfig
from medanomaly.datasets.phantom import Phantom, draw_phantom
from medanomaly.metrics.pixel import pixel_auroc, pixel_average_precision, prevalence
from medanomaly.rng import generator
from medanomaly.training.config import TrainingConfig
from medanomaly.types import Batch

CONFIG = FixedPointGanConfig(base_channels=16, num_res_blocks=2, critic_channels=16, num_critic_layers=4, n_critic=2)
TRAINING = TrainingConfig(
    num_steps=300, batch_size=8, learning_rate=4e-4, warmup_steps=0, decay="linear", ema_decay=0.99, grad_clip=0.0
)


def phantoms(first: int, count: int) -> tuple[list[Phantom], Tensor, Tensor]:
    """Patients first, first + 1, ..., every second one diseased: as drawn, (count, 1, 32, 32) in [-1, 1], labels."""
    drawn = [draw_phantom(5, first + n, 0, diseased=bool(n % 2), image_size=32) for n in range(count)]
    return drawn, in_model_space([phantom.pixels for phantom in drawn]), torch.arange(count) % 2


def in_model_space(pixels: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(pixels))[:, None].float() / 127.5 - 1


@pytest.mark.slow
def test_it_learns_to_find_effusions_and_to_leave_the_healthy_alone() -> None:
    _, x, label = phantoms(0, 240)
    recipe = CONFIG.recipe(image_channels=1, training=TRAINING, device=torch.device("cpu"))
    terms = []
    for step in range(TRAINING.num_steps):
        draws = generator(0, "train", step)
        chosen = torch.randint(len(x), (TRAINING.batch_size,), generator=draws)
        terms.append(recipe.step(Batch(x=x[chosen], label=label[chosen]), draws))
    translator_terms = [values for values in terms if "g_loss" in values]
    for name in ("g_id", "g_rec", "g_cls"):
        falling = [values[name] for values in translator_terms]
        assert np.mean(falling[-10:]) < 0.5 * np.mean(falling[:10]), name
    assert np.mean([values["d_cls"] for values in terms[-20:]]) < 0.4
    held_out, unseen, truth = phantoms(10_000, 64)
    method = recipe.method()
    assert isinstance(method, FixedPointGan)
    found = method.localize(unseen)
    maps, masks = list(found.anomaly_map[:, 0].numpy()), [phantom.mask for phantom in held_out]
    print(f"AUROC {pixel_auroc(maps, masks):.3f}, AP {pixel_average_precision(maps, masks):.3f}")
    assert pixel_auroc(maps, masks) > 0.65
    assert pixel_average_precision(maps, masks) > 3 * prevalence(masks)
    # The fixed point: what is healthy changes less than what is not.
    assert float(found.score[truth == 1].median()) > float(found.score[truth == 0].median())
    assert float(found.anomaly_map[truth == 0].mean()) < 0.06

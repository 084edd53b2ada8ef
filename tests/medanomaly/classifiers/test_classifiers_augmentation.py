"""What each augmentation preset may and may not do to an image, and that its draws depend on (seed, epoch, index) alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import samples

from medanomaly.classifiers.augmentation import PRESETS, Augmentation
from medanomaly.training.batches import training_batches
from medanomaly.types import Batch, Sample

SIDE = 24
CLASSES = ("healthy", "diseased")


def gradient() -> torch.Tensor:
    """(1, 24, 24): every pixel another value, darkest at the upper left."""
    return torch.linspace(-0.9, 0.9, SIDE * SIDE).reshape(1, SIDE, SIDE)


@pytest.mark.parametrize("name", PRESETS)
def test_a_seed_decides_and_nothing_global_is_drawn_from(name: str) -> None:
    vary, x = Augmentation(name), gradient()  # type: ignore[arg-type]
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    made = [vary(x, seed) for seed in range(6)]
    assert all(torch.equal(one, vary(x, seed)) for seed, one in enumerate(made))
    assert len({one.numpy().tobytes() for one in made}) > 2
    assert all(type(one) is torch.Tensor and one.shape == x.shape and one.abs().max() <= 1 for one in made)
    assert torch.equal(x, gradient())
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # type: ignore[index]


@pytest.mark.parametrize("name", PRESETS)
def test_what_comes_in_from_outside_is_black(name: str) -> None:
    black = torch.full((1, SIDE, SIDE), -1.0)
    for seed in range(4):
        assert torch.equal(Augmentation(name)(black, seed), black)  # type: ignore[arg-type]


def test_a_radiograph_is_never_mirrored_or_turned_over() -> None:
    x = torch.full((1, SIDE, SIDE), -0.5)
    x[0, 3:8, 3:8] = 0.9  # the marker, upper left
    for seed in range(40):
        bright = Augmentation("radiograph")(x, seed)[0]
        row, column = divmod(int(bright.argmax()), SIDE)
        assert row < SIDE / 2
        assert column < SIDE / 2


def test_tissue_shows_all_eight_orientations_and_keeps_every_pixel() -> None:
    x = gradient()
    made = [Augmentation("pathology")(x, seed) for seed in range(80)]
    for one in made:
        torch.testing.assert_close(one.flatten().sort().values, x.flatten(), atol=1e-6, rtol=0)
    assert len({tuple(one[0, [0, 0, -1, -1], [0, -1, 0, -1]].mul(1000).round().tolist()) for one in made}) == 8


def test_a_retina_is_mirrored_left_right_and_not_upside_down() -> None:
    x = torch.full((1, SIDE, SIDE), -0.5)
    x[0, 3:8, 3:8] = 0.9
    places = [divmod(int(Augmentation("retina")(x, seed)[0].argmax()), SIDE) for seed in range(40)]
    assert all(row < SIDE / 2 for row, _ in places)
    assert {column < SIDE / 2 for _, column in places} == {True, False}


def shade(x: torch.Tensor, seed: int) -> torch.Tensor:
    """The seed as the image, so that a test can read it."""
    return torch.full_like(x, (seed % 10_007) / 10_007)


def batches(source: list[Sample], *, first_step: int = 0, num_workers: int = 0) -> list[Batch]:
    return list(
        training_batches(
            source, CLASSES, batch_size=4, seed=3, first_step=first_step, num_steps=9, flip=False, num_workers=num_workers, augment=shade
        )
    )  # fmt: skip


def test_each_epoch_varies_an_image_otherwise_and_a_continued_run_alike() -> None:
    source = [replace(one, label="healthy") for one in samples(12)]
    whole = batches(source)
    shades = torch.cat([batch.x[:, 0, 0, 0] for batch in whole])
    assert len(set(shades.tolist())) == len(shades) == 36  # three epochs of twelve
    for resumed in (batches(source, first_step=5), batches(source, first_step=5, num_workers=2)):
        assert [batch.x.tolist() for batch in resumed] == [batch.x.tolist() for batch in whole[5:]]

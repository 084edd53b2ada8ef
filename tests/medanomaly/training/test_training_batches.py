from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import torch
from toys import samples

from medanomaly.errors import ConfigError, InputError
from medanomaly.training.batches import StepSampler, training_batches
from medanomaly.types import Batch, Sample

CLASSES = ("healthy", "diseased")


def batches(source: list[Sample], **changes: Any) -> list[Batch]:
    settings = {"batch_size": 4, "seed": 0, "first_step": 0, "num_steps": 9, "flip": True} | changes
    return list(training_batches(source, CLASSES, **settings))


def assert_same(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        assert torch.equal(mine.x, theirs.x)
        assert torch.equal(mine.label, theirs.label)


def test_every_epoch_shows_every_image_once_in_another_order() -> None:
    stream = list(chain.from_iterable(StepSampler(10, 4, 0, 0, 5)))
    epochs = stream[:10], stream[10:]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 2
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("first_step", [1, 3, 8])
def test_a_stream_taken_up_at_a_step_is_the_rest_of_the_whole_one(first_step: int) -> None:
    source = samples(10)
    assert_same(batches(source, first_step=first_step), batches(source)[first_step:])
    sampler = StepSampler(10, 4, 0, first_step, 9)
    assert len(list(sampler)) == len(sampler) == 9 - first_step


def test_batches_larger_than_the_set_go_around_it() -> None:
    assert [sorted(batch) for batch in StepSampler(3, 6, 0, 0, 4)] == [[0, 0, 1, 1, 2, 2]] * 4


def test_the_number_of_workers_changes_no_batch() -> None:
    source = samples(10)
    assert_same(batches(source, num_workers=2), batches(source))


def test_another_seed_gives_another_stream() -> None:
    assert list(StepSampler(10, 4, 0, 0, 5)) != list(StepSampler(10, 4, 1, 0, 5))


def test_about_half_of_the_images_are_mirrored_left_right_and_nothing_else_is_done() -> None:
    source = samples(8)
    mirrored, patterns = 0, set()
    plain, flipped = batches(source, flip=False, num_steps=50), batches(source, num_steps=50)
    for original, changed in zip(plain, flipped, strict=True):
        patterns.add(tuple(not torch.equal(x, y) for x, y in zip(original.x, changed.x, strict=True)))
        for x, y in zip(original.x, changed.x, strict=True):
            if not torch.equal(x, y):
                assert torch.equal(x.flip(-1), y)
                mirrored += 1
    assert 70 < mirrored < 130
    # Each step draws anew: fifty draws of four leave few of the sixteen patterns out.
    assert len(patterns) > 10


def test_labels_are_indices_into_the_named_classes_whatever_their_order() -> None:
    by_image = {round(float(sample.x.sum()), 4): sample.label for sample in samples(8)}
    for classes in (CLASSES, CLASSES[::-1]):
        for batch in training_batches(samples(8), classes, batch_size=4, seed=0, first_step=0, num_steps=2, flip=False):
            assert [classes[index] for index in batch.label] == [by_image[round(float(x.sum()), 4)] for x in batch.x]


def test_an_image_of_another_class_is_refused_by_id_with_the_classes() -> None:
    source = [*samples(3), replace(samples(4)[3], label="normal")]
    with pytest.raises(ConfigError, match=r"'i3' has label 'normal'.*'healthy', 'diseased'"):
        batches(source)


def test_an_image_without_a_label_is_refused_by_id() -> None:
    source = [*samples(3), replace(samples(4)[3], label=None)]
    with pytest.raises(InputError, match="'i3' has no label"):
        batches(source)


def test_an_empty_training_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="E_EMPTY"):
        batches([])

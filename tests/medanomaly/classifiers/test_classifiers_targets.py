"""What a classifier is told: policies for what is uncertain or not mentioned, and manifests nothing can be learned from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from classifier_builders import config_of
from toys import samples

from medanomaly.classifiers.loss import each_by_itself, noised
from medanomaly.datasets.manifest import Record
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.errors import MedanomalyError

SAID = (("Edema", 1), ("Fracture", 0), ("Nodule", -1))
CLASSES = ("Nodule", "Edema", "Mass", "Fracture")


@pytest.mark.parametrize(
    ("uncertain", "blank", "targets"),
    [
        ("masked", "masked", (-1, 1, -1, 0)),
        ("ones", "masked", (1, 1, -1, 0)),
        ("zeros", "masked", (0, 1, -1, 0)),
        ("masked", "zeros", (-1, 1, 0, 0)),
    ],
)
def test_uncertain_and_blank_mean_what_the_policies_say(uncertain: str, blank: str, targets: tuple[int, ...]) -> None:
    config = config_of(classes=CLASSES, multi_label=True, uncertain=uncertain, blank=blank)
    assert config.targets(SAID) == targets


def test_by_default_uncertain_and_blank_are_masked() -> None:
    assert config_of(classes=CLASSES, multi_label=True).targets(SAID) == (-1, 1, -1, 0)


def test_a_masked_target_adds_nothing_to_loss_gradient_or_accuracy() -> None:
    scores = torch.tensor([[2.0, -1.0], [0.5, 3.0]], requires_grad=True)
    target = torch.tensor([[1, -1], [-1, 0]])
    loss, accuracy = each_by_itself(scores, target)
    loss.backward()
    known = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor([2.0, 3.0]), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(loss.detach(), known)
    assert accuracy == 0.5
    assert scores.grad is not None
    assert scores.grad[0, 1] == scores.grad[1, 0] == 0
    assert scores.grad[0, 0] != 0


def test_a_batch_of_which_nothing_is_known_has_loss_0_and_no_gradient() -> None:
    scores = torch.ones((2, 3), requires_grad=True)
    loss, _ = each_by_itself(scores, torch.full((2, 3), -1))
    loss.backward()
    assert loss == 0
    assert scores.grad is not None
    assert not scores.grad.any()


def test_levels_are_drawn_from_1_to_t_and_noise_has_their_strength() -> None:
    schedule = NoiseSchedule.linear(10)
    x_0 = torch.ones((2000, 1, 4, 4))
    x_t, t = noised(x_0, schedule, torch.Generator().manual_seed(0))
    assert sorted(set(t.tolist())) == list(range(1, 11))
    for level in (1, 10):
        pixels = x_t[t == level]
        assert pixels.mean() == pytest.approx(schedule.signal(level), abs=0.05)
        assert pixels.std() == pytest.approx(schedule.noise(level), abs=0.05)


def record(index: int, label: str | None = None, observations: tuple[tuple[str, int], ...] = ()) -> Record:
    return Record(id=str(index), patient_id=str(index), image=Path(f"{index}.png"), label=label, observations=observations)


def of_labels(*labels: str | None) -> list[Record]:
    return [record(index, label) for index, label in enumerate(labels)]


def of_observations(*said: dict[str, int]) -> list[Record]:
    return [record(index, None, tuple(one.items())) for index, one in enumerate(said)]


SEVERAL = {"classes": ("Edema", "Mass"), "multi_label": True}
FULL = ({"Edema": 1, "Mass": 0}, {"Edema": 0, "Mass": 1})


@pytest.mark.parametrize(
    ("changes", "records", "code", "said"),
    [
        ({}, of_labels("a", "b", "d"), "E_CLASS", "'d'"),
        ({}, of_labels(None, None), "E_LABEL", "none of 2 train images has a label"),
        ({}, of_labels("a", "b", None), "E_CLASS_EMPTY", "no train image of 'c'"),
        ({}, of_labels("b", "b"), "E_ONE_CLASS", "'b'"),
        (SEVERAL, of_labels("a"), "E_LABEL", "none of 1 train images has an observation"),
        (SEVERAL, of_observations({"Edema": 1, "Mas": 0}, {"Edema": 0}), "E_CLASS", "did you mean 'Mas'?"),
        (SEVERAL, of_observations({"Edema": 1, "Mass": 1}, {"Edema": 0}), "E_ONE_CLASS", "'Mass' is absent in no train image"),
        (SEVERAL, of_observations({"Edema": -1, "Mass": 1}, {"Mass": 0}), "E_ONE_CLASS", "'Edema' is present and absent"),
    ],
)
def test_a_manifest_that_teaches_nothing_is_refused(
    changes: dict[str, Any], records: Sequence[Record], code: str, said: str
) -> None:
    with pytest.raises(MedanomalyError) as caught:
        config_of(**changes).usable(records, "train", Path("manifest.csv"))
    assert caught.value.code == code
    assert said in str(caught.value)


def test_other_splits_may_lack_classes_and_images_of_which_nothing_is_known_are_left_out() -> None:
    assert [one.id for one in config_of().usable(of_labels("a", None), "val", Path("m.csv"))] == ["0"]
    records = of_observations(*FULL, {"Edema": -1}, {"Other": 1})
    assert [one.id for one in config_of(**SEVERAL).usable(records, "train", Path("m.csv"))] == ["0", "1"]
    blank = config_of(**SEVERAL, blank="zeros")
    assert [one.id for one in blank.usable(records, "train", Path("m.csv"))] == ["0", "1", "2", "3"]


def test_batches_hold_one_class_or_a_target_for_each() -> None:
    found = samples(2)
    assert config_of(classes=("healthy", "diseased")).batch(found).label.shape == (2,)
    several = config_of(classes=("Edema", "Mass"), multi_label=True).batch(found)
    assert several.label.tolist() == [[-1, -1]] * 2

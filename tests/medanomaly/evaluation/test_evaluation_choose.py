from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from medanomaly.errors import InputError
from medanomaly.evaluation.choice_folder import write_choice
from medanomaly.evaluation.choose import Criterion, Setting, Trial, best_by, best_by_masks, guided_gap, try_settings
from medanomaly.types import AnomalyResult, Geometry, Sample

SIDE = 16
GREY = {"healthy": (0.1, 0.3), "diseased": (0.5, 0.7)}
"""Mean of the two images of each class."""
CHECKS = torch.where(torch.arange(SIDE)[:, None] % 2 == torch.arange(SIDE) % 2, 1.0, -1.0)[None]
"""A constant image has a map of zeros, whatever a method says: these are none, and have the same mean in any block of 4 x 4."""
GAP = 0.4 / 0.02**0.5
"""Means 0.6 and 0.2, both variances 0.02."""


def setting(noise_level: int, guidance_scale: float, name: str = "one") -> Setting:
    return Setting(checkpoint=name, noise_level=noise_level, num_steps=4, guidance_scale=guidance_scale)


GRID = [setting(level, scale) for level in (200, 400) for scale in (1.0, 2.0)]


def grey_samples(*, masks: bool = True, labels: Sequence[str | None] = ("healthy", "diseased")) -> list[Sample]:
    """Checkerboards of 0.1 above and below their grey, with the lesion of 4 x 4 in the diseased ones' masks."""
    whole = Geometry(native_size=(SIDE, SIDE), pad_before=(0, 0), model_size=SIDE)
    truth = np.zeros((SIDE, SIDE), np.bool_)
    truth[:4, :4] = True
    return [
        Sample(
            id=f"{label}{index}",
            patient_id=f"{label}{index}",
            x=grey + 0.1 * CHECKS,
            label=label,
            mask=truth if masks and label == "diseased" else None,
            geometry=whole,
        )
        for label in labels
        for index, grey in enumerate(GREY[label or "healthy"])
    ]


class Darkening:
    """Guidance takes g / 10 of the brightness; without it already 0.2 - grey / 4 is lost; at level 200 one in two loses 0.1 more."""

    def __init__(self, setting: Setting, encoded: list[tuple[int, int]]) -> None:
        self.setting, self.encoded = setting, encoded

    def encode(self, x: Tensor) -> Tensor:
        self.encoded.append((self.setting.noise_level, len(x)))
        return x + 100 * self.setting.noise_level

    def reconstruct(self, latent: Tensor) -> Tensor:
        x = self.decoded(latent)
        return x - (0.2 - x / 4)

    def from_latent(self, x: Tensor, latent: Tensor) -> AnomalyResult:
        twin = self.reconstruct(latent) - self.setting.guidance_scale / 10 * self.decoded(latent)
        if self.setting.noise_level == 200:
            grey = (x.mean(dim=(1, 2, 3), keepdim=True) * 10).round()
            twin = twin - 0.1 * ((grey == 3) | (grey == 7))
        anomaly_map = (x - twin).abs()
        anomaly_map[..., :4, :4] *= 2 if self.setting.guidance_scale == 2 else 0
        return AnomalyResult(anomaly_map=anomaly_map, score=anomaly_map.mean(dim=(1, 2, 3)), pseudo_healthy=twin)

    def decoded(self, latent: Tensor) -> Tensor:
        """Float32 keeps three digits of the image beside a latent of 40,000: round them back."""
        return ((latent - 100 * self.setting.noise_level) * 10).round() / 10


def tried(samples: Sequence[Sample] | None = None, grid: Sequence[Setting] = GRID, **options: object) -> list[Trial]:
    settings: dict[str, object] = {"healthy": "healthy", "num_resamples": 20, "batch_size": 3} | options
    return list(try_settings(lambda one: Darkening(one, []), grid, samples or grey_samples(), **settings))  # type: ignore[arg-type]


def test_the_gap_is_what_guidance_changes_more_in_diseased_images_in_units_of_the_spread() -> None:
    trials = {(one.setting.noise_level, one.setting.guidance_scale): one for one in tried()}
    # What is lost without guidance differs from image to image and must not count; twice the guidance is no larger a gap.
    for scale in (1.0, 2.0):
        assert trials[400, scale].gap.value == pytest.approx(GAP, rel=1e-4)
        assert trials[400, scale].healthy_change == pytest.approx(0.02 * scale, rel=1e-4)
        assert trials[400, scale].diseased_change == pytest.approx(0.06 * scale, rel=1e-4)
        assert trials[400, scale].healthy_spread == pytest.approx(0.01 * scale * 2**0.5, rel=1e-4)
        assert trials[400, scale].diseased_spread == pytest.approx(0.01 * scale * 2**0.5, rel=1e-4)
    # At the lower level the same difference stands against more spread: deviations of 0.01 sqrt(2) and 0.06 sqrt(2).
    assert trials[200, 1.0].gap.value == pytest.approx(0.04 / (0.06 * 2**0.5), rel=1e-4)


def test_the_formula_of_the_gap() -> None:
    diseased = np.array([False, False, True, True])
    guided, unguided = np.array([0.3, 0.4, 0.8, 1.2]), np.array([0.2, 0.1, 0.3, 0.3])
    # r = 0.1, 0.3, 0.5, 0.9: means 0.2 and 0.7, variances 0.02 and 0.08.
    assert guided_gap(guided, unguided, diseased) == pytest.approx(0.5 / 0.05**0.5)


def test_a_constant_image_counts_as_unchanged_and_scores_nothing_as_it_does_in_evaluate() -> None:
    first, *others = grey_samples()
    blank = replace(first, x=torch.full_like(first.x, 0.1))
    one = tried([blank, *others], [setting(400, 1.0)])[0]
    # The other healthy image changes by 0.03; scores of the diseased ones are lower than its, and all above 0.
    assert one.healthy_change == pytest.approx(0.03 / 2, rel=1e-4)
    assert one.healthy_spread == pytest.approx(0.03 / 2**0.5, rel=1e-4)
    assert one.image_auroc.value == 0.5


def test_an_image_is_encoded_once_a_level_for_all_guidance_scales() -> None:
    encoded: list[tuple[int, int]] = []
    list(
        try_settings(lambda one: Darkening(one, encoded), GRID, grey_samples(), healthy="healthy", num_resamples=5, batch_size=3)
    )
    assert encoded == [(200, 3), (200, 1), (400, 3), (400, 1)]


def test_batches_change_nothing() -> None:
    assert [one.gap.value for one in tried(batch_size=1)] == pytest.approx([one.gap.value for one in tried(batch_size=4)])


def test_masks_stand_beside_the_choice_and_have_no_part_in_it() -> None:
    with_masks, without = tried(), tried(grey_samples(masks=False))
    assert [replace(one, average_precision=None, dice=None) for one in with_masks] == without
    assert tried(masks=False) == without
    assert best_by_masks(without) is None
    tuned = best_by_masks(with_masks)
    assert tuned is not None
    # Only with g = 2 the lesion stands out.
    assert tuned.setting.guidance_scale == 2
    assert tuned.average_precision == max(one.average_precision or 0 for one in with_masks)


def test_the_image_auroc_is_that_of_the_scores() -> None:
    by_grey = {one.setting.noise_level: one.image_auroc.value for one in tried() if one.setting.guidance_scale == 1}
    # Scores 0.2 - grey / 4 + grey / 10 (+ 0.1 for every second image at level 200), of which a lesion-sized part is set to 0.
    assert by_grey[400] == 0
    assert by_grey[200] == 0.25


def test_the_criterion_decides_and_of_equal_settings_the_first_wins() -> None:
    trials = tried()
    assert best_by(trials, "gap").setting.noise_level == 400
    best = trials[0]
    for criterion in ("gap", "auroc"):
        equal = [replace(best, setting=setting(100 * n, 1.0)) for n in (1, 2, 3)]
        assert best_by(equal, criterion).setting.noise_level == 100
    rated = [replace(best, setting=setting(n, 1.0), image_auroc=replace(best.image_auroc, value=n / 10)) for n in (3, 7, 5)]
    assert best_by(rated, "auroc").setting.noise_level == 7


def undefined(one: Trial) -> Trial:
    return replace(one, gap=replace(one.gap, value=math.nan))


def test_a_setting_without_a_gap_is_not_chosen_and_a_choice_among_none_is_refused() -> None:
    first, *others = tried()
    assert best_by([undefined(first), *others], "gap").setting != first.setting
    with pytest.raises(InputError, match="E_UNDEFINED"):
        best_by([undefined(first)], "gap")


@pytest.mark.parametrize(
    ("labels", "code"), [(["healthy"], "E_ONE_CLASS"), (["diseased"], "E_ONE_CLASS"), ([None, "diseased"], "E_LABEL")]
)
def test_images_that_cannot_decide_are_refused_before_anything_is_computed(labels: list[str | None], code: str) -> None:
    encoded: list[tuple[int, int]] = []
    with pytest.raises(InputError, match=code):
        list(try_settings(lambda one: Darkening(one, encoded), GRID, grey_samples(labels=labels), healthy="healthy"))
    assert encoded == []


def test_one_image_of_a_class_is_too_few() -> None:
    with pytest.raises(InputError, match="E_ONE_CLASS"):
        tried(grey_samples()[1:])


def written(out: Path, criterion: Criterion = "gap", trials: Sequence[Trial] | None = None) -> dict[str, object]:
    write_choice(out, trials or tried(), criterion, facts={"num_images": 4}, options=["--noise-level", "400"])
    content: dict[str, object] = json.loads((out / "choice.json").read_text())
    return content


def test_the_files_say_what_was_tried_what_was_chosen_and_what_masks_would_have_chosen(tmp_path: Path) -> None:
    trials = tried()
    content = written(tmp_path)
    assert content["num_configurations"] == 4
    assert content["split"] == "val"
    assert content["chosen"]["noise_level"] == 400  # type: ignore[index]
    assert content["chosen_by_masks"]["guidance_scale"] == 2  # type: ignore[index]
    chosen, tuned = best_by(trials, "gap"), best_by_masks(trials)
    assert tuned is not None
    lost = {name: getattr(tuned, name) - getattr(chosen, name) for name in ("average_precision", "dice")}
    assert content["lost"] == pytest.approx(lost)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "curve.csv").read_text())))
    assert [(int(row["noise_level"]), float(row["guidance_scale"])) for row in rows] == [(200, 1), (200, 2), (400, 1), (400, 2)]
    assert [float(row["gap"]) for row in rows] == pytest.approx([one.gap.value for one in trials])
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_without_masks_nothing_is_said_of_them(tmp_path: Path) -> None:
    content = written(tmp_path, trials=tried(grey_samples(masks=False)))
    assert content["chosen_by_masks"] is None
    assert content["lost"] is None
    rows = list(csv.DictReader(io.StringIO((tmp_path / "curve.csv").read_text())))
    assert {row["dice"] for row in rows} == {""}


def test_the_other_criterions_choice_stands_beside_where_it_has_one(tmp_path: Path) -> None:
    trials = tried()
    assert written(tmp_path, "auroc", trials)["chosen_by_gap"]["noise_level"] == 400  # type: ignore[index]
    assert written(tmp_path, "auroc", [undefined(one) for one in trials])["chosen_by_gap"] is None
    rows = list(csv.DictReader(io.StringIO((tmp_path / "curve.csv").read_text())))
    assert {row["gap"] for row in rows} == {""}

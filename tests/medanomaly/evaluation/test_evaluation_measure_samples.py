"""All numbers of a set of samples: good ones are near the real images, copies are found, and what cannot be measured is n/a."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from toys import images

from medanomaly.errors import InputError
from medanomaly.evaluation.features import Features
from medanomaly.evaluation.measure_samples import (
    Described,
    distribution_rows,
    diversity_rows,
    memorisation_rows,
    number,
    subset,
    table_rows,
)
from medanomaly.evaluation.sample_sets import ImageSet


def described(values: np.ndarray, *, patients: int | None = None, side: int = 12, seed: int = 0) -> Described:
    ids = tuple(f"i{index}" for index in range(len(values)))
    owners = ids if patients is None else tuple(f"p{index % patients}" for index in range(len(values)))
    p = np.exp(values[:, :2])
    return Described(
        images=ImageSet(ids=ids, patient_ids=owners, x=images(len(values), side=side, seed=seed)),
        features=Features(values=values, probabilities=p / p.sum(axis=1, keepdims=True)),
    )


def draws(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3)) + shift


def by_name(rows: list[dict[str, object]]) -> dict[str, float]:
    return {str(row["name"]): float(row["value"]) for row in rows}  # type: ignore[arg-type]


def test_shifted_samples_are_worse_by_every_distance() -> None:
    real = described(draws(60, 0), patients=30)
    good, bad = (
        by_name(distribution_rows(described(draws(50, 1, shift)), real, num_resamples=20, seed=0)) for shift in (0.0, 3.0)
    )
    for name in ("FID", "FID, shift of the mean", "KID x 1000"):
        assert bad[name] > good[name] + 1, name
    for name in ("precision", "recall"):
        assert bad[name] < good[name] - 0.3, name
    assert good["FID"] == pytest.approx(good["FID, shift of the mean"] + good["FID, change of spread"])
    assert 1 <= good["Inception Score"] <= 2


def test_few_samples_are_said_so_and_classes_are_needed_for_the_score() -> None:
    real = described(draws(9, 0))
    plain = Described(images=real.images, features=Features(values=real.features.values))
    rows = distribution_rows(
        Described(images=subset(plain, ["i0", "i1", "i2"]).images, features=Features(values=draws(3, 1))),
        real,
        num_resamples=5,
        seed=0,
    )
    named = {row["name"]: row for row in rows}
    assert "3 samples for 3 features: FID needs 4 of each" in named["FID"]["note"]
    assert "Inception Score" not in named
    assert "precision" not in named


def test_pairs_are_compared_where_the_window_fits() -> None:
    rows = diversity_rows(described(draws(5, 0), side=12).images, seed=0)
    assert [row["name"] for row in rows] == ["SSIM of pairs", "MS-SSIM of pairs"]
    assert rows[1]["note"] == "1 of 5 scales fit 12 px"
    assert diversity_rows(described(draws(5, 0), side=8).images, seed=0) == []


def test_copies_are_found_with_unseen_images_and_without() -> None:
    train, unseen = described(draws(40, 0), patients=20), described(draws(30, 1))
    made = described(train.features.values[[3, 8]] + 1e-9)
    for other in (unseen, None):
        found = memorisation_rows(made, train, other)
        assert by_name(list(found.rows))["closer to training than real"] == 1
        assert by_name(list(found.rows))["suspected copies, share"] == 1
        assert found.nearest_rows.tolist() == [3, 8]
    assert "0.5 = as far from the training images as training images of other patients" in found.rows[0]["note"]


def test_another_image_of_the_same_patient_is_no_unseen_one() -> None:
    values = np.repeat(draws(10, 0), 2, axis=0)
    values[1::2] += 1e-6
    ids = tuple(f"i{index}" for index in range(20))
    pairs = ImageSet(ids=ids, patient_ids=tuple(f"p{index // 2}" for index in range(20)), x=images(20))
    found = memorisation_rows(described(draws(10, 5)), Described(images=pairs, features=Features(values=values)), None)
    assert by_name(list(found.rows))["closer to training than real"] > 0.2  # against their twins it would be 0
    alone = ImageSet(ids=ids, patient_ids=("p",) * 20, x=images(20))
    with pytest.raises(InputError, match="of one patient"):
        memorisation_rows(described(draws(10, 5)), Described(images=alone, features=Features(values=values)), None)


def test_a_subset_keeps_features_beside_their_images() -> None:
    whole = described(draws(6, 0))
    part = subset(whole, ["i4", "i1"])
    assert part.images.ids == ("i1", "i4")
    torch.testing.assert_close(part.images.x, whole.images.x[[1, 4]])
    assert part.features.values.tolist() == whole.features.values[[1, 4]].tolist()
    assert part.features.probabilities is not None
    assert whole.features.probabilities is not None
    assert part.features.probabilities.tolist() == whole.features.probabilities[[1, 4]].tolist()


def test_a_cell_has_an_interval_where_there_is_one() -> None:
    row = {"name": "a", "value": 1.23456, "low": 1.0, "high": 2.0, "note": ""}
    assert number(row) == "1.235 [1, 2]"
    assert number(row | {"low": math.nan}) == "1.235"
    assert number(row | {"value": math.nan}) == number(None) == "n/a"
    assert table_rows([[row], [row | {"name": "b"}]]) == [["a", "1.235 [1, 2]", "n/a"], ["b", "n/a", "1.235 [1, 2]"]]

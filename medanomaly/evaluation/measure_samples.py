"""All numbers of a set of generated images beside those of real ones, as rows with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from medanomaly.errors import InputError
from medanomaly.evaluation.features import Features
from medanomaly.evaluation.sample_sets import ImageSet
from medanomaly.metrics.bootstrap import patient_bootstrap
from medanomaly.metrics.diversity import Similarity, ms_ssim_of, num_scales, pairwise_similarity, random_pairs, ssim_of
from medanomaly.metrics.frechet import frechet_inception_distance
from medanomaly.metrics.inception_score import inception_score
from medanomaly.metrics.jackknife import Estimate, deal_groups
from medanomaly.metrics.kernel_distance import kernel_inception_distance
from medanomaly.metrics.manifold import NUM_NEIGHBOURS, nearest, precision_and_recall
from medanomaly.metrics.memorisation import QUANTILE, memorisation

Row = dict[str, Any]
"""name, value, low, high, note."""
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """Images with their features."""

    images: ImageSet
    features: Features


def subset(described: Described, ids: Sequence[str]) -> Described:
    """The images with these ids, in the order they have."""
    kept = np.flatnonzero(np.isin(np.array(described.images.ids), np.array(ids)))
    images, found = described.images, described.features
    return Described(
        images=ImageSet(
            ids=tuple(images.ids[row] for row in kept),
            patient_ids=tuple(images.patient_ids[row] for row in kept),
            x=images.x[torch.from_numpy(kept)],
        ),
        features=Features(
            values=found.values[kept], probabilities=None if found.probabilities is None else found.probabilities[kept]
        ),
    )


def distribution_rows(made: Described, real: Described, *, num_resamples: int, seed: int) -> list[Row]:
    """FID, KID, Inception Score, precision, recall and diversity of a set against real images.

    Args:
        made: the set in question.
        real: what it should look like.
        num_resamples: of the bootstrap behind precision and recall.
        seed: of groups, pairs and the bootstrap.
    """
    made_groups, real_groups = (deal_groups(one.images.patient_ids, seed=seed) for one in (made, real))
    samples, reference = made.features.values, real.features.values
    fid = frechet_inception_distance(samples, reference, made_groups, real_groups)
    kid = kernel_inception_distance(samples, reference, made_groups, real_groups)
    scatter = f"standard deviation {1000 * kid.block_deviation:.3g} over {kid.num_blocks} disjoint blocks"
    rows = [
        row_of("FID", fid.estimate, fid.caution),
        {**row_of("FID, shift of the mean", None), "value": fid.mean_term},
        {**row_of("FID, change of spread", None), "value": fid.covariance_term},
        row_of("KID x 1000", scaled(kid.estimate, 1000), "" if math.isnan(kid.block_deviation) else scatter),
    ]
    if made.features.probabilities is not None:
        score = inception_score(made.features.probabilities, made_groups)
        rows.append(row_of("Inception Score", score.estimate, f"of {made.features.probabilities.shape[1]} classes"))
    if min(len(samples), len(reference)) > NUM_NEIGHBOURS:
        coverage = precision_and_recall(samples, reference)
        for name, flags, owners in (
            ("precision", coverage.looks_real, made.images.patient_ids),
            ("recall", coverage.is_covered, real.images.patient_ids),
        ):
            found = patient_bootstrap(
                lambda index, flags=flags: float(flags[index].mean()),  # type: ignore[misc]
                owners,
                num_resamples=num_resamples,
                seed=seed,
            )
            rows.append({"name": name, "value": found.value, "low": found.low, "high": found.high, "note": ""})
    return rows + diversity_rows(made.images, seed=seed)


def diversity_rows(images: ImageSet, *, seed: int) -> list[Row]:
    """Mean SSIM and MS-SSIM of pairs, at the sizes where their window fits."""
    size = int(images.x.shape[-1])
    scales = num_scales(size)
    groups, pairs = deal_groups(images.patient_ids, seed=seed), random_pairs(len(images), seed=seed)
    measures: list[tuple[str, Callable[[int], Similarity], str]] = [("SSIM of pairs", ssim_of, "")]
    measures.append(("MS-SSIM of pairs", ms_ssim_of, f"{scales} of 5 scales fit {size} px" if scales < 5 else ""))
    return [
        row_of(name, pairwise_similarity(images.x, pairs, make(size), groups), note) for name, make, note in measures if scales
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """The memorisation check and what a picture of it needs."""

    rows: tuple[Row, ...]
    distances: Array
    """(n,) of each sample to its nearest training image."""
    nearest_rows: npt.NDArray[np.int64]
    """(n,) which one."""


def memorisation_rows(made: Described, train: Described, unseen: Described | None) -> Neighbours:
    """Are samples closer to training images than real unseen images are?

    Args:
        made: the samples.
        train: what the generator was trained on.
        unseen: real images of other patients; None = training images are compared with those of other patients instead.

    Raises:
        InputError: E_TOO_FEW, without ``unseen`` and with one training patient only.
    """
    distances, rows = nearest(made.features.values, train.features.values)
    if unseen is not None:
        among = nearest(unseen.features.values, train.features.values)[0]
    else:
        owners = np.array(train.images.patient_ids)
        among = nearest(train.features.values, train.features.values, excluded=owners[:, None] == owners[None, :])[0]
        if not np.isfinite(among).all():
            raise InputError("the training images are of one patient", code="E_TOO_FEW", fix="add patients")
    found = memorisation(distances, among)
    whose = "unseen images" if unseen is not None else "training images of other patients"
    plain: Row = {"low": math.nan, "high": math.nan}
    return Neighbours(
        rows=(
            plain
            | {
                "name": "closer to training than real",
                "value": found.closer_than_unseen,
                "note": f"0.5 = as far from the training images as {whose}, 1 = copies; below 0.5 also where samples look unreal",
            },
            plain
            | {
                "name": "suspected copies, share",
                "value": float(found.is_copy.mean()),
                "note": f"nearer than {1 - QUANTILE:.0%} of {whose}; {QUANTILE:.0%} expected",
            },
            plain
            | {
                "name": "identical features",
                "value": float(found.num_identical),
                "note": "number of samples at distance 0 from a training image",
            },
        ),
        distances=distances,
        nearest_rows=rows,
    )


def row_of(name: str, estimate: Estimate | None, note: str = "") -> Row:
    """A row of a jackknife estimate; None = a number without an interval, to be filled in."""
    if estimate is None:
        return {"name": name, "value": math.nan, "low": math.nan, "high": math.nan, "note": note}
    return {"name": name, "value": estimate.value, "low": estimate.low, "high": estimate.high, "note": note}


def scaled(estimate: Estimate, factor: float) -> Estimate:
    """The estimate in another unit."""
    return Estimate(
        value=estimate.value * factor,
        low=estimate.low * factor,
        high=estimate.high * factor,
        standard_error=estimate.standard_error * factor,
        num_groups=estimate.num_groups,
    )


def table_rows(columns: Sequence[Sequence[Row]]) -> list[list[str]]:
    """[name, a cell a column] of each row; numbers without an interval stand alone."""
    named = [{row["name"]: row for row in rows} for rows in columns]
    names = list(dict.fromkeys(name for rows in named for name in rows))
    return [[name, *(number(rows.get(name)) for rows in named)] for name in names]


def number(row: Row | None) -> str:
    """``12.3 [11.0, 13.6]``, ``12.3``, or ``n/a``."""
    if row is None or math.isnan(row["value"]):
        return "n/a"
    text = f"{row['value']:.4g}"
    return text if math.isnan(row["low"]) else f"{text} [{row['low']:.4g}, {row['high']:.4g}]"

"""Uncertainty over patients, the unit that was sampled: intervals, paired tests between methods, and their correction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

from medanomaly.errors import InputError
from medanomaly.metrics import binned, pixel, ranking
from medanomaly.metrics.inputs import Mask, Scores, check_count
from medanomaly.rng import numpy_generator

Statistic = Callable[[npt.NDArray[np.int64]], float]
"""(indices of images, repeats allowed) -> one number, NaN where it is not defined on them."""
Statistics = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]]
"""The same, (m,) numbers at once."""
PooledMetric = Literal["auroc", "average_precision", "aupro"]
EXACT: Mapping[str, Callable[[ranking.Ranked], float]] = {
    "auroc": ranking.auroc,
    "average_precision": ranking.average_precision,
}
"""Metrics that the sorted pixels of a set are enough for."""
Floats = npt.NDArray[np.float64]
RESAMPLES_AT_ONCE = 100
"""Each takes some eight arrays of as many numbers as there are bins."""
FEW_PATIENTS = 30
"""Below this a percentile interval is likely to cover less than it says."""
MAX_EXACT_PATIENTS = 12
"""Up to here all 2^n sign patterns are enumerated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A number with its percentile interval over patients."""

    value: float
    """On the images as they are; NaN = not defined."""
    low: float
    high: float
    """NaN where fewer than two patients, or no resample on which the number is defined."""
    confidence: float
    num_images: int
    num_patients: int
    num_resamples: int
    num_undefined: int
    """Resamples on which the number was not defined; the ends are quantiles of the others."""
    end_error: float = 0.0
    """How far low and high may lie from those of the exact statistic; 0 where it was computed exactly."""

    @property
    def caution(self) -> str:
        """What to print beside the interval; empty where nothing is to be said."""
        notes = [f"{self.num_patients} patients: coverage below nominal likely"] if self.num_patients < FEW_PATIENTS else []
        notes += [f"undefined on {self.num_undefined} of {self.num_resamples} resamples"] if self.num_undefined else []
        return "; ".join(notes)


def patient_bootstrap(
    statistic: Statistic, patient_ids: Sequence[str], *, num_resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Percentile bootstrap (Efron 1979) that draws patients, each with all its images, with replacement.

    Drawing images instead treats the images of one patient as independent and gives intervals that are too narrow.
    The same seed and number of patients draw the same patients, so methods can be compared on common resamples.
    """
    return patient_bootstraps(
        lambda index: np.array([statistic(index)]), patient_ids, num_resamples=num_resamples, seed=seed, confidence=confidence
    )[0]


def patient_bootstraps(
    statistics: Statistics, patient_ids: Sequence[str], *, num_resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> list[Interval]:
    """:func:`patient_bootstrap` of several numbers that are made together, from the same draws."""
    patient = _patient_rows(patient_ids)
    images = [np.flatnonzero(patient == row) for row in range(int(patient.max()) + 1)]
    drawn = _draws(len(images), num_resamples, seed)
    resampled = np.array([statistics(np.concatenate([images[row] for row in rows])) for rows in drawn], np.float64)
    measured = statistics(np.arange(len(patient_ids), dtype=np.int64))
    return [_interval(value, values, patient, confidence) for value, values in zip(measured, resampled.T, strict=True)]


def pooled_pixel_bootstrap(
    maps: Sequence[Scores],
    masks: Sequence[Mask],
    patient_ids: Sequence[str],
    metric: PooledMetric,
    *,
    within: Sequence[Mask] | None = None,
    num_bins: int = 4096,
    num_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """:func:`patient_bootstrap` of a pooled pixel metric: the value is exact, the ends come from shared histograms.

    Same draws as :func:`patient_bootstrap` with the same seed; ``end_error`` bounds what the bins cost (see ``binned``).
    """
    return pooled_pixel_bootstraps(
        maps,
        masks,
        patient_ids,
        [metric],
        within=within,
        num_bins=num_bins,
        num_resamples=num_resamples,
        seed=seed,
        confidence=confidence,
    )[0]


def pooled_pixel_bootstraps(
    maps: Sequence[Scores],
    masks: Sequence[Mask],
    patient_ids: Sequence[str],
    metrics: Sequence[PooledMetric],
    *,
    within: Sequence[Mask] | None = None,
    num_bins: int = 4096,
    num_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[Interval]:
    """:func:`pooled_pixel_bootstrap` of several metrics: pixels are sorted and counted once for all of them.

    ``aupro`` is to a rate of 0.3, and of whole images: it takes no ``within``.
    """
    if within is not None and "aupro" in metrics:
        raise ValueError("aupro is of whole images: leave out within")
    check_count("patient_ids", len(patient_ids), len(maps))
    patient = _patient_rows(patient_ids)
    ranked = pixel.pooled(maps, masks, within)
    exact = [EXACT[metric](ranked) if metric in EXACT else pixel.aupro_of(ranked, maps, masks) for metric in metrics]
    bins = binned.score_bins(ranked, num_bins)
    # Gigabytes, of which nothing is needed any more.
    del ranked
    positives, negatives = binned.patient_histograms(bins, maps, masks, patient, within)
    approximate: list[Callable[[Floats, Floats, Floats], tuple[Floats, Floats]]] = []
    for metric in metrics:
        if metric == "aupro":
            shares, num_lesions = binned.patient_overlaps(bins, maps, masks, patient)
            approximate.append(
                lambda some, _hits, normal, shares=shares, num_lesions=num_lesions: binned.binned_aupro(  # type: ignore[misc]
                    some @ shares, some @ num_lesions, normal, bins.lossless
                )
            )
        else:
            ranking_of = binned.binned_auroc if metric == "auroc" else binned.binned_average_precision
            approximate.append(lambda _some, hits, normal, made=ranking_of: made(hits, normal, bins.lossless))  # type: ignore[misc]
    drawn = _draws(len(positives), num_resamples, seed)
    weights = np.stack([np.bincount(rows, minlength=len(positives)) for rows in drawn]).astype(np.float64)
    values, bounds = np.empty((len(metrics), num_resamples)), np.empty((len(metrics), num_resamples))
    for start in range(0, num_resamples, RESAMPLES_AT_ONCE):
        part = slice(start, start + RESAMPLES_AT_ONCE)
        some = weights[part]
        hits, normal = some @ positives, some @ negatives
        for row, made in enumerate(approximate):
            values[row, part], bounds[row, part] = made(some, hits, normal)
    end_errors = [float(np.nanmax(row)) if np.isfinite(row).any() else float("nan") for row in bounds]
    return [
        _interval(value, resampled, patient, confidence, end_error)
        for value, resampled, end_error in zip(exact, values, end_errors, strict=True)
    ]


def _patient_rows(patient_ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """(n,) row 0..num_patients - 1 of each image, patients in order of appearance."""
    if not patient_ids:
        raise InputError("there are no images", code="E_EMPTY", fix="pass at least one image")
    rows = {name: row for row, name in enumerate(dict.fromkeys(patient_ids))}
    return np.array([rows[name] for name in patient_ids], np.int64)


def _draws(num_patients: int, num_resamples: int, seed: int) -> npt.NDArray[np.int64]:
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}")
    return numpy_generator(seed, "bootstrap").integers(0, num_patients, (num_resamples, num_patients))


def _interval(
    value: float, values: npt.NDArray[np.float64], patient: npt.NDArray[np.int64], confidence: float, end_error: float = 0.0
) -> Interval:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    defined = values[~np.isnan(values)]
    num_patients = int(patient.max()) + 1
    low, high = np.nan, np.nan
    if defined.size and num_patients > 1:
        low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(
        value=float(value),
        low=float(low),
        high=float(high),
        confidence=confidence,
        num_images=len(patient),
        num_patients=num_patients,
        num_resamples=len(values),
        num_undefined=len(values) - defined.size,
        end_error=end_error,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTest:
    """Two-sided test that two methods do equally well on the same images."""

    difference: float
    """Mean of a - b over images where both are defined; NaN where there are none, and p_value with it."""
    p_value: float
    smallest_p: float
    """The lowest p-value this number of patients (or permutations) can give: above the level, the test could not succeed."""
    num_images: int
    num_patients: int
    num_undefined: int
    """Images left out because one of the two values is NaN."""
    exact: bool


def align(ids_a: Sequence[str], ids_b: Sequence[str]) -> npt.NDArray[np.int64]:
    """Indices into b that put its images in a's order, so that values can be compared in pairs.

    Raises:
        InputError: E_DUPLICATE_ID or E_IDS where the two are not the same images, each once.
    """
    for name, ids in (("first", ids_a), ("second", ids_b)):
        if len(set(ids)) != len(ids):
            raise InputError(f"the {name} method has an image twice", code="E_DUPLICATE_ID", fix="keep one row an image")
    if set(ids_a) != set(ids_b):
        odd = sorted(set(ids_a) ^ set(ids_b))
        raise InputError(
            f"the methods differ in {len(odd)} images, e.g. {odd[0]!a}", code="E_IDS", fix="run both on the same manifest"
        )
    position = {name: index for index, name in enumerate(ids_b)}
    return np.array([position[name] for name in ids_a], np.int64)


def paired_permutation_test(
    values_a: npt.NDArray[np.float64],
    values_b: npt.NDArray[np.float64],
    patient_ids: Sequence[str],
    *,
    num_permutations: int = 10_000,
    seed: int = 0,
) -> PairedTest:
    """Sign-flip permutation test of mean(a - b): under the null, swapping the two methods within a patient changes nothing.

    All images of a patient are swapped together. Up to 12 patients every one of the 2^n swaps is enumerated; beyond, p is
    (1 + number at least as extreme) / (1 + num_permutations) (Phipson and Smyth 2010), so it is never 0.

    Args:
        values_a: (n,) metric of each image under the first method, NaN where undefined.
        values_b: (n,) the same images in the same order (see :func:`align`) under the second.
        patient_ids: (n,) patient of each image.
        num_permutations: random swaps where there are too many to enumerate.
        seed: of those swaps.
    """
    check_count("values_b", len(values_b), len(values_a))
    check_count("patient_ids", len(patient_ids), len(values_a))
    gaps = np.asarray(values_a, np.float64) - np.asarray(values_b, np.float64)
    defined = ~np.isnan(gaps)
    if not defined.any():
        nan = float("nan")
        return PairedTest(
            difference=nan, p_value=nan, smallest_p=nan, num_images=0, num_patients=0, num_undefined=gaps.size, exact=True
        )
    patient = _patient_rows([name for name, kept in zip(patient_ids, defined, strict=True) if kept])
    sums = np.bincount(patient, gaps[defined])
    exact = sums.size <= MAX_EXACT_PATIENTS
    if exact:
        signs = np.array(list(product((1.0, -1.0), repeat=sums.size)))
    else:
        signs = numpy_generator(seed, "permutation").choice((1.0, -1.0), (num_permutations, sums.size))
    observed, permuted = abs(sums.sum()), np.abs(signs @ sums)
    # Equal in theory, unequal by rounding: without the tolerance the order of summation would decide.
    num_extreme = int((permuted >= observed - 1e-12 * np.abs(sums).sum()).sum())
    return PairedTest(
        difference=float(gaps[defined].mean()),
        p_value=num_extreme / len(signs) if exact else (1 + num_extreme) / (1 + num_permutations),
        smallest_p=min(2.0 ** (1 - sums.size), 1.0) if exact else 1 / (1 + num_permutations),
        num_images=int(defined.sum()),
        num_patients=sums.size,
        num_undefined=int((~defined).sum()),
        exact=exact,
    )


def holm_correction(p_values: Sequence[float]) -> npt.NDArray[np.float64]:
    """(m,) p-values adjusted for m comparisons, in the order given (Holm 1979): reject where adjusted <= level.

    A NaN stays NaN and still counts among the m: a comparison that was planned was made.
    """
    raw = np.asarray(p_values, np.float64)
    if ((raw < 0) | (raw > 1)).any():
        raise ValueError("p-values must be in [0, 1]")
    order = np.argsort(raw)  # NaN sorts last, so the others keep their factors m, m - 1, ...
    stepped = np.maximum.accumulate(raw[order] * np.arange(raw.size, 0, -1))
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted

"""Do intervals, tests and threshold rules keep what they promise, on sets made for it?

    python -m benchmarks.drills.statistical runs/drills --sets 400

Coverage: sets with five images a patient (intraclass correlation 0.6, true mean 0); how often the patient bootstrap's 95 % interval holds
the truth. Type I error: two methods that differ by chance only, p < 0.05. Thresholds: validation sets that were made to break the rules;
a rule may refuse by name, and where it answers the threshold is finite, flags no more healthy pixels than it says, and does not flag
everything.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.drills.outcome import Outcome, counted, finish
from medanomaly.errors import MedanomalyError
from medanomaly.evaluation.operating_points import choose_operating_points
from medanomaly.evaluation.predict import Prediction
from medanomaly.metrics.bootstrap import paired_permutation_test, patient_bootstrap
from medanomaly.rng import numpy_generator
from medanomaly.scoring.operating_point import HEALTHY_FPR

NOMINAL, LEVEL = 0.95, 0.05
FEWEST_PATIENTS = 30
"""Below, reports say that coverage is likely below nominal."""
MAP_KINDS = ("random", "ties", "constant", "zero", "one pixel", "huge", "tiny", "not a number", "infinite", "negative")
SETS = ("all healthy", "all diseased", "one image", "no labels", "no masks", "empty masks", "full masks", "both")


def clustered(rng: np.random.Generator, num_patients: int, per_patient: int = 5) -> tuple[np.ndarray, list[str]]:
    """Values of mean 0 and variance 1 that agree within a patient (intraclass correlation 0.6), and their patients."""
    of_patient = math.sqrt(0.6) * rng.normal(size=(num_patients, 1))
    values = of_patient + math.sqrt(0.4) * rng.normal(size=(num_patients, per_patient))
    return values.ravel(), [f"p{row}" for row in range(num_patients) for _ in range(per_patient)]


def in_band(rate: float, expected: float, num_sets: int) -> bool:
    """Whether a rate is within four standard errors, and 0.01, of what it should be."""
    return abs(rate - expected) <= 0.01 + 4 * math.sqrt(expected * (1 - expected) / num_sets)


def coverage(num_patients: int, num_sets: int, seed: int) -> Outcome:
    """How often the interval holds the truth; below 30 patients less than nominal is told and no loss."""
    rng, began, held = numpy_generator(seed, "coverage", num_patients), time.monotonic(), 0
    for number in range(num_sets):
        values, patients = clustered(rng, num_patients)
        interval = patient_bootstrap(lambda index, v=values: float(v[index].mean()), patients, num_resamples=400, seed=number)  # type: ignore[misc]
        held += interval.low <= 0 <= interval.high
    rate = held / num_sets
    is_fine = num_patients < FEWEST_PATIENTS or in_band(rate, NOMINAL, num_sets)
    return Outcome(
        drill=f"95 % bootstrap intervals, {num_patients} patients",
        injected=num_sets,
        lost=0 if is_fine else num_sets,
        seconds=time.monotonic() - began,
        measured=f"{100 * rate:.1f} % hold the truth",
    )


def type_one_error(num_patients: int, num_sets: int, seed: int) -> Outcome:
    """How often methods that differ by chance only are called different."""
    rng, began, called = numpy_generator(seed, "type I", num_patients), time.monotonic(), 0
    for number in range(num_sets):
        gaps, patients = clustered(rng, num_patients)
        test = paired_permutation_test(gaps, np.zeros_like(gaps), patients, num_permutations=400, seed=number)
        called += test.p_value <= LEVEL
    rate = called / num_sets
    return Outcome(
        drill=f"permutation test under the null, {num_patients} patients",
        injected=num_sets,
        lost=0 if in_band(rate, LEVEL, num_sets) else num_sets,
        seconds=time.monotonic() - began,
        measured=f"{100 * rate:.1f} % have p <= 0.05",
    )


def odd_map(rng: np.random.Generator, kind: str) -> np.ndarray:
    """float32 (12, 16)."""
    drawn = rng.random((12, 16)).astype(np.float32)
    if kind == "ties":
        return (drawn * 4).astype(np.int64).astype(np.float32)
    if kind in ("constant", "zero"):
        return np.full_like(drawn, 0.0 if kind == "zero" else 0.37)
    scale = {"huge": 1e37, "tiny": 1e-42, "negative": -1.0}.get(kind, 1.0)
    drawn = (drawn * np.float32(scale)).astype(np.float32)
    if kind == "one pixel":
        drawn = np.zeros_like(drawn)
    drawn[3, 4] = {"one pixel": 1.0, "not a number": np.nan, "infinite": np.inf}.get(kind, drawn[3, 4])
    return drawn


def odd_sets(num_sets: int, seed: int) -> Iterator[tuple[str, list[Prediction]]]:
    """(what it is, a validation set) of every kind of set and map in turn, and of maps of several kinds."""
    for number in range(num_sets):
        rng = numpy_generator(seed, "odd sets", number)
        which, kind = SETS[number % len(SETS)], MAP_KINDS[(number // len(SETS)) % len(MAP_KINDS)]
        is_mixed = number // (len(SETS) * len(MAP_KINDS)) % 2 == 1
        predictions = []
        for index in range(1 if which == "one image" else int(rng.integers(2, 9))):
            anomaly_map = odd_map(rng, str(rng.choice(MAP_KINDS[:7])) if is_mixed else kind)
            is_ill = {"all healthy": False, "all diseased": True}.get(which, index % 2 == 1)
            mask = np.zeros(anomaly_map.shape, np.bool_)
            mask[4:8, 4:8] = is_ill and which != "empty masks"
            mask = np.ones_like(mask) if which == "full masks" and is_ill else mask
            one = Prediction(
                id=str(index),
                patient_id=str(index // 2),
                label=None if which == "no labels" else "diseased" if is_ill else "healthy",
                mask=None if which == "no masks" else mask,
                pixels=np.zeros((1, 12, 16), np.float32),
                pseudo_healthy=None,
                anomaly_map=anomaly_map,
                score=float(anomaly_map.max()),
            )
            predictions.append(one)
        yield f"{which}, {'mixed' if is_mixed else kind} maps", predictions


def broken_rule(predictions: list[Prediction]) -> tuple[str, str]:
    """(what happened, what is wrong with it or "") when operating points are chosen."""
    try:
        points = choose_operating_points(predictions, healthy="healthy")
    except MedanomalyError as error:
        return "refused", "" if error.code and error.message else "refused without words"
    except Exception as error:
        return "escaped", f"{type(error).__name__}: {error}"
    healthy = [one.anomaly_map for one in predictions if one.label == "healthy"]
    for point in points:
        if not math.isfinite(point.value):
            return "answered", f"{point.criterion}: threshold {point.value}"
        if point.criterion == HEALTHY_FPR:
            flagged = float(np.mean(np.concatenate([one.ravel() for one in healthy]) > point.value))
            if flagged > (point.target or 0) + 1e-9:
                return "answered", f"{100 * flagged:.1f} % of healthy pixels flagged, {point.target} allowed"
    return "answered", ""


def thresholds(num_sets: int, seed: int) -> Outcome:
    """Every adversarial set once."""
    began, lost, happened = time.monotonic(), [], Counter[str]()
    for name, predictions in odd_sets(num_sets, seed):
        what, fault = broken_rule(predictions)
        happened[what] += 1
        lost += [f"{name}: {fault}"] if fault else []
    return counted(
        "threshold rules on adversarial validation sets",
        num_sets,
        lost,
        began,
        ", ".join(f"{count} {what}" for what, count in sorted(happened.items())),
    )


def main(arguments: list[str] | None = None) -> int:
    """Simulate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for statistical.json")
    parser.add_argument("--sets", type=int, default=400, help="simulated sets of each kind")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    outcomes = [coverage(num_patients, given.sets, given.seed) for num_patients in (10, 30, 100)]
    outcomes += [type_one_error(num_patients, given.sets, given.seed) for num_patients in (10, 30)]
    outcomes.append(thresholds(max(given.sets, 160), given.seed))
    return finish(outcomes, given.out / "statistical.json")


if __name__ == "__main__":
    sys.exit(main())

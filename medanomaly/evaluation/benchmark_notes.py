"""What has to be said below a benchmark's tables: conventions, where thresholds came from, and what n could show at all."""

from __future__ import annotations

import math

from medanomaly.evaluation.benchmark_compare import COLUMNS, FLOOR, PAIRED, SetResult
from medanomaly.evaluation.benchmark_config import BenchmarkConfig
from medanomaly.evaluation.benchmark_tables import PAIRED_TITLES
from medanomaly.evaluation.tables import NOTES, cell
from medanomaly.metrics.bootstrap import FEW_PATIENTS

LEVEL = 0.05
"""Of a test; p-values are printed, nothing is called significant."""
TOO_FEW_PATIENTS, TOO_FEW_LESIONS = 20, 5
"""A set with fewer patients or images with a lesion is too small to compare methods on."""
COST_NOTES = (
    "Parameters and evaluations (forward passes of whole networks for one image) are counted while one image is localized.",
    "s/image: wall clock over the test split, in batches, on the machine of the run; other work on it counts. "
    "Training minutes: wall clock of the training command, thresholds on validation images included.",
    "Peak MiB: resident memory of the evaluation process, Python and the whole test set's maps included, not a GPU's; the main "
    "method's first process also holds the floors' maps.",
)


def notes(config: BenchmarkConfig, result: SetResult) -> list[str]:
    """What has to be known to read a set's main table."""
    counts = result.counts
    found = list(NOTES)
    dice_notes = dict.fromkeys(
        f"{row.name}: {found_row['note'].split('; ')[0]}"
        for row in result.rows
        if (found_row := row.column(COLUMNS["Dice @ val threshold"]))
    )
    found.append("Dice @ val threshold and healthy area flagged: one threshold a method, chosen on validation images.")
    found += [f"{text}." for text in dice_notes]
    chance = next((row.measured["pixel AP"]["note"] for row in result.rows if "pixel AP" in row.measured), "")
    if chance:
        found.append(f"Pixel AP by chance is the {chance.split(';')[0]}.")
    if result.all_positive is not None:
        one = result.all_positive
        text = cell({"value": one.value, "low": one.low, "high": one.high})
        found.append(f"Dice of flagging every pixel of every image with a lesion: {text}.")
    if not any(row.kind == FLOOR for row in result.rows):
        found.append("No floors: the main method's first cell, which measures them, failed.")
    if counts["num_patients"] < TOO_FEW_PATIENTS or counts["num_with_lesion"] < TOO_FEW_LESIONS:
        found.append(
            f"n too small: {counts['num_patients']} patients and {counts['num_with_lesion']} images with a lesion; "
            f"methods are not to be ranked on fewer than {TOO_FEW_PATIENTS} patients or {TOO_FEW_LESIONS} such images."
        )
    if counts["num_patients"] < FEW_PATIENTS:
        found.append(f"{counts['num_patients']} patients: coverage of the intervals below nominal likely.")
    if any(len(row.by_seed) > 1 for row in result.rows):
        found.append(
            f"Values and intervals are of training seed {config.seeds[0]}; the spread over seeds has a table of its own."
        )
    for row in result.rows:
        if row.seed is not None and row.seed != config.seeds[0]:
            found.append(f"{row.name}: seed {row.seed}, because seed {config.seeds[0]} is missing.")
    found += [f"Missing: {text}." for text in result.failed]
    for row in result.rows:
        if row.kind != FLOOR:
            tried = "not stated" if row.tried_on_validation is None else str(row.tried_on_validation)
            times = "not counted" if row.test_evaluations is None else f"{row.test_evaluations}"
            found.append(
                f"{row.name}: settings compared on validation: {tried}; evaluations of these weights on this test split: {times}."
            )
    return found


def difference_notes(result: SetResult) -> list[str]:
    """How the tests were made, and what they could have shown at all."""
    compared = [row for row in result.rows if row.tests]
    if not compared:
        return ["No differences: the main method is missing."]
    found = [
        "Difference: method minus main method, mean over images with a lesion. Two-sided paired permutation test, all images of a "
        "patient swapped together.",
        f"Holm over the {len(compared)} comparisons of this set, floors included, for Dice and AP each by itself.",
    ]
    for key in PAIRED:
        smallest = max(
            (row.tests[key].smallest_p for row in compared if not math.isnan(row.tests[key].smallest_p)), default=math.nan
        )
        if not math.isnan(smallest):
            adjusted = min(1.0, smallest * len(compared))
            warning = f"; above {LEVEL:g}, so no difference could show" if smallest > LEVEL else ""
            warning = warning or (
                f"; after Holm {adjusted:.3g}, above {LEVEL:g} unless others are smaller" if adjusted > LEVEL else ""
            )
            patients = min(row.tests[key].num_patients for row in compared)
            found.append(f"{PAIRED_TITLES[key]}: smallest possible p with {patients} patients {smallest:.4g}{warning}.")
    return found

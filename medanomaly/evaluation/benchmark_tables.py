"""A benchmark as tables: what was measured with intervals, what differs, what it cost, and apart from that the oracle."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from medanomaly.config import to_dict
from medanomaly.evaluation.benchmark_compare import COLUMNS, FLOOR, ORACLE_ROWS, PAIRED, MethodRow, SetResult
from medanomaly.evaluation.benchmark_config import BenchmarkConfig
from medanomaly.evaluation.folder import NUM_WORST, write_text
from medanomaly.evaluation.image_table import ImageLine
from medanomaly.evaluation.tables import NOTES, as_markdown, cell
from medanomaly.files import write_json
from medanomaly.metrics.bootstrap import FEW_PATIENTS

LEVEL = 0.05
"""Of a test; p-values are printed, nothing is called significant."""
TOO_FEW_PATIENTS, TOO_FEW_LESIONS = 20, 5
"""A set with fewer patients or images with a lesion is too small to compare methods on."""
PAIRED_TITLES = {"dice": "Dice", "ap": "AP in an image"}
ORACLE_TITLE = "Dice @ oracle (uses test labels)"


Figures = Mapping[str, Sequence[tuple[str, str]]]
"""Set -> (caption, path below the benchmark's folder) of its pictures."""


def write_tables(
    out: Path,
    config: BenchmarkConfig,
    results: Sequence[SetResult],
    records: Sequence[Mapping[str, Any]],
    figures: Figures = MappingProxyType({}),
) -> str:
    """Write ``table.md``, ``table.csv`` and ``table.json``; returns the Markdown."""
    text = markdown(config, results, records, figures)
    write_text(out / "table.md", text)
    write_text(out / "table.csv", long_csv(results))
    write_json(out / "table.json", as_json(config, results, records))
    return text


def markdown(
    config: BenchmarkConfig,
    results: Sequence[SetResult],
    records: Sequence[Mapping[str, Any]],
    figures: Figures = MappingProxyType({}),
) -> str:
    """One section a set, and every command in an appendix."""
    parts = [f"# {config.title}\n", f"Main method: {config.main}. Other methods and floors are compared with it.\n"]
    for result in results:
        parts += [f"## {result.title}\n", counts_text(result)]
        parts.append(as_markdown(*main_table(result), notes(config, result)))
        parts += ["### Differences from the main method\n", as_markdown(*difference_table(result), difference_notes(result))]
        if spread := seed_table(result):
            note = f"Mean ± standard deviation over training seeds {listed(config.seeds)}: not an interval over patients."
            parts += ["### Training seeds\n", as_markdown(*spread, [note])]
        parts += ["### Cost\n", as_markdown(*cost_table(result), COST_NOTES)]
        if oracle := oracle_table(result):
            note = "The threshold is the best on the test images themselves: an upper bound on Dice, not a result."
            parts += ["### oracle (uses test labels)\n", as_markdown(*oracle, [note])]
        if worst := worst_table(result, config.main):
            note = "Sorted by Dice, then id; images without a lesion are not among them."
            parts += [f"### Lowest Dice of {config.main}\n", as_markdown(*worst, [note])]
        if shown := figures.get(result.name):
            parts += ["### Figures\n", *(f"![{caption}]({path})\n\n{caption}\n" for caption, path in shown)]
    parts += ["## Commands\n", "Each cell is made again by its own command, from the same folder.\n"]
    for record in records:
        name = " / ".join(str(record[key]) for key in ("set", "method", "seed") if record[key] is not None)
        state = "" if record["status"] == "done" else f" ({record['status']}: {record['message']})"
        parts.append("\n".join([f"{name}{state}", "", *(f"    {command}" for command in record["commands"]), ""]))
    return "\n".join(parts)


def listed(numbers: Sequence[object]) -> str:
    """``0, 1, 2``."""
    return ", ".join(map(str, numbers))


def counts_text(result: SetResult) -> str:
    """What a set's numbers stand on."""
    counts = result.counts
    return (
        f"{counts['num_images']} test images of {counts['num_patients']} patients: {counts['num_diseased']} diseased, "
        f"{counts['num_healthy']} healthy; {counts['num_with_lesion']} with a lesion mask. All methods on the same images.\n"
    )


def row_title(row: MethodRow) -> str:
    """Name, and what it is where it was not trained here."""
    return f"{row.name} ({row.kind})" if row.kind != "trained" else row.name


def main_table(result: SetResult) -> tuple[list[str], list[list[str]]]:
    """Values with intervals."""
    rows = [[row_title(row), *(cell(row.column(names)) for names in COLUMNS.values())] for row in result.rows]
    return ["method", *COLUMNS], rows


def difference_table(result: SetResult) -> tuple[list[str], list[list[str]]]:
    """Paired differences, p and p after Holm."""
    columns = ["method"]
    for key in PAIRED:
        columns += [f"{PAIRED_TITLES[key]}: difference", "p", "p (Holm)", "images"]
    rows = []
    for row in result.rows:
        if row.tests:
            found = [row_title(row)]
            for key in PAIRED:
                test = row.tests[key]
                texts = [signed(test.difference), p_text(test.p_value), p_text(row.adjusted[key])]
                found += [*texts, f"{test.num_images} ({test.num_patients} patients)"]
            rows.append(found)
    return columns, rows


def signed(value: float) -> str:
    """``-0.034``."""
    return "n/a" if math.isnan(value) else f"{value:+.3f}"


def p_text(value: float) -> str:
    """A p-value to two digits, never 0."""
    return "n/a" if math.isnan(value) else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def seed_table(result: SetResult) -> tuple[list[str], list[list[str]]] | None:
    """Mean and standard deviation over seeds, one column a metric; None where no method has two."""
    several = [row for row in result.rows if len(row.by_seed) > 1]
    if not several:
        return None
    rows = []
    for row in several:
        texts = []
        for title in COLUMNS:
            mean, deviation, count = seed_spread(row, title)
            texts.append("n/a" if count < 2 else f"{mean:.3f} ± {deviation:.3f}")
        rows.append([row_title(row), str(len(row.by_seed)), *texts])
    return ["method", "seeds", *COLUMNS], rows


def seed_spread(row: MethodRow, title: str) -> tuple[float, float, int]:
    """(mean, standard deviation with n - 1, n) of a column over the seeds that have it."""
    values = [found[title] for found in row.by_seed.values() if title in found]
    if len(values) < 2:
        return (values[0] if values else float("nan")), float("nan"), len(values)
    return float(np.mean(values)), float(np.std(values, ddof=1)), len(values)


def cost_table(result: SetResult) -> tuple[list[str], list[list[str]]]:
    """What each method takes."""
    columns = ["method", "parameters", "evaluations an image", "s/image", "peak MiB", "training minutes"]
    rows = []
    for row in result.rows:
        found = row.cost
        minutes = number_text(found["train_minutes"], 1)
        numbers = [
            number_text(found["parameters"], 0),
            number_text(found["evaluations"], 0),
            number_text(found["seconds_per_image"], 4),
        ]
        rows.append(
            [row_title(row), *numbers, number_text(found["peak_mib"], 0), f"more than {minutes}" if row.interrupted else minutes]
        )
    return columns, rows


COST_NOTES = (
    "Parameters and evaluations (forward passes of whole networks for one image) are counted while one image is localized.",
    "s/image: wall clock over the test split, in batches, on the machine of the run; other work on it counts. "
    "Training minutes: wall clock of the training command, thresholds on validation images included.",
    "Peak MiB: resident memory of the evaluation process, Python and the whole test set's maps included, not a GPU's; the main "
    "method's first process also holds the floors' maps.",
)


def number_text(value: float | None, digits: int) -> str:
    """``1,234.5``; - where it is not known or does not apply."""
    return "-" if value is None else f"{value:,.{digits}f}"


def oracle_table(result: SetResult) -> tuple[list[str], list[list[str]]] | None:
    """Dice at the threshold that is best on the test images, in a table of its own; None where no image has a lesion."""
    if not any(row.column(ORACLE_ROWS) for row in result.rows):
        return None
    return ["method", ORACLE_TITLE], [[row_title(row), cell(row.column(ORACLE_ROWS))] for row in result.rows]


def worst_table(result: SetResult, main: str) -> tuple[list[str], list[list[str]]] | None:
    """The main method's worst images with a lesion, by id; None where it is missing or has no threshold."""
    row = next((row for row in result.rows if row.name == main and row.kind != FLOOR), None)
    lines = worst_lines(row.lines) if row is not None else []
    rows = [
        [
            line.id.replace("|", "\\|"),
            f"{line.dice:.3f}",
            signed(line.ap).lstrip("+"),
            f"{line.lesion_px:.0f}",
            f"{line.num_px:.0f}",
        ]
        for line in lines
    ]
    return (["id", "Dice", "AP in the image", "lesion px", "image px"], rows) if rows else None


def worst_lines(lines: Sequence[ImageLine]) -> list[ImageLine]:
    """The images with a lesion and the lowest Dice, the worst first; ties by id, in the order an evaluation keeps their arrays."""
    lesioned = [line for line in lines if line.lesion_px > 0 and not math.isnan(line.dice)]
    return sorted(lesioned, key=lambda line: (line.dice, line.id))[:NUM_WORST]


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


def long_csv(results: Sequence[SetResult]) -> str:
    """One line a set, method and number; the oracle under its own name."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    header = (
        "set",
        "method",
        "kind",
        "seed",
        "metric",
        "value",
        "low",
        "high",
        "num_images",
        "num_patients",
        "p",
        "p_holm",
        "note",
    )
    writer.writerow(header)
    for result in results:
        for row in result.rows:
            start = [result.name, row.name, row.kind, "" if row.seed is None else row.seed]
            for title, names in {**COLUMNS, ORACLE_TITLE: ORACLE_ROWS}.items():
                found = row.column(names)
                if found is not None:
                    numbers = [found[key] for key in ("value", "low", "high", "num_images", "num_patients")]
                    writer.writerow([*start, title, *numbers, "", "", found["note"]])
            for key, test in row.tests.items():
                numbers = [test.difference, "", "", test.num_images, test.num_patients, test.p_value, row.adjusted[key]]
                writer.writerow(
                    [*start, f"{PAIRED_TITLES[key]} minus main", *numbers, f"smallest possible p {test.smallest_p:.4g}"]
                )
            for key, value in row.cost.items():
                writer.writerow([*start, key, "" if value is None else value, *[""] * 7])
            for seed, values in row.by_seed.items() if len(row.by_seed) > 1 else ():
                writer.writerows(
                    [*start[:3], seed, f"{title} (of this seed)", value, *[""] * 7] for title, value in values.items()
                )
    return stream.getvalue()


def as_json(config: BenchmarkConfig, results: Sequence[SetResult], records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Everything the tables hold, and every cell with its commands."""
    sets = []
    for result in results:
        rows = []
        for row in result.rows:
            spread = {title: seed_spread(row, title) for title in COLUMNS}
            rows.append(
                {
                    "name": row.name,
                    "kind": row.kind,
                    "seed": row.seed,
                    "measured": {title: row.column(names) for title, names in COLUMNS.items()},
                    "oracle (uses test labels)": row.column(ORACLE_ROWS),
                    "seeds": {
                        "values": row.by_seed,
                        "mean": {title: mean for title, (mean, _, count) in spread.items() if count > 1},
                        "standard_deviation": {title: deviation for title, (_, deviation, count) in spread.items() if count > 1},
                    },
                    "against_main": {key: to_dict(test) | {"p_holm": row.adjusted[key]} for key, test in row.tests.items()},
                    "cost": row.cost,
                    "tried_on_validation": row.tried_on_validation,
                    "test_evaluations": row.test_evaluations,
                }
            )
        whole = None if result.all_positive is None else to_dict(result.all_positive)
        texts = {"notes": [*notes(config, result), *difference_notes(result), *COST_NOTES], "missing": result.failed}
        sets.append({"name": result.name, "counts": result.counts, "rows": rows, "dice_of_all_positive": whole, **texts})
    return {"config": to_dict(config), "sets": sets, "cells": list(records)}

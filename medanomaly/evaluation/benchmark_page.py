"""A benchmark on one page: every set with its tables, notes and pictures, then the commands; the same as CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from medanomaly.config import to_dict
from medanomaly.evaluation.benchmark_compare import COLUMNS, ORACLE_ROWS, SetResult
from medanomaly.evaluation.benchmark_config import BenchmarkConfig
from medanomaly.evaluation.benchmark_notes import COST_NOTES, difference_notes, notes
from medanomaly.evaluation.benchmark_tables import (
    ORACLE_TITLE,
    PAIRED_TITLES,
    cost_table,
    difference_table,
    main_table,
    oracle_table,
    seed_spread,
    seed_table,
    worst_table,
)
from medanomaly.evaluation.folder import write_text
from medanomaly.evaluation.tables import as_markdown
from medanomaly.files import write_json

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
            note = f"Mean ± standard deviation over training seeds {', '.join(map(str, config.seeds))}: not an interval over patients."
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


def counts_text(result: SetResult) -> str:
    """What a set's numbers stand on."""
    counts = result.counts
    return (
        f"{counts['num_images']} test images of {counts['num_patients']} patients: {counts['num_diseased']} diseased, "
        f"{counts['num_healthy']} healthy; {counts['num_with_lesion']} with a lesion mask. All methods on the same images.\n"
    )


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

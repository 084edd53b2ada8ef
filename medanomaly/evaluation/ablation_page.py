"""An ablation on one page: its table with the best of each column marked, its picture, its commands; the same as CSV and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medanomaly.config import to_dict
from medanomaly.evaluation.ablation_cells import AblationCell
from medanomaly.evaluation.ablation_config import AblationConfig
from medanomaly.evaluation.ablation_results import BITS, COLUMNS, TRAINING_IMAGES, AblationResult, AblationRow, number_of
from medanomaly.evaluation.measure_samples import number
from medanomaly.evaluation.rows_as_csv import csv_bytes
from medanomaly.evaluation.sample_sets import npz_array
from medanomaly.evaluation.tables import as_markdown
from medanomaly.files import atomic_write, write_json
from medanomaly.views.ablation import AblationStrip, ablation_figure

ABOVE = "bits/dim above best"
MINUTES = "training minutes"
PROCESSOR_MINUTES = "processor minutes"
PICTURE = "ablation.png"
NUM_SHOWN = 8
"""Samples of a cell in the picture."""
SHOWN_NUMBERS = (BITS, "FID", "SSIM of pairs")
"""Drawn beside them, where they were measured."""


def write_tables(
    out: Path,
    config: AblationConfig,
    result: AblationResult,
    cells: Sequence[AblationCell],
    records: Sequence[Mapping[str, Any]],
) -> str:
    """Write ablation.png, table.md, table.csv and table.json; returns the Markdown."""
    text = markdown(config, result, records)
    shown = [(row, cell) for row, cell in zip(result.rows, cells, strict=True) if not row.failed]
    panels = [column for column in SHOWN_NUMBERS if column in result.columns]
    picture = ablation_figure(
        [strip_of(row, cell, panels) for row, cell in shown],
        panels,
        title=config.title,
        references=[number_of(result.real.get(column)) for column in panels],
    )
    contents = {PICTURE: picture, "table.md": text.encode("utf-8", "surrogateescape"), "table.csv": long_csv(result)}
    for name, content in contents.items():
        with atomic_write(out / name) as stream:
            stream.write(content)
    write_json(out / "table.json", as_json(config, result, records))
    return text


def markdown(config: AblationConfig, result: AblationResult, records: Sequence[Mapping[str, Any]]) -> str:
    """One row a cell, what its numbers stand on, and every command."""
    commands = ["## Commands\n", "Each cell is made again by its own commands, from the same folder.\n"]
    for row, record in zip(result.rows, records, strict=True):
        state = f" ({record['status']}: {record['message']})" if row.failed else ""
        commands.append("\n".join([f"{row.name}{state}", "", *(f"    {command}" for command in record["commands"]), ""]))
    picture = f"![Samples of each cell beside its numbers]({PICTURE})\n"
    return "\n".join([f"# {config.title}\n", as_markdown(*table(result), notes_of(config, result)), picture, *commands])


def table(result: AblationResult) -> tuple[list[str], list[list[str]]]:
    """(columns, rows): values of the axes, numbers with intervals, the best in bold; training images last."""
    with_difference = any(row.above_best for row in result.rows)
    axes = list(result.rows[0].values)
    columns = list(result.columns)
    titles = [*axes]
    for column in columns:
        titles += [column, *([ABOVE] if column == BITS and with_difference else [])]
    lines = [
        [*row.values.values(), *cells_of_row(row, result, with_difference=with_difference), *minutes_of(row)]
        for row in result.rows
    ]
    if result.real:
        real = []
        for column in columns:
            real += [number_or_dash(result.real.get(column)), *(["-"] if column == BITS and with_difference else [])]
        lines.append([TRAINING_IMAGES, *[""] * (len(axes) - 1), *real, "-", "-"])
    return [*titles, MINUTES, PROCESSOR_MINUTES], [[text.replace("|", "\\|") for text in line] for line in lines]


def cells_of_row(row: AblationRow, result: AblationResult, *, with_difference: bool) -> list[str]:
    """The numbers of a cell as text."""
    found = []
    for column in result.columns:
        text = "failed" if row.failed else number(dict(row.measured[column])) if column in row.measured else "n/a"
        found.append(f"**{text}**" if row in result.best(column) else text)
        if column == BITS and with_difference:
            found.append(number_or_dash(row.above_best))
    return found


def number_or_dash(row: Mapping[str, Any] | None) -> str:
    """``0.12 [0.10, 0.14]``, or - where there is nothing to compare."""
    return "-" if row is None else number(dict(row))


def minutes_of(row: AblationRow) -> tuple[str, str]:
    """Training's wall-clock and processor time; "more than" where a part was killed."""
    start = "more than " if row.interrupted else ""
    times = (row.train_minutes, row.processor_minutes)
    first, second = ("-" if minutes is None else f"{start}{minutes:.1f}" for minutes in times)
    return first, second


def notes_of(config: AblationConfig, result: AblationResult) -> list[str]:
    """What the table stands on, what it does not say, and what failed."""
    targets = [f"{column} {COLUMNS[column]}" for column in result.columns]
    found = [f"Bold: best of its column ({', '.join(targets)}); of overlapping intervals it says little."]
    if any(row.above_best for row in result.rows):
        found.append(
            f"{ABOVE}: the same images and the same drawn noise in both, so its interval is the one to compare by; "
            f"95 % bootstrap over patients."
        )
    if "training.seed" not in config.grid:
        found.append("One training a cell: what another seed would change is not known.")
    found += [f"{MINUTES}: wall-clock time of the command, its start included; {PROCESSOR_MINUTES}: of all its threads."]
    return [*found, *result.notes, *(f"Failed: {row.name}: {row.failed}." for row in result.rows if row.failed)]


def long_csv(result: AblationResult) -> bytes:
    """One line a cell and number."""
    axes = list(result.rows[0].values)
    lines: list[list[object]] = []
    for row in result.rows:
        start = list(row.values.values())
        for column in result.columns:
            if column in row.measured:
                lines.append([*start, column, *ends(row.measured[column]), int(row in result.best(column))])
        if row.above_best:
            lines.append([*start, ABOVE, *ends(row.above_best), 0])
        for name, minutes in ((MINUTES, row.train_minutes), (PROCESSOR_MINUTES, row.processor_minutes)):
            if minutes is not None:
                lines.append([*start, name, minutes, "", "", 0])
    real = [[TRAINING_IMAGES, *[""] * (len(axes) - 1), column, *ends(row), 0] for column, row in result.real.items()]
    return csv_bytes([*axes, "metric", "value", "low", "high", "best"], [*lines, *real])


def ends(row: Mapping[str, Any]) -> list[object]:
    """value, low, high; blank where there is none."""
    return ["" if row[key] is None else row[key] for key in ("value", "low", "high")]


def as_json(config: AblationConfig, result: AblationResult, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Everything the table holds, and every cell with its commands."""
    rows = [
        {
            "values": dict(row.values),
            "measured": {column: dict(found) for column, found in row.measured.items()},
            ABOVE: row.above_best and dict(row.above_best),
            "train_minutes": row.train_minutes,
            "processor_minutes": row.processor_minutes,
            "interrupted": row.interrupted,
            "failed": row.failed,
        }
        for row in result.rows
    ]
    return {
        "config": to_dict(config),
        "rows": rows,
        "best": {column: [row.name for row in result.best(column)] for column in result.columns},
        TRAINING_IMAGES: {column: dict(found) for column, found in result.real.items()},
        "notes": notes_of(config, result),
        "cells": [dict(record) for record in records],
    }


def strip_of(row: AblationRow, cell: AblationCell, panels: Sequence[str]) -> AblationStrip:
    """A cell's first samples and its numbers, for the picture."""
    x = npz_array(cell.samples / "samples.npz", "x")[:NUM_SHOWN]
    return AblationStrip(
        name="\n".join(f"{axis} {value}" for axis, value in row.values.items()),
        images=[np.asarray(image, dtype=np.float32) for image in x],
        estimates=[tuple_of(row.measured.get(column)) for column in panels],
    )


def tuple_of(row: Mapping[str, Any] | None) -> tuple[float, float, float]:
    """(value, low, high); NaN where there is none."""
    nothing = float("nan")
    if row is None:
        return nothing, nothing, nothing
    value, low, high = (nothing if row[key] is None else float(row[key]) for key in ("value", "low", "high"))
    return value, low, high

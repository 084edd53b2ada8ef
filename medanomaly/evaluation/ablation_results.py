"""What the cells of an ablation measured, side by side: which is best in each column, and by how much on the same images."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medanomaly.datasets.csv_rows import rows_of
from medanomaly.evaluation.ablation_cells import SAMPLES_TITLE, AblationCell
from medanomaly.evaluation.likelihood import TERMS
from medanomaly.metrics.bootstrap import patient_bootstrap

Row = Mapping[str, Any]
"""name, value, low, high, note; None where there is no number."""
Better = Literal["lower", "higher", "like training images"]
BITS = "bits/dim"
COLUMNS: Mapping[str, Better] = {
    BITS: "lower",
    "FID": "lower",
    "KID x 1000": "lower",
    "Inception Score": "higher",
    "precision": "higher",
    "recall": "higher",
    "SSIM of pairs": "like training images",
}
"""Number -> what is best; noise has the lowest SSIM of all, so there the diversity of real images is the aim."""
TRAINING_IMAGES = "training images"
NUM_RESAMPLES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationRow:
    """One setting."""

    values: Mapping[str, str]
    measured: Mapping[str, Row]
    """By column; a number that could not be taken is not there."""
    real: Mapping[str, Row]
    """The same of training images, as many as there are samples."""
    above_best: Row | None = None
    """bits/dim minus that of the best cell, image by image; None where it is the best, or the images are not the same."""
    train_minutes: float | None
    """Wall-clock time; None = not trained."""
    processor_minutes: float | None
    """Processor time of the same, which what else runs on the machine changes less."""
    interrupted: bool
    """Part of the training's time is not known."""
    failed: str
    """Why there are no numbers; "" = there are."""

    @property
    def name(self) -> str:
        """For people."""
        return ", ".join(f"{axis} {value}" for axis, value in self.values.items())

    def distance(self, column: str) -> float:
        """How far from what is best in a column, lower = better; NaN where it was not measured."""
        value = number_of(self.measured.get(column))
        if COLUMNS[column] == "like training images":
            return abs(value - number_of(self.real.get(column)))
        return value if COLUMNS[column] == "lower" else -value


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationResult:
    """All settings."""

    rows: tuple[AblationRow, ...]
    notes: tuple[str, ...]
    """What the commands say of their numbers, once each."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that any cell has."""
        return tuple(column for column in COLUMNS if any(column in row.measured for row in self.rows))

    @property
    def real(self) -> Mapping[str, Row]:
        """Numbers of training images; {} where they are not the same for all cells."""
        found = [row.real for row in self.rows if not row.failed]
        return found[0] if found and all(one == found[0] for one in found) else {}

    def best(self, column: str) -> tuple[AblationRow, ...]:
        """The cell, or the cells with exactly the same number; () where a single one was measured."""
        known = {index: row.distance(column) for index, row in enumerate(self.rows) if not math.isnan(row.distance(column))}
        if len(known) < 2:
            return ()
        least = min(known.values())
        return tuple(self.rows[index] for index, distance in known.items() if distance == least)


def compare(cells: Sequence[AblationCell], records: Sequence[Mapping[str, Any]]) -> AblationResult:
    """The finished cells' numbers; a failed cell keeps its row and its reason."""
    rows, notes = [], []
    for cell, record in zip(cells, records, strict=True):
        trained = record["steps"].get("train", {})
        done = record["status"] == "done"
        spent = trained if trained.get("status") == "done" else {}
        likelihood, samples = (
            (read_json(cell.likelihood / "likelihood.json"), read_json(cell.measured / "samples.json")) if done else ({}, {})
        )
        columns = samples.get("columns", {})
        found = [*likelihood.get("rows", []), *columns.get(SAMPLES_TITLE, [])]
        rows.append(
            AblationRow(
                values=cell.values,
                measured=by_name(found),
                real=by_name(columns.get(TRAINING_IMAGES, [])),
                train_minutes=spent["seconds"] / 60 if spent else None,
                processor_minutes=spent["cpu_seconds"] / 60 if spent else None,
                interrupted=bool(trained.get("interrupted")),
                failed="" if done else str(record["message"]),
            )
        )
        # What rows say of themselves differs from cell to cell; it stands in the cells' own tables.
        own = {row["name"] for rows in columns.values() for row in rows} - {TRAINING_IMAGES}
        said = [text for text in samples.get("notes", []) if text.split(":")[0] not in own]
        notes += [*(f"bits/dim: {text}" for text in likelihood.get("notes", [])), *said]
    result = AblationResult(rows=tuple(rows), notes=tuple(dict.fromkeys(notes)))
    best = result.best(BITS)
    if not best:
        return result
    bits = {row.name: bits_of(cell.likelihood / "images.csv") for cell, row in zip(cells, rows, strict=True) if not row.failed}
    base = bits[best[0].name]
    return replace(
        result,
        rows=tuple(row if row.failed or row in best else replace(row, above_best=above(bits[row.name], base)) for row in rows),
    )


def by_name(rows: Sequence[Row]) -> dict[str, Row]:
    """The rows of columns that are compared."""
    return {row["name"]: row for row in rows if row["name"] in COLUMNS and row["value"] is not None}


def number_of(row: Row | None) -> float:
    """Its value; NaN where there is none."""
    return math.nan if row is None or row["value"] is None else float(row["value"])


def read_json(path: Path) -> dict[str, Any]:
    """What a command wrote."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def bits_of(path: Path) -> dict[str, tuple[str, float]]:
    """id -> (patient, bits/dim) of ``images.csv``."""
    column = TERMS[BITS]
    rows = rows_of(path, ("id", "patient_id", column), required="id")
    return {row["id"]: (row["patient_id"], float(row[column])) for _, row in rows}


def above(bits: Mapping[str, tuple[str, float]], base: Mapping[str, tuple[str, float]]) -> Row | None:
    """Mean difference over the same images with its interval over patients; the noise is drawn by image, so it is shared too.

    None where the images are not the same.
    """
    if bits.keys() != base.keys():
        return None
    difference = np.array([bits[key][1] - base[key][1] for key in bits])
    found = patient_bootstrap(
        lambda index: float(difference[index].mean()), [bits[key][0] for key in bits], num_resamples=NUM_RESAMPLES, seed=0
    )
    return {"name": "bits/dim above best", **asdict(found), "note": found.caution}

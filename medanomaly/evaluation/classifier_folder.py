"""What a measurement of a classifier leaves behind: a table over noise levels, each image's probabilities, one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medanomaly.datasets.observations import observations_text
from medanomaly.evaluation.measure_classes import Named, Row
from medanomaly.evaluation.noisy_scores import Probabilities
from medanomaly.evaluation.rows_as_csv import csv_bytes
from medanomaly.evaluation.tables import as_markdown, cell
from medanomaly.files import atomic_write, write_json
from medanomaly.metrics.classes import confusion_matrix
from medanomaly.scoring.operating_point import OperatingPoint
from medanomaly.views.class_figures import classifier_figure

KEYS = ("name", "class", "value", "low", "high", "confidence", "num_images", "num_patients", "num_undefined", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class AtLevel:
    """Everything measured at one noise level."""

    percent: float
    """Of the schedule."""
    level: int
    probabilities: Probabilities
    rows: Sequence[Row]
    points: Sequence[OperatingPoint | None] | None
    """Thresholds; None = classes exclude each other."""

    @property
    def title(self) -> str:
        """Column of the table."""
        return "clean" if self.level == 0 else f"{self.percent:g} % (t = {self.level})"


def write_classifier(
    out: Path,
    levels: Sequence[AtLevel],
    known: Named,
    classes: Sequence[str],
    *,
    title: str,
    notes: Sequence[str],
    facts: Mapping[str, Any],
) -> str:
    """Write classifier.json, table.md, table.csv, images.csv and classifier.png; returns the table's text.

    Args:
        out: the folder.
        levels: measured, the first is that of the confusion matrix in the picture.
        known: the images.
        classes: names.
        title: name of the data set.
        notes: under the table.
        facts: kept in the JSON.
    """
    first = levels[0]
    exclusive = first.points is None
    matrices = [confusion(known, one.probabilities) if exclusive else None for one in levels]
    content = {
        "title": title,
        "classes": list(classes),
        "multi_label": not exclusive,
        "levels": [
            {
                "percent": one.percent,
                "level": one.level,
                "rows": [dict(row) for row in one.rows],
                "confusion": None if matrix is None else matrix.tolist(),
                "thresholds": None if one.points is None else [None if p is None else p.to_dict() for p in one.points],
            }
            for one, matrix in zip(levels, matrices, strict=True)
        ],
        "notes": list(notes),
        "facts": dict(facts),
    }
    write_json(out / "classifier.json", content)
    text = as_markdown([title, *(one.title for one in levels)], table_rows(levels), [*notes, *said_by_rows(levels)])
    long = [[one.percent, one.level, *(row[key] for key in KEYS)] for one in levels for row in one.rows]
    names = [f"p({name})" for name in classes]
    contents = {
        "table.md": text.encode("utf-8", "surrogateescape"),
        "table.csv": csv_bytes(("percent", "level", *KEYS), long),
        "images.csv": csv_bytes(("id", "patient_id", "truth", "level", *names), image_lines(levels, known, classes)),
        "classifier.png": picture(levels, matrices[0], classes, title),
    }
    for name, written in contents.items():
        with atomic_write(out / name) as stream:
            stream.write(written)
    return text


def confusion(known: Named, probabilities: Probabilities) -> npt.NDArray[np.int64]:
    """(classes, classes) images, a row a true class."""
    return confusion_matrix(known.truth.argmax(axis=1), probabilities.argmax(axis=1), probabilities.shape[1])


def table_rows(levels: Sequence[AtLevel]) -> list[list[str]]:
    """[name, a cell a level]: all classes together first, then metric by metric each class."""
    named = [{(row["name"], row["class"]): row for row in one.rows} for one in levels]
    return [
        [f"{name} of {of}" if of else name, *(cell(found.get((name, of))) for found in named)]
        for name, of in dict.fromkeys(key for found in named for key in found)
    ]


def said_by_rows(levels: Sequence[AtLevel]) -> list[str]:
    """What rows say of themselves, each sentence once, with the numbers and levels it is about."""
    said: dict[str, dict[str, list[str]]] = {}
    for one in levels:
        for row in one.rows:
            name = f"{row['name']} of {row['class']}" if row["class"] else row["name"]
            for part in filter(None, row["note"].split("; ")):
                said.setdefault(part, {}).setdefault(name, []).append(one.title)
    lines = []
    for part, about in said.items():
        everywhere = all(len(titles) == len(levels) for titles in about.values())
        where = "" if everywhere else f" ({', '.join(dict.fromkeys(title for titles in about.values() for title in titles))})"
        names = list(about)
        many = f"{', '.join(names[:6])} and {len(names) - 6} more" if len(names) > 6 else ", ".join(names)
        lines.append(f"{many}{where}: {part}.")
    return lines


def image_lines(levels: Sequence[AtLevel], known: Named, classes: Sequence[str]) -> list[list[object]]:
    """A line an image and level: what is so, and each class's probability."""
    exclusive = levels[0].points is None
    truths = [
        classes[row.index(1)] if exclusive else observations_text(pair for pair in zip(classes, row, strict=True) if pair[1] >= 0)
        for row in known.truth.tolist()
    ]
    return [
        [name, patient, truth, one.level, *map(repr, row)]
        for one in levels
        for name, patient, truth, row in zip(known.ids, known.patient_ids, truths, one.probabilities.tolist(), strict=True)
    ]


def picture(levels: Sequence[AtLevel], matrix: npt.NDArray[np.int64] | None, classes: Sequence[str], title: str) -> bytes:
    """Accuracy and macro AUROC over the levels; at the first one the confusion matrix, or each class's AUROC."""

    def numbers(one: AtLevel, name: str, of: str) -> tuple[float, float, float]:
        row = next(row for row in one.rows if (row["name"], row["class"]) == (name, of))
        return row["value"], row["low"], row["high"]

    accuracy = "macro accuracy" if matrix is None else "accuracy"
    curves = {name: [numbers(one, name, "") for one in levels] for name in (accuracy, "macro AUROC")}
    return classifier_figure(
        [one.percent for one in levels],
        curves,
        classes=classes,
        confusion=matrix,
        by_class=[numbers(levels[0], "AUROC", name) for name in classes] if matrix is None else (),
        level_text=levels[0].title,
        title=title,
    )

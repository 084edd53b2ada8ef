"""What a measurement of generated images leaves behind: a table that names its features, and the nearest neighbours to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medanomaly.evaluation.features import Extractor
from medanomaly.evaluation.measure_samples import Described, Neighbours, Row, table_rows
from medanomaly.evaluation.rows_as_csv import csv_bytes
from medanomaly.evaluation.sample_sets import ImageSet
from medanomaly.evaluation.tables import as_markdown
from medanomaly.files import atomic_write, write_json
from medanomaly.metrics.jackknife import NUM_GROUPS
from medanomaly.views.neighbours import neighbour_figure

NUM_SHOWN = 8
"""Pairs in the picture, the closest first."""
Columns = Mapping[str, Sequence[Row]]
"""Name of a set -> its rows; the samples first."""


def notes_of(extractor: Extractor, made: Described, real: Described, train: Described | None, columns: Columns) -> list[str]:
    """What the numbers stand on, and what rows say of themselves."""
    weights = f"SHA-256 {extractor.sha256}" if extractor.sha256 else "no weights"
    trained = (
        f", {len(train.images)} training images" if train else "; no training images were named, so real ones stand in for them"
    )
    return [
        f"Features: {extractor.name} ({made.features.values.shape[1]} numbers an image, {weights}).",
        f"n = {len(made.images)} samples, {len(real.images)} reference images of {len(set(real.images.patient_ids))} patients{trained}.",
        f"Intervals: 95 %, jackknife over at most {NUM_GROUPS} groups of patients; precision and recall by a bootstrap over patients.",
        "FID, precision and recall depend on n: compare equal n and equal features only.",
        *(f"{row['name']}: {row['note']}." for row in next(iter(columns.values())) if row["note"]),
        *(
            ["training images: as many as there are samples, or all; what real images reach against this reference."]
            if train
            else []
        ),
    ]


def write_samples(
    out: Path, columns: Columns, notes: Sequence[str], neighbours: Neighbours, made: ImageSet, train: ImageSet
) -> str:
    """Write samples.json, table.md, table.csv, neighbours.csv and neighbours.png; returns the table's text.

    Args:
        out: the folder.
        columns: measured rows of each set.
        notes: under the table.
        neighbours: of the samples ``made`` among ``train``.
        made: the samples.
        train: the training images.
    """
    text = as_markdown(["metric", *columns], table_rows(list(columns.values())), notes)
    long = [
        [
            name,
            row["name"],
            *("" if math.isnan(row[key]) else repr(float(row[key])) for key in ("value", "low", "high")),
            row["note"],
        ]
        for name, found in columns.items()
        for row in found
    ]
    pairs = [
        [sample, train.ids[row], repr(float(distance))]
        for sample, row, distance in zip(made.ids, neighbours.nearest_rows, neighbours.distances, strict=True)
    ]
    closest = np.argsort(neighbours.distances, kind="stable")[:NUM_SHOWN]
    write_json(out / "samples.json", {"columns": {name: list(rows) for name, rows in columns.items()}, "notes": list(notes)})
    contents = {
        "table.md": text.encode("utf-8", "surrogateescape"),
        "table.csv": csv_bytes(["set", "name", "value", "low", "high", "note"], long),
        "neighbours.csv": csv_bytes(["sample", "nearest_training_id", "distance"], pairs),
        "neighbours.png": neighbour_figure(
            [made.x[row].numpy() for row in closest],
            [train.x[neighbours.nearest_rows[row]].numpy() for row in closest],
            [float(neighbours.distances[row]) for row in closest],
        ),
    }
    for name, content in contents.items():
        with atomic_write(out / name) as stream:
            stream.write(content)
    return text

"""Methods of one set against its main method: the same images, paired by patient, corrected for the number of comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medanomaly.errors import InputError
from medanomaly.evaluation.benchmark_config import BenchmarkConfig
from medanomaly.evaluation.folder import read_evaluation
from medanomaly.evaluation.image_table import ImageLine, read_images
from medanomaly.metrics.bootstrap import Interval, PairedTest, align, holm_correction, paired_permutation_test, patient_bootstrap

Values = npt.NDArray[np.float64]
PAIRED = ("dice", "ap")
"""Numbers of single images that methods are paired by: Dice at the threshold, and average precision, which needs none."""
FLOOR = "floor"
DICE_ROWS = ("Dice @ val-Dice threshold", "Dice @ healthy threshold")
"""Dice at the first of these that a method has."""
HEALTHY_ROWS = ("healthy area flagged @ val-Dice threshold", "healthy area flagged @ healthy threshold")
ORACLE_ROWS = ("Dice @ oracle (uses test labels)",)
COLUMNS = {
    "pixel AUROC": ("pixel AUROC",),
    "pixel AP": ("pixel AP",),
    "Dice @ val threshold": DICE_ROWS,
    "image AUROC": ("image AUROC",),
    "image AP": ("image AP",),
    "healthy area flagged": HEALTHY_ROWS,
}
"""Column of the table -> rows of an evaluation, the first that is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodRow:
    """One method on one set."""

    name: str
    kind: str
    """trained, weights or floor."""
    title: str
    """What its evaluation calls it."""
    seed: int | None
    """Whose numbers these are; None = weights that are only measured."""
    evaluation: Path
    """Folder of the first seed's evaluation; a floor's is the main method's."""
    measured: Mapping[str, Mapping[str, Any]]
    """Row name -> value, low, high, num_images, num_patients, note; of the first seed."""
    by_seed: Mapping[str, Mapping[str, float]]
    """Seed -> column -> value."""
    lines: tuple[ImageLine, ...]
    cost: Mapping[str, float | None]
    """parameters, evaluations, seconds_per_image, peak_mib, train_minutes; None = not known."""
    tried_on_validation: int | None = None
    test_evaluations: int | None = None
    interrupted: bool = False
    """Training was killed once without a record, so its minutes are too few."""
    tests: dict[str, PairedTest] = field(default_factory=dict)
    """Against the main method, by the names in PAIRED; empty for the main method."""
    adjusted: dict[str, float] = field(default_factory=dict)
    """p after Holm."""

    def column(self, rows: Sequence[str]) -> Mapping[str, Any] | None:
        """The first of an evaluation's rows that is there."""
        return next((self.measured[name] for name in rows if name in self.measured), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetResult:
    """One set: its rows, the main method's first, the floors last."""

    name: str
    title: str
    healthy: str
    counts: Mapping[str, int]
    rows: tuple[MethodRow, ...]
    all_positive: Interval | None
    """Dice of flagging every pixel, on images with a lesion; None where there are none."""
    failed: tuple[str, ...]
    """Cells that are missing, with their message."""


def compare(config: BenchmarkConfig, records: Sequence[Mapping[str, Any]], folders: Sequence[Path]) -> list[SetResult]:
    """Results of the cells that are done, set by set; sets of which no cell is done are left out.

    Args:
        config: the benchmark.
        records: what cell.json of each cell holds.
        folders: the evaluation folder of each cell.

    Raises:
        InputError: E_IDS, two methods of a set saw other images, another truth or another manifest.
    """
    results = []
    for chosen in config.sets:
        cells = [(record, folder) for record, folder in zip(records, folders, strict=True) if record["set"] == chosen.name]
        failed = tuple(cell_text(record) for record, _ in cells if record["status"] != "done")
        done = [(record, folder) for record, folder in cells if record["status"] == "done"]
        if not done:
            continue
        contents = {folder: read_evaluation(folder).content for _, folder in done}
        refuse_other_manifest(chosen.name, contents)
        rows = rows_of_set(config, done, contents)
        refuse_other_truth(chosen.name, rows)
        first = contents[done[0][1]]
        results.append(
            SetResult(
                name=chosen.name,
                title=chosen.title or chosen.name,
                healthy=first["healthy"],
                counts=first["counts"],
                rows=tuple(tested(rows, config.main)),
                all_positive=all_positive(rows[0].lines, config.num_resamples),
                failed=failed,
            )
        )
    return results


def cell_text(record: Mapping[str, Any]) -> str:
    """A cell that is not there, and why."""
    seed = f", seed {record['seed']}" if record["seed"] is not None else ""
    return f"{record['method']}{seed}: {record['message'] or record['status']}"


def rows_of_set(
    config: BenchmarkConfig, done: Sequence[tuple[Mapping[str, Any], Path]], contents: Mapping[Path, Mapping[str, Any]]
) -> list[MethodRow]:
    """Methods in the order of the cells, then the floors of the cell that measured them."""
    rows, floors = [], []
    for name in dict.fromkeys(record["method"] for record, _ in done):
        own = [(record, folder) for record, folder in done if record["method"] == name]
        (record, folder), content = own[0], contents[own[0][1]]
        entry = next(one for one in config.methods if one.name == name)
        train, spent = record["steps"].get("train", {}), record["steps"]["evaluate"]
        main, images = content["methods"][0], read_images(folder / "images.csv")
        minutes = train["seconds"] / 60 if train else None
        rows.append(
            MethodRow(
                name=name,
                kind="trained" if entry.checkpoint is None else "weights",
                title=main["name"],
                seed=record["seed"],
                evaluation=folder,
                measured=by_name(main),
                by_seed={str(one["seed"]): values_of(contents[place]["methods"][0]) for one, place in own},
                lines=tuple(images.get(main["name"], ())),
                cost=costs(content, main) | {"peak_mib": spent["peak_mib"], "train_minutes": minutes},
                tried_on_validation=entry.tried_on_validation,
                test_evaluations=content["facts"].get("test_evaluations", {}).get("count"),
                interrupted=bool(train.get("interrupted")),
            )
        )
        if name == config.main:
            for floor in content["methods"][1:]:
                floors.append(
                    MethodRow(
                        name=floor["name"],
                        kind=FLOOR,
                        title=floor["name"],
                        seed=record["seed"],
                        evaluation=folder,
                        measured=by_name(floor),
                        by_seed={},
                        lines=tuple(images.get(floor["name"], ())),
                        cost=costs(content, floor) | {"peak_mib": None, "train_minutes": None},
                    )
                )
    return rows + floors


def by_name(method: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Measured rows by their name."""
    return {row["name"]: row for row in method["measured"]}


def values_of(method: Mapping[str, Any]) -> dict[str, float]:
    """Column -> value of one evaluation; what it does not have is left out."""
    rows = by_name(method)
    found = {title: next((rows[name]["value"] for name in names if name in rows), None) for title, names in COLUMNS.items()}
    return {title: value for title, value in found.items() if value is not None}


def costs(content: Mapping[str, Any], method: Mapping[str, Any]) -> dict[str, float | None]:
    """Size and work that the evaluation counted."""
    counted = content["facts"].get("cost", {}).get(method["name"], {})
    asked = {key: counted.get(key) for key in ("parameters", "evaluations")}
    return asked | {"seconds_per_image": method["seconds_per_image"]}


def refuse_other_manifest(name: str, contents: Mapping[Path, Mapping[str, Any]]) -> None:
    """InputError E_IDS where two evaluations of a set were made from manifests that differ."""
    prints = {folder: content["facts"].get("manifest_sha256") for folder, content in contents.items()}
    first = next(iter(prints))
    other = [folder for folder, value in prints.items() if value != prints[first]]
    if other:
        raise InputError(
            f"set {name!r}: {other[0].name} and {first.name} were measured with different manifests",
            code="E_IDS",
            path=other[0],
            fix="remove that evaluation and run the benchmark again",
        )


def refuse_other_truth(name: str, rows: Sequence[MethodRow]) -> None:
    """InputError E_IDS where a method of a set saw other images than the first one, or another truth of the same images."""
    first = rows[0]
    for row in rows[1:]:
        try:
            order = align([line.id for line in first.lines], [line.id for line in row.lines])
        except InputError as error:
            raise InputError(
                f"set {name!r}, {first.name} and {row.name}: {error.message}",
                code="E_IDS",
                path=row.evaluation / "images.csv",
                fix="remove that evaluation and run the benchmark again",
            ) from error
        for one, index in zip(first.lines, order, strict=True):
            other = row.lines[index]
            same = np.array_equal([one.lesion_px, one.num_px], [other.lesion_px, other.num_px], equal_nan=True)
            if (one.patient_id, one.label) != (other.patient_id, other.label) or not same:
                raise InputError(
                    f"set {name!r}: image {one.id!a} has another label, patient or lesion under {row.name} than under {first.name}",
                    code="E_IDS",
                    path=row.evaluation / "images.csv",
                    fix="remove that evaluation and run the benchmark again",
                )


def tested(rows: Sequence[MethodRow], main: str) -> list[MethodRow]:
    """The rows with their tests against the main method filled in, Holm over all the others of the set, floors included."""
    reference = next((row for row in rows if row.name == main and row.kind != FLOOR), None)
    if reference is None:
        return list(rows)
    others = [row for row in rows if row is not reference]
    for key in PAIRED:
        for row in others:
            row.tests[key] = paired(row.lines, reference.lines, key)
        for row, value in zip(others, holm_correction([row.tests[key].p_value for row in others]), strict=True):
            row.adjusted[key] = float(value)
    return list(rows)


def paired(lines: Sequence[ImageLine], reference: Sequence[ImageLine], key: str) -> PairedTest:
    """Test of mean(method - main) over the images with a lesion, patients swapped as a whole."""
    order = align([line.id for line in lines], [line.id for line in reference])
    pairs = [(line, reference[index]) for line, index in zip(lines, order, strict=True) if line.lesion_px > 0]
    ours, theirs = (np.array([getattr(pair[which], key) for pair in pairs], np.float64) for which in (0, 1))
    return paired_permutation_test(ours, theirs, [line.patient_id for line, _ in pairs])


def all_positive(lines: Sequence[ImageLine], num_resamples: int) -> Interval | None:
    """Dice of flagging every pixel of each image with a lesion: 2 A / (A + N) of area A and N pixels."""
    lesioned = [line for line in lines if line.lesion_px > 0]
    if not lesioned:
        return None
    values: Values = np.array([2 * line.lesion_px / (line.lesion_px + line.num_px) for line in lesioned])
    owners = [line.patient_id for line in lesioned]
    return patient_bootstrap(lambda index: float(values[index].mean()), owners, num_resamples=num_resamples)

"""Pictures of a benchmark, set by set: curves, Dice by image and by size of the lesion, the same cases under every method."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medanomaly.evaluation.benchmark_compare import FLOOR, MethodRow, SetResult
from medanomaly.evaluation.benchmark_tables import worst_lines
from medanomaly.evaluation.folder import EvaluationFolder, read_evaluation
from medanomaly.evaluation.image_table import ImageLine
from medanomaly.files import atomic_write
from medanomaly.views.comparison import Estimate, dice_box_figure, dice_by_size_figure
from medanomaly.views.curves import roc_pr_figure
from medanomaly.views.method_grid import GridCase, GridMethod, method_grid
from medanomaly.views.sheet import SheetCase, contact_sheet

GRID_DISEASED, GRID_HEALTHY = 5, 1
"""Cases of the grid, the first of those an evaluation keeps, which are chosen by a hash of their id."""
SIZES = ("small", "medium", "large")


def write_figures(out: Path, result: SetResult, *, main: str) -> list[tuple[str, Path]]:
    """(caption, PNG) of every picture that a set's evaluations allow; files lie in ``out``.

    Args:
        out: folder of this set's pictures.
        result: rows with their evaluation folders.
        main: name of the main method.
    """
    folders = {row.evaluation: read_evaluation(row.evaluation) for row in result.rows}
    made: list[tuple[str, Path]] = []
    for name, caption, content in drawn(result, folders):
        with atomic_write(out / name) as stream:
            stream.write(content)
        made.append((caption, out / name))
    first = next((row for row in result.rows if row.name == main and row.kind != FLOOR), None)
    if first is not None and folders[first.evaluation].worst:
        write_worst(out / "worst.png", folders[first.evaluation], worst_lines(first.lines), result)
        made.append((f"The images with a lesion on which {main} has the lowest Dice.", out / "worst.png"))
    return made


def drawn(result: SetResult, folders: Mapping[Path, EvaluationFolder]) -> Iterator[tuple[str, str, bytes]]:
    """(file name, caption, PNG) of the pictures that compare methods."""
    counts = result.counts
    lesions = [line for line in result.rows[0].lines if not math.isnan(line.lesion_px)]
    pixels = sum(line.num_px for line in lesions)
    shares = {
        "pixel": sum(line.lesion_px for line in lesions) / pixels if pixels else math.nan,
        "image": counts["num_diseased"] / max(counts["num_diseased"] + counts["num_healthy"], 1),
    }
    for level, key in (("pixel", "pixel_curves"), ("image", "curves")):
        curves = {}
        for row in result.rows:
            points = folders[row.evaluation].content.get(key, {}).get(row.title)
            if points:
                curves[curve_name(row, level)] = tuple(points[axis] for axis in ("fpr", "tpr", "recall", "precision"))
        if curves:
            picture = roc_pr_figure(curves, prevalence=shares[level], of=f"{level}s")
            yield f"{level}_curves.png", f"ROC and precision-recall over {level}s; gray: chance.", picture
    values = {row.name: np.array([line.dice for line in row.lines if line.lesion_px > 0], np.float64) for row in result.rows}
    values = {name: found for name, found in values.items() if np.isfinite(found).any()}
    if values:
        caption = (
            "Dice of each image with a lesion: quartiles, median, whiskers to 1.5 interquartile ranges, every image a point."
        )
        yield "dice_images.png", caption, dice_box_figure(values)
    estimates = {row.name: [estimate(row.measured.get(f"Dice, {size} lesions")) for size in SIZES] for row in result.rows}
    estimates = {name: found for name, found in estimates.items() if not all(math.isnan(one[0]) for one in found)}
    if estimates:
        edges = next(
            (row.measured["Dice, small lesions"]["note"] for row in result.rows if "Dice, small lesions" in row.measured), ""
        )
        caption = f"Dice by size of the lesion ({edges.split(';')[0]})." if edges else "Dice by size of the lesion."
        yield "dice_by_size.png", caption, dice_by_size_figure(estimates, [f"{size} lesions" for size in SIZES])
    if grid := grid_of(result, folders):
        yield "cases.png", "The same cases under every method, chosen by a hash of their id; each map on its own scale.", grid


def curve_name(row: MethodRow, level: str) -> str:
    """Name and both areas."""
    areas = [(f"{level} {area}", area) for area in ("AUROC", "AP")]
    texts = [
        f"{area} {row.measured[name]['value']:.3f}" for name, area in areas if row.measured.get(name, {}).get("value") is not None
    ]
    return ", ".join([row.name, *texts])


def estimate(measured: Mapping[str, Any] | None) -> Estimate:
    """Value and ends of a row of an evaluation; NaN where there is none."""
    ends = (measured or {}).get("value"), (measured or {}).get("low"), (measured or {}).get("high")
    value, low, high = (math.nan if number is None else float(number) for number in ends)
    return value, low, high


def grid_of(result: SetResult, folders: Mapping[Path, EvaluationFolder]) -> bytes | None:
    """The grid of the methods whose maps are kept, which those of floors are not; None where no case is."""
    rows = [row for row in result.rows if row.kind != FLOOR and folders[row.evaluation].cases]
    if not rows:
        return None
    kept = folders[rows[0].evaluation].cases
    diseased = [index for index, case in enumerate(kept) if case.label != result.healthy]
    well = [index for index, case in enumerate(kept) if case.label == result.healthy]
    chosen = [*diseased[:GRID_DISEASED], *well[:GRID_HEALTHY]]
    cases = [
        GridCase(
            caption=f"case {index + 1}\n{kept[index].label or 'no label'}",
            pixels=kept[index].pixels.astype(np.float32),
            reference=kept[index].reference,
        )
        for index in chosen
    ]
    methods = []
    for row in rows:
        folder = folders[row.evaluation]
        display = folder.content["display"]
        # The ids are known to be the same, and cases are chosen by id: equal indices are equal images.
        maps = tuple(folder.cases[index].anomaly_map for index in chosen)
        methods.append(GridMethod(name=row.name, maps=maps, threshold=display["threshold"], scale_max=display["scale_max"]))
    return method_grid(cases, methods, title=result.title)


def write_worst(path: Path, folder: EvaluationFolder, lines: Sequence[ImageLine], result: SetResult) -> None:
    """A contact sheet of the main method's worst cases."""
    display = folder.content["display"]
    cases = [
        SheetCase(
            caption=f"worst {index + 1}\nDice {line.dice:.3f}\nAP {line.ap:.3f}\nlesion {line.lesion_px:.0f} px",
            pixels=case.pixels.astype(np.float32),
            anomaly_map=case.anomaly_map,
            pseudo_healthy=None if case.pseudo_healthy is None else case.pseudo_healthy.astype(np.float32),
            reference=case.reference,
        )
        for index, (case, line) in enumerate(zip(folder.worst, lines, strict=False))
    ]
    contact_sheet(
        path,
        cases,
        threshold=display["threshold"] or display["scale_max"],
        scale_max=display["scale_max"],
        unit=display["unit"],
        title=f"{result.title}: lowest Dice",
        cell_px=192,
    )

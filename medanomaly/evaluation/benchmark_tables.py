"""The tables of one set: what was measured with intervals, what differs, what it cost, and apart from that the oracle."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medanomaly.evaluation.benchmark_compare import COLUMNS, FLOOR, ORACLE_ROWS, PAIRED, MethodRow, SetResult
from medanomaly.evaluation.folder import NUM_WORST
from medanomaly.evaluation.image_table import ImageLine
from medanomaly.evaluation.tables import cell

PAIRED_TITLES = {"dice": "Dice", "ap": "AP in an image"}
ORACLE_TITLE = "Dice @ oracle (uses test labels)"


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

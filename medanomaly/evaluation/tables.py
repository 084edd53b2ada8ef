"""Studies as tables: one row a number, one column a method, every cell with its interval."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

NOTES = (
    "Intervals: 95 % percentile bootstrap over patients.",
    "Images labelled healthy count as lesion-free; a diseased image without a mask is left out of pixel numbers, never counted as empty.",
    "Dice and IoU are means over images with a lesion; both empty is undefined, an empty prediction on a lesion is 0.",
    "Maps are measured at the image's own rows and columns, padding excluded, never rescaled per image.",
)


def same_images(counts: Mapping[str, int]) -> str:
    """What a comparison stands on."""
    return f"All methods on the same {counts['num_images']} images of {counts['num_patients']} patients"


def cell(measured: Mapping[str, Any] | None) -> str:
    """``0.912 [0.884, 0.935]``; n/a where undefined or absent."""
    if measured is None or measured["value"] is None or math.isnan(measured["value"]):
        return "n/a"

    def text(value: float | None) -> str:
        return "n/a" if value is None or math.isnan(value) else (f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}")

    return f"{text(measured['value'])} [{text(measured['low'])}, {text(measured['high'])}]"


def comparison(methods: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]], list[str]]:
    """(columns, rows, notes) of the methods of an evaluation, as its JSON holds them."""
    columns = ["metric", *(method["name"] for method in methods)]
    named = [{row["name"]: row for row in method["measured"]} for method in methods]
    names = list(dict.fromkeys(name for rows in named for name in rows))
    rows = [[name, *(cell(found.get(name)) for found in named)] for name in names]
    notes = [*NOTES, *row_notes(methods[0]["measured"] if methods else ())]
    for method in methods:
        for point in method["operating_points"]:
            notes.append(f"{method['name']}: {point['origin']}.")
        if method["round_trip"]:
            notes.append(f"{method['name']}: {round_trip_note(method['round_trip'])}")
    few = [row["name"] for method in methods for row in method["measured"] if "coverage below nominal" in row["note"]]
    if few:
        notes.append(f"Fewer than 30 patients, so the intervals likely cover less than 95 %: {', '.join(dict.fromkeys(few))}.")
    return columns, rows, notes


def round_trip_note(trip: Mapping[str, Any]) -> str:
    """What is left of an image that goes up and down unguided; a walk that decodes differences returns it exactly."""
    images = f"({trip['num_images']:.0f} images)"
    if trip["max_error"] == 0:
        return f"null round trip exact {images}: without guidance the map is zero."
    return (
        f"null round trip PSNR {trip['psnr_db']:.1f} dB, largest error {trip['max_error']:.3f} of a range of 2 {images}: "
        "the noise floor under every map."
    )


def row_notes(measured: Sequence[Mapping[str, Any]]) -> list[str]:
    """What rows say of themselves, prevalence above all, each said once; thresholds and small n have notes of their own."""
    said: dict[str, list[str]] = {}
    for row in measured:
        for part in row["note"].split("; "):
            if part and not part.startswith("threshold 0") and "coverage below nominal" not in part:
                said.setdefault(part, []).append(row["name"])
    return [f"{', '.join(names)}: {part}." for part, names in said.items()]


def as_markdown(columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """A table that reads well as plain text."""
    widths = [max(len(str(row[index])) for row in [columns, *rows]) for index in range(len(columns))]
    lines = ["| " + " | ".join(str(value).ljust(width) for value, width in zip(row, widths, strict=True)) + " |" for row in rows]
    head = "| " + " | ".join(str(value).ljust(width) for value, width in zip(columns, widths, strict=True)) + " |"
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([head, rule, *lines, "", *(f"* {note}" for note in notes)]) + "\n"


def as_csv(methods: Sequence[Mapping[str, Any]]) -> str:
    """Long form: one line a method and number, for further computing."""
    stream = io.StringIO()
    keys = ("group", "name", "value", "low", "high", "confidence", "num_images", "num_patients", "note")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["method", *keys])
    for method in methods:
        writer.writerows([method["name"], *(row[key] for key in keys)] for row in method["measured"])
    return stream.getvalue()

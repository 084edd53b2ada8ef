"""Any CSV whose columns are named by the caller becomes records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medanomaly.datasets.csv_rows import rows_of
from medanomaly.datasets.manifest import Record, number_of
from medanomaly.datasets.paths import resolve_inside
from medanomaly.datasets.splits import hold_out_validation
from medanomaly.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TableColumns:
    """Which column of a CSV means what; an empty name = no such column."""

    image: str = "image"
    """Path of the image, relative to the CSV's folder."""
    patient: str = ""
    """Patient; empty = every image is its own patient."""
    label: str = ""
    """Class, translated by ``labels``."""
    mask: str = ""
    """Path of the mask."""
    blank_mask: str = "not annotated"
    """What a blank mask cell means: "not annotated" or "empty" (somebody looked and found nothing)."""
    split: str = ""
    """Split, translated by ``splits``."""
    intensity_high: str = ""
    """Value that becomes white; black is then 0."""


def table_records(
    path: Path,
    columns: TableColumns,
    *,
    labels: Mapping[str, str],
    splits: Mapping[str, str],
    where: Mapping[str, str],
    val_fraction: float = 0.0,
    seed: int = 0,
) -> list[Record]:
    """Records of a CSV, in its order.

    Args:
        path: the CSV; its folder is the root of all paths.
        columns: their names.
        labels: cell -> class name, e.g. ``{"0": "healthy", "1": "diseased"}``; empty = cells are class names.
        splits: cell -> train, val or test; empty = cells are these words.
        where: keep rows whose cells equal these, e.g. ``{"use": "1"}``.
        val_fraction: share of the train patients that becomes val, besides the CSV's own val rows; 0 = none.
        seed: of that choice.

    Raises:
        InputError: E_COLUMN (a column that is not there), E_LABEL or E_SPLIT (a cell without translation), E_EMPTY, E_ROW, and what
            :func:`rows_of` and :func:`resolve_inside` refuse.
    """
    named = [name for key, name in vars(columns).items() if name and key != "blank_mask"]
    table = [row for _, row in rows_of(path, [*named, *where], required=columns.image)]
    for name in [*named, *where]:
        if table and name not in table[0]:
            raise InputError(f"has no column {name!r}", code="E_COLUMN", path=path, fix=f"columns: {', '.join(table[0])}")
    table = [row for row in table if all(row[name].strip() == wanted.strip() for name, wanted in where.items())]
    if not table:
        raise InputError("no row is left", code="E_EMPTY", path=path, fix="loosen --where")

    def cell(row: Mapping[str, str], column: str) -> str:
        return row[column].strip() if column else ""

    def translated(text: str, meaning: Mapping[str, str], code: str) -> str | None:
        if not text:
            return None
        if meaning and text not in meaning:
            raise InputError(f"cell {text!r} has no translation", code=code, path=path, fix=f"known: {', '.join(meaning)}")
        return meaning.get(text, text)

    records = []
    for row in table:
        image, mask, high = cell(row, columns.image), cell(row, columns.mask), cell(row, columns.intensity_high)
        records.append(
            Record(
                id=image,
                patient_id=cell(row, columns.patient) or image,
                image=resolve_inside(path.parent, image),
                label=translated(cell(row, columns.label), labels, "E_LABEL"),
                mask=resolve_inside(path.parent, mask) if mask else None,
                annotated_empty=bool(columns.mask) and not mask and columns.blank_mask == "empty",
                split=translated(cell(row, columns.split), splits, "E_SPLIT"),
                intensity_low=0.0 if high else None,
                intensity_high=number_of(columns.intensity_high, high),
            )
        )
    return hold_out_validation(records, val_fraction, seed)

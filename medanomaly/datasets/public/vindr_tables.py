"""VinDr-CXR's tables: what each reader said of each image, and the rectangles they drew.

``image_labels_*.csv`` has a row an image and reader with a 0/1 column for each finding. ``annotations_*.csv`` (``train.csv`` of the
Kaggle challenge) has a row a rectangle, and a row with blank edges for "No finding". The training part names the reader in ``rad_id``,
three an image; the test part is a consensus of five and has no such column.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medanomaly.datasets.boxes import checked_box
from medanomaly.datasets.csv_rows import rows_of
from medanomaly.errors import ConfigError, InputError
from medanomaly.types import Box

NO_FINDING = "No finding"
CONSENSUS = "consensus"
"""The reader of a table without ``rad_id``."""
EDGES = ("x_min", "y_min", "x_max", "y_max")
SPELLINGS = {"Other disease": "Other diseases"}
"""Test spelling -> training spelling of the one finding that the two parts write differently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rectangle:
    """A row of the table of boxes."""

    image: str
    reader: str
    name: str
    line: int
    cells: tuple[str, ...]
    """x_min, y_min, x_max, y_max as written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """Everything the tables of one part say."""

    said: dict[str, dict[str, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    """image -> reader -> findings present; a reader who saw nothing said "No finding", or has an empty set."""
    names: list[str] = field(default_factory=list)
    """Findings the tables know, in their order."""
    rectangles: list[Rectangle] = field(default_factory=list)
    repeated: set[str] = field(default_factory=set)
    """Images with a row that is there more than once, word for word."""

    @property
    def is_consensus(self) -> bool:
        """True = one common opinion an image."""
        return all(set(readers) == {CONSENSUS} for readers in self.said.values())


def read_tables(label_table: Path | None, box_table: Path | None, *, consensus: bool) -> Readings:
    """The tables of one part, one of which may be absent.

    Args:
        label_table: image_labels_*.csv.
        box_table: annotations_*.csv or train.csv.
        consensus: the part may come without ``rad_id``.

    Raises:
        InputError: E_EMPTY, E_COLUMN, E_ROW (with the line), E_LABEL_CONFLICT (a reader's row twice, with different findings), and what
            :func:`rows_of` refuses.
    """
    readings = Readings()
    if label_table is not None:
        add_labels(readings, label_table, consensus=consensus)
    if box_table is not None:
        add_rectangles(readings, box_table, consensus=consensus)
    if not readings.said:
        raise InputError("has a header but no rows", code="E_EMPTY", fix="fetch it again", path=label_table or box_table)
    return readings


def add_labels(readings: Readings, path: Path, *, consensus: bool) -> None:
    """Rows of image_labels_*.csv."""
    seen: dict[tuple[str, str], frozenset[str]] = {}
    conflicting: set[str] = set()
    for line, row in rows_of(path, ("image_id", "rad_id"), required="image_id"):
        image, reader = owner_of(row, line, path, consensus=consensus)
        columns = {SPELLINGS.get(column, column): column for column in row if column not in ("image_id", "rad_id", "")}
        if not readings.names:
            readings.names.extend(columns)
        present = frozenset(name for name, column in columns.items() if is_present(row[column], column, line, path))
        if (image, reader) in seen:
            (readings.repeated if seen[image, reader] == present else conflicting).add(image)
        seen[image, reader] = present
        readings.said[image][reader] |= present
    if conflicting:
        raise InputError(
            f"{len(conflicting)} images have two rows of one reader with different findings: {', '.join(sorted(conflicting))}",
            code="E_LABEL_CONFLICT",
            fix="keep the right row",
            path=path,
        )


def add_rectangles(readings: Readings, path: Path, *, consensus: bool) -> None:
    """Rows of annotations_*.csv or train.csv."""
    seen = set()
    known = dict.fromkeys(readings.names)
    for line, row in rows_of(path, ("image_id", "rad_id", "class_name", *EDGES), required="image_id"):
        absent = [column for column in ("class_name", *EDGES) if column not in row]
        if absent:
            raise InputError(
                f"has no column {', '.join(absent)}; columns found: {', '.join(map(ascii, row))}",
                code="E_COLUMN",
                fix="use the table as published",
                path=path,
            )
        image, reader = owner_of(row, line, path, consensus=consensus)
        name = SPELLINGS.get(row["class_name"].strip(), row["class_name"].strip())
        if not name:
            raise InputError(f"line {line}: class_name is blank", code="E_ROW", fix="use the table as published", path=path)
        known[name] = None
        cells = tuple(row[edge].strip() for edge in EDGES)
        readings.said[image][reader].add(name)
        if (image, reader, name, cells) in seen:
            readings.repeated.add(image)
            continue
        seen.add((image, reader, name, cells))
        readings.rectangles.append(Rectangle(image=image, reader=reader, name=name, line=line, cells=cells))
    readings.names[:] = known


def owner_of(row: Mapping[str, str], line: int, path: Path, *, consensus: bool) -> tuple[str, str]:
    """(image, reader) of a row."""
    image = row["image_id"].strip()
    if "rad_id" not in row and not consensus:
        raise InputError(
            f"has no column 'rad_id'; columns found: {', '.join(map(ascii, row))}",
            code="E_COLUMN",
            fix="use the training table as published: without its readers their agreement cannot be told",
            path=path,
        )
    reader = row.get("rad_id", CONSENSUS).strip()
    if not image or not reader:
        raise InputError(f"line {line}: image_id or rad_id is blank", code="E_ROW", fix="use the table as published", path=path)
    return image, reader


def is_present(cell: str, column: str, line: int, path: Path) -> bool:
    """Whether a 0/1 cell says 1; blank is 0."""
    try:
        value = float(cell) if cell.strip() else 0.0
    except ValueError:
        value = -1.0
    if value not in (0.0, 1.0):
        raise InputError(
            f"line {line}: {column!a} must be 0 or 1, got {cell!a}", code="E_ROW", fix="use the table as published", path=path
        )
    return value == 1.0


def checked_finding(wanted: str, names: Sequence[str]) -> str:
    """``wanted`` as the tables write it, capitals aside.

    Raises:
        ConfigError: E_CONFIG, the tables do not know it; the nearest they know is named.
    """
    spelled = {name.lower(): name for name in names if name != NO_FINDING}
    asked = SPELLINGS.get(wanted.strip(), wanted.strip()).lower()
    if asked not in spelled:
        near = difflib.get_close_matches(asked, spelled, n=1)
        raise ConfigError(
            f"finding {wanted!a} is not in the tables, which know {', '.join(spelled.values())}",
            code="E_CONFIG",
            fix=f"did you mean {spelled[near[0]]!r}?" if near else "choose one of them",
        )
    return spelled[asked]


def boxes_around(
    rectangles: Iterable[Rectangle], finding: str, path: Path | None
) -> tuple[dict[str, dict[str, list[Box]]], list[str]]:
    """image -> reader -> boxes of one finding, and the images with a rectangle that is none: blank, or without area.

    Raises:
        InputError: E_BOX with the line, an edge that is not a number.
    """
    drawn: dict[str, dict[str, list[Box]]] = defaultdict(lambda: defaultdict(list))
    odd = []
    for rectangle in rectangles:
        if rectangle.name != finding:
            continue
        x_min, y_min, x_max, y_max = numbers_of(rectangle, path)
        try:
            drawn[rectangle.image][rectangle.reader].append(checked_box(x_min, y_min, x_max, y_max, finding))
        except InputError:
            odd.append(rectangle.image)
    return drawn, sorted(set(odd))


def numbers_of(rectangle: Rectangle, path: Path | None) -> Iterator[float]:
    """The four edges; blank is not a number and so no edge."""
    for cell in rectangle.cells:
        try:
            yield float(cell) if cell else float("nan")
        except ValueError as error:
            raise InputError(
                f"line {rectangle.line}: a box's edge must be a number, got {cell!a}",
                code="E_BOX",
                fix="use the table as published",
                path=path,
            ) from error

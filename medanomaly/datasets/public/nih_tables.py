"""ChestX-ray14's tables: labels mined from reports, boxes drawn by a radiologist, and the official lists of train and test.

Both CSV files have names with commas in brackets, ``OriginalImage[Width,Height]`` and ``Bbox [x,y,w,h]``, that are not quoted: such a
name stands over as many columns as it has parts. Some versions end their lines with commas, in the header, in the rows or in both.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medanomaly.datasets.boxes import checked_box
from medanomaly.datasets.csv_rows import delimiter_of, refuse_columns, text_of
from medanomaly.datasets.manifest import number_of
from medanomaly.errors import InputError
from medanomaly.types import Box

FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax"),
    *("Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia"),
)
NO_FINDING = "No Finding"
BOX_SPELLINGS = {"Infiltrate": "Infiltration"}
"""The table of boxes -> the table of labels."""
PUBLISHED_SIDE = 1024
"""px of the published PNGs, in which boxes are given."""
WIDTH, HEIGHT, SPACING_X, SPACING_Y = "OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"
BOX_COLUMNS = ("Bbox [x", "y", "w", "h]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """A row of Data_Entry_2017."""

    image: str
    """File name."""
    patient: str
    findings: tuple[str, ...]
    """Names of FINDINGS, or "No Finding"."""
    view: str
    spacing_mm: tuple[float, float] | None
    """(row, column) in the published square PNG; None = the table does not say."""

    @property
    def is_contradictory(self) -> bool:
        """The labels say both "No Finding" and a finding."""
        return NO_FINDING in self.findings and len(self.findings) > 1


def read_films(path: Path) -> tuple[list[Film], list[str]]:
    """Films in the table's order, and the images whose row is there more than once, word for word.

    Raises:
        InputError: E_COLUMN, E_ROW (with the line), E_LABEL_CONFLICT (an image with two different rows), and what a CSV may raise.
    """
    films: dict[str, Film] = {}
    repeated: set[str] = set()
    conflicting: set[str] = set()
    required = ("Image Index", "Finding Labels", "Patient ID", "View Position")
    for line, row in bracket_rows(path, required, optional=(WIDTH, HEIGHT, SPACING_X, SPACING_Y)):
        try:
            film = film_of(row)
        except InputError as error:
            raise InputError(f"line {line}: {error.message}", code=error.code, fix=error.fix, path=path) from error
        if film.image in films:
            (repeated if films[film.image] == film else conflicting).add(film.image)
        films[film.image] = film
    if conflicting:
        raise InputError(
            f"{len(conflicting)} images have two different rows: {', '.join(sorted(conflicting))}",
            code="E_LABEL_CONFLICT",
            fix="keep the right one",
            path=path,
        )
    return list(films.values()), sorted(repeated)


def film_of(row: Mapping[str, str]) -> Film:
    """The film of a row."""
    image, patient = row["Image Index"].strip(), row["Patient ID"].strip()
    findings = tuple(dict.fromkeys(name.strip() for name in row["Finding Labels"].split("|")))
    unknown = [name for name in findings if name not in (*FINDINGS, NO_FINDING)]
    if not image or not patient or unknown:
        raise InputError(
            f"Image Index, Patient ID and Finding Labels must be filled and known, got {image!a}, {patient!a}, {findings}",
            code="E_ROW",
            fix="use the table as published",
        )
    return Film(image=image, patient=patient, findings=findings, view=row["View Position"].strip(), spacing_mm=spacing_of(row))


def spacing_of(row: Mapping[str, str]) -> tuple[float, float] | None:
    """(row, column) mm in the published PNG: the film was stretched to a square, so its two sides have factors of their own."""
    known = {name: number_of(name, row.get(name, "").strip()) for name in (WIDTH, HEIGHT, SPACING_X, SPACING_Y)}
    width, height, x_mm, y_mm = known.values()
    if width is None or height is None or x_mm is None or y_mm is None:
        return None
    if min(width, height, x_mm, y_mm) <= 0:
        raise InputError(f"size and spacing must be positive, got {known}", code="E_ROW", fix="use the table as published")
    return y_mm * height / PUBLISHED_SIDE, x_mm * width / PUBLISHED_SIDE


def read_boxes(path: Path, finding: str) -> dict[str, tuple[Box, ...]]:
    """image -> boxes of one finding in px of the published PNG, sorted; a box that is there twice counts once.

    Raises:
        InputError: E_COLUMN, E_BOX (with the line), and what a CSV may raise.
    """
    boxes: dict[str, set[tuple[float, float, float, float]]] = defaultdict(set)
    for line, row in bracket_rows(path, ("Image Index", "Finding Label", *BOX_COLUMNS)):
        name = row["Finding Label"].strip()
        if BOX_SPELLINGS.get(name, name) != finding:
            continue
        try:
            x, y, width, height = (number_of(column, row[column].strip()) or 0.0 for column in BOX_COLUMNS)
            box = checked_box(x, y, x + width, y + height)
        except InputError as error:
            raise InputError(
                f"line {line}: {error.message}", code="E_BOX", fix="use the table as published", path=path
            ) from error
        boxes[row["Image Index"].strip()].add((box.x_min, box.y_min, box.x_max, box.y_max))
    return {
        image: tuple(Box(x_min=a, y_min=b, x_max=c, y_max=d, label=finding) for a, b, c, d in sorted(edges))
        for image, edges in boxes.items()
    }


def bracket_rows(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, column -> cell) of a CSV whose header holds bracketed lists; blank cells at the end of a line do not count.

    Raises:
        InputError: E_COLUMN with the columns found, E_ROW with the line, and what :func:`text_of` refuses.
    """
    text = text_of(path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text, required[0]), strict=True)
    columns: list[str] = []
    try:
        for row in reader:
            cells = without_blank_end(row)
            if not cells:
                continue
            if not columns:
                # Where somebody did quote a bracketed name, it is one cell: joined and split again, both are the same.
                columns = [column.strip() for column in ",".join(cells).split(",")]
                refuse_columns(columns, (*required, *optional), required[0], path)
                refuse_absent(columns, required, path)
                continue
            if len(cells) > len(columns):
                raise InputError(
                    f"line {reader.line_num}: {len(cells)} cells under {len(columns)} columns",
                    code="E_ROW",
                    fix="use the table as published",
                    path=path,
                )
            yield reader.line_num, dict(zip(columns, cells + [""] * (len(columns) - len(cells)), strict=True))
    except csv.Error as error:
        raise InputError(f"line {reader.line_num}: is not a CSV row ({error})", code="E_ROW", path=path) from error


def without_blank_end(cells: list[str]) -> list[str]:
    """The cells up to the last that is not blank."""
    filled = [index for index, cell in enumerate(cells) if cell.strip()]
    return cells[: filled[-1] + 1] if filled else []


def refuse_absent(columns: Sequence[str], required: Sequence[str], path: Path) -> None:
    """InputError for required columns that are missing."""
    absent = [column for column in required if column not in columns]
    if absent:
        raise InputError(
            f"has no column {', '.join(map(ascii, absent))}; columns found: {', '.join(map(ascii, columns))}",
            code="E_COLUMN",
            fix="use the table as published",
            path=path,
        )


def read_list(path: Path) -> set[str]:
    """File names of train_val_list.txt or test_list.txt, one a line."""
    return {line.strip() for line in text_of(path).splitlines() if line.strip()}

"""The manifest: a data set is a CSV with one row an image; everything else about it follows from the rows."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medanomaly.datasets.boxes import boxes_of, boxes_text
from medanomaly.datasets.csv_rows import rows_of
from medanomaly.datasets.observations import Observations, observations_of, observations_text
from medanomaly.datasets.paths import path_below, resolve_inside
from medanomaly.errors import InputError
from medanomaly.files import atomic_write
from medanomaly.types import Box

COLUMNS = (
    *("id", "patient_id", "image", "label", "mask", "boxes", "split"),
    *("spacing_mm", "view", "source", "intensity_low", "intensity_high", "observations"),
)
SPLITS = ("train", "val", "test")
EMPTY_MASK = "empty"
"""In the mask column: somebody looked and found nothing. A blank cell says that nobody looked."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One row: an image and what is known about it. Nothing is read from the image yet."""

    id: str
    """Unique in the manifest."""
    patient_id: str
    """The unit of independence of splits and intervals. Text: '00123' is not '123'."""
    image: Path
    label: str | None = None
    """Class name; None = unknown."""
    mask: Path | None = None
    """File that is non-zero on the lesion; None = no file."""
    annotated_empty: bool = False
    """True = annotated, and there is no lesion (mask column: ``empty``). With mask None and this False: not annotated."""
    split: str | None = None
    """"train", "val", "test" or None = not assigned."""
    spacing_mm: tuple[float, float] | None = None
    """(row, column) distance between pixel centres in mm, for files that do not say it themselves."""
    intensity_low: float | None = None
    """Value that becomes -1 in model space, in the file's units; set together with intensity_high, or neither."""
    intensity_high: float | None = None
    """Value that becomes 1 in model space."""
    boxes: tuple[Box, ...] | None = None
    """Rectangles around lesions in native px; None = nobody drew boxes, () = somebody looked and drew none."""
    observations: Observations = ()
    """Everything a multi-label source says of the image, for classifiers; ``label`` is the one class of localization."""
    view: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            raise InputError("id must not be empty", code="E_ROW")
        if not self.patient_id or self.patient_id != self.patient_id.strip():
            raise InputError(f"patient_id must be text without outer blanks, got {self.patient_id!a}", code="E_ROW")
        if self.label is not None and (not self.label or self.label != self.label.strip()):
            raise InputError(f"label must be text without outer blanks, or None, got {self.label!a}", code="E_ROW")
        if self.split is not None and self.split not in SPLITS:
            raise InputError(f"split must be one of {', '.join(SPLITS)} or blank, got {self.split!a}", code="E_SPLIT")
        if self.annotated_empty and self.mask is not None:
            raise InputError("a row has a mask file or an empty mask, not both", code="E_ROW")
        if self.spacing_mm is not None and not all(0 < value < math.inf for value in self.spacing_mm):
            raise InputError(f"spacing_mm must be positive, got {self.spacing_mm}", code="E_ROW")
        if (self.intensity_low is None) != (self.intensity_high is None):
            raise InputError("intensity_low and intensity_high come together", code="E_ROW", fix="give both or neither")
        if self.intensity_range is not None and not -math.inf < self.intensity_range[0] < self.intensity_range[1] < math.inf:
            raise InputError(f"intensity_low must be below intensity_high, got {self.intensity_range}", code="E_ROW")

    @property
    def intensity_range(self) -> tuple[float, float] | None:
        """(low, high) of the row, None where the columns are blank."""
        if self.intensity_low is None or self.intensity_high is None:
            return None
        return self.intensity_low, self.intensity_high


def read_manifest(path: Path, root: Path | None = None, *, allow_outside: bool = False) -> list[Record]:
    """Records of a CSV, in its order; no image is opened.

    Columns: those of ``COLUMNS``. Only ``image`` is required; a blank cell is an absent value, and other columns are ignored,
    except one that looks like a misspelt known one. ``id`` defaults to the image's path as written. ``patient_id`` defaults to
    the id, which makes every image its own patient: that is logged, because leakage between splits can then not be seen.
    ``mask`` is a file, ``empty`` (annotated, no lesion) or blank (not annotated). ``boxes`` is ``x_min y_min x_max y_max label``
    of each, separated by semicolons, ``empty`` or blank. ``observations`` is ``name=1; name=0; name=-1`` (present, absent,
    uncertain). ``spacing_mm`` is one number or ``row x column``. Text stays text: '00123', 'NA' and 'null' are themselves.
    UTF-8 with or without BOM, any line ending; comma, semicolon or tab. A row that repeats another in every cell counts once, and
    that is logged; one that gives its id another meaning is refused.

    Args:
        path: the CSV.
        root: folder that relative paths start from and that all files must lie in; None = the CSV's folder.
        allow_outside: accept files outside of ``root``.

    Raises:
        InputError: E_MISSING, E_NOT_REGULAR, E_EMPTY, E_ENCODING, E_COLUMN (with the columns found), E_ROW and E_SPLIT (with
            the line), E_TRAVERSAL, E_PATH or E_DUPLICATE_ID.
    """
    path = Path(path)
    base = path.parent if root is None else Path(root)
    records: list[Record] = []
    for line, row in rows_of(path, COLUMNS, required="image"):
        try:
            records.append(record_of(row, base, allow_outside=allow_outside))
        except InputError as error:
            raise InputError(f"line {line}: {error.message}", code=error.code, fix=error.fix, path=path) from error
    if not records:
        raise InputError("has a header but no rows", code="E_EMPTY", fix="add one row an image", path=path)
    distinct = list(dict.fromkeys(records))
    if len(distinct) < len(records):
        logger.warning(
            "%s: %d rows repeat another in every cell and count once", ascii(str(path))[1:-1], len(records) - len(distinct)
        )
    records = distinct
    refuse_duplicate_ids(records, path)
    if len(records) > 1 and all(record.patient_id == record.id for record in records):
        logger.warning("%s: no patient_id: every image counts as its own patient", ascii(str(path))[1:-1])
    return records


def write_manifest(records: Sequence[Record], path: Path, root: Path | None = None, *, allow_outside: bool = False) -> None:
    """Write a CSV that :func:`read_manifest` with the same ``root`` reads back as equal records (paths resolved).

    Comma-separated UTF-8 with all columns, paths relative with forward slashes; the file appears whole or not at all.

    Raises:
        InputError: E_EMPTY, E_DUPLICATE_ID, or E_TRAVERSAL for a file outside of ``root`` (None = the CSV's folder).
        ResourceError: the file cannot be written.
    """
    path = Path(path)
    base = path.parent if root is None else Path(root)
    if not records:
        raise InputError("there are no records to write", code="E_EMPTY", path=path)
    refuse_duplicate_ids(records, path)
    table = [row_of(record, base, allow_outside=allow_outside) for record in records]
    text = io.StringIO(newline="")
    # QUOTE_MINIMAL leaves a lone carriage return bare, which would end the row when read.
    has_return = any("\r" in cell for row in table for cell in row)
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if has_return else csv.QUOTE_MINIMAL)
    writer.writerow(COLUMNS)
    writer.writerows(table)
    with atomic_write(path) as stream:
        stream.write(text.getvalue().encode("utf-8", "surrogateescape"))


def manifest_fingerprint(records: Sequence[Record]) -> str:
    """Hex SHA-256 of the table: the same for any order of rows and any place the data folder lies in; pixels are not read."""
    files = [os.path.realpath(file) for record in records for file in (record.image, record.mask) if file is not None]
    base = Path(os.path.commonpath([Path(file).parent for file in files])) if files else Path()
    rows = sorted(row_of(record, base, allow_outside=False) for record in records)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def record_of(row: dict[str, str], base: Path, *, allow_outside: bool) -> Record:
    """The record a row means."""

    def text(column: str) -> str:
        return row.get(column, "").strip()

    image, mask = row["image"], row.get("mask", "")
    if not image.strip():
        raise InputError("the image cell is blank", code="E_ROW", fix="write the image's path")
    identifier = row.get("id", "") or image
    return Record(
        id=identifier,
        patient_id=text("patient_id") or identifier.strip(),
        image=resolve_inside(base, image, allow_outside=allow_outside),
        label=text("label") or None,
        mask=resolve_inside(base, mask, allow_outside=allow_outside) if text("mask") not in ("", EMPTY_MASK) else None,
        annotated_empty=text("mask") == EMPTY_MASK,
        split=text("split") or None,
        spacing_mm=spacing_of(text("spacing_mm")),
        intensity_low=number_of("intensity_low", text("intensity_low")),
        intensity_high=number_of("intensity_high", text("intensity_high")),
        boxes=boxes_of(row.get("boxes", "")),
        observations=observations_of(row.get("observations", "")),
        view=row.get("view", ""),
        source=row.get("source", ""),
    )


def row_of(record: Record, base: Path, *, allow_outside: bool) -> list[str]:
    """The cells of a record, in the order of COLUMNS."""
    mask = EMPTY_MASK if record.annotated_empty else ""
    if record.mask is not None:
        mask = path_below(base, record.mask, allow_outside=allow_outside)
        mask = f"./{mask}" if mask == EMPTY_MASK else mask
    numbers = ["" if value is None else repr(float(value)) for value in (record.intensity_low, record.intensity_high)]
    spacing = "" if record.spacing_mm is None else "x".join(repr(float(value)) for value in record.spacing_mm)
    image = path_below(base, record.image, allow_outside=allow_outside)
    known = [record.id, record.patient_id, image, record.label or "", mask, boxes_text(record.boxes), record.split or "", spacing]
    return [*known, record.view, record.source, *numbers, observations_text(record.observations)]


def number_of(column: str, cell: str) -> float | None:
    """The finite number in a cell, None if blank."""
    try:
        value = float(cell) if cell else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise InputError(f"{column} must be a finite number with a decimal point, got {cell!a}", code="E_ROW")
    return value


def spacing_of(cell: str) -> tuple[float, float] | None:
    """(row, column) in mm from "0.5" or "0.5x0.4", None if blank."""
    values = [number_of("spacing_mm", part.strip()) for part in cell.split("x")] if cell else []
    if len(values) > 2 or None in values:
        raise InputError(f"spacing_mm must be one number or 'row x column', got {cell!a}", code="E_ROW")
    known = [value for value in values if value is not None]
    return (known[0], known[-1]) if known else None


def refuse_duplicate_ids(records: Sequence[Record], path: Path) -> None:
    """InputError naming every id that more than one record has."""
    repeated = [ascii(identifier) for identifier, count in Counter(record.id for record in records).items() if count > 1]
    if repeated:
        raise InputError(
            f"{len(repeated)} ids are there more than once: {', '.join(repeated)}",
            code="E_DUPLICATE_ID",
            fix="give each row its own id",
            path=path,
        )

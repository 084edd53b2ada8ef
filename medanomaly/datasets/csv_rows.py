"""Rows of a CSV as people save them: BOM, any line ending, comma, semicolon or tab; every cell stays text."""

from __future__ import annotations

import csv
import difflib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from medanomaly.errors import InputError


def rows_of(path: Path, known: Sequence[str], *, required: str) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, column -> cell) of each row, cells as written; blank lines are skipped, and bytes that are not UTF-8 survive.

    Args:
        path: the CSV, UTF-8 with or without BOM.
        known: columns with a meaning; one that is absent while a lookalike is there is taken for misspelt and refused.
        required: the column that must be there.

    Raises:
        InputError: E_MISSING, E_NOT_REGULAR, E_EMPTY, E_ENCODING, E_COLUMN with the columns found, or E_ROW with the line.
    """
    text = text_of(path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text, required), strict=True)
    columns: list[str] = []
    try:
        for row in reader:
            if not row:
                continue
            if not columns:
                columns = [column.strip() for column in row]
                refuse_columns(columns, known, required, path)
                continue
            if len(row) != len(columns):
                raise InputError(
                    f"line {reader.line_num}: {len(row)} cells under {len(columns)} columns",
                    code="E_ROW",
                    fix="quote cells that hold the delimiter",
                    path=path,
                )
            yield reader.line_num, dict(zip(columns, row, strict=True))
    except csv.Error as error:
        raise InputError(
            f"line {reader.line_num}: is not a CSV row ({error})", code="E_ROW", fix="check its quotes", path=path
        ) from error


def text_of(path: Path) -> str:
    """The file's text; bytes that are not UTF-8 become surrogates, which turn into the same bytes when used as a file name."""
    if not path.is_file():
        code = "E_NOT_REGULAR" if path.exists() else "E_MISSING"
        raise InputError("is not a file", code=code, fix="give the path of a CSV", path=path)
    content = path.read_bytes()
    if b"\0" in content:
        raise InputError("is not UTF-8 text", code="E_ENCODING", fix="save the table as CSV UTF-8", path=path)
    text = content.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    if not text.strip():
        raise InputError("is empty", code="E_EMPTY", fix="write a header line and one row an image", path=path)
    return text


def delimiter_of(text: str, required: str) -> str:
    """Comma, semicolon or tab: the first that gives the header the required column, else the most frequent."""
    header = text.lstrip().splitlines()[0]
    candidates = ",;\t"
    for delimiter in candidates:
        if required in [column.strip(' "') for column in header.split(delimiter)]:
            return delimiter
    return max(candidates, key=header.count)


def refuse_columns(columns: Sequence[str], known: Sequence[str], required: str, path: Path) -> None:
    """InputError for a known column that is there twice, a lookalike of an absent one, or the required one missing."""
    found = ", ".join(ascii(column) for column in columns)
    repeated = [column for column, count in Counter(columns).items() if count > 1 and column in known]
    if repeated:
        raise InputError(f"column {repeated[0]!r} is there more than once", code="E_COLUMN", fix="keep one of them", path=path)
    absent = [column for column in known if column not in columns]
    for column in columns:
        meant = difflib.get_close_matches(column.lower(), absent, n=1, cutoff=0.8)
        if column not in known and meant:
            raise InputError(
                f"column {column!a} is not known, {meant[0]!r} is missing; columns found: {found}",
                code="E_COLUMN",
                fix=f"rename it to {meant[0]!r}, or to something else if that is not meant",
                path=path,
            )
    if required in absent:
        raise InputError(f"has no column {required!r}; columns found: {found}", code="E_COLUMN", fix="add it", path=path)

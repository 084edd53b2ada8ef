"""docs/reliability.md names a guard and a test for every case: each of them exists, and no case that matters most is left out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reliability.md"
P0 = (
    *("A01", "A02", "A03", "A04", "A05", "A06", "A07", "A08", "A09", "A12", "A13", "A14", "A15", "A16", "A17", "A18", "A20"),
    *("A22", "A23", "A24", "A25", "A27", "A30", "A33"),
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09"),
    *("C01", "C02", "C03", "C04", "C05", "C06"),
    *("D01", "D02", "D03", "D04", "D05", "D07", "D08", "D09"),
    *("E01", "E02", "E03", "E04", "E05", "E06", "E07", "E08", "E09", "E10", "E11", "E13", "E14"),
    *("F01", "F02", "F03", "F04", "F05", "F06", "F07", "F10", "F11"),
    *("G01", "G02", "G04", "G05"),
    *("H02", "H03", "H06", "H07"),
    *("I01", "I02", "I05", "I06", "I07", "I08"),
    *("J01", "J02", "J03", "J04", "J05", "J06", "J07", "J08", "J10", "J12", "J15", "J17"),
    *("K01", "K02", "K03", "K04", "K06", "K07", "K08", "K09", "K11", "K12", "K14", "K15", "K17"),
)
"""Cases that must hold before any release."""


class Row(NamedTuple):
    """One case of the page."""

    case: str
    rank: str
    required: str
    guards: list[str]
    tests: list[str]


def rows_of(text: str) -> list[Row]:
    """The table rows that begin with a case id, their cells taken apart."""
    rows = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if re.fullmatch(r"[A-Z]\d\d", cells[0]):
            assert len(cells) == 5, line
            rows.append(Row(cells[0], cells[1], cells[2], *(re.findall(r"`([^`]+)`", cell) for cell in cells[3:])))
    return rows


@cache
def names_in(path: Path) -> frozenset[str]:
    """Functions, classes and methods that a Python file defines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def missing(references: list[str], separator: str) -> list[str]:
    """References, file and name, of which one does not exist."""
    found = []
    for reference in references:
        file, _, name = reference.partition(separator)
        path = ROOT / file
        if not (path.is_file() and path.suffix == ".py" and name in names_in(path)):
            found.append(reference)
    return found


ROWS = rows_of(PAGE.read_text(encoding="utf-8"))


def test_every_case_that_matters_most_is_listed_once() -> None:
    cases = [row.case for row in ROWS]
    assert sorted(set(cases)) == sorted(cases)
    assert [case for case in P0 if case not in cases] == []
    assert {row.case for row in ROWS if row.rank == "P0"} == set(P0)


@pytest.mark.parametrize("row", ROWS, ids=[row.case for row in ROWS])
def test_the_guard_and_the_tests_of_a_case_exist(row: Row) -> None:
    assert row.required
    assert row.guards
    assert row.tests
    assert missing(row.guards, ":") == []
    assert missing(row.tests, "::") == []
    assert all(reference.partition("::")[2].startswith("test_") for reference in row.tests)


def test_a_reference_to_nothing_is_found() -> None:
    here = Path(__file__).relative_to(ROOT).as_posix()
    good = [f"{here}::missing", f"{here}::Row"]
    bad = [f"{here}::no_such_name", "tests/no_such_file.py::missing", "docs/reliability.md::missing"]
    assert missing([*good, *bad], "::") == bad
    row = rows_of("| case | x |\n| A01 | P0 | what | `a.py:f`<br>`b.py:g` | `t.py::test_x` |\n")
    assert row == [Row("A01", "P0", "what", ["a.py:f", "b.py:g"], ["t.py::test_x"])]

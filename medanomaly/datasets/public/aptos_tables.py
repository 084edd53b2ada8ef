"""The tables of APTOS 2019 and where their photographs lie: Kaggle's competition, and its re-upload with labelled splits."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medanomaly.datasets.csv_rows import rows_of
from medanomaly.datasets.findings import Finding
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.paths import path_below, resolve_inside
from medanomaly.datasets.public.duplicates import finding
from medanomaly.datasets.walk_files import stem_of
from medanomaly.errors import InputError

TABLES = {
    "train": (("train_1.csv", "train.csv"), ("train_images/train_images", "train_images", "train_1", "train")),
    "val": (("valid.csv", "val.csv"), ("val_images/val_images", "val_images", "valid_images", "valid", "val")),
    "test": (("test.csv",), ("test_images/test_images", "test_images", "test")),
}
"""Split -> names of its table, and of the folder of its photographs, the first that is there."""
SUFFIXES = (".png", ".jpeg", ".jpg")
GRADES = ("no_dr", "mild", "moderate", "severe", "proliferative")
"""Grade 0..4 of diabetic retinopathy, as the competition's data page names them."""
TREE = "train.csv and train_images/, or train_1.csv, valid.csv, test.csv and train_images/, val_images/, test_images/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """Photographs with the grade "0".."4" as their label, in the split of their table."""

    records: list[Record]
    findings: list[Finding]
    has_test: bool
    """The published test table has grades, so splits are as published."""
    has_val: bool


def graded_photographs(root: Path) -> Graded:
    """Every photograph that is there and has one grade; the others in findings. No photograph is opened.

    Raises:
        InputError: E_LAYOUT, E_LABEL, E_TRAVERSAL (an id_code that leaves its folder), E_EMPTY, and those of tables.
    """
    records: list[Record] = []
    findings: list[Finding] = []
    missing: list[str] = []
    ungraded: list[str] = []
    for split in TABLES:
        table, folder = table_and_folder(root, split)
        if table is None or folder is None:
            continue
        grades: dict[str, set[int]] = defaultdict(set)
        for code, grade in graded_rows(table, must_be_graded=split == "train"):
            path = photograph(root / folder, code)
            if grade is None:
                ungraded.append(f"{folder}/{code}")
            elif path is None:
                missing.append(f"{folder}/{code}")
            else:
                # By file, not by code: eye1 and eye1.png are one photograph.
                grades[path_below(root / folder, path)].add(grade)
        conflicts = [f"{folder}/{name}" for name, found in grades.items() if len(found) > 1]
        findings += finding("W_LABEL_CONFLICT", f"photographs left out: {table.name} gives them several grades", conflicts)
        records += [
            Record(
                id=f"{folder}/{name}",
                patient_id=stem_of(name),
                image=resolve_inside(root / folder, name),
                label=str(*found),
                split=split,
                source="APTOS 2019",
            )
            for name, found in grades.items()
            if len(found) == 1
        ]
    findings += finding(
        "W_MISSING", "photographs that a table names are not there", set(missing), "unpack all archives of the set"
    )
    findings += finding("W_NO_LABEL", "photographs left out: no grade was published", set(ungraded))
    if not records:
        raise InputError(
            f"holds no graded photograph; {len(missing)} are named and not there",
            code="E_EMPTY" if missing or ungraded or findings else "E_LAYOUT",
            path=root,
            fix=f"it should hold {TREE}",
        )
    splits = {record.split for record in records}
    return Graded(records=records, findings=findings, has_test="test" in splits, has_val="val" in splits)


def table_and_folder(root: Path, split: str) -> tuple[Path | None, str | None]:
    """The table of a split and the folder of its photographs, relative to ``root``; None = not there."""
    tables, folders = TABLES[split]
    table = next((root / name for name in tables if (root / name).is_file()), None)
    folder = next((name for name in folders if (root / name).is_dir()), None)
    if table is not None and folder is None and split == "train":
        raise InputError("has no folder of photographs", code="E_LAYOUT", path=table, fix=f"beside it should lie {folders[1]}/")
    return table, folder


def graded_rows(table: Path, *, must_be_graded: bool) -> Iterator[tuple[str, int | None]]:
    """(id_code, grade 0..4 or None) of each row."""
    for line, row in rows_of(table, ("id_code", "diagnosis"), required="id_code"):
        if must_be_graded and "diagnosis" not in row:
            raise InputError(
                f"has no column 'diagnosis'; columns found: {', '.join(map(ascii, row))}",
                code="E_COLUMN",
                path=table,
                fix="take the table that belongs to the photographs",
            )
        code, cell = row["id_code"].strip(), row.get("diagnosis", "").strip()
        # Tables saved again by statistics programs have 2.0 for 2.
        grade = {str(number): number for number in range(len(GRADES))}.get(cell.removesuffix(".0"))
        if not code or (cell and grade is None):
            raise InputError(
                f"line {line}: id_code {code!a} has the diagnosis {cell!a}, not 0..4",
                code="E_LABEL",
                path=table,
                fix="download the table again",
            )
        yield code, grade


def photograph(folder: Path, code: str) -> Path | None:
    """The file of an id_code, with or without suffix there; None = none.

    Raises:
        InputError: E_TRAVERSAL, whatever lies outside of the folder is not even looked at.
    """
    for suffix in ("", *SUFFIXES) if code.lower().endswith(SUFFIXES) else SUFFIXES:
        path = resolve_inside(folder, f"{code}{suffix}")
        if os.path.isfile(path):  # noqa: PTH113
            return path
    return None

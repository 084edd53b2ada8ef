"""Where the tables and films of a CheXpert download lie, in each of the ways it has been handed out."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from medanomaly.datasets.paths import resolve_inside
from medanomaly.errors import InputError

TABLES = {"train": ("train.csv",), "valid": ("valid.csv", "val_labels.csv"), "test": ("test.csv", "test_labels.csv")}
FOLDERS = {"train": ("train",), "valid": ("valid", "val"), "test": ("test",)}
"""Names of tables and folders; the second ones are those of the CheXlocalize download."""
BATCH = re.compile(r".*\(train \d+\)")
"""Folders such as ``CheXpert-v1.0 batch 2 (train 1)``, which hold parts of the training films without a folder ``train``."""
TREE = "ROOT/CheXpert-v1.0/{train.csv, valid.csv, train/patientNNNNN/studyN/viewN_frontal.jpg, valid/...} (or -small, or renamed)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One copy of the data set."""

    root: Path
    """The folder that no file may lie outside of."""
    tables: dict[str, Path]
    """part -> its table, of those parts that have one."""
    folders: dict[str, tuple[Path, ...]]
    """part -> folders that hold its ``patientNNNNN``, links followed; they lie inside of the root."""

    def film(self, identifier: str) -> Path | None:
        """The film ``part/patientNNNNN/studyN/viewN_frontal.jpg``, links followed; None if it is not there.

        Raises:
            InputError: E_TRAVERSAL, a link leads out of the root.
        """
        part, _, rest = identifier.partition("/")
        for folder in self.folders[part]:
            # Asked for up to 223,414 films, so in strings. As the folder's own links are followed already, three questions
            # replace a walk from the file system's root.
            file = f"{folder}{os.sep}{rest}"
            if os.path.isfile(file):  # noqa: PTH113
                study = os.path.dirname(file)  # noqa: PTH120
                steps = (file, study, os.path.dirname(study))  # noqa: PTH120
                is_linked = any(os.path.islink(step) for step in steps)  # noqa: PTH114
                return resolve_inside(self.root, file) if is_linked else Path(file)
        return None


def find_layout(root: Path) -> Layout:
    """The tables and image folders at ``root`` or one folder below it, under whatever name.

    A part whose table does not lie beside ``train.csv`` is looked for in the other folders: CheXlocalize's download brings the test
    films in a folder of its own.

    Raises:
        InputError: E_MISSING or E_NOT_REGULAR (root is no folder), E_LAYOUT (no table, or two copies of the set).
    """
    if not root.is_dir():
        code = "E_NOT_REGULAR" if root.exists() else "E_MISSING"
        raise InputError("is not a folder", code=code, fix=f"expected {TREE}", path=root)
    below = subfolders(root)
    tables: dict[str, Path] = {}
    folders: dict[str, tuple[Path, ...]] = {}
    main: Path | None = None
    for part in TABLES:
        holders = {place: table for place in (root, *below) if (table := table_of(place, part))}
        preferred = main if main in holders else root
        base = preferred if preferred in holders else next(iter(holders), None)
        if base is not preferred and len(holders) > 1:
            names = ", ".join(ascii(place.name)[1:-1] for place in holders)
            raise InputError(f"holds {len(holders)} copies of the set: {names}", code="E_LAYOUT", fix="give one", path=root)
        if base is not None:
            tables[part] = holders[base]
            main = main or base
        folders[part] = tuple((base or root) / name for name in FOLDERS[part])
    if main is None:
        found = ", ".join(ascii(path.name)[1:-1] for path in sorted(root.iterdir())[:10])
        raise InputError(
            f"has neither train.csv nor valid.csv; found: {found or 'nothing'}",
            code="E_LAYOUT",
            fix=f"expected {TREE}",
            path=root,
        )
    folders["train"] += tuple(folder for folder in sorted({*below, *subfolders(main)}) if BATCH.fullmatch(folder.name))
    inside = {
        part: tuple(resolve_inside(root, str(p.absolute())) for p in places if p.is_dir()) for part, places in folders.items()
    }
    return Layout(root=root, tables=tables, folders=inside)


def table_of(folder: Path, part: str) -> Path | None:
    """The table of a part in this very folder."""
    return next((folder / name for name in TABLES[part] if (folder / name).is_file()), None)


def subfolders(folder: Path) -> list[Path]:
    """Visible folders directly below, sorted."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))

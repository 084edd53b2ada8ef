"""Where VinDr-CXR keeps its tables and images: the PhysioNet release and the Kaggle challenge."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from medanomaly.datasets.csv_rows import rows_of
from medanomaly.datasets.manifest import number_of
from medanomaly.datasets.paths import resolve_inside
from medanomaly.datasets.public.linked_files import fence_of, inside
from medanomaly.errors import InputError

TREE = (
    "train/ and test/ with IMAGE_ID.dicom, and annotations/ with image_labels_{train,test}.csv and annotations_{train,test}.csv "
    "(PhysioNet); or train/ with IMAGE_ID.dicom or .png, and train.csv (Kaggle)"
)
SUFFIXES = (".dicom", ".dcm", ".png", ".jpg", ".jpeg")
"""Of images, the first that is there is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """train or test."""

    name: str
    folder: Path
    images: dict[str, str]
    """image id -> file name in the folder."""
    label_table: Path | None
    box_table: Path | None

    @property
    def has_tables(self) -> bool:
        """Whether somebody said something of its images."""
        return self.label_table is not None or self.box_table is not None

    def image(self, image_id: str) -> Path | None:
        """The file of an id, None where it is not there.

        Raises:
            InputError: E_TRAVERSAL, the id leaves the folder.
        """
        if image_id in self.images:
            return inside(fence_of(self.folder.parent, self.folder), self.folder / self.images[image_id])
        try:
            resolve_inside(self.folder, f"{image_id}{SUFFIXES[0]}")
        except InputError as error:
            table = self.label_table or self.box_table
            raise InputError(error.message, code=error.code, fix="mend the image_id", path=table) from error
        return None


def find_parts(root: Path) -> dict[str, Part]:
    """train and test as far as they have an image folder; ``root`` is the release or the folder above ``1.0.0``.

    Raises:
        InputError: E_MISSING or E_LAYOUT.
    """
    if not root.is_dir():
        raise InputError("is not a folder", code="E_MISSING", path=root, fix="give the folder of the data set")
    base = root / "1.0.0" if (root / "1.0.0").is_dir() else root
    parts = {name: part_of(base, name) for name in ("train", "test") if (base / name).is_dir()}
    if not parts:
        found = ", ".join(ascii(name)[1:-1] for name in sorted(os.listdir(base))[:10])
        raise InputError(f"is not VinDr-CXR; found: {found or 'nothing'}", code="E_LAYOUT", path=base, fix=f"expected {TREE}")
    return parts


def part_of(base: Path, name: str) -> Part:
    """One part; of Kaggle's tables only train.csv says anything of images."""

    def table(*candidates: str) -> Path | None:
        return next((base / candidate for candidate in candidates if (base / candidate).is_file()), None)

    kaggle = ("train.csv",) if name == "train" else ()
    return Part(
        name=name,
        folder=base / name,
        images=images_in(base / name),
        label_table=table(f"annotations/image_labels_{name}.csv", f"image_labels_{name}.csv"),
        box_table=table(f"annotations/annotations_{name}.csv", f"annotations_{name}.csv", *kaggle),
    )


def images_in(folder: Path) -> dict[str, str]:
    """image id -> file name, of the regular files with an image's suffix."""
    found: dict[str, str] = {}
    rank = {suffix: number for number, suffix in enumerate(SUFFIXES)}
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, suffix = os.path.splitext(entry.name)  # noqa: PTH122 (a name, and 18,000 of them)
            if stem.startswith(".") or suffix.lower() not in rank or not entry.is_file():
                continue
            if stem not in found or rank[suffix.lower()] < rank[Path(found[stem]).suffix.lower()]:
                found[stem] = entry.name
    return found


def native_sizes(parts: dict[str, Part]) -> dict[str, tuple[int, int]]:
    """image id -> (rows, columns) of the DICOM image, from the ``*_meta.csv`` that travels with resized pictures.

    Raises:
        InputError: E_MISSING where there is no such table; E_COLUMN, E_ROW.
    """
    bases = {part.folder.parent for part in parts.values()}
    tables = [path for base in bases for name in parts if (path := base / f"{name}_meta.csv").is_file()]
    if not tables:
        raise InputError(
            "has no train_meta.csv, without which boxes cannot be brought to resized pictures",
            code="E_MISSING",
            path=min(bases),
            fix="add it (columns image_id, dim0 = rows, dim1 = columns of the DICOM image), or use the DICOM images",
        )
    sizes = {}
    for path in tables:
        for line, row in rows_of(path, ("image_id", "dim0", "dim1"), required="image_id"):
            size = [number_of(column, row.get(column, "")) for column in ("dim0", "dim1")]
            rows, columns = (value or 0.0 for value in size)
            if not (rows > 0 and columns > 0 and rows % 1 == columns % 1 == 0):
                message = f"line {line}: dim0 and dim1 must be positive whole numbers"
                raise InputError(message, code="E_ROW", path=path, fix="mend the table")
            sizes[row["image_id"].strip()] = (int(rows), int(columns))
    return sizes

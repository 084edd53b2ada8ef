"""Where ChestX-ray14 keeps its tables and images, as the owners offer it and as mirrors repack it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from medanomaly.datasets.check import some
from medanomaly.datasets.findings import Finding
from medanomaly.datasets.paths import resolve_inside
from medanomaly.datasets.public.linked_files import fence_of
from medanomaly.errors import InputError

LABEL_TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
"""The first that is there is read: the later version corrects labels of the earlier one."""
BOX_TABLES = ("BBox_List_2017.csv", "BBox_List_2017_Official_NIH.csv")
LISTS = {
    "train": ("train_val_list.txt", "train_val_list_NIH.txt"),
    "test": ("test_list.txt", "test_list_NIH.txt"),
}
TREE = (
    "Data_Entry_2017_v2020.csv or Data_Entry_2017.csv, train_val_list.txt, test_list.txt, BBox_List_2017.csv, and the PNGs in "
    "images/ or images_001/images/ to images_012/images/"
)


def first_file(root: Path, names: Sequence[str]) -> Path | None:
    """The first of these files that is there."""
    return next((root / name for name in names if (root / name).is_file()), None)


def find_tables(root: Path) -> tuple[Path, dict[str, Path]]:
    """The table of labels, and split -> official list.

    Raises:
        InputError: E_MISSING or E_LAYOUT.
    """
    if not root.is_dir():
        raise InputError("is not a folder", code="E_MISSING", path=root, fix="give the folder of the data set")
    table = first_file(root, LABEL_TABLES)
    lists = {split: path for split, names in LISTS.items() if (path := first_file(root, names)) is not None}
    if table is None or len(lists) < len(LISTS):
        found = ", ".join(ascii(name)[1:-1] for name in sorted(os.listdir(root))[:10])
        raise InputError(f"is not ChestX-ray14; found: {found or 'nothing'}", code="E_LAYOUT", path=root, fix=f"expected {TREE}")
    return table, lists


def find_images(root: Path) -> tuple[dict[str, tuple[Path, Path]], list[Finding]]:
    """File name -> (what it must lie in, its path), and names that are in two folders, of which the first folder counts."""
    folders = [root / "images"]
    for name in sorted(entry for entry in os.listdir(root) if entry.startswith("images_")):
        folders += [root / name / "images", root / name]
    images: dict[str, tuple[Path, Path]] = {}
    twice = []
    for folder in (folder for folder in folders if folder.is_dir()):
        fence = fence_of(root, folder)
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.lower().endswith(".png") and entry.is_file())
        twice += [name for name in names if name in images]
        images |= {name: (fence, folder / name) for name in names if name not in images}
    if not images:
        raise InputError("has no folder of PNGs", code="E_LAYOUT", path=root, fix=f"expected {TREE}")
    return images, some("W_DUPLICATE", "images are in two folders, the first of which is used", sorted(twice), "")


def is_there(image: str, images: Mapping[str, tuple[Path, Path]], root: Path, table: Path) -> bool:
    """Whether an image has a file; a name that leaves the data set is refused."""
    if image not in images:
        try:
            resolve_inside(root, image)
        except InputError as error:
            raise InputError(error.message, code=error.code, fix="mend the Image Index", path=table) from error
    return image in images

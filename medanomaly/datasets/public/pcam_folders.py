"""PatchCamelyon as people re-publish it: one image file a patch in folders of splits and classes."""

from __future__ import annotations

import os
from pathlib import Path

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.walk_files import image_files
from medanomaly.errors import InputError

SPLIT_FOLDERS = {"train": "train", "valid": "val", "val": "val", "test": "test"}
CLASS_FOLDERS = {
    **dict.fromkeys(("0", "no_cancer", "normal"), "healthy"),
    **dict.fromkeys(("1", "cancer", "tumor"), "diseased"),
}
FOLDER_TREE = "{train,valid,test}/{0,1}/*.png"


def folder_records(root: Path) -> list[Record]:
    """Records of ``{train,valid,test}/{0,1}`` or ``{no_cancer,cancer}``, each patch its own patient; none if there are none.

    Raises:
        InputError: E_CLASS, a class folder with another name; E_LAYOUT, an image that lies in none.
    """
    records = []
    for name in SPLIT_FOLDERS:
        for path in image_files(root / name) if (root / name).is_dir() else ():
            relative = f"{name}/{path.as_posix()}"
            if len(path.parts) == 1:
                raise InputError("lies in no class folder", code="E_LAYOUT", path=root / relative, fix=f"expected {FOLDER_TREE}")
            label = CLASS_FOLDERS.get(path.parts[0].lower())
            if label is None:
                raise InputError(
                    f"{path.parts[0]!a} is not one of the classes {', '.join(CLASS_FOLDERS)}",
                    code="E_CLASS",
                    path=root / name,
                    fix=f"expected {FOLDER_TREE}",
                )
            records.append(
                Record(
                    id=relative,
                    patient_id=relative.strip(),
                    image=Path(os.path.realpath(root / relative)),
                    label=label,
                    split=SPLIT_FOLDERS[name],
                    source="PatchCamelyon",
                )
            )
    return records

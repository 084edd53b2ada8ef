"""Which files of a folder are images: regular, visible, of a known kind, and inside the folder also when links are followed."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from medanomaly.errors import InputError
from medanomaly.io.formats import image_suffix
from medanomaly.io.reader import image_suffixes, is_image_file

SHORTEST_DICOM = 132
"""Bytes up to and with "DICM" (DICOM PS3.10, section 7.1): a shorter file without suffix is not asked what it holds."""

logger = logging.getLogger(__name__)


def image_files(root: Path, *, recursive: bool = True) -> list[Path]:
    """Paths of the images below ``root``, relative to it, sorted by their text: the same list for any order of the file system.

    An image has one of the reader's suffixes (any case), or none and is DICOM inside. Hidden files and folders (names that
    begin with a dot) are no images. Linked folders are not entered, so loops end; a linked file counts if its target lies
    below ``root``, else it is left out and logged, as is a pipe, socket or device. A link to nothing counts, so that whoever
    reads it reports it.

    Raises:
        InputError: E_MISSING or E_NOT_REGULAR, root is not a folder.
    """
    if not root.is_dir():
        code = "E_NOT_REGULAR" if root.exists() else "E_MISSING"
        raise InputError("is not a folder", code=code, fix="give a folder of images", path=root)
    fence = Path(os.path.realpath(root))
    found: list[Path] = []
    for folder, subfolders, names in os.walk(root, followlinks=False):
        subfolders[:] = [name for name in subfolders if recursive and not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if name.startswith(".") or not may_be_image(path):
                continue
            reason = left_out(path, fence)
            if reason:
                logger.warning("%s: left out: %s", ascii(str(path))[1:-1], reason)
            else:
                found.append(path.relative_to(root))
    return sorted(found, key=lambda path: path.as_posix())


def may_be_image(path: Path) -> bool:
    """Whether the name is an image's; content is looked at only where there is no suffix and it can be DICOM."""
    if image_suffix(path):
        return image_suffix(path) in image_suffixes
    return path.is_file() and path.stat().st_size >= SHORTEST_DICOM and is_image_file(path)


def left_out(path: Path, fence: Path) -> str:
    """Why a file with an image's name is not offered; "" if it is."""
    if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(fence):
        return "links to a file outside of the folder"
    return "is not a regular file" if path.exists() and not path.is_file() else ""


def stem_of(name: str) -> str:
    """The name without its image suffix; ``.nii.gz`` is one suffix, the last number of a UID is none."""
    return name[: len(name) - len(image_suffix(Path(name)))]

"""A tree of class folders, or any folder of images, as records."""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.splits import split_by_patient
from medanomaly.datasets.walk_files import image_files, stem_of
from medanomaly.errors import ConfigError, InputError

TRAINING, TESTING, MASKS = "training", "testing", "masks"
MASK_SUFFIX = "_mask"

logger = logging.getLogger(__name__)


def folder_manifest(
    root: Path,
    classes: tuple[str, ...] = ("healthy", "diseased"),
    *,
    val_fraction: float = 0.1,
    seed: int = 0,
    patient_pattern: str | None = None,
    healthy_class: str | None = "healthy",
) -> list[Record]:
    """Records of the tree ``training/<class>/...`` and ``testing/<class>/...``, sorted by id.

    Class folders are matched by name to ``classes``; a folder in another case ('Healthy') is accepted and logged, and the
    label is the given name. Images below ``testing`` are the test split; those below ``training`` are divided in train and
    val by patient. One of the two folders may be missing, and so may class folders: positions of classes never come from a
    listing.

    The mask of ``testing/diseased/a/b.png`` is the one file found among (any image suffix)

    * ``testing/diseased/a/b_mask.*`` beside it,
    * ``testing/masks/diseased/a/b.*`` and ``testing/masks/a/b.*``, also with ``_mask`` after the stem.

    An image without one has not been annotated. Two masks for one image, one mask for two images and a mask for none are
    errors.

    Args:
        root: folder that holds ``training`` and ``testing``.
        classes: class names; case is not significant in folder names, so names must differ in more than case.
        val_fraction: share of the training patients, 0..1, that becomes val.
        seed: of that division.
        patient_pattern: regular expression with one group, searched in the path below ``root``; the group is the patient.
            None = the file name without suffix, which is right only if a patient has one image or several of the same name.
        healthy_class: the class without disease, for a division with its share of disease; None = there is none.

    Raises:
        InputError: E_MISSING, E_LAYOUT (no such folders, an image in no class folder), E_CLASS (a folder that is no class),
            E_TOO_FEW (no patient left for val), E_PATIENT_PATTERN, E_MASK_AMBIGUOUS or E_MASK_ORPHAN.
        ConfigError: E_CONFIG, a pattern without exactly one group, or classes that differ in case only.
    """
    if len({name.casefold() for name in classes}) != len(classes) or MASKS in classes:
        raise ConfigError(f"classes must differ in more than case, and none be {MASKS!r}, got {classes}", code="E_CONFIG")
    pattern = compile_pattern(patient_pattern)
    files = image_files(root)
    tops = sorted({path.parts[0] for path in files if len(path.parts) > 1})
    if not {TRAINING, TESTING} & {top.casefold() for top in tops}:
        raise InputError(
            f"holds no images below {TRAINING!r} or {TESTING!r}; folders with images: {', '.join(map(ascii, tops)) or 'none'}",
            code="E_LAYOUT",
            fix="name the folders so, or write a manifest",
            path=root,
        )
    records: dict[str, list[Record]] = {}
    for wanted in (TRAINING, TESTING):
        records[wanted] = []
        for top in (name for name in tops if name.casefold() == wanted):
            if top != wanted:
                logger.warning("%s: folder %s is read as %s", ascii(str(root))[1:-1], ascii(top), wanted)
            below = [path for path in files if path.parts[0] == top and len(path.parts) > 1]
            records[wanted] += records_below(root, top, below, classes, pattern)
    for top in (name for name in tops if name.casefold() not in (TRAINING, TESTING)):
        count = sum(path.parts[0] == top and len(path.parts) > 1 for path in files)
        logger.warning("%s: %d images below %s are not used", ascii(str(root))[1:-1], count, ascii(top))
    if pattern is None:
        logger.info("%s: the patient of each image is its file name without suffix", ascii(str(root))[1:-1])
    training, testing = records[TRAINING], records[TESTING]
    if training:
        training = split_by_patient(training, (1 - val_fraction, val_fraction, 0), seed, healthy_class=healthy_class)
    return sorted([*training, *(replace(record, split="test") for record in testing)], key=lambda record: record.id)


def plain_folder(root: Path, *, recursive: bool = True) -> list[Record]:
    """Unlabelled records of the images of any folder, each its own patient; ids are paths below ``root`` with forward slashes.

    Raises:
        InputError: E_MISSING, E_NOT_REGULAR or E_NO_IMAGES.
    """
    files = image_files(root, recursive=recursive)
    if not files:
        raise InputError("holds no images", code="E_NO_IMAGES", fix="check the folder and the files' suffixes", path=root)
    return [
        Record(id=path.as_posix(), patient_id=path.as_posix().strip(), image=Path(os.path.realpath(root / path)))
        for path in files
    ]


def records_below(
    root: Path, top: str, files: Sequence[Path], classes: tuple[str, ...], pattern: re.Pattern[str] | None
) -> list[Record]:
    """Records of ``top/<class>/...``, not yet split; ``files`` are all images below ``top``, relative to ``root``."""
    is_mask = {path: path.parts[1] == MASKS or stem_of(path.name).endswith(MASK_SUFFIX) for path in files}
    images = [path for path in files if not is_mask[path]]
    labels = class_folders(root, top, images, classes)
    mask_of = match_masks(root, images, [path for path in files if is_mask[path]])
    return [
        Record(
            id=path.as_posix(),
            patient_id=patient_of(path, pattern),
            image=Path(os.path.realpath(root / path)),
            label=labels[path.parts[1]],
            mask=Path(os.path.realpath(root / mask_of[path])) if path in mask_of else None,
        )
        for path in images
    ]


def class_folders(root: Path, top: str, images: Sequence[Path], classes: tuple[str, ...]) -> dict[str, str]:
    """Folder name -> class name; InputError for a folder that is no class, or two that are the same."""
    by_fold = {name.casefold(): name for name in classes}
    labels: dict[str, str] = {}
    for folder in sorted({path.parts[1] for path in images if len(path.parts) > 2}):
        if folder.casefold() not in by_fold:
            raise InputError(
                f"folder {folder!a} is not one of the classes {', '.join(map(ascii, classes))}",
                code="E_CLASS",
                fix="rename it, or give its name as a class",
                path=root / top / folder,
            )
        label = by_fold[folder.casefold()]
        if label in labels.values():
            raise InputError(
                f"two folders mean the class {label!r}, one of them {folder!a}",
                code="E_CLASS",
                fix="merge them",
                path=root / top,
            )
        if folder != label:
            logger.warning("%s: folder %s is read as class %s", ascii(str(root / top))[1:-1], ascii(folder), ascii(label))
        labels[folder] = label
    loose = [path for path in images if len(path.parts) == 2]
    if loose:
        raise InputError("lies in no class folder", code="E_LAYOUT", fix="move it into one", path=root / loose[0])
    return labels


def match_masks(root: Path, images: Sequence[Path], masks: Sequence[Path]) -> dict[Path, Path]:
    """image -> its mask, all relative to ``root``; each mask belongs to exactly one image, each image has at most one."""
    images_of: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for image in images:
        for key in mask_keys(image):
            images_of[key].append(image)
    found: dict[Path, Path] = {}
    for mask in masks:
        stem = stem_of(mask.name)
        keys = [(*mask.parts[:-1], stem.removesuffix(MASK_SUFFIX))]
        if mask.parts[1] == MASKS:
            keys.append((*mask.parts[:-1], stem))
        owners = sorted({image for key in keys for image in images_of[key]})
        if not owners:
            raise InputError("is the mask of no image", code="E_MASK_ORPHAN", fix="give it its image's name", path=root / mask)
        if len(owners) > 1:
            raise InputError(
                f"is the mask of {len(owners)} images: {', '.join(ascii(owner.as_posix()) for owner in owners)}",
                code="E_MASK_AMBIGUOUS",
                fix=f"put it below {MASKS}/<class>/",
                path=root / mask,
            )
        if owners[0] in found:
            raise InputError(
                f"has two masks: {found[owners[0]].as_posix()!a} and {mask.as_posix()!a}",
                code="E_MASK_AMBIGUOUS",
                fix="keep one",
                path=root / owners[0],
            )
        found[owners[0]] = mask
    return found


def mask_keys(image: Path) -> list[tuple[str, ...]]:
    """Folder and stem under which a mask of ``top/class/a/b.png`` may lie."""
    top, *folders = image.parts[:-1]
    stem = stem_of(image.name)
    return [(top, *folders, stem), (top, MASKS, *folders, stem), (top, MASKS, *folders[1:], stem)]


def compile_pattern(patient_pattern: str | None) -> re.Pattern[str] | None:
    """The compiled pattern; ConfigError unless it has exactly one group."""
    if patient_pattern is None:
        return None
    try:
        pattern = re.compile(patient_pattern)
    except re.error as error:
        raise ConfigError(
            f"patient_pattern {patient_pattern!r} is not a regular expression ({error})", code="E_CONFIG"
        ) from error
    if pattern.groups != 1:
        raise ConfigError(
            f"patient_pattern {patient_pattern!r} has {pattern.groups} groups",
            code="E_CONFIG",
            fix="put one group around the patient",
        )
    return pattern


def patient_of(path: Path, pattern: re.Pattern[str] | None) -> str:
    """The patient of an image at ``path`` below the root."""
    if pattern is None:
        return stem_of(path.name).strip()
    match = pattern.search(path.as_posix())
    patient = (match[1] or "").strip() if match else ""
    if not patient:
        raise InputError(
            f"patient_pattern {pattern.pattern!r} finds no patient in the path",
            code="E_PATIENT_PATTERN",
            fix="correct the pattern",
            path=path,
        )
    return patient

"""What a preprocessing job will write, decided before it begins: one name for each image and mask, and no name twice."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.preprocess import Work
from medanomaly.datasets.walk_files import image_files, stem_of
from medanomaly.errors import ConfigError, InputError
from medanomaly.files import safe_name

MASK_PATTERN = r"(^|/)masks?/|_mask\.[^/]+$"
"""Images of a plain tree that are masks: below a folder ``mask`` or ``masks``, or with ``_mask`` before the suffix."""
OUTSIDE = "outside"
"""Folder for images that lie outside of their manifest's folder."""


def work_of_tree(root: Path, mask_pattern: str = MASK_PATTERN) -> list[Work]:
    """Work for every image below ``root``: the same relative path with the suffix ``.png``.

    Files whose path below ``root`` matches ``mask_pattern`` (case does not matter) are masks. Two files that differ in their suffix
    only get a hash of their name behind the stem.

    Raises:
        InputError: E_MISSING, E_NOT_REGULAR or E_NO_IMAGES.
        ConfigError: E_CONFIG, the pattern is no regular expression.
    """
    try:
        is_mask = re.compile(mask_pattern, re.IGNORECASE)
    except re.error as error:
        raise ConfigError(f"mask_pattern {mask_pattern!r} is not a regular expression ({error})", code="E_CONFIG") from error
    files = [path.as_posix() for path in image_files(root)]
    if not files:
        raise InputError("holds no images", code="E_NO_IMAGES", fix="check the folder and the files' suffixes", path=root)
    fence = Path(os.path.realpath(root))
    return [
        Work(
            record=Record(id=file, patient_id=file.strip(), image=Path(os.path.realpath(fence / file))),
            image_out=name,
            is_mask=bool(mask_pattern and is_mask.search(file)),
        )
        for file, name in zip(files, distinct_names(files, files), strict=True)
    ]


def work_of_manifest(records: Sequence[Record], root: Path) -> list[Work]:
    """Work for every record and its mask: paths below the manifest's folder ``root`` are kept, with the suffix ``.png``.

    Files that lie elsewhere go to ``outside/``, named after their record's id. Every record gets files of its own, also where two
    share an image.
    """
    fence = Path(os.path.realpath(root))
    sources, keys = [], []
    for record in records:
        for kind, file in (("image", record.image), ("mask", record.mask)):
            if file is not None:
                below = file.relative_to(fence).as_posix() if file.is_relative_to(fence) else ""
                sources.append(below or f"{OUTSIDE}/{safe_name(record.id)}{'-mask' if kind == 'mask' else ''}")
                keys.append(f"{kind}\0{record.id}")
    name_of = dict(zip(keys, distinct_names(sources, keys), strict=True))
    return [
        Work(record=record, image_out=name_of[f"image\0{record.id}"], mask_out=name_of.get(f"mask\0{record.id}"))
        for record in records
    ]


def distinct_names(files: Sequence[str], keys: Sequence[str]) -> list[str]:
    """``a/b.png`` for ``a/b.jpg``; where several files would get one name (case does not count), a hash of each one's key is added.

    Args:
        files: paths with forward slashes.
        keys: what tells each from all others.
    """
    plain = [PurePosixPath(file).with_name(f"{stem_of(PurePosixPath(file).name)}.png") for file in files]
    wanted = Counter(path.as_posix().casefold() for path in plain)
    names = []
    for path, key in zip(plain, keys, strict=True):
        digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
        is_taken = wanted[path.as_posix().casefold()] > 1
        names.append((path.with_name(f"{path.stem}-{digest}.png") if is_taken else path).as_posix())
    twice = [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]
    if twice:
        raise InputError(f"two images would be written as {twice[0]!a}", code="E_COLLISION", fix="rename one of them")
    return names


def refuse_overwriting_sources(works: Sequence[Work], out: Path) -> None:
    """ConfigError E_CONFIG where a result would be written over a source file."""
    sources = {os.path.realpath(file) for work in works for file in (work.record.image, work.record.mask) if file is not None}
    place = Path(os.path.realpath(out))
    hit = [name for work in works for name in work.outputs if str(place / name) in sources]
    if hit:
        raise ConfigError(
            f"{hit[0]!a} would replace its own source", code="E_CONFIG", path=out, fix="choose another output folder"
        )

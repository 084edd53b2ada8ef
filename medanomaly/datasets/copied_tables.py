"""Tables of a data set copied beside its preprocessed images: the same bytes, but paths have the images' new names."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from medanomaly.datasets.findings import Finding
from medanomaly.datasets.walk_files import left_out
from medanomaly.files import atomic_write
from medanomaly.io.formats import image_suffixes

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
PATH_IN_TEXT = re.compile(
    r"[^,;\t\"\r\n]+?(?:" + "|".join(re.escape(suffix) for suffix in sorted(image_suffixes, key=len, reverse=True)) + r")"
    r"(?=[\s,;\"]|$)",
    re.IGNORECASE,
)
"""A stretch of text that ends like an image's name, between the separators of a table."""
IN_PX = re.compile(
    r"^(x_?[012]|y_?[012]|[xy]_?(min|max)|(x|y)_?(centre|center)|width|height|rows|columns|bbox.*|.*rle.*|encodedpixels)$"
)
"""Names of columns that count pixels of the image before it was resized."""
IN_PX_TOGETHER = frozenset("xywh")
"""Names that do so in company only: one alone is anything, as often a label (y) as a place."""


def table_files(root: Path) -> list[Path]:
    """Visible tables below ``root``, relative to it, sorted; links that leave it are left out."""
    fence = Path(os.path.realpath(root))
    found = []
    for folder, subfolders, names in os.walk(root, followlinks=False):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        paths = [Path(folder, name) for name in names if not name.startswith(".") and name.lower().endswith(TABLE_SUFFIXES)]
        found += [path.relative_to(root) for path in paths if path.is_file() and not left_out(path, fence)]
    return sorted(found, key=lambda path: path.as_posix())


def copy_tables(root: Path, out: Path, new_names: Mapping[str, str], tables: Sequence[Path]) -> list[Finding]:
    """Copy the tables, every path of a converted image under its new name; nothing else of their text changes.

    A path in a table means an image if the two agree from the end on: CheXpert writes ``CheXpert-v1.0-small/train/...`` whatever the
    folder is called. Backslashes and forward slashes count alike. Where two images fit and have different new names, or none
    fits, the text stays.

    Args:
        root: the data set.
        out: where the copies go, under the same relative paths.
        new_names: image below ``root`` -> its new path below ``out``, both with forward slashes.
        tables: below ``root``.

    Returns:
        W_TABLE_PX for every table with columns that seem to count pixels, which are those of the native images.
    """
    by_name: dict[str, list[tuple[tuple[str, ...], str]]] = defaultdict(list)
    for old, new in new_names.items():
        by_name[PurePosixPath(old).name].append((PurePosixPath(old).parts, PurePosixPath(new).name))

    def renamed(match: re.Match[str]) -> str:
        written = match[0]
        folder, name = re.split(r"(?<=[/\\])(?=[^/\\]*$)", written, maxsplit=1) if re.search(r"[/\\]", written) else ("", written)
        lead = name[: len(name) - len(name.lstrip())]
        parts = tuple(part for part in re.split(r"[/\\]", written.strip()) if part not in ("", "."))
        fitting = {new for old, new in by_name.get(name.lstrip(), ()) if agree(old, parts)}
        return f"{folder}{lead}{fitting.pop()}" if len(fitting) == 1 else written

    native = []
    for table in tables:
        text = (root / table).read_bytes().decode("utf-8", "surrogateescape")
        with atomic_write(out / table) as stream:
            stream.write(PATH_IN_TEXT.sub(renamed, text).encode("utf-8", "surrogateescape"))
        header = text.removeprefix("\ufeff").lstrip().split("\n", 1)[0]
        columns = {cell.strip().strip('"').lower() for cell in re.split(r"[,;\t]", header)}
        if any(map(IN_PX.match, columns)) or len(columns & IN_PX_TOGETHER) > 1:
            native.append(table.as_posix())
    message = f"{len(native)} copied tables have columns in px of the native images"
    advice = "make the manifest first and preprocess that: its boxes and masks are scaled"
    return [Finding(code="W_TABLE_PX", message=message, ids=tuple(native), fix=advice)] if native else []


def agree(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether the shorter path is the end of the longer one."""
    length = min(len(one), len(other))
    return one[-length:] == other[-length:]

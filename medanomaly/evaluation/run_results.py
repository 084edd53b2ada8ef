"""Results that a finished run of one kind must have beside its record: files that are there, tables with as many rows as it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medanomaly.datasets.csv_rows import rows_of
from medanomaly.datasets.findings import Finding
from medanomaly.errors import MedanomalyError
from medanomaly.files import parse_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a command writes last."""

    files: tuple[str, ...]
    """All of them, once status.json says done."""
    content: str = ""
    """The one that is a JSON object; "" = none."""
    table: str = ""
    """The one with a row an image, or several an image; "" = none."""
    image: str = "id"
    """Its column that tells images apart."""
    num_images: tuple[str, ...] = ()
    """Where run.json, else status.json, says how many there are."""
    paths: str = ""
    """Its column of files below the folder; "" = none."""


RESULTS: Mapping[str, Results] = {
    "deblur": Results(files=("manifest.csv", "deblur.csv"), table="deblur.csv", paths="image"),
    "likelihood": Results(
        files=("likelihood.json", "table.md", "table.csv", "images.csv", "curve.png"),
        content="likelihood.json",
        table="images.csv",
        num_images=("num_images",),
    ),
    "evaluate-samples": Results(
        files=("samples.json", "table.md", "table.csv", "neighbours.csv", "neighbours.png"),
        content="samples.json",
        table="neighbours.csv",
        image="sample",
    ),
    "evaluate-classifier": Results(
        files=("classifier.json", "table.md", "table.csv", "images.csv", "classifier.png"),
        content="classifier.json",
        table="images.csv",
        num_images=("num_images",),
    ),
    "generate": Results(
        files=("samples.npz", "manifest.csv", "grid.png"),
        table="manifest.csv",
        num_images=("settings", "num_images"),
        paths="image",
    ),
}
"""By kind; ``train``, ``localize`` and ``evaluate`` have rules of their own."""


def result_findings(folder: Path, kind: str, run: Mapping[str, Any], status: Mapping[str, Any]) -> list[Finding]:
    """What a run that says done lacks; [] = nothing, and of a run that goes on or ended early nothing is asked.

    Args:
        folder: of the run.
        kind: a key of ``RESULTS``.
        run: run.json.
        status: status.json.
    """
    wanted = RESULTS[kind]
    # A deblurring that could use no image at all has neither table.
    nothing = kind == "deblur" and not status.get("ok") and not status.get("skipped")
    if status.get("status") != "done" or nothing:
        return []
    absent = [name for name in wanted.files if not (folder / name).is_file()]
    found = [Finding(code="E_MISSING", message=f"{name} is not there") for name in absent]
    if wanted.content and wanted.content not in absent and not _is_object(folder / wanted.content):
        found.append(Finding(code="E_JSON", message=f"{wanted.content} is not a JSON object"))
    if wanted.table and wanted.table not in absent:
        found += _table_findings(folder, wanted, _number(wanted.num_images, run, status))
    return found


def _table_findings(folder: Path, wanted: Results, num_images: int | None) -> list[Finding]:
    columns = (wanted.image, *((wanted.paths,) if wanted.paths else ()))
    try:
        rows = [row for _, row in rows_of(folder / wanted.table, columns, required=wanted.image)]
    except MedanomalyError as error:
        return [Finding(code=error.code, message=f"{wanted.table}: {error.message}")]
    found, images = [], {row[wanted.image] for row in rows}
    if not images or (num_images is not None and len(images) != num_images):
        told = "at least one" if num_images is None else num_images
        found.append(Finding(code="E_IMAGES", message=f"{wanted.table} must have {told} images, and has {len(images)}"))
    if wanted.paths:
        gone = tuple(row[wanted.paths] for row in rows if not _below(folder, row[wanted.paths]))
        if gone:
            found.append(Finding(code="E_OUTPUT_MISSING", message=f"files of {wanted.table} are not in the folder", ids=gone))
    return found


def _below(folder: Path, name: str) -> bool:
    """Whether a file of this name is in the folder, wherever links lead."""
    path = (folder / name).resolve()
    return path.is_relative_to(folder.resolve()) and path.is_file()


def _is_object(path: Path) -> bool:
    try:
        return isinstance(parse_json(path.read_bytes()), dict)
    except (OSError, ValueError):
        return False


def _number(names: tuple[str, ...], run: Mapping[str, Any], status: Mapping[str, Any]) -> int | None:
    """How many images a run says it has; None where it does not."""
    for content in (run, status):
        value: Any = content if names else None
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, int):
            return value
    return None

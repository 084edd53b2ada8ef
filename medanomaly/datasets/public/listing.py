"""What a reader of a published data set returns, and how it keeps files that it has to write."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from medanomaly.datasets.findings import Finding
from medanomaly.datasets.manifest import Record
from medanomaly.errors import InputError
from medanomaly.files import write_json

T = TypeVar("T")
Progress = Callable[[Sequence[T], str], Iterable[T]]
"""(items, what is done) -> the same items, perhaps under a progress bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The rows of a manifest, and what a person should know about how they were chosen."""

    records: list[Record]
    findings: tuple[Finding, ...] = ()
    """Warnings (``W_...``): rows left out, labels that contradict each other, files that could not be used."""


def silent(items: Sequence[T], text: str) -> Iterable[T]:  # noqa: ARG001 (the signature of Progress)
    """No progress bar."""
    return items


def continue_or_empty(folder: Path, settings: Mapping[str, Any]) -> None:
    """Prepare a folder for PNGs that depend on ``settings``: those of an earlier run with the same settings stay, others go.

    So whoever writes next may skip what is there. The settings are kept in ``folder/settings.json``; while old files are being
    removed it says so, and an interruption there cannot make old files pass for new ones.

    Raises:
        InputError: E_EXISTS, the folder holds PNGs that this command did not write.
    """
    kept = folder / "settings.json"
    wanted = json.loads(json.dumps(dict(settings)))
    try:
        found = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found == wanted:
        return
    old = list(folder.rglob("*.png"))
    if old and not kept.is_file():
        raise InputError(
            "holds PNG files that this command did not write",
            code="E_EXISTS",
            path=folder,
            fix="write the manifest to another folder with --out",
        )
    if old:
        write_json(kept, {"state": "being emptied"})
        for path in old:
            path.unlink()
    write_json(kept, wanted)

"""What a reader of a published data set returns, and how it keeps files that it has to write."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from medanomaly.datasets.findings import Finding
from medanomaly.datasets.manifest import Record
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


def same_settings(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Whether files that lie in ``folder`` were written with these settings, so that an interrupted extraction may go on.

    The settings are kept in ``folder/settings.json`` from now on. False = every file has to be written (again).
    """
    kept = folder / "settings.json"
    wanted = json.loads(json.dumps(dict(settings)))
    try:
        is_same = bool(json.loads(kept.read_text(encoding="utf-8")) == wanted)
    except (OSError, ValueError):
        is_same = False
    if not is_same:
        write_json(kept, wanted)
    return is_same

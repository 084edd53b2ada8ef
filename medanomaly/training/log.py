"""A run's folder: what it was asked to do, what happened, where it stands."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from medanomaly import __version__
from medanomaly.files import atomic_write, finite, parse_json, write_json
from medanomaly.types import Observer


def git_commit() -> str | None:
    """Commit of the source tree this package runs from; None outside a checkout."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def environment() -> dict[str, Any]:
    """Versions and machine facts that a result depends on; no host name, no user, no path."""
    packages = ("torch", "monai", "numpy", "scipy", "scikit-image", "scikit-learn", "pydicom", "nibabel", "pillow")
    return {
        "medanomaly": __version__,
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
    }


def write_status(run_dir: Path, status: str, **facts: Any) -> None:
    """status.json: running, done, preempted or failed, with what a launcher wants to know."""
    write_json(run_dir / "status.json", {"status": status, **facts})


class RunLog:
    """log.jsonl, one line of numbers a step, cut back to the resumed step so that it reads as one uninterrupted run."""

    def __init__(self, path: Path, *, first_step: int, observers: Sequence[Observer] = ()) -> None:
        self.path, self.observers = path, observers
        kept = [line for line in self.read(path) if line["step"] < first_step]
        with atomic_write(path) as stream:
            stream.writelines((json.dumps(line) + "\n").encode() for line in kept)

    @staticmethod
    def read(path: Path) -> list[dict[str, Any]]:
        """Lines of a log up to the first that is none of it, such as a last one torn by a kill."""
        lines: list[dict[str, Any]] = []
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
            try:
                line = parse_json(text)
            except ValueError:
                break
            if not isinstance(line, dict) or type(line.get("step")) is not int:
                break
            lines.append(line)
        return lines

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line and tell the observers."""
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, **finite(dict(values))}, allow_nan=False) + "\n")
        for observer in self.observers:
            observer.scalars(step, values)

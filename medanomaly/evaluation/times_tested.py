"""How often weights were measured on a test split: each time is a chance to have chosen by it, so each is written down."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

NAME = "test_evaluations.jsonl"


def record_test_evaluation(
    checkpoint: Path, out: Path, *, manifest_sha256: str, num_images: int, shipped: Path | None = None
) -> dict[str, Any]:
    """Append one line to ``test_evaluations.jsonl`` and count those of this manifest.

    The file lies beside the weights; where nothing can be written there, or the weights travel with the package, beside the
    evaluation. Lines are only ever added.

    Args:
        checkpoint: the weights, or their folder.
        out: the evaluation's folder; must exist.
        manifest_sha256: fingerprint of the manifest whose test split is measured.
        num_images: of that split that are measured.
        shipped: folder of the weights that travel with the package.

    Returns:
        ``count`` of evaluations on this manifest, this one included, and ``kept_beside``: "weights" or "evaluation".
    """
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    line = json.dumps({"unix_s": round(time.time()), "manifest_sha256": manifest_sha256, "num_images": num_images})
    if shipped is None or not folder.resolve().is_relative_to(shipped.resolve()):
        with contextlib.suppress(OSError):
            return {"count": appended(folder / NAME, line, manifest_sha256), "kept_beside": "weights"}
    return {"count": appended(out / NAME, line, manifest_sha256), "kept_beside": "evaluation"}


def appended(path: Path, line: str, manifest_sha256: str) -> int:
    """Add a line; how many lines there are now of this manifest."""
    with open(path, "a+", encoding="utf-8") as stream:
        stream.write(line + "\n")
        stream.flush()
        stream.seek(0)
        # By text: a line that a kill has torn was an evaluation too.
        return sum(manifest_sha256 in text for text in stream)


def count_text(counted: dict[str, Any]) -> str:
    """The count as a sentence below a table."""
    times = "once" if counted["count"] == 1 else f"{counted['count']} times"
    place = "" if counted["kept_beside"] == "weights" else ", as far as this folder knows"
    return f"These weights were measured {times} on this test split{place} ({NAME})."

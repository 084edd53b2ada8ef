"""An empty place to write to: scikit-learn brings the digits."""

from __future__ import annotations

from pathlib import Path

OPTIONS: list[str] = ["--healthy", '["0"]', "--diseased", '["8"]', "--sample", "8"]
CHANNELS: int = 1


def build(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "README.txt").write_text("The digits come with scikit-learn; medanomaly data digits writes them to this folder.\n")

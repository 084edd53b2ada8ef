"""Benchmarks whose right tables are known: evaluation folders written by hand, and a stand-in for the commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medanomaly.config import from_dict
from medanomaly.evaluation.benchmark_cells import Cell, cells_of
from medanomaly.evaluation.benchmark_config import BenchmarkConfig
from medanomaly.evaluation.image_table import COLUMNS
from medanomaly.evaluation.measured_command import Ran

PLAN: dict[str, Any] = {
    "title": "Two methods",
    "main": "ours",
    "sets": [{"name": "set", "manifest": "manifest.csv", "title": "The set"}],
    "methods": [{"name": "ours", "preset": "a"}, {"name": "theirs", "preset": "b"}],
}
MEASURED = ("pixel AUROC", "pixel AP", "Dice @ val-Dice threshold", "Dice @ oracle (uses test labels)", "image AUROC")
Dices = Mapping[str, Sequence[float]]
"""Method -> Dice of each image with a lesion, image i of patient i unless said otherwise."""


def plan(**changes: Any) -> BenchmarkConfig:
    return from_dict(BenchmarkConfig, PLAN | changes, "benchmark")


def measured(name: str, value: float) -> dict[str, Any]:
    numbers = {"value": value, "low": value - 0.1, "high": value + 0.1, "confidence": 0.95, "num_images": 5, "num_patients": 5}
    return {"group": "pixels", "name": name, **numbers, "note": "threshold 0.5: mean per-image Dice on val (9 images)"}


def write_hand_evaluation(folder: Path, dices: Dices, *, value: float = 0.5, manifest: str = "m", healthy: int = 1) -> None:
    """An evaluation folder of methods with given Dice values (AP is the Dice halved); lesions have 10 of 100 px."""
    folder.mkdir(parents=True, exist_ok=True)
    count = len(next(iter(dices.values())))
    methods = [
        {"name": name, "seconds_per_image": 0.25, "measured": [measured(row, value) for row in MEASURED], "operating_points": []}
        for name in dices
    ]
    counts = {"num_images": count + healthy, "num_patients": count + healthy, "num_healthy": healthy, "num_diseased": count}
    cost = {name: {"parameters": 1234567, "evaluations": 75} for name in dices}
    facts = {"manifest_sha256": manifest, "cost": cost, "test_evaluations": {"count": 2, "kept_beside": "weights"}}
    content = {
        "title": "t",
        "healthy": "healthy",
        "counts": counts | {"num_with_lesion": count},
        "facts": facts,
        "methods": methods,
    }
    (folder / "evaluation.json").write_text(json.dumps(content))
    lines = [",".join(COLUMNS)]
    for name, values in dices.items():
        for index, dice in enumerate(values):
            lines.append(f"{name},i{index},p{index},diseased,1,0.5,{dice},{dice / 2},0.5,10,100,0.1")
        for index in range(healthy):
            lines.append(f"{name},h{index},q{index},healthy,0,0.5,,,,0,100,0.1")
    (folder / "images.csv").write_text("\n".join(lines) + "\n")


def record_of(cell: Cell, **changes: Any) -> dict[str, Any]:
    """What cell.json of a finished cell holds."""
    spent = {"seconds": 90.0, "cpu_seconds": 80.0, "peak_mib": 512.0, "interrupted": False, "status": "done"}
    steps = {"train": dict(spent), "evaluate": dict(spent)} if cell.train else {"evaluate": dict(spent)}
    facts = {"set": cell.set.name, "method": cell.method.name, "seed": cell.seed, "commands": ["medanomaly x"], "steps": steps}
    return facts | {"status": "done", "message": ""} | changes


def hand_benchmark(
    out: Path, ours: Sequence[float], theirs: Sequence[float], *, floors: Mapping[str, Sequence[float]] | None = None
) -> tuple[BenchmarkConfig, list[dict[str, Any]], list[Path]]:
    """A config of two methods, the records of its cells and their folders, written."""
    config = plan()
    cells = cells_of(config, out)
    write_hand_evaluation(cells[0].folder, {"Ours": ours, **(floors or {})}, value=0.75)
    write_hand_evaluation(cells[1].folder, {"Theirs": theirs}, value=0.5)
    return config, [record_of(cell) for cell in cells], [cell.folder for cell in cells]


class Commands:
    """Stands in for processes: notes what was asked for, writes what such a command would leave, fails or stops on request."""

    def __init__(self, **codes: int) -> None:
        self.codes = codes
        self.asked: list[str] = []

    def __call__(self, words: Sequence[str], log: Path, stop: Callable[[], bool]) -> Ran:
        place = Path(words[words.index("--out") + 1] if words[0] == "train" else words[3])
        name = f"{words[0]} {place.name}"
        self.asked.append(name)
        code = self.codes.get(name.replace(" ", "_").replace("-", "_"), 0)
        place.mkdir(parents=True, exist_ok=True)
        if code == 0:
            for made in ("model.safetensors",) if words[0] == "train" else ("evaluation.json", "images.csv"):
                (place / made).write_text(" ".join(words))
        message = "" if code == 0 else "medanomaly train: too bad [E_BAD]"
        return Ran(code=code, seconds=60.0, cpu_seconds=50.0, peak_mib=100.0, message=message, stopped=False)

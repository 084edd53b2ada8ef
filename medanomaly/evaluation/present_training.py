"""A folder of ``medanomaly train`` as a section of a report: loss and validation curves, thresholds, settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medanomaly.checkpoint import load_checkpoint
from medanomaly.errors import InputError, MedanomalyError
from medanomaly.evaluation.present_job import read_object
from medanomaly.evaluation.settings_table import settings_tables
from medanomaly.views.curves import line_figure, loss_figure
from medanomaly.views.report import Section, Table


def training_section(path: Path, lines: Sequence[Mapping[str, Any]]) -> Section:
    """One training run.

    Args:
        path: its folder.
        lines: of its log.jsonl, each with a step.

    Raises:
        InputError: E_MISSING, no line.
    """
    if not lines:
        raise InputError("has no log.jsonl with a step in it", code="E_MISSING", path=path, fix="run `medanomaly train` first")
    status = read_object(path / "status.json")
    last = lines[-1]
    name = path.resolve().name
    intro = f"Training of {name}: {status.get('status', 'status unknown')}, {last['step'] + 1} steps logged"
    intro += f" of {status['num_steps']}." if "num_steps" in status else "."
    skipped = sum(bool(line.get("skipped")) for line in lines)
    if skipped:
        intro += f" {skipped} logged steps were skipped because the loss or its gradient was not finite."
    return Section(
        title=f"Training: {name}",
        intro=intro,
        tables=[last_numbers(lines), *threshold_tables(path)],
        figures=training_figures(lines),
        details=settings_tables(read_object(path / "config.json")),
    )


def training_figures(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, bytes]]:
    """Loss with the validation loss on it, and what else was logged: learning rate, gradient norm."""

    def series(name: str) -> tuple[list[int], list[float]]:
        found = [(int(line["step"]), line[name]) for line in lines if name in line]
        return [step for step, _ in found], [math.nan if value is None else float(value) for _, value in found]

    made = []
    steps, values = series("loss")
    if steps:
        known = series("val_loss")
        made.append(
            ("Training loss, and the validation loss with the same noise each time", loss_figure(steps, values, validation=known))
        )
    for name, title in (("learning_rate", "Learning rate"), ("grad_norm", "Gradient norm before clipping")):
        steps, values = series(name)
        if len(steps) > 1:
            made.append((title, line_figure(steps, values, name=title)))
    return made


def last_numbers(lines: Sequence[Mapping[str, Any]]) -> Table:
    """The last logged value of everything."""
    last: dict[str, tuple[int, Any]] = {}
    for line in lines:
        last |= {name: (line["step"], value) for name, value in line.items() if name not in ("step", "skipped")}
    rows = [[name, "not finite" if value is None else f"{value:.4g}", str(step)] for name, (step, value) in last.items()]
    return Table(title="Last logged values", columns=["number", "value", "at step"], rows=rows)


def threshold_tables(path: Path) -> list[Table]:
    """Operating points of the finished checkpoint; [] where there is none yet, or none in it."""
    if not (path / "model.safetensors").is_file():
        return []
    try:
        header = load_checkpoint(path).header
    except MedanomalyError:
        return []
    rows = [
        [str(point["criterion"]), f"{point['value']:.4g}", f"{point['chosen_on']} ({point['num_images']} images)"]
        for point in header.get("operating_points", ())
    ]
    return [Table(title="Operating points", columns=["criterion", "threshold", "chosen on"], rows=rows)] if rows else []

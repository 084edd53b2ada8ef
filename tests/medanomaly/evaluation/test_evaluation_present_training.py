from pathlib import Path

import pytest
import torch

from medanomaly.checkpoint import save_checkpoint
from medanomaly.errors import InputError
from medanomaly.evaluation.present_training import training_figures, training_section
from medanomaly.files import write_json

LINES = [{"step": step, "loss": 1.0 / (step + 1), "learning_rate": 1e-3, "skipped": float(step == 2)} for step in range(5)]


def test_a_running_training_shows_its_curves_and_where_it_stands(tmp_path: Path) -> None:
    write_json(tmp_path / "status.json", {"status": "running", "step": 0, "num_steps": 9})
    write_json(tmp_path / "config.json", {"training": {"seed": 0, "flip": True, "sizes": [1, 2]}, "low": None})
    found = training_section(tmp_path, LINES)
    assert "running, 5 steps logged of 9." in found.intro
    assert "1 logged steps were skipped" in found.intro
    assert [caption for caption, _ in found.figures][1:] == ["Learning rate"]
    [table] = found.tables
    assert ["loss", "0.2", "4"] in [list(row) for row in table.rows]
    assert [list(row) for row in found.details[0].rows] == [
        ["training.seed", "0"],
        ["training.flip", "true"],
        ["training.sizes", "[1, 2]"],
        ["low", "none"],
    ]


def test_a_finished_training_shows_its_operating_points(tmp_path: Path) -> None:
    point = {"criterion": "mean per-image Dice", "value": 0.25, "chosen_on": "val", "num_images": 7}
    save_checkpoint(tmp_path / "model.safetensors", {"a": torch.zeros(1)}, {"operating_points": [point]})
    table = training_section(tmp_path, LINES).tables[1]
    assert [list(row) for row in table.rows] == [["mean per-image Dice", "0.25", "val (7 images)"]]


def test_the_validation_loss_is_drawn_on_the_loss() -> None:
    validated = [*LINES[:-1], LINES[-1] | {"val_loss": 0.7}]
    assert training_figures(LINES)[0][1] != training_figures(validated)[0][1]


def test_a_loss_that_was_not_finite_is_said(tmp_path: Path) -> None:
    found = training_section(tmp_path, [*LINES, {"step": 5, "loss": None}])
    assert ["loss", "not finite", "5"] in [list(row) for row in found.tables[0].rows]


def test_an_empty_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E_MISSING"):
        training_section(tmp_path, [])

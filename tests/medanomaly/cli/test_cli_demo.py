"""The demo from end to end, with tiny weights in place of the shipped ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cli_builders import tiny_checkpoint, write_labelled
from toys import SIDE, tiny_config

from medanomaly.cli import demo
from medanomaly.cli.main import main
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.methods.experiment import Experiment
from medanomaly.presets import phantom64_cfg

NUM_STEPS = 3


def tiny_preset() -> Experiment:
    training = replace(phantom64_cfg().training, batch_size=2, precision="fp32")
    return Experiment(name="tiny", method=tiny_config(), preprocess=PreprocessConfig(image_size=SIDE), training=training)


@pytest.fixture
def small_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where the names of the shipped weights mean tiny ones, and the example X-rays are noise."""
    monkeypatch.chdir(tmp_path)
    for name in ("phantom64-cfg", "cxr64-cfg"):
        tiny_checkpoint(tmp_path / name)
    chests = write_labelled(tmp_path / "chests", [("a", "healthy", "test"), ("b", "diseased", "test")], masks=False)
    monkeypatch.setattr(demo, "CHEST_XRAYS", chests)
    monkeypatch.setattr(demo, "phantom64_cfg", tiny_preset)
    return tmp_path


def test_the_demo_leaves_a_report_pictures_and_tables_and_can_be_run_again(
    small_world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["demo", "--out", "shown", "--num-patients", "5", "--train-steps", str(NUM_STEPS), "--num-resamples", "5"]
    for _ in range(2):
        assert main(words) == 0
        out = capsys.readouterr().out
        assert out.count("| metric") == 2
        assert "Chest X-rays (pneumonia): 2 images, 2 patients" in out
        assert "Not for diagnosis." in out
    shown = small_world / "shown"
    for name in ("report.html", "phantoms.png", "chest-xrays.png", "evaluation-phantoms/table.md", "short-training/log.jsonl"):
        assert (shown / name).stat().st_size > 0, name
    page = (shown / "report.html").read_text()
    assert f"Loss of the {NUM_STEPS}-step training of this demo" in page
    assert "not for diagnosis" in page.lower()


def test_without_a_folder_the_demo_writes_demo_output(small_world: Path) -> None:
    assert main(["demo", "--num-patients", "5", "--train-steps", str(NUM_STEPS), "--num-resamples", "5"]) == 0
    assert (small_world / "demo-output" / "report.html").is_file()


def test_outside_of_a_checkout_the_demo_says_so_at_once(
    small_world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "CHEST_XRAYS", small_world / "absent.csv")
    assert main(["demo"]) == 4
    assert "the example X-rays are not here [E_MISSING]; run the demo from a checkout" in capsys.readouterr().err
    assert not (small_world / "demo-output").exists()

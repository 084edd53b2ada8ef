"""scripts/heatmap.py: DICOM in, DICOM out, and a folder that fills while it is watched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_canaries import IDENTITY, traces, write_source
from seed_builders import ROOT, run
from toys import SIDE, tiny_config, tiny_method

from medanomaly.checkpoint import save_checkpoint
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.methods.experiment import Experiment
from medanomaly.scoring.operating_point import OperatingPoint
from medanomaly.training.config import TrainingConfig

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random 16 x 16 network with a threshold, as training would leave it."""
    folder = tmp_path_factory.mktemp("weights")
    method = tiny_method(tiny_config(sampler=SamplerConfig(noise_level=400, num_steps=2)))
    experiment = Experiment(
        name="tiny", method=method.config, preprocess=PreprocessConfig(image_size=SIDE), training=TrainingConfig(num_steps=1)
    )
    point = OperatingPoint(
        value=0.3, criterion="mean per-image Dice", chosen_on="val", target=None, num_images=2, image_fingerprint=()
    )
    header = {
        "experiment": experiment.to_dict(),
        "step": 1,
        "operating_points": [point.to_dict()],
        "provenance": {"seen_images": []},
    }
    save_checkpoint(folder / "model.safetensors", method.denoiser.state_dict(), header)
    return folder


def write_film(path: Path, seed: int) -> Path:
    return write_source(path, np.random.default_rng(seed).integers(0, 256, (16, 20), dtype=np.uint8))


def lines_of(out: Path) -> dict[str, dict[str, object]]:
    path = out / "report.jsonl"
    rows = [json.loads(text) for text in path.read_text().splitlines()] if path.is_file() else []
    return {row["id"]: row for row in rows}


def wait_for(condition: Callable[[], bool], seconds: float = 250) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.1)


def test_a_study_tree_becomes_dicom_without_identity(weights: Path, tmp_path: Path) -> None:
    for name in ("study/series1/a.dcm", "study/series2/a.dcm"):
        write_film(tmp_path / "in" / name, len(name))
    made = run("heatmap.py", weights, tmp_path / "in", tmp_path / "out", "--device", "cpu")
    assert made.returncode == 0, made.stderr
    for kind, modality in (("sc", "OT"), ("seg", "SEG"), ("pm", "OT")):
        files = list((tmp_path / "out" / kind).iterdir())
        assert len(files) == 2
        assert {pydicom.dcmread(path).Modality for path in files} == {modality}
        assert [traces(path, IDENTITY) for path in files] == [[], []]


def test_a_watched_folder_is_done_as_it_fills_and_the_watch_ends_cleanly(weights: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write_film(source / "first.dcm", 0)
    words = [sys.executable, "scripts/heatmap.py", weights, source, out, "--watch", "0.3", "--device", "cpu", "--to", "pm"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (tmp_path / "said.txt").open("w") as said:
        process = subprocess.Popen(list(map(str, words)), cwd=ROOT, env=environment, stdout=said, stderr=said)
        try:
            wait_for(lambda: "first.dcm" in lines_of(out) or process.poll() is not None)
            whole = write_film(tmp_path / "aside.dcm", 1).read_bytes()
            with (source / "late.dcm").open("wb") as stream:
                for start in range(0, len(whole), 100):
                    stream.write(whole[start : start + 100])
                    stream.flush()
                    time.sleep(0.05)
            wait_for(lambda: lines_of(out).get("late.dcm", {}).get("status") == "ok" or process.poll() is not None)
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=200)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0, (tmp_path / "said.txt").read_text()
    lines = lines_of(out)
    assert {name: line["status"] for name, line in lines.items()} == {"first.dcm": "ok", "late.dcm": "ok"}


def test_a_watch_over_its_own_output_is_refused(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    made = run("heatmap.py", weights, tmp_path / "in", tmp_path / "in" / "out", "--watch", "1")
    assert made.returncode == 2
    assert "E_CONFIG" in made.stderr

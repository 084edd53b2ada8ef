"""The scripts that measure speed run, and count what they say they count."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import SIDE, TINY

from benchmarks import evaluate_cost, network_speed
from benchmarks.network_speed import Variant, measured
from medanomaly.diffusion.unet import Denoiser


def test_every_variant_is_measured_and_compared_with_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = Denoiser(TINY, image_channels=1, classes=())
    monkeypatch.setattr(network_speed, "denoiser_of", lambda _name: (tiny, SIDE))
    words = ["mnist-ddpm", "--precision", "fp32", "bf16", "--batch", "1", "2", "--repeats", "1", "--device", "cpu"]
    assert network_speed.main([*words, "--out", str(tmp_path / "speed.json")]) == 0
    found = json.loads((tmp_path / "speed.json").read_text())
    assert [row["layout"] for row in found["rows"]] == 2 * [layout for layout in ("first", "last", "ready") for _ in range(2)]
    assert found["rows"][0]["speed"] == 1
    assert found["gflop_per_evaluation"] > 0
    assert network_speed.main([*words[:-2], "--what", "training", "--batch", "1", "--device", "cpu"]) == 0
    with pytest.raises(SystemExit, match="not trained"):
        network_speed.main([*words, "--layout", "ready", "--what", "training"])


def test_speed_is_of_images_and_not_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.0, 2.0])
    monkeypatch.setattr(network_speed, "seconds", lambda _call, _device: next(times))
    one, four = (Variant(precision="fp32", layout="first", compiled="no", batch=batch) for batch in (1, 4))
    rows = measured({one: lambda: None, four: lambda: None}, torch.device("cpu"), 1)
    assert [row["speed"] for row in rows] == [1.0, 2.0]
    assert [row["images_per_s"] for row in rows] == [1.0, 2.0]


def test_measuring_is_measured_on_sets_with_and_without_lesions(tmp_path: Path) -> None:
    words = ["--num-images", "8", "--size", "24", "--num-resamples", "10", "--num-validation", "6"]
    assert evaluate_cost.main([*words, "--out", str(tmp_path / "cost.json")]) == 0
    found = json.loads((tmp_path / "cost.json").read_text())
    assert found["num_numbers"] > 20
    assert found["peak_mib"] >= found["peak_mib_before_measuring"] >= found["peak_mib_of_python"] > 0
    healthy, diseased = (evaluate_cost.drawn(index, 64, prefix="x") for index in (0, 1))
    assert healthy.mask is not None
    assert diseased.mask is not None
    assert not healthy.mask.any()
    assert diseased.anomaly_map[diseased.mask].mean() > diseased.anomaly_map[~diseased.mask].mean()
    assert np.isfinite(diseased.anomaly_map).all()

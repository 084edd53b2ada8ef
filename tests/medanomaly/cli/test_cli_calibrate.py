"""Weights get other map settings and thresholds of other val images; what they learnt, and the test images, stay untouched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cli_builders import write_labelled

from medanomaly.checkpoint import load_checkpoint
from medanomaly.cli.export import calibrated
from medanomaly.cli.main import main
from medanomaly.files import sha256_of

ROWS = [(f"v{n}", ("healthy", "diseased")[n % 2], "val") for n in range(6)]
ROWS += [("t1", "healthy", "test"), ("t2", "diseased", "test")]


def calibrate(checkpoint: Path, manifest: Path, out: Path, *options: object) -> int:
    words = ["calibrate", checkpoint, manifest, out, "--device", "cpu", "--quiet", "true", *options]
    return main([str(word) for word in words])


def test_the_weights_stay_and_the_map_the_thresholds_and_the_provenance_are_new(checkpoint: Path, tmp_path: Path) -> None:
    manifest = write_labelled(tmp_path, ROWS)
    for name in ("6.png", "7.png", "7-mask.png"):  # of the test rows: never opened
        (tmp_path / name).unlink()
    assert calibrate(checkpoint, manifest, tmp_path / "out", "--method.map.change", "brighter") == 0
    old, new = load_checkpoint(checkpoint), load_checkpoint(tmp_path / "out")
    assert old.tensors.keys() == new.tensors.keys()
    assert all(torch.equal(old.tensors[name], new.tensors[name]) for name in old.tensors)
    assert new.header["experiment"]["method"]["map"]["change"] == "brighter"
    assert new.header["operating_points"] != old.header.get("operating_points", [])
    assert all(point["chosen_on"].startswith("val") for point in new.header["operating_points"])
    seen = {sha256_of(tmp_path / f"{n}.png")[:12] for n in range(6)}
    assert seen <= set(new.header["provenance"]["seen_images"])
    assert new.header["provenance"]["calibrated"]["num_val_images"] == 6
    assert "on 6 validation images" in calibrated(new.header["provenance"])
    assert calibrated(old.header["provenance"]) == ""
    assert main(["localize", str(tmp_path / "out"), str(tmp_path / "0.png"), str(tmp_path / "maps"), "--quiet", "true"]) == 0


def test_a_calibration_on_healthy_images_comes_and_goes(checkpoint: Path, tmp_path: Path) -> None:
    manifest = write_labelled(tmp_path, ROWS)
    assert calibrate(checkpoint, manifest, tmp_path / "z", "--method.map.healthy-z", "true") == 0
    assert "calibration.mean" in load_checkpoint(tmp_path / "z").tensors
    assert calibrate(tmp_path / "z", manifest, tmp_path / "raw", "--method.map.healthy-z", "false") == 0
    assert load_checkpoint(tmp_path / "raw").tensors.keys() == load_checkpoint(checkpoint).tensors.keys()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--method.schedule.num-levels", 500), "method.schedule differs"),
        (("--method.map.chnge", "darker"), "did you mean --method.map.change?"),
        (("--method.map.change", "up"), "--method.map.change"),
    ],
)
def test_only_the_sampler_and_the_map_can_be_changed(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[object, ...], said: str
) -> None:
    manifest = write_labelled(tmp_path, ROWS)
    assert calibrate(checkpoint, manifest, tmp_path / "out", *options) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_val_rows_or_over_an_earlier_file_nothing_is_written(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_labelled(tmp_path, [row for row in ROWS if row[2] != "val"])
    assert calibrate(checkpoint, manifest, tmp_path / "out") == 4
    assert "no labelled val rows" in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.safetensors").write_bytes(b"earlier")
    assert calibrate(checkpoint, write_labelled(tmp_path, ROWS), tmp_path / "out") == 2
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == b"earlier"


def test_help_says_what_it_does_without_a_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--help"]) == 0
    assert "CHECKPOINT MANIFEST OUT" in capsys.readouterr().out
    assert main(["calibrate"]) == 2

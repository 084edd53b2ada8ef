"""An evaluation tells groups of images apart where its manifest does; and a setting of another method is no setting of this one."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from cli_builders import write_labelled

from medanomaly.cli.main import main


def evaluate(checkpoint: Path, manifest: Path, out: Path, *options: object) -> int:
    words = ["evaluate", checkpoint, manifest, out, "--device", "cpu", "--num-resamples", 5, "--floors", "false", *options]
    return main([str(word) for word in words])


def test_numbers_by_view_lie_beside_the_table_and_do_not_outlive_the_column(checkpoint: Path, tmp_path: Path) -> None:
    patients = [(f"t{index}", "diseased" if index % 2 else "healthy", "test") for index in range(24)]
    manifest = write_labelled(tmp_path, [("v1", "healthy", "val"), ("v2", "diseased", "val"), *patients])
    plain = manifest.read_text()
    header, *lines = plain.splitlines()
    views = ["PA" if index < 22 else "AP" for index in range(len(lines))]
    manifest.write_text(
        "\n".join([f"{header},view", *(f"{line},{view}" for line, view in zip(lines, views, strict=True))]) + "\n"
    )
    assert evaluate(checkpoint, manifest, tmp_path / "out") == 0
    rows = list(csv.DictReader((tmp_path / "out" / "subgroups.csv").read_text().splitlines()))
    found = {(row["group"], row["name"]): row for row in rows}
    assert {row["column"] for row in rows} == {"view"}
    # 20 of the test patients are PA, half of them diseased; 4 are too few.
    assert (found["PA", "image AUROC"]["num_patients"], found["AP", "image AUROC"]["num_patients"]) == ("20", "4")
    assert 0 <= float(found["PA", "image AUROC"]["value"]) <= 1
    assert found["AP", "image AUROC"]["value"] == ""
    assert "By view: subgroups.csv" in (tmp_path / "out" / "table.md").read_text()
    manifest.write_text(plain)
    assert evaluate(checkpoint, manifest, tmp_path / "out", "--overwrite", "true") == 0
    assert not (tmp_path / "out" / "subgroups.csv").exists()
    assert "subgroups.csv" not in (tmp_path / "out" / "table.md").read_text()


def test_the_scale_of_a_gradient_is_no_setting_of_a_method_without_one(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_labelled(tmp_path, [("v1", "healthy", "val"), ("t1", "healthy", "test")])
    assert evaluate(checkpoint, manifest, tmp_path / "out", "--gradient-scale", 3) == 2
    assert "gradient_scale" in capsys.readouterr().err

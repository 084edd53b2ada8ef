"""Numbers are refused where they would be worthless, and kept where a part of them can be known."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_builders import picture, write_labelled, write_png

from medanomaly.cli.evaluate import resolve_checkpoint
from medanomaly.cli.main import main

VALIDATION = [("v1", "healthy", "val"), ("v2", "diseased", "val")]


def evaluate(checkpoint: Path, manifest: Path, out: Path, *options: object) -> int:
    words = ["evaluate", checkpoint, manifest, out, "--device", "cpu", "--num-resamples", 20, *options]
    return main([str(word) for word in words])


def table_of(out: Path) -> dict[str, list[str]]:
    """Row name -> its cells."""
    lines = [line for line in (out / "table.md").read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {row[0]: row[1:] for row in cells}


@pytest.mark.parametrize("label", ["healthy", "diseased"])
def test_a_test_set_of_one_class_gives_a_table_without_the_numbers_that_need_two(
    label: str, checkpoint: Path, tmp_path: Path
) -> None:
    manifest = write_labelled(tmp_path, [*VALIDATION, ("t1", label, "test"), ("t2", label, "test")])
    assert evaluate(checkpoint, manifest, tmp_path / "out") == 0
    table = table_of(tmp_path / "out")
    assert table["metric"] == ["CFG diffusion", "brightness", "blur residual", "random"]
    assert "image AUROC" not in table
    # A floor makes no healthy twin, so there is nothing to compare outside of lesions.
    assert table["SSIM outside lesions"][1:] == ["n/a"] * 3
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert content["curves"] == dict.fromkeys(table["metric"])
    assert main(["report", str(tmp_path / "out")]) == 0


def test_a_test_image_without_a_label_or_mask_is_listed_and_counted_nowhere_else(checkpoint: Path, tmp_path: Path) -> None:
    manifest = write_labelled(tmp_path, [*VALIDATION, ("t1", "healthy", "test"), ("t2", "diseased", "test"), ("t3", "", "test")])
    assert evaluate(checkpoint, manifest, tmp_path / "out") == 0
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert {name: content["counts"][name] for name in ("num_images", "num_healthy", "num_diseased")} == {
        "num_images": 3,
        "num_healthy": 1,
        "num_diseased": 1,
    }
    auroc = next(row for row in content["methods"][0]["measured"] if row["name"] == "image AUROC")
    assert auroc["num_images"] == 2
    rows = list(csv.DictReader((tmp_path / "out" / "images.csv").read_text().splitlines()))
    assert {row["id"] for row in rows} == {"i2", "i3", "i4"}


def test_a_mask_of_another_size_is_refused_with_both_sizes(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_labelled(tmp_path, [*VALIDATION, ("t1", "healthy", "test"), ("t2", "diseased", "test")])
    write_png(tmp_path / "3-mask.png", np.zeros((8, 16), np.uint8))
    assert evaluate(checkpoint, manifest, tmp_path / "out", "--quiet", "true") == 4
    err = capsys.readouterr().err
    assert "3-mask.png: is a mask of (8, 16) rows x columns for an image of (16, 16) [E_MASK_SIZE]" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out" / "evaluation.json").exists()


def test_a_manifest_without_test_rows_is_refused(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(checkpoint, write_labelled(tmp_path, VALIDATION), tmp_path / "out") == 4
    assert "has no test rows [E_SPLIT]; fill the split column" in capsys.readouterr().err


def test_without_validation_images_the_thresholds_of_the_checkpoint_are_used(checkpoint: Path, tmp_path: Path) -> None:
    manifest = write_labelled(tmp_path, [("t1", "healthy", "test"), ("t2", "diseased", "test")])
    assert evaluate(checkpoint, manifest, tmp_path / "out") == 0
    methods = json.loads((tmp_path / "out" / "evaluation.json").read_text())["methods"]
    assert [[point["value"] for point in method["operating_points"]] for method in methods] == [[0.3], [], [], []]


def test_an_output_folder_that_cannot_be_is_refused_before_anything_is_computed(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_labelled(tmp_path, [*VALIDATION, ("t1", "healthy", "test"), ("t2", "diseased", "test")])
    assert evaluate(checkpoint, manifest, manifest / "out") == 6
    err = capsys.readouterr().err
    assert "[E_OUTPUT]" in err
    assert err.count("\n") == 1  # no progress bar was shown


def test_floors_may_be_left_out_and_images_be_limited(checkpoint: Path, tmp_path: Path) -> None:
    rows = [*VALIDATION, *((f"t{n}", ("healthy", "diseased")[n % 2], "test") for n in range(6))]
    manifest = write_labelled(tmp_path, rows)
    assert evaluate(checkpoint, manifest, tmp_path / "out", "--floors", "false", "--max-images", 4, "--title", "My set") == 0
    assert table_of(tmp_path / "out")["metric"] == ["CFG diffusion"]
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert content["counts"]["num_images"] == 4
    assert (tmp_path / "out" / "table.md").read_text().startswith("# My set\n")


def test_cases_of_an_earlier_evaluation_do_not_stay_behind(checkpoint: Path, tmp_path: Path) -> None:
    manifest = write_labelled(tmp_path, [*VALIDATION, *((f"t{n}", "healthy", "test") for n in range(4))])
    assert evaluate(checkpoint, manifest, tmp_path / "out") == 0
    assert len(list((tmp_path / "out" / "cases").iterdir())) == 4
    assert evaluate(checkpoint, manifest, tmp_path / "out", "--max-cases", 1, "--overwrite", "true") == 0
    assert len(list((tmp_path / "out" / "cases").iterdir())) == 1


def test_an_image_that_cannot_be_read_stops_an_evaluation_with_its_name(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_labelled(tmp_path, [*VALIDATION, ("t1", "healthy", "test"), ("t2", "diseased", "test")])
    (tmp_path / "2.png").write_bytes(b"")
    assert evaluate(checkpoint, manifest, tmp_path / "out", "--quiet", "true") == 4
    assert "2.png: is empty (0 bytes) [E_EMPTY]" in capsys.readouterr().err


def test_a_path_that_exists_wins_over_shipped_weights_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_png(tmp_path / "mine" / "x.png", picture(0))
    assert resolve_checkpoint(Path("mine")) == Path("mine")
    assert resolve_checkpoint(Path("absent")) == Path("absent")


def test_how_often_weights_were_tested_and_what_they_cost_stand_with_the_numbers(checkpoint: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(checkpoint, tmp_path / "own", ignore=shutil.ignore_patterns("test_evaluations.jsonl")))
    manifest = write_labelled(tmp_path, [*VALIDATION, ("t1", "healthy", "test"), ("t2", "diseased", "test")])
    for count, said in ((1, "measured once"), (2, "measured 2 times")):
        assert evaluate(own, manifest, tmp_path / f"out{count}") == 0
        assert f"* These weights were {said} on this test split" in (tmp_path / f"out{count}" / "table.md").read_text()
        facts = json.loads((tmp_path / f"out{count}" / "evaluation.json").read_text())["facts"]
        assert facts["test_evaluations"] == {"count": count, "kept_beside": "weights"}
    # Two steps to encode, two guided ones to decode; floors have no network.
    assert [one["evaluations"] for one in facts["cost"].values()] == [6, 0, 0, 0]
    assert facts["cost"]["CFG diffusion"]["parameters"] > 10_000
    assert len((own / "test_evaluations.jsonl").read_text().splitlines()) == 2

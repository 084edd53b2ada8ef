"""From nothing to a report and back: every command on one tiny phantom set, each working on what the one before wrote."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_builders import TINY_TRAINING, output_of, report_lines, written
from PIL import Image
from safetensors.torch import load_file

from medanomaly.cli.main import main

FLOORS = ("brightness", "blur residual", "random")


@dataclass(frozen=True, kw_only=True)
class Made:
    """Where each command of the pipeline wrote."""

    phantoms: Path
    run: Path
    evaluation: Path
    release: Path
    maps: Path

    @property
    def manifest(self) -> Path:
        return self.phantoms / "manifest.csv"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("pipeline")
    here = Made(**{name: root / name for name in ("phantoms", "run", "evaluation", "release", "maps")})
    sizes = ("--num-patients", "12", "--images-per-patient", "1", "--image-size", "32", "--fractions", "[0.34,0.33,0.33]")
    card = ("--command", "medanomaly train", "--data-note", "Drawn phantoms.", "--evaluation", here.evaluation)
    commands: list[list[object]] = [
        ["data", "phantom", here.phantoms, *sizes],
        ["data", "check", here.manifest, "--deep", "true"],
        ["train", "phantom64-cfg", "--data", here.manifest, "--out", here.run, *TINY_TRAINING, "--licence", "CC0-1.0"],
        ["evaluate", here.run, here.manifest, here.evaluation, "--num-resamples", "20", "--device", "cpu"],
        ["report", here.evaluation],
        ["export", here.run, here.release, *card],
        ["localize", here.release, here.phantoms / "images", here.maps, "--device", "cpu"],
    ]
    for words in commands:
        assert main([str(word) for word in words]) == 0, words[:2]
    return here


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def strict_json(path: Path) -> Any:
    """The content; fails on NaN and infinity, which are not JSON."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} in {path.name}")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_each_command_leaves_the_files_it_promises(made: Made) -> None:
    for folder, names in {
        made.phantoms: ("manifest.csv", "images", "masks", "healthy_twins"),
        made.run: ("model.safetensors", "config.json", "run.json", "log.jsonl", "status.json", "train_state.pt"),
        made.evaluation: ("evaluation.json", "table.md", "table.csv", "images.csv", "cases", "report.html"),
        made.release: ("model.safetensors", "MODEL_CARD.md"),
        made.maps: ("config.json", "run.json", "report.jsonl", "status.json"),
    }.items():
        assert set(names) <= {path.name for path in folder.iterdir()}
        assert not list(folder.rglob("*.tmp-*"))


def test_every_json_file_is_json_without_nan(made: Made) -> None:
    files = [path for folder in (made.run, made.evaluation, made.maps) for path in folder.rglob("*.json")]
    assert len(files) == 10
    for path in files:
        assert strict_json(path)


def test_the_evaluation_measures_the_test_split_and_only_it(made: Made) -> None:
    test = [row["id"] for row in rows_of(made.manifest) if row["split"] == "test"]
    content = strict_json(made.evaluation / "evaluation.json")
    assert content["counts"]["num_images"] == len(test) == 4
    lines = rows_of(made.evaluation / "images.csv")
    for method in ("CFG diffusion", *FLOORS):
        assert sorted(line["id"] for line in lines if line["method"] == method) == sorted(test)
    measured = {row["name"]: row for row in content["methods"][0]["measured"]}
    assert measured["image AUROC"]["num_images"] == 4
    assert {point["chosen_on"] for method in content["methods"] for point in method["operating_points"]} == {"val"}


def test_the_table_stands_beside_both_floors(made: Made) -> None:
    heads = [line for line in (made.evaluation / "table.md").read_text().splitlines() if line.startswith("| metric")]
    assert heads
    for head in heads:
        assert [cell.strip() for cell in head.split("|")[1:-1]] == ["metric", "CFG diffusion", *FLOORS]


def test_the_report_needs_no_network_and_says_it_is_not_for_diagnosis(made: Made) -> None:
    page = (made.evaluation / "report.html").read_text()
    assert not re.findall(
        r"""(?:https?:)?//[A-Za-z0-9-]+\.[A-Za-z]|(?:src|href)=["'](?!data:|#)""", re.sub(r"base64,[^\"']*", "", page)
    )
    assert "not for diagnosis" in page.lower()
    assert page.count("data:image/png;base64,") > 10
    assert all(name in page for name in FLOORS)


def test_the_release_holds_the_weights_at_half_the_size_and_a_card(made: Made) -> None:
    full, half = load_file(made.run / "model.safetensors"), load_file(made.release / "model.safetensors")
    assert full.keys() == half.keys()
    for name, value in full.items():
        np.testing.assert_allclose(half[name].float(), value, atol=2e-3)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (made.release, made.run)]
    assert sizes[0] < 0.7 * sizes[1]
    card = (made.release / "MODEL_CARD.md").read_text()
    assert "not for diagnosis" in card.lower()
    assert "4 images of 4 patients" in card
    assert "    medanomaly train\n" in card
    assert "Drawn phantoms." in card
    assert "| image AUROC" in card
    assert "CC0-1.0" in card


def test_localize_writes_every_kind_of_picture_at_native_size(made: Made) -> None:
    lines = report_lines(made.maps)
    assert [line["status"] for line in lines] == ["ok"] * 12
    assert len(written(made.maps)) == 6 * 12
    name = lines[0]["id"]
    anomaly_map = np.load(output_of(made.maps, name, "maps"))
    assert anomaly_map.shape == (32, 32)
    assert anomaly_map.dtype == np.float32
    assert anomaly_map.min() >= 0
    for kind, mode in (("masks", {"1", "L"}), ("overlays", {"RGB"}), ("pseudo_healthy", {"L"}), ("images", {"L"})):
        with Image.open(output_of(made.maps, name, kind)) as image:
            assert image.size == (32, 32)
            assert image.mode in mode


def test_no_file_names_the_folder_it_was_made_in(made: Made) -> None:
    place = str(made.run.parent).encode()
    for folder in (made.run, made.evaluation, made.release, made.maps):
        for path in (path for path in folder.rglob("*") if path.is_file()):
            assert place not in path.read_bytes(), path


def test_training_again_does_no_step_and_gives_equal_weights(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    before, log = load_file(made.run / "model.safetensors"), (made.run / "log.jsonl").read_bytes()
    assert main(["train", "phantom64-cfg", "--data", str(made.manifest), "--out", str(made.run), *TINY_TRAINING]) == 0
    assert "step 0:" not in capsys.readouterr().err
    after = load_file(made.run / "model.safetensors")
    assert all(bool((after[name] == value).all()) for name, value in before.items())
    assert (made.run / "log.jsonl").read_bytes() == log
    assert [json.loads(line)["step"] for line in log.splitlines()] == [0, 1, 2]


def test_an_image_that_was_trained_on_is_refused_as_a_test_image(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    stolen = made.phantoms / "stolen.csv"
    stolen.write_text(made.manifest.read_text().replace(",train,", ",test,"))
    assert main(["evaluate", str(made.run), str(stolen), str(made.run.parent / "never"), "--device", "cpu"]) == 4
    err = capsys.readouterr().err
    assert "4 test images were seen in training or validation of this checkpoint" in err
    assert "[E_SEEN]" in err
    assert not (made.run.parent / "never").exists()


def test_an_earlier_result_is_replaced_only_on_request(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate = ["evaluate", str(made.run), str(made.manifest), str(made.evaluation), "--device", "cpu", "--quiet", "true"]
    evaluate += ["--num-resamples", "20", "--max-cases", "2"]
    export = ["export", str(made.run), str(made.release), "--command", "again", "--data-note", "x"]
    phantom = ["data", "phantom", str(made.phantoms)]
    for words in (evaluate, export, phantom):
        before = {path: path.stat().st_mtime_ns for path in made.run.parent.rglob("*")}
        assert main(words) == 2
        assert "[E_EXISTS]" in capsys.readouterr().err
        assert {path: path.stat().st_mtime_ns for path in made.run.parent.rglob("*")} == before
    assert main([*evaluate, "--overwrite", "true"]) == 0
    assert len(list((made.evaluation / "cases").iterdir())) == 2
    assert main([*export, "--overwrite", "true"]) == 0
    assert "    again\n" in (made.release / "MODEL_CARD.md").read_text()

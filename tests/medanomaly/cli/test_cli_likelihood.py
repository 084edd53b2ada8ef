"""Bits/dim by the command: same numbers in any batch, honest about levels and variance, and nothing seen in training."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from cli_builders import tiny_checkpoint, write_labelled

from medanomaly.checkpoint import load_checkpoint, save_checkpoint
from medanomaly.cli.main import main
from medanomaly.files import sha256_of

ROWS = [("a", "healthy", "test"), ("a", "diseased", "test"), ("b", "healthy", "test"), ("c", "", "val"), ("d", "odd", "val")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled(tmp_path_factory.mktemp("data"), ROWS, masks=False)


def likelihood(checkpoint: Path, data: Path, out: Path, *options: object) -> int:
    words = ["likelihood", checkpoint, data, out, "--device", "cpu", "--quiet", "true", "--num-levels", "3", *options]
    return main([str(word) for word in words])


def images_of(out: Path) -> list[dict[str, str]]:
    with (out / "images.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_terms_sum_to_the_total_and_files_say_what_was_done(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    assert likelihood(checkpoint, data, tmp_path / "out") == 0
    content = json.loads((tmp_path / "out" / "likelihood.json").read_text())
    total, prior, middle, decoder = (row["value"] for row in content["rows"])
    assert total == pytest.approx(prior + middle + decoder)
    assert content["rows"][0]["low"] <= total <= content["rows"][0]["high"]
    assert (content["rows"][0]["num_images"], content["rows"][0]["num_patients"]) == (3, 2)
    assert next(row["first_level"] for row in content["curve"]) == 2
    assert content["curve"][-1]["last_level"] == 1000
    text = (tmp_path / "out" / "table.md").read_text()
    assert "learned variance; levels 2..1000 by one drawn level in each of 3 ranges, an unbiased estimate" in text
    assert "The model was told no class." in text
    assert "the null class of a CFG checkpoint" in text
    rows = images_of(tmp_path / "out")
    assert [row["id"] for row in rows] == ["i0", "i1", "i2"]
    assert sum(float(row["total"]) for row in rows) / 3 == pytest.approx(total)
    assert (tmp_path / "out" / "curve.png").read_bytes()[:4] == b"\x89PNG"
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["seconds"] is not None
    assert len(run["weights_sha256"]) == 64
    assert json.loads((tmp_path / "out" / "status.json").read_text()) == {"status": "done", "num_images": 3}


def test_an_images_bits_do_not_depend_on_its_batch_and_do_on_class_variance_and_seed(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    changes: dict[str, tuple[object, ...]] = {
        "plain": (),
        "batch": ("--batch-size", 1),
        "class": ("--conditional", "true"),
        "fixed": ("--variance", "beta"),
        "seed": ("--seed", 1),
    }
    found = {}
    for name, options in changes.items():
        assert likelihood(checkpoint, data, tmp_path / name, *options) == 0
        found[name] = [float(row["total"]) for row in images_of(tmp_path / name)]
    assert found["batch"] == pytest.approx(found["plain"], rel=1e-4)
    for name in ("class", "fixed", "seed"):
        assert found[name] != pytest.approx(found["plain"], rel=1e-3), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--split", "train"), "has no train rows [E_SPLIT]"),
        (("--split", "val", "--conditional", "true"), "has no label [E_LABEL]"),
        (("--num-levels", "1000"), "must be in 1..999, got 1000"),
        (("--variance", "large"), "variance must be one of auto, learned"),
        (("--batch-size", "0"), "batch_size must be at least 1"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    checkpoint: Path, data: Path, tmp_path: Path, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert likelihood(checkpoint, data, tmp_path / "out", *options) in (2, 4)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "likelihood.json").exists()


def test_an_unknown_class_is_refused_by_name(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_labelled(tmp_path / "data", [("a", "odd", "test")], masks=False)
    assert likelihood(checkpoint, data, tmp_path / "out", "--conditional", "true") == 2
    assert "class 'odd' is unknown" in capsys.readouterr().err


def test_an_earlier_result_is_kept(checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "likelihood.json").write_text("earlier")
    assert likelihood(checkpoint, data, tmp_path) == 2
    assert "[E_EXISTS]" in capsys.readouterr().err
    assert (tmp_path / "likelihood.json").read_text() == "earlier"


def test_test_images_that_the_model_has_seen_are_refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny_checkpoint(tmp_path / "seen")
    stored = load_checkpoint(folder)
    header = {**stored.header, "provenance": {"seen_images": [sha256_of(data.parent / "2.png")[:12]]}}
    save_checkpoint(folder / "model.safetensors", stored.tensors, header)
    assert likelihood(folder, data, tmp_path / "out") == 4
    assert "1 of 3 images were seen by the model" in capsys.readouterr().err

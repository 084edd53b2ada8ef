"""Every published data set, from its tiny tree through the whole main job: manifest, check, training, localization, evaluation."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from toys import SIDE

from medanomaly.cli.main import main
from medanomaly.datasets.manifest import read_manifest
from medanomaly.datasets.public import PUBLIC_SETS

ROOT = Path(__file__).resolve().parents[1]
TEXT = (".csv", ".json", ".txt", ".md")
TINY = (
    *("--preprocess.image-size", "16", "--method.network.channels", "[16,16]", "--method.network.attention", "[false,true]"),
    *("--method.network.head-channels", "16", "--method.network.norm-groups", "8"),
    *("--method.sampler.noise-level", "400", "--method.sampler.num-steps", "2"),
    *("--training.num-steps", "2", "--training.batch-size", "4", "--training.precision", "fp32", "--device", "cpu"),
)


def tree_of(name: str) -> ModuleType:
    """The builder of a set's tree: ``build(root)``, and the ``OPTIONS`` and ``CHANNELS`` that go with it."""
    return importlib.import_module(f"tree_{name}")


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(params=sorted(PUBLIC_SETS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_set_is_explained_and_has_an_example(name: str) -> None:
    text = (ROOT / "data" / name / "README.md").read_text(encoding="utf-8")
    assert f"medanomaly data {name}" in text
    assert "icen" in text  # licence, Licence, license
    assert name in (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")


def test_the_committed_example_is_what_its_builder_makes(name: str, tmp_path: Path) -> None:
    tree_of(name).build(tmp_path)
    built = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*") if path.is_file()}
    example = ROOT / "data" / name / "example"
    committed = {path.relative_to(example).as_posix(): path for path in example.rglob("*") if path.is_file()}
    assert built.keys() == committed.keys()
    assert sum(path.stat().st_size for path in committed.values()) < 200_000
    for key, path in built.items():
        # Encoders of pictures and archives differ between library versions; text does not.
        if path.suffix in TEXT:
            assert path.read_bytes() == committed[key].read_bytes(), key


def test_from_the_published_tree_to_heatmaps(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = tree_of(name)
    tree.build(tmp_path / "tree")
    manifest = tmp_path / "rows" / "manifest.csv"
    assert run("data", name, tmp_path / "tree", "--out", manifest, *tree.OPTIONS) == 0
    records = read_manifest(manifest, allow_outside=True)
    assert {record.label for record in records if record.split == "train"} == {"healthy", "diseased"}
    assert run("data", "check", manifest, "--deep", "true", "--allow-outside", "true") == 0
    channels = ("--preprocess.channels", str(tree.CHANNELS))
    trained = tmp_path / "run"
    assert run("train", "gray64-cfg", "--data", manifest, "--out", trained, "--allow-outside", "true", *channels, *TINY) == 0
    out = tmp_path / "maps"
    quiet = ("--allow-outside", "true", "--device", "cpu", "--quiet", "true")
    assert run("localize", trained, manifest, out, *quiet) == 0
    lines = [json.loads(line) for line in (out / "report.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["id"] for line in lines} == {record.id for record in records}
    assert all(line["status"] == "ok" for line in lines)
    anomaly_map = np.load(next((out / "maps").glob("*.npy")))
    assert np.isfinite(anomaly_map).all()
    assert anomaly_map.shape != (SIDE, SIDE) or name in ("digits",)
    if {record.label for record in records if record.split == "test"} >= {"healthy", "diseased"}:
        evaluated = tmp_path / "evaluated"
        few = ("--num-resamples", "20", "--floors", "false")
        assert run("evaluate", trained, manifest, evaluated, *few, *quiet) == 0
        assert run("report", evaluated) == 0
        assert (evaluated / "report.html").stat().st_size > 10_000
    capsys.readouterr()


def test_no_example_is_left_without_a_reader() -> None:
    assert {path.name.removeprefix("tree_").removesuffix(".py") for path in Path(__file__).parent.glob("tree_*.py")} == set(
        PUBLIC_SETS
    )


def write_example(name: str) -> None:
    """Writes data/NAME/example anew: ``python tests/test_example_trees.py NAME ...``."""
    target = ROOT / "data" / name / "example"
    shutil.rmtree(target, ignore_errors=True)
    tree_of(name).build(target)


if __name__ == "__main__":
    for word in sys.argv[1:]:
        write_example(word)

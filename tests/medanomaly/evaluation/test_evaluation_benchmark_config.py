from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmark_builders import PLAN, plan

from medanomaly.errors import ConfigError, InputError
from medanomaly.evaluation.benchmark_config import MethodEntry, read_benchmark


def test_yaml_and_json_mean_the_same(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(PLAN | {"seeds": [3, 4]}))
    lines = ["title: Two methods", "main: ours", "seeds: [3, 4]", "sets: [{name: set, manifest: manifest.csv, title: The set}]"]
    (tmp_path / "plan.yaml").write_text("\n".join([*lines, "methods: [{name: ours, preset: a}, {name: theirs, preset: b}]"]))
    one, other = (read_benchmark(tmp_path / name, presets=["a", "b"]) for name in ("plan.json", "plan.yaml"))
    assert one == other == plan(seeds=[3, 4])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": [0]}, "unknown key benchmark.seed .*did you mean seeds"),
        ({"main": "our"}, "main: 'our' is unknown .*did you mean ours"),
        ({"methods": [{"name": "ours", "preset": "a", "checkpoint": "x"}]}, "either a preset or a checkpoint"),
        ({"methods": [{"name": "ours"}]}, "either a preset or a checkpoint"),
        ({"methods": [{"name": "ours", "checkpoint": "x", "options": {"a": 1}}]}, "only measured"),
        ({"methods": [{"name": "ours", "preset": "a", "options": {"training.seed": 1}}]}, "decided by the benchmark"),
        ({"methods": [{"name": "ours", "preset": "a", "options": {"method": {"a": 1}}}]}, "write method.NAME"),
        ({"methods": [{"name": "ours", "preset": "a", "options": [1]}]}, "must map option names"),
        ({"methods": [{"name": "ours", "preset": "a"}] * 2}, "'ours' is there twice"),
        ({"methods": [{"name": "ours", "preset": "a", "only": ["set"]}]}, "must run on every set"),
        ({"methods": [{"name": "ours", "preset": "a"}, {"name": "b", "preset": "b", "only": ["sets"]}]}, "did you mean set"),
        ({"sets": []}, "sets is empty"),
        ({"sets": [{"name": "s", "manifest": "m", "max_images": -1}]}, "must not be negative"),
        ({"seeds": []}, "different numbers"),
        ({"seeds": [1, 1]}, "different numbers"),
        ({"num_resamples": 0}, "at least 1"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_with_its_key(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan(**changes)


def test_a_file_that_is_no_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E_MISSING"):
        read_benchmark(tmp_path / "absent.yaml", presets=[])
    for text, said in (("[1, 2]", "keys and values"), ("a: [", "not YAML")):
        (tmp_path / "plan.yaml").write_text(text)
        with pytest.raises(ConfigError, match=said):
            read_benchmark(tmp_path / "plan.yaml", presets=[])
    (tmp_path / "plan.yaml").write_text(json.dumps(PLAN))
    with pytest.raises(ConfigError, match="did you mean bb"):
        read_benchmark(tmp_path / "plan.yaml", presets=["a", "bb"])


def test_options_become_words_that_the_command_line_reads() -> None:
    options = {"training.num_steps": 2, "method.network.channels": [16, 16], "training.flip": False, "licence": "CC BY 4.0"}
    words = MethodEntry(name="m", preset="a", options=options | {"x": None}).words()
    assert words == [
        *("--training.num_steps", "2", "--method.network.channels", "[16, 16]", "--training.flip", "false"),
        *("--licence", "CC BY 4.0", "--x", "null"),
    ]


def test_the_main_method_comes_first_and_weights_have_no_seed() -> None:
    methods = [
        {"name": "w", "checkpoint": "x"},
        {"name": "only", "preset": "b", "only": ["two"]},
        {"name": "ours", "preset": "a"},
    ]
    sets = [{"name": name, "manifest": "m"} for name in ("one", "two")]
    found = [(chosen.name, method.name, seed) for chosen, method, seed in plan(methods=methods, sets=sets, seeds=[5, 6]).cells()]
    assert found == [
        *(("one", "ours", 5), ("one", "ours", 6), ("one", "w", None)),
        *(("two", "ours", 5), ("two", "ours", 6), ("two", "w", None), ("two", "only", 5), ("two", "only", 6)),
    ]

"""K14: run.json has what a reader needs to make the run again, and a missing or impossible entry is named."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from run_builders import write_run

from medanomaly.evaluation.run_record import command_text, data_facts
from medanomaly.evaluation.run_schema import COMMON, KINDS, OF_KIND, schema_findings

EVERY = [(kind, key.path) for kind in KINDS for key in (*COMMON, *OF_KIND[kind])]


def content_of(folder: Path, kind: str) -> dict[str, Any]:
    write_run(folder, kind)
    content: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return content


def below(content: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    *outer, last = path.split(".")
    for name in outer:
        content = content[name]
    return content, last


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_command_writes_has_every_entry(kind: str, tmp_path: Path) -> None:
    assert schema_findings(content_of(tmp_path, kind)) == []


@pytest.mark.parametrize(("kind", "path"), EVERY)
def test_an_entry_that_is_gone_is_named(kind: str, path: str, tmp_path: Path) -> None:
    content = content_of(tmp_path, kind)
    holder, name = below(content, path)
    del holder[name]
    found = schema_findings(content)
    # Without a kind the entries of that kind cannot be asked for; all others are named alone.
    assert [f"no {path}:" in finding.message for finding in found] == [True]
    assert found[0].is_error


@pytest.mark.parametrize(("kind", "path"), EVERY)
def test_an_entry_of_another_type_is_named(kind: str, path: str, tmp_path: Path) -> None:
    content = content_of(tmp_path, kind)
    holder, name = below(content, path)
    holder[name] = [1.5]
    assert f"{path} must be" in " ".join(finding.message for finding in schema_findings(content))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", -1),
        ("seed", True),
        ("seed", 1.0),
        ("config_sha256", "A" * 64),
        ("config_sha256", "a" * 63),
        ("format_version", 99),
        ("kind", "bake"),
        ("seconds", float("nan")),
        ("seconds", -1.0),
        ("finished_unix_s", 1.0),
        ("data.num_images", {}),
        ("data.num_images", {"test": -1}),
        ("environment.threads", 0),
        ("environment.packages", {"torch": "2"}),
        ("command", " "),
    ],
)
def test_a_value_that_cannot_be_is_named(path: str, value: object, tmp_path: Path) -> None:
    content = content_of(tmp_path, "evaluate")
    holder, name = below(content, path)
    holder[name] = copy.deepcopy(value)
    assert path.split(".")[-1] in " ".join(finding.message for finding in schema_findings(content))


def test_the_fingerprint_of_the_split_changes_with_the_split_alone(tmp_path: Path) -> None:
    from medanomaly.datasets.manifest import Record

    def records(split: str) -> list[Record]:
        return [Record(id=name, patient_id=f"p{name}", image=tmp_path / f"{name}.png", split=split) for name in ("a", "b")]

    test, train = data_facts(records("test")), data_facts(records("train"))
    assert test["split_sha256"] != train["split_sha256"]
    assert test == data_facts(records("test")[::-1])
    assert (test["num_images"], train["num_images"]) == ({"test": 2}, {"train": 2})
    assert data_facts(records("test"), is_manifest=False)["manifest_sha256"] is None


def test_the_command_keeps_names_and_changed_options_and_no_folder() -> None:
    def act(checkpoint: Path, out: Path, title: str = "", batch_size: int = 8, levels: list[int] | None = None) -> int:
        return 0

    typed = {"checkpoint": Path("phantom64-cfg"), "out": Path("/data/hospital of somewhere/out"), "batch_size": 8, "other": 1}
    text = command_text("act", act, {**typed, "title": "two words", "levels": [1, 2]})
    assert text == "medanomaly act phantom64-cfg out --title 'two words' --levels '[1, 2]'"

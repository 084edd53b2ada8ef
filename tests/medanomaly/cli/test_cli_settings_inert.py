"""Settings are values: no file of them imports, builds or calls what it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medanomaly.cli.main import main

CALLS: list[dict[str, Any]] = [
    {"$import": "os", "run": "$os.mkdir('{0}')"},
    {"method": {"_target_": "os.mkdir", "_args_": ["{0}"]}},
    {"method": {"class_path": "os.mkdir", "init_args": {"path": "{0}"}}},
    {"method": {"network": {"class_path": "pathlib.Path.mkdir", "init_args": {"self": "{0}"}}}},
    {"training": {"_target_": "os.mkdir", "path": "{0}"}},
    {"preprocess": "$os.mkdir('{0}')"},
]


@pytest.mark.parametrize("content", CALLS, ids=[json.dumps(content)[:40] for content in CALLS])
def test_a_file_that_names_something_to_call_is_refused_and_nothing_is_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: dict[str, Any]
) -> None:
    sentinel, options = tmp_path / "called", tmp_path / "options.json"
    options.write_text(json.dumps(content).replace("{0}", str(sentinel)))
    words = ["train", "phantom64-cfg", "--data", "absent.csv", "--out", str(tmp_path / "run")]
    assert main([*words, "--config", str(options)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not sentinel.exists()

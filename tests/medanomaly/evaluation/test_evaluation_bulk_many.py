"""One bad file among many costs one line, whatever their number."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_evaluation_bulk import SIDE, Whiteness, job, lines_of

from medanomaly.datasets.manifest import Record
from medanomaly.evaluation.bulk import BulkSettings

SETTINGS = BulkSettings(threshold=None, scale_max=2.0, identity="many", batch_size=64)


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_one_bad_file_among_many_costs_one_line_and_exit_code_3(count: int, tmp_path: Path) -> None:
    records, bad = [], count // 3
    (tmp_path / "in").mkdir()
    for index in range(count):
        path = tmp_path / "in" / f"{index}.png"
        Image.fromarray(np.full((SIDE, SIDE), index % 250, np.uint8)).save(path)
        records.append(Record(id=path.name, patient_id=path.name, image=path))
    records[bad].image.write_bytes(records[bad].image.read_bytes()[:50])
    summary = job(Whiteness(), records, tmp_path / "out", SETTINGS)
    assert (summary.ok, summary.failed, summary.exit_code()) == (count - 1, 1, 3)
    lines = lines_of(tmp_path / "out")
    assert len({line["id"] for line in lines}) == len(lines) == count
    [failed] = [line for line in lines if line["status"] != "ok"]
    assert (failed["id"], failed["reason_code"]) == (f"{bad}.png", "E_TRUNCATED")
    assert len(list((tmp_path / "out" / "maps").iterdir())) == count - 1
    assert json.loads((tmp_path / "out" / "status.json").read_text())["reasons"] == {"E_TRUNCATED": 1}

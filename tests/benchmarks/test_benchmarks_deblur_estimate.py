"""The benchmark of blind estimation: sharp images are counted with each noise, a claim is not yet a change, and intervals are exact."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from benchmarks import deblur_estimate
from benchmarks.deblur_estimate import clopper_pearson, main
from benchmarks.deblur_scenes import films_of, quiet_phantom
from deblur.estimate import estimate_motion
from medanomaly.errors import InputError


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr("sys.argv", ["deblur_estimate", *map(str, words)])
    assert main() == 0


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two test films and one of another split."""
    lines = ["id,patient_id,image,split"]
    for index in range(3):
        film = np.rint(255 * quiet_phantom(7, 40, index)).astype(np.uint8)
        Image.fromarray(film).save(tmp_path / f"{index}.png")
        lines.append(f"i{index},p{index},{index}.png,{'test' if index < 2 else 'val'}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "list.csv"


def test_intervals_are_those_of_the_tables() -> None:
    # 0 of 200: 1 - 0.025 ** (1 / 200); 10 of 100: Clopper & Pearson's chart, to the digits that R's binom.test prints.
    assert clopper_pearson(0, 200) == pytest.approx((0, 1 - 0.025 ** (1 / 200)))
    assert clopper_pearson(10, 100) == pytest.approx((0.0490047, 0.1762226), abs=1e-6)
    assert clopper_pearson(5, 5) == pytest.approx((0.025 ** (1 / 5), 1))


def test_sharp_films_are_counted_once_a_noise_and_a_claim_that_the_gates_stop_changes_nothing(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def everywhere(y: Tensor, **options: Any) -> Any:
        found = estimate_motion(y, **options, max_length_px=10)
        return replace(found, is_motion=True, length_px=9.0, angle_deg=0.0)

    monkeypatch.setattr(deblur_estimate, "estimate_motion", everywhere)
    run(monkeypatch, "--manifest", manifest, "--side", 40, "--lengths", "--sharp", 2, "--plain")
    printed = capsys.readouterr()
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert [(row["set"], row["noise"], row["image"]) for row in rows] == [
        ("test films 40", noise, index) for noise in (0.5, 5.0) for index in (0, 1)
    ]
    assert all(row["claimed"] and not row["changed"] and row["gain"] == 0 for row in rows)
    assert "| test films 40 | 0.5 | as it is | 2 | 2 | 0 | 0.0% to 84.2% | +0.0 |" in printed.err


def test_a_split_with_fewer_films_than_asked_for_is_refused(manifest: Path) -> None:
    assert len(films_of(manifest, "test", 2, 40, allow_outside=False)) == 2
    with pytest.raises(InputError, match="has 2 images in split 'test', not 3"):
        films_of(manifest, "test", 3, 40, allow_outside=False)

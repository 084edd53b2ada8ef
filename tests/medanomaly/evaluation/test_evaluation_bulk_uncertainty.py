"""The deviation of a map made of several lies beside the map, at the size of the image, whatever the batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.evaluation.bulk import BulkSettings, localize_all
from medanomaly.io.options import ReadOptions
from medanomaly.types import AnomalyResult, WalkObserver

SIDE = 16


class Unsure:
    """The deviation is the image's own brightness, so one image's cannot pass for another's."""

    def __init__(self, *, unsure: bool = True) -> None:
        self.unsure = unsure

    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
        shown = x + 1
        return AnomalyResult(anomaly_map=shown, score=shown.amax(dim=(1, 2, 3)), map_std=shown / 4 if self.unsure else None)


class UnsureAlone(Unsure):
    """Does not fit two images into memory."""

    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
        if len(x) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().localize(x, observer)


def outputs(method: Unsure, tmp_path: Path) -> dict[str, np.ndarray]:
    """Deviations below the output folder by file name, after a job of three gray images of 20 x 32."""
    records = []
    for index in range(3):
        path = tmp_path / f"{index}.png"
        Image.fromarray(np.full((20, 32), 60 * (index + 1), np.uint8)).save(path)
        records.append(Record(id=path.name, patient_id=path.name, image=path))
    preprocess = PreprocessConfig(image_size=SIDE)
    settings = BulkSettings(threshold=None, scale_max=2.0, identity="one", batch_size=3)
    summary = localize_all(method, records, preprocess, tmp_path / "out", settings, options=ReadOptions(channels=1))
    assert summary.ok == 3
    return {path.name: np.load(path) for path in (tmp_path / "out" / "uncertainty").glob("*")}


@pytest.mark.parametrize("method", [Unsure(), UnsureAlone()])
def test_each_image_has_its_own_deviation_at_its_own_size(method: Unsure, tmp_path: Path) -> None:
    found = outputs(method, tmp_path)
    assert len(found) == 3
    assert {one.shape for one in found.values()} == {(20, 32)}
    middle = sorted(float(one[10, 16]) for one in found.values())
    np.testing.assert_allclose(middle, [60 / 255 / 2, 120 / 255 / 2, 180 / 255 / 2], atol=0.01)


def test_a_map_that_stands_alone_has_none(tmp_path: Path) -> None:
    assert outputs(Unsure(unsure=False), tmp_path) == {}
    assert not (tmp_path / "out" / "uncertainty").exists()

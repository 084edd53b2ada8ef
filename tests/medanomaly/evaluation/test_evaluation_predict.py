from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluation_builders import SIDE, Whiteness, bright_samples
from torch import Tensor

from medanomaly.evaluation.predict import predict
from medanomaly.metrics.pixel import pixel_auroc, pixel_average_precision
from medanomaly.types import AnomalyResult, Geometry, WalkObserver


@pytest.mark.parametrize(("batch_size", "batches"), [(1, [1] * 7), (3, [3, 3, 1]), (16, [7])])
def test_predictions_come_in_order_whatever_the_batch_size(batch_size: int, batches: list[int]) -> None:
    method, samples = Whiteness(), bright_samples(7, "t")
    found = list(predict(method, samples, batch_size=batch_size))
    assert method.batches == batches
    assert [one.id for one in found] == [sample.id for sample in samples]
    for one, sample in zip(found, samples, strict=True):
        assert (one.patient_id, one.label, one.mask is sample.mask) == (sample.patient_id, sample.label, True)
        np.testing.assert_allclose(one.anomaly_map, (sample.x[0] + 1) / 2, atol=1e-6)
        np.testing.assert_allclose(one.pixels, sample.x, atol=1e-6)
        assert one.score == (1.0 if sample.label == "diseased" else 0.0)


def test_samples_are_asked_for_batch_by_batch() -> None:
    drawn: list[str] = []

    def stream() -> object:
        for sample in bright_samples(6, "t"):
            drawn.append(sample.id)
            yield sample

    next(predict(Whiteness(), stream(), batch_size=2))  # type: ignore[arg-type]
    assert drawn == ["t0", "t1"]


def test_everything_comes_back_at_the_images_own_size_without_the_padding() -> None:
    # 8 rows, 12 columns: two rows of padding above and below in native px.
    geometry = Geometry(native_size=(8, 12), pad_before=(2, 0), model_size=SIDE)
    x = torch.full((1, SIDE, SIDE), -1.0)
    x[:, : SIDE // 6] = 1.0
    sample = replace(bright_samples(1, "t")[0], x=x, geometry=geometry)
    [found] = predict(Whiteness(), [sample])
    assert found.anomaly_map.shape == (8, 12)
    assert found.pixels.shape == (1, 8, 12)
    assert found.pseudo_healthy is not None
    assert found.pseudo_healthy.shape == (1, 8, 12)
    # The bright stripe lies in the padding.
    assert float(found.anomaly_map[2:].max()) < 0.01


def test_numbers_of_a_padded_image_are_those_of_the_image_without_its_padding() -> None:
    draws = np.random.default_rng(0)
    native, truth = draws.uniform(-1, 1, (8, 12)).astype(np.float32), draws.random((8, 12)) > 0.7
    # Two rows above and below, brighter than anything: in the metric they would be false alarms, and off by them the truth.
    padded = np.ones((1, 12, 12), np.float32)
    padded[0, 2:10] = native
    geometry = Geometry(native_size=(8, 12), pad_before=(2, 0), model_size=12)
    sample = replace(bright_samples(1, "t")[0], x=torch.from_numpy(padded), mask=truth, geometry=geometry)
    [found] = predict(Whiteness(), [sample])
    assert found.mask is not None
    for metric in (pixel_auroc, pixel_average_precision):
        assert metric([found.anomaly_map], [found.mask]) == metric([native], [truth])


def test_a_faint_map_stays_faint_beside_a_loud_one() -> None:
    faint, loud = bright_samples(2, "faint", lesion_value=-0.8)[1], bright_samples(2, "loud")[1]
    assert [float(one.anomaly_map.max()) for one in predict(Whiteness(), [faint, loud])] == pytest.approx([0.1, 1.0])
    # Nor is the least value of a map moved to zero.
    gray = torch.zeros(1, SIDE, SIDE)
    gray[0, 0, 0] = 0.1
    [found] = predict(Whiteness(), [replace(faint, x=gray)])
    assert float(found.anomaly_map.min()) == pytest.approx(0.5)


class Overshooting:
    """Maps below zero and images beyond the range, as resampling of sharp edges gives them."""

    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
        return AnomalyResult(anomaly_map=torch.full_like(x, -0.5), score=torch.zeros(len(x)), pseudo_healthy=3 * x)


def test_maps_stay_above_zero_and_images_in_range() -> None:
    [found] = predict(Overshooting(), bright_samples(1, "t"))
    assert float(found.anomaly_map.min()) == 0
    assert found.pseudo_healthy is not None
    assert float(np.abs(found.pseudo_healthy).max()) == 1

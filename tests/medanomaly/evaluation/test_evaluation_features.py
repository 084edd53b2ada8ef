"""Extractors: pixels as a floor, what a classifier's last layer reads, and numbers that somebody else computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from toys import images

from medanomaly.errors import InputError
from medanomaly.evaluation.features import classifier_features, computed, pixel_features, stored_features
from medanomaly.evaluation.sample_sets import ImageSet
from medanomaly.files import sha256_of

CPU = torch.device("cpu")


def image_set(count: int) -> ImageSet:
    ids = tuple(f"i{index}" for index in range(count))
    return ImageSet(ids=ids, patient_ids=ids, x=images(count))


def test_the_floor_is_the_mean_of_squares_of_pixels() -> None:
    images_of = image_set(3)
    found = computed("pixels", "", pixel_features(4), batch_size=2, device=CPU).features_of("samples", images_of)
    assert found.values.shape == (3, 16)
    assert found.probabilities is None
    assert found.values[2, 0] == pytest.approx(float(images_of.x[2, 0, :4, :4].mean()), abs=1e-6)


def test_a_classifiers_features_are_what_its_last_layer_reads() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 5), nn.Dropout(0.5), nn.Linear(5, 3))
    last = network[3]
    assert isinstance(last, nn.Linear)
    extractor = computed("c", "", classifier_features(network, network, last), batch_size=2, device=CPU)
    found = extractor.features_of("samples", image_set(3))
    with torch.no_grad():
        expected = network[1](image_set(3).x.flatten(1))
    assert found.values == pytest.approx(expected.numpy(), abs=1e-6)
    assert found.probabilities is not None
    assert found.probabilities == pytest.approx(last(expected).softmax(dim=1).detach().numpy(), abs=1e-6)
    assert not last._forward_pre_hooks


def write_features(path: Path, **arrays: object) -> Path:
    contents = {
        "samples": np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        "samples_ids": np.array(["i2", "i0", "i1"]),
        "samples_probabilities": np.array([[0.1, 0.9], [0.5, 0.5], [1.0, 0.0]]),
    }
    np.savez(path, **(contents | arrays))  # type: ignore[arg-type]
    return path


def test_stored_features_are_put_in_the_images_order_by_their_ids(tmp_path: Path) -> None:
    path = write_features(tmp_path / "inception.npz")
    extractor = stored_features(path)
    found = extractor.features_of("samples", image_set(3))
    assert found.values.tolist() == [[3, 4], [5, 6], [1, 2]]
    assert found.probabilities is not None
    assert found.probabilities[2].tolist() == [0.1, 0.9]
    assert extractor.name == "features of inception.npz"
    assert extractor.sha256 == sha256_of(path)


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"samples_ids": np.array(["i2", "i0", "other"])}, "E_IDS"),
        ({"samples": np.zeros((2, 2))}, "E_COUNT"),
        ({"samples": np.zeros((3, 2), np.int64)}, "E_COUNT"),
        ({"samples_probabilities": np.zeros((2, 2))}, "E_COUNT"),
        ({"samples_ids": np.array([object()], dtype=object)}, "E_MALFORMED"),
    ],
)
def test_features_that_do_not_belong_to_the_images_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], code: str) -> None:
    extractor = stored_features(write_features(tmp_path / "f.npz", **arrays))
    with pytest.raises(InputError, match=code):
        extractor.features_of("samples", image_set(3))


def test_a_set_without_stored_features_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        stored_features(tmp_path / "absent.npz")
    with pytest.raises(InputError, match="has no array 'train_ids'"):
        stored_features(write_features(tmp_path / "f.npz")).features_of("train", image_set(3))

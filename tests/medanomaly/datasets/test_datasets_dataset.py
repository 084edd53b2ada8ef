from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets_builders import mask_png, png

from medanomaly.datasets import dataset as dataset_module
from medanomaly.datasets.dataset import ManifestDataset, to_batch
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.transforms import PreprocessConfig, to_native
from medanomaly.errors import ConfigError, InputError
from medanomaly.io.reader import ReadOptions, read_image
from medanomaly.io.writers import write_npy, write_png

CLASSES = ("healthy", "diseased")
PREPROCESS = PreprocessConfig(image_size=18)


def record_in(folder: Path, label: str | None = "diseased", **more: Any) -> Record:
    return Record(id="one", patient_id="p", image=png(folder / "a.png"), label=label, **more)


def test_a_record_becomes_a_sample_in_model_space_that_knows_its_way_back(tmp_path: Path) -> None:
    record = record_in(tmp_path, mask=mask_png(tmp_path / "m.png"), spacing_mm=(0.5, 0.25))
    dataset = ManifestDataset([record], PREPROCESS, CLASSES)
    sample = dataset[0]
    assert len(dataset) == 1
    assert (sample.id, sample.patient_id, sample.label, sample.spacing_mm) == ("one", "p", "diseased", (0.5, 0.25))
    assert sample.x.shape == (1, 18, 18)
    assert sample.x.dtype == torch.float32
    assert -1 <= sample.x.min() < sample.x.max() <= 1
    assert to_native(sample.x, sample.geometry).shape == (1, 6, 9)
    assert sample.mask is not None
    assert sample.mask.shape == (6, 9)
    assert np.argwhere(sample.mask).tolist() == [[1, 4]]


@pytest.mark.parametrize("label", ["healthy", "diseased", None])
def test_a_blank_mask_is_none_whatever_the_label_and_an_explicit_empty_one_is_all_false(
    tmp_path: Path, label: str | None
) -> None:
    blank = record_in(tmp_path, label)
    empty = replace(blank, annotated_empty=True)
    file = replace(blank, mask=mask_png(tmp_path / "m.png", lesion=None))
    samples = [ManifestDataset([record], PREPROCESS, CLASSES)[0] for record in (blank, empty, file)]
    assert samples[0].mask is None
    for sample in samples[1:]:
        assert sample.mask is not None
        assert sample.mask.shape == (6, 9)
        assert not sample.mask.any()


def test_a_mask_of_another_size_is_refused_and_named(tmp_path: Path) -> None:
    record = record_in(tmp_path, mask=mask_png(tmp_path / "m.png", size=(9, 6)))
    with pytest.raises(InputError, match=r"m\.png") as refused:
        ManifestDataset([record], PREPROCESS, CLASSES)[0]
    assert refused.value.code == "E_MASK_SIZE"


def test_an_image_that_cannot_be_read_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    record = record_in(tmp_path)
    record.image.write_bytes(record.image.read_bytes()[:60])
    absent = replace(record, id="two", image=tmp_path / "none.png")
    dataset = ManifestDataset([record, absent], PREPROCESS, CLASSES)
    for index, name in enumerate((r"a\.png", r"none\.png")):
        with pytest.raises(InputError, match=name):
            dataset[index]


def test_an_image_that_cannot_become_a_square_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    write_npy(tmp_path / "thin.npy", np.zeros((1, 9000), np.float32))
    options = ReadOptions()
    record = Record(id="1", patient_id="1", image=tmp_path / "thin.npy")
    with pytest.raises(InputError, match=r"thin\.npy"):
        ManifestDataset([record], PREPROCESS, CLASSES, options=options)[0]


def test_a_label_that_is_no_class_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    records = [Record(id=str(n), patient_id="p", image=tmp_path / "none.png", label="Healthy") for n in range(3)]
    with pytest.raises(ConfigError, match="'Healthy' \\(3 images\\) is not one of the classes 'healthy', 'diseased'") as refused:
        ManifestDataset(records, PREPROCESS, CLASSES)
    assert refused.value.code == "E_CLASS"


def test_classes_that_repeat_and_other_channels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        ManifestDataset([], PREPROCESS, ("healthy", "healthy"))
    with pytest.raises(ConfigError):
        ManifestDataset([], PREPROCESS, CLASSES, options=ReadOptions(channels=3))


def test_the_manifests_intensities_reach_the_image(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.full((6, 9), 50, np.uint8))
    record = Record(id="1", patient_id="1", image=tmp_path / "a.png", intensity_low=0, intensity_high=100)
    sample = ManifestDataset([record], PREPROCESS, CLASSES)[0]
    np.testing.assert_allclose(to_native(sample.x, sample.geometry)[0, 1:-1], 0, atol=1e-6)


def test_a_cached_dataset_decodes_once_gives_equal_samples_and_is_not_changed_by_its_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []

    def counted(path: Path, options: ReadOptions) -> object:
        reads.append(path)
        return read_image(path, options)

    monkeypatch.setattr(dataset_module, "read_image", counted)
    record = record_in(tmp_path, mask=mask_png(tmp_path / "m.png"))
    plain, cached = (ManifestDataset([record], PREPROCESS, CLASSES, cached=choice) for choice in (False, True))
    expected, first = plain[0], cached[0]
    first.x.zero_()
    assert first.mask is not None
    first.mask[:] = True
    second = cached[0]
    assert len(reads) == 2
    torch.testing.assert_close(second.x, expected.x, rtol=0, atol=0)
    np.testing.assert_array_equal(second.mask, expected.mask)
    assert replace(second, x=expected.x, mask=None) == replace(expected, mask=None)


def test_a_batch_holds_the_position_of_each_class_name(tmp_path: Path) -> None:
    samples = [ManifestDataset([record_in(tmp_path, label)], PREPROCESS, CLASSES)[0] for label in ("diseased", "healthy")]
    batch = to_batch(samples, CLASSES)
    assert batch.x.shape == (2, 1, 18, 18)
    assert batch.label.tolist() == [1, 0]
    assert batch.label.dtype == torch.int64
    assert to_batch(samples, CLASSES[::-1]).label.tolist() == [0, 1]


def test_a_batch_of_one_class_keeps_that_classs_position(tmp_path: Path) -> None:
    sample = ManifestDataset([record_in(tmp_path, "diseased")], PREPROCESS, CLASSES)[0]
    assert to_batch([sample, sample], CLASSES).label.tolist() == [1, 1]


def test_without_classes_no_image_needs_a_label_and_none_is_looked_at(tmp_path: Path) -> None:
    sample = ManifestDataset([record_in(tmp_path, None)], PREPROCESS, ())[0]
    batch = to_batch([sample, replace(sample, label="other")], ())
    assert torch.equal(batch.x, torch.stack([sample.x, sample.x]))
    assert batch.label.tolist() == [0, 0]
    assert batch.label.dtype == torch.int64


def test_a_batch_of_unlabelled_or_unknown_images_is_refused(tmp_path: Path) -> None:
    sample = ManifestDataset([record_in(tmp_path, None)], PREPROCESS, CLASSES)[0]
    with pytest.raises(InputError, match="'one' has no label"):
        to_batch([sample], CLASSES)
    with pytest.raises(ConfigError, match="'other'"):
        to_batch([replace(sample, label="other")], CLASSES)

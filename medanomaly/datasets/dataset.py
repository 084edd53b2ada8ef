"""The only Dataset: records of a manifest become samples in model space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import Dataset

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.transforms import PreprocessConfig, to_model
from medanomaly.errors import ConfigError, InputError
from medanomaly.io.reader import ReadOptions, read_image, read_mask
from medanomaly.types import Batch, BoolArray, Sample


class ManifestDataset(Dataset[Sample]):
    """Samples of records, in their order.

    A label is a class name, never a position; a record without one gives ``Sample.label`` None. A mask is read at the native
    size of its image; ``annotated_empty`` gives an all-False mask; a blank mask gives None, also for a healthy image:
    whether healthy images count as empty is the evaluation's decision, and it says so.

    Args:
        records: what to read.
        preprocess: how images enter model space.
        classes: the class names in the model's order; every label must be one of them.
        options: how files are read; None = the reader's defaults with ``preprocess.channels``.
        cached: keep each sample once decoded (4 bytes a model pixel and 1 byte a mask pixel), so that an epoch decodes each
            file at most once in each loading process; every access returns a copy.

    Raises:
        ConfigError: E_CLASS for a label that is not in ``classes``; E_CONFIG for repeated classes or other channels in
            ``options``.
    """

    def __init__(
        self,
        records: Sequence[Record],
        preprocess: PreprocessConfig,
        classes: tuple[str, ...],
        *,
        options: ReadOptions | None = None,
        cached: bool = False,
    ) -> None:
        if len(set(classes)) != len(classes):
            raise ConfigError(f"classes must differ, got {classes}", code="E_CONFIG")
        if options is not None and options.channels != preprocess.channels:
            raise ConfigError(
                f"options read {options.channels} channels, the model takes {preprocess.channels}",
                code="E_CONFIG",
                fix="make them equal",
            )
        refuse_unknown_labels(records, classes)
        self.records = tuple(records)
        self.classes = classes
        self.preprocess = preprocess
        self.options = ReadOptions(channels=preprocess.channels) if options is None else options
        self.kept: dict[int, Sample] | None = {} if cached else None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        """The sample of record ``index`` (0 <= index < len).

        Raises:
            InputError: the image or mask cannot be used; names the file.
        """
        record = self.records[index]
        if self.kept is None:
            return read_sample(record, self.preprocess, self.options)
        if index not in self.kept:
            self.kept[index] = read_sample(record, self.preprocess, self.options)
        sample = self.kept[index]
        mask = None if sample.mask is None else sample.mask.copy()
        return replace(sample, x=sample.x.clone(), mask=mask)


def read_sample(record: Record, preprocess: PreprocessConfig, options: ReadOptions) -> Sample:
    """One record, read and brought to model space. The file's own spacing wins over the manifest's."""
    raw = read_image(record.image, options)
    try:
        x, geometry = to_model(raw, preprocess, record.intensity_range)
    except InputError as error:
        raise InputError(error.message, code=error.code, fix=error.fix, path=record.image) from error
    return Sample(
        id=record.id,
        patient_id=record.patient_id,
        x=x,
        label=record.label,
        mask=mask_of(record, raw.native_size),
        geometry=geometry,
        spacing_mm=record.spacing_mm if raw.spacing_mm is None else raw.spacing_mm,
        boxes=record.boxes,
        observations=record.observations,
    )


def mask_of(record: Record, native_size: tuple[int, int]) -> BoolArray | None:
    """(rows, columns) mask: the file's, all False for ``annotated_empty``, None where nobody looked, whatever the label."""
    if record.mask is not None:
        return read_mask(record.mask, native_size, image_path=record.image)
    return np.zeros(native_size, dtype=np.bool_) if record.annotated_empty else None


def to_batch(samples: Sequence[Sample], classes: tuple[str, ...]) -> Batch:
    """Training batch of labelled samples: images stacked, labels as positions in ``classes`` (int64).

    Without classes, for a model of all images, no sample needs a label: any is ignored, and every position is 0.

    Raises:
        InputError: E_LABEL, a sample without a label.
        ConfigError: E_CLASS, a label that is not a class.
    """
    labels = [] if classes else [0] * len(samples)
    for sample in samples if classes else ():
        if sample.label is None:
            raise InputError(f"image {sample.id!a} has no label", code="E_LABEL", fix="label it or leave it out of training")
        if sample.label not in classes:
            raise ConfigError(
                f"image {sample.id!a} has label {sample.label!a}, not one of the classes {', '.join(map(ascii, classes))}",
                code="E_CLASS",
                fix="correct the manifest, or train with that class",
            )
        labels.append(classes.index(sample.label))
    return Batch(x=torch.stack([sample.x for sample in samples]), label=torch.tensor(labels, dtype=torch.int64))


def refuse_unknown_labels(records: Sequence[Record], classes: tuple[str, ...]) -> None:
    """ConfigError for the first label, by alphabet, that is not a class."""
    unknown = sorted(record.label for record in records if record.label is not None and record.label not in classes)
    if unknown:
        raise unknown_label(unknown[0], classes, unknown.count(unknown[0]))


def unknown_label(label: str, classes: tuple[str, ...], count: int) -> ConfigError:
    """What to say of a label that is not a class; a class is a name, so case counts."""
    return ConfigError(
        f"label {label!a} ({count} images) is not one of the classes {', '.join(map(ascii, classes))}",
        code="E_CLASS",
        fix="correct the manifest, or train with that class",
    )

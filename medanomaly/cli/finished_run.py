"""What a finished training adds to its weights: thresholds where they localize, and which images they have seen."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from medanomaly.datasets.dataset import ManifestDataset
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.seen import write_seen
from medanomaly.datasets.splits import spread
from medanomaly.evaluation.calibrate import healthy_calibration
from medanomaly.evaluation.operating_points import choose_operating_points
from medanomaly.evaluation.predict import predict
from medanomaly.files import sha256_of
from medanomaly.methods.checks import uncalibrated
from medanomaly.methods.experiment import Experiment, MethodConfig
from medanomaly.scoring.finish import calibration_tensors
from medanomaly.scoring.operating_point import OperatingPoint
from medanomaly.types import AnomalyMethod

CALIBRATION_IMAGES = 128
"""Validation images, spread over the ids, that the thresholds of the checkpoint are chosen on."""


def made_to_localize(
    experiment: Experiment, weights: dict[str, Tensor], records: Sequence[Record], *, device: torch.device, quiet: bool
) -> tuple[dict[str, Tensor], tuple[OperatingPoint, ...]]:
    """(weights with a healthy calibration where the settings ask for one, operating points chosen on validation ``records``)."""
    config, preprocess = experiment.method, experiment.preprocess
    chosen = spread(records, CALIBRATION_IMAGES)

    def method(settings: MethodConfig, tensors: dict[str, Tensor]) -> AnomalyMethod:
        return settings.restore(tensors, image_channels=preprocess.channels, device=device, source="this run")

    ready = method(uncalibrated(config), weights)
    if config.map.healthy_z:
        # Half of the healthy images calibrate, the others are for the thresholds.
        calibrating = [record for record in chosen if record.label == config.target][::2]
        chosen = [record for record in chosen if record not in calibrating]
        healthy = ManifestDataset(calibrating, preprocess, config.classes)
        calibration = healthy_calibration(ready, progress(healthy, "calibrating on healthy images", quiet), device=device)
        weights = weights | calibration_tensors(calibration)
        ready = method(config, weights)
    remaining = ManifestDataset(chosen, preprocess, config.classes)
    found = predict(ready, progress(remaining, "choosing operating points", quiet), batch_size=16, device=device)
    return weights, choose_operating_points(list(found), healthy=config.target)


def progress(samples: ManifestDataset, text: str, quiet: bool) -> Iterator[Any]:
    """The samples one by one under a progress bar."""
    indices = range(len(samples))
    return (samples[index] for index in (indices if quiet else tqdm(indices, unit="image", desc=text, file=sys.stderr)))


def counts(splits: Mapping[str, Sequence[Record]]) -> dict[str, int]:
    """How many images and patients the weights have seen."""
    return {
        "num_train_images": len(splits["train"]),
        "num_train_patients": len({record.patient_id for record in splits["train"]}),
        "num_val_images": len(splits["val"]),
        "num_val_patients": len({record.patient_id for record in splits["val"]}),
    }


def seen_in_header(splits: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
    """For the header of a method: the first 12 hex digits of the SHA-256 of each training and validation file."""
    return {"seen_images": sorted({sha256_of(record.image)[:12] for chosen in splits.values() for record in chosen})}


def seen_beside(folder: Path, splits: Mapping[str, Sequence[Record]], *, quiet: bool) -> dict[str, Any]:
    """For the header of a model that may learn from all there is: the file, written beside it, with hashes of files and ids."""
    records = [record for chosen in splits.values() for record in chosen]
    return {"seen": write_seen(folder, tqdm(records, unit="image", desc="hashing", disable=quiet, file=sys.stderr))}

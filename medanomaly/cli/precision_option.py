"""The options ``--precision`` and ``--compile`` of the commands that localize: checked on the first images that can be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from medanomaly.datasets.dataset import ManifestDataset
from medanomaly.datasets.manifest import Record
from medanomaly.errors import MedanomalyError
from medanomaly.io.options import ReadOptions
from medanomaly.methods.experiment import TrainedMethod
from medanomaly.methods.precision import CHECKED_IMAGES, Lowered, Precision, choose_precision

TRIED_FILES = 32
"""Files that may be unreadable before the check gives up."""


def lowered(
    trained: TrainedMethod,
    precision: Precision,
    records: Iterable[Record],
    device: torch.device,
    options: ReadOptions | None = None,
    compiled: bool = False,
) -> Lowered:
    """The method in the precision asked for, compiled or not; plain fp32 where no image can be read to check another on.

    Raises:
        MedanomalyError: as :func:`choose_precision`.
    """
    x = first_images(trained, records, options) if precision != "fp32" or compiled else None
    if x is None:
        return Lowered(trained.method, "fp32", False, 0.0, "fp32")
    return choose_precision(trained.method, x.to(device), precision, compiled=compiled)


def first_images(trained: TrainedMethod, records: Iterable[Record], options: ReadOptions | None) -> Tensor | None:
    """(B, C, H, W), at most :data:`CHECKED_IMAGES` of the first files that can be read; None where none can."""
    experiment = trained.experiment
    # What the rows say of the images is not needed, and must not stop the check.
    bare = [replace(one, label=None, mask=None, annotated_empty=False, boxes=()) for one in islice(records, TRIED_FILES)]
    dataset = ManifestDataset(bare, experiment.preprocess, experiment.method.classes, options=options)
    found: list[Tensor] = []
    for index in range(len(dataset)):
        try:
            found.append(dataset[index].x)
        except MedanomalyError:
            continue
        if len(found) == CHECKED_IMAGES:
            break
    return torch.stack(found) if found else None

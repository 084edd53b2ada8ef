"""The 1,797 digits of 8 x 8 px that come with scikit-learn: a first experiment without any download."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.public.duplicates import without_duplicates
from medanomaly.datasets.public.extracted import Pixels, picture_folder, write_pictures
from medanomaly.datasets.public.listing import Listing, Progress, silent
from medanomaly.datasets.public.sampling import at_most
from medanomaly.datasets.public.two_classes import two_classes
from medanomaly.datasets.splits import split_by_patient

DIGITS = tuple("0123456789")
WHITE = 16
"""Largest value in the set: the number of ink pixels in a block of 4 x 4 of the scanned form."""
FACTOR = 255 / WHITE
"""15.9375: the written value is the stored one times this, rounded; different values stay different."""


def digits(
    root: Path,  # noqa: ARG001 (every reader has one; here it only is the default place of the manifest)
    folder: Path,
    *,
    healthy: tuple[str, ...] = (),
    diseased: tuple[str, ...] = (),
    sample: int = 0,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    progress: Progress[Any] = silent,
) -> Listing:
    """Manifest of scikit-learn's 1,797 digits of 8 x 8 px; nothing is downloaded, ROOT is where to write.

    Args:
        root: the folder to write to; it need not exist
        folder: of the manifest; images go below it
        healthy: digits that become healthy, e.g. '["0"]'; with neither this nor diseased, classes keep their names
        diseased: digits that become diseased, e.g. '["8"]'; if only one of the two is given, the other gets the rest
        sample: at most so many images of a class and split; 0 = all
        fractions: of the images in train, val and test
        seed: of splits and sample
        progress: shown while images are written
    """
    from sklearn.datasets import load_digits  # a second of import that no other set needs

    label_of = two_classes(DIGITS, healthy, diseased)
    values, labels = load_digits(return_X_y=True)
    pixels = np.rint(np.asarray(values).reshape(-1, 8, 8) * FACTOR).astype(np.uint8)
    target = picture_folder(folder, "digits")
    records = [
        Record(
            id=f"{index:04d}",
            patient_id=f"{index:04d}",
            image=target / f"{index:04d}.png",
            label=label_of[str(label)],
            source="scikit-learn digits",
        )
        for index, label in enumerate(labels)
        if str(label) in label_of
    ]
    records = split_by_patient(records, fractions, seed, healthy_class="healthy" if healthy or diseased else None)
    records = at_most(records, sample, seed)

    def read(indices: Sequence[int]) -> Iterator[Pixels]:
        return (pixels[int(records[index].id)] for index in indices)

    write_pictures(target, [record.id for record in records], read, {"set": "digits", "factor": FACTOR}, progress)
    records, findings = without_duplicates(records)
    return Listing(records=records, findings=tuple(findings))

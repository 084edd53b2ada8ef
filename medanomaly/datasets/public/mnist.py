"""MNIST and Fashion-MNIST: handwritten digits and garments of 28 px, for experiments that take minutes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.public.duplicates import finding, without_duplicates
from medanomaly.datasets.public.extracted import Pixels, picture_folder, write_pictures
from medanomaly.datasets.public.idx import read_idx
from medanomaly.datasets.public.listing import Listing, Progress, silent
from medanomaly.datasets.public.sampling import at_most
from medanomaly.datasets.public.two_classes import two_classes
from medanomaly.datasets.splits import hold_out_validation, split_by_patient
from medanomaly.errors import ConfigError, InputError
from medanomaly.files import sha256_of

Arrays = npt.NDArray[np.uint8]

CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}
"""Label 0..9 -> name; of Fashion-MNIST as in Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747, table 2."""
SOURCES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
PARTS = {"train": "train", "t10k": "test"}
"""First word of the file names -> split."""
TREE = "train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz], t10k-images-idx3-ubyte[.gz], t10k-labels-idx1-ubyte[.gz]"


def mnist(
    root: Path,
    folder: Path,
    *,
    source: Literal["mnist", "fashion_mnist"] = "mnist",
    healthy: tuple[str, ...] = (),
    diseased: tuple[str, ...] = (),
    sample: int = 0,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    val_fraction: float = 0.1,
    seed: int = 0,
    progress: Progress[Any] = silent,
) -> Listing:
    """Manifest of MNIST or Fashion-MNIST in IDX files; images are written as PNG beside the manifest.

    Args:
        root: the folder that holds train-images-idx3-ubyte and the other three, gzipped or not
        folder: of the manifest; images go below it
        source: mnist or fashion_mnist, whose files have the same names
        healthy: classes that become healthy, e.g. '["0"]'; with neither this nor diseased, classes keep their names
        diseased: classes that become diseased, e.g. '["8"]'; if only one of the two is given, the other gets the rest
        sample: at most so many images of a class and split; 0 = all
        fractions: train, val and test, where only one of the two published parts is there
        val_fraction: share of the training images that becomes val
        seed: of splits and sample
        progress: shown while images are written
    """
    if source not in CLASSES:
        raise ConfigError(f"source must be one of {', '.join(CLASSES)}, got {source!r}", code="E_CONFIG")
    label_of = two_classes(CLASSES[source], healthy, diseased)
    files = {part: part_files(root, source, part) for part in PARTS}
    parts = {part: read_part(*found) for part, found in files.items() if found is not None}
    if not parts:
        raise InputError("holds no images in IDX format", code="E_LAYOUT", path=root, fix=f"it should hold {TREE}")
    target = picture_folder(folder, source)
    records = []
    for part, (_, labels) in parts.items():
        names = [CLASSES[source][label] for label in labels]
        records += [
            Record(
                id=f"{part}/{index:05d}",
                patient_id=f"{part}/{index:05d}",
                image=target / f"{part}/{index:05d}.png",
                label=label_of[name],
                split=PARTS[part],
                source=SOURCES[source],
            )
            for index, name in enumerate(names)
            if name in label_of
        ]
    if (healthy or diseased) and not {record.label for record in records} >= {"healthy", "diseased"}:
        held = {CLASSES[source][label] for _, labels in parts.values() for label in set(labels.tolist())}
        lacking = sorted(label_of.keys() - held)
        raise InputError(
            f"holds no image of {', '.join(lacking)}",
            code="E_EMPTY",
            path=root,
            fix="name classes that it holds, or the right --source",
        )
    healthy_class = "healthy" if healthy or diseased else None
    notes = []
    if len(parts) == len(PARTS):
        records = hold_out_validation(records, val_fraction, seed, healthy_class=healthy_class)
    else:
        records = split_by_patient(records, fractions, seed, healthy_class=healthy_class)
        absent = [part for part in PARTS if part not in parts]
        notes = finding("W_MISSING", "part is not there: the other is split by --fractions, not as published", absent)
    records = at_most(records, sample, seed)

    def read(indices: Sequence[int]) -> Iterator[Pixels]:
        for index in indices:
            part, number = records[index].id.split("/")
            yield parts[part][0][int(number)]

    settings = {"set": source, "images": {part: sha256_of(found[0]) for part, found in files.items() if found is not None}}
    write_pictures(target, [record.id for record in records], read, settings, progress)
    records, repeated = without_duplicates(records)
    return Listing(records=records, findings=(*notes, *repeated))


def read_part(images: Path, labels: Path) -> tuple[Arrays, Arrays]:
    """((N, rows, columns), (N,)) of one published part, labels 0..9."""
    pixels, classes = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(classes):
        raise InputError(
            f"holds {len(classes)} labels for {len(pixels)} images",
            code="E_LABEL",
            path=labels,
            fix="take images and labels of one download",
        )
    if classes.max() > 9:
        raise InputError(
            f"holds the label {classes.max()}, classes are 0..9", code="E_LABEL", path=labels, fix="download it again"
        )
    return pixels, classes


def part_files(root: Path, source: str, part: str) -> tuple[Path, Path] | None:
    """(images, labels) of a part; None = neither is there."""
    images, labels = (idx_file(root, source, f"{part}-{kind}") for kind in ("images", "labels"))
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        lacking = "labels" if labels is None else "images"
        raise InputError(f"holds no {part}-{lacking} file", code="E_LAYOUT", path=root, fix=f"it should hold {TREE}")
    return images, labels


def idx_file(root: Path, source: str, stem: str) -> Path | None:
    """The file under any of its known names, unpacked before gzipped; torchvision's ``raw`` folders and Kaggle's nesting too."""
    dimensions = "idx3" if stem.endswith("images") else "idx1"
    nested = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}[source]
    for place in (root, root / "raw", root / nested / "raw"):
        for name in (f"{stem}{joint}{dimensions}-ubyte{packed}" for packed in ("", ".gz") for joint in "-."):
            # Kaggle's upload of MNIST holds folders with the names of the files in them.
            for path in (place / name, place / name / name):
                if path.is_file():
                    return path
    return None

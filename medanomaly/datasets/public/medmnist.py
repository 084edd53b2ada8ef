"""MedMNIST v2: biomedical sets brought to 28, 64, 128 or 224 px (Yang et al. 2023, Scientific Data 10:41, arXiv:2110.14795)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.observations import Observations
from medanomaly.datasets.public.duplicates import without_duplicates
from medanomaly.datasets.public.extracted import Pixels, file_identity, picture_folder, write_pictures
from medanomaly.datasets.public.listing import Listing, Progress, silent
from medanomaly.datasets.public.npz_members import Member, npz_members, rows_of_member, whole
from medanomaly.datasets.public.sampling import at_most
from medanomaly.errors import ConfigError, InputError

HEALTHY = {"pneumoniamnist": (0,), "breastmnist": (1,), "retinamnist": (0,), "octmnist": (3,)}
"""Set -> labels without disease. BreastMNIST's 1 is "normal, benign" and its 0 "malignant": the reverse of the others."""
CHEST = (
    *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia"),
    *("pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia"),
)
"""What the 14 columns of ChestMNIST's labels mean."""
PARTS = {"train": "train", "val": "val", "test": "test"}


def medmnist(
    root: Path,
    folder: Path,
    *,
    name: str = "",
    healthy: tuple[int, ...] = (),
    classes: bool = False,
    sample: int = 0,
    seed: int = 0,
    progress: Progress[Any] = silent,
) -> Listing:
    """Manifest of a 2-D set of MedMNIST v2 (npz); images are written as PNG beside the manifest, splits are the published ones.

    Args:
        root: the npz, or the folder that holds it
        folder: of the manifest; images go below it
        name: which npz where the folder holds several, e.g. pneumoniamnist_64
        healthy: labels that become healthy, e.g. '[6]', all others diseased; known for pneumonia-, breast-, retina-, octmnist
        classes: keep the labels "0", "1", ... as classes
        sample: at most so many images of a class and split; 0 = all
        seed: of the sample
        progress: shown while images are written
    """
    path = npz_file(root, name)
    if folder.resolve() == path.resolve():
        raise ConfigError("a manifest cannot lie in an npz", code="E_CONFIG", path=path, fix="name it with --out manifest.csv")
    set_name = re.sub(r"_\d+$", "", path.stem)
    members = npz_members(path)
    images = {part: image_member(members, part, path) for part in PARTS}
    labels = {part: label_rows(members, part, images[part], path, is_chest=set_name == "chestmnist") for part in PARTS}
    known = healthy_labels(set_name, healthy, labels, classes=classes)
    target = picture_folder(folder, path.stem)
    records = [
        Record(
            id=f"{path.stem}/{part}/{index:06d}",
            patient_id=f"{path.stem}/{part}/{index:06d}",
            image=target / f"{part}/{index:06d}.png",
            label=label_of(row, known),
            split=PARTS[part],
            observations=observations(row) if set_name == "chestmnist" else (),
            source=path.stem,
        )
        for part in PARTS
        for index, row in enumerate(labels[part])
    ]
    records = at_most(records, sample, seed)

    def read(indices: Sequence[int]) -> Iterator[Pixels]:
        # Records of a part follow each other in the order of the archive, so each member is read once, forwards.
        for part in PARTS:
            wanted = [int(number_of(records[index])) for index in indices if records[index].split == PARTS[part]]
            yield from rows_of_member(images[part], wanted) if wanted else ()

    names = [f"{record.split}/{number_of(record)}" for record in records]
    write_pictures(target, names, read, {"set": path.stem, "source": file_identity(path)}, progress)
    records, findings = without_duplicates(records)
    return Listing(records=records, findings=tuple(findings))


def number_of(record: Record) -> str:
    """The image's place in its part, as the last word of its id."""
    return record.id.rsplit("/", 1)[1]


def npz_file(root: Path, name: str) -> Path:
    """The npz that is meant; InputError or ConfigError saying which there are."""
    if root.is_file():
        return root
    found = sorted(path.name.removesuffix(".npz") for path in root.glob("*.npz")) if root.is_dir() else []
    if not found:
        raise InputError("holds no npz", code="E_LAYOUT", path=root, fix="download one, e.g. pneumoniamnist.npz, to it")
    if name and name.removesuffix(".npz") not in found:
        near = difflib.get_close_matches(name, found, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(found)}"
        raise ConfigError(f"{name!r} is not in {str(root)!a}", code="E_CONFIG", fix=advice)
    if not name and len(found) > 1:
        raise ConfigError(
            f"holds {len(found)} sets: {', '.join(found)}", code="E_CONFIG", path=root, fix="choose one with --name"
        )
    return root / f"{name.removesuffix('.npz') or found[0]}.npz"


def image_member(members: dict[str, Member], part: str, path: Path) -> Member:
    """The images of a part: (N, H, W) gray or (N, H, W, 3) RGB, uint8."""
    wanted = [f"{part}_{kind}" for part in PARTS for kind in ("images", "labels")]
    absent = [name for name in wanted if name not in members]
    if absent:
        raise InputError(
            f"holds no {', '.join(absent)}; it holds {', '.join(map(ascii, members)) or 'nothing'}",
            code="E_LAYOUT",
            path=path,
            fix="give an npz of MedMNIST",
        )
    member = members[f"{part}_images"]
    if "3d" in path.stem.lower() or len(member.shape) == 5 or (len(member.shape) == 4 and member.shape[3] != 3):
        raise InputError(
            f"holds volumes {member.shape}; this method is for 2-D images",
            code="E_SHAPE",
            path=path,
            fix="choose one of MedMNIST's 2-D sets",
        )
    if len(member.shape) not in (3, 4) or member.shape[0] == 0 or member.dtype != np.uint8:
        raise InputError(
            f"{member.name} is {member.shape} {member.dtype}, not (N, H, W) or (N, H, W, 3) uint8",
            code="E_SHAPE",
            path=path,
            fix="give an npz of MedMNIST",
        )
    return member


def label_rows(members: dict[str, Member], part: str, images: Member, path: Path, *, is_chest: bool) -> npt.NDArray[np.int64]:
    """(N, 1) labels >= 0, or (N, 14) of 0 and 1 for ChestMNIST."""
    member = members[f"{part}_labels"]
    width = len(CHEST) if is_chest else 1
    if member.shape not in ((images.shape[0], width), *([(images.shape[0],)] if width == 1 else [])):
        raise InputError(
            f"{member.name} is {member.shape}, not ({images.shape[0]}, {width})",
            code="E_LABEL",
            path=path,
            fix="give an npz of MedMNIST under its own name",
        )
    rows = whole(member).astype(np.int64).reshape(-1, width)
    if rows.min() < 0 or (is_chest and rows.max() > 1):
        raise InputError(f"{member.name} holds {rows.min()}..{rows.max()}", code="E_LABEL", path=path, fix="download it again")
    return rows


def healthy_labels(
    set_name: str, healthy: tuple[int, ...], labels: dict[str, npt.NDArray[np.int64]], *, classes: bool
) -> tuple[int, ...] | None:
    """The labels that mean no disease; None = classes keep their numbers. ChestMNIST: (0,), of the number of findings.

    Raises:
        ConfigError: E_CONFIG, options that do not fit the set or each other, or a label that is not in it.
    """
    if set_name == "chestmnist":
        if healthy or classes:
            raise ConfigError(
                "chestmnist is multi-label: healthy = no finding", code="E_CONFIG", fix="leave --healthy and --classes"
            )
        return (0,)
    if classes and healthy:
        raise ConfigError("healthy and classes exclude each other", code="E_CONFIG", fix="give one of them")
    if classes:
        return None
    present = sorted({int(label) for rows in labels.values() for label in np.unique(rows)})
    if not healthy and set_name not in HEALTHY:
        raise ConfigError(
            f"which labels of {set_name} are healthy is not defined; it holds {', '.join(map(str, present))}",
            code="E_CONFIG",
            fix="say it, e.g. --healthy '[6]', or keep them as classes with --classes true",
        )
    absent = [label for label in healthy if label not in present]
    if absent or set(present) <= set(healthy):
        raise ConfigError(
            f"healthy must be some, not all, of the labels {', '.join(map(str, present))}, got {list(healthy)}",
            code="E_CONFIG",
            fix="see the set's list of labels",
        )
    return healthy or HEALTHY[set_name]


def label_of(row: npt.NDArray[np.int64], healthy: tuple[int, ...] | None) -> str:
    """The class of a row of labels."""
    if healthy is None:
        return str(row[0])
    return "healthy" if int(row.sum()) in healthy else "diseased"


def observations(row: npt.NDArray[np.int64]) -> Observations:
    """The 14 findings of a chest radiograph."""
    return tuple((name, int(value)) for name, value in zip(CHEST, row, strict=True))

"""A drawn BraTS 2020 folder: heads of ellipsoids in four modalities, with tumours in some slices. No pixel of a patient."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np

KINDS = ("flair", "t1", "t1ce", "t2", "seg")
SHAPE = (30, 36, 10)
"""Voxels to the left, to the back and to the top; BraTS has 240 x 240 x 155."""
SUBJECTS = (1, 2, 3, 4, 5, 6, 7, 355)
TRAINING, VALIDATION = "MICCAI_BraTS2020_TrainingData", "MICCAI_BraTS2020_ValidationData"
OPTIONS = ["--skip-low", "1", "--skip-high", "1"]
CHANNELS = 4

GRAY = {"flair": (520, 200, 900), "t1": (600, 260, 430), "t1ce": (640, 270, 980), "t2": (450, 950, 800)}
"""modality -> (brain, ventricles, tumour), in the arbitrary units of MRI."""


def brats_affine(shape: tuple[int, ...] = SHAPE, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """Voxel to mm of the published files: axes to the left, back and top, the origin at the back of the second axis."""
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[1, 3] = (shape[1] - 1) * spacing[1]
    return affine


def write_volume(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """NIfTI, gzipped by its suffix, with the same bytes each time."""
    image = nibabel.Nifti1Image(values, brats_affine(values.shape) if affine is None else affine)
    image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, mtime=0) if path.name.endswith(".gz") else content)
    return path


def write_case(folder: Path, volumes: Mapping[str, np.ndarray], name: str = "{case}_{kind}.nii.gz") -> Path:
    """All volumes of a case in the folder of its name."""
    for kind, values in volumes.items():
        write_volume(folder / name.format(case=folder.name, kind=kind), values)
    return folder


def draw_case(number: int, shape: tuple[int, int, int] = SHAPE) -> dict[str, np.ndarray]:
    """kind -> volume, stored as BraTS does: an ellipsoid, two ventricles, and a tumour in the slices 4 to 6 of 10 (scaled)."""
    rng = np.random.default_rng(number)
    u, v, w = (
        2 * (index + 0.5) / size - 1 for index, size in zip(np.ogrid[: shape[0], : shape[1], : shape[2]], shape, strict=True)
    )
    brain = (u / 0.8) ** 2 + (v / 0.9) ** 2 + (w / 1.5) ** 2 < 1
    ventricles = ((np.abs(u) - 0.15) / 0.09) ** 2 + (v / 0.4) ** 2 + (w / 0.9) ** 2 < 1
    side = 1 if rng.random() < 0.5 else -1
    centre = (side * rng.uniform(0.3, 0.5), rng.uniform(-0.4, 0.4), 0.1)
    distance = np.sqrt(((u - centre[0]) / 0.3) ** 2 + ((v - centre[1]) / 0.25) ** 2 + ((w - centre[2]) / 0.35) ** 2)
    tumour = (distance < 1) & brain
    core = (distance < 0.5) & brain
    texture = rng.integers(-1, 2, shape)
    volumes = {}
    for kind, (gray, fluid, lesion) in GRAY.items():
        values = np.where(tumour, lesion, np.where(ventricles, fluid, gray)) + 20 * texture
        volumes[kind] = np.where(brain, values, 0).astype(np.int16)
    volumes["seg"] = np.where(core, 4, np.where(tumour, 2, 0)).astype(np.uint8)
    return volumes


def build(root: Path) -> None:
    """Eight annotated subjects and one without segmentation, as BraTS 2020 names them; 355 with its segmentation's odd name."""
    for number in SUBJECTS:
        volumes = draw_case(number)
        folder = root / TRAINING / f"BraTS20_Training_{number:03d}"
        if number == 355:
            write_volume(folder / "W39_1998.09.19_Segm.nii.gz", volumes.pop("seg"))
        write_case(folder, volumes)
    unseen = draw_case(1001)
    del unseen["seg"]
    write_case(root / VALIDATION / "BraTS20_Validation_001", unseen)

"""One BraTS case, read whole, becomes axial pictures of several channels with their masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medanomaly.datasets.public.brats_layout import SEG, Case
from medanomaly.errors import InputError
from medanomaly.io.nifti_geometry import TOLERANCE_PX, misplacement_px
from medanomaly.io.volume import DISPLAY_ORDER, axial_slices, orientation_of, read_volume
from medanomaly.types import BoolArray, FloatArray

MAX_LABEL = 4
"""Labels are 1, 2, 4 until 2022 and 1, 2, 3 in 2023; in 2024, 4 is the cavity left by surgery."""
LABEL_TOLERANCE = 1e-3
"""How far scl_slope arithmetic may push a label from its integer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a case's slices without opening them."""

    numbers: tuple[int, ...]
    """Slice numbers, rising from the bottom of the head."""
    lesion_px: tuple[int, ...]
    """Pixels of the segmentation in each slice."""
    brain_share: tuple[float, ...]
    """Part of each slice, 0..1, that is above 0 in any modality."""
    spacing_mm: tuple[float, float] | None
    """(row, column)."""
    orientation: str
    """Order of the stored axes, "LPS" for the files as published; "" = the header does not say."""
    has_labels_3_and_4: bool
    """Only the post-treatment releases have both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """All slices of one kind, in radiological view."""

    planes: FloatArray
    """(Z, H, W) float32 as stored."""
    spacing_mm: tuple[float, float] | None
    orientation: str
    affine: npt.NDArray[np.float64] | None
    """Of the volume as stored; None = silent, or the files are slices."""
    stored_shape: tuple[int, int, int]
    path: Path
    """The (first) file, for messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CasePictures:
    """A case in memory."""

    image: npt.NDArray[np.float16]
    """(Z, C, H, W) in [0, 1], 0 = background."""
    lesion: BoolArray
    """(Z, H, W)."""
    facts: Facts


def read_case(case: Case, modalities: Sequence[str], percentile: float) -> CasePictures:
    """The slices of a case: one channel a modality, each divided by a percentile of its brain voxels and clipped to [0, 1].

    Scale is per volume, so that slices of a case stay comparable, and per modality, whose units are unrelated. 0 stays 0: it is
    the background that BraTS cuts the skull away with. Memory: one volume as float32 and all channels as float16.

    Args:
        case: complete in the modalities and the segmentation.
        modalities: order of the channels.
        percentile: 0..100, of the voxels above 0, that becomes 1.

    Raises:
        InputError: E_GEOMETRY (files of other size or place than the first), E_MASK_VALUES, E_CONSTANT (no voxel above 0), or
            what reading a volume raises.
    """
    first = stack_of(case, modalities[0])
    channels, brain = [], np.zeros(first.planes.shape, np.bool_)
    for modality in modalities:
        stack = first if modality == modalities[0] else stack_of(case, modality)
        refuse_other_geometry(stack, first)
        brain |= stack.planes > 0
        channels.append(scaled_channel(stack, percentile))
    seg = stack_of(case, SEG)
    refuse_other_geometry(seg, first)
    labels = labels_of(seg)
    facts = Facts(
        numbers=tuple(range(len(labels))) if case.numbers is None else case.numbers,
        lesion_px=tuple(int(count) for count in (labels > 0).sum(axis=(1, 2))),
        brain_share=tuple(round(float(share), 6) for share in brain.mean(axis=(1, 2))),
        spacing_mm=first.spacing_mm,
        orientation=first.orientation,
        has_labels_3_and_4=bool((labels == 3).any() and (labels == 4).any()),
    )
    return CasePictures(image=np.stack(channels, axis=1), lesion=labels > 0, facts=facts)


def stack_of(case: Case, kind: str) -> Stack:
    """The volume of one kind cut into slices, or its single slices one above the other."""
    files = [parts[kind] for _, parts in case.slices]
    if case.numbers is None:
        volume = read_volume(files[0])
        planes, spacing = axial_slices(volume)
        orientation, affine, shape = orientation_of(volume), volume.affine, volume.values.shape
    else:
        # Whoever cut the volume wrote the header of the slice: only the order of BraTS can be relied upon.
        slices = [read_volume(path) for path in files]
        for path, piece in zip(files, slices, strict=True):
            if piece.values.shape != (*slices[0].values.shape[:2], 1):
                raise other_geometry(path, piece.values.shape, files[0], slices[0].values.shape)
        planes = np.stack([piece.values[:, :, 0].T for piece in slices])
        size = slices[0].spacing_mm
        spacing = None if size is None else (size[1], size[0])
        orientation, affine, shape = DISPLAY_ORDER, None, slices[0].values.shape
    return Stack(
        planes=planes,
        spacing_mm=spacing,
        orientation=orientation,
        affine=affine,
        stored_shape=(shape[0], shape[1], shape[2]),
        path=files[0],
    )


def refuse_other_geometry(stack: Stack, first: Stack) -> None:
    """InputError E_GEOMETRY unless both have the same voxels at the same place: one of them would be drawn over the other wrongly."""
    if stack.stored_shape != first.stored_shape:
        raise other_geometry(stack.path, stack.stored_shape, first.path, first.stored_shape)
    if stack.affine is None or first.affine is None:
        distance = 0.0 if stack.affine is first.affine else np.inf
    else:
        distance = misplacement_px(stack.affine, first.affine, first.stored_shape)
    if distance > TOLERANCE_PX:
        apart = f"a corner is {distance:.3g} voxels off" if np.isfinite(distance) else "only one of them says where it lies"
        raise InputError(
            f"lies elsewhere than {first.path.name}: {apart}",
            code="E_GEOMETRY",
            path=stack.path,
            fix="fetch both again, or resample one onto the grid of the other",
        )


def other_geometry(path: Path, shape: Sequence[int], first: Path, first_shape: Sequence[int]) -> InputError:
    """What to say of two files of different size."""
    return InputError(
        f"has {' x '.join(map(str, shape))} voxels, {first.name} has {' x '.join(map(str, first_shape))}",
        code="E_GEOMETRY",
        path=path,
        fix="fetch both again, or resample one onto the grid of the other",
    )


def scaled_channel(stack: Stack, percentile: float) -> npt.NDArray[np.float16]:
    """(Z, H, W) float16 in [0, 1]; float16 has steps of at most 1/2048 there, finer than MRI's noise."""
    brain = stack.planes[stack.planes > 0]
    if not brain.size:
        raise InputError("holds no voxel above 0", code="E_CONSTANT", path=stack.path, fix="fetch it again")
    white = np.float32(np.percentile(brain, percentile))
    channel: npt.NDArray[np.float16] = np.clip(stack.planes / white, 0, 1).astype(np.float16)
    return channel


def labels_of(seg: Stack) -> npt.NDArray[np.uint8]:
    """(Z, H, W) labels 0..4; InputError E_MASK_VALUES for anything else."""
    whole = np.rint(seg.planes)
    if np.abs(seg.planes - whole).max() > LABEL_TOLERANCE or whole.min() < 0 or whole.max() > MAX_LABEL:
        shown = ", ".join(f"{value:g}" for value in np.unique(seg.planes)[:8])
        raise InputError(
            f"is no BraTS segmentation: it holds {shown}, labels are whole numbers in 0..{MAX_LABEL}",
            code="E_MASK_VALUES",
            path=seg.path,
            fix="fetch it again",
        )
    return whole.astype(np.uint8)

"""How training images are varied, by what may vary in them: a preset for each kind of picture.

A radiograph is never mirrored: the heart lies on the left, and a marker names the side. Tissue on a slide has no up or left.
Transforms are MONAI's; they see images shifted so that 0 is black, because 0 is what they fill corners with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandAffine,
    RandFlip,
    RandRotate90,
    RandScaleIntensity,
    Transform,
)
from torch import Tensor

AugmentationName = Literal["none", "radiograph", "pathology", "retina"]
SPAN = 2.0
"""Width of model space, [-1, 1]."""


def moved(size: int, *, degrees: float, shift: float, scale: float) -> RandAffine:
    """A turn, a shift (share of the side) and a zoom, each drawn evenly up to these; what comes from outside is black."""
    return RandAffine(
        prob=1.0,
        rotate_range=(math.radians(degrees),),
        translate_range=(shift * size,) * 2,
        scale_range=(scale,) * 2,
        mode="bilinear",
        padding_mode="zeros",
    )


def lit(contrast: float, brightness: float) -> list[Transform]:
    """Gamma of the image's own range within 1 +- ``contrast`` and a factor within 1 +- ``brightness``, as exposure differs."""
    return [
        RandAdjustContrast(prob=1.0, gamma=(1 - contrast, 1 + contrast)),
        RandScaleIntensity(factors=brightness, prob=1.0),
    ]


def radiograph(size: int) -> list[Transform]:
    """Small turns, shifts and zooms, and exposure; no mirror: the side matters."""
    return [moved(size, degrees=7, shift=0.05, scale=0.05), *lit(0.2, 0.1)]


def pathology(_size: int) -> list[Transform]:
    """Mirrors and quarter turns, exact on the grid: a slide has no orientation."""
    return [RandFlip(prob=0.5, spatial_axis=0), RandFlip(prob=0.5, spatial_axis=1), RandRotate90(prob=0.75, max_k=3)]


def retina(size: int) -> list[Transform]:
    """Left-right mirror (the other eye), turns, small shifts and zooms, and exposure."""
    return [RandFlip(prob=0.5, spatial_axis=1), moved(size, degrees=20, shift=0.04, scale=0.08), *lit(0.2, 0.1)]


PRESETS: dict[str, Callable[[int], list[Transform]]] = {"radiograph": radiograph, "pathology": pathology, "retina": retina}


@dataclass(frozen=True, slots=True)
class Augmentation:
    """A preset as a function of an image and a seed: the same seed changes the same image alike, in any process."""

    name: AugmentationName

    def __call__(self, x: Tensor, seed: int) -> Tensor:
        """(C, S, S) in [-1, 1], varied by draws of ``seed``; same shape, same range."""
        transform = Compose(PRESETS[self.name](x.shape[-1]))
        transform.set_random_state(seed=seed % 2**32)
        changed = transform((x + SPAN / 2) / SPAN)
        # MONAI's tensors carry metadata that must not enter a batch.
        plain = torch.as_tensor(changed).as_subclass(Tensor)
        return (plain * SPAN - SPAN / 2).clamp(-1, 1).to(x.dtype)

"""Scenes without motion blur: chest phantoms, films of a folder or of a manifest's split; and what else may look like a motion."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage, signal
from torch import Tensor

from benchmarks.deblur_cases import frame_of
from medanomaly.datasets.manifest import read_manifest
from medanomaly.datasets.phantom import block_mean, draw_anatomy, draw_thorax, heart_coverage, lung_coverage
from medanomaly.datasets.splits import spread
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.errors import InputError
from medanomaly.io.reader import read_image
from medanomaly.rng import numpy_generator

Plane = np.ndarray[Any, np.dtype[np.float64]]


def films_of(manifest: Path, split: str, count: int, side: int, *, allow_outside: bool) -> list[Plane]:
    """(side, side) in [0, 1] of ``count`` images of a split, spread over the ids; InputError where it has fewer."""
    records = [record for record in read_manifest(manifest, allow_outside=allow_outside) if record.split == split]
    if len(records) < count:
        raise InputError(f"has {len(records)} images in split {split!a}, not {count}", code="E_SPLIT", path=manifest)
    return [frame_of(record, PreprocessConfig(image_size=side)) for record in spread(records, count)]


def quiet_phantom(seed: int, size: int, patient: int) -> Plane:
    """(size, size) in [0, 1]: a healthy chest as :mod:`medanomaly.datasets.phantom` draws it, without film noise or rounding."""
    anatomy = draw_anatomy(numpy_generator(seed, "deblur-anatomy", patient))
    grid = (np.arange(4 * size) + 0.5) / (4 * size) - 0.5
    rows, columns = np.meshgrid(grid, grid, indexing="ij")
    turn = numpy_generator(seed, "deblur-turn", patient).uniform(-0.04, 0.04)
    y, x = np.cos(turn) * rows - np.sin(turn) * columns, np.sin(turn) * rows + np.cos(turn) * columns
    lungs = [lung_coverage(x, y, anatomy, side, 0.0) * (1 - heart_coverage(x, y, anatomy)) for side in (0, 1)]
    return block_mean(ndimage.gaussian_filter(draw_thorax(x, y, anatomy, lungs), 2.0))


def gray(path: Path) -> Plane:
    """(H, W) in [0, 1] of a gray image file."""
    raw = read_image(path)
    low, high = raw.value_range or (float(raw.pixels.min()), float(raw.pixels.max()))
    return np.asarray((raw.pixels[0].astype(np.float64) - low) / (high - low))


def observed(scene: Plane, kernel: Tensor, noise: float, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(picture, truth) both (1, 1, H, W) in [0, 1]: blurred where the blur sees everything, noise in levels, 8 bits."""
    taps = kernel.numpy()
    seen = signal.fftconvolve(scene, taps, mode="valid")
    down, right = taps.shape[0] // 2, taps.shape[1] // 2
    truth = scene[down : down + seen.shape[0], right : right + seen.shape[1]]
    picture = np.clip(np.rint(255 * seen + noise * random.normal(size=seen.shape)), 0, 255) / 255
    return torch.from_numpy(picture)[None, None], torch.from_numpy(truth.copy())[None, None]


def as_jpeg(scene: Plane) -> Plane:
    """The scene after JPEG of quality 85."""
    memory = io.BytesIO()
    Image.fromarray(np.rint(255 * scene.clip(0, 1)).astype(np.uint8)).save(memory, "JPEG", quality=85)
    return np.asarray(Image.open(memory), dtype=np.float64) / 255


def framed(scene: Plane) -> Plane:
    """The scene inside a black collimator frame that is turned by 5 degrees, with a white marker."""
    frame = np.zeros_like(scene)
    rows, columns = scene.shape
    frame[rows // 10 : -rows // 10, columns // 8 : -columns // 8] = 1
    frame = ndimage.rotate(frame, 5, reshape=False, order=1)
    lit = scene * frame
    lit[rows // 8 : rows // 8 + 6, columns // 5 : columns // 5 + 3] = 1
    return np.asarray(lit)


SHARP: dict[str, Callable[[Plane], Plane]] = {
    "as it is": lambda scene: scene,
    "Gaussian 0.7 px": lambda scene: ndimage.gaussian_filter(scene, 0.7),
    "Gaussian 1.5 px": lambda scene: ndimage.gaussian_filter(scene, 1.5),
    "Gaussian 1.4 x 1 px": lambda scene: ndimage.gaussian_filter(scene, (1.4, 1.0)),
    "enlarged 1.6 times": lambda scene: ndimage.zoom(scene, 1.6, order=3),
    "rows stretched 1.3 times": lambda scene: ndimage.zoom(scene, (1.3, 1), order=3),
    "turned frame, marker": framed,
    "JPEG 85": as_jpeg,
}
"""Images without motion, and what else may look like it."""

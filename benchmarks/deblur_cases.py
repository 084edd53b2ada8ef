"""Pictures blurred on purpose, whose truth and kernel are known, and what is needed to measure solvers on them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import signal
from torch import Tensor

from deblur.canvas import Canvas
from deblur.diffpir import noise_floor
from deblur.kernels import linear_motion
from deblur.restore import Restore
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.transforms import PreprocessConfig, to_model
from medanomaly.io.options import ReadOptions
from medanomaly.io.reader import read_image
from medanomaly.rng import numpy_generator
from medanomaly.types import EpsFn

STEP = 1 / 255
"""Of the stored values in [0, 1]: all pictures are rounded to 8 bits."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Case:
    """A blurred picture whose truth is known."""

    record: Record
    y: Tensor
    """(1, h, w) float32 in [0, 1], multiples of 1 / 255."""
    truth: Tensor
    """The same shape."""
    length: float
    angle: float
    noise: float
    """Gray levels, before rounding."""

    @property
    def noise_sd(self) -> float:
        """In [0, 1], rounding included."""
        return noise_floor(self.noise / 255, 256)


class Stopwatch:
    """Counts the seconds inside of a noise predictor."""

    def __init__(self, eps_fn: EpsFn) -> None:
        self.eps_fn = eps_fn
        self.seconds = 0.0

    def __call__(self, x_t: Tensor, t: int) -> Tensor:
        """The predictor's answer."""
        started = self.now(x_t)
        eps = self.eps_fn(x_t, t)
        self.seconds += self.now(x_t) - started
        return eps

    @staticmethod
    def now(x: Tensor) -> float:
        """Seconds, once the device has done what it was told."""
        if x.device.type == "cuda":
            torch.cuda.synchronize(x.device)
        return time.perf_counter()


def frame_of(record: Record, preprocess: PreprocessConfig) -> np.ndarray:
    """(S, S) float64 in [0, 1], the image at the prior's side."""
    raw = read_image(record.image, ReadOptions(channels=preprocess.channels))
    x, _ = to_model(raw, preprocess, record.intensity_range)
    return np.asarray((x[0].double().numpy() + 1) / 2)


def case_of(record: Record, frame: np.ndarray, length: float, noise: float, seed: int) -> Case:
    """The frame blurred, cropped, made noisy and rounded; length 0 = not blurred."""
    random = numpy_generator(seed, "deblur-benchmark-case", record.id, length, noise)
    angle = float(random.uniform(0, 180))
    taps = linear_motion(length, angle).numpy()
    seen = signal.fftconvolve(frame, taps, mode="valid")
    down, right = taps.shape[0] // 2, taps.shape[1] // 2
    truth = frame[down : down + seen.shape[0], right : right + seen.shape[1]]
    stored = np.clip(np.rint(255 * seen + noise * random.normal(size=seen.shape)), 0, 255)
    y, x = (torch.from_numpy(np.ascontiguousarray(values))[None].float() for values in (stored / 255, truth))
    return Case(record=record, y=y, truth=x, length=length, angle=angle, noise=noise)


def solved(
    restore: Restore, cases: Sequence[Case], kernels: Sequence[Tensor], batch_size: int, multiple: int, device: torch.device
) -> list[Tensor]:
    """(1, h, w) of each case, not clamped; pictures of one canvas and noise share a batch."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, (case, kernel) in enumerate(zip(cases, kernels, strict=True)):
        size = (case.y.shape[-2], case.y.shape[-1])
        key = (size, Canvas.around(size, kernel, multiple=multiple).size, case.noise_sd)
        groups.setdefault(key, []).append(index)
    found: dict[int, Tensor] = {}
    for members in groups.values():
        for start in range(0, len(members), batch_size):
            part = members[start : start + batch_size]
            y = torch.stack([cases[index].y for index in part]).to(device)
            restored = restore(y, [kernels[index] for index in part], cases[part[0]].noise_sd).image.cpu()
            found |= dict(zip(part, restored, strict=True))
    return [found[index] for index in range(len(cases))]

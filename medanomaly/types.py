"""The words every room shares: an image as read, an image as the network sees it, a result, and who does what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

EpsFn = Callable[[Tensor, int], Tensor]
"""(x_t (B, C, H, W), t in 0..T) -> predicted noise eps (B, C, H, W)."""

ImageTransform = Callable[[Tensor], Tensor]
"""(B, C, H, W) in [-1, 1] -> same shape, same range."""

WalkObserver = Callable[[int, Tensor, Tensor], None]
"""(level reached, x_t there, predicted x_0), called after each step of a walk; must not change its arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawImage:
    """An image as its file means it, before any resizing: bright is bright, rows first."""

    pixels: FloatArray
    """(C, H, W) float32, C = 1 for gray. DICOM: after modality and VOI LUT, MONOCHROME1 already inverted."""
    value_range: tuple[float, float] | None
    """What the format calls black and white, (0, 255) for an 8-bit PNG; None where the format does not say (npy, NIfTI)."""
    spacing_mm: tuple[float, float] | None = None
    """(row, column) distance between pixel centres in mm; None = unknown."""
    notes: tuple[str, ...] = ()
    """What the reader did that a person should know, e.g. 'MONOCHROME1 inverted'. Never patient identity."""

    @property
    def native_size(self) -> tuple[int, int]:
        """(rows, columns) of the source."""
        return int(self.pixels.shape[1]), int(self.pixels.shape[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """How a native (rows, columns) image was padded to a square and resized to the model's side; enough to go back."""

    native_size: tuple[int, int]
    pad_before: tuple[int, int]
    """Rows added above and columns added left so that the image is a centred square of side max(native_size)."""
    model_size: int
    """Side of the square the network sees, in px."""

    @property
    def square_side(self) -> int:
        """Side of the padded square in native px."""
        return max(self.native_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle somebody drew around a lesion, in px of the native image; pixel (0, 0) covers 0..1 each way."""

    x_min: float
    """Left edge, along columns."""
    y_min: float
    """Upper edge, along rows."""
    x_max: float
    """Right edge, x_max > x_min."""
    y_max: float
    """Lower edge, y_max > y_min."""
    label: str = ""
    """What is in it, in the source's words; "" = not said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image ready for a method, with what is known about it."""

    id: str
    patient_id: str
    x: Tensor
    """(C, H, W) float32 in [-1, 1], model space."""
    label: str | None
    """Class name, None = unknown."""
    mask: BoolArray | None
    """(rows, columns) native, True = lesion; None = not annotated, never all-False for that reason."""
    geometry: Geometry
    spacing_mm: tuple[float, float] | None = None
    boxes: tuple[Box, ...] | None = None
    """Boxes around lesions, native px; None = nobody drew boxes, () = somebody looked and drew none."""
    observations: tuple[tuple[str, int], ...] = ()
    """(name, 1 present | 0 absent | -1 uncertain) of each that the source mentions, for classifiers of several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyResult:
    """What a method says of a batch. Higher is worse."""

    anomaly_map: Tensor
    """(B, 1, H, W) >= 0, one scale for all images (never rescaled per image)."""
    score: Tensor
    """(B,) one number an image."""
    pseudo_healthy: Tensor | None = None
    """(B, C, H, W) in [-1, 1]: the healthy counterfactual, where the method makes one."""
    map_std: Tensor | None = None
    """(B, 1, H, W) >= 0, in the map's unit: per-pixel sample deviation (n - 1) of the maps that the answer was made of (noise levels,
    or draws of the noise); None where there is only one."""


class Observer(Protocol):
    """Watches a run and never changes it."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one step: loss, learning rate, metrics."""

    def images(self, name: str, step: int, x: Tensor) -> None:
        """A batch (B, C, H, W) in [-1, 1] worth looking at."""


@runtime_checkable
class AnomalyMethod(Protocol):
    """Anything that localizes. Pure: the same x gives the same answer, whatever else is in the batch."""

    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
        """x (B, C, H, W) in [-1, 1] -> maps, scores and, where made, the pseudo-healthy image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Which images of a step's whole batch one of several training processes computes: first <= row < stop."""

    first: int
    stop: int
    total: int
    """Images of the whole batch."""

    def of(self, whole: Tensor) -> Tensor:
        """These rows of a tensor (total, ...)."""
        return whole[self.first : self.stop]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Training images with the index of their class in the method's named classes, or with a target for each of them."""

    x: Tensor
    """(B, C, H, W) float32 in [-1, 1]."""
    label: Tensor
    """(B,) int64; where an image may be of several classes (B, classes) int64: 1, 0, or -1 = not known."""
    share: Share | None = None
    """Which rows of the step's batch these are, where several processes train; None = all of them."""

    def drawn(self, draw: Callable[[int], Tensor]) -> Tensor:
        """This batch's rows of ``draw(number of images)`` (images, ...).

        The draw is always that of the whole batch, so an image gets the same numbers however many processes share the work.
        """
        return draw(len(self.x)) if self.share is None else self.share.of(draw(self.share.total))


class Recipe(Protocol):
    """Owns its networks and optimisers and does one optimiser step; the loop around it is the same for all."""

    by_share: bool
    """Several processes can train it: its loss is a mean over the images of a batch, see :mod:`medanomaly.training.ranks`."""
    recomputes: bool
    """It has a network that can be checkpointed, see :mod:`medanomaly.diffusion.recompute`."""

    def step(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """One optimiser step on a batch; every random draw comes from the generator."""

    def state(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit: tensors, numbers, strings, lists and dicts only."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Undo of state()."""

    def weights(self) -> dict[str, Tensor]:
        """The tensors a released checkpoint holds (the EMA's)."""


class MethodRecipe(Recipe, Protocol):
    """A recipe whose weights localize."""

    def method(self) -> AnomalyMethod:
        """The method with the weights to be used (the EMA's), sharing no storage with the training weights."""

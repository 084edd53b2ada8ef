"""Deblurring as a step before a method, in model space: images that show no motion, or come out badly, go through untouched.

For whole data sets ``medanomaly deblur`` is the better way: it works at the images' own size and depth, where a motion of a few px is
still there, and it writes down what it did to each. Here an image has been resized to the method's side, and perhaps padded to a square,
beside whose bars the blur model does not hold: the gates then leave such an image as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deblur.diffpir import noise_floor, to_model, to_unit
from deblur.estimate import LEAST_SIDE_PX
from deblur.kernel_spec import KernelSpec
from deblur.policy import Policy, judge, plan
from deblur.restore import Restorer
from medanomaly.errors import ConfigError
from medanomaly.types import AnomalyMethod, AnomalyResult, Sample, WalkObserver

STEP = 1 / 255
"""Images are taken for 8-bit ones: after resizing nobody knows."""
CONSTANT = "constant"


class GatedDeblur:
    """An :data:`medanomaly.types.ImageTransform`; counts what became of the images it was given."""

    def __init__(self, restorer: Restorer, kernel: KernelSpec, *, image_size: int, channels: int, noise_level: float) -> None:
        """Refuses now what would fail for every image.

        Args:
            restorer: prior or classical solver.
            kernel: in px of the method's images.
            image_size: of the method.
            channels: of the method.
            noise_level: on the 0..255 scale.

        Raises:
            ConfigError: E_KERNEL for kernels in mm and random ones, E_CHANNELS, or E_SHAPE for images too small to be judged.
            InputError: E_KERNEL, a kernel larger than the images.
        """
        if kernel.unit == "mm" or kernel.kind == "random":
            raise ConfigError(
                f"the kernel '{kernel}' cannot be used here",
                code="E_KERNEL",
                fix="give it in px of the method's images, or run `medanomaly deblur` first",
            )
        if channels != 1:
            raise ConfigError(f"deblurring is for gray images, the method takes {channels} channels", code="E_CHANNELS")
        if image_size < LEAST_SIDE_PX:
            raise ConfigError(
                f"images of {image_size} px are too small to be judged, which takes {LEAST_SIDE_PX} px",
                code="E_SHAPE",
                fix="run `medanomaly deblur` on the images first",
            )
        if kernel.kind != "estimated":
            restorer.canvas_size((image_size, image_size), kernel.build())
        self.restorer, self.kernel, self.policy = restorer, kernel, Policy()
        self.noise_sd = noise_floor(noise_level / 255, 256)
        self.counts: Counter[str] = Counter()
        """Verdict -> images."""

    def __call__(self, x: Tensor) -> Tensor:
        """x (B, 1, H, W) in [-1, 1] -> the same; each image by itself, so that its answer does not depend on its batch."""
        return torch.stack([self.one(image) for image in x])

    def one(self, x: Tensor) -> Tensor:
        """(1, H, W): deblurred, or bit for bit as it came."""
        if float(x.max()) <= float(x.min()):
            self.counts[CONSTANT] += 1
            return x
        y = to_unit(x).cpu()
        made = plan(y, self.kernel, step=STEP, policy=self.policy)
        verdict = made.verdict
        restored = y
        if verdict.accepted:
            restored = self.restorer.restore(y[None].to(x.device), [made.kernel], self.noise_sd).image[0].cpu()
            verdict = judge(y, restored, made, self.noise_sd, self.policy)
        self.counts[verdict.status] += 1
        return to_model(restored.clamp(0, 1)).to(x) if verdict.accepted else x

    def before(self, method: AnomalyMethod) -> DeblurredFirst:
        """The method with this step before it."""
        return DeblurredFirst(method, self)

    def samples(self, samples: Sequence[Sample]) -> DeblurredSamples:
        """The samples with their images deblurred, so that several methods can be compared on the same ones."""
        return DeblurredSamples(samples, self)

    def said(self) -> str:
        """What became of the images, in words."""
        return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(self.counts.items())) or "no image"


class DeblurredFirst:
    """A method that sees its images deblurred."""

    def __init__(self, method: AnomalyMethod, transform: GatedDeblur) -> None:
        """Both are kept as they are."""
        self.method, self.transform = method, transform

    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
        """x (B, 1, H, W) in [-1, 1] -> the method's answer to what the transform makes of it."""
        return self.method.localize(self.transform(x), observer)


class DeblurredSamples(Sequence[Sample]):
    """Samples whose images have gone through a transform: each once, when first asked for, and then kept (4 bytes a pixel)."""

    def __init__(self, samples: Sequence[Sample], transform: GatedDeblur) -> None:
        """Neither is asked for anything yet; the samples need a length and integer indices."""
        self.inner, self.transform = samples, transform
        self.images: dict[int, Tensor] = {}

    def __len__(self) -> int:
        """As many as there were."""
        return len(self.inner)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        """The sample, its image deblurred or as it came; IndexError beyond the end."""
        sample = self.inner[index]
        if index not in self.images:
            self.images[index] = self.transform.one(sample.x)
        # A copy, so that nobody's change of it reaches the next reader.
        return replace(sample, x=self.images[index].clone())

"""Several DiffPIR restorations of an image, their mean and spread; and deblurring as a function from images to images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deblur.blur import Kernels, masked_step
from deblur.canvas import Canvas
from deblur.diffpir import MIN_NOISE_SD, DiffPirConfig, Restoration, diffpir_walk, levels_of, noise_floor, to_model, to_unit
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.errors import ConfigError
from medanomaly.rng import image_generator
from medanomaly.types import EpsFn, ImageTransform, WalkObserver


@dataclass(frozen=True, slots=True, kw_only=True)
class PosteriorSamples:
    """Several restorations of the same images."""

    mean: Tensor
    """(B, C, H, W) in [0, 1]."""
    unclamped_mean: Tensor
    """(B, C, H, W) about [0, 1], of the samples before their clamp: what a gate has to see."""
    std: Tensor | None
    """(B, C, H, W) >= 0: sample deviation (n - 1) of each pixel; None where there is one sample only."""
    samples: Tensor
    """(n, B, C, H, W) in [0, 1]."""
    share_outside: Tensor
    """(B,) share of the values that :func:`share_outside` finds before the clamp, mean of the samples."""


def posterior(
    what: Restoration,
    y_start: Tensor,
    *,
    seed: int,
    num_samples: int | None = None,
    canvas: Canvas | None = None,
    observer: WalkObserver | None = None,
) -> PosteriorSamples:
    """Several restorations of each image by :func:`diffpir`, whose arguments and errors these are, and how far they differ.

    The deviation shows what the prior fills in at random. It knows nothing of a wrong kernel or of what the prior always gets
    wrong, and it is too small: without blur and with an exact prior (white, Gaussian, of deviation 0.05 in [0, 1]), the default
    settings give 0.57 of the true posterior's deviation at a noise of 0.5 / 255, and 0.94 at 0.02.

    Args:
        what: prior, measurement, settings and number of samples.
        y_start: (B, C, H, W) about [0, 1].
        seed: of the noise; with it and the values of an image its samples are fixed. 0 is a seed like any other.
        num_samples: n; None = the config's.
        canvas: where y_start was placed; the samples are cropped to the picture, whose values choose the noise. None = it is all
            picture.
        observer: hears of one sample after the other, on the whole canvas.
    """
    count = what.config.num_samples if num_samples is None else num_samples
    if count < 1:
        raise ConfigError(f"num_samples must be at least 1, got {count}", code="E_CONFIG")
    picture = y_start if canvas is None else canvas.crop(y_start)
    walked = []
    for index in range(count):
        generators = [image_generator(seed, f"diffpir {index}", image) for image in picture]
        x = diffpir_walk(what, y_start, generators, observer)
        walked.append(x if canvas is None else canvas.crop(x))
    unclamped = to_unit(torch.stack(walked))
    samples = unclamped.clamp(0, 1)
    return PosteriorSamples(
        mean=samples.mean(dim=0),
        unclamped_mean=unclamped.mean(dim=0),
        std=samples.std(dim=0) if count > 1 else None,
        samples=samples,
        share_outside=torch.stack([share_outside(x, what.noise_sd) for x in walked]).mean(dim=0),
    )


def deblur_transform(
    eps_fn: EpsFn,
    schedule: NoiseSchedule,
    kernel: Kernels,
    *,
    noise_sd: float,
    size_multiple: int,
    config: DiffPirConfig,
    num_gray_levels: int | None = None,
    usable: Tensor | None = None,
    seed: int = 0,
) -> ImageTransform:
    """Deblurring as a function of images in model space: a canvas for the unseen border, :func:`posterior`, its mean.

    It restores whatever it is given. Whether an image is blurred, and whether the result can be trusted, is asked elsewhere.
    Pixels within half a kernel of the border depend on what was never seen: there the prior guesses most.

    Args:
        eps_fn: the prior; wrap it in :func:`deblur.tiles.tiled` for images larger than it was trained on.
        schedule: signal power by level, the prior's.
        kernel: one for all images, or one an image of the batch.
        noise_sd: of the images in [0, 1], before they were rounded.
        size_multiple: what the sides of the prior's images must be multiples of.
        config: steps, weights, start and number of samples.
        num_gray_levels: see :func:`noise_floor`.
        usable: (rows, columns) or (B, 1, rows, columns) bool, False at pixels that the blur does not explain, such as collimator
            borders and burned-in text; None = all are usable.
        seed: see :func:`posterior`.

    Returns:
        x (B, C, H, W) in [-1, 1] -> the same. Raises what :func:`diffpir` and :meth:`deblur.canvas.Canvas.around` raise.
    """
    sigma = noise_floor(noise_sd, num_gray_levels)
    levels_of(schedule, config)  # refuses settings now rather than at the first image

    def deblurred(x: Tensor) -> Tensor:
        canvas = Canvas.around((x.shape[-2], x.shape[-1]), kernel, multiple=size_multiple, usable=usable)
        placed = canvas.place(to_unit(x))
        step = masked_step(placed, kernel, canvas.mask)
        what = Restoration(eps_fn=eps_fn, data_step=step, schedule=schedule, noise_sd=sigma, config=config)
        restored = posterior(what, placed, seed=seed, canvas=canvas)
        return to_model(restored.mean)

    return deblurred


def share_outside(x: Tensor, noise_sd: float) -> Tensor:
    """(B,) share of the values farther outside [0, 1] than noise leads them: by three standard deviations. A wrong kernel raises it.

    Args:
        x: (B, C, H, W) in model space, before it is clamped. Without the margin, noise on a black background would count.
        noise_sd: in [0, 1].
    """
    return (x.abs() > 1 + 2 * 3 * max(noise_sd, MIN_NOISE_SD)).flatten(1).double().mean(dim=1)

"""Noise level, guidance scale and checkpoint from image labels alone, and beside them what masks would have chosen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medanomaly.errors import InputError
from medanomaly.evaluation.constant import blank_where_constant, constant_images
from medanomaly.evaluation.predict import Prediction, at_native_size, with_truth
from medanomaly.metrics.bootstrap import Interval, patient_bootstrap
from medanomaly.metrics.image import image_auroc
from medanomaly.metrics.pixel import best_dice_threshold, dice_per_image, pixel_average_precision
from medanomaly.metrics.separation import standardised_difference
from medanomaly.types import AnomalyResult, Sample

Criterion = Literal["gap", "auroc"]
Values = npt.NDArray[np.float64]


class Translator(Protocol):
    """A method at one noise level and guidance scale that shows its two halves apart."""

    def encode(self, x: Tensor) -> Any:
        """x (B, C, H, W) -> what the method makes of it at the noise level; does not depend on the guidance scale."""

    def reconstruct(self, latent: Any) -> Tensor:
        """That decoded without guidance, (B, C, H, W) in [-1, 1]."""

    def from_latent(self, x: Tensor, latent: Any) -> AnomalyResult:
        """What localize gives for x, whose latent this is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One thing to try."""

    checkpoint: str
    """Its name in tables."""
    noise_level: int
    num_steps: int
    """Each way; steps as wide as the checkpoint's."""
    guidance_scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A setting with what the validation images say of it."""

    setting: Setting
    gap: Interval
    """See :func:`guided_gap`."""
    image_auroc: Interval
    healthy_change: float
    """Mean over healthy images of the guided less the unguided change, in model units."""
    diseased_change: float
    healthy_spread: float
    """Sample deviation over healthy images of the same number: what the gap's denominator is made of."""
    diseased_spread: float
    average_precision: float | None
    """Of pixels, where validation masks show a lesion; else None."""
    dice: float | None
    """Mean over lesion images at the threshold that is best on these very images: for comparing settings, not a result."""

    def worth(self, criterion: Criterion) -> float:
        """The number that is maximised, -inf where it is not defined."""
        value = {"gap": self.gap, "auroc": self.image_auroc}[criterion].value
        return -math.inf if math.isnan(value) else value


def change(x: Tensor, other: Tensor) -> Values:
    """(B,) mean absolute difference of (B, C, H, W) images over pixels and channels."""
    found: Values = (x - other).abs().flatten(1).mean(dim=1).double().cpu().numpy()
    return found


def lost(x: Tensor, reconstruction: Tensor) -> Values:
    """The change without guidance; 0 where an image is constant, because it is blanked with guidance too."""
    return np.where(constant_images(x).cpu().numpy(), 0.0, change(x, reconstruction))


def guided_gap(guided: Values, unguided: Values, diseased: npt.NDArray[np.bool_]) -> float:
    """How much more guidance changes diseased images than healthy ones, in units of the spread between images.

    For image i, r_i = mean |x_i - decode_g(z_i)| - mean |x_i - decode_null(z_i)|, means over pixels and channels, z_i the latent at the
    noise level: the change that guidance makes beyond what encoding and decoding lose anyway. Then

        gap = (mean of r over diseased - mean of r over healthy) / sqrt((var of r over diseased + var of r over healthy) / 2).

    The idea that the gap between guided and unguided reconstruction errors shows a good setting without masks is that of AnoFPDM
    (Che et al. 2024); the formula is this project's. A larger g enlarges every change, so the difference alone would always
    ask for more guidance; divided by the spread it does not.

    Args:
        guided: (n,) change of each image under guidance.
        unguided: (n,) without.
        diseased: (n,) bool.
    """
    return standardised_difference(guided - unguided, diseased)


def try_settings(
    make: Callable[[Setting], Translator],
    settings: Sequence[Setting],
    samples: Sequence[Sample],
    *,
    healthy: str,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    masks: bool = True,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Iterator[Trial]:
    """A trial for each setting of one checkpoint; an image is encoded once a noise level, for all guidance scales.

    Args:
        make: the method at a setting.
        settings: those with one noise level next to each other.
        samples: labelled images of the validation split, both kinds.
        healthy: name of the class without disease.
        batch_size: images a forward pass.
        device: where the method computes.
        masks: also measure what the masks say, where there are any.
        num_resamples: of the bootstrap over patients.
        seed: of the bootstrap.

    Raises:
        InputError: E_LABEL, an image without a label; E_ONE_CLASS, fewer than two healthy or two diseased images.
    """
    diseased = checked_labels(samples, healthy)
    owners = [sample.patient_id for sample in samples]
    batches = [samples[start : start + batch_size] for start in range(0, len(samples), batch_size)]
    stacks = [torch.stack([sample.x for sample in batch]) for batch in batches]
    encoded_to, latents, unguided = None, [], np.zeros(0)
    for setting in settings:
        method = make(setting)
        if encoded_to != (setting.noise_level, setting.num_steps):
            encoded_to = (setting.noise_level, setting.num_steps)
            latents = [method.encode(x.to(device)) for x in stacks]
            unguided = np.concatenate([lost(x, method.reconstruct(z).cpu()) for x, z in zip(stacks, latents, strict=True)])
        found: list[Prediction] = []
        changes = []
        for batch, x, latent in zip(batches, stacks, latents, strict=True):
            # As evaluate and localize would answer, or the choice would be made by maps that nobody sees.
            result = blank_where_constant(x, method.from_latent(x.to(device), latent))
            if result.pseudo_healthy is None:
                raise TypeError("a translator must give the pseudo-healthy image")
            changes.append(change(x, result.pseudo_healthy.cpu()))
            found += at_native_size(batch, result)
        yield trial(setting, np.concatenate(changes), unguided, found, diseased, owners, healthy, masks, num_resamples, seed)


def checked_labels(samples: Sequence[Sample], healthy: str) -> npt.NDArray[np.bool_]:
    """(n,) True = diseased; two or more of both kinds."""
    if any(sample.label is None for sample in samples):
        raise InputError("a validation image has no label", code="E_LABEL", fix="leave it out")
    diseased = np.array([sample.label != healthy for sample in samples], dtype=np.bool_)
    if diseased.sum() < 2 or (~diseased).sum() < 2:
        raise InputError(
            f"needs two healthy and two diseased validation images, got {int((~diseased).sum())} and {int(diseased.sum())}",
            code="E_ONE_CLASS",
            fix="add labelled images to the val split",
        )
    return diseased


def trial(
    setting: Setting,
    guided: Values,
    unguided: Values,
    found: Sequence[Prediction],
    diseased: npt.NDArray[np.bool_],
    owners: Sequence[str],
    healthy: str,
    masks: bool,
    num_resamples: int,
    seed: int,
) -> Trial:
    """The numbers of one setting."""
    scores = np.array([prediction.score for prediction in found], dtype=np.float64)

    def interval(statistic: Callable[[npt.NDArray[np.int64]], float]) -> Interval:
        return patient_bootstrap(statistic, owners, num_resamples=num_resamples, seed=seed)

    known = with_truth(found, healthy) if masks else []
    lesioned = [(p.anomaly_map, truth) for p, truth in known if truth.any()]
    precision, overlap = None, None
    if lesioned:
        maps, truths = [p.anomaly_map for p, _ in known], [truth for _, truth in known]
        precision = pixel_average_precision(maps, truths)
        best = best_dice_threshold(maps, truths)
        overlap = float(dice_per_image([one for one, _ in lesioned], [truth for _, truth in lesioned], best).mean())
    beyond = guided - unguided
    return Trial(
        setting=setting,
        gap=interval(lambda i: guided_gap(guided[i], unguided[i], diseased[i])),
        image_auroc=interval(lambda i: image_auroc(scores[i], diseased[i])),
        healthy_change=float(beyond[~diseased].mean()),
        diseased_change=float(beyond[diseased].mean()),
        healthy_spread=float(beyond[~diseased].std(ddof=1)),
        diseased_spread=float(beyond[diseased].std(ddof=1)),
        average_precision=precision,
        dice=overlap,
    )


def best_by(trials: Sequence[Trial], criterion: Criterion) -> Trial:
    """The trial of highest worth; of equal ones the first, so list cheaper settings first.

    Raises:
        InputError: E_UNDEFINED, the criterion is defined for none.
    """
    best = max(trials, key=lambda one: one.worth(criterion))
    if best.worth(criterion) == -math.inf:
        raise InputError(
            f"{criterion} is defined for no setting", code="E_UNDEFINED", fix="add validation images, or use the other criterion"
        )
    return best


def best_by_masks(trials: Sequence[Trial]) -> Trial | None:
    """The trial of highest pixel average precision on validation masks; None where there are none."""
    measured = [one for one in trials if one.average_precision is not None]
    return max(measured, key=lambda one: one.average_precision or 0.0) if measured else None

"""What a classifier of noisy images learns from: a noisy image, and the loss of what is known of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.types import Share

MASKED = -1
"""Target of a label that is not known: it adds nothing to the loss."""


def noised(x_0: Tensor, schedule: NoiseSchedule, generator: torch.Generator, share: Share | None = None) -> tuple[Tensor, Tensor]:
    """(x_t, t) at a level of 1..T drawn for each image, as in diffusion training (arXiv:2105.05233, section 4.1).

    Args:
        x_0: (B, C, H, W) clean images.
        schedule: signal power by level.
        generator: draws on the CPU, so that they are the same on any device.
        share: which rows of a whole batch these are; None = all.
    """
    count = len(x_0) if share is None else share.total
    t = torch.randint(1, schedule.num_levels + 1, (count,), generator=generator)
    eps = torch.randn((count, *x_0.shape[1:]), generator=generator)
    t, eps = (drawn if share is None else share.of(drawn) for drawn in (t, eps))
    t = t.to(x_0.device)
    return schedule.add_noise(x_0, eps.to(x_0.device), t), t


def one_of_many(scores: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """(cross-entropy, share named right) of (B, K) scores against (B,) classes that exclude each other."""
    return F.cross_entropy(scores, label), (scores.argmax(dim=1) == label).float().mean()


def each_by_itself(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(mean binary cross-entropy, share right at probability one half) of the known of (B, K) targets: 1, 0, or ``MASKED``.

    Each known label weighs the same, whichever image it is of; a batch in which nothing is known has loss 0 and no gradient.
    """
    known = target != MASKED
    count = known.sum().clamp(min=1)
    wanted = target.clamp(min=0).to(scores.dtype)
    entropy = F.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
    right = ((scores > 0) == (target == 1)) & known
    return torch.where(known, entropy, torch.zeros_like(entropy)).sum() / count, right.sum() / count

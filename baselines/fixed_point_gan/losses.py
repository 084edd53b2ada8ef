"""Losses of Fixed-Point GAN (Siddiquee et al. 2019, arXiv:1908.06965) on the objective of WGAN-GP (arXiv:1704.00028)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medanomaly.errors import ConfigError

TranslateFn = Callable[[Tensor, Tensor], Tensor]
"""(x (B, C, H, W), wanted class (B,)) -> (B, C, H, W): the papers' G."""
CriticFn = Callable[[Tensor], tuple[Tensor, Tensor]]
"""x (B, C, H, W) -> realness of patches (B, 1, h, w), class logits (B, K): the papers' D."""


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """What each term counts beside the adversarial one; the defaults are the chest X-ray setting."""

    classification: float = 1.0
    """lambda_cls, cross-entropy of the class head."""
    gradient_penalty: float = 10.0
    """lambda_gp (arXiv:1704.00028)."""
    identity: float = 10.0
    """lambda_id, the fixed point: translated to its own class, an image stays."""
    reconstruction: float = 10.0
    """lambda_rec, translated there and back."""

    def __post_init__(self) -> None:
        for name in ("classification", "gradient_penalty", "identity", "reconstruction"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"weights.{name} must be finite and not negative, got {getattr(self, name)}", code="E_CONFIG")


def gradient_penalty(critic: CriticFn, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """Mean over images of (||gradient of the realness||_2 - 1)^2 between real and fake (arXiv:1704.00028, eq. 3).

    An image's realness is here the sum of its patches, while the critic's loss takes their mean. With n patches the loss then sees
    a critic of slope 1 / n, which is what the weights of identity and reconstruction were chosen with in StarGAN.

    Args:
        critic: the critic.
        real: (B, C, H, W).
        fake: (B, C, H, W).
        mix: (B,) in [0, 1], share of the real image in the point where the slope is taken.

    Returns:
        Scalar >= 0 that can be differentiated by the critic's weights.
    """
    share = mix.view(-1, 1, 1, 1)
    between = (share * real + (1 - share) * fake).detach().requires_grad_(True)
    realness, _ = critic(between)
    [slope] = torch.autograd.grad(realness.sum(), between, create_graph=True)
    norm: Tensor = torch.linalg.vector_norm(slope.flatten(1), dim=1)
    return ((norm - 1) ** 2).mean()


def critic_loss(
    critic: CriticFn, real: Tensor, fake: Tensor, label: Tensor, mix: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """-D(x) + D(x_f) + lambda_gp penalty + lambda_cls CE(class of x), and its terms.

    Args:
        critic: the critic.
        real: (B, C, H, W) images x.
        fake: (B, C, H, W) their translations x_f, without graph.
        label: (B,) classes of ``real``.
        mix: (B,) as :func:`gradient_penalty` takes it.
        weights: of the terms.

    Returns:
        ``d_loss`` with a graph; ``d_adv`` (minus the estimated Wasserstein distance), ``d_gp``, ``d_cls``, unweighted.
    """
    realness, logits = critic(real)
    adversarial = critic(fake)[0].mean() - realness.mean()
    classification = F.cross_entropy(logits, label)
    penalty = gradient_penalty(critic, real, fake, mix)
    total = adversarial + weights.gradient_penalty * penalty + weights.classification * classification
    return {"d_loss": total, "d_adv": adversarial, "d_gp": penalty, "d_cls": classification}


def translator_loss(
    translate: TranslateFn, critic: CriticFn, x: Tensor, label: Tensor, wanted: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """Loss of translating x to the wanted classes and to its own, and its terms (arXiv:1908.06965, section 3).

    Cross-domain, x_f = G(x, wanted): -D(x_f) + lambda_cls CE(x_f, wanted) + lambda_rec |x - G(x_f, label)|_1.
    Same-domain, x_s = G(x, label): -D(x_s) + lambda_cls CE(x_s, label) + lambda_rec |x - G(x_s, label)|_1 + lambda_id |x - x_s|_1.

    Args:
        translate: G.
        critic: D.
        x: (B, C, H, W) in [-1, 1].
        label: (B,) classes of x.
        wanted: (B,) classes to translate to.
        weights: of the terms.

    Returns:
        ``g_loss`` with a graph; ``g_adv``, ``g_cls``, ``g_rec`` (each the sum of the two halves) and ``g_id``, unweighted.
        |.|_1 is the mean over pixels and channels.
    """
    crossed, stayed = translate(x, wanted), translate(x, label)
    crossed_realness, crossed_logits = critic(crossed)
    stayed_realness, stayed_logits = critic(stayed)
    adversarial = -crossed_realness.mean() - stayed_realness.mean()
    classification = F.cross_entropy(crossed_logits, wanted) + F.cross_entropy(stayed_logits, label)
    reconstruction = F.l1_loss(translate(crossed, label), x) + F.l1_loss(translate(stayed, label), x)
    identity = F.l1_loss(stayed, x)
    total = (
        adversarial
        + weights.classification * classification
        + weights.reconstruction * reconstruction
        + weights.identity * identity
    )
    return {"g_loss": total, "g_adv": adversarial, "g_cls": classification, "g_rec": reconstruction, "g_id": identity}

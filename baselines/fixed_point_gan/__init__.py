"""Fixed-Point GAN (Siddiquee et al. 2019, arXiv:1908.06965), written from the papers."""

from __future__ import annotations

from baselines.fixed_point_gan.method import FixedPointGan, FixedPointGanConfig, FixedPointGanRecipe

__all__ = ["FixedPointGan", "FixedPointGanConfig", "FixedPointGanRecipe"]

"""Guests of the same interface, data and metrics. The floors learn nothing; no table stands without them."""

from __future__ import annotations

from baselines.autoencoder import AutoencoderConfig
from baselines.blur_residual import BlurResidual
from baselines.brightness import Brightness
from baselines.classifier_ddim import ClassifierDdimConfig
from baselines.fixed_point_gan import FixedPointGanConfig
from baselines.noise_start import NoiseStartConfig
from baselines.presets import BASELINE_PRESETS
from baselines.random_map import RandomMap
from medanomaly.methods.experiment import MethodConfig
from medanomaly.types import AnomalyMethod

FLOORS: dict[str, AnomalyMethod] = {"brightness": Brightness(), "blur residual": BlurResidual(), "random": RandomMap()}
"""Methods that learn nothing, by their name in tables; the last knows nothing of the image either."""
BASELINES: dict[str, type[MethodConfig]] = {
    config.kind: config for config in (AutoencoderConfig, NoiseStartConfig, ClassifierDdimConfig, FixedPointGanConfig)
}
"""Config classes of the trained baselines by the kind their checkpoints carry."""

__all__ = ["BASELINES", "BASELINE_PRESETS", "FLOORS"]

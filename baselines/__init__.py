"""Guests of the same interface, data and metrics. The floors learn nothing; no table stands without them."""

from __future__ import annotations

from baselines.blur_residual import BlurResidual
from baselines.brightness import Brightness
from medanomaly.types import AnomalyMethod

FLOORS: dict[str, AnomalyMethod] = {"brightness": Brightness(), "blur residual": BlurResidual()}

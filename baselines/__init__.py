"""Guests of the same interface, data and metrics. The floors learn nothing; no table stands without them."""

from __future__ import annotations

from collections.abc import Callable

from baselines.blur_residual import BlurResidual
from baselines.brightness import Brightness
from medanomaly.methods.experiment import Experiment, MethodConfig
from medanomaly.types import AnomalyMethod

FLOORS: dict[str, AnomalyMethod] = {"brightness": Brightness(), "blur residual": BlurResidual()}
"""Methods that learn nothing, by their name in tables."""
BASELINES: dict[str, type[MethodConfig]] = {}
"""Config classes of the trained baselines by the kind their checkpoints carry."""
BASELINE_PRESETS: dict[str, Callable[[], Experiment]] = {}
"""Experiments with baselines that can be named on the command line."""

"""Every method and preset there is: the core's and the baselines', put together here and handed to whoever needs the table."""

from __future__ import annotations

from collections.abc import Callable

from baselines import BASELINE_PRESETS, BASELINES
from medanomaly.classifiers.presets import CLASSIFIER_PRESETS
from medanomaly.methods import METHODS
from medanomaly.methods.experiment import Experiment, MethodConfig, ModelExperiment
from medanomaly.presets import MODEL_PRESETS, PRESETS

ALL_METHODS: dict[str, type[MethodConfig]] = {**METHODS, **BASELINES}
ALL_PRESETS: dict[str, Callable[[], Experiment]] = {**PRESETS, **BASELINE_PRESETS}
"""What localizes."""
TRAINABLE_PRESETS: dict[str, Callable[[], ModelExperiment]] = {**ALL_PRESETS, **MODEL_PRESETS, **CLASSIFIER_PRESETS}
"""What can be trained: the same, diffusion models that localize nothing, and classifiers."""

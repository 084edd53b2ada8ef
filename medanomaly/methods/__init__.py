"""Methods of the core by the kind their configs carry; functions that need the table take it as an argument."""

from __future__ import annotations

from medanomaly.methods.cfg_diffusion import CfgDiffusionConfig
from medanomaly.methods.experiment import MethodConfig

METHODS: dict[str, type[MethodConfig]] = {CfgDiffusionConfig.kind: CfgDiffusionConfig}

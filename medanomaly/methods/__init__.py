"""Methods of the core by the kind their configs carry; functions that need the table take it as an argument."""

from __future__ import annotations

from medanomaly.methods.cfg_diffusion import CfgDiffusionConfig

METHODS: dict[str, type[CfgDiffusionConfig]] = {CfgDiffusionConfig.kind: CfgDiffusionConfig}

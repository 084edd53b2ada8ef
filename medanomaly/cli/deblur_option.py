"""--deblur of ``medanomaly localize``: the solver, its kernel, and what belongs into the job's identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from medanomaly.errors import ConfigError
from medanomaly.methods.experiment import Experiment

if TYPE_CHECKING:
    from deblur.before_method import GatedDeblur


def deblur_of(
    solver: str | None, kernel: str, *, noise_level: float, steps: int, experiment: Experiment, device: torch.device
) -> tuple[GatedDeblur | None, dict[str, Any]]:
    """The step before the method, and the part of the identity that it is; (None, {}) where nobody asked for it.

    Args:
        solver: tv, wiener, rl or a prior; None = none.
        kernel: in px of the method's images; required with a solver.
        noise_level: on the 0..255 scale.
        steps: of DiffPIR.
        experiment: of the method.
        device: where a prior computes.

    Raises:
        ConfigError: a kernel without a solver, and what :class:`deblur.before_method.GatedDeblur` refuses.
    """
    if solver is None:
        if kernel:
            raise ConfigError(
                "--deblur-kernel says nothing without --deblur", code="E_CONFIG", fix="name a prior, or tv, with --deblur"
            )
        return None, {}
    # Here, because most jobs deblur nothing.
    from deblur.before_method import GatedDeblur
    from deblur.diffpir import DiffPirConfig
    from deblur.restore import START_LEVEL, ZETA, load_restorer
    from medanomaly.cli.deblur import named, required_kernel, taps_hash

    spec = required_kernel(kernel, option="--deblur-kernel")
    config = DiffPirConfig(num_steps=steps, t_start=START_LEVEL, zeta=ZETA)
    restorer = load_restorer(named(solver), device, config=config, seed=0)
    size, channels = experiment.preprocess.image_size, experiment.preprocess.channels
    made = GatedDeblur(restorer, spec, image_size=size, channels=channels, noise_level=noise_level)
    text = f"given {spec.path.name}" if spec.path is not None else str(spec)
    facts = {"solver": dict(restorer.identity), "kernel": text, "taps": taps_hash(spec), "noise_level": noise_level}
    return made, {"deblur": facts}

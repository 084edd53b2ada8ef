"""--deblur of ``medanomaly localize`` and ``evaluate``: the solver, its kernel, and what belongs into the job's identity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.seen import refuse_seen, sightings
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


def refuse_seen_by_prior(solver: str | None, tested: Sequence[Record], data: Path) -> None:
    """What a prior has learned from it restores better than anything new, which would pass for the method's doing.

    Args:
        solver: tv, wiener, rl or a prior; None = none.
        tested: the test split.
        data: the manifest, for the error.

    Raises:
        InputError: E_SEEN, the prior has seen an image or patient of it.
        CheckpointError: E_SEEN_UNKNOWN or E_SEEN_FILE, it cannot be known.
    """
    path = prior_path(solver)
    if path is not None:
        refuse_seen(path, tested, what="the deblurring prior", data=data)


def what_was_deblurred(solver: str | None, transform: GatedDeblur | None, validation: Sequence[Record]) -> tuple[str, ...]:
    """Lines for below a table: the solver, its kernel, what became of the images; and whether thresholds come from images it knew.

    Args:
        solver: as the command line has it.
        transform: after the last image; None = nothing was deblurred.
        validation: the images that thresholds were chosen on.
    """
    if transform is None:
        return ()
    kernel = transform.kernel if transform.kernel.path is None else f"given {transform.kernel.path.name}"
    lines = [f"Test and val images deblurred first by {transform.restorer.name}, kernel {kernel}: {transform.said()}."]
    if transform.restorer.note:
        lines.append(f"The prior is {transform.restorer.note}.")
    path = prior_path(solver)
    known = sightings(path, validation) if path is not None else {}
    if known:
        lines.append(
            f"The prior has seen {len(known)} of the {len(validation)} val images in its own training or validation: "
            "they may be deblurred better than the test images, and the thresholds chosen on them too low."
        )
    return tuple(lines)


def prior_path(solver: str | None) -> Path | None:
    """Where the prior's weights lie; None for solvers without one."""
    from deblur.restore import CLASSICAL
    from medanomaly.cli.deblur import named

    return None if solver is None or solver in CLASSICAL else Path(named(solver))

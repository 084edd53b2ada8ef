"""One signature for all that deblurs: images, a kernel each and their noise in, restored images out; a prior or a classical solver."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deblur.blur import masked_step
from deblur.canvas import Canvas
from deblur.classical import richardson_lucy, total_variation, wiener
from deblur.diffpir import DiffPirConfig, Restoration, levels_of
from deblur.posterior import posterior
from deblur.tiles import tiled
from medanomaly.config import to_dict
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.errors import CheckpointError
from medanomaly.files import sha256_of
from medanomaly.methods.diffusion_model import load_diffusion_model
from medanomaly.types import EpsFn

START_LEVEL, ZETA = 200, 1.0
"""Where DiffPIR's walk begins, and its share of fresh noise; published are 1000 and 0.3. On 6 validation chest films (64 px, prior
gray64-prior, motion of 10 px, kernel known, 20 steps) the mean gain over the blurred film is 10.1 dB at a noise of .5 levels and 4.4 dB
at 5, where total variation gains 6.7 and 2.2, and zeta 0.3 from the same start 7.7 and 3.3. Starts of 50 to 300 differ by .7 dB at most.
At .5 levels the published start gains 5.6 dB with zeta 0.3 and 8.7 dB with zeta 1: less, since what the blur did not erase is made up
too. (It lost .4 dB with zeta 0.3 before the data step was made cautious at the rho of 1e-9 of its first steps.)"""
TILE_SLACK = 1.25
"""Up to this many times its training side a network is asked whole: a canvas is a kernel larger than its picture, and four tiles
would cost four times as much for nothing."""
TILE_OVERLAP = 0.25
"""Share of a tile that neighbours have in common."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Restored:
    """What a solver makes of a batch."""

    image: Tensor
    """(B, 1, H, W) about [0, 1], not clamped: clamping would hide from the gate what is out of range."""
    std: Tensor | None = None
    """(B, 1, H, W) >= 0, deviation of several samples of a prior; None where there is one answer only."""


Restore = Callable[[Tensor, Sequence[Tensor], float], Restored]
"""(y (B, 1, H, W) in [0, 1], a kernel an image, noise in [0, 1] with rounding) -> :class:`Restored` on y's device."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Restorer:
    """A solver with its name, and all that decides its answers."""

    name: str
    """For people: "tv", or "DiffPIR with cxr64-prior, 20 steps"."""
    restore: Restore
    identity: Mapping[str, Any]
    """JSON that is equal just where the answers are."""
    size_multiple: int = 8
    """Canvas sides are rounded up to this."""
    experiment: Mapping[str, Any] | None = None
    """How the prior was trained; None without one."""
    note: str = ""
    """What a person should know of where it comes from."""

    def canvas_size(self, image_size: tuple[int, int], kernel: Tensor) -> tuple[int, int]:
        """(rows, columns) it works on: images of one canvas may share a batch without changing each other's answer."""
        return Canvas.around(image_size, kernel, multiple=self.size_multiple).size


def _by_wiener(y: Tensor, kernels: Sequence[Tensor], noise_sd: float) -> Restored:
    return Restored(image=wiener(y, kernels, noise_sd))


def _by_richardson_lucy(y: Tensor, kernels: Sequence[Tensor], noise_sd: float) -> Restored:
    # docs of richardson_lucy: 30 to 100 at half a gray level, 10 where there is much noise.
    return Restored(image=richardson_lucy(y, kernels, 30 if noise_sd < 2 / 255 else 10))


def _by_total_variation(y: Tensor, kernels: Sequence[Tensor], noise_sd: float) -> Restored:
    return Restored(image=total_variation(y, kernels, noise_sd))


CLASSICAL: dict[str, Restore] = {"tv": _by_total_variation, "wiener": _by_wiener, "rl": _by_richardson_lucy}
"""Solvers that need no weights: total variation, Wiener's filter, Richardson-Lucy."""


def diffpir_restore(
    eps_fn: EpsFn, schedule: NoiseSchedule, *, image_size: int, size_multiple: int, config: DiffPirConfig, seed: int
) -> Restore:
    """DiffPIR with a prior: the data step on the whole canvas, the network in tiles where that is much larger than it was trained on.

    Args:
        eps_fn: the prior.
        schedule: the one it was trained with.
        image_size: side it was trained at, px.
        size_multiple: what its sides must be multiples of.
        config: steps, samples and weights.
        seed: of the noise; with the values of an image it fixes that image's answer.

    Raises:
        ConfigError: more steps than levels, or a start beyond them: now, and not at the first image.
    """
    levels_of(schedule, config)

    def restore(y: Tensor, kernels: Sequence[Tensor], noise_sd: float) -> Restored:
        canvas = Canvas.around((y.shape[-2], y.shape[-1]), kernels, multiple=size_multiple)
        placed = canvas.place(y)
        tile = tile_side(canvas.size, image_size)
        what = Restoration(
            eps_fn=tiled(eps_fn, tile, round(TILE_OVERLAP * tile)),
            data_step=masked_step(placed, kernels, canvas.mask.to(y.device)),
            schedule=schedule,
            noise_sd=noise_sd,
            config=config,
        )
        found = posterior(what, placed, seed=seed, canvas=canvas)
        return Restored(image=found.unclamped_mean, std=found.std)

    return restore


def tile_side(canvas_size: tuple[int, int], image_size: int) -> int:
    """Side of the tiles: the training size, or a canvas side that is hardly larger."""
    return max([image_size, *(side for side in canvas_size if side <= TILE_SLACK * image_size)])


def load_restorer(name: str, device: torch.device, *, config: DiffPirConfig, seed: int) -> Restorer:
    """The solver that a command line names.

    Args:
        name: a key of ``CLASSICAL``, or a checkpoint of a diffusion model (its file or folder).
        device: where the network goes.
        config: of DiffPIR; the others have no settings.
        seed: of DiffPIR's noise.

    Raises:
        CheckpointError: E_MISSING, neither a solver nor a file; E_CHANNELS, a prior of colour images; what loading refuses.
    """
    if name in CLASSICAL:
        return Restorer(name=name, restore=CLASSICAL[name], identity={"solver": name})
    path = Path(name)
    if not path.exists():
        raise CheckpointError(
            f"is neither a checkpoint nor one of {', '.join(CLASSICAL)}",
            code="E_MISSING",
            path=path,
            fix="name a prior's folder (`medanomaly train gray128-prior`), or take tv",
        )
    loaded = load_diffusion_model(path, device)
    preprocess, network = loaded.experiment.preprocess, loaded.config.network
    if preprocess.channels != 1:
        raise CheckpointError(
            f"is a model of images with {preprocess.channels} channels", code="E_CHANNELS", path=path, fix="use a gray prior"
        )
    weights = path / "model.safetensors" if path.is_dir() else path
    return Restorer(
        name=f"DiffPIR with {loaded.experiment.name}, {config.num_steps} steps",
        restore=diffpir_restore(
            loaded.eps_fn(),
            loaded.schedule,
            image_size=preprocess.image_size,
            size_multiple=network.size_multiple,
            config=config,
            seed=seed,
        ),
        identity={"solver": "diffpir", "weights": sha256_of(weights), "config": to_dict(config), "seed": seed},
        size_multiple=network.size_multiple,
        experiment=loaded.experiment.to_dict(),
        note=loaded.note,
    )

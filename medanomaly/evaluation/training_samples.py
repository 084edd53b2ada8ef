"""What a model in training makes of a few validation images: input, pseudo-healthy image and map, for those who watch the run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from medanomaly.types import AnomalyMethod, Observer
from medanomaly.views.live import first_rows
from medanomaly.views.live_walk import result_sheet

NUM_SAMPLES = 4
"""Images of a grid."""
SAMPLE_STEPS = 10
"""Steps each way: enough to see what the model does, a small part of the time between two validations."""
SAMPLE_SCALE = 1.0
"""Value of the brightest map colour, half of the range of an image: the same from the first step to the last."""

Config = TypeVar("Config", bound=Any)


def quick(config: Config) -> Config:
    """The settings of a method with at most ten steps, one noise level and one draw; as they are where there is no sampler."""
    sampler = getattr(config, "sampler", None)
    if sampler is None:
        return config
    few = {"num_steps": min(sampler.num_steps, SAMPLE_STEPS), "noise_levels": None, "num_samples": 1}
    known = {field.name for field in fields(sampler)}
    return replace(config, sampler=replace(sampler, **{name: value for name, value in few.items() if name in known}))


def sample_grids(method: Callable[[], AnomalyMethod], x: Tensor, observers: Sequence[Observer]) -> Callable[[int], None]:
    """A function of the step that localizes the same images each time and shows observers the grid.

    The run stays what it is without it, bit for bit: the model is restored from copied weights, and what that draws from PyTorch's
    generator is put back. A failure, such as memory that is short, ends the grids with a warning, never the run.

    Args:
        method: makes the method as trained so far.
        x: (B, C, H, W) in [-1, 1], on the method's device.
        observers: get a batch of one RGB picture, (1, 3, H', W') in [-1, 1].
    """
    failed = False

    def show(step: int) -> None:
        nonlocal failed
        if failed:
            return
        try:
            with torch.random.fork_rng(devices=[]):
                result = method().localize(x)
            twin = None if result.pseudo_healthy is None else first_rows(result.pseudo_healthy)
            maps = first_rows(result.anomaly_map)
            grid = result_sheet(first_rows(x), twin, maps, batch_size=len(x), scale_max=SAMPLE_SCALE)
        except Exception as error:  # whatever it is, watching must not end the run
            failed = True
            print(f"warning: no more sample grids ({type(error).__name__}: {error})", file=sys.stderr)
            return
        shown = torch.from_numpy(grid.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        for observer in observers:
            observer.images(f"samples, map 0 to {SAMPLE_SCALE:g}", step, shown)

    return show

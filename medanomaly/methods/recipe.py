"""One optimiser step of label-dropped diffusion training: the CFG method's, and with no classes the unconditional prior's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from medanomaly.diffusion.loss import diffusion_loss
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.unet import Denoiser
from medanomaly.training.config import TrainingConfig, learning_rate
from medanomaly.types import Batch

AverageFn = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]
"""(averages, current values, updates so far): changes the averages in place."""


def moving_average(decay: float) -> AverageFn:
    """Exponential moving average whose decay rises as min(decay, (1 + n) / (10 + n)) with the n-th update.

    The ramp forgets the random start: at a constant decay of 0.999, 3 % of it would be left after 3,500 steps.
    """

    @torch.no_grad()
    def update(averages: Sequence[Tensor], current: Sequence[Tensor], num_averaged: Tensor | int) -> None:
        count = int(num_averaged)
        weight = 1 - min(decay, (1 + count) / (10 + count))
        for average, value in zip(averages, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value, weight)
            else:
                average.copy_(value)

    return update


class DiffusionTrainer:
    """Denoiser, its moving average and its optimiser. Every draw comes from the generator a step is given."""

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: NoiseSchedule,
        training: TrainingConfig,
        *,
        p_uncond: float,
        bound_weight: float,
        device: torch.device,
    ) -> None:
        self.denoiser = denoiser.to(device)
        self.average = AveragedModel(self.denoiser, multi_avg_fn=moving_average(training.ema_decay), use_buffers=True)
        self.average.requires_grad_(False)
        self.schedule = schedule
        self.training = training
        self.p_uncond = p_uncond
        self.bound_weight = bound_weight
        self.device = device
        self.num_steps_done = 0
        self.optimizer = torch.optim.AdamW(
            self.denoiser.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )

    def loss(self, denoiser: Denoiser, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Training loss of a batch: levels and noise drawn, labels dropped with probability p_uncond (arXiv:2207.12598, alg. 1)."""
        x_0 = batch.x.to(self.device)
        t = torch.randint(1, self.schedule.num_levels + 1, (len(x_0),), generator=generator)
        eps = torch.randn(x_0.shape, generator=generator)
        dropped = torch.rand(len(x_0), generator=generator) < self.p_uncond
        label = torch.where(dropped, denoiser.null_index, batch.label).to(self.device)

        def network(x_t: Tensor, levels: Tensor) -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.training.precision == "bf16"):
                output: Tensor = denoiser(x_t, levels, label)
            return output

        config = denoiser.config
        return diffusion_loss(
            network,
            x_0,
            t.to(self.device),
            eps.to(self.device),
            self.schedule,
            prediction=config.prediction,
            learn_sigma=config.learn_sigma,
            bound_weight=self.bound_weight,
        )

    def step(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """One optimiser step; a non-finite loss or gradient changes nothing and is returned as ``skipped`` = 1."""
        self.denoiser.train()
        self.denoiser.dropout_generator = generator
        rate = learning_rate(self.num_steps_done, self.training)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        terms = self.loss(self.denoiser, batch, generator)
        self.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()  # type: ignore[no-untyped-call]
        limit = self.training.grad_clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.denoiser.parameters(), limit)
        self.num_steps_done += 1
        values = {name: float(value.detach()) for name, value in terms.items()}
        values |= {"grad_norm": float(norm), "learning_rate": rate, "skipped": 0.0}
        if not (torch.isfinite(terms["loss"]) and torch.isfinite(norm)):
            self.optimizer.zero_grad(set_to_none=True)
            return values | {"skipped": 1.0}
        self.optimizer.step()
        self.average.update_parameters(self.denoiser)
        return values

    @torch.inference_mode()
    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Loss of the averaged weights on a batch; the same generator seed gives comparable numbers through a run."""
        averaged = cast(Denoiser, self.average.module.eval())
        return {name: float(value) for name, value in self.loss(averaged, batch, generator).items()}

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights, copied."""
        return {name: value.detach().cpu().clone() for name, value in self.average.module.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """Everything a bit-for-bit continuation needs."""
        return {
            "denoiser": self.denoiser.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "num_steps_done": self.num_steps_done,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Undo of :meth:`state`."""
        self.denoiser.load_state_dict(state["denoiser"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.num_steps_done = int(state["num_steps_done"])

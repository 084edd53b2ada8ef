"""One optimiser step of label-dropped diffusion training: the CFG method's, and with no classes the unconditional prior's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from medanomaly.diffusion.loss import diffusion_loss
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.unet import Denoiser
from medanomaly.training.average import averaged, weights_of
from medanomaly.training.config import TrainingConfig, learning_rate
from medanomaly.training.optimise import adamw, guarded_step
from medanomaly.types import Batch

NoiseFn = Callable[[Sequence[int], torch.Generator], Tensor]
"""(shape (B, C, H, W), generator) -> noise of mean 0 and variance 1 at each pixel."""


def gaussian_noise(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Independent standard normal values."""
    return torch.randn(tuple(shape), generator=generator)


class DiffusionTrainer:
    """Denoiser, its moving average and its optimiser. Every draw comes from the generator a step is given."""

    by_share = True
    recomputes = True

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: NoiseSchedule,
        training: TrainingConfig,
        *,
        p_uncond: float,
        bound_weight: float,
        device: torch.device,
        noise: NoiseFn = gaussian_noise,
    ) -> None:
        self.denoiser = denoiser.to(device)
        self.average = averaged(self.denoiser, training.ema_decay)
        self.schedule = schedule
        self.training = training
        self.p_uncond = p_uncond
        self.bound_weight = bound_weight
        self.noise = noise
        self.device = device
        self.num_steps_done = 0
        self.optimizer = adamw(self.denoiser.parameters(), training)

    def loss(self, denoiser: Denoiser, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Training loss of a batch: levels and noise drawn, labels dropped with probability p_uncond (arXiv:2207.12598, alg. 1)."""
        x_0 = batch.x.to(self.device)
        t = batch.drawn(lambda count: torch.randint(1, self.schedule.num_levels + 1, (count,), generator=generator))
        eps = batch.drawn(lambda count: self.noise((count, *x_0.shape[1:]), generator))
        dropped = batch.drawn(lambda count: torch.rand(count, generator=generator)) < self.p_uncond
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
        self.denoiser.recompute = self.training.gradient_checkpointing
        self.denoiser.dropout_generator, self.denoiser.dropout_share = generator, batch.share
        rate = learning_rate(self.num_steps_done, self.training)
        terms = self.loss(self.denoiser, batch, generator)
        done = guarded_step(terms["loss"], self.optimizer, rate=rate, grad_clip=self.training.grad_clip)
        self.num_steps_done += 1
        if not done["skipped"]:
            self.average.update_parameters(self.denoiser)
        return {name: float(value.detach()) for name, value in terms.items()} | done

    @torch.inference_mode()
    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Loss of the averaged weights on a batch; the same generator seed gives comparable numbers through a run."""
        averaged = cast(Denoiser, self.average.module.eval())
        return {name: float(value) for name, value in self.loss(averaged, batch, generator).items()}

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights, copied."""
        return weights_of(self.average)

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

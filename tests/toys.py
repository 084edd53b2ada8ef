"""Networks and data so simple that the right answer is a formula: Gaussian data whose exact noise predictor is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.unet import Denoiser, NetworkConfig
from medanomaly.methods.cfg_diffusion import CfgDiffusion, CfgDiffusionConfig
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.methods.experiment import MethodConfig
from medanomaly.training.config import TrainingConfig
from medanomaly.types import EpsFn, Geometry, Sample

TINY = NetworkConfig(channels=(16, 16), attention=(False, True), head_channels=16, norm_groups=8)
"""Takes 16 x 16 images in milliseconds."""
SIDE = 16


def gaussian_eps(mean: float | Tensor, std: float, schedule: NoiseSchedule) -> EpsFn:
    """E[eps | x_t] of data N(mean, std^2 I): sqrt(1 - ab) (x_t - sqrt(ab) mean) / (ab std^2 + 1 - ab)."""

    def eps_fn(x_t: Tensor, t: int) -> Tensor:
        variance = schedule.signal(t) ** 2 * std**2 + schedule.noise(t) ** 2
        return schedule.noise(t) * (x_t - schedule.signal(t) * mean) / variance

    return eps_fn


def recorded(eps_fn: EpsFn, levels: list[int]) -> EpsFn:
    """``eps_fn`` that also appends each level it is asked for."""

    def asking(x_t: Tensor, t: int) -> Tensor:
        levels.append(t)
        return eps_fn(x_t, t)

    return asking


class GaussianNet(nn.Module):
    """Stands in for the U-Net: exact noise of N(means[row], std^2 I), then variance channels full of rubbish."""

    def __init__(self, means: Sequence[float], std: float, schedule: NoiseSchedule, *, num_rubbish: int) -> None:
        super().__init__()
        self.means = torch.tensor(means, dtype=torch.float64)
        self.std, self.schedule, self.num_rubbish = std, schedule, num_rubbish
        self.asked: list[int] = []
        """Table index of each call's first image."""
        self.rows: list[list[int]] = []
        """Embedding rows of each call."""

    def forward(self, x: Tensor, timesteps: Tensor, class_labels: Tensor) -> Tensor:
        """As MONAI's network is called; table index 0 is level 1."""
        self.asked.append(int(timesteps[0]))
        self.rows.append(class_labels.tolist())
        alpha_bar = self.schedule.alpha_bar[timesteps + 1].view(-1, 1, 1, 1)
        mean = self.means[class_labels].view(-1, 1, 1, 1)
        eps = (1 - alpha_bar).sqrt() * (x - alpha_bar.sqrt() * mean) / (alpha_bar * self.std**2 + 1 - alpha_bar)
        rubbish = [torch.full_like(eps, 1e6)] * self.num_rubbish
        return torch.cat([eps, *rubbish], dim=1).to(x.dtype)


def gaussian_denoiser(means: Mapping[str | None, float], classes: tuple[str, ...], *, std: float = 0.3) -> Denoiser:
    """A real :class:`Denoiser` around a :class:`GaussianNet` with one mean a class name (None = the null class)."""
    denoiser = Denoiser(TINY, image_channels=1, classes=classes)
    rows = [means[name] for name in (*classes, None)]
    denoiser.net = GaussianNet(rows, std, NoiseSchedule.linear(), num_rubbish=1 if TINY.learn_sigma else 0)
    return denoiser.eval()


def net_of(denoiser: Denoiser) -> GaussianNet:
    """The toy inside a denoiser made by :func:`gaussian_denoiser`."""
    net = denoiser.net
    assert isinstance(net, GaussianNet)
    return net


def randomise(denoiser: Denoiser, seed: int = 0) -> Denoiser:
    """The same network with every parameter drawn anew: MONAI starts the last layers at zero, which would predict no noise."""
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=draws))
    return denoiser


def tiny_config(**changes: object) -> CfgDiffusionConfig:
    """The method with a tiny network and few steps."""
    settings: dict[str, object] = {"network": TINY, "sampler": SamplerConfig(noise_level=400, num_steps=4, guidance_scale=3.0)}
    return CfgDiffusionConfig(**(settings | changes))  # type: ignore[arg-type]


def tiny_method(config: CfgDiffusionConfig | None = None) -> CfgDiffusion:
    """The method with random weights."""
    config = config or tiny_config()
    weights = randomise(Denoiser(config.network, image_channels=1, classes=config.classes)).state_dict()
    return config.restore(weights, image_channels=1, device=torch.device("cpu"), source="toys")


def random_weights(config: MethodConfig, *, image_channels: int = 1, seed: int = 0) -> dict[str, Tensor]:
    """Weights of any method, every one drawn anew: as a fresh training starts, many networks predict exactly nothing."""
    recipe = config.recipe(image_channels=image_channels, training=TrainingConfig(), device=torch.device("cpu"))
    draws = torch.Generator().manual_seed(seed)
    return {
        name: 0.1 * torch.randn(value.shape, generator=draws) if value.is_floating_point() else value
        for name, value in recipe.weights().items()
    }


def images(count: int, *, seed: int = 0, side: int = SIDE, channels: int = 1) -> Tensor:
    """(count, channels, side, side) uniform in [-1, 1]."""
    return 2 * torch.rand((count, channels, side, side), generator=torch.Generator().manual_seed(seed)) - 1


def samples(count: int, *, seed: int = 0, side: int = SIDE, labels: Sequence[str] = ("healthy", "diseased")) -> list[Sample]:
    """Images with alternating labels; every image is its own patient and has no mask."""
    whole = Geometry(native_size=(side, side), pad_before=(0, 0), model_size=side)
    return [
        Sample(id=f"i{n}", patient_id=f"p{n}", x=x, label=labels[n % len(labels)], mask=None, geometry=whole)
        for n, x in enumerate(images(count, seed=seed, side=side))
    ]

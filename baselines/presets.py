"""Experiments with baselines that can be named on the command line; data, splits, image sizes and map filters are the method's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from baselines.autoencoder import AutoencoderConfig
from baselines.classifier_ddim import ClassifierDdimConfig, GradientSamplerConfig
from baselines.fixed_point_gan import FixedPointGanConfig
from baselines.noise_start import NoiseStartConfig, NoiseStartSamplerConfig
from medanomaly.classifiers.network import ClassifierConfig
from medanomaly.methods.experiment import Experiment
from medanomaly.presets import SEED_NETWORK, SMALL_NETWORK, cxr256_cfg, gray64_cfg, phantom64_cfg
from medanomaly.scoring.finish import MapConfig

SMALL_CLASSIFIER = ClassifierConfig(channels=SMALL_NETWORK.channels, attention=SMALL_NETWORK.attention)


def cxr256_cgddim() -> Experiment:
    """Wolleb et al. 2022 at the seed's size: 256 x 256, L = 500, s = 100, batch 4, 50,000 iterations of each network: for a GPU."""
    seed = cxr256_cfg()
    method = ClassifierDdimConfig(
        network=SEED_NETWORK,
        classifier=ClassifierConfig(
            channels=SEED_NETWORK.channels,
            attention=SEED_NETWORK.attention,
            num_res_blocks=SEED_NETWORK.num_res_blocks,
            head_channels=SEED_NETWORK.head_channels,
            norm_groups=SEED_NETWORK.norm_groups,
        ),
        sampler=GradientSamplerConfig(noise_level=500, num_steps=500, gradient_scale=100.0),
    )
    return replace(seed, name="cxr256-cgddim", method=method)


def gray64_cgddim() -> Experiment:
    """Classifier-guided DDIM on any gray images at 64 x 64: the main method's network, and its encoder half as classifier."""
    method = ClassifierDdimConfig(
        network=SMALL_NETWORK,
        classifier=SMALL_CLASSIFIER,
        sampler=GradientSamplerConfig(noise_level=300, num_steps=25, gradient_scale=100.0),
        map=MapConfig(median_px=5),
    )
    return replace(gray64_cfg(), name="gray64-cgddim", method=method)


def phantom64_cgddim() -> Experiment:
    """Classifier-guided DDIM on chest phantoms."""
    method = ClassifierDdimConfig(
        network=SMALL_NETWORK,
        classifier=SMALL_CLASSIFIER,
        sampler=GradientSamplerConfig(noise_level=500, num_steps=25, gradient_scale=100.0),
        map=MapConfig(smooth_px=1.0),
    )
    return replace(phantom64_cfg(), name="phantom64-cgddim", method=method)


def noise_start(noise: Literal["gaussian", "simplex"], map_config: MapConfig) -> NoiseStartConfig:
    """AnoDDPM's L = 250 with the main method's network and as many evaluations as its walk has."""
    return NoiseStartConfig(
        noise=noise,
        network=replace(SMALL_NETWORK, learn_sigma=False),
        sampler=NoiseStartSamplerConfig(noise_level=250, num_steps=50),
        map=map_config,
    )


def gray64_ddpm() -> Experiment:
    """Noise-start DDPM with Gaussian noise on any gray images at 64 x 64, trained on the healthy ones."""
    return replace(gray64_cfg(), name="gray64-ddpm", method=noise_start("gaussian", MapConfig(median_px=5)))


def gray64_simplex() -> Experiment:
    """Noise-start DDPM with simplex noise (AnoDDPM) on any gray images at 64 x 64, trained on the healthy ones."""
    return replace(gray64_cfg(), name="gray64-simplex", method=noise_start("simplex", MapConfig(median_px=5)))


def phantom64_ddpm() -> Experiment:
    """Noise-start DDPM with Gaussian noise on chest phantoms."""
    return replace(phantom64_cfg(), name="phantom64-ddpm", method=noise_start("gaussian", MapConfig(smooth_px=1.0)))


def phantom64_simplex() -> Experiment:
    """Noise-start DDPM with simplex noise on chest phantoms."""
    return replace(phantom64_cfg(), name="phantom64-simplex", method=noise_start("simplex", MapConfig(smooth_px=1.0)))


def gray64_dae() -> Experiment:
    """Denoising autoencoder on any gray images at 64 x 64, trained on the healthy ones; noise on a 16 x 16 grid as in the paper."""
    return replace(gray64_cfg(), name="gray64-dae", method=AutoencoderConfig(map=MapConfig(median_px=5)))


def phantom64_dae() -> Experiment:
    """Denoising autoencoder on chest phantoms."""
    return replace(phantom64_cfg(), name="phantom64-dae", method=AutoencoderConfig(map=MapConfig(smooth_px=1.0)))


def cxr256_fpgan() -> Experiment:
    """Fixed-Point GAN as the seed trains it: 256 x 256, base 128, 14 blocks, batch 4, 50,000 steps of the critic: for a GPU.

    71 M parameters (the critic 45 M more, in training only). Every fifth step trains the translator too, so 10,000 of them do.
    """
    seed = cxr256_cfg()
    training = replace(seed.training, ema_decay=0.999, grad_clip=0.0)
    return replace(seed, name="cxr256-fpgan", method=FixedPointGanConfig(), training=training)


def small_fpgan(map_config: MapConfig) -> FixedPointGanConfig:
    """0.4 M parameters, for 64 x 64 on a CPU; the critic has 4 x 4 patches, as the seed's has at 256 x 256.

    A translator that learns with every second step of the critic, four times as fast as the seed's: a short training needs it.
    """
    return FixedPointGanConfig(
        base_channels=16, num_res_blocks=4, critic_channels=32, num_critic_layers=4, n_critic=2, map=map_config
    )


def gray64_fpgan() -> Experiment:
    """Fixed-Point GAN on any gray images at 64 x 64: 3,600 steps of the critic, half an hour of one busy core."""
    seed = gray64_cfg()
    training = replace(
        seed.training,
        num_steps=3600,
        batch_size=8,
        learning_rate=4e-4,
        warmup_steps=0,
        decay="linear",
        ema_decay=0.999,
        grad_clip=0.0,
        precision="fp32",
    )
    return replace(seed, name="gray64-fpgan", method=small_fpgan(MapConfig(median_px=5)), training=training)


def phantom64_fpgan() -> Experiment:
    """Fixed-Point GAN on chest phantoms."""
    seed = gray64_fpgan()
    return replace(seed, name="phantom64-fpgan", method=small_fpgan(MapConfig(smooth_px=1.0)))


BASELINE_PRESETS: dict[str, Callable[[], Experiment]] = {
    "cxr256-cgddim": cxr256_cgddim,
    "cxr256-fpgan": cxr256_fpgan,
    "gray64-cgddim": gray64_cgddim,
    "gray64-fpgan": gray64_fpgan,
    "gray64-ddpm": gray64_ddpm,
    "gray64-simplex": gray64_simplex,
    "gray64-dae": gray64_dae,
    "phantom64-cgddim": phantom64_cgddim,
    "phantom64-fpgan": phantom64_fpgan,
    "phantom64-ddpm": phantom64_ddpm,
    "phantom64-simplex": phantom64_simplex,
    "phantom64-dae": phantom64_dae,
}

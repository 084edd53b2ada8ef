"""Experiments that can be named on the command line. Measured results and costs stand in docs/results.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.diffusion.unet import NetworkConfig
from medanomaly.methods.cfg_diffusion import CfgDiffusionConfig
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.methods.diffusion_model import DiffusionModelConfig
from medanomaly.methods.experiment import Experiment, ExperimentOf, ModelExperiment
from medanomaly.methods.speeds import sampler_of_speed
from medanomaly.scoring.finish import MapConfig
from medanomaly.training.config import TrainingConfig

SMALL_NETWORK = NetworkConfig(channels=(32, 64, 64, 96), attention=(False, False, True, True))
"""2.3 M parameters, for 64 x 64 on a CPU."""

GRAY128_NETWORK = NetworkConfig(
    channels=(64, 128, 128, 256, 256),
    attention=(False, False, False, True, True),
    num_res_blocks=2,
    head_channels=64,
    norm_groups=32,
)
"""29 M parameters, for 128 x 128."""

SEED_NETWORK = NetworkConfig(
    channels=(128, 128, 256, 256, 512, 512),
    attention=(False, False, False, False, True, False),
    num_res_blocks=2,
    head_channels=512,
    norm_groups=32,
    dropout=0.1,
)
"""The seed's network at 256 x 256: base 128, multipliers 1 1 2 2 4 4, attention at 16; 114 M parameters."""

MNIST_NETWORK = NetworkConfig(channels=(32, 64, 96), attention=(False, False, True))
"""1.8 M parameters, for 32 x 32 on a CPU: attention at 8."""

PATCH_NETWORK = NetworkConfig(
    channels=(64, 128, 256, 256),
    attention=(False, False, True, True),
    num_res_blocks=2,
    head_channels=64,
    norm_groups=32,
)
"""27 M parameters, for colour patches of 32 to 96 px."""


def fast(*, noise_level: int, guidance_scale: float) -> SamplerConfig:
    """A walk of 40 network evaluations (:mod:`medanomaly.methods.speeds`)."""
    return SamplerConfig(noise_level=noise_level, guidance_scale=guidance_scale, **sampler_of_speed("fast", noise_level))


def phantom64_method() -> CfgDiffusionConfig:
    """The method of the phantom preset."""
    return CfgDiffusionConfig(
        network=SMALL_NETWORK,
        sampler=fast(noise_level=500, guidance_scale=3.0),
        map=MapConfig(smooth_px=1.0),
    )


def phantom64_cfg() -> Experiment:
    """Chest phantoms at 64 x 64: 2.3 M parameters, 3,500 steps, under an hour on one core."""
    return Experiment(
        name="phantom64-cfg",
        method=phantom64_method(),
        preprocess=PreprocessConfig(image_size=64),
        training=TrainingConfig(num_steps=3500, batch_size=16, learning_rate=3e-4, precision="bf16"),
    )


def gray64_cfg() -> Experiment:
    """Any gray images at 64 x 64, the phantom preset's network: for a CPU.

    Level 300 and the 5 x 5 median were chosen on LGG validation slices (docs/results.md): 500 erases too much of a real image.
    """
    sampler = fast(noise_level=300, guidance_scale=3.0)
    method = replace(phantom64_method(), sampler=sampler, map=MapConfig(median_px=5))
    return replace(phantom64_cfg(), name="gray64-cfg", method=method)


def rgb64_cfg() -> Experiment:
    """Any colour images at 64 x 64, the network of gray64-cfg with three channels: for a CPU.

    The sampler is that of gray64-cfg. The map is a sum over red, green and blue, so its thresholds are about three times as large.
    """
    gray = gray64_cfg()
    return replace(gray, name="rgb64-cfg", preprocess=replace(gray.preprocess, channels=3))


def mri4x64_cfg() -> Experiment:
    """Four MRI sequences a slice at 64 x 64, as arrays (4, H, W): the network of gray64-cfg with four channels, for a CPU.

    Each sequence is scaled by its own percentiles, or all by the manifest's intensity columns, e.g. 0 and 1 where a volume was
    normalised before it was cut. The map is a sum over the four.
    """
    gray = gray64_cfg()
    return replace(gray, name="mri4x64-cfg", preprocess=replace(gray.preprocess, channels=4))


def gray128_cfg() -> Experiment:
    """Any gray images at 128 x 128: 29 M parameters, for a small GPU or a patient CPU."""
    return Experiment(
        name="gray128-cfg",
        method=CfgDiffusionConfig(
            network=GRAY128_NETWORK,
            sampler=fast(noise_level=500, guidance_scale=3.0),
            map=MapConfig(smooth_px=2.0),
        ),
        preprocess=PreprocessConfig(image_size=128),
        training=TrainingConfig(
            num_steps=30_000, batch_size=32, learning_rate=2e-4, ema_decay=0.9995, precision="bf16", num_workers=4
        ),
    )


def cxr256_cfg() -> Experiment:
    """The seed's chest X-ray setting: 256 x 256, base 128, multipliers 1 1 2 2 4 4, attention at 16, dropout 0.1, g = 5.

    114 M parameters; 1,500 network evaluations of 497 GFLOP an image: for a GPU.
    """
    return Experiment(
        name="cxr256-cfg",
        method=CfgDiffusionConfig(
            network=SEED_NETWORK,
            sampler=SamplerConfig(noise_level=500, num_steps=500, guidance_scale=5.0),
        ),
        preprocess=PreprocessConfig(image_size=256),
        training=TrainingConfig(
            num_steps=50_000,
            batch_size=4,
            learning_rate=1e-4,
            warmup_steps=0,
            decay="linear",
            ema_decay=0.9999,
            flip=False,
            num_workers=4,
            save_every=1000,
        ),
    )


def prior(name: str, like: Experiment, network: NetworkConfig) -> ModelExperiment:
    """An unconditional model with the image size and the training of another experiment."""
    method = DiffusionModelConfig(network=network)
    return ExperimentOf(name=name, method=method, preprocess=like.preprocess, training=like.training)


def gray64_prior() -> ModelExperiment:
    """Unconditional diffusion on any gray images at 64 x 64: a prior for deblurring, the network and training of gray64-cfg."""
    return prior("gray64-prior", gray64_cfg(), replace(SMALL_NETWORK, learn_sigma=False))


def phantom64_prior() -> ModelExperiment:
    """Unconditional diffusion on chest phantoms at 64 x 64: a prior for deblurring, the network and training of phantom64-cfg."""
    return prior("phantom64-prior", phantom64_cfg(), replace(SMALL_NETWORK, learn_sigma=False))


def gray128_prior() -> ModelExperiment:
    """Unconditional diffusion on any gray images at 128 x 128: a prior for deblurring, the network and training of gray128-cfg."""
    return prior("gray128-prior", gray128_cfg(), GRAY128_NETWORK)


def cxr256_prior() -> ModelExperiment:
    """The seed's deblurring prior: unconditional, network and training of cxr256-cfg (batch 4, 50,000 steps): for a GPU."""
    return prior("cxr256-prior", cxr256_cfg(), SEED_NETWORK)


def generator(
    name: str,
    network: NetworkConfig,
    preprocess: PreprocessConfig,
    training: TrainingConfig,
    classes: tuple[str, ...] = (),
) -> ModelExperiment:
    """A model to draw images from, of all images of a set or by class."""
    method = DiffusionModelConfig(network=network, classes=classes)
    return ExperimentOf(name=name, method=method, preprocess=preprocess, training=training)


DIGIT_TRAINING = TrainingConfig(num_steps=5000, batch_size=32, learning_rate=5e-4, precision="bf16", flip=False)
"""Three quarters of an hour on one core; digits are not mirrored."""

PATCH_TRAINING = TrainingConfig(
    num_steps=100_000, batch_size=64, learning_rate=2e-4, ema_decay=0.9999, precision="bf16", num_workers=4, save_every=1000
)
"""For a GPU. A patch of tissue has no left and right."""


def mnist_ddpm() -> ModelExperiment:
    """MNIST at 32 x 32 without classes (28 px are resized); its labels are not used. To be guided by mnist-classifier: for a CPU."""
    return generator("mnist-ddpm", MNIST_NETWORK, PreprocessConfig(image_size=32), DIGIT_TRAINING)


def mnist_cfg() -> ModelExperiment:
    """MNIST at 32 x 32 by digit: the classes are the labels 0 to 9 that `medanomaly data mnist` and `digits` write: for a CPU."""
    return generator("mnist-cfg", MNIST_NETWORK, PreprocessConfig(image_size=32), DIGIT_TRAINING, tuple("0123456789"))


def aptos192_ddpm() -> ModelExperiment:
    """APTOS retinas at 192 x 192 in colour, without classes; mirroring makes a right eye of a left one: for a GPU.

    The network of gray128-cfg with three channels; its attention is at 24 and 12.
    """
    training = replace(PATCH_TRAINING, num_steps=50_000, batch_size=16, learning_rate=1e-4)
    return generator("aptos192-ddpm", GRAY128_NETWORK, PreprocessConfig(image_size=192, channels=3), training)


def pcam32_ddpm() -> ModelExperiment:
    """PatchCamelyon at 32 x 32 in colour (96 px are resized), without classes: for a GPU."""
    return generator("pcam32-ddpm", PATCH_NETWORK, PreprocessConfig(image_size=32, channels=3), PATCH_TRAINING)


def pcam96_cfg() -> ModelExperiment:
    """PatchCamelyon at its own 96 x 96 in colour, one model for patches with and without tumour: for a GPU."""
    preprocess = PreprocessConfig(image_size=96, channels=3)
    return generator("pcam96-cfg", PATCH_NETWORK, preprocess, PATCH_TRAINING, ("healthy", "diseased"))


def chexpert256_ddpm() -> ModelExperiment:
    """CheXpert at 256 x 256 without classes, the network and training of cxr256-cfg. To be guided by a classifier: for a GPU."""
    return prior("chexpert256-ddpm", cxr256_cfg(), SEED_NETWORK)


PRESETS: dict[str, Callable[[], Experiment]] = {
    "phantom64-cfg": phantom64_cfg,
    "gray64-cfg": gray64_cfg,
    "rgb64-cfg": rgb64_cfg,
    "mri4x64-cfg": mri4x64_cfg,
    "gray128-cfg": gray128_cfg,
    "cxr256-cfg": cxr256_cfg,
}
"""Methods that localize."""

MODEL_PRESETS: dict[str, Callable[[], ModelExperiment]] = {
    "gray64-prior": gray64_prior,
    "phantom64-prior": phantom64_prior,
    "gray128-prior": gray128_prior,
    "cxr256-prior": cxr256_prior,
    "mnist-ddpm": mnist_ddpm,
    "mnist-cfg": mnist_cfg,
    "aptos192-ddpm": aptos192_ddpm,
    "pcam32-ddpm": pcam32_ddpm,
    "pcam96-cfg": pcam96_cfg,
    "chexpert256-ddpm": chexpert256_ddpm,
}
"""Diffusion models that localize nothing: priors for deblurring, and generators of images."""

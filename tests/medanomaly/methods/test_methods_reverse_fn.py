"""A loaded diffusion model as generation asks it: guidance between class and null class, and the variance of the class."""

from __future__ import annotations

import pytest
import torch
from toys import SIDE, TINY, images, randomise

from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.diffusion.guidance import classifier_free
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.unet import Denoiser, condition_with_variance
from medanomaly.errors import ConfigError
from medanomaly.methods.diffusion_model import DenoiserConfig, DiffusionModelConfig, LoadedModel
from medanomaly.methods.experiment import ExperimentOf
from medanomaly.training.config import TrainingConfig


def loaded(config: DiffusionModelConfig) -> LoadedModel:
    experiment: ExperimentOf[DenoiserConfig] = ExperimentOf(
        name="toy", method=config, preprocess=PreprocessConfig(image_size=SIDE), training=TrainingConfig()
    )
    denoiser = randomise(Denoiser(config.network, image_channels=1, classes=config.classes)).eval().requires_grad_(False)
    schedule = NoiseSchedule.from_config(config.schedule)
    return LoadedModel(denoiser=denoiser, schedule=schedule, experiment=experiment, provenance={}, note="")


def test_guidance_mixes_the_noise_of_class_and_null_class_and_the_variance_is_the_classs() -> None:
    model, x = loaded(DiffusionModelConfig(network=TINY, classes=("a", "b"))), images(2)
    eps, v = model.reverse_fn("b", 3.0)(x, 300)
    torch.testing.assert_close(eps, classifier_free(model.eps_fn("b"), model.eps_fn(None), 3.0)(x, 300))
    _, of_class = condition_with_variance(model.denoiser, "b", model.schedule)(x, 300)
    assert v is not None
    assert of_class is not None
    assert torch.equal(v, of_class)
    torch.testing.assert_close(model.reverse_fn("b", 1.0)(x, 300)[0], model.eps_fn("b")(x, 300))
    torch.testing.assert_close(model.reverse_fn("b", 0.0)(x, 300)[0], model.eps_fn(None)(x, 300))
    torch.testing.assert_close(model.reverse_fn()(x, 300)[0], model.eps_fn(None)(x, 300))


def test_a_model_that_never_lost_its_label_can_be_asked_of_a_class_and_not_be_guided() -> None:
    model = loaded(DiffusionModelConfig(network=TINY, classes=("a", "b"), p_uncond=0.0))
    model.reverse_fn("a", 1.0)
    for label, guidance_scale in (("a", 3.0), (None, 1.0)):
        with pytest.raises(ConfigError, match=r"p_uncond = 0.*\[E_CLASS\]"):
            model.reverse_fn(label, guidance_scale)


def test_a_class_of_a_model_without_any_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no classes, so no 'a' \[E_CLASS\]"):
        loaded(DiffusionModelConfig(network=TINY)).reverse_fn("a")

import json
from collections.abc import Callable

import pytest
import torch

from medanomaly.classifiers.presets import CLASSIFIER_PRESETS
from medanomaly.cli.methods import ALL_PRESETS, TRAINABLE_PRESETS
from medanomaly.datasets.public.digits import DIGITS
from medanomaly.datasets.public.mnist import CLASSES as MNIST_CLASSES
from medanomaly.diffusion.unet import Denoiser
from medanomaly.methods.diffusion_model import DiffusionModelConfig
from medanomaly.methods.experiment import ExperimentOf, ModelExperiment
from medanomaly.presets import MODEL_PRESETS, PRESETS

TABLE = {DiffusionModelConfig.kind: DiffusionModelConfig}


@pytest.mark.parametrize("name", MODEL_PRESETS)
def test_every_models_preset_survives_json_and_carries_its_name(name: str) -> None:
    experiment = MODEL_PRESETS[name]()
    assert experiment.name == name
    assert ExperimentOf.from_dict(json.loads(json.dumps(experiment.to_dict())), TABLE) == experiment
    assert MODEL_PRESETS[name].__doc__


@pytest.mark.parametrize("make", [make for name, make in MODEL_PRESETS.items() if not name.endswith("-cfg")])
def test_a_prior_is_unconditional_and_predicts_noise(make: Callable[[], ModelExperiment]) -> None:
    method = make().method
    assert isinstance(method, DiffusionModelConfig)
    assert method.classes == ()
    assert method.network.prediction == "eps"


def test_a_generators_classes_are_the_labels_that_its_data_set_is_read_with() -> None:
    assert MODEL_PRESETS["mnist-cfg"]().method.classes == MNIST_CLASSES["mnist"] == DIGITS
    assert MODEL_PRESETS["pcam96-cfg"]().method.classes == ("healthy", "diseased")


def test_digits_and_chests_are_not_mirrored_and_the_two_digit_models_differ_in_their_classes_alone() -> None:
    free, digits = MODEL_PRESETS["mnist-ddpm"](), MODEL_PRESETS["mnist-cfg"]()
    assert not free.training.flip
    assert not MODEL_PRESETS["chexpert256-ddpm"]().training.flip
    assert (free.preprocess, free.training, free.method.size_multiple) == (digits.preprocess, digits.training, 4)


@pytest.mark.parametrize(("name", "side", "channels"), [("aptos192-ddpm", 192, 3), ("pcam32-ddpm", 32, 3), ("pcam96-cfg", 96, 3)])
def test_a_generator_has_the_size_in_its_name_and_colours(name: str, side: int, channels: int) -> None:
    preprocess = MODEL_PRESETS[name]().preprocess
    assert (preprocess.image_size, preprocess.channels) == (side, channels)


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("gray64-prior", "gray64-cfg"),
        ("phantom64-prior", "phantom64-cfg"),
        ("gray128-prior", "gray128-cfg"),
        ("cxr256-prior", "cxr256-cfg"),
    ],
)
def test_a_prior_is_trained_as_the_method_of_its_size(name: str, like: str) -> None:
    made, method = MODEL_PRESETS[name](), PRESETS[like]()
    assert (made.training, made.preprocess) == (method.training, method.preprocess)


@pytest.mark.parametrize(("name", "millions"), [("gray64-prior", 2.3), ("gray128-prior", 29), ("cxr256-prior", 114)])
def test_a_prior_has_the_parameters_of_the_method_of_its_size(name: str, millions: float) -> None:
    config = MODEL_PRESETS[name]().method
    assert isinstance(config, DiffusionModelConfig)
    with torch.device("meta"):
        denoiser = Denoiser(config.network, image_channels=1, classes=())
    assert sum(parameter.numel() for parameter in denoiser.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)


def test_the_seeds_prior_has_the_seeds_training() -> None:
    training = MODEL_PRESETS["cxr256-prior"]().training
    assert (training.num_steps, training.batch_size, training.learning_rate, training.decay) == (50_000, 4, 1e-4, "linear")


def test_no_name_is_both_a_method_and_a_model() -> None:
    assert not ALL_PRESETS.keys() & MODEL_PRESETS.keys()
    assert not TRAINABLE_PRESETS.keys() - ALL_PRESETS.keys() - MODEL_PRESETS.keys() - CLASSIFIER_PRESETS.keys()
    assert len(TRAINABLE_PRESETS) == len(ALL_PRESETS) + len(MODEL_PRESETS) + len(CLASSIFIER_PRESETS)

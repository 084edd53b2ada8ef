import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from medanomaly.diffusion.unet import Denoiser
from medanomaly.methods import METHODS
from medanomaly.methods.experiment import Experiment
from medanomaly.presets import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_json_and_carries_its_name(name: str) -> None:
    experiment = PRESETS[name]()
    assert experiment.name == name
    assert Experiment.from_dict(json.loads(json.dumps(experiment.to_dict())), METHODS) == experiment


@pytest.mark.parametrize(
    ("name", "millions"), [("phantom64-cfg", 2.3), ("gray64-cfg", 2.3), ("gray128-cfg", 29), ("cxr256-cfg", 114)]
)
def test_a_preset_has_the_parameters_its_text_promises(name: str, millions: float) -> None:
    method = PRESETS[name]().method
    with torch.device("meta"):
        denoiser = Denoiser(method.network, image_channels=1, classes=method.classes)
    assert sum(parameter.numel() for parameter in denoiser.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)


@pytest.mark.parametrize(("name", "channels"), [("rgb64-cfg", 3), ("mri4x64-cfg", 4)])
def test_presets_of_several_channels_are_the_gray_one_but_for_the_channels(name: str, channels: int) -> None:
    made, gray = PRESETS[name](), PRESETS["gray64-cfg"]()
    assert (made.method, made.training) == (gray.method, gray.training)
    assert made.preprocess == replace(gray.preprocess, channels=channels)
    assert made.preprocess.intensity == "auto"


@pytest.mark.parametrize("make", PRESETS.values())
def test_every_preset_translates_to_healthy_and_explains_itself(make: Callable[[], Experiment]) -> None:
    assert make().method.target == "healthy"
    assert make.__doc__


def test_the_chest_preset_is_the_seeds_setting() -> None:
    experiment = PRESETS["cxr256-cfg"]()
    training, sampler = experiment.training, experiment.method.sampler
    assert (training.num_steps, training.batch_size, training.learning_rate, training.ema_decay) == (50_000, 4, 1e-4, 0.9999)
    assert (training.decay, training.warmup_steps, experiment.method.network.dropout) == ("linear", 0, 0.1)
    # The seed's --guidance_scale 4.0 is a w.
    assert (sampler.noise_level, sampler.num_steps, sampler.guidance_scale) == (500, 500, 4.0 + 1)
    assert experiment.method.p_uncond == 0.1

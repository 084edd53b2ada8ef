"""A diffusion model that localizes nothing: what it learns from, how it continues, and how it is taken out of a checkpoint."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toys import SIDE, TINY, images, random_weights, tiny_config

from baselines.noise_start import NoiseStartConfig, NoiseStartSamplerConfig
from medanomaly.checkpoint import load_checkpoint, save_checkpoint
from medanomaly.cli.methods import ALL_METHODS
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.diffusion.unet import condition
from medanomaly.errors import CheckpointError, ConfigError
from medanomaly.methods.cfg_diffusion import CfgDiffusion
from medanomaly.methods.diffusion_model import DiffusionModelConfig, DiffusionModelRecipe, load_diffusion_model
from medanomaly.methods.experiment import ExperimentOf, ModelConfig, load_trained, localizing
from medanomaly.rng import generator
from medanomaly.training.config import TrainingConfig
from medanomaly.types import Batch

CPU = torch.device("cpu")
FIXED = replace(TINY, learn_sigma=False)
PLAIN = DiffusionModelConfig(network=FIXED)
DIGITS = DiffusionModelConfig(network=TINY, classes=("zero", "one", "two"))
BATCH = Batch(x=images(4), label=torch.zeros(4, dtype=torch.int64))


def recipe(config: DiffusionModelConfig = PLAIN, **training: Any) -> DiffusionModelRecipe:
    settings = {"num_steps": 8, "warmup_steps": 0, "learning_rate": 1e-3} | training
    return config.recipe(image_channels=1, training=TrainingConfig(**settings), device=CPU)


def rows_asked(made: DiffusionModelRecipe, batch: Batch, draws: int = 1) -> set[int]:
    """Rows of the class embedding that training asks the network for."""
    asked: set[int] = set()
    hook = made.denoiser.register_forward_pre_hook(lambda _module, inputs: asked.update(inputs[2].tolist()))
    for seed in range(draws):
        made.loss(made.denoiser, batch, generator(seed, "rows"))
    hook.remove()
    return asked


def saved(folder: Path, config: ModelConfig, weights: dict[str, Tensor], **header: Any) -> Path:
    """A checkpoint as training leaves it."""
    experiment = ExperimentOf(
        name="tiny", method=config, preprocess=PreprocessConfig(image_size=SIDE), training=TrainingConfig(num_steps=1)
    )
    content = {"experiment": experiment.to_dict(), "provenance": {"licence": "CC0"}} | header
    save_checkpoint(folder / "model.safetensors", weights, content)
    return folder


def test_without_classes_there_is_one_row_and_every_image_has_it() -> None:
    made = recipe()
    assert made.denoiser.net.class_embedding.num_embeddings == 1
    # Labels of a set of many classes, which this model has not: they are dropped before the network sees them.
    assert rows_asked(made, Batch(x=images(4), label=torch.tensor([0, 1, 2, 9]))) == {0}


def test_with_classes_labels_are_dropped_as_often_as_promised() -> None:
    batch = Batch(x=images(64), label=torch.arange(64) % 3)
    assert rows_asked(recipe(DIGITS), batch) == {0, 1, 2, 3}
    assert rows_asked(recipe(replace(DIGITS, p_uncond=0.0)), batch, draws=4) == {0, 1, 2}


def test_the_loss_falls_on_images_that_are_all_alike() -> None:
    made = recipe(num_steps=60, learning_rate=5e-3)
    batch = Batch(x=torch.full((8, 1, SIDE, SIDE), 0.7), label=torch.zeros(8, dtype=torch.int64))
    losses = [made.step(batch, generator(0, "train", step))["loss"] for step in range(60)]
    # Untrained, it predicts nothing of noise of variance 1.
    assert losses[0] == pytest.approx(1, abs=0.1)
    assert sum(losses[-5:]) / 5 < 0.35


def test_variance_channels_are_trained_where_the_network_has_them() -> None:
    values = recipe(DiffusionModelConfig(network=TINY, bound_weight=0.5)).step(BATCH, generator(0, "t"))
    assert values["loss"] == pytest.approx(values["mse"] + 0.5 * values["bound"])
    assert values["bound"] > 0
    assert "bound" not in recipe().step(BATCH, generator(0, "t"))


@pytest.mark.parametrize("config", [PLAIN, DIGITS])
def test_a_training_of_a_model_continues_bit_for_bit(config: DiffusionModelConfig) -> None:
    whole = recipe(config)
    for step in range(4):
        assert math.isfinite(whole.step(BATCH, generator(0, "train", step))["loss"])
        if step == 1:
            halfway = copy.deepcopy(whole.state())
    continued = recipe(config, seed=1)
    continued.load_state(halfway)
    for step in (2, 3):
        continued.step(BATCH, generator(0, "train", step))
    untrained = recipe(config).weights()
    assert all(torch.equal(value, continued.weights()[name]) for name, value in whole.weights().items())
    assert any(not torch.equal(value, untrained[name]) for name, value in whole.weights().items())


def test_a_training_is_not_continued_with_other_classes() -> None:
    turned = replace(DIGITS, classes=DIGITS.classes[::-1])
    with pytest.raises(CheckpointError, match="E_CONFIG_MISMATCH"):
        recipe(turned).load_state(recipe(DIGITS).state())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": ("one",)}, "empty or two or more"),
        ({"classes": ("a", "a")}, "empty or two or more"),
        ({"classes": ("a", "")}, "empty or two or more"),
        ({"p_uncond": 1.0}, "p_uncond"),
        ({"p_uncond": -0.1}, "p_uncond"),
        ({"bound_weight": -1.0}, "bound_weight"),
        ({"bound_weight": math.nan}, "bound_weight"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(DIGITS, **changes)


def test_a_model_is_the_same_after_saving_and_loading(tmp_path: Path) -> None:
    made = recipe()
    made.step(BATCH, generator(0, "train"))
    loaded = load_diffusion_model(saved(tmp_path, PLAIN, made.weights()), CPU)
    expected = made.average.module.eval()
    x_t = images(2)
    with torch.no_grad():
        found, wanted = loaded.eps_fn()(x_t, 300), condition(expected, None, loaded.schedule)(x_t, 300)  # type: ignore[arg-type]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    assert found.shape == x_t.shape
    assert float(found.std()) > 0
    assert (loaded.config, loaded.experiment.name, loaded.provenance) == (PLAIN, "tiny", {"licence": "CC0"})
    assert loaded.note == ""
    assert not loaded.denoiser.training
    assert not any(parameter.requires_grad for parameter in loaded.denoiser.parameters())


def test_a_class_is_asked_for_by_name(tmp_path: Path) -> None:
    loaded = load_diffusion_model(saved(tmp_path, DIGITS, random_weights(DIGITS)), CPU)
    x_t = images(1)
    answers = [loaded.eps_fn(label)(x_t, 300) for label in ("zero", "one", None)]
    assert answers[0].shape == x_t.shape
    assert not torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])
    with pytest.raises(ConfigError, match="'four' is unknown; this network knows zero, one, two"):
        loaded.eps_fn("four")


def test_a_model_without_classes_has_no_class_to_ask_for(tmp_path: Path) -> None:
    loaded = load_diffusion_model(saved(tmp_path, PLAIN, random_weights(PLAIN)), CPU)
    with pytest.raises(ConfigError, match=r"has no classes, so no 'healthy' \[E_CLASS\]"):
        loaded.eps_fn("healthy")


def test_a_model_that_never_dropped_a_label_is_no_model_of_all_images(tmp_path: Path) -> None:
    never = replace(DIGITS, p_uncond=0.0)
    loaded = load_diffusion_model(saved(tmp_path, never, random_weights(never)), CPU)
    with pytest.raises(ConfigError, match=r"p_uncond = 0.*\[E_CLASS\]; name one of zero, one, two"):
        loaded.eps_fn()
    loaded.eps_fn("one")


def test_the_null_class_of_a_cfg_checkpoint_serves_as_a_model_and_is_called_so(tmp_path: Path) -> None:
    config = tiny_config()
    weights = random_weights(config)
    extra = {"calibration.mean": torch.zeros(1), "calibration.std": torch.ones(1), "calibration.num_images": torch.tensor(2)}
    loaded = load_diffusion_model(saved(tmp_path, config, weights | extra), CPU)
    method = config.restore(weights, image_channels=1, device=CPU, source="toys")
    assert isinstance(method, CfgDiffusion)
    x_t = images(2)
    with torch.no_grad():
        assert torch.equal(loaded.eps_fn()(x_t, 200), condition(method.denoiser, None, method.schedule)(x_t, 200))
    assert "null class of a CFG checkpoint" in loaded.note
    assert "10%" in loaded.note


def test_a_checkpoint_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    config = NoiseStartConfig(network=FIXED, sampler=NoiseStartSamplerConfig(noise_level=100, num_steps=4))
    with pytest.raises(CheckpointError, match=r"is a 'noise_start' checkpoint, .*\[E_KIND\]; use a diffusion model"):
        load_diffusion_model(saved(tmp_path, config, random_weights(config)), CPU)


@pytest.mark.parametrize("broken", [{}, {"experiment": []}, {"experiment": {"method": {"kind": 3}}}])
def test_a_header_that_says_nothing_is_refused(tmp_path: Path, broken: dict[str, Any]) -> None:
    save_checkpoint(tmp_path / "model.safetensors", random_weights(PLAIN), broken)
    with pytest.raises(CheckpointError, match="E_CKPT_FORMAT"):
        load_diffusion_model(tmp_path, CPU)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"of another shape: net\.class_embedding\.weight"):
        load_diffusion_model(saved(tmp_path, PLAIN, random_weights(replace(PLAIN, classes=("a", "b")))), CPU)


def test_a_localizer_cannot_be_made_of_it(tmp_path: Path) -> None:
    folder = saved(tmp_path, PLAIN, random_weights(PLAIN))
    with pytest.raises(CheckpointError, match=r"is a diffusion model, which localizes nothing \[E_KIND\]; give it to") as refused:
        load_trained(folder, ALL_METHODS, CPU)
    assert refused.value.exit_code == 5
    assert load_checkpoint(folder).header["experiment"]["method"]["kind"] == "diffusion_model"


def test_what_localizes_is_told_by_what_it_offers() -> None:
    common = {"name": "tiny", "preprocess": PreprocessConfig(image_size=SIDE), "training": TrainingConfig()}
    assert localizing(ExperimentOf(method=PLAIN, **common)) is None  # type: ignore[arg-type]
    for kind in ALL_METHODS.values():
        # The defaults of some kinds take sides of 32.
        one = ExperimentOf(method=kind(), **common | {"preprocess": PreprocessConfig(image_size=64)})  # type: ignore[arg-type]
        assert localizing(one) is one

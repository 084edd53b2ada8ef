"""What a trained classifier says of noisy images, and which checkpoints are one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from classifier_builders import TRAINING, classifier_of, config_of, noise

from medanomaly.checkpoint import load_checkpoint, save_checkpoint
from medanomaly.classifiers.model import ClassifierModelConfig
from medanomaly.classifiers.presets import CLASSIFIER_PRESETS
from medanomaly.classifiers.trained import TABLE, Classifier, load_classifier
from medanomaly.errors import CheckpointError, ConfigError
from medanomaly.methods import METHODS
from medanomaly.methods.experiment import ExperimentOf, load_trained
from medanomaly.rng import generator
from medanomaly.types import Batch

CPU = torch.device("cpu")


def saved(folder: Path, classifier: Classifier, **header: Any) -> Path:
    content: dict[str, Any] = {"experiment": classifier.experiment.to_dict(), "step": 1, "operating_points": [], **header}
    save_checkpoint(folder / "model.safetensors", classifier.network.state_dict(), content)
    return folder


def test_probabilities_and_log_probabilities_agree_with_the_scores() -> None:
    x, levels = noise(3), torch.tensor([1, 500, 1000])
    for classifier in (classifier_of(), classifier_of(multi_label=True)):
        scores = classifier.scores(x, levels)
        wanted = scores.sigmoid() if classifier.multi_label else scores.softmax(dim=1)
        torch.testing.assert_close(classifier.probabilities(x, levels), wanted)
        for column, name in enumerate(classifier.classes):
            torch.testing.assert_close(classifier.log_prob(x, levels, name), wanted[:, column].log())
            torch.testing.assert_close(classifier.log_prob(x, levels, [name]), wanted[:, column].log())
        each = torch.tensor([2, 0, 1])
        torch.testing.assert_close(classifier.log_prob(x, levels, each), wanted[torch.arange(3), each].log())


def test_one_level_means_that_level_for_every_image_and_no_image_sees_another() -> None:
    classifier, x = classifier_of(), noise(3)
    together = classifier.log_prob(x, 300, "b")
    torch.testing.assert_close(together, classifier.log_prob(x, torch.full((3,), 300), "b"))
    alone = torch.cat([classifier.log_prob(one[None], 300, "b") for one in x])
    torch.testing.assert_close(together, alone)
    assert not torch.allclose(together, classifier.log_prob(x, 900, "b"))


def test_guidance_can_differentiate_it_in_the_image() -> None:
    classifier, x = classifier_of(), noise(2).requires_grad_()
    (gradient,) = torch.autograd.grad(classifier.log_prob(x, 100, "a").sum(), x)
    assert gradient.shape == x.shape
    assert (gradient.flatten(1).abs().amax(dim=1) > 0).all()
    assert not any(parameter.requires_grad for parameter in classifier.network.parameters())


def test_several_observations_add_and_classes_that_exclude_each_other_do_not() -> None:
    x = noise(2)
    several = classifier_of(multi_label=True)
    both = several.log_prob(x, 10, ("a", "c"))
    torch.testing.assert_close(both, several.log_prob(x, 10, "a") + several.log_prob(x, 10, "c"))
    with pytest.raises(ConfigError, match="exclude each other"):
        classifier_of().log_prob(x, 10, ("a", "c"))
    with pytest.raises(ConfigError, match="no class was named"):
        several.log_prob(x, 10, ())


def test_an_unknown_class_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'Edema'") as caught:
        classifier_of(classes=("Edema", "Mass")).log_prob(noise(1), 1, "Edma")
    assert caught.value.code == "E_CLASS"


def test_a_classifier_of_clean_images_says_nothing_of_noisy_ones() -> None:
    reader = classifier_of(noisy=False)
    assert reader.log_prob(noise(1), 0, "a").shape == (1,)
    for levels in (1, torch.tensor([1])):
        with pytest.raises(ConfigError) as caught:
            reader.log_prob(noise(1), levels, "a")
        assert caught.value.code == "E_CLEAN_ONLY"


def test_features_are_what_the_last_layer_reads() -> None:
    classifier, x = classifier_of(), noise(2)
    features = classifier.features(x)
    assert features.shape == (2, classifier.width) == (2, 16)
    torch.testing.assert_close(classifier.network.head[-1](features), classifier.scores(x, 0))


def test_a_saved_classifier_is_the_same_and_knows_its_images(tmp_path: Path) -> None:
    classifier = classifier_of(classes=("x", "y"))
    loaded = load_classifier(saved(tmp_path, classifier, provenance={"licence": "mine"}), CPU)
    assert all(torch.equal(value, classifier.network.state_dict()[name]) for name, value in loaded.network.state_dict().items())
    torch.testing.assert_close(loaded.scores(noise(2), 7), classifier.scores(noise(2), 7))
    assert (loaded.classes, loaded.image_size, loaded.channels) == (("x", "y"), 16, 1)
    assert (loaded.multi_label, loaded.noisy) == (False, True)
    assert torch.equal(loaded.schedule.alpha_bar, classifier.schedule.alpha_bar)
    assert loaded.provenance == {"licence": "mine"}
    assert not loaded.network.training


def test_weights_keep_the_names_that_published_checkpoints_have() -> None:
    names = classifier_of().network.state_dict().keys()
    assert {name.split(".")[0] for name in names} == {"encoder", "head"}
    assert {"head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias"} <= names


def test_a_classifier_localizes_nothing_and_a_method_is_no_classifier(tmp_path: Path) -> None:
    folder = saved(tmp_path, classifier_of())
    with pytest.raises(CheckpointError, match="is a classifier, which localizes nothing"):
        load_trained(folder, METHODS, CPU)
    header = load_checkpoint(folder).header
    header["experiment"]["method"]["kind"] = "cfg_diffusion"
    save_checkpoint(tmp_path / "other.safetensors", {}, {key: header[key] for key in ("experiment", "step")})
    with pytest.raises(CheckpointError, match="is a 'cfg_diffusion' checkpoint, not a classifier") as caught:
        load_classifier(tmp_path / "other.safetensors", CPU)
    assert caught.value.code == "E_KIND"


@pytest.mark.parametrize("name", CLASSIFIER_PRESETS)
def test_every_preset_survives_json_and_can_be_trained(name: str) -> None:
    experiment = CLASSIFIER_PRESETS[name]()
    assert experiment.name == name
    assert CLASSIFIER_PRESETS[name].__doc__
    assert ExperimentOf.from_dict(json.loads(json.dumps(experiment.to_dict())), TABLE) == experiment
    assert isinstance(experiment.method, ClassifierModelConfig)
    # What a radiograph or a digit is not, a flip would make of it.
    assert experiment.training.flip is (name == "gray64-classifier")


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ("a",)},
        {"classes": ("a", "a")},
        {"classes": (), "multi_label": True},
        {"uncertain": "twos"},
        {"blank": "ones"},
        {"augmentation": "cat"},
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        config_of(**changes)


def test_one_observation_alone_can_be_learned() -> None:
    assert config_of(classes=("Edema",), multi_label=True).classes == ("Edema",)


def batch(several: bool) -> Batch:
    label = torch.tensor([[1, -1, 0], [0, 1, -1]]) if several else torch.tensor([0, 2])
    return Batch(x=noise(2), label=label)


@pytest.mark.parametrize("several", [False, True])
def test_a_training_taken_up_from_its_state_is_the_uninterrupted_one_bit_for_bit(several: bool) -> None:
    def recipe() -> Any:
        return config_of(multi_label=several).recipe(image_channels=1, training=TRAINING, device=CPU)

    whole, first, second = recipe(), recipe(), recipe()
    lines = [whole.step(batch(several), generator(0, "train", step)) for step in range(4)]
    for step in range(2):
        first.step(batch(several), generator(0, "train", step))
    second.load_state(first.state())
    assert [second.step(batch(several), generator(0, "train", step)) for step in (2, 3)] == lines[2:]
    assert all(torch.equal(value, second.weights()[name]) for name, value in whole.weights().items())
    assert {"loss", "accuracy", "learning_rate", "skipped"} <= lines[0].keys()


def test_noise_is_drawn_for_a_noisy_classifier_and_not_for_a_reader() -> None:
    def losses(noisy: bool) -> list[float]:
        recipe = config_of(noisy=noisy).recipe(image_channels=1, training=TRAINING, device=CPU)
        return [recipe.validate(batch(False), generator(seed, "validation"))["loss"] for seed in (0, 1)]

    assert losses(noisy=False)[0] == losses(noisy=False)[1]
    assert losses(noisy=True)[0] != losses(noisy=True)[1]


def test_mirroring_radiographs_by_the_back_door_is_refused() -> None:
    config = config_of(augmentation="radiograph")
    with pytest.raises(ConfigError, match="flip false"):
        config.recipe(image_channels=1, training=replace(TRAINING, flip=True), device=CPU)
    config.recipe(image_channels=1, training=TRAINING, device=CPU)

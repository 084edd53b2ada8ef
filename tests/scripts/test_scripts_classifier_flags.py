"""What the flags of the seed's two commands with a classifier become, and which values are refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from seed_classifier import classifier_experiment_of, classifier_of, gradient_sampler_of, refuse_other_networks
from seed_flags import (
    BATCH,
    CLASSIFIER,
    CLASSIFIER_PATH,
    CLASSIFIER_SAMPLING,
    CLASSIFIER_TRAINING,
    DATA,
    MODEL_PATH,
    UNCONDITIONAL,
    read_flags,
)

from baselines.classifier_ddim import ClassifierDdimConfig
from baselines.presets import cxr256_cgddim
from medanomaly.errors import ConfigError
from medanomaly.presets import cxr256_cfg

TRAIN = (UNCONDITIONAL, CLASSIFIER, CLASSIFIER_TRAINING, CLASSIFIER_SAMPLING, DATA)
SAMPLE = (UNCONDITIONAL, CLASSIFIER, CLASSIFIER_SAMPLING, BATCH, DATA, MODEL_PATH, CLASSIFIER_PATH)
TINY = (
    "--image_size 32 --channel_mult 1,2 --num_channels 32 --attention_resolutions 16 --num_head_channels 16 --classifier_width 16 "
    "--classifier_depth 1 --classifier_attention_resolutions 32,16"
)


def train_flags(words: str = "", **changed: Any) -> dict[str, Any]:
    """The flags of training, some of them changed."""
    return {**read_flags(words.split(), TRAIN, "train")[0], **changed}


def test_training_without_flags_is_the_preset_of_the_seeds_setting_but_for_the_classifiers_heads() -> None:
    made, preset = classifier_experiment_of(train_flags()), cxr256_cgddim()
    assert isinstance(preset.method, ClassifierDdimConfig)
    classifier = dataclasses.replace(preset.method.classifier, head_channels=64)
    assert made.method == dataclasses.replace(preset.method, classifier=classifier)
    assert (made.name, made.preprocess) == (preset.name, preset.preprocess)
    # None of them changes the weights.
    free = {name: getattr(preset.training, name) for name in ("log_every", "num_workers", "validate_every", "save_every")}
    assert dataclasses.replace(made.training, **free) == preset.training


def test_each_flag_of_training_has_its_counterpart() -> None:
    words = "--iterations 7 --lr 0.01 --batch_size 3 --weight_decay 0.5 --anneal_lr False --eval_interval 2 --save_interval 5"
    made = classifier_experiment_of(train_flags(words)).training
    assert (made.num_steps, made.learning_rate, made.batch_size, made.weight_decay) == (7, 0.01, 3, 0.5)
    assert (made.decay, made.validate_every, made.save_every) == ("none", 2, 5)


def test_the_classifier_of_the_seed_has_its_width_depth_and_attention() -> None:
    words = "--classifier_attention_resolutions 32,16,8 --classifier_depth 4 --classifier_width 32"
    made = classifier_of(train_flags(words))
    assert made.channels == (32, 32, 64, 64, 128, 128)
    assert made.attention == (False, False, False, True, True, True)
    assert (made.num_res_blocks, made.head_channels, made.norm_groups) == (4, 64, 32)
    with pytest.raises(ConfigError, match="feature maps have sides 256, 128"):
        classifier_of(train_flags("--classifier_attention_resolutions 24"))


def test_the_scale_of_the_gradient_and_the_steps_reach_the_sampler() -> None:
    flags = train_flags("--classifier_scale 30 --noise_level 250 --timestep_respacing ddim100")
    wanted = {"noise_level": 250, "num_steps": 25, "gradient_scale": 30.0}
    assert gradient_sampler_of(flags, num_levels=1000) == wanted
    sampler = classifier_experiment_of(flags).method.sampler
    assert dataclasses.asdict(sampler) == wanted


@pytest.mark.parametrize(
    "words",
    [
        "--classifier_pool attention",
        "--classifier_use_scale_shift_norm True",
        "--classifier_resblock_updown True",
        "--class_cond True",
        "--noised False",
        "--val_data_dir elsewhere",
        "--schedule_sampler loss-second-moment",
        "--use_ddim False",
    ],
)
def test_what_has_no_counterpart_is_refused_with_the_reason(words: str) -> None:
    with pytest.raises(ConfigError, match=f"^{words} cannot be honoured: .{{10,}}") as caught:
        read_flags(words.split(), TRAIN, "train")
    assert caught.value.exit_code == 2


def test_all_that_cannot_be_honoured_is_named_at_once_with_what_can() -> None:
    words = "--classifier_pool attention --classifier_resblock_updown True --val_data_dir elsewhere"
    with pytest.raises(ConfigError) as caught:
        read_flags(words.split(), TRAIN, "train")
    assert str(caught.value).count("cannot be honoured") == 3
    assert caught.value.fix == "use --classifier_pool adaptive, --classifier_resblock_updown False, no --val_data_dir"


def test_both_networks_learn_in_one_precision() -> None:
    with pytest.raises(ConfigError, match="give both the same value"):
        classifier_experiment_of(train_flags("--classifier_use_fp16 True"))
    assert classifier_experiment_of(train_flags("--classifier_use_fp16 True --use_fp16 True")).training.precision == "bf16"
    with pytest.raises(ConfigError, match="sampling computes in float32"):
        read_flags(["--classifier_use_fp16", "True"], SAMPLE, "sample")


def compare(asked: str) -> None:
    """Hold the flags of sampling against a checkpoint trained with ``TINY``."""
    refuse_other_networks(*read_flags(asked.split(), SAMPLE, "sample"), classifier_experiment_of(train_flags(TINY)))


@pytest.mark.parametrize(
    "asked",
    ["", TINY, "--classifier_attention_resolutions 16,32", "--model_path m --classifier_path m", "--classifier_scale 3"],
)
def test_flags_that_describe_the_checkpoint_are_accepted(asked: str) -> None:
    compare(asked)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("--classifier_width 32", "--classifier_width 32, but the checkpoint's classifier has 16 channels"),
        ("--classifier_depth 4", "--classifier_depth 4, but the checkpoint's classifier has 1 residual blocks"),
        ("--classifier_attention_resolutions 16", "--classifier_attention_resolutions 16, but .* has 32,16 sides"),
        ("--num_channels 64", "--num_channels 64 .*, but the checkpoint was trained with channels 32,64"),
        ("--classifier_path other", "--classifier_path other cannot be honoured: both networks are in --model_path"),
    ],
)
def test_flags_that_contradict_the_checkpoint_are_refused_with_both_values(asked: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{said}"):
        compare(asked)


def test_a_checkpoint_of_another_method_is_refused() -> None:
    flags, typed = read_flags([], SAMPLE, "sample")
    with pytest.raises(ConfigError, match="holds CFG diffusion, not classifier-guided DDIM"):
        refuse_other_networks(flags, typed, cxr256_cfg())

"""What the seed's flags become, and which values are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from seed_experiment import experiment_of, manifest_of, network_of, refuse_other_model, sampler_of
from seed_flags import BATCH, DATA, MODEL, MODEL_PATH, SAMPLING, TRAINING, command, read_flags

from medanomaly.errors import ConfigError
from medanomaly.presets import cxr256_cfg

TRAIN = (MODEL, TRAINING, SAMPLING, DATA)
SAMPLE = (MODEL, SAMPLING, BATCH, DATA, MODEL_PATH)
SEED_TRAIN = (
    "--unet_version v1 --image_size 256 --in_channels 1 --num_channels 128 --num_classes 2 --class_cond True --num_res_blocks 2 "
    "--num_heads 1 --learn_sigma True --use_scale_shift_norm False --attention_resolutions 16 --diffusion_steps 1000 "
    "--noise_schedule linear --rescale_learned_sigmas False --rescale_timesteps False --lr 1e-4 --batch_size 4 --p_uncond 0.1 "
    "--dropout 0.1 --lr_anneal_steps 50000 --dataset chexpert --data_dir D --result_dir R"
)
SEED_SAMPLE = (
    "--unet_version v1 --image_size 256 --in_channels 1 --num_channels 128 --num_classes 2 --class_cond True --guidance_scale 4.0 "
    "--noise_level 500 --timestep_respacing ddim1000 --use_ddim True --num_samples 11 --batch_size 1 --model_path M --data_dir D "
    "--result_dir R"
)


def train_flags(**changed: Any) -> dict[str, Any]:
    """The defaults of training, some of them changed."""
    return {**read_flags([], TRAIN, "train")[0], **changed}


def test_the_seeds_training_command_is_the_preset_of_the_seeds_setting() -> None:
    flags, typed = read_flags(SEED_TRAIN.split(), TRAIN, "train")
    made, preset = experiment_of(flags), cxr256_cfg()
    assert made.method == preset.method
    assert made.preprocess == preset.preprocess
    # Neither changes the weights.
    free = {"log_every": preset.training.log_every, "num_workers": preset.training.num_workers}
    assert dataclasses.replace(made.training, **free) == preset.training
    assert {"lr", "data_dir"} <= typed


def test_the_seeds_sampling_command_is_understood_and_w_becomes_g() -> None:
    flags, _ = read_flags(SEED_SAMPLE.split(), SAMPLE, "sample")
    assert sampler_of(flags, num_levels=1000) == {"noise_level": 500, "num_steps": 500, "guidance_scale": 5.0}


@pytest.mark.parametrize(
    ("respacing", "level", "steps"),
    [("ddim1000", 500, 500), ("ddim50", 500, 25), ("ddim100", 250, 25), ("", 300, 300), ("ddim1", 500, 1)],
)
def test_respacing_counts_steps_over_all_levels(respacing: str, level: int, steps: int) -> None:
    flags = train_flags(timestep_respacing=respacing, noise_level=level)
    assert sampler_of(flags, num_levels=1000)["num_steps"] == steps


@pytest.mark.parametrize("respacing", ["ddim0", "ddim1001", "10,10", "fast"])
def test_a_respacing_without_meaning_is_refused(respacing: str) -> None:
    with pytest.raises(ConfigError, match="must be ddimN"):
        sampler_of(train_flags(timestep_respacing=respacing), num_levels=1000)


@pytest.mark.parametrize(
    "words",
    [
        "--use_scale_shift_norm True",
        "--rescale_timesteps True",
        "--rescale_learned_sigmas True",
        "--class_cond False",
        "--use_ddim False",
        "--num_classes 3",
        "--resblock_updown True",
        "--use_kl True",
        "--predict_xstart True",
        "--num_heads_upsample 2",
        "--schedule_sampler loss-second-moment",
    ],
)
def test_a_value_that_cannot_be_honoured_is_refused_with_the_reason(words: str) -> None:
    with pytest.raises(ConfigError, match=f"^{words} cannot be honoured: .{{10,}}") as caught:
        read_flags(words.split(), TRAIN, "train")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        "--unet_version v2",
        "--use_checkpoint True",
        "--fp16_scale_growth 0.01",
        "--microbatch 1",
        "--resume_checkpoint model.pt",
        "--clip_denoised True",
    ],
)
def test_a_flag_without_effect_is_said_to_be_ignored(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    read_flags(words.split(), TRAIN, "train")
    assert capsys.readouterr().err.startswith(f"{words}: ")


def test_an_unknown_flag_names_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="did you mean --guidance_scale"):
        read_flags(["--guidance-scales", "3"], TRAIN, "train")


def test_attention_stands_where_the_feature_maps_have_the_named_sides() -> None:
    network = network_of(train_flags(attention_resolutions="32,16,8", num_head_channels=64))
    assert network.attention == (False, False, False, True, True, True)
    assert network.channels == (128, 128, 256, 256, 512, 512)
    with pytest.raises(ConfigError, match="feature maps have sides 256, 128, 64, 32, 16, 8"):
        network_of(train_flags(attention_resolutions="24"))


def test_heads_that_cannot_be_of_one_width_are_refused_with_a_width_that_can() -> None:
    with pytest.raises(ConfigError, match=r"256 and 512 channels.*use --num_head_channels 64"):
        network_of(train_flags(attention_resolutions="32,16"))
    assert network_of(train_flags(num_heads=4)).head_channels == 128
    assert network_of(train_flags(attention_resolutions="32,16", num_head_channels=64)).head_channels == 64


def test_sizes_have_guided_diffusions_levels_and_others_need_theirs_named() -> None:
    assert network_of(train_flags(image_size=128, num_head_channels=64)).channels == (128, 128, 256, 384, 512)
    assert network_of(train_flags(image_size=64, num_head_channels=64)).channels == (128, 256, 384, 512)
    with pytest.raises(ConfigError, match="--channel_mult"):
        network_of(train_flags(image_size=96))


def test_norm_groups_divide_the_channels_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert network_of(train_flags(image_size=32, channel_mult="1,3", num_channels=16)).norm_groups == 16
    assert "group norm in 16 groups instead of 32" in capsys.readouterr().err


def test_fp16_means_bf16_and_one_decay_is_taken() -> None:
    assert experiment_of(train_flags(use_fp16=True)).training.precision == "bf16"
    assert experiment_of(train_flags(ema_rate="0.99")).training.ema_decay == 0.99
    with pytest.raises(ConfigError, match="must be one number"):
        experiment_of(train_flags(ema_rate="0.99,0.9999"))


def test_a_folder_with_a_manifest_is_taken_as_it_is_and_an_unknown_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--dataset nowhere is not known"):
        manifest_of(train_flags(dataset="nowhere"), tmp_path, tmp_path)
    (tmp_path / "manifest.csv").write_text("image\n")
    assert manifest_of(train_flags(dataset="nowhere"), tmp_path, tmp_path / "out") == tmp_path / "manifest.csv"


def test_a_refusal_is_one_line_with_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    def refusing(words: object) -> int:
        raise ConfigError("cannot be", code="E_CONFIG", fix="change it")

    assert command(refusing, "train.py") == 2
    assert capsys.readouterr().err == "train.py: cannot be [E_CONFIG]; change it\n"


TINY = "--image_size 32 --channel_mult 1,2 --num_channels 32 --attention_resolutions 16 --num_head_channels 16"
CUSTOM_512 = "--image_size 512 --channel_mult 1,2 --num_channels 16 --attention_resolutions 256"
CUSTOMARY_512 = "--image_size 512 --num_channels 128 --attention_resolutions 32,16 --num_head_channels 64"


def compare(trained: str, asked: str) -> None:
    """Hold the flags of sampling against a network trained with others."""
    experiment = experiment_of(read_flags(trained.split(), TRAIN, "train")[0])
    refuse_other_model(*read_flags(asked.split(), SAMPLE, "sample"), experiment)


@pytest.mark.parametrize(
    ("trained", "asked"),
    [
        (TINY, ""),
        (TINY, TINY),
        (TINY, "--num_heads 1 --num_head_channels 16"),
        (TINY, "--num_heads 4"),
        (TINY, "--num_heads 4 --num_head_channels -1"),
        (TINY, "--num_head_channels -1"),
        (TINY, "--num_channels 32"),
        (TINY, "--channel_mult 1,2"),
        (TINY, "--channel_mult 0.5,1 --num_channels 64"),
        (CUSTOM_512, CUSTOM_512),
        (CUSTOM_512, "--num_channels 16"),
        (CUSTOM_512, "--channel_mult 1,2"),
        (CUSTOMARY_512, CUSTOMARY_512),
        (CUSTOMARY_512, "--num_channels 64 --channel_mult 1,2,2,4,4,8,8"),
        (CUSTOMARY_512, "--channel_mult 0.5,1,1,2,2,4,4"),
        (CUSTOMARY_512, "--attention_resolutions 16,32"),
        (SEED_TRAIN.split(" --lr ")[0], SEED_SAMPLE),
    ],
)
def test_flags_that_describe_the_checkpoint_are_accepted_however_they_say_it(trained: str, asked: str) -> None:
    compare(trained, asked)


@pytest.mark.parametrize(
    ("trained", "asked", "said", "held"),
    [
        (TINY, "--channel_mult 1,2,4", "--channel_mult 1,2,4 (channels 32,64,128)", "channels 32,64"),
        (TINY, "--channel_mult 1", "--channel_mult 1 (channels 32)", "channels 32,64"),
        (TINY, "--channel_mult 1,3", "--channel_mult 1,3 (channels 32,96)", "channels 32,64"),
        (TINY, "--num_channels 64", "--num_channels 64 (channels 64,128)", "channels 32,64"),
        (TINY, "--num_channels 0 --channel_mult 1,2", "--num_channels 0 --channel_mult 1,2 (channels 0,0)", "channels 32,64"),
        (TINY, "--num_head_channels 32", "--num_head_channels 32", "16"),
        (TINY, "--num_heads 4 --num_head_channels 32", "--num_head_channels 32", "16"),
        (TINY, "--num_heads 1", "--num_heads 1", "4"),
        (TINY, "--attention_resolutions 32,16", "--attention_resolutions 32,16", "16"),
        (TINY, "--attention_resolutions 24", "--attention_resolutions 24", "16"),
        (TINY, "--num_res_blocks 3", "--num_res_blocks 3", "2"),
        (CUSTOM_512, "--num_channels 32", "--num_channels 32 (channels 32,64)", "channels 16,32"),
        (CUSTOMARY_512, "--num_channels 64", "--num_channels 64 (channels 32,64,64,128,128,256,256)", "channels 64,128,"),
        (CUSTOMARY_512, "--num_heads 4", "--num_heads 4", "4,8"),
    ],
)
def test_flags_that_contradict_the_checkpoint_are_refused_with_both_values(
    trained: str, asked: str, said: str, held: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        compare(trained, asked)
    assert caught.value.code == "E_CONFIG_MISMATCH"
    assert str(caught.value).startswith(f"{said}, but the checkpoint was trained with {held}")


def test_everything_that_differs_from_the_checkpoint_is_named_at_once() -> None:
    with pytest.raises(
        ConfigError, match=r"--image_size 64, but .* 32; .*channels 32,64,128.*; --num_head_channels 8, but .* 16"
    ):
        compare(TINY, "--image_size 64 --channel_mult 1,2,4 --num_head_channels 8")


@pytest.mark.parametrize("multipliers", [",", "0,1", "1,inf", "-1,2"])
def test_multipliers_that_make_no_levels_are_refused(multipliers: str) -> None:
    with pytest.raises(ConfigError, match="--channel_mult must be positive numbers"):
        network_of(train_flags(channel_mult=multipliers))

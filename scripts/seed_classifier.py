"""The flags of the two commands with a classifier, and what they mean: one experiment that trains both networks."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from seed_experiment import (
    NORM_GROUPS,
    channels_of,
    commas,
    experiment_of,
    multipliers_of,
    numbers,
    refuse_other_model,
    sampler_of,
)

from baselines.classifier_ddim import ClassifierDdimConfig, GradientSamplerConfig
from baselines.presets import cxr256_cgddim
from medanomaly.classifiers.network import ClassifierConfig
from medanomaly.errors import ConfigError
from medanomaly.methods.experiment import Experiment

HEAD_CHANNELS = 64
"""Of the classifier's attention heads where they fit, as in guided-diffusion, which has no flag for them."""


def classifier_experiment_of(flags: Mapping[str, Any]) -> Experiment:
    """The experiment that the flags describe, on the ground of the preset ``cxr256-cgddim``, the seed's setting.

    Raises:
        ConfigError: E_CONFIG, flags that contradict each other or cannot be honoured.
    """
    if flags["use_fp16"] != flags["classifier_use_fp16"]:
        raise ConfigError(
            f"--use_fp16 {flags['use_fp16']} and --classifier_use_fp16 {flags['classifier_use_fp16']}: both networks learn in one "
            "precision",
            code="E_CONFIG",
            fix="give both the same value",
        )
    # What the main method's commands know by another name, or not at all.
    like = experiment_of({**flags, "lr_anneal_steps": flags["iterations"], "p_uncond": 0.0, "guidance_scale": 0.0})
    method = ClassifierDdimConfig(
        network=like.method.network,
        classifier=classifier_of(flags),
        schedule=like.method.schedule,
        sampler=GradientSamplerConfig(**gradient_sampler_of(flags, num_levels=flags["diffusion_steps"])),
    )
    decay = "linear" if flags["anneal_lr"] else "none"
    training = replace(like.training, decay=decay, validate_every=flags["eval_interval"])
    return Experiment(name=cxr256_cgddim().name, method=method, preprocess=like.preprocess, training=training)


def classifier_of(flags: Mapping[str, Any]) -> ClassifierConfig:
    """The encoder: levels by image size as the diffusion network's, attention where a feature map has one of the named sides."""
    size = flags["image_size"]
    channels = channels_of(flags["classifier_width"], multipliers_of(flags, size))
    sides = [size // 2**level for level in range(len(channels))]
    wanted = numbers(flags, "classifier_attention_resolutions")
    if set(wanted) - set(sides):
        raise ConfigError(
            f"--classifier_attention_resolutions {flags['classifier_attention_resolutions']}: feature maps have sides "
            f"{', '.join(map(str, sides))}",
            code="E_CONFIG",
            fix="name some of these",
        )
    attention = tuple(side in wanted for side in sides)
    attended = [width for width, here in zip(channels, attention, strict=True) if here]
    return ClassifierConfig(
        channels=channels,
        attention=attention,
        num_res_blocks=flags["classifier_depth"],
        head_channels=math.gcd(HEAD_CHANNELS, *attended),
        norm_groups=math.gcd(NORM_GROUPS, *channels),
    )


def gradient_sampler_of(flags: Mapping[str, Any], *, num_levels: int) -> dict[str, Any]:
    """Settings of ``GradientSamplerConfig``; steps are counted as for the main method."""
    walk = sampler_of({**flags, "guidance_scale": 0.0}, num_levels=num_levels)
    return {name: walk[name] for name in ("noise_level", "num_steps")} | {"gradient_scale": flags["classifier_scale"]}


def refuse_other_networks(flags: Mapping[str, Any], typed: Collection[str], experiment: Experiment) -> None:
    """The checkpoint says how both networks are made; flags that were typed must say the same, the others are not asked.

    Raises:
        ConfigError: E_CONFIG_MISMATCH; E_CONFIG, a classifier in another file.
    """
    if flags["classifier_path"] not in ("", flags["model_path"]):
        raise ConfigError(
            f"--classifier_path {flags['classifier_path']} cannot be honoured: both networks are in --model_path, trained together",
            code="E_CONFIG",
            fix="leave it out",
        )
    refuse_other_model(flags, typed, experiment, ClassifierDdimConfig)
    stored = experiment.method.classifier
    known = {
        "classifier_width": ("channels", flags["classifier_width"], stored.channels[0]),
        "classifier_depth": ("residual blocks a level", flags["classifier_depth"], stored.num_res_blocks),
    }
    size = experiment.preprocess.image_size
    sides = [size // 2**level for level, here in enumerate(stored.attention) if here]
    wanted = sorted((int(side) for side in numbers(flags, "classifier_attention_resolutions")), reverse=True)
    known["classifier_attention_resolutions"] = ("sides with attention", commas(wanted), commas(sides))
    differ = [
        f"--{name} {flags[name]}, but the checkpoint's classifier has {held} {what}"
        for name, (what, asked, held) in known.items()
        if name in typed and asked != held
    ]
    if differ:
        raise ConfigError("; ".join(differ), code="E_CONFIG_MISMATCH", fix="leave it out: the checkpoint knows")

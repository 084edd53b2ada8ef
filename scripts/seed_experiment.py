"""What the seed's flags mean: an experiment, a sampler, a manifest; and whether a checkpoint is what the flags say it is."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medanomaly.datasets.manifest import Record, read_manifest, write_manifest
from medanomaly.datasets.public import PUBLIC_SETS
from medanomaly.datasets.public.brats_layout import MODALITIES
from medanomaly.diffusion.schedule import ScheduleConfig
from medanomaly.diffusion.unet import NetworkConfig
from medanomaly.errors import ConfigError, InputError
from medanomaly.methods.cfg_diffusion import CfgDiffusionConfig
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.methods.experiment import Experiment, MethodConfig
from medanomaly.presets import cxr256_cfg

MULTIPLIERS = {512: "0.5,1,1,2,2,4,4", 256: "1,1,2,2,4,4", 128: "1,1,2,3,4", 64: "1,2,3,4"}
"""Channel multipliers by image size (Dhariwal & Nichol 2021, arXiv:2105.05233, and guided-diffusion's manual)."""
NORM_GROUPS = 32
READER_OPTIONS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "brats": lambda flags: {"modalities": MODALITIES[: flags["in_channels"]]}
}
"""What the flags mean to a reader of one set; the others take none."""


def experiment_of(flags: Mapping[str, Any]) -> Experiment:
    """The experiment that the flags of training describe, on the ground of the preset ``cxr256-cfg``, the seed's setting.

    Raises:
        ConfigError: E_CONFIG, flags that contradict each other or cannot be honoured.
    """
    base = cxr256_cfg()
    rates = numbers(flags, "ema_rate")
    if len(rates) != 1:
        raise ConfigError(f"--ema_rate must be one number, got {flags['ema_rate']!a}", code="E_CONFIG", fix="use 0.9999")
    method = CfgDiffusionConfig(
        network=network_of(flags),
        schedule=ScheduleConfig(name=flags["noise_schedule"], num_levels=flags["diffusion_steps"]),
        sampler=SamplerConfig(**sampler_of(flags, num_levels=flags["diffusion_steps"])),
        p_uncond=flags["p_uncond"],
    )
    training = replace(
        base.training,
        num_steps=flags["lr_anneal_steps"],
        batch_size=flags["batch_size"],
        learning_rate=flags["lr"],
        weight_decay=flags["weight_decay"],
        ema_decay=rates[0],
        precision="bf16" if flags["use_fp16"] else "fp32",
        save_every=flags["save_interval"],
        log_every=flags["log_interval"],
        num_workers=min(flags["num_workers"], os.cpu_count() or 1),
    )
    preprocess = replace(base.preprocess, image_size=flags["image_size"], channels=flags["in_channels"])
    return Experiment(name=base.name, method=method, preprocess=preprocess, training=training)


def network_of(flags: Mapping[str, Any]) -> NetworkConfig:
    """The U-Net: levels by image size, attention where a feature map has one of the named sides."""
    size = flags["image_size"]
    channels = channels_of(flags["num_channels"], multipliers_of(flags, size))
    sides = [size // 2**level for level in range(len(channels))]
    wanted = numbers(flags, "attention_resolutions")
    if set(wanted) - set(sides):
        raise ConfigError(
            f"--attention_resolutions {flags['attention_resolutions']}: feature maps have sides {', '.join(map(str, sides))}",
            code="E_CONFIG",
            fix="name some of these",
        )
    attention = tuple(side in wanted for side in sides)
    groups = math.gcd(NORM_GROUPS, *channels)
    if groups != NORM_GROUPS:
        print(f"--num_channels {flags['num_channels']}: group norm in {groups} groups instead of {NORM_GROUPS}", file=sys.stderr)
    return NetworkConfig(
        channels=channels,
        attention=attention,
        num_res_blocks=flags["num_res_blocks"],
        head_channels=head_channels_of(flags, channels, attention),
        norm_groups=groups,
        dropout=flags["dropout"],
        learn_sigma=flags["learn_sigma"],
    )


def multipliers_of(flags: Mapping[str, Any], size: int) -> list[float]:
    """Channel multiplier of each level, finest first: those that were given, else the customary ones of the size."""
    if not flags["channel_mult"] and size not in MULTIPLIERS:
        raise ConfigError(
            f"--image_size {size} has no customary levels (those of {', '.join(map(str, MULTIPLIERS))} are known)",
            code="E_CONFIG",
            fix="give them, e.g. --channel_mult 1,2,4",
        )
    multipliers = numbers({"channel_mult": flags["channel_mult"] or MULTIPLIERS[size]}, "channel_mult")
    if not multipliers or not all(0 < factor < math.inf for factor in multipliers):
        raise ConfigError(
            f"--channel_mult must be positive numbers, got {flags['channel_mult']!a}",
            code="E_CONFIG",
            fix="e.g. --channel_mult 1,2,4",
        )
    return multipliers


def channels_of(num_channels: int, multipliers: Sequence[float]) -> tuple[int, ...]:
    """Channels of each level, finest first."""
    return tuple(int(num_channels * factor) for factor in multipliers)


def head_channels_of(flags: Mapping[str, Any], channels: tuple[int, ...], attention: tuple[bool, ...]) -> int:
    """Channels of an attention head; the coarsest level has attention in the middle of the network, named or not."""
    widths = sorted({width for width, here in zip(channels, attention, strict=True) if here} | {channels[-1]})
    heads, given = flags["num_heads"], flags["num_head_channels"]
    width = given if given > 0 else widths[0] // max(heads, 1)
    if width < 1 or any(one % width or (given <= 0 and one // width != heads) for one in widths):
        named = f"--num_head_channels {given}" if given > 0 else f"--num_heads {heads}"
        raise ConfigError(
            f"{named} does not fit attention on {' and '.join(map(str, widths))} channels: all heads have one width",
            code="E_CONFIG",
            fix=f"use --num_head_channels {math.gcd(*widths, 64)}",
        )
    return int(width)


def sampler_of(flags: Mapping[str, Any], *, num_levels: int) -> dict[str, Any]:
    """Settings of ``SamplerConfig``: g = w + 1, and N steps over all T levels are N L / T up to level L."""
    respacing = re.fullmatch(r"(?:ddim)?(\d+)|", flags["timestep_respacing"])
    steps = int(respacing[1] or num_levels) if respacing else 0
    if not 1 <= steps <= num_levels:
        raise ConfigError(
            f"--timestep_respacing must be ddimN with N in 1..{num_levels}, got {flags['timestep_respacing']!a}", code="E_CONFIG"
        )
    if flags["guidance_scale"] < -1:
        raise ConfigError(f"--guidance_scale must be at least -1, got {flags['guidance_scale']}", code="E_CONFIG")
    level = flags["noise_level"]
    num_steps = max(1, round(steps * level / num_levels))
    return {"noise_level": level, "num_steps": num_steps, "guidance_scale": flags["guidance_scale"] + 1.0}


def numbers(flags: Mapping[str, Any], name: str) -> list[float]:
    """The numbers of a flag that lists them with commas."""
    try:
        return [float(word) for word in flags[name].split(",") if word.strip()]
    except ValueError as error:
        raise ConfigError(f"--{name} must be numbers with commas between, got {flags[name]!a}", code="E_CONFIG") from error


def manifest_of(flags: Mapping[str, Any], data_dir: Path, result_dir: Path) -> Path:
    """``data_dir/manifest.csv`` if there is one, else the manifest that the reader of the set makes in ``result_dir``."""
    if (data_dir / "manifest.csv").is_file():
        return data_dir / "manifest.csv"
    if flags["dataset"] not in PUBLIC_SETS:
        raise ConfigError(
            f"--dataset {flags['dataset']} is not known", code="E_CONFIG", fix=f"use one of {', '.join(sorted(PUBLIC_SETS))}"
        )
    options = READER_OPTIONS[flags["dataset"]](flags) if flags["dataset"] in READER_OPTIONS else {}
    listing = PUBLIC_SETS[flags["dataset"]](data_dir, result_dir, **options)
    for finding in listing.findings:
        print(f"warning: {finding}", file=sys.stderr)
    write_manifest(listing.records, result_dir / "manifest.csv", allow_outside=True)
    return result_dir / "manifest.csv"


def first_diseased(manifest: Path, count: int, target: str) -> list[Record]:
    """The first test records by id whose label is another than ``target``."""
    records = [
        record
        for record in read_manifest(manifest, allow_outside=True)
        if record.split == "test" and record.label not in (None, target)
    ]
    if not records or count < 1:
        raise InputError(f"has no diseased test images for {count} samples", code="E_EMPTY", path=manifest, fix="label some")
    return sorted(records, key=lambda record: record.id)[:count]


def refuse_other_model(
    flags: Mapping[str, Any], typed: Collection[str], experiment: Experiment, kind: type[MethodConfig] = CfgDiffusionConfig
) -> None:
    """The checkpoint says how its network is made; flags that were typed must say the same, the others are not asked.

    Args:
        flags: every flag with its value.
        typed: those that were typed.
        experiment: the checkpoint's.
        kind: the method that the command is for; it must have a ``network`` and a ``schedule``.

    Raises:
        ConfigError: E_CONFIG_MISMATCH, with all that differs: what the flags say and what the checkpoint holds.
    """
    method, size = experiment.method, experiment.preprocess.image_size
    if not isinstance(method, kind):
        raise ConfigError(f"the checkpoint holds {method.title}, not {kind.title}", code="E_CONFIG_MISMATCH")
    network = method.network
    stored: dict[str, Any] = {
        "image_size": size,
        "in_channels": experiment.preprocess.channels,
        "num_res_blocks": network.num_res_blocks,
        "dropout": network.dropout,
        "learn_sigma": network.learn_sigma,
        "diffusion_steps": method.schedule.num_levels,
        "noise_schedule": method.schedule.name,
    }
    differ = [(f"--{name} {flags[name]}", value) for name, value in stored.items() if name in typed and flags[name] != value]
    widths = [name for name in ("num_channels", "channel_mult") if name in typed]
    if widths and (asked := channels_asked(flags, typed, size, network.channels)) != network.channels:
        named = " ".join(f"--{name} {flags[name]}" for name in widths)
        differ.append((f"{named} (channels {commas(asked)})", f"channels {commas(network.channels)}"))
    sides = {size // 2**level for level, here in enumerate(network.attention) if here}
    if "attention_resolutions" in typed and set(numbers(flags, "attention_resolutions")) != sides:
        named = commas(sorted(sides, reverse=True)) or "none"
        differ.append((f"--attention_resolutions {flags['attention_resolutions']}", named))
    # As in training, a width of the heads comes before their number; -1 only hands over to the number.
    if "num_head_channels" in typed and flags["num_head_channels"] > 0:
        if flags["num_head_channels"] != network.head_channels:
            differ.append((f"--num_head_channels {flags['num_head_channels']}", network.head_channels))
    elif "num_heads" in typed:
        attended = {width for width, here in zip(network.channels, network.attention, strict=True) if here}
        heads = sorted({width // network.head_channels for width in attended | {network.channels[-1]}})
        if heads != [flags["num_heads"]]:
            differ.append((f"--num_heads {flags['num_heads']}", commas(heads)))
    if differ:
        raise ConfigError(
            "; ".join(f"{said}, but the checkpoint was trained with {value}" for said, value in differ),
            code="E_CONFIG_MISMATCH",
            fix="leave the flag out: the checkpoint knows" if len(differ) == 1 else "leave the flags out: the checkpoint knows",
        )


def channels_asked(flags: Mapping[str, Any], typed: Collection[str], size: int, stored: tuple[int, ...]) -> tuple[int, ...]:
    """Channels of each level by --num_channels and --channel_mult; one that was not typed is what fits the ``stored`` channels."""
    if "channel_mult" in typed:
        multipliers = multipliers_of(flags, size)
        fitting = num_channels_of(stored, multipliers) or max(1, round(stored[0] / multipliers[0]))
        return channels_of(flags["num_channels"] if "num_channels" in typed else fitting, multipliers)
    # The same channels are 16 times 1,2 and 32 times 0.5,1: the customary multipliers where they fit, else the finest is 1.
    customary = numbers({"channel_mult": MULTIPLIERS.get(size, "")}, "channel_mult")
    if num_channels_of(stored, customary) is not None:
        return channels_of(flags["num_channels"], customary)
    return tuple(flags["num_channels"] * width // stored[0] for width in stored)


def num_channels_of(channels: tuple[int, ...], multipliers: Sequence[float]) -> int | None:
    """The --num_channels that makes these channels with these multipliers; None if there is none."""
    if len(channels) != len(multipliers):
        return None
    factor, width = max(zip(multipliers, channels, strict=True))
    near = int(width / factor)
    return next((count for count in (near, near + 1) if channels_of(count, multipliers) == channels), None)


def commas(values: Sequence[int]) -> str:
    """Numbers as the flags list them."""
    return ",".join(map(str, values))

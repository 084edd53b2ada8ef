"""The flags of the seed's commands: what each means here, which are understood and without effect, and which values are refused."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medanomaly.cli.parsing import parsed, parser
from medanomaly.errors import ConfigError, MedanomalyError


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One flag of the seed's commands."""

    default: bool | int | float | str
    """The seed's; its type is the flag's."""
    means: str = ""
    """What it does here."""
    ignored: str = ""
    """Why it does nothing here; "" = it does something."""
    only: tuple[Any, ...] = ()
    """Values that can be honoured; empty = all of its type."""
    why: str = ""
    """Why the others are refused, and what to do instead."""


MODEL: dict[str, Flag] = {
    "unet_version": Flag(default="v1", ignored="there is one version here"),
    "image_size": Flag(default=256, means="side of the square the network sees, px"),
    "in_channels": Flag(default=1, means="1 gray, 3 colour; for BraTS the first of flair, t1, t1ce, t2"),
    "num_channels": Flag(default=128, means="channels of the finest level"),
    "channel_mult": Flag(
        default="", means='multipliers of the levels, such as "1,2,4"; empty = guided-diffusion\'s for the size'
    ),
    "num_classes": Flag(default=2, only=(2,), why="the classes are healthy and diseased"),
    "class_cond": Flag(default=True, only=(True,), why="guidance needs the class"),
    "num_res_blocks": Flag(default=2, means="residual blocks a level"),
    "num_heads": Flag(default=1, means="attention heads"),
    "num_head_channels": Flag(default=-1, means="channels a head, instead of num_heads; -1 = use num_heads"),
    "num_heads_upsample": Flag(default=-1, only=(-1,), why="both halves of the network have the same heads"),
    "attention_resolutions": Flag(default="16", means='sides of the feature maps with attention, such as "32,16,8"'),
    "dropout": Flag(default=0.1, means="in the residual blocks"),
    "learn_sigma": Flag(default=True, means="predict the variance too"),
    "use_scale_shift_norm": Flag(default=False, only=(False,), why="the time embedding is added (as in the seed)"),
    "resblock_updown": Flag(default=False, only=(False,), why="levels are joined by convolutions"),
    "use_checkpoint": Flag(default=False, ignored="activations are kept; the numbers are the same"),
    "use_new_attention_order": Flag(default=False, ignored="it only orders weights within a file"),
    "use_fp16": Flag(default=False, means="bf16 autocast, which needs no loss scaling"),
    "diffusion_steps": Flag(default=1000, means="noise levels T"),
    "noise_schedule": Flag(default="linear", means="linear, cosine, sigmoid, quadratic or scaled_linear"),
    "use_kl": Flag(default=False, only=(False,), why="the loss is the hybrid one with learn_sigma, else the mean squared error"),
    "predict_xstart": Flag(default=False, only=(False,), why="the network predicts the noise"),
    "rescale_timesteps": Flag(default=False, only=(False,), why="the network is told the level itself"),
    "rescale_learned_sigmas": Flag(default=False, only=(False,), why="the variational term has one weight, 1e-3"),
}
TRAINING: dict[str, Flag] = {
    "lr": Flag(default=1e-4, means="learning rate of AdamW"),
    "batch_size": Flag(default=4, means="images a step"),
    "lr_anneal_steps": Flag(default=50_000, means="steps; the learning rate falls linearly to 0"),
    "p_uncond": Flag(default=0.1, means="probability that a label becomes the null class"),
    "weight_decay": Flag(default=0.0, means="of AdamW"),
    "ema_rate": Flag(default="0.9999", means="decay of the moving average of the weights"),
    "save_interval": Flag(default=1000, means="steps between saved states"),
    "log_interval": Flag(default=20, means="steps between lines of log.jsonl"),
    "schedule_sampler": Flag(default="uniform", only=("uniform",), why="levels are drawn uniformly"),
    "microbatch": Flag(default=-1, ignored="a batch is not divided; choose a smaller --batch_size if memory is short"),
    "fp16_scale_growth": Flag(default=1e-3, ignored="bf16 needs no loss scaling"),
    "resume_checkpoint": Flag(default="", ignored="the same command with the same --result_dir continues by itself"),
    "num_workers": Flag(default=4, means="loader processes, at most one a core"),
}
SAMPLING: dict[str, Flag] = {
    "guidance_scale": Flag(default=4.0, means="the seed's w, from 0: g = w + 1 here"),
    "noise_level": Flag(default=500, means="level L to encode to, 1..T"),
    "timestep_respacing": Flag(default="ddim1000", means="ddimN: N steps over all T levels, so round(N L / T) each way"),
    "use_ddim": Flag(default=True, only=(True,), why="a stochastic sampler does not return the image it was given"),
    "clip_denoised": Flag(default=True, ignored="the walk is clamped once, at its end: clamping inside it breaks the inversion"),
}
BATCH: dict[str, Flag] = {
    "num_samples": Flag(default=11, means="images, diseased ones of the test split"),
    "batch_size": Flag(default=1, means="images a forward pass"),
}
DATA: dict[str, Flag] = {
    "dataset": Flag(default="chexpert", means="chexpert, brats, or another set of `medanomaly data`"),
    "data_dir": Flag(default="", means="the set as published, or a folder with a manifest.csv"),
    "result_dir": Flag(default="", means="folder of the results"),
    "device": Flag(default="auto", means="auto, cpu, cuda, cuda:1, ..."),
    "visdom": Flag(
        default="", means="show the run at this address, http://127.0.0.1:8097 for `medanomaly live`; empty = nowhere"
    ),
}
MODEL_PATH: dict[str, Flag] = {"model_path": Flag(default="", means="model.safetensors, or its folder")}
UNCONDITIONAL: dict[str, Flag] = MODEL | {
    "class_cond": Flag(
        default=False, only=(False,), why="the diffusion network is unconditional, the classifier alone knows classes"
    )
}
CLASSIFIER: dict[str, Flag] = {
    "classifier_width": Flag(
        default=128, means="channels of the classifier's finest level; it has the levels of the other network"
    ),
    "classifier_depth": Flag(default=2, means="residual blocks a level of the classifier"),
    "classifier_attention_resolutions": Flag(default="16", means="sides of its feature maps with attention"),
    "classifier_pool": Flag(default="adaptive", only=("adaptive",), why="the classifier takes the mean over all positions"),
    "classifier_use_scale_shift_norm": Flag(default=False, only=(False,), why="the time embedding is added"),
    "classifier_resblock_updown": Flag(default=False, only=(False,), why="levels are joined by convolutions"),
    "classifier_use_fp16": Flag(default=False, means="bf16 autocast, of both networks: --use_fp16 must say the same"),
}
CLASSIFIER_TRAINING: dict[str, Flag] = {
    name: flag for name, flag in TRAINING.items() if name not in ("lr_anneal_steps", "p_uncond")
} | {
    "iterations": Flag(default=50_000, means="steps of both networks"),
    "anneal_lr": Flag(default=True, means="the learning rate falls linearly to 0; False = it stays"),
    "noised": Flag(default=True, only=(True,), why="a classifier that guides must know noisy images"),
    "val_data_dir": Flag(default="", only=("",), why="the val rows are those of the manifest or of the reader of --data_dir"),
    "eval_interval": Flag(default=500, means="steps between validation losses"),
}
CLASSIFIER_SAMPLING: dict[str, Flag] = {name: flag for name, flag in SAMPLING.items() if name != "guidance_scale"} | {
    "classifier_scale": Flag(default=100.0, means="s, the scale of the classifier's gradient; 0 = unguided")
}
CLASSIFIER_PATH: dict[str, Flag] = {
    "classifier_path": Flag(default="", means="may be left out: --model_path holds both networks"),
    **{
        name: Flag(default=False, only=(False,), why="sampling computes in float32")
        for name in ("use_fp16", "classifier_use_fp16")
    },
}


def read_flags(words: Sequence[str], tables: Sequence[Mapping[str, Flag]], prog: str) -> tuple[dict[str, Any], set[str]]:
    """(flag -> value, the flags that were typed) of a command line; says on stderr which of those have no effect.

    Raises:
        ConfigError: E_USAGE, an unknown flag or a value of another type; E_CONFIG, a value that cannot be honoured.
    """
    known = {name: flag for table in tables for name, flag in table.items()}
    made = parser(prog, "", "[flags]")
    for name, flag in known.items():
        text = f"ignored: {flag.ignored}" if flag.ignored else flag.means or f"must be {flag.only[0]}: {flag.why}"
        made.add_argument(f"--{name}", type=type(flag.default), default=flag.default, help=text.replace("%", "%%"))
    values: dict[str, Any] = parsed(made, words).as_dict()
    values.pop("config", None)
    typed = {word[2:].split("=")[0].replace("-", "_") for word in words if word.startswith("--")} & known.keys()
    refused = [name for name, flag in known.items() if flag.only and values[name] not in flag.only]
    if refused:
        said = "; ".join(f"--{name} {values[name]} cannot be honoured: {known[name].why}" for name in refused)
        remedy = ", ".join(f"--{name} {known[name].only[0]}" if known[name].only[0] != "" else f"no --{name}" for name in refused)
        raise ConfigError(said, code="E_CONFIG", fix=f"use {remedy}")
    for name, flag in known.items():
        if flag.ignored and name in typed:
            print(f"--{name} {values[name]}: {flag.ignored}; ignored", file=sys.stderr)
    return values, typed


def folder_of(values: Mapping[str, Any], name: str) -> Path:
    """The path a flag must give.

    Raises:
        ConfigError: E_USAGE, it was left out.
    """
    if not values[name]:
        raise ConfigError(f"--{name} is missing", code="E_USAGE", fix=f"write --{name} PATH")
    return Path(values[name])


def command(main: Callable[[Sequence[str]], int], prog: str) -> int:
    """Run a script's ``main`` with the words of the command line; errors are one line with their exit code."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    # As in medanomaly.cli.main, and like there before torch is imported: threads that wait by spinning starve a shared core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return main(sys.argv[1:])
    except MedanomalyError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130

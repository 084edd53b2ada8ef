"""medanomaly choose: noise level, guidance scale and checkpoint from the labels of the val split, without masks."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from medanomaly.cli.device import choose_device
from medanomaly.cli.evaluate import resolve_checkpoint
from medanomaly.cli.methods import ALL_METHODS
from medanomaly.cli.output import make_folder, refuse_existing
from medanomaly.cli.parsing import run_function
from medanomaly.datasets.dataset import ManifestDataset
from medanomaly.datasets.manifest import Record, manifest_fingerprint, read_manifest
from medanomaly.datasets.splits import spread
from medanomaly.errors import ConfigError, InputError
from medanomaly.evaluation.choice_folder import write_choice
from medanomaly.evaluation.choose import Setting, Translator, Trial, try_settings
from medanomaly.files import sha256_of
from medanomaly.methods.cfg_diffusion import CfgDiffusion
from medanomaly.methods.experiment import TrainedMethod, load_trained
from medanomaly.training.log import environment

LEVEL_SHARES = (0.25, 0.4, 0.55, 0.7)
"""Noise levels tried unless others are named, as shares of the schedule's."""
GUIDANCE_SCALES = (1.5, 3.0, 5.0)
"""Guidance scales tried unless others are named."""


def choose(
    checkpoint: Path,
    data: Path,
    out: Path,
    other_checkpoints: list[Path] | None = None,
    noise_levels: list[int] | None = None,
    guidance_scales: list[float] | None = None,
    criterion: Literal["gap", "auroc"] = "gap",
    masks: bool = True,
    max_images: int = 128,
    num_resamples: int = 200,
    batch_size: int = 8,
    allow_outside: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> int:
    """Try noise levels and guidance scales on the labelled images of the val split; test images are never opened.

    The criterion needs labels and no masks: how much more guidance changes diseased images than healthy ones (gap), or how well
    the image score tells them apart (auroc). Where val masks exist, the setting that they would choose stands beside it.

    Args:
        checkpoint: model.safetensors, its folder, or the name of shipped weights
        data: manifest with labelled val rows
        out: folder for choice.json, curve.csv and curve.png
        other_checkpoints: more checkpoints that compete, e.g. '[runs/a, runs/b]'
        noise_levels: to try, e.g. '[300, 500]'; default: 0.25, 0.4, 0.55 and 0.7 of the schedule's levels
        guidance_scales: to try, e.g. '[2, 4]'; default: 1.5, 3 and 5
        criterion: gap or auroc
        masks: also say what the masks of the val split would have chosen
        max_images: val images used, spread over the ids; 0 = all
        num_resamples: of the bootstrap over patients
        batch_size: images a forward pass
        allow_outside: the manifest may name files outside of its own folder
        overwrite: replace an earlier choice
        device: auto, cpu, cuda, ...
        quiet: no progress bar
    """
    for name, value, least in (("batch_size", batch_size, 1), ("num_resamples", num_resamples, 1), ("max_images", max_images, 0)):
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}", code="E_CONFIG")
    where = choose_device(device)
    refuse_existing(out / "choice.json", overwrite=overwrite)
    typed = [checkpoint, *(other_checkpoints or [])]
    entrants = {name: entrant(path, where) for name, path in zip(names_of(typed), typed, strict=True)}
    settings = {name: settings_of(name, one.method, noise_levels, guidance_scales) for name, one in entrants.items()}
    every = read_manifest(data, allow_outside=allow_outside)
    records = validation_records(every, data, max_images)
    make_folder(out)
    trials: list[Trial] = []
    with tqdm(total=sum(map(len, settings.values())), desc="trying", unit="setting", disable=quiet, file=sys.stderr) as bar:
        for name, one in entrants.items():
            experiment = one.trained.experiment
            dataset = ManifestDataset(records, experiment.preprocess, experiment.method.classes)
            for trial in try_settings(
                maker(one.method),
                settings[name],
                [dataset[index] for index in range(len(dataset))],
                healthy=experiment.method.target,
                batch_size=batch_size,
                device=where,
                masks=masks,
                num_resamples=num_resamples,
            ):
                trials.append(trial)
                bar.update()
    facts: dict[str, Any] = {
        "manifest_sha256": manifest_fingerprint(every),
        "num_images": len(records),
        "num_patients": len({record.patient_id for record in records}),
        "weights_sha256": {name: one.sha256 for name, one in entrants.items()},
        "environment": environment(),
    }
    best = max(trials, key=lambda one: one.worth(criterion)).setting
    winner = entrants[best.checkpoint]
    options = options_of(best, winner.method)
    content = write_choice(out, trials, criterion, facts=facts, options=options)
    print("\n".join(said(content)))
    print(f"wrote {out}\nwith these settings:\n  {command(winner, data, out, options)}")
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """A checkpoint that competes."""

    path: Path
    """As it was typed."""
    trained: TrainedMethod
    method: CfgDiffusion
    sha256: str
    """Of its weights."""


def entrant(path: Path, device: torch.device) -> Entrant:
    """A checkpoint, read.

    Raises:
        ConfigError: E_METHOD, its method has no guidance scale that could be chosen.
    """
    file = resolve_checkpoint(path)
    trained = load_trained(file, ALL_METHODS, device)
    if not isinstance(trained.method, CfgDiffusion):
        title = trained.experiment.method.title
        raise ConfigError(
            f"{title} has no guidance scale to choose", code="E_METHOD", path=path, fix="use a CFG diffusion checkpoint"
        )
    digest = sha256_of(file / "model.safetensors" if file.is_dir() else file)
    return Entrant(path=path, trained=trained, method=trained.method, sha256=digest)


def names_of(paths: Sequence[Path]) -> list[str]:
    """Short names without folders of this machine; equal ones are numbered."""
    short = [path.parent.name if path.name == "model.safetensors" else path.name for path in paths]
    short = [name or "checkpoint" for name in short]
    return [f"{name} ({short[: place + 1].count(name)})" if short.count(name) > 1 else name for place, name in enumerate(short)]


def settings_of(
    name: str, method: CfgDiffusion, noise_levels: Sequence[int] | None, guidance_scales: Sequence[float] | None
) -> list[Setting]:
    """Every noise level with every guidance scale, cheaper ones first; the steps stay as wide as the checkpoint's."""
    levels = noise_levels or [round(share * method.schedule.num_levels) for share in LEVEL_SHARES]
    scales = guidance_scales or list(GUIDANCE_SCALES)
    if len(set(levels)) != len(levels) or len(set(scales)) != len(scales):
        raise ConfigError(f"noise_levels and guidance_scales must differ, got {levels} and {scales}", code="E_CONFIG")
    made = [
        Setting(checkpoint=name, noise_level=level, num_steps=method.config.sampler.steps_to(level), guidance_scale=scale)
        for level in sorted(levels)
        for scale in sorted(scales)
    ]
    # Every one is built once now, so that a setting that cannot be shows before an hour of computing.
    for setting in made:
        maker(method)(setting)
    return made


def maker(method: CfgDiffusion) -> Callable[[Setting], Translator]:
    """The method at a setting, with the checkpoint's network, filters and image score; without its healthy calibration.

    A calibration belongs to the noise level and guidance scale it was made with. Without it all settings are treated alike.
    """

    def make(setting: Setting) -> Translator:
        config = method.config
        sampler = replace(
            config.sampler,
            noise_level=setting.noise_level,
            num_steps=setting.num_steps,
            guidance_scale=setting.guidance_scale,
            noise_levels=None,
        )
        return method.variant(sampler=sampler, map_config=replace(config.map, healthy_z=False))

    return make


def validation_records(records: Sequence[Record], data: Path, max_images: int) -> list[Record]:
    """Labelled val rows, spread over the ids.

    Raises:
        InputError: E_SPLIT, there are none.
    """
    labelled = [record for record in records if record.split == "val" and record.label is not None]
    if not labelled:
        raise InputError("has no labelled val rows", code="E_SPLIT", path=data, fix="fill the split and label columns")
    return spread(labelled, max_images)


def options_of(best: Setting, method: CfgDiffusion) -> list[str]:
    """The chosen settings as options of evaluate and localize."""
    options = ["--noise-level", str(best.noise_level), "--num-steps", str(best.num_steps)]
    options += ["--guidance-scale", f"{best.guidance_scale:g}"]
    several = method.config.sampler.noise_levels is not None
    return [*options, "--noise-levels", f"[{best.noise_level}]"] if several else options


def command(winner: Entrant, data: Path, out: Path, options: Sequence[str]) -> str:
    """The next command to run; a calibrated checkpoint has to be calibrated for the new settings first."""
    if winner.method.config.map.healthy_z:
        changed = " ".join(shlex.quote(word.replace("--", "--method.sampler.")) for word in options)
        return f"its medanomaly train command again with {changed} (only calibration and thresholds are made anew)"
    return shlex.join(["medanomaly", "evaluate", str(winner.path), str(data), str(out / "evaluation"), *options])


def said(content: dict[str, Any]) -> list[str]:
    """What a person should read of a choice."""

    def text(row: dict[str, Any]) -> str:
        masks = "" if row["dice"] is None else f", pixel AP {row['average_precision']:.3f}, Dice {row['dice']:.3f}"
        setting = f"{row['checkpoint']}, noise level {row['noise_level']}, {row['num_steps']} steps, g {row['guidance_scale']:g}"
        return f"{setting}: gap {row['gap']:.3f}, image AUROC {row['image_auroc']:.3f}{masks}"

    lines = [f"{content['num_configurations']} settings tried on {content['facts']['num_images']} val images"]
    lines.append(f"chosen by {content['criterion']}, without masks: {text(content['chosen'])}")
    if (tuned := content["chosen_by_masks"]) is not None:
        lines.append(f"val masks would choose: {text(tuned)}")
        lost = content["lost"]
        lines.append(f"lost without masks, on val: {lost['average_precision']:.3f} pixel AP, {lost['dice']:.3f} Dice")
    return lines


def main(arguments: Sequence[str]) -> int:
    """``medanomaly choose CHECKPOINT MANIFEST OUT``."""
    return run_function(choose, "medanomaly choose", "CHECKPOINT MANIFEST OUT [options]", arguments)

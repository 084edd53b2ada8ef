"""medanomaly train: from a preset and a manifest to a checkpoint; the same command continues an interrupted run.

Under ``torchrun`` the processes share each step's batch (docs/scale.md).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from medanomaly.checkpoint import save_checkpoint
from medanomaly.cli.device import choose_device
from medanomaly.cli.finished_run import counts, made_to_localize, seen_beside, seen_in_header
from medanomaly.cli.live import live_view, with_address
from medanomaly.cli.live_samples import samples_shown
from medanomaly.cli.methods import TRAINABLE_PRESETS
from medanomaly.cli.owned_folder import owned, stoppable
from medanomaly.cli.parsing import parsed, parser
from medanomaly.datasets.check import check_manifest
from medanomaly.datasets.dataset import ManifestDataset, refuse_unknown_labels, to_batch
from medanomaly.datasets.manifest import Record, manifest_fingerprint, read_manifest
from medanomaly.errors import ConfigError, InputError
from medanomaly.evaluation.run_record import begin_run, data_facts, end_run
from medanomaly.methods.experiment import ExperimentOf, ModelExperiment, localizing, supervising
from medanomaly.scoring.operating_point import OperatingPoint
from medanomaly.training.batches import training_batches
from medanomaly.training.log import environment
from medanomaly.training.loop import fit, refuse_other_run
from medanomaly.training.ranks import is_first, joined, num_ranks, share_of
from medanomaly.types import Batch, Observer, Sample
from medanomaly.views.live import LiveView

CACHE_BYTES = 2 * 2**30
"""Decoded training images are kept in memory up to this much."""
FREE_TO_CHANGE = {"training": ("num_workers", "log_every", "save_every", "gradient_checkpointing"), "method": ("sampler", "map")}
"""Settings that do not change the weights: a run may be continued with others, and a finished one gets new thresholds."""


def main(arguments: Sequence[str]) -> int:
    """``medanomaly train PRESET --data MANIFEST --out FOLDER [options]``."""
    # The preset decides which options there are, so it has to be the first word.
    name = arguments[0] if arguments and not arguments[0].startswith("-") else None
    wants_help = any(word in ("-h", "--help") for word in arguments)
    if name not in TRAINABLE_PRESETS:
        listing = "\n".join(f"  {key:15s} {(make.__doc__ or '').splitlines()[0]}" for key, make in TRAINABLE_PRESETS.items())
        if wants_help:
            print(f"usage: medanomaly train PRESET --data MANIFEST --out FOLDER [options]\n\npresets:\n{listing}\n")
            print("`medanomaly train PRESET --help` lists every option of a preset with its default.")
            return 0
        # The core's own presets come first in the table, so an unfinished name is completed to the method's.
        near = [key for key in TRAINABLE_PRESETS if name and key.startswith(name)] or difflib.get_close_matches(
            name or "", TRAINABLE_PRESETS, n=1
        )
        advice = f"did you mean {near[0]}?" if near else f"write one of {', '.join(TRAINABLE_PRESETS)} after `medanomaly train`"
        raise ConfigError(f"unknown preset {name!a}" if name else "no preset was named", code="E_USAGE", fix=advice)
    preset = TRAINABLE_PRESETS[name]()
    made = parser(
        f"medanomaly train {name}", (TRAINABLE_PRESETS[name].__doc__ or "").strip(), "--data MANIFEST --out FOLDER [options]"
    )
    made.add_argument("--data", type=Path, required=True, help="manifest CSV with train and val rows")
    made.add_argument("--out", type=Path, required=True, help="run folder; an interrupted run in it is continued")
    made.add_argument("--allow_outside", type=bool, default=False, help="the manifest may name files outside of its own folder")
    made.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    made.add_argument("--licence", type=str, default="", help="licence of the weights, written into the checkpoint")
    made.add_argument("--visdom", type=str | None, default=None, help="show the run at this address, see `medanomaly live`")
    made.add_argument("--rank_timeout_s", type=float, default=600.0, help="under torchrun: how long to wait for another process")
    made.add_argument("--method", type=type(preset.method), default=preset.method)
    made.add_argument("--preprocess", type=type(preset.preprocess), default=preset.preprocess)
    made.add_argument("--training", type=type(preset.training), default=preset.training)
    chosen = parsed(made, with_address(arguments[1:]))
    experiment = ExperimentOf(name=name, method=chosen.method, preprocess=chosen.preprocess, training=chosen.training)
    device = choose_device(chosen.device)
    options = {"licence": chosen.licence, "allow_outside": chosen.allow_outside}
    with (
        joined(os.environ, device, timeout_s=chosen.rank_timeout_s),
        owned(chosen.out, by_this_process=is_first()),
        stoppable(chosen.out, by_this_process=is_first()),
        live_view(chosen.visdom if is_first() else None) as view,
    ):
        path = train(experiment, chosen.data, chosen.out, device=device, view=view, quiet=not is_first(), **options)
        if is_first():
            print(f"wrote {path}")
    return 0


def train(
    experiment: ModelExperiment,
    data: Path,
    out: Path,
    *,
    device: torch.device,
    licence: str = "",
    allow_outside: bool = False,
    observers: Sequence[Observer] = (),
    view: LiveView | None = None,
    quiet: bool = False,
) -> Path:
    """Train, choose operating points on the val split, write ``out/model.safetensors``; returns its path.

    A model that does not localize has no operating points. One without classes learns from all images, whatever their labels.

    Args:
        experiment: what is trained, preprocessing, training.
        data: manifest with train and val rows.
        out: run folder.
        device: where to compute.
        licence: of the weights, kept in their header.
        allow_outside: accept images outside of the manifest's folder.
        observers: told every logged line.
        view: told it too, and shown what the model makes of a few validation images whenever the validation loss is taken.
        quiet: no progress bar.
    """
    records = read_manifest(data, allow_outside=allow_outside)
    splits = {name: [record for record in records if record.split == name] for name in ("train", "val")}
    for name, chosen in splits.items():
        if not chosen:
            raise InputError(
                f"has no {name} rows", code="E_SPLIT", path=data, fix="fill the split column, e.g. with `medanomaly data folder`"
            )
    classes, localizer, supervised = experiment.method.classes, localizing(experiment), supervising(experiment)
    collate: Callable[[Sequence[Sample]], Batch] = partial(to_batch, classes=classes)
    if supervised is not None:
        classes, collate = supervised.label_classes, supervised.batch
        splits = {name: supervised.usable(chosen, name, data) for name, chosen in splits.items()}
    if localizer is None:
        splits = {name: [without_annotations(record, classes) for record in chosen] for name, chosen in splits.items()}
    report = check_manifest(splits["train"] + splits["val"])
    if not report.ok:
        finding = next(finding for finding in report.findings if finding.is_error)
        raise InputError(finding.message, code=finding.code, path=data, fix="run `medanomaly data check` for the whole list")
    for finding in () if quiet else report.findings:
        print(f"warning: {finding}", file=sys.stderr)
    target = localizer.method.target if localizer else None
    if target is not None and not any(record.label == target for record in splits["train"]):
        raise InputError(
            f"has no train image labelled {target!a}, the class that images are translated to",
            code="E_ONE_CLASS",
            path=data,
            fix="add such images, or choose another method.target",
        )
    refuse_unknown_labels([*splits["train"], *splits["val"]], classes)
    trained = {
        name: [record for record in chosen if not classes or record.label in experiment.method.trained_classes]
        for name, chosen in splits.items()
    }
    preprocess, training = experiment.preprocess, experiment.training
    pixel_bytes = len(trained["train"]) * preprocess.channels * preprocess.image_size**2 * 4
    samples = ManifestDataset(trained["train"], preprocess, classes, cached=pixel_bytes < CACHE_BYTES)
    validation = ManifestDataset(trained["val"], preprocess, classes)
    if training.precision == "bf16" and device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        print("warning: this processor emulates bf16, slowly: --training.precision fp32 is faster here", file=sys.stderr)
    recipe = experiment.method.recipe(image_channels=preprocess.channels, training=training, device=device)
    if num_ranks() > 1 and not recipe.by_share:
        raise ConfigError(
            f"{experiment.name} cannot be trained by several processes: its loss is no mean over the images of a batch",
            code="E_RANKS",
            fix="start it without torchrun",
        )
    if training.gradient_checkpointing and not recipe.recomputes:
        raise ConfigError(
            f"{experiment.name} has no diffusion network, the one that gradient checkpointing is for",
            code="E_CONFIG",
            fix="leave out --training.gradient-checkpointing",
        )
    share = share_of(training.batch_size)
    identity = run_identity(experiment, records)
    refuse_other_run(out, identity, deciding(experiment))
    versions = environment()
    facts = {"environment": versions, "data": {"manifest_sha256": manifest_fingerprint(records)}, "seed": training.seed}
    if is_first():
        begin_run(
            out,
            "train",
            command=shlex.join(["medanomaly", "train", experiment.name, "--data", data.name, "--out", out.name]),
            config=experiment.to_dict(),
            data=data_facts(records),
            seed=training.seed,
            device=device,
            environment=versions,
            identity=identity,
            **({"num_ranks": num_ranks()} if num_ranks() > 1 else {}),
        )

    def batches(first_step: int) -> Iterator[Batch]:
        made = training_batches(
            samples,
            classes,
            batch_size=training.batch_size,
            seed=training.seed,
            first_step=first_step,
            num_steps=training.num_steps,
            flip=training.flip,
            num_workers=training.num_workers,
            collate=collate,
            augment=None if supervised is None else supervised.augment(),
            share=share,
        )
        if quiet:
            return made
        return iter(tqdm(made, total=training.num_steps, initial=first_step, unit="step", desc="training", file=sys.stderr))

    val_batches = [
        collate([validation[index] for index in range(start, min(start + 32, len(validation)))])
        for start in range(0, min(len(validation), 128), 32)
    ]
    watching = [] if view is None else [view]
    fit(
        recipe,
        batches,
        training,
        out,
        identity=identity,
        validation=val_batches,
        observers=[*observers, *watching, *([] if quiet else [ProgressLine()])],
        at_validation=samples_shown(localizer, recipe, splits["val"], device=device, observers=watching),
    )
    if not is_first():
        # What is left to do, rank 0 does alone: thresholds, hashes and the file.
        return out / "model.safetensors"
    weights = recipe.weights()
    points: tuple[OperatingPoint, ...] = ()
    if localizer:
        weights, points = made_to_localize(localizer, weights, splits["val"], device=device, quiet=quiet)
    known = seen_in_header(splits) if localizer else seen_beside(out, splits, quiet=quiet)
    header = {
        "experiment": experiment.to_dict(),
        "step": training.num_steps,
        "operating_points": [point.to_dict() for point in points],
        "provenance": {**facts, "licence": licence, **counts(splits), **known},
    }
    save_checkpoint(out / "model.safetensors", weights, header)
    end_run(out)
    return out / "model.safetensors"


def without_annotations(record: Record, classes: Sequence[str]) -> Record:
    """What a model that does not localize needs of a row: no mask, and a label only where it has classes."""
    return replace(record, label=record.label if classes else None, mask=None, annotated_empty=False)


def run_identity(experiment: ModelExperiment, records: Sequence[Record]) -> str:
    """Hash of everything that decides the weights a training run makes."""
    content = deciding(experiment) | {"data": manifest_fingerprint(records)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def deciding(experiment: ModelExperiment) -> dict[str, Any]:
    """The settings that decide the weights."""
    content = experiment.to_dict()
    for part, names in FREE_TO_CHANGE.items():
        content[part] = {key: value for key, value in content[part].items() if key not in names}
    return content


class ProgressLine:
    """Writes the logged numbers above the progress bar."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One readable line a logged step."""
        shown = {"loss": "loss", "val_loss": "validation loss", "learning_rate": "learning rate"}
        text = ", ".join(f"{title} {values[key]:.4g}" for key, title in shown.items() if key in values)
        tqdm.write(f"step {step}: {text}", file=sys.stderr)

    def images(self, name: str, step: int, x: Tensor) -> None:
        """Pictures are for other observers."""

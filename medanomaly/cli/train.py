"""medanomaly train: from a preset and a manifest to a checkpoint; the same command continues an interrupted run."""

from __future__ import annotations

import difflib
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from medanomaly.checkpoint import save_checkpoint
from medanomaly.cli.device import choose_device
from medanomaly.cli.methods import ALL_PRESETS
from medanomaly.cli.parsing import parsed, parser
from medanomaly.datasets.check import check_manifest
from medanomaly.datasets.dataset import ManifestDataset, refuse_unknown_labels, to_batch
from medanomaly.datasets.manifest import Record, manifest_fingerprint, read_manifest
from medanomaly.datasets.splits import spread
from medanomaly.errors import ConfigError, InputError
from medanomaly.evaluation.calibrate import healthy_calibration
from medanomaly.evaluation.operating_points import choose_operating_points
from medanomaly.evaluation.predict import predict
from medanomaly.files import sha256_of, write_json
from medanomaly.methods.experiment import Experiment
from medanomaly.scoring.finish import calibration_tensors
from medanomaly.training.batches import training_batches
from medanomaly.training.log import environment
from medanomaly.training.loop import fit, refuse_other_run
from medanomaly.types import Batch, Observer

CACHE_BYTES = 2 * 2**30
"""Decoded training images are kept in memory up to this much."""
CALIBRATION_IMAGES = 128
"""Validation images, spread over the ids, that the thresholds of the checkpoint are chosen on."""
FREE_TO_CHANGE = {"training": ("num_workers", "log_every", "save_every"), "method": ("sampler", "map")}
"""Settings that do not change the weights: a run may be continued with others, and a finished one gets new thresholds."""


def main(arguments: Sequence[str]) -> int:
    """``medanomaly train PRESET --data MANIFEST --out FOLDER [options]``."""
    # The preset decides which options there are, so it has to be the first word.
    name = arguments[0] if arguments and not arguments[0].startswith("-") else None
    wants_help = any(word in ("-h", "--help") for word in arguments)
    if name not in ALL_PRESETS:
        listing = "\n".join(f"  {key:15s} {(make.__doc__ or '').splitlines()[0]}" for key, make in ALL_PRESETS.items())
        if wants_help:
            print(f"usage: medanomaly train PRESET --data MANIFEST --out FOLDER [options]\n\npresets:\n{listing}\n")
            print("`medanomaly train PRESET --help` lists every option of a preset with its default.")
            return 0
        # The core's own presets come first in the table, so an unfinished name is completed to the method's.
        near = [key for key in ALL_PRESETS if name and key.startswith(name)] or difflib.get_close_matches(
            name or "", ALL_PRESETS, n=1
        )
        advice = f"did you mean {near[0]}?" if near else f"write one of {', '.join(ALL_PRESETS)} after `medanomaly train`"
        raise ConfigError(f"unknown preset {name!a}" if name else "no preset was named", code="E_USAGE", fix=advice)
    preset = ALL_PRESETS[name]()
    made = parser(f"medanomaly train {name}", (ALL_PRESETS[name].__doc__ or "").strip(), "--data MANIFEST --out FOLDER [options]")
    made.add_argument("--data", type=Path, required=True, help="manifest CSV with train and val rows")
    made.add_argument("--out", type=Path, required=True, help="run folder; an interrupted run in it is continued")
    made.add_argument("--allow_outside", type=bool, default=False, help="the manifest may name files outside of its own folder")
    made.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    made.add_argument("--licence", type=str, default="", help="licence of the weights, written into the checkpoint")
    made.add_argument("--method", type=type(preset.method), default=preset.method)
    made.add_argument("--preprocess", type=type(preset.preprocess), default=preset.preprocess)
    made.add_argument("--training", type=type(preset.training), default=preset.training)
    chosen = parsed(made, arguments[1:])
    experiment = Experiment(name=name, method=chosen.method, preprocess=chosen.preprocess, training=chosen.training)
    device = choose_device(chosen.device)
    path = train(experiment, chosen.data, chosen.out, device=device, licence=chosen.licence, allow_outside=chosen.allow_outside)
    print(f"wrote {path}")
    return 0


def train(
    experiment: Experiment,
    data: Path,
    out: Path,
    *,
    device: torch.device,
    licence: str = "",
    allow_outside: bool = False,
    observers: Sequence[Observer] = (),
    quiet: bool = False,
) -> Path:
    """Train, choose operating points on the val split, write ``out/model.safetensors``; returns its path.

    Args:
        experiment: method, preprocessing, training.
        data: manifest with train and val rows.
        out: run folder.
        device: where to compute.
        licence: of the weights, kept in their header.
        allow_outside: accept images outside of the manifest's folder.
        observers: told every logged line.
        quiet: no progress bar.
    """
    records = read_manifest(data, allow_outside=allow_outside)
    splits = {name: [record for record in records if record.split == name] for name in ("train", "val")}
    for name, chosen in splits.items():
        if not chosen:
            raise InputError(
                f"has no {name} rows", code="E_SPLIT", path=data, fix="fill the split column, e.g. with `medanomaly data folder`"
            )
    report = check_manifest(splits["train"] + splits["val"])
    if not report.ok:
        finding = next(finding for finding in report.findings if finding.is_error)
        raise InputError(finding.message, code=finding.code, path=data, fix="run `medanomaly data check` for the whole list")
    for finding in () if quiet else report.findings:
        print(f"warning: {finding}", file=sys.stderr)
    target = experiment.method.target
    if not any(record.label == target for record in splits["train"]):
        raise InputError(
            f"has no train image labelled {target!a}, the class that images are translated to",
            code="E_ONE_CLASS",
            path=data,
            fix="add such images, or choose another method.target",
        )
    classes = experiment.method.classes
    refuse_unknown_labels([*splits["train"], *splits["val"]], classes)
    trained = {
        name: [record for record in chosen if record.label in experiment.method.trained_classes]
        for name, chosen in splits.items()
    }
    preprocess, training = experiment.preprocess, experiment.training
    pixel_bytes = len(trained["train"]) * preprocess.channels * preprocess.image_size**2 * 4
    samples = ManifestDataset(trained["train"], preprocess, classes, cached=pixel_bytes < CACHE_BYTES)
    validation = ManifestDataset(trained["val"], preprocess, classes)
    if training.precision == "bf16" and device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        print("warning: this processor emulates bf16, slowly: --training.precision fp32 is faster here", file=sys.stderr)
    recipe = experiment.method.recipe(image_channels=preprocess.channels, training=training, device=device)
    identity = run_identity(experiment, records)
    refuse_other_run(out, identity)
    write_json(out / "config.json", experiment.to_dict())
    facts = {"environment": environment(), "data": {"manifest_sha256": manifest_fingerprint(records)}, "seed": training.seed}
    write_json(out / "run.json", {**facts, "identity": identity, "device": str(device), "started_unix_s": time.time()})

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
        )
        if quiet:
            return made
        return iter(tqdm(made, total=training.num_steps, initial=first_step, unit="step", desc="training", file=sys.stderr))

    val_batches = [
        to_batch([validation[index] for index in range(start, min(start + 32, len(validation)))], classes)
        for start in range(0, min(len(validation), 128), 32)
    ]
    fit(
        recipe,
        batches,
        training,
        out,
        identity=identity,
        validation=val_batches,
        observers=[*observers, *([] if quiet else [ProgressLine()])],
    )
    chosen = spread(splits["val"], CALIBRATION_IMAGES)
    method, weights = recipe.method(), recipe.weights()
    if experiment.method.map.healthy_z:
        # Half of the healthy images calibrate, the others are for the thresholds.
        calibrating = [record for record in chosen if record.label == target][::2]
        chosen = [record for record in chosen if record not in calibrating]
        healthy = ManifestDataset(calibrating, preprocess, classes)
        calibration = healthy_calibration(method, progress(healthy, "calibrating on healthy images", quiet), device=device)
        weights |= calibration_tensors(calibration)
        method = experiment.method.restore(weights, image_channels=preprocess.channels, device=device, source=str(out))
    remaining = ManifestDataset(chosen, preprocess, classes)
    found = predict(method, progress(remaining, "choosing operating points", quiet), batch_size=16, device=device)
    points = choose_operating_points(list(found), healthy=experiment.method.target)
    header = {
        "experiment": experiment.to_dict(),
        "step": training.num_steps,
        "operating_points": [point.to_dict() for point in points],
        "provenance": {**facts, "licence": licence, **seen(splits)},
    }
    save_checkpoint(out / "model.safetensors", weights, header)
    return out / "model.safetensors"


def progress(samples: ManifestDataset, text: str, quiet: bool) -> Iterator[Any]:
    """The samples one by one under a progress bar."""
    indices = range(len(samples))
    return (samples[index] for index in (indices if quiet else tqdm(indices, unit="image", desc=text, file=sys.stderr)))


def seen(splits: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
    """What the weights have seen: counts, and the first 12 hex digits of the SHA-256 of each training and validation file."""
    return {
        "num_train_images": len(splits["train"]),
        "num_train_patients": len({record.patient_id for record in splits["train"]}),
        "num_val_images": len(splits["val"]),
        "num_val_patients": len({record.patient_id for record in splits["val"]}),
        "seen_images": sorted({sha256_of(record.image)[:12] for chosen in splits.values() for record in chosen}),
    }


def run_identity(experiment: Experiment, records: Sequence[Record]) -> str:
    """Hash of everything that decides the weights a training run makes."""
    content = experiment.to_dict()
    for part, names in FREE_TO_CHANGE.items():
        content[part] = {key: value for key, value in content[part].items() if key not in names}
    content["data"] = manifest_fingerprint(records)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class ProgressLine:
    """Writes the logged numbers above the progress bar."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One readable line a logged step."""
        shown = {"loss": "loss", "val_loss": "validation loss", "learning_rate": "learning rate"}
        text = ", ".join(f"{title} {values[key]:.4g}" for key, title in shown.items() if key in values)
        tqdm.write(f"step {step}: {text}", file=sys.stderr)

    def images(self, name: str, step: int, x: Tensor) -> None:
        """Pictures are for other observers."""

"""medanomaly evaluate: numbers with intervals on a manifest's test split, beside the floors."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from baselines import FLOORS
from medanomaly.cli.deblur_option import deblur_of, refuse_seen_by_prior, what_was_deblurred
from medanomaly.cli.device import choose_device
from medanomaly.cli.methods import ALL_METHODS
from medanomaly.cli.output import make_folder, refuse_existing
from medanomaly.cli.parsing import run_function
from medanomaly.cli.precision_option import lowered
from medanomaly.cli.sampler_option import sampler_given
from medanomaly.config import to_dict
from medanomaly.datasets.dataset import ManifestDataset
from medanomaly.datasets.manifest import Record, manifest_fingerprint, read_manifest
from medanomaly.datasets.splits import spread
from medanomaly.errors import ConfigError, InputError
from medanomaly.evaluation.cost import cost
from medanomaly.evaluation.folder import write_evaluation
from medanomaly.evaluation.measure import MeasureConfig
from medanomaly.evaluation.run_record import begin_run, command_text, data_facts, end_run
from medanomaly.evaluation.study import study
from medanomaly.evaluation.subgroups import subgroups, write_subgroups
from medanomaly.evaluation.tables import as_markdown, comparison, same_images
from medanomaly.evaluation.times_tested import count_text, record_test_evaluation
from medanomaly.files import sha256_of
from medanomaly.methods.experiment import TrainedMethod, load_trained
from medanomaly.methods.precision import Precision
from medanomaly.methods.speeds import Speed
from medanomaly.training.log import environment, write_status
from medanomaly.types import Sample

SHIPPED = Path(__file__).parent.parent / "weights"
"""Weights that travel with the package: nothing is written beside them."""


def evaluate(
    checkpoint: Path,
    data: Path,
    out: Path,
    title: str = "",
    floors: bool = True,
    num_resamples: int = 1000,
    max_images: int = 0,
    max_val_images: int = 0,
    max_cases: int = 24,
    batch_size: int = 8,
    speed: Speed | None = None,
    noise_level: int | None = None,
    num_steps: int | None = None,
    guidance_scale: float | None = None,
    noise_levels: list[int] | None = None,
    gradient_scale: float | None = None,
    deblur: str | None = None,
    deblur_kernel: str = "",
    deblur_noise_level: float = 0.5,
    deblur_steps: int = 20,
    allow_outside: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    precision: Precision = "fp32",
    quiet: bool = False,
    table: bool = True,
) -> int:
    """Measure a checkpoint and the floors on the test split; thresholds come from the val split, never from test.

    Args:
        checkpoint: model.safetensors, its folder, or the name of shipped weights
        data: manifest with test rows, and val rows to choose thresholds on
        out: folder for evaluation.json, table.md, table.csv, images.csv, cases/ and worst/, run.json, config.json and status.json
        title: name of the data set in tables; default: the manifest's name
        floors: also measure brightness, blur residual and a random map
        num_resamples: of the bootstrap over patients
        max_images: measure only this many test images, spread over the ids; 0 = all
        max_val_images: choose thresholds on only this many val images, spread over the ids; 0 = all
        max_cases: images kept for pictures
        batch_size: images a forward pass
        speed: exact (every level), fast (40 network evaluations an image) or screening (25); replaces the checkpoint's steps
        noise_level: replaces the checkpoint's
        num_steps: replaces the checkpoint's
        guidance_scale: replaces the checkpoint's g
        noise_levels: maps of these levels are averaged, noise_level among them, e.g. '[350, 500, 650]'; replaces the checkpoint's
        gradient_scale: replaces the checkpoint's s, of classifier-guided DDIM
        deblur: a prior, or tv, wiener or rl: undo motion blur first, in test and val images, for every method; see `medanomaly deblur`
        deblur_kernel: estimated, linear 10@30 (px of the model's images @ degrees), gaussian 2, given FILE; required with deblur
        deblur_noise_level: standard deviation of the noise on the 0..255 scale
        deblur_steps: of the prior, network evaluations an image
        allow_outside: the manifest may name files outside of its own folder
        overwrite: replace an earlier evaluation
        device: auto, cpu, cuda, ...
        precision: of the network: fp32, bf16, fp16 or auto; 16 bits only where they leave the map of the first images alone
        quiet: no progress bars
        table: print the table
    """
    typed = dict(locals())
    for name, value, least in (("batch_size", batch_size, 1), ("num_resamples", num_resamples, 1), ("max_cases", max_cases, 0)):
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}", code="E_CONFIG")
    where = choose_device(device)
    refuse_existing(out / "evaluation.json", overwrite=overwrite)
    changed = sampler_given(
        speed=speed,
        num_steps=num_steps,
        noise_level=noise_level,
        guidance_scale=guidance_scale,
        noise_levels=noise_levels,
        gradient_scale=gradient_scale,
    )
    weights = resolve_checkpoint(checkpoint)
    trained = load_trained(weights, ALL_METHODS, where, sampler=changed)
    records = read_manifest(data, allow_outside=allow_outside)
    healthy = trained.experiment.method.target
    test, validation = samples_of(records, "test", trained, max_images), samples_of(records, "val", trained, max_val_images)
    if len(test) == 0:
        raise InputError("has no test rows", code="E_SPLIT", path=data, fix="fill the split column")
    refuse_seen(test.records, trained, data)
    sharpener, sharpening = deblur_of(
        deblur, deblur_kernel, noise_level=deblur_noise_level, steps=deblur_steps, experiment=trained.experiment, device=where
    )
    refuse_seen_by_prior(deblur, test.records, data)
    tested: Sequence[Sample] = test if sharpener is None else sharpener.samples(test)  # type: ignore[assignment,arg-type]
    checked: Sequence[Sample] = validation if sharpener is None else sharpener.samples(validation)  # type: ignore[assignment,arg-type]
    computing = lowered(trained, precision, test.records, where)
    make_folder(out)
    title_of_method = trained.experiment.method.title
    methods = {title_of_method: computing.method, **(FLOORS if floors else {})}
    config = MeasureConfig(num_resamples=num_resamples)
    versions = environment()
    write_status(out, "running")
    begin_run(
        out,
        "evaluate",
        command=command_text("evaluate", evaluate, typed),
        config=trained.experiment.to_dict(),
        data=data_facts(records),
        seed=config.seed,
        device=where,
        environment=versions,
        weights_sha256=sha256_of(weights / "model.safetensors" if weights.is_dir() else weights),
        **sharpening,
    )

    def watch(text: str, samples: Sequence[Sample]) -> Iterable[Sample]:
        every = (samples[index] for index in range(len(samples)))
        return every if quiet else tqdm(every, total=len(samples), desc=text, unit="image", file=sys.stderr)

    studies = [
        study(
            name,
            method,
            test=tested,
            validation=checked,
            healthy=healthy,
            # Other images, as another sampler, make maps of another scale: the stored thresholds say nothing about them.
            points=trained.operating_points if name == title_of_method and sharpener is None else (),
            config=config,
            batch_size=batch_size,
            device=where,
            watch=watch,
        )
        for name, method in methods.items()
    ]
    # Of all methods, and each asked once more for one image: a few evaluations against those of the whole set.
    first = torch.stack([tested[0].x]).to(where)
    costs = {name: to_dict(cost(method, first)) for name, method in methods.items()}
    fingerprint = manifest_fingerprint(records)
    counted = record_test_evaluation(weights, out, manifest_sha256=fingerprint, num_images=len(test), shipped=SHIPPED)
    facts: dict[str, Any] = {
        "manifest_sha256": fingerprint,
        "cost": costs,
        "test_evaluations": counted,
        "experiment": trained.experiment.to_dict(),
        "licence": trained.provenance.get("licence", ""),
        "environment": versions,
        "num_resamples": num_resamples,
        "max_images": max_images,
        "max_val_images": max_val_images,
        **sharpening,
    }
    for kind in ("cases", "worst") if (out / "evaluation.json").exists() else ():
        for stale in (out / kind).glob("[0-9][0-9][0-9].npz"):
            stale.unlink()
    groups = subgroups(studies[0].predictions, test.records, studies[0].points, healthy=healthy, config=config)
    # Tables of before there was a choice say nothing of it, and fp32 is what they were made with.
    facts |= {} if computing.precision == "fp32" else {"precision": computing.precision}
    said = [] if precision == "fp32" else [f"Precision {computing.why}."]
    notes = [
        count_text(counted),
        *said,
        *what_was_deblurred(deblur, sharpener, validation.records),
        *write_subgroups(out, list(groups)),
    ]
    content = write_evaluation(
        out,
        studies,
        title=title or data.stem,
        healthy=healthy,
        facts=facts,
        max_cases=max_cases,
        unit=trained.experiment.method.map.unit,
        notes=notes,
    )
    end_run(out)
    write_status(out, "done", num_images=len(test))
    if table:
        print(f"{same_images(content['counts'])}\n\n{as_markdown(*comparison(content['methods']))}")
        print(f"wrote {out}")
    return 0


def samples_of(records: Sequence[Record], split: str, trained: TrainedMethod, max_images: int) -> ManifestDataset:
    """The split's samples, at most ``max_images`` of them spread over the sorted ids."""
    chosen = [record for record in records if record.split == split]
    return ManifestDataset(spread(chosen, max_images), trained.experiment.preprocess, trained.experiment.method.classes)


def refuse_seen(records: Sequence[Record], trained: TrainedMethod, data: Path) -> None:
    """A test image that the weights were trained on, or whose threshold was chosen on it, makes every number worthless."""
    seen = set(trained.provenance.get("seen_images", ()))
    known = [record.id for record in records if record.image.is_file() and sha256_of(record.image)[:12] in seen]
    if known:
        raise InputError(
            f"{len(known)} test images were seen in training or validation of this checkpoint, first {known[0]!r}",
            code="E_SEEN",
            path=data,
            fix="test on other images",
        )


def resolve_checkpoint(path: Path) -> Path:
    """A file, a folder with model.safetensors, or the name of weights shipped with the package."""
    shipped = SHIPPED / path
    return shipped / "model.safetensors" if not path.exists() and len(path.parts) == 1 and shipped.is_dir() else path


def main(arguments: Sequence[str]) -> int:
    """``medanomaly evaluate CHECKPOINT DATA OUT``."""
    return run_function(evaluate, "medanomaly evaluate", "CHECKPOINT MANIFEST OUT [options]", arguments)

"""medanomaly evaluate-classifier: how well a classifier names images, by class and noise level."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm

from medanomaly.classifiers.trained import Classifier, load_classifier
from medanomaly.cli.device import choose_device
from medanomaly.cli.evaluate import resolve_checkpoint
from medanomaly.cli.output import make_folder, refuse_existing
from medanomaly.cli.parsing import run_function
from medanomaly.datasets.dataset import read_sample
from medanomaly.datasets.manifest import Record, read_manifest
from medanomaly.datasets.seen import refuse_seen
from medanomaly.datasets.splits import spread
from medanomaly.errors import ConfigError, InputError
from medanomaly.evaluation.classifier_folder import AtLevel, write_classifier
from medanomaly.evaluation.measure_classes import Named, measure_classes, thresholds_on
from medanomaly.evaluation.noisy_scores import Probabilities, levels_at, noisy_probabilities
from medanomaly.evaluation.run_record import begin_run, command_text, data_facts, end_run
from medanomaly.files import sha256_of
from medanomaly.io.options import ReadOptions
from medanomaly.metrics.classes import one_hot
from medanomaly.training.log import environment, write_status

PERCENTS = (0.0, 10.0, 25.0, 50.0, 75.0)
"""Noise levels, percent of the schedule."""
THRESHOLDS_FROM = "val"
"""The split that thresholds of several classes an image are chosen on."""


def evaluate_classifier(
    checkpoint: Path,
    data: Path,
    out: Path,
    noise_percents: list[float] | None = None,
    split: str = "test",
    title: str = "",
    num_resamples: int = 1000,
    max_images: int = 0,
    max_val_images: int = 0,
    batch_size: int = 64,
    seed: int = 0,
    allow_outside: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> int:
    """Accuracy, precision, recall, F1 and AUROC of each class and their means at several noise levels, and the confusion matrix.

    Where an image may have several classes, thresholds come from the val split at each noise level, never from the measured one;
    what is uncertain is not counted.

    Args:
        checkpoint: classifier: model.safetensors or its folder
        data: manifest
        out: folder for classifier.json, table.md, table.csv, images.csv, classifier.png, run.json, config.json and status.json
        noise_percents: noise levels in percent of the schedule; default 0, 10, 25, 50 and 75, for a classifier of clean images 0
        split: test, val or train; test images that the classifier has seen are refused
        title: name of the data set in tables; default: the manifest's name
        num_resamples: of the bootstrap over patients
        max_images: only this many images, spread over the ids; 0 = all
        max_val_images: choose thresholds on only this many val images, spread over the ids; 0 = all
        batch_size: images a forward pass
        seed: of the noise and the bootstrap
        allow_outside: the manifest may name files outside of its own folder
        overwrite: replace an earlier result
        device: auto, cpu, cuda, ...
        quiet: no progress bar
    """
    typed = dict(locals())
    for name, value in (("batch_size", batch_size), ("num_resamples", num_resamples)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}", code="E_CONFIG")
    where = choose_device(device)
    refuse_existing(out / "classifier.json", overwrite=overwrite)
    weights = resolve_checkpoint(checkpoint)
    classifier = load_classifier(weights, where)
    percents = tuple(noise_percents or (PERCENTS if classifier.noisy else PERCENTS[:1]))
    levels = levels_at(percents, classifier.schedule.num_levels)
    known = read_manifest(data, allow_outside=allow_outside)
    records = spread(of_split(known, split, classifier, data), max_images)
    if split == "test":
        refuse_seen(weights, records, what="the classifier", data=data)
    choosing = of_split(known, THRESHOLDS_FROM, classifier, data) if classifier.multi_label else []
    make_folder(out)
    write_status(out, "running")
    begin_run(
        out,
        "evaluate-classifier",
        command=command_text("evaluate-classifier", evaluate_classifier, typed),
        config=classifier.experiment.to_dict(),
        data=data_facts(known),
        seed=seed,
        device=where,
        environment=environment(),
        weights_sha256=sha256_of(weights / "model.safetensors" if weights.is_dir() else weights),
    )

    def answers(chosen: Sequence[Record], text: str) -> list[Probabilities]:
        return noisy_probabilities(
            classifier.scores,
            images(chosen, classifier, text, quiet=quiet),
            levels,
            classifier.schedule,
            multi_label=classifier.multi_label,
            seed=seed,
            batch_size=batch_size,
            device=where,
        )

    classes = classifier.classes
    named, found = named_images(records, classifier), answers(records, split)
    choosing = spread(choosing, max_val_images)
    validation, on_val = named_images(choosing, classifier), answers(choosing, THRESHOLDS_FROM) if choosing else []
    measured = []
    for place, (percent, level, probabilities) in enumerate(zip(percents, levels, found, strict=True)):
        points = thresholds_on(on_val[place], validation, classes, THRESHOLDS_FROM) if classifier.multi_label else None
        rows = measure_classes(probabilities, named, classes, points=points, num_resamples=num_resamples, seed=seed)
        measured.append(AtLevel(percent=percent, level=level, probabilities=probabilities, rows=rows, points=points))
    facts = {"split": split, "noisy": classifier.noisy, "num_val_images": len(choosing)}
    notes = notes_of(classifier, named, split, num_val=len(choosing))
    text = write_classifier(out, measured, named, classes, title=title or data.stem, notes=notes, facts=facts)
    end_run(out)
    write_status(out, "done", num_images=len(records))
    print(f"{text}\nwrote {out}")
    return 0


def of_split(records: Sequence[Record], split: str, classifier: Classifier, data: Path) -> list[Record]:
    """The split's records of which any class is known.

    Raises:
        InputError: E_SPLIT, no row of the split; E_LABEL, none whose class is known.
        ConfigError: E_CLASS, a label that is no class of the classifier.
    """
    chosen = [record for record in records if record.split == split]
    if not chosen:
        what = " to choose thresholds on" if split == THRESHOLDS_FROM else ""
        raise InputError(f"has no {split} rows{what}", code="E_SPLIT", path=data, fix="fill the split column")
    config = classifier.config
    usable = config.usable(chosen, split if split != "train" else "measured", data)
    counted = [record for record in usable if not config.multi_label or max(truth_of(record, classifier)) >= 0]
    if not counted:
        raise InputError(
            f"all that is said of the {split} images is uncertain",
            code="E_LABEL",
            path=data,
            fix="measure on films that were read",
        )
    return counted


def truth_of(record: Record, classifier: Classifier) -> tuple[int, ...]:
    """1, 0 or -1 = not known of each observation: what is uncertain never counts as truth, whatever training made of it."""
    said = dict(record.observations)
    trained = classifier.config.targets(record.observations)
    return tuple(-1 if said.get(name) == -1 else value for name, value in zip(classifier.classes, trained, strict=True))


def named_images(records: Sequence[Record], classifier: Classifier) -> Named:
    """Ids, patients and truth of records."""
    if classifier.multi_label:
        truth = np.array([truth_of(record, classifier) for record in records], np.int64).reshape(-1, len(classifier.classes))
    else:
        truth = one_hot([classifier.classes.index(str(record.label)) for record in records], len(classifier.classes))
    return Named(
        ids=tuple(record.id for record in records), patient_ids=tuple(record.patient_id for record in records), truth=truth
    )


def images(records: Sequence[Record], classifier: Classifier, text: str, *, quiet: bool) -> Iterator[Tensor]:
    """The records' images as the classifier sees them, under a progress bar."""
    preprocess = classifier.experiment.preprocess
    for record in records if quiet else tqdm(records, desc=text, unit="image", file=sys.stderr):
        yield read_sample(record, preprocess, ReadOptions(channels=preprocess.channels)).x


def notes_of(classifier: Classifier, named: Named, split: str, *, num_val: int) -> list[str]:
    """What the numbers stand on, below the table."""
    config, num_patients = classifier.config, len(set(named.patient_ids))
    said = [
        f"{len(named.ids)} {split} images of {num_patients} patients; 95 % percentile bootstrap over patients.",
        "Trained on noisy images." if config.noisy else "Trained on clean images only: it is no guide for a diffusion model.",
        f"Noise: t of {config.schedule.num_levels} levels, {config.schedule.name} schedule, one draw an image and level.",
    ]
    if config.multi_label:
        blank = "counts as absent, as in training" if config.blank == "zeros" else "is left out"
        said.append(f"Thresholds: highest Youden index on {num_val} val images, at each noise level and for each class.")
        said.append(f"Uncertain observations are left out; what the source does not mention {blank}.")
    else:
        said.append("The most probable class is called; precision, recall, F1 and AUROC are of one class against the others.")
    return said


def main(arguments: Sequence[str]) -> int:
    """``medanomaly evaluate-classifier CHECKPOINT MANIFEST OUT``."""
    return run_function(evaluate_classifier, "medanomaly evaluate-classifier", "CHECKPOINT MANIFEST OUT [options]", arguments)

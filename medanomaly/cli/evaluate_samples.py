"""medanomaly evaluate-samples: generated images against real ones, beside what other real images reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medanomaly.cli.device import choose_device
from medanomaly.cli.extractors import PIXELS, chosen_features
from medanomaly.cli.output import make_folder, refuse_existing
from medanomaly.cli.parsing import run_function
from medanomaly.config import to_dict
from medanomaly.datasets.folder import plain_folder
from medanomaly.datasets.manifest import Record, read_manifest
from medanomaly.datasets.splits import spread
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.errors import ConfigError, InputError
from medanomaly.evaluation.measure_samples import Described, distribution_rows, memorisation_rows, subset
from medanomaly.evaluation.run_record import begin_run, command_text, data_facts, end_run
from medanomaly.evaluation.sample_sets import ImageSet, read_records, read_samples
from medanomaly.evaluation.samples_folder import notes_of, write_samples
from medanomaly.training.log import environment, write_status


@dataclass(frozen=True, slots=True)
class RealImages:
    """Records of real images by their part in the comparison."""

    reference: list[Record]
    """What samples should look like."""
    train: list[Record]
    """What the generator learned from; the reference itself where no row is in split train."""
    has_train: bool


def evaluate_samples(
    samples: Path,
    reference: Path,
    out: Path,
    features: str = PIXELS,
    image_size: int = 0,
    channels: int = 1,
    split: str = "test",
    title: str = "",
    max_images: int = 0,
    batch_size: int = 32,
    num_resamples: int = 1000,
    seed: int = 0,
    allow_outside: bool = False,
    overwrite: bool = False,
    device: str = "auto",
) -> int:
    """FID, KID, Inception Score, precision, recall, diversity and a memorisation check; training images are measured beside.

    All numbers depend on the features: the table names them, with the SHA-256 of their weights. Nothing is downloaded and no file is
    run.

    Args:
        samples: folder of images of one size, or an npz with x (n, C, S, S) in [-1, 1]
        reference: manifest (split rows are the reference, train rows the generator's training images) or a folder of images
        out: folder for samples.json, table.md, table.csv, neighbours.csv, neighbours.png, run.json, config.json and status.json
        features: pixels, a checkpoint with a classifier, or an npz of features computed elsewhere
        image_size: side all images are brought to, px; 0 = the classifier's, else the samples' own
        channels: 1 = gray, 3 = colour; a classifier brings its own
        split: rows of the manifest that are the reference
        title: name of the samples in the table; default: the folder's name
        max_images: of each set at most this many, spread over the ids; 0 = all
        batch_size: images a forward pass
        num_resamples: of the bootstrap behind precision and recall
        seed: of groups, pairs and the bootstrap
        allow_outside: the manifest may name files outside of its own folder
        overwrite: replace an earlier result
        device: auto, cpu, cuda, ...
    """
    # Of a path only the last name is kept.
    typed = dict(locals()) | {"features": Path(features).name}
    for name, value, least in (("batch_size", batch_size, 1), ("num_resamples", num_resamples, 1), ("image_size", image_size, 0)):
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}", code="E_CONFIG")
    where = choose_device(device)
    refuse_existing(out / "samples.json", overwrite=overwrite)
    chosen = chosen_features(features, batch_size=batch_size, device=where)
    known = chosen.preprocess
    if known is not None and image_size not in (0, known.image_size):
        raise ConfigError(f"the classifier takes {known.image_size} px, got --image-size {image_size}", code="E_CONFIG")
    real = real_images(reference, split, max_images, allow_outside=allow_outside)
    made = read_samples(
        samples, channels=known.channels if known else channels, image_size=known.image_size if known else image_size or None
    )
    made = spread_samples(made, max_images)
    preprocess = known or PreprocessConfig(image_size=int(made.x.shape[-1]), channels=channels)
    make_folder(out)
    write_status(out, "running")
    begin_run(
        out,
        "evaluate-samples",
        command=command_text("evaluate-samples", evaluate_samples, typed),
        config={"preprocess": to_dict(preprocess), "features": chosen.extractor.name, "num_resamples": num_resamples},
        data=data_facts(real.reference, is_manifest=reference.is_file()),
        seed=seed,
        device=where,
        environment=environment(),
        features_sha256=chosen.extractor.sha256 or None,
    )

    def described(role: str, images: ImageSet) -> Described:
        return Described(images=images, features=chosen.extractor.features_of(role, images))

    target = described("reference", read_records(real.reference, preprocess))
    train = described("train", read_records(real.train, preprocess)) if real.has_train else target
    sampled = described("samples", made)
    copies = memorisation_rows(sampled, train, target if real.has_train else None)
    columns = {title or samples.stem: [*distribution_rows(sampled, target, num_resamples=num_resamples, seed=seed), *copies.rows]}
    if real.has_train:
        # As many as there are samples: FID and precision depend on the number of images.
        beside = subset(train, [record.id for record in spread(real.train, len(made))])
        columns["training images"] = distribution_rows(beside, target, num_resamples=num_resamples, seed=seed)
    notes = notes_of(chosen.extractor, sampled, target, train if real.has_train else None, columns)
    text = write_samples(out, columns, notes, copies, sampled.images, train.images)
    end_run(out)
    write_status(out, "done", num_images=len(made))
    print(f"{text}\nwrote {out}")
    return 0


def real_images(source: Path, split: str, max_images: int, *, allow_outside: bool) -> RealImages:
    """The reference and training records of a manifest or a folder.

    Raises:
        InputError: E_SPLIT, a manifest without rows in the split; E_MISSING.
    """
    if source.is_dir():
        found = spread(plain_folder(source), max_images)
        return RealImages(found, found, has_train=False)
    records = read_manifest(source, allow_outside=allow_outside)
    reference = [record for record in records if record.split == split]
    if not reference:
        raise InputError(f"has no {split} rows", code="E_SPLIT", path=source, fix="fill the split column, or name --split")
    train = [record for record in records if record.split == "train"] if split != "train" else []
    return RealImages(
        spread(reference, max_images), spread(train, max_images) or spread(reference, max_images), has_train=bool(train)
    )


def spread_samples(images: ImageSet, count: int) -> ImageSet:
    """At most ``count`` samples, evenly spaced in their order, so over the classes of a sorted folder; 0 = all."""
    if count <= 0 or len(images) <= count:
        return images
    rows = [index * len(images) // count for index in range(count)]
    return ImageSet(
        ids=tuple(images.ids[row] for row in rows), patient_ids=tuple(images.patient_ids[row] for row in rows), x=images.x[rows]
    )


def main(arguments: Sequence[str]) -> int:
    """``medanomaly evaluate-samples SAMPLES REFERENCE OUT``."""
    return run_function(evaluate_samples, "medanomaly evaluate-samples", "SAMPLES REFERENCE OUT [options]", arguments)

"""medanomaly likelihood: bits/dim of a diffusion model on a manifest's test split, by the variational bound and its terms."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from medanomaly.cli.device import choose_device
from medanomaly.cli.evaluate import resolve_checkpoint
from medanomaly.cli.output import make_folder, refuse_existing
from medanomaly.cli.parsing import run_function
from medanomaly.datasets.dataset import read_sample
from medanomaly.datasets.manifest import Record, read_manifest
from medanomaly.datasets.seen import refuse_seen
from medanomaly.datasets.splits import spread
from medanomaly.diffusion.likelihood import strata_of, variational_bound
from medanomaly.errors import ConfigError, InputError
from medanomaly.evaluation.likelihood import joined, write_likelihood
from medanomaly.evaluation.run_record import begin_run, command_text, data_facts, end_run
from medanomaly.files import sha256_of
from medanomaly.io.options import ReadOptions
from medanomaly.methods.diffusion_model import LoadedModel, load_diffusion_model
from medanomaly.rng import image_generator
from medanomaly.training.log import environment, write_status

VARIANCES = ("auto", "learned", "posterior", "beta")


def likelihood(
    model: Path,
    data: Path,
    out: Path,
    split: str = "test",
    num_levels: int = 100,
    variance: str = "auto",
    conditional: bool = False,
    title: str = "",
    max_images: int = 0,
    batch_size: int = 8,
    num_resamples: int = 1000,
    seed: int = 0,
    allow_outside: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> int:
    """Bound the negative log-likelihood of 8-bit images: L_T, L_0 and the terms between, with intervals over patients.

    Args:
        model: diffusion model or cfg_diffusion checkpoint: model.safetensors, its folder, or the name of shipped weights
        data: manifest
        out: folder for likelihood.json, table.md, table.csv, images.csv, curve.png, run.json, config.json and status.json
        split: train, val or test; test images that the model has seen are refused
        num_levels: levels evaluated above level 1, each drawn in a range of its own: an unbiased estimate; 0 = every level
        variance: of the reverse steps: learned, posterior or beta; auto = learned where the model has one, else posterior
        conditional: the model is told the class of each image, as in p(x | class); else none
        title: name of the data set in tables; default: the manifest's name
        max_images: only this many images, spread over the ids; 0 = all
        batch_size: images a forward pass
        num_resamples: of the bootstrap over patients
        seed: of the noise, the drawn levels and the bootstrap
        allow_outside: the manifest may name files outside of its own folder
        overwrite: replace an earlier result
        device: auto, cpu, cuda, ...
        quiet: no progress bar
    """
    typed = dict(locals())
    for name, value, least in (("batch_size", batch_size, 1), ("num_resamples", num_resamples, 1), ("num_levels", num_levels, 0)):
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}", code="E_CONFIG")
    if variance not in VARIANCES:
        raise ConfigError(f"variance must be one of {', '.join(VARIANCES)}, got {variance!a}", code="E_CONFIG")
    where = choose_device(device)
    refuse_existing(out / "likelihood.json", overwrite=overwrite)
    weights = resolve_checkpoint(model)
    loaded = load_diffusion_model(weights, where)
    known = read_manifest(data, allow_outside=allow_outside)
    records = spread([record for record in known if record.split == split], max_images)
    if not records:
        raise InputError(f"has no {split} rows", code="E_SPLIT", path=data, fix="fill the split column")
    if split == "test":
        refuse_seen(weights, records, what="the model", data=data)
    labels = labels_of(records, loaded, conditional=conditional)
    network = loaded.denoiser.config
    learned = network.learn_sigma if variance == "auto" else variance == "learned"
    chosen = "learned" if learned else "posterior" if variance == "auto" else variance
    strata = strata_of(loaded.schedule.num_levels, num_levels or loaded.schedule.num_levels - 1)
    make_folder(out)
    write_status(out, "running")
    begin_run(
        out,
        "likelihood",
        command=command_text("likelihood", likelihood, typed),
        config=loaded.experiment.to_dict(),
        data=data_facts(known),
        seed=seed,
        device=where,
        environment=environment(),
        weights_sha256=sha256_of(weights / "model.safetensors" if weights.is_dir() else weights),
    )
    preprocess = loaded.experiment.preprocess
    starts = range(0, len(records), batch_size)
    bounds = []
    for start in starts if quiet else tqdm(starts, desc="likelihood", unit="batch", file=sys.stderr):
        part = records[start : start + batch_size]
        read = [read_sample(record, preprocess, ReadOptions(channels=preprocess.channels)).x for record in part]
        rows = torch.tensor([loaded.denoiser.index(label) for label in labels[start : start + batch_size]], device=where)

        def answer(x_t: Tensor, t: Tensor, rows: Tensor = rows) -> Tensor:
            output: Tensor = loaded.denoiser(x_t, t, rows)
            return output

        # The noise is drawn on the CPU, keyed by the image: the same numbers on any device and in any batch.
        bounds.append(
            variational_bound(
                answer,
                torch.stack(read).to(where),
                loaded.schedule,
                strata,
                [image_generator(seed, "likelihood", x) for x in read],
                prediction=network.prediction,
                variance=chosen,  # type: ignore[arg-type]
            )
        )
    text = write_likelihood(
        out,
        joined(bounds),
        ids=[record.id for record in records],
        patient_ids=[record.patient_id for record in records],
        strata=strata,
        title=title or data.stem,
        notes=notes_of(loaded, chosen, conditional=conditional, num_strata=len(strata)),
        facts={"variance": chosen, "conditional": conditional, "split": split, "num_strata": len(strata), "model": loaded.note},
        num_resamples=num_resamples,
        seed=seed,
    )
    end_run(out)
    write_status(out, "done", num_images=len(records))
    print(f"{text}\nwrote {out}")
    return 0


def labels_of(records: Sequence[Record], loaded: LoadedModel, *, conditional: bool) -> list[str | None]:
    """The class the model is told for each image; None = no class.

    Raises:
        InputError: E_LABEL, an image without a label.
        ConfigError: E_CLASS, what the model does not know.
    """
    labels: list[str | None] = [record.label if conditional else None for record in records]
    for record, label in zip(records, labels, strict=True):
        if conditional and label is None:
            raise InputError(f"image {record.id!a} has no label", code="E_LABEL", fix="leave --conditional out")
    for label in sorted(set(labels), key=str):
        loaded.eps_fn(label)
    return labels


def notes_of(loaded: LoadedModel, variance: str, *, conditional: bool, num_strata: int) -> list[str]:
    """What the numbers stand on, below the table."""
    every, size = loaded.schedule.num_levels - 1, loaded.experiment.preprocess.image_size
    how = "every level" if num_strata == every else f"one drawn level in each of {num_strata} ranges, an unbiased estimate"
    return [
        f"An upper bound, {variance} variance; levels 2..{every + 1} by {how}; one draw of noise a level and image.",
        f"Of the image as the model sees it ({size} x {size} px, padding included), rounded to 8 bits: compare equal sizes only.",
        "The model was told each image's class." if conditional else "The model was told no class.",
        *([f"The model: {loaded.note}."] if loaded.note else []),
    ]


def main(arguments: Sequence[str]) -> int:
    """``medanomaly likelihood MODEL MANIFEST OUT``."""
    return run_function(likelihood, "medanomaly likelihood", "MODEL MANIFEST OUT [options]", arguments)

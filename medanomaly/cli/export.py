"""medanomaly export: a release file from a run: float16 weights and a model card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medanomaly.checkpoint import load_checkpoint, save_checkpoint
from medanomaly.cli.output import make_folder, refuse_existing
from medanomaly.cli.parsing import run_function
from medanomaly.errors import ConfigError
from medanomaly.evaluation.folder import read_evaluation, write_text
from medanomaly.evaluation.tables import as_markdown, comparison, same_images
from medanomaly.files import sha256_of
from medanomaly.scoring.finish import CALIBRATION

RELEASED = "model.safetensors"


def export(
    run: Path, out: Path, command: str = "", data_note: str = "", evaluation: Path | None = None, overwrite: bool = False
) -> int:
    """Write float16 weights and a model card; the weights keep config, thresholds and provenance in their header.

    Args:
        run: run folder of `medanomaly train`
        out: folder to write
        command: the command that made the run, for the card; must be given
        data_note: one sentence about the training data and its licence; must be given
        evaluation: evaluation folder whose table goes into the card
        overwrite: replace an earlier export
    """
    for name, text in (("--command", command), ("--data_note", data_note)):
        if not text.strip():
            raise ConfigError(f"{name} is missing", code="E_USAGE", fix="a model card without it says too little")
    refuse_existing(out / RELEASED, overwrite=overwrite)
    content = read_evaluation(evaluation).content if evaluation else None
    checkpoint = load_checkpoint(run / RELEASED)
    make_folder(out)
    header = {key: value for key, value in checkpoint.header.items() if key not in ("format_version", "dtype")}
    save_checkpoint(out / RELEASED, checkpoint.tensors, header, half=True)
    num_parameters = sum(value.numel() for name, value in checkpoint.tensors.items() if name not in CALIBRATION)
    write_text(
        out / "MODEL_CARD.md",
        card(out.resolve().name, header, num_parameters, sha256_of(out / RELEASED), command, data_note, content),
    )
    print(f"wrote {out / RELEASED} ({(out / RELEASED).stat().st_size / 1e6:.1f} MB) and {out / 'MODEL_CARD.md'}")
    return 0


def card(
    name: str,
    header: dict[str, Any],
    num_parameters: int,
    sha256: str,
    command: str,
    data_note: str,
    evaluation: dict[str, Any] | None,
) -> str:
    """Model card in the order of Mitchell et al. 2019 (arXiv:1810.03993)."""
    experiment, provenance = header["experiment"], header["provenance"]
    preprocess = experiment["preprocess"]
    points = "\n".join(
        f"* {point['value']:.4g}: {point['criterion']}"
        + (f" {point['target']:g}" if point["target"] is not None else "")
        + f", chosen on {point['chosen_on']} ({point['num_images']} images)"
        for point in header["operating_points"]
    )
    table = "Not evaluated.\n"
    if evaluation:
        table = f"{same_images(evaluation['counts'])}\n\n{as_markdown(*comparison(evaluation['methods']))}"
    environment = provenance["environment"]
    return f"""# Model card: {name}

**Not a medical device; not for diagnosis.** Research use, under the licence below.

* Preset: {experiment["name"]}.
* Method: {experiment["method"]["kind"]}, classes {", ".join(experiment["method"]["classes"])}, translated to {experiment["method"]["target"]}.
* Network: {num_parameters / 1e6:.2f} M parameters, {preprocess["channels"]} channel(s), {preprocess["image_size"]} x {preprocess["image_size"]} px.
{sampling(experiment["method"])}* Map: {", ".join(f"{key} {value}" for key, value in experiment["method"]["map"].items())}{summed(preprocess["channels"])}.
* File: float16 safetensors, SHA-256 `{sha256}`.
* Licence: {provenance.get("licence") or "not stated"}

## Training

{data_note}

{provenance["num_train_images"]} images of {provenance["num_train_patients"]} patients; validation {provenance["num_val_images"]} images of \
{provenance["num_val_patients"]} patients. {header["step"]} optimiser steps, batch {experiment["training"]["batch_size"]}, \
seed {experiment["training"]["seed"]}, {experiment["training"]["precision"]}, EMA {experiment["training"]["ema_decay"]:g}. \
torch {environment["packages"]["torch"]}, monai {environment["packages"]["monai"]}.

Made by:

    {command}

The header of the file holds the hashes of the images it has seen; `medanomaly evaluate` refuses to test on them.

## Thresholds

{points or "none"}

## Results

{table}
## Limits

Trained at {preprocess["image_size"]} px on one source of images: expect false alarms on any other source, on devices, rotated or cropped views, and
lesions smaller than a few pixels at that size. A generative model may reproduce features of its training images.

Open questions that a person must answer before any use beyond research: clinical role, qualification of annotators, sample size, ethics.
"""


def sampling(method: dict[str, Any]) -> str:
    """One line on the sampler; nothing for a method without one."""
    settings = method.get("sampler")
    return (
        f"* Sampling: {', '.join(f'{key} {value}' for key, value in settings.items() if value is not None)}.\n"
        if settings
        else ""
    )


def summed(num_channels: int) -> str:
    """What to know of a map, and of the thresholds on it, that is a sum over channels; "" for gray images."""
    return "" if num_channels == 1 else f"; summed over {num_channels} channels, and so are the thresholds below"


def main(arguments: Sequence[str]) -> int:
    """``medanomaly export RUN OUT --command ... --data_note ...``."""
    return run_function(export, "medanomaly export", "RUN OUT --command TEXT --data_note TEXT [options]", arguments)

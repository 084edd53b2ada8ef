"""medanomaly export: a release file from a run: float16 weights and a model card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medanomaly.checkpoint import load_checkpoint, save_checkpoint
from medanomaly.cli.output import make_folder, refuse_existing
from medanomaly.cli.parsing import run_function
from medanomaly.datasets.seen import SEEN_FILE, copy_seen
from medanomaly.errors import ConfigError
from medanomaly.evaluation.folder import read_evaluation, write_text
from medanomaly.evaluation.image_table import ImageLine, read_images
from medanomaly.evaluation.model_card import Purpose, failures, intended_use, likeness, open_questions, reporting
from medanomaly.evaluation.tables import as_markdown, comparison, same_images
from medanomaly.files import sha256_of
from medanomaly.methods.experiment import CLASSIFIER
from medanomaly.scoring.finish import CALIBRATION

RELEASED = "model.safetensors"


def export(
    run: Path, out: Path, command: str = "", data_note: str = "", evaluation: Path | None = None, overwrite: bool = False
) -> int:
    """Write float16 weights and a model card; the weights keep config, thresholds and provenance in their header.

    The hashes of the images that a diffusion model has seen are copied beside it.

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
    measured = read_images(evaluation / "images.csv") if evaluation else {}
    images = measured.get(content["methods"][0]["name"], []) if content else []
    checkpoint = load_checkpoint(run / RELEASED)
    make_folder(out)
    copy_seen(checkpoint.header.get("provenance", {}), run, out)
    header = {key: value for key, value in checkpoint.header.items() if key not in ("format_version", "dtype")}
    save_checkpoint(out / RELEASED, checkpoint.tensors, header, half=True)
    num_parameters = sum(value.numel() for name, value in checkpoint.tensors.items() if name not in CALIBRATION)
    write_text(
        out / "MODEL_CARD.md",
        card(out.resolve().name, header, num_parameters, sha256_of(out / RELEASED), command, data_note, content, images),
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
    images: Sequence[ImageLine] = (),
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

{intended_use(purpose_of(experiment["method"]))}

* Preset: {experiment["name"]}.
* Method: {what(experiment["method"])}.
* Network: {num_parameters / 1e6:.2f} M parameters, {preprocess["channels"]} channel(s), {preprocess["image_size"]} x {preprocess["image_size"]} px.
{sampling(experiment["method"])}{mapping(experiment["method"], preprocess["channels"])}* File: float16 safetensors, SHA-256 `{sha256}`.
* Licence: {provenance.get("licence") or "not stated"}

## Training

{data_note}

{provenance["num_train_images"]} images of {provenance["num_train_patients"]} patients; validation {provenance["num_val_images"]} images of \
{provenance["num_val_patients"]} patients. {header["step"]} optimiser steps, batch {experiment["training"]["batch_size"]}, \
seed {experiment["training"]["seed"]}, {experiment["training"]["precision"]}, EMA {experiment["training"]["ema_decay"]:g}. \
torch {environment["packages"]["torch"]}, monai {environment["packages"]["monai"]}.

Made by:

    {command}

{hashes(provenance)}

{reporting(header)}

## Thresholds

{points or "none"}{calibrated(provenance)}

## Results

{table}
## Failures

{failures(images)}

## Limits

{limits(purpose_of(experiment["method"]), preprocess["image_size"])}

{likeness(purpose_of(experiment["method"]))}

## Open questions

{open_questions()}
"""


def purpose_of(method: dict[str, Any]) -> Purpose:
    """What the model of a checkpoint's header is for: a method that translates has a target, a classifier says so."""
    return "localize" if "target" in method else "classify" if method["kind"] == CLASSIFIER else "draw"


def sampling(method: dict[str, Any]) -> str:
    """One line on the sampler; nothing for a method without one."""
    settings = method.get("sampler")
    return (
        f"* Sampling: {', '.join(f'{key} {value}' for key, value in settings.items() if value is not None)}.\n"
        if settings
        else ""
    )


def what(method: dict[str, Any]) -> str:
    """Kind and classes; for a method, where it translates to."""
    classes = ", ".join(method["classes"])
    named = f"{method['kind']}, {f'classes {classes}' if classes else 'without classes'}"
    return f"{named}, translated to {method['target']}" if purpose_of(method) == "localize" else f"{named}; it localizes nothing"


def mapping(method: dict[str, Any], num_channels: int) -> str:
    """One line on the map; nothing for a model without one."""
    settings = method.get("map")
    return f"* Map: {', '.join(f'{key} {value}' for key, value in settings.items())}{summed(num_channels)}.\n" if settings else ""


def hashes(provenance: dict[str, Any]) -> str:
    """Where the hashes of the images it has seen are, and who reads them."""
    if "seen" in provenance:
        return (
            f"`{SEEN_FILE}` beside the file holds hashes of the images, image ids and patient ids it has seen: no test is made on\n"
            "them. Who can list all possible ids can try them against it."
        )
    return "The header of the file holds the hashes of the images it has seen; `medanomaly evaluate` refuses to test on them."


def calibrated(provenance: dict[str, Any]) -> str:
    """Where map settings and thresholds come from where `medanomaly calibrate` made them after the training; "" where it did not."""
    later = provenance.get("calibrated")
    if later is None:
        return ""
    return (
        f"\n\nMap, sampler and thresholds were set after training (`medanomaly calibrate`), on {later['num_val_images']} validation images of\n"
        f"{later['num_val_patients']} patients of the manifest with SHA-256 `{later['manifest_sha256']}`."
    )


def limits(purpose: Purpose, image_size: int) -> str:
    """What to expect of images unlike those it was trained on."""
    trained = f"Trained at {image_size} px on one source of images"
    if purpose == "draw":
        return f"{trained}: it knows no other size, source or view, and draws what it knows into what it does not."
    if purpose == "classify":
        return f"{trained}: on another size, source or view it still names one of its classes, and may be sure of it."
    return (
        f"{trained}: expect false alarms on any other source, on devices, rotated or cropped views, and\n"
        "lesions smaller than a few pixels at that size."
    )


def summed(num_channels: int) -> str:
    """What to know of a map, and of the thresholds on it, that is a sum over channels; "" for gray images."""
    return "" if num_channels == 1 else f"; summed over {num_channels} channels, and so are the thresholds below"


def main(arguments: Sequence[str]) -> int:
    """``medanomaly export RUN OUT --command ... --data_note ...``."""
    return run_function(export, "medanomaly export", "RUN OUT --command TEXT --data_note TEXT [options]", arguments)

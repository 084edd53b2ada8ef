"""medanomaly calibrate: trained weights with other map or sampler settings, or for other images; thresholds chosen anew on val."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medanomaly.checkpoint import load_checkpoint, save_checkpoint
from medanomaly.cli.device import choose_device
from medanomaly.cli.evaluate import resolve_checkpoint
from medanomaly.cli.finished_run import made_to_localize, seen_in_header
from medanomaly.cli.methods import ALL_METHODS
from medanomaly.cli.output import make_folder, refuse_existing
from medanomaly.cli.parsing import parsed, parser
from medanomaly.config import to_dict
from medanomaly.datasets.dataset import refuse_unknown_labels
from medanomaly.datasets.manifest import manifest_fingerprint, read_manifest
from medanomaly.errors import ConfigError, InputError
from medanomaly.files import sha256_of
from medanomaly.methods.experiment import Experiment, MethodConfig, load_trained
from medanomaly.scoring.finish import without_calibration
from medanomaly.training.log import environment

FREE = ("sampler", "map")
"""Parts of a method that are not in its weights."""
USAGE = "CHECKPOINT MANIFEST OUT [options]"
ABOUT = """Write trained weights with other map or sampler settings, or for images of another source.

The thresholds, and the healthy calibration where --method.map.healthy-z asks for one, are chosen on the val split of the manifest.
Test images are never opened. The weights stay as they are."""


def main(arguments: Sequence[str]) -> int:
    """``medanomaly calibrate CHECKPOINT MANIFEST OUT [options]``."""
    # The checkpoint decides which options there are, so it has to be the first word.
    if not arguments or arguments[0].startswith("-"):
        if any(word in ("-h", "--help") for word in arguments):
            print(f"usage: medanomaly calibrate {USAGE}\n\n{ABOUT}\n")
            print("`medanomaly calibrate CHECKPOINT --help` lists the options of its method with their values.")
            return 0
        raise ConfigError("no checkpoint was named", code="E_USAGE", fix="write medanomaly calibrate CHECKPOINT MANIFEST OUT")
    weights = resolve_checkpoint(Path(arguments[0]))
    trained = load_trained(weights, ALL_METHODS, choose_device("cpu")).experiment
    made = parser("medanomaly calibrate", ABOUT, USAGE)
    made.add_argument("data", type=Path, help="manifest CSV with labelled val rows")
    made.add_argument("out", type=Path, help="folder for model.safetensors")
    made.add_argument("--allow_outside", type=bool, default=False, help="the manifest may name files outside of its own folder")
    made.add_argument("--overwrite", type=bool, default=False, help="replace an earlier model.safetensors in the folder")
    made.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    made.add_argument("--quiet", type=bool, default=False, help="no progress bars")
    made.add_argument("--method", type=type(trained.method), default=trained.method)
    chosen = parsed(made, arguments[1:])
    options = {name: getattr(chosen, name) for name in ("allow_outside", "overwrite", "device", "quiet")}
    path = calibrate(weights, chosen.method, chosen.data, chosen.out, **options)
    print(f"wrote {path}")
    return 0


def calibrate(
    weights: Path,
    method: MethodConfig,
    data: Path,
    out: Path,
    *,
    allow_outside: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> Path:
    """Write ``out/model.safetensors``: the same weights with ``method``'s settings and thresholds of the manifest's val split.

    The val images join those that the header lists as seen, so that no test is made on them.

    Args:
        weights: model.safetensors or its folder.
        method: settings; only the sampler and the map may differ from the checkpoint's.
        data: manifest with labelled val rows.
        out: folder to write.
        allow_outside: accept images outside of the manifest's folder.
        overwrite: replace an earlier file.
        device: auto, cpu, cuda, ...
        quiet: no progress bars.

    Raises:
        ConfigError: E_CONFIG, a setting that belongs to the weights differs.
        InputError: E_SPLIT, no labelled val rows; E_CLASS, a label that the weights do not know.
    """
    where = choose_device(device)
    refuse_existing(out / "model.safetensors", overwrite=overwrite)
    checkpoint = load_checkpoint(weights)
    before = load_trained(weights, ALL_METHODS, where).experiment
    refuse_other_weights(before.method, method)
    records = read_manifest(data, allow_outside=allow_outside)
    validation = [record for record in records if record.split == "val" and record.label is not None]
    if not validation:
        raise InputError("has no labelled val rows", code="E_SPLIT", path=data, fix="fill the split and label columns")
    refuse_unknown_labels(validation, method.classes)
    experiment: Experiment = replace(before, method=method)
    tensors, points = made_to_localize(experiment, without_calibration(checkpoint.tensors), validation, device=where, quiet=quiet)
    provenance = dict(checkpoint.header.get("provenance", {}))
    provenance["seen_images"] = sorted({*provenance.get("seen_images", ()), *seen_in_header({"val": validation})["seen_images"]})
    provenance["calibrated"] = {
        "weights_sha256": sha256_of(weights / "model.safetensors" if weights.is_dir() else weights),
        "manifest_sha256": manifest_fingerprint(records),
        "num_val_images": len(validation),
        "num_val_patients": len({record.patient_id for record in validation}),
        "environment": environment(),
    }
    header = {key: value for key, value in checkpoint.header.items() if key not in ("format_version", "dtype")}
    header |= {
        "experiment": experiment.to_dict(),
        "operating_points": [point.to_dict() for point in points],
        "provenance": provenance,
    }
    make_folder(out)
    save_checkpoint(out / "model.safetensors", tensors, header)
    for point in () if quiet else points:
        print(f"{point.value:.4g}: {point.criterion} on {point.chosen_on} ({point.num_images} images)", file=sys.stderr)
    return out / "model.safetensors"


def refuse_other_weights(before: MethodConfig, after: MethodConfig) -> None:
    """Settings other than :data:`FREE` are part of what the weights learnt.

    Raises:
        ConfigError: E_CONFIG, names them.
    """
    old: dict[str, Any] = to_dict(before)
    new: dict[str, Any] = to_dict(after)
    changed = [f"method.{name}" for name in new if name not in FREE and new[name] != old[name]]
    if changed:
        raise ConfigError(
            f"{', '.join(changed)} differs from what the weights were trained with",
            code="E_CONFIG",
            fix="change only --method.sampler... and --method.map..., or train anew",
        )

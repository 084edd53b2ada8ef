"""medanomaly localize: heatmaps, masks and pseudo-healthy images of a file, a folder or a manifest."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from medanomaly.cli.deblur_option import deblur_of
from medanomaly.cli.device import choose_device
from medanomaly.cli.evaluate import resolve_checkpoint
from medanomaly.cli.kinds import WITHHELD, about_withheld, kinds_of
from medanomaly.cli.live import live_view, with_address
from medanomaly.cli.localize_names import about_names, num_with_uid, without_uids
from medanomaly.cli.methods import ALL_METHODS
from medanomaly.cli.output import make_folder, refuse_unwritable
from medanomaly.cli.parsing import run_function
from medanomaly.cli.precision_option import lowered
from medanomaly.cli.sampler_option import sampler_given
from medanomaly.config import to_dict
from medanomaly.datasets.folder import plain_folder
from medanomaly.datasets.manifest import Record, read_manifest
from medanomaly.datasets.walk_files import may_be_image
from medanomaly.errors import EXIT_OK, ConfigError, InputError, Preempted
from medanomaly.evaluation.bulk import BulkSettings, localize_all
from medanomaly.evaluation.merge_shards import merge_if_complete
from medanomaly.evaluation.run_record import begin_run, command_text, data_facts, end_run
from medanomaly.evaluation.shards import refuse_mixed, shard_of
from medanomaly.files import sha256_of
from medanomaly.io.options import ReadOptions
from medanomaly.methods.compiled import Compile, compiles
from medanomaly.methods.experiment import Experiment, load_trained
from medanomaly.methods.precision import Precision
from medanomaly.methods.speeds import Speed
from medanomaly.scoring.maps import difference_map
from medanomaly.scoring.operating_point import DICE, HEALTHY_FPR, OperatingPoint
from medanomaly.training.log import environment
from medanomaly.training.preempt import stop_requested
from medanomaly.views.live_walk import MapScale, Watched
from medanomaly.views.shown import map_unit

CRITERIA = {"dice": DICE, "healthy": HEALTHY_FPR}
SCALE_OVER_THRESHOLD = 4.0
"""Top of the colour scale in thresholds: the same for every image of a job."""


def localize(
    checkpoint: Path,
    source: Path,
    out: Path,
    criterion: str = "auto",
    threshold: float | None = None,
    speed: Speed | None = None,
    noise_level: int | None = None,
    num_steps: int | None = None,
    guidance_scale: float | None = None,
    noise_levels: list[int] | None = None,
    gradient_scale: float | None = None,
    batch_size: int = 8,
    allow_color: bool = False,
    frame: int | None = None,
    nan_to: float | None = None,
    allow_outside: bool = False,
    to: str = "png",
    keep_patient: bool = False,
    burned_in: str = "skip",
    finding: str = "auto",
    volume: bool | None = None,
    deblur: str | None = None,
    deblur_kernel: str = "",
    deblur_noise_level: float = 0.5,
    deblur_steps: int = 20,
    overwrite: bool = False,
    device: str = "auto",
    precision: Precision = "fp32",
    compile: Compile = "auto",
    visdom: str | None = None,
    shard: str | None = None,
    quiet: bool = False,
) -> int:
    """Write float maps, masks, pseudo-healthy images and overlays at native size, and report.jsonl; a rerun does what is missing.

    Outputs carry no patient identity unless --keep-patient true; a DICOM UID in an id is replaced by its hash, in names of files too.
    DICOM outputs are made of DICOM sources only, NIfTI ones of NIfTI sources.
    A map made of several (noise levels, draws of the noise) comes with their deviation, pixel by pixel, below uncertainty/.

    Args:
        checkpoint: model.safetensors, its folder, or the name of shipped weights
        source: an image (DICOM, PNG, JPEG, TIFF, NIfTI, npy), a folder of them, or a manifest CSV
        out: output folder
        criterion: which of the checkpoint's thresholds: dice, healthy, or auto (dice where it has one)
        threshold: a threshold of your own in map units, instead
        speed: exact (every level), fast (40 network evaluations an image) or screening (25); replaces the checkpoint's steps
        noise_level: replaces the checkpoint's
        num_steps: replaces the checkpoint's
        guidance_scale: replaces the checkpoint's g
        noise_levels: maps of these levels are averaged, noise_level among them, e.g. '[350, 500, 650]'; replaces the checkpoint's
        gradient_scale: replaces the checkpoint's s, of classifier-guided DDIM
        batch_size: images a forward pass
        allow_color: turn colour images into luma for a gray model
        frame: which frame of files that hold several
        nan_to: a value to put in place of NaN and infinity, in the file's units; without it such images are refused
        allow_outside: a manifest may name files outside of its own folder
        to: what to write, by commas: png (npy maps and PNG pictures), nifti, and DICOM sc (overlay), seg (mask), pm (map), pr (contour)
        keep_patient: DICOM outputs name patient and study of the source and reference it, to land in its study; ids stay as they are
        burned_in: pictures of DICOM sources that say that text is burned into their pixels: skip, or keep once somebody has looked
        finding: what a seg marks, by its coded name, e.g. 'pleural effusion'; auto = the model's one disease if coded, else lesion
        volume: NIfTI files of several slices become one map; by default where --to has nifti and there is no --frame
        deblur: a prior, or tv, wiener or rl: undo motion blur first, where there is some; see also `medanomaly deblur`
        deblur_kernel: estimated, linear 10@30 (px of the model's images @ degrees), gaussian 2, given FILE; required with deblur
        deblur_noise_level: standard deviation of the noise on the 0..255 scale
        deblur_steps: of the prior, network evaluations an image
        overwrite: redo a folder made with other settings
        device: auto, cpu, cuda, ...
        precision: of the network: fp32, bf16, fp16 or auto; 16 bits only where they leave the map of the first images alone
        compile: compile the network's blocks: true, false, or auto (on a GPU, for jobs of 256 images or more)
        visdom: show the walks and maps at this address, e.g. http://127.0.0.1:8097, where `medanomaly live` listens
        shard: do one part of the job, e.g. 2/8; auto or auto/8 asks torchrun, a SLURM array or a Kubernetes Indexed Job which one
        quiet: no progress bar
    """
    typed, started = dict(locals()), time.time()
    mine = None if shard is None else shard_of(shard, os.environ)
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}", code="E_CONFIG")
    where = choose_device(device)
    changed = sampler_given(
        speed=speed,
        num_steps=num_steps,
        noise_level=noise_level,
        guidance_scale=guidance_scale,
        noise_levels=noise_levels,
        gradient_scale=gradient_scale,
    )
    path = resolve_checkpoint(checkpoint)
    if frame is not None and frame < 0:
        raise ConfigError(f"frame must be 0 or more, got {frame}", code="E_CONFIG")
    if nan_to is not None and not math.isfinite(nan_to):
        raise ConfigError(f"nan_to must be a finite number, got {nan_to}", code="E_CONFIG")
    refuse_unwritable(out)
    refuse_mixed(out, mine)
    trained = load_trained(path, ALL_METHODS, where, sampler=changed)
    records = records_of(source, allow_outside)
    value, text = chosen_threshold(trained.operating_points, criterion, threshold)
    classes, healthy = trained.experiment.method.classes, trained.experiment.method.target
    wanted = kinds_of(
        to,
        keep_patient=keep_patient,
        burned_in=burned_in,
        finding=finding,
        volume=volume,
        frame=frame,
        threshold=value,
        diseases=[name for name in classes if name != healthy],
    )
    sharpener, sharpening = deblur_of(
        deblur, deblur_kernel, noise_level=deblur_noise_level, steps=deblur_steps, experiment=trained.experiment, device=where
    )
    channels = trained.experiment.preprocess.channels
    options = ReadOptions(channels=channels, allow_color=allow_color, frame=frame, nan_to=nan_to)
    computing = lowered(trained, precision, records, where, options, compiles(compile, trained.method, where, len(records)))
    make_folder(out)
    path = path / "model.safetensors" if path.is_dir() else path
    # No frame and frame 0 read the same of a file that has one; colour that was refused before changes no image that was done.
    experiment = trained.experiment.to_dict()
    content = {"weights": sha256_of(path), "experiment": experiment, "threshold": value, "frame": frame or 0}
    content |= ({} if nan_to is None else {"nan_to": nan_to}) | wanted.identity() | sharpening
    num_renamed = num_with_uid(records)
    named = records if keep_patient or not num_renamed else without_uids(records)
    if mine is not None:
        typed["shard"] = str(mine)
        named = [record for record in named if mine.holds(record.id)]
    journal = out if mine is None else mine.folder(out)
    content |= {"ids": "kept"} if keep_patient and num_renamed else {}
    content |= {} if computing.precision == "fp32" else {"precision": computing.precision}
    content |= {"compiled": True} if computing.compiled else {}
    # One level is what there was before there could be several: such a job goes on.
    sampler = experiment["method"].get("sampler", {})
    if sampler.get("noise_levels") is None:
        sampler.pop("noise_levels", None)
    settings = BulkSettings(
        threshold=value,
        unit=map_unit(trained.experiment.method.map.unit, channels),
        scale_max=SCALE_OVER_THRESHOLD * value if value else 1.0,
        identity=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16],
        batch_size=batch_size,
        overwrite=overwrite,
        **wanted.settings(),
    )

    def begin() -> None:
        begin_run(
            journal,
            "localize",
            command=command_text("localize", localize, typed),
            config=trained.experiment.to_dict(),
            data=data_facts(records, is_manifest=source.suffix.lower() == ".csv" and source.is_file()),
            seed=sampler.get("seed"),
            device=where,
            environment=environment(),
            started_unix_s=started,
            weights_sha256=content["weights"],
            settings=to_dict(settings) | {"frame": frame, "nan_to": nan_to} | computing.facts() | sharpening,
        )

    with (
        live_view(visdom) as view,
        stop_requested() as stop,
        tqdm(total=len(named), unit="image", desc="localizing", disable=quiet, file=sys.stderr) as bar,
    ):
        method = computing.method if view is None else Watched(computing.method, view, scale_of(settings, trained.experiment))
        summary = localize_all(
            method if sharpener is None else sharpener.before(method),
            named,
            trained.experiment.preprocess,
            out,
            settings,
            options=options,
            device=where,
            stop=stop,
            watch=lambda count: bar.update(count) and None,
            begin=begin,
            part=None if mine is None else journal,
        )
    end_run(journal)
    withheld = summary.reasons.pop(WITHHELD, 0)
    reasons = ", ".join(f"{code}: {count}" for code, count in sorted(summary.reasons.items()))
    print(f"{summary.ok} localized, {summary.skipped} already there, {summary.failed} failed{f' ({reasons})' if reasons else ''}")
    print(about_withheld(withheld) + about_names(0 if keep_patient else num_renamed), end="")
    if precision != "fp32" or computing.compiled:
        print(f"precision {computing.why}")
    if sharpener is not None:
        print(f"deblurring with {sharpener.restorer.name}: {sharpener.said()}")
    print(f"{text}\nwrote {out} (report.jsonl says what happened to each image). Not for diagnosis.")
    if summary.stopped:
        raise Preempted("stopped before the end", code="E_PREEMPTED", path=out, fix="run the same command again to continue")
    if mine is None:
        return summary.exit_code()
    if merge_if_complete(out):
        print(f"all {mine.count} shards are done and merged")
    # torchrun ends all processes when one of them returns anything but 0; what failed is in the report.
    return EXIT_OK if "TORCHELASTIC_RUN_ID" in os.environ else summary.exit_code()


def scale_of(settings: BulkSettings, experiment: Experiment) -> MapScale:
    """The colours of the live view: the job's, and for a walk, whose map is not calibrated yet, those of a plain difference."""
    config = experiment.method.map
    return MapScale(
        scale_max=settings.scale_max,
        unit=settings.unit,
        forming=partial(difference_map, change=config.change),
        forming_max=1.0 if config.healthy_z else settings.scale_max,
        forming_unit=map_unit(replace(config, healthy_z=False).unit, experiment.preprocess.channels),
    )


def records_of(source: Path, allow_outside: bool) -> list[Record]:
    """Records of a manifest, a folder or one file."""
    if source.is_dir():
        return sorted([*plain_folder(source), *special_files(source)], key=lambda record: record.id)
    if source.suffix.lower() == ".csv":
        return read_manifest(source, allow_outside=allow_outside)
    if not source.exists():
        raise InputError("no such file or folder", code="E_MISSING", path=source, fix="name an image, a folder or a manifest CSV")
    return [Record(id=source.name, patient_id=source.name.strip() or "image", image=source)]


def special_files(root: Path) -> list[Record]:
    """Pipes, sockets and devices with an image's name: the reader refuses them unopened, and each gets its line in the report."""
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        paths = [Path(folder, name) for name in names if not name.startswith(".")]
        found += [path for path in paths if may_be_image(path) and path.exists() and not path.is_symlink() and not path.is_file()]
    below = [(path.relative_to(root).as_posix(), path) for path in found]
    return [Record(id=name, patient_id=name.strip(), image=path) for name, path in below]


def chosen_threshold(stored: Sequence[OperatingPoint], criterion: str, threshold: float | None) -> tuple[float | None, str]:
    """The threshold for masks, and a line that says where it came from."""
    if threshold is not None:
        if not 0 < threshold < float("inf"):
            raise ConfigError(f"threshold must be positive and finite, got {threshold}", code="E_CONFIG")
        return threshold, f"threshold {threshold:g}: given on the command line"
    if criterion not in ("auto", *CRITERIA):
        raise ConfigError(f"unknown criterion {criterion!r}", code="E_CONFIG", fix=f"choose auto, {' or '.join(CRITERIA)}")
    points = {point.criterion: point for point in stored}
    for name in CRITERIA.values() if criterion == "auto" else [CRITERIA[criterion]]:
        if name in points:
            point = points[name]
            return point.value, f"threshold {point.value:.4g}: {name}, chosen on {point.chosen_on} ({point.num_images} images)"
    if criterion == "auto":
        return None, "no threshold for this checkpoint and sampler: no masks or overlays were written; give one with --threshold"
    raise ConfigError(
        f"no threshold {criterion!r} for this checkpoint and sampler",
        code="E_CONFIG",
        fix="give one with --threshold, or make one with medanomaly calibrate",
    )


def main(arguments: Sequence[str]) -> int:
    """``medanomaly localize CHECKPOINT SOURCE OUT``."""
    return run_function(localize, "medanomaly localize", "CHECKPOINT SOURCE OUT [options]", with_address(arguments))

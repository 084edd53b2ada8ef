"""Localize many files: one bad file never stops the job, and a second run does only what is missing or changed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.transforms import PreprocessConfig, intensity_windows, scale_to_model, to_model, to_native
from medanomaly.errors import InputError, MedanomalyError, ResourceError
from medanomaly.evaluation.constant import blank_where_constant
from medanomaly.evaluation.job_report import Summary, append_line, finished, is_done, report_failure
from medanomaly.files import safe_name, sha256_of, write_json
from medanomaly.io.options import ReadOptions
from medanomaly.io.reader import read_image
from medanomaly.io.writers import write_npy, write_png
from medanomaly.types import AnomalyMethod, AnomalyResult, FloatArray, Geometry, WalkObserver
from medanomaly.views.overlay import map_overlay, overlay_figure
from medanomaly.views.shown import picture, shown_channel


@dataclass(frozen=True, kw_only=True)
class BulkSettings:
    """What a job writes and how."""

    threshold: float | None
    """Operating point for masks and overlays; None = float maps and pseudo-healthy images only."""
    scale_max: float
    """Top of the one colour scale of the job, in map units."""
    unit: str = "|x - pseudo-healthy|"
    """What the map's numbers are, above the colour bar."""
    identity: str
    """Hash of everything that decides the outputs: checkpoint, sampler, threshold."""
    batch_size: int = 8
    overwrite: bool = False
    """Redo a folder that was made with other settings."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image read and ready."""

    record: Record
    sha256: str
    x: Tensor
    geometry: Geometry
    native: FloatArray
    """(C, H, W) in [-1, 1], for pictures."""
    notes: tuple[str, ...]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process a folder; the lock dies with its process.

    Raises:
        ResourceError: E_LOCKED, with the pid of the owner.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = open(folder / ".lock", "a+")  # noqa: SIM115 (closed below, whatever happens)
    except OSError as error:
        raise ResourceError(
            f"cannot be written ({error.strerror})", code="E_OUTPUT", path=folder, fix="choose another output folder"
        ) from error
    try:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.seek(0)
            owner = stream.read().strip() or "unknown"
            raise ResourceError(f"is in use by process {owner}", code="E_LOCKED", path=folder, fix="wait for it") from error
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield
    finally:
        stream.close()


def localize_all(
    method: AnomalyMethod,
    records: Sequence[Record],
    preprocess: PreprocessConfig,
    out: Path,
    settings: BulkSettings,
    *,
    options: ReadOptions,
    device: torch.device | str = "cpu",
    stop: Callable[[], bool] = lambda: False,
    watch: Callable[[int], None] = lambda _count: None,
    observer: WalkObserver | None = None,
) -> Summary:
    """Maps, masks, pseudo-healthy images and overlays of all records, at native size, below ``out``.

    ``report.jsonl`` gets one line an image that was tried: ``id, status (ok or failed), reason_code, message, outputs, sha256_in,
    seconds`` (since the line before: the first of a batch carries its forward pass). The last line of an id counts; an image
    that is already there keeps its line. Neither lines nor files name a folder of this machine.

    Args:
        method: anything that localizes.
        records: what to do; ids decide the output names.
        preprocess: as the method was trained.
        out: folder; made if missing, one process at a time.
        settings: thresholds, batch size, overwrite.
        options: of reading.
        device: where the method computes.
        stop: asked between batches; True ends the job early, to be continued by the same call.
        watch: told how many images were finished.
        observer: of each walk.

    Raises:
        ConfigError: E_CHANGED, the folder holds results of other settings and overwrite is off.
        ResourceError: E_LOCKED, E_OUTPUT, E_DISK_FULL.
    """
    summary = Summary()
    with locked(out):
        done = finished(out, settings.identity, overwrite=settings.overwrite)
        pending = [record for record in records if not is_done(record, done, out)]
        summary.skipped = len(records) - len(pending)
        watch(summary.skipped)
        for start in range(0, len(pending), settings.batch_size):
            if stop():
                summary.stopped = True
                break
            chunk = pending[start : start + settings.batch_size]
            mark = time.perf_counter()
            batch = [one for record in chunk if (one := load(record, preprocess, options, out, summary)) is not None]
            for loaded, result in answers(method, batch, device, out, summary, observer):
                try:
                    outputs = write_outputs(out, loaded, result, settings)
                except InputError as error:
                    report_failure(out, loaded.record, error, summary, sha256=loaded.sha256)
                    continue
                summary.ok += 1
                line = {"status": "ok", "reason_code": "", "message": "; ".join(loaded.notes), "score": float(result.score[0])}
                now, window = time.perf_counter(), loaded.record.intensity_range
                facts = {"outputs": outputs, "sha256_in": loaded.sha256, "identity": settings.identity, "seconds": now - mark}
                mark = now
                facts |= {"intensity_range": window} if window is not None else {}
                append_line(out, {"id": loaded.record.id, **line, **facts})
            watch(len(chunk))
        status = "preempted" if summary.stopped else "done"
        counts = {"ok": summary.ok, "skipped": summary.skipped, "failed": summary.failed, "reasons": summary.reasons}
        write_json(out / "status.json", {"status": status, **counts})
    return summary


def load(record: Record, preprocess: PreprocessConfig, options: ReadOptions, out: Path, summary: Summary) -> Loaded | None:
    """Read one image, or report why not."""
    try:
        raw = read_image(record.image, options)
        x, geometry = to_model(raw, preprocess, record.intensity_range)
        windows = intensity_windows(raw, preprocess, record.intensity_range)
        native = scale_to_model(raw.pixels, windows).numpy()
        notes = (*raw.notes, *notes_on_channels(windows))
        return Loaded(record, sha256_of(record.image), x, geometry, native, notes)
    except MedanomalyError as error:
        report_failure(out, record, error, summary)
    except (Exception, RecursionError, MemoryError) as error:
        wrapped = InputError(
            f"cannot be read ({type(error).__name__})", code="E_UNREADABLE", path=record.image, fix="check the file"
        )
        report_failure(out, record, wrapped, summary)
    return None


def notes_on_channels(windows: Sequence[tuple[float, float]]) -> tuple[str, ...]:
    """Which channels are constant, by their intensity windows, and which the pictures show."""
    constant = [str(number) for number, (low, high) in enumerate(windows, start=1) if low >= high]
    count = len(windows)
    notes = []
    if constant:
        notes.append("constant image" if len(constant) == count else f"constant channel {', '.join(constant)} of {count}")
    if channel := shown_channel(count):
        notes.append(f"pictures: {channel}")
    return tuple(notes)


def answers(
    method: AnomalyMethod,
    batch: Sequence[Loaded],
    device: torch.device | str,
    out: Path,
    summary: Summary,
    observer: WalkObserver | None,
) -> Iterator[tuple[Loaded, AnomalyResult]]:
    """(image, its result alone) for each image; a batch that does not fit in memory is halved, down to single images."""
    if not batch:
        return
    result: AnomalyResult | None = None
    try:
        x = torch.stack([one.x for one in batch]).to(device)
        result = blank_where_constant(x, method.localize(x, observer))
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not out_of_memory(error):
            raise
    # Outside of the handler: the exception would keep the frames, and with them the memory, of the attempt that failed.
    if result is None:
        if len(batch) == 1:
            failure = ResourceError(
                "does not fit in memory", code="E_MEMORY", path=batch[0].record.image, fix="use a smaller model"
            )
            report_failure(out, batch[0].record, failure, summary, sha256=batch[0].sha256)
            return
        half = len(batch) // 2
        yield from answers(method, batch[:half], device, out, summary, observer)
        yield from answers(method, batch[half:], device, out, summary, observer)
        return
    for index, one in enumerate(batch):
        twin, spread = result.pseudo_healthy, result.map_std
        yield (
            one,
            AnomalyResult(
                anomaly_map=result.anomaly_map[index : index + 1].cpu(),
                score=result.score[index : index + 1].cpu(),
                pseudo_healthy=None if twin is None else twin[index : index + 1].cpu(),
                map_std=None if spread is None else spread[index : index + 1].cpu(),
            ),
        )


def out_of_memory(error: BaseException) -> bool:
    """Memory errors by type, and by text where PyTorch raises a plain RuntimeError on the CPU."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in text or "out of memory" in text


def write_outputs(out: Path, loaded: Loaded, result: AnomalyResult, settings: BulkSettings) -> list[str]:
    """Write one image's results at native size and return their names below ``out``."""
    name = safe_name(loaded.record.id)
    anomaly_map = np.clip(to_native(result.anomaly_map[0], loaded.geometry)[0], 0, None)
    if not np.isfinite(anomaly_map).all():
        raise InputError("the method gave a map that is not finite", code="E_NONFINITE", path=loaded.record.image)
    outputs = [f"maps/{name}.npy"]
    write_npy(out / outputs[0], anomaly_map)
    if result.pseudo_healthy is not None:
        twin = np.clip(to_native(result.pseudo_healthy[0], loaded.geometry), -1, 1)
        outputs.append(f"pseudo_healthy/{name}.png")
        write_png(out / outputs[-1], picture(twin))
        if shown_channel(len(twin)):
            # The picture shows one channel; the array has them all.
            outputs.append(f"pseudo_healthy/{name}.npy")
            write_npy(out / outputs[-1], twin)
    if result.map_std is not None:
        outputs.append(f"uncertainty/{name}.npy")
        write_npy(out / outputs[-1], np.clip(to_native(result.map_std[0], loaded.geometry)[0], 0, None))
    if settings.threshold is not None:
        outputs += [f"masks/{name}.png", f"overlays/{name}.png", f"figures/{name}.png"]
        threshold, scale_max = settings.threshold, settings.scale_max
        overlay = map_overlay(loaded.native, anomaly_map, threshold=threshold, scale_max=scale_max)
        write_png(out / outputs[-3], anomaly_map > settings.threshold)
        write_png(out / outputs[-2], overlay)
        overlay_figure(
            out / outputs[-1], loaded.native, anomaly_map, threshold=threshold, scale_max=scale_max, unit=settings.unit
        )
    return outputs

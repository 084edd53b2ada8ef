"""Localize many files: one bad file never stops the job, and a second run does only what is missing or changed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.transforms import PreprocessConfig, intensity_windows, scale_to_model, to_model
from medanomaly.errors import InputError, MedanomalyError, ResourceError
from medanomaly.evaluation.bulk_answers import answered, memory_short
from medanomaly.evaluation.bulk_answers import out_of_memory as out_of_memory
from medanomaly.evaluation.bulk_lines import Clock, Job
from medanomaly.evaluation.bulk_outputs import BulkSettings as BulkSettings
from medanomaly.evaluation.bulk_outputs import Loaded, write_outputs
from medanomaly.evaluation.bulk_volume import is_volume, localize_volume
from medanomaly.evaluation.job_report import Summary, finished, is_done, report_failure
from medanomaly.files import safe_name, sha256_of, write_json
from medanomaly.io.options import ReadOptions
from medanomaly.io.reader import read_image
from medanomaly.types import AnomalyMethod, AnomalyResult, WalkObserver
from medanomaly.views.shown import shown_channel

TORN = re.compile(r"\..+\.tmp-\d+")
"""Names of files that a killed process left half written."""


@contextlib.contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """One process a folder; the lock dies with its process. Processes that lock it ``shared`` exclude the others, not each other.

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
            fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            stream.seek(0)
            owner = stream.read().strip() or "unknown"
            raise ResourceError(f"is in use by process {owner}", code="E_LOCKED", path=folder, fix="wait for it") from error
        stream.truncate(0)
        # Of several owners none is the one to wait for.
        stream.write("" if shared else str(os.getpid()))
        stream.flush()
        yield
    finally:
        stream.close()


@contextlib.contextmanager
def told_if_failed(out: Path) -> Iterator[None]:
    """What ends a job is in status.json, if that can still be written; the error goes on."""
    try:
        yield
    except Exception:
        with contextlib.suppress(MedanomalyError, OSError):
            write_json(out / "status.json", {"status": "failed"})
        raise


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
    begin: Callable[[], None] = lambda: None,
    observer: WalkObserver | None = None,
    part: Path | None = None,
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
        begin: called once the folder is known to be free and of these settings, before the first image: writes what the run is.
        observer: of each walk.
        part: where ``records`` are one shard of a job: that shard's folder, which gets its report and status. Other shards may write
            their results below ``out`` at the same time. All forward passes are of one size, so maps do not depend on who shares them.

    Raises:
        ConfigError: E_CHANGED, the folder holds results of other settings and overwrite is off.
        ResourceError: E_LOCKED, E_OUTPUT, E_DISK_FULL.
    """
    summary = Summary()
    journal = out if part is None else part
    with locked(out, shared=part is not None), contextlib.ExitStack() as stack:
        if part is not None:
            stack.enter_context(locked(part))
        done = finished(out, settings.identity, overwrite=settings.overwrite, journal=journal)
        for torn in torn_files(out) if part is None else torn_files_of(records, out, part):
            torn.unlink()
        begin()
        write_json(journal / "status.json", {"status": "running"})
        stack.enter_context(told_if_failed(journal))
        filled_to = 0 if part is None else settings.batch_size
        job = Job(out=out, journal=journal, settings=settings, summary=summary, done=done, filled_to=filled_to)
        pending = [record for record in records if not is_done(record, done, out)]
        summary.skipped = len(records) - len(pending)
        watch(summary.skipped)
        for start in range(0, len(pending), settings.batch_size):
            if stop():
                summary.stopped = True
                break
            chunk = pending[start : start + settings.batch_size]
            volumes = [record for record in chunk if settings.volumes and is_volume(record, options)]
            images = [record for record in chunk if record not in volumes]
            clock = Clock()
            batch = [one for record in images if (one := load(record, preprocess, options, journal, summary)) is not None]
            for loaded, result in answers(method, batch, device, job, observer):
                with job.failures_reported(loaded.record, loaded.sha256):
                    written = write_outputs(out, loaded, result, settings)
                    score, seconds = float(result.score[0]), clock.lap()
                    job.report(loaded.record, written, score=score, sha256=loaded.sha256, notes=loaded.notes, seconds=seconds)
            watch(len(images))
            for record in volumes:
                localize_volume(method, record, preprocess, job, options=options, device=device, stop=stop, observer=observer)
                if summary.stopped:
                    break
                watch(1)
            if summary.stopped:
                break
        status = "preempted" if summary.stopped else "done"
        counts = {"ok": summary.ok, "skipped": summary.skipped, "failed": summary.failed, "reasons": summary.reasons}
        write_json(journal / "status.json", {"status": status, **counts})
    return summary


def torn_files(folder: Path) -> list[Path]:
    """What processes that were killed left half written; only the owner of the folder can tell, since a living one's look the same."""
    return [path for path in folder.rglob(".*") if TORN.fullmatch(path.name)]


def torn_files_of(records: Sequence[Record], out: Path, part: Path) -> list[Path]:
    """The same of one shard: in its own folder and, where its last run did not end in peace, of its images among all results."""
    own = torn_files(part)
    with contextlib.suppress(OSError, ValueError):
        if json.loads((part / "status.json").read_text(encoding="utf-8"))["status"] not in ("done", "preempted"):
            names = {safe_name(record.id) for record in records}
            own += [path for path in torn_files(out) if path.name[1:].split(".", 1)[0] in names]
    return own


def load(record: Record, preprocess: PreprocessConfig, options: ReadOptions, journal: Path, summary: Summary) -> Loaded | None:
    """Read one image, or report why not."""
    try:
        raw = read_image(record.image, options)
        x, geometry = to_model(raw, preprocess, record.intensity_range)
        windows = intensity_windows(raw, preprocess, record.intensity_range)
        native = scale_to_model(raw.pixels, windows).numpy()
        notes = (*raw.notes, *notes_on_channels(windows))
        return Loaded(record, sha256_of(record.image), x, geometry, native, notes, options.frame)
    except MedanomalyError as error:
        report_failure(journal, record, error, summary)
    except (Exception, RecursionError, MemoryError) as error:
        wrapped = InputError(
            f"cannot be read ({type(error).__name__})", code="E_UNREADABLE", path=record.image, fix="check the file"
        )
        report_failure(journal, record, wrapped, summary)
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
    job: Job,
    observer: WalkObserver | None,
) -> Iterator[tuple[Loaded, AnomalyResult]]:
    """(image, its result alone) for each image that fits in memory; the others are reported."""
    for loaded, result in answered(method, batch, device, observer, filled_to=job.filled_to):
        if result is None:
            report_failure(job.journal, loaded.record, memory_short(loaded), job.summary, sha256=loaded.sha256)
        else:
            yield loaded, result

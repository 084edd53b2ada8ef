"""Preprocess many files in several processes: one bad file never stops the job, and a second run does only what is missing."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

from medanomaly.config import to_dict
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.preprocess import ResizeConfig, Work, attempt, failed, stamps_of
from medanomaly.datasets.resample import extent_of, resample_boxes, resample_spacing
from medanomaly.errors import InputError, ResourceError
from medanomaly.evaluation.bulk import locked
from medanomaly.evaluation.job_report import Summary, append_line, finished, report_failure
from medanomaly.files import write_json

RULES = 2
"""Raised whenever the same settings give other pixels: results of older rules are then not taken for done."""
KILLED_ALLOWED = 3
"""Files that may each kill a worker that has nothing else to do before the job gives up on the machine."""


def identity_of(config: ResizeConfig) -> str:
    """Hash of everything but the files themselves that decides the pixels."""
    return hashlib.sha256(json.dumps({"rules": RULES, **to_dict(config)}, sort_keys=True).encode()).hexdigest()[:16]


def preprocess_all(
    works: Sequence[Work],
    out: Path,
    config: ResizeConfig,
    *,
    workers: int = 1,
    overwrite: bool = False,
    stop: Callable[[], bool] = lambda: False,
    watch: Callable[[int], None] = lambda _count: None,
) -> tuple[Summary, list[Record]]:
    """All images and masks below ``out``, and the records of the new images.

    ``report.jsonl`` gets one line an image that was tried, as in :func:`medanomaly.evaluation.bulk.localize_all`, and besides
    ``native_size``, ``spacing_mm``, and ``stamps`` (bytes and time of change of image and mask) by which the next run knows what
    has changed.

    Args:
        works: what to do.
        out: folder; made if missing, one process at a time.
        config: what the images become.
        workers: processes; 1 = this one.
        overwrite: redo a folder that was made with other settings.
        stop: asked between images; True ends the job early, to be continued by the same call.
        watch: told how many images were finished.

    Returns:
        The counts, and a record for each image that is there: paths, boxes and spacing are the new image's, the rest is kept.

    Raises:
        ConfigError: E_CHANGED, the folder holds results of other settings and overwrite is off.
        ResourceError: E_LOCKED, E_OUTPUT, E_DISK_FULL; E_WORKER, three files in this job killed the process that read them.
    """
    summary, identity = Summary(), identity_of(config)
    with locked(out):
        done = finished(out, identity, overwrite=overwrite)
        lines = {work.record.id: done[work.record.id] for work in works if work.record.id in done and is_done(work, done, out)}
        summary.skipped = len(lines)
        watch(summary.skipped)
        pending = [work for work in works if work.record.id not in lines]
        for work, facts in attempts(pending, out, config, workers, stop):
            if facts["status"] == "ok":
                summary.ok += 1
                window = work.record.intensity_range
                line = {"id": work.record.id, **facts, "identity": identity, "intensity_range": window and list(window)}
                append_line(out, line)
                lines[work.record.id] = line
            else:
                error = facts["error"]
                if error["exit_code"] == ResourceError.exit_code:
                    raise ResourceError(error["message"], code=error["code"], path=out, fix=error["fix"])
                said = InputError(error["message"], code=error["code"], path=work.record.image, fix=error["fix"])
                report_failure(out, work.record, said, summary)
            watch(1)
        summary.stopped = len(lines) + summary.failed < len(works)
        counts = {"ok": summary.ok, "skipped": summary.skipped, "failed": summary.failed, "reasons": summary.reasons}
        write_json(out / "status.json", {"status": "preempted" if summary.stopped else "done", **counts})
    records = [new_record(work, lines[work.record.id], out, config) for work in works if work.record.id in lines]
    return summary, records


def is_done(work: Work, done: Mapping[str, Mapping[str, Any]], out: Path) -> bool:
    """True where the same files were read with the same window before, and every output is still there."""
    line, window = done[work.record.id], work.record.intensity_range
    same = line["outputs"] == work.outputs and line.get("intensity_range") == (window and list(window))
    try:
        return same and line.get("stamps") == stamps_of(work) and all((out / name).is_file() for name in work.outputs)
    except OSError:
        return False  # what is wrong with it, reading it again will say


def new_record(work: Work, line: Mapping[str, Any], out: Path, config: ResizeConfig) -> Record:
    """The record of a preprocessed image."""
    rows, columns = line["native_size"]
    extent = extent_of((rows, columns), config.size, config.fit)
    spacing = line["spacing_mm"]
    return replace(
        work.record,
        image=out / work.image_out,
        mask=None if work.mask_out is None else out / work.mask_out,
        boxes=resample_boxes(work.record.boxes, extent),
        spacing_mm=resample_spacing((spacing[0], spacing[1]) if spacing else None, extent),
        # The window is part of the pixels now.
        intensity_low=None,
        intensity_high=None,
    )


def attempts(
    works: Sequence[Work], out: Path, config: ResizeConfig, workers: int, stop: Callable[[], bool]
) -> Iterator[tuple[Work, dict[str, Any]]]:
    """(work, its line) as they are finished; ends early when ``stop`` says so."""
    if workers > 1 and len(works) > 1:
        yield from in_processes(works, out, config, workers, stop)
        return
    for work in works:
        if stop():
            return
        yield work, attempt(work, out, config)


def in_processes(
    works: Sequence[Work], out: Path, config: ResizeConfig, workers: int, stop: Callable[[], bool]
) -> Iterator[tuple[Work, dict[str, Any]]]:
    """As :func:`attempts`, in several processes.

    A process that dies (killed for its memory, or by a decoder's fault) takes its pool with it, and nobody says which file it
    had. All that were in hand are therefore done again, one by one in a process of their own: the guilty one dies again.
    """
    waiting = iter(works)
    num_killed = 0
    while True:
        in_hand: dict[Future[dict[str, Any]], Work] = {}
        unsent: list[Work] = []
        try:
            with pool(workers) as executor:
                while True:
                    while len(in_hand) < 2 * workers and not stop() and (work := next(waiting, None)) is not None:
                        unsent = [work]
                        in_hand[executor.submit(attempt, work, out, config)] = work
                        unsent = []
                    if not in_hand:
                        return
                    for future in wait(in_hand, return_when=FIRST_COMPLETED).done:
                        facts = future.result()
                        yield in_hand.pop(future), facts
        except BrokenProcessPool:
            pass
        for work in [*in_hand.values(), *unsent]:
            # A signal to the whole process group ends the workers as well: then this job was asked to stop.
            if stop():
                return
            facts = alone(work, out, config)
            yield work, facts
            num_killed += facts["reason_code"] == "E_WORKER"
            if num_killed == KILLED_ALLOWED:
                raise ResourceError(
                    f"{num_killed} files killed the process that read them, this one last",
                    code="E_WORKER",
                    path=work.record.image,
                    fix="look for a lack of memory; use fewer workers",
                )


def alone(work: Work, out: Path, config: ResizeConfig) -> dict[str, Any]:
    """The line of one image, made in a process that does nothing else."""
    try:
        with pool(1) as executor:
            return executor.submit(attempt, work, out, config).result()
    except BrokenProcessPool:
        advice = "check the file, and that there is memory enough"
        return failed("killed the process that read it, twice", "E_WORKER", advice, InputError.exit_code)


def pool(workers: int) -> ProcessPoolExecutor:
    """Processes forked from a clean server that has imported the reader once: forking this one would copy its threads' locks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["medanomaly.datasets.preprocess"])
    return ProcessPoolExecutor(workers, mp_context=context, initializer=as_worker)


def as_worker() -> None:
    """A worker leaves Ctrl-C to its parent, and ends with it, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Wait for the parent's end; without it a worker would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

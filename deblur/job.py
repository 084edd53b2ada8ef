"""Deblur many files: one bad file never stops the job, a second run does only what is missing, what is not blurred stays as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from deblur.job_image import DeblurSettings as DeblurSettings
from deblur.job_image import Ready, prepared, written
from deblur.restore import Restored, Restorer
from medanomaly.datasets.manifest import Record
from medanomaly.errors import InputError, MedanomalyError, ResourceError
from medanomaly.evaluation.bulk import locked
from medanomaly.evaluation.bulk_answers import out_of_memory
from medanomaly.evaluation.bulk_lines import Clock
from medanomaly.evaluation.job_report import Summary, append_line, finished, is_done, remove_outputs, report_failure
from medanomaly.files import write_json

RULES = 2
"""Raised whenever the same settings give other pixels: results of older rules are then not taken for done."""


def deblur_all(
    restorer: Restorer,
    records: Sequence[Record],
    out: Path,
    settings: DeblurSettings,
    *,
    device: torch.device | str = "cpu",
    stop: Callable[[], bool] = lambda: False,
    watch: Callable[[int], None] = lambda _count: None,
    begin: Callable[[], None] = lambda: None,
) -> tuple[Summary, dict[str, Mapping[str, Any]]]:
    """Deblur all images into ``out/images``; kernels into ``out/kernels``, deviations of several samples into ``out/std``.

    ``report.jsonl`` gets one line an image that was tried, as in :func:`medanomaly.evaluation.bulk.localize_all`, and besides
    ``outcome`` (deblurred or unchanged), ``deblur`` (kernel, gate, noise and quality) and ``record`` (what changed in the manifest).

    Args:
        restorer: prior or classical solver.
        records: gray images of any size.
        out: folder; made if missing, one process at a time.
        settings: kernel, noise, gate and format.
        device: where the solver computes.
        stop: asked between batches; True ends the job early, to be continued by the same call.
        watch: told how many images were finished.
        begin: called once the folder is known to be free and of these settings, before the first image: writes what the run is.

    Returns:
        The counts, and the line of each image that is there, by id.

    Raises:
        ConfigError: E_CHANGED, the folder holds results of other settings and overwrite is off.
        ResourceError: E_LOCKED, E_OUTPUT, E_DISK_FULL.
    """
    summary = Summary()
    with locked(out):
        done = finished(out, settings.identity, overwrite=settings.overwrite)
        begin()
        write_json(out / "status.json", {"status": "running"})
        lines = {record.id: done[record.id] for record in records if is_there(record, done, out)}
        pending = [record for record in records if record.id not in lines]
        summary.skipped = len(lines)
        watch(summary.skipped)
        for start in range(0, len(pending), settings.batch_size):
            if stop():
                summary.stopped = True
                break
            chunk = pending[start : start + settings.batch_size]
            clock, ready = Clock(), []
            for record in chunk:
                with failures_reported(out, record, summary):
                    ready.append(prepared(record, settings))
            for one, restored in restored_all(restorer, ready, device, out, summary):
                with failures_reported(out, one.picture.record, summary, one.picture.sha256):
                    line = written(out, one, restored, settings, restorer.name, clock.lap())
                    before = done.get(one.picture.record.id, {"outputs": ()})["outputs"]
                    remove_outputs(out, [name for name in before if name not in line["outputs"]])
                    append_line(out, line)
                    lines[one.picture.record.id] = line
                    summary.ok += 1
            watch(len(chunk))
        status = "preempted" if summary.stopped else "done"
        counts = {"ok": summary.ok, "skipped": summary.skipped, "failed": summary.failed, "reasons": summary.reasons}
        write_json(out / "status.json", {"status": status, **counts})
    return summary, lines


def is_there(record: Record, done: Mapping[str, Mapping[str, Any]], out: Path) -> bool:
    """True where the same bytes were done with the same window and pixel spacing before, and every output is still there."""
    given = None if record.spacing_mm is None else list(record.spacing_mm)
    return is_done(record, done, out) and done[record.id].get("spacing_given") == given


@contextlib.contextmanager
def failures_reported(out: Path, record: Record, summary: Summary, sha256: str = "") -> Iterator[None]:
    """Whatever makes one image unusable becomes a line of the report; what makes the job impossible is raised."""
    try:
        yield
    except ResourceError:
        raise
    except MedanomalyError as error:
        report_failure(out, record, error, summary, sha256=sha256)
    except FileNotFoundError:
        report_failure(out, record, InputError("does not exist", code="E_NOT_FOUND", path=record.image, fix="check it"), summary)
    except (Exception, RecursionError) as error:
        said = InputError(f"cannot be deblurred ({type(error).__name__})", code="E_UNREADABLE", path=record.image, fix="check it")
        report_failure(out, record, said, summary, sha256=sha256)


def restored_all(
    restorer: Restorer, ready: Sequence[Ready], device: torch.device | str, out: Path, summary: Summary
) -> Iterator[tuple[Ready, Restored | None]]:
    """(image, its result) of each; None where the plan leaves it alone. Images of one canvas and noise share a batch."""
    groups: dict[tuple[Any, ...], list[Ready]] = {}
    for one in ready:
        if not one.plan.verdict.accepted:
            yield one, None
            continue
        size = (one.picture.y.shape[-2], one.picture.y.shape[-1])
        groups.setdefault((size, restorer.canvas_size(size, one.plan.kernel), one.noise_sd), []).append(one)
    for group in groups.values():
        yield from answered(restorer, group, device, out, summary)


def answered(
    restorer: Restorer, group: Sequence[Ready], device: torch.device | str, out: Path, summary: Summary
) -> Iterator[tuple[Ready, Restored]]:
    """(image, its result alone); a batch that fails is halved, down to the image that is to blame, which is reported."""
    result: Restored | None = None
    fault: MedanomalyError | None = None
    try:
        y = torch.stack([one.picture.y for one in group]).to(device)
        result = restorer.restore(y, [one.plan.kernel for one in group], group[0].noise_sd)
    except InputError as error:
        fault = error
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        fault = InputError("does not fit in memory", code="E_MEMORY", path=group[0].picture.record.image, fix="crop or resize it")
    # Outside of the handler: the exception would keep the memory of the attempt that failed.
    if result is not None:
        for index, one in enumerate(group):
            part = slice(index, index + 1)
            std = None if result.std is None else result.std[part].cpu()
            yield one, Restored(image=result.image[part].cpu(), std=std)
    elif len(group) > 1:
        for half in (group[: len(group) // 2], group[len(group) // 2 :]):
            yield from answered(restorer, half, device, out, summary)
    elif fault is not None:
        report_failure(out, group[0].picture.record, fault, summary, sha256=group[0].picture.sha256)

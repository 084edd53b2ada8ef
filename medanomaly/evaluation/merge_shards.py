"""The report of a whole job from those of its shards: the same bytes, however many there were."""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import shlex
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medanomaly.errors import InputError, ResourceError
from medanomaly.evaluation.bulk import TORN, locked
from medanomaly.evaluation.job_report import Summary, read_report
from medanomaly.evaluation.shards import FOLDER, Shard, parts_of
from medanomaly.files import atomic_write, parse_json, write_json

MERGING = ".merging-"
"""Start of the name of a folder that is there while reports are merged."""


def merge_shards(out: Path) -> Summary:
    """Write ``report.jsonl``, ``run.json``, ``config.json`` and ``status.json`` of a job whose shards are all done.

    The report has one line an image, the last one of its shard's report, sorted by id; ``seconds`` is null in it, since times differ
    from run to run: the shards' own reports keep them. Merging again gives the same bytes.

    Raises:
        InputError: E_SHARD, a shard is missing, not done, or was given other settings or other images; each is named.
        ResourceError: E_LOCKED, a shard is running.
    """
    if not (out / FOLDER).is_dir():
        raise InputError("holds no shards", code="E_SHARD", path=out, fix="name the folder that `localize --shard` wrote to")
    with locked(out):
        # Nobody else writes here: what an interrupted merge has left holds ids.
        for left in out.glob(f"{MERGING}*"):
            shutil.rmtree(left)
        for torn in [path for path in out.glob(".*") if TORN.fullmatch(path.name)]:
            torn.unlink()
        parts = parts_of(out)
        refuse_incomplete(out, parts)
        runs = {shard: content_of(folder / "run.json") for shard, folder in parts.items()}
        refuse_unlike(out, runs)
        summary = total_of([content_of(folder / "status.json") for folder in parts.values()])
        write_merged_report(out, list(parts.values()))
        write_json(out / "config.json", content_of(next(iter(parts.values())) / "config.json"))
        write_json(out / "run.json", merged_run(list(runs.values())))
        counts = {"ok": summary.ok, "skipped": summary.skipped, "failed": summary.failed, "reasons": summary.reasons}
        write_json(out / "status.json", {"status": "done", **counts})
    return summary


def merge_if_complete(out: Path) -> bool:
    """Merge where this was the last shard; False where another one is still to be done, or is just merging."""
    parts = parts_of(out)
    if not parts or missing_of(parts) or any(status_of(folder) != "done" for folder in parts.values()):
        return False
    with contextlib.suppress(ResourceError):
        merge_shards(out)
        return True
    return False


def missing_of(parts: Mapping[Shard, Path]) -> list[Shard]:
    """Shards that have left nothing yet."""
    count = next(iter(parts)).count
    return [shard for number in range(1, count + 1) if (shard := Shard(number, count)) not in parts]


def status_of(part: Path) -> str:
    """running (also what a killed one leaves), done, preempted or failed; "not begun" without a status."""
    return str(content_of(part / "status.json").get("status", "not begun"))


def content_of(path: Path) -> dict[str, Any]:
    """A JSON object; {} where there is none."""
    with contextlib.suppress(OSError, ValueError):
        content = parse_json(path.read_bytes())
        return content if isinstance(content, dict) else {}
    return {}


def refuse_incomplete(out: Path, parts: Mapping[Shard, Path]) -> None:
    """Name every shard that is not there or not done."""
    if not parts:
        raise InputError("holds no shards", code="E_SHARD", path=out, fix="name the folder that `localize --shard` wrote to")
    lacking = [f"{shard} is missing" for shard in missing_of(parts)]
    for shard, folder in parts.items():
        status = status_of(folder)
        if status != "done":
            lacking.append(f"{shard} is {'not finished' if status == 'running' else status}")
    if lacking:
        shown = ", ".join(lacking[:10]) + (f" and {len(lacking) - 10} more" if len(lacking) > 10 else "")
        raise InputError(f"cannot be merged yet: shard {shown}", code="E_SHARD", path=out, fix="run those shards, then merge")


def refuse_unlike(out: Path, runs: Mapping[Shard, Mapping[str, Any]]) -> None:
    """All shards must be of the same weights and settings, and of the same list of images."""
    facts = {shard: (run.get("settings", {}).get("identity"), run.get("data")) for shard, run in runs.items()}
    usual = Counter(json.dumps(fact, sort_keys=True) for fact in facts.values()).most_common(1)[0][0]
    others = [str(shard) for shard, fact in facts.items() if json.dumps(fact, sort_keys=True) != usual]
    if others:
        raise InputError(
            f"shard {', '.join(others[:10])} was made with other weights, settings or images than most",
            code="E_SHARD",
            path=out,
            fix="run it again as the others were, with --overwrite true",
        )


def total_of(statuses: list[dict[str, Any]]) -> Summary:
    """Counts of all shards together."""
    reasons: Counter[str] = Counter()
    for status in statuses:
        reasons.update({str(code): int(count) for code, count in status.get("reasons", {}).items()})
    ok, skipped, failed = (sum(int(status.get(name, 0)) for status in statuses) for name in ("ok", "skipped", "failed"))
    return Summary(ok=ok, skipped=skipped, failed=failed, reasons=dict(sorted(reasons.items())))


def merged_run(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """run.json of the whole: from the first start to the last end, without the option that cut it."""
    words = shlex.split(str(runs[0].get("command", "")))
    if "--shard" in words:
        place = words.index("--shard")
        del words[place : place + 2]
    started = min(float(run["started_unix_s"]) for run in runs)
    finished = max(float(run["finished_unix_s"] or run["started_unix_s"]) for run in runs)
    content = {key: value for key, value in runs[0].items() if key != "shard"} | {"command": shlex.join(words)}
    times = {"started_unix_s": started, "finished_unix_s": finished, "seconds": max(0.0, finished - started)}
    return content | times | {"num_shards": len(runs)}


def write_merged_report(out: Path, parts: list[Path]) -> None:
    """Sort each shard's lines by itself, then merge the sorted files: the memory of one shard, not of all."""
    with tempfile.TemporaryDirectory(prefix=MERGING, dir=out) as folder, contextlib.ExitStack() as stack:
        streams = []
        for number, part in enumerate(parts):
            path = Path(folder, f"{number}.jsonl")
            write_sorted(part / "report.jsonl", path)
            streams.append(keyed(stack.enter_context(open(path, encoding="utf-8"))))
        with atomic_write(out / "report.jsonl") as report:
            # As the shards' own reports: closed to other users of the machine, ids may identify.
            os.fchmod(report.fileno(), 0o640)
            for _, line in heapq.merge(*streams):
                report.write(line.encode())


def write_sorted(report: Path, path: Path) -> None:
    """The last line of each id of a report, without its time, sorted by id."""
    last = {line["id"]: line for line in read_report(report)}
    with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as stream:
        for identifier in sorted(last):
            stream.write(json.dumps(last[identifier] | {"seconds": None}, allow_nan=False) + "\n")


def keyed(stream: Iterator[str]) -> Iterator[tuple[str, str]]:
    """(id, line) of each line."""
    for line in stream:
        yield str(json.loads(line)["id"]), line

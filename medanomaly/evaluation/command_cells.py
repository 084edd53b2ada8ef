"""Cells made by ordinary commands that anybody can run again: what is there is kept, what changed is made anew, a failure is noted."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from medanomaly.datasets.manifest import manifest_fingerprint, read_manifest
from medanomaly.errors import EXIT_PREEMPTED, MedanomalyError, Preempted
from medanomaly.evaluation.benchmark_identity import accepted_identities
from medanomaly.evaluation.measured_command import Ran, run_command
from medanomaly.files import parse_json, safe_name, sha256_of, write_json

Run = Callable[[Sequence[str], Path, Callable[[], bool]], Ran]
"""(words, log file, asked to stop?) -> how it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command of a cell."""

    name: str
    """In cell.json, and of its log file."""
    words: tuple[str, ...]
    """The command without the program's name."""
    reads: tuple[Path, ...] = ()
    """Files, or folders of a checkpoint, that decide what it makes besides its words and the manifest."""
    makes: tuple[Path, ...] = ()
    """Files that are there once it is done."""
    trains: Path | None = None
    """The checkpoint, or its folder, that it makes and goes on with where it stopped; None = it starts anew each time."""
    manifest: str | None = None
    """Whose rows decide what it makes; None = the cell's."""


class CommandCell(Protocol):
    """A few commands, one after the other, about one thing."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What cell.json says of the cell itself."""

    @property
    def steps(self) -> Sequence[Step]:
        """Its commands in order."""

    @property
    def manifest(self) -> str:
        """Whose rows decide what the commands make."""

    @property
    def allow_outside(self) -> bool:
        """The manifest may name files outside of its own folder."""

    @property
    def folder(self) -> Path:
        """Of cell.json and the logs."""

    @property
    def out(self) -> Path:
        """The folder of the whole, in which the folders of its cells lie."""


def path_name(name: str) -> str:
    """A name as it is where it can be one of a folder, else made safe and unique."""
    plain = name.replace("-", "").replace("_", "")
    return name if plain.isascii() and plain.isalnum() else safe_name(name)


def command_text(words: Sequence[str]) -> str:
    """The command as it is typed."""
    return shlex.join(["medanomaly", *words]) if words else ""


def run_cells(
    cells: Sequence[CommandCell],
    *,
    run: Run = lambda words, log, stop: run_command(words, log, stop=stop),
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda _line: None,
) -> list[dict[str, Any]]:
    """Make the cells that are missing or changed; what each one's cell.json then holds, in order.

    A cell that fails is recorded with its message and the others go on.

    Raises:
        Preempted: this process, or the command it ran, was asked to stop; the same call continues.
    """
    used = {(path, c.allow_outside) for c in cells for path in (c.manifest, *(step.manifest or c.manifest for step in c.steps))}
    fingerprints = {path: fingerprint_of(path, outside) for path, outside in used}
    found = []
    for cell in cells:
        if stop():
            raise stopped(cell)
        found.append(made(cell, fingerprints, run=run, stop=stop, say=say))
    return found


def fingerprint_of(manifest: str, allow_outside: bool) -> str:
    """Of a manifest's rows; "" where it cannot be read, which the cells' own commands will say."""
    with contextlib.suppress(MedanomalyError):
        return manifest_fingerprint(read_manifest(Path(manifest), allow_outside=allow_outside))
    return ""


def made(
    cell: CommandCell, fingerprints: Mapping[str, str], *, run: Run, stop: Callable[[], bool], say: Callable[[str], None]
) -> dict[str, Any]:
    """One cell: kept where nothing that decides it has changed, else run."""
    record = read_cell(cell.folder)
    fresh: dict[str, Any] = {
        **cell.facts,
        "manifest_sha256": fingerprints[cell.manifest],
        "commands": [command_text(step.words) for step in cell.steps],
        "status": "running",
        "message": "",
        "steps": {},
    }
    for step in cell.steps:
        recorded = record.get("commands", [])
        weights, fingerprint = ",".join(map(weights_hash, step.reads)), fingerprints[step.manifest or cell.manifest]
        identity, *older = accepted_identities(step.words, recorded, cell.out, fingerprint=fingerprint, weights=weights)
        earlier = record.get("steps", {}).get(step.name, {})
        same = earlier.get("identity") in (identity, *older)
        if same and earlier.get("status") == "done" and is_there(step, earlier):
            fresh["steps"][step.name] = earlier | {"identity": identity}
            continue
        say(f"{cell.name}: {step.name}")
        # Training goes on where it stopped, so what that took counts too; of an attempt that was killed nothing is known.
        goes_on = step.trains is not None and same and earlier.get("status") in ("stopped", "failed", "running")
        before = earlier if goes_on else {}
        entry: dict[str, Any] = {"identity": identity, "status": "running", "interrupted": bool(before.get("interrupted"))}
        entry["interrupted"] |= before.get("status") == "running"
        entry |= {key: before.get(key, 0.0) for key in ("seconds", "cpu_seconds", "peak_mib")}
        fresh["steps"][step.name] = entry
        write_json(cell.folder / "cell.json", fresh)
        ended = run(step.words, cell.folder / f"{step.name}.log", stop)
        entry["seconds"] += ended.seconds
        entry["cpu_seconds"] += ended.cpu_seconds
        entry["peak_mib"] = max(entry["peak_mib"], ended.peak_mib)
        polite = ended.stopped or ended.code == EXIT_PREEMPTED
        entry["status"] = "done" if ended.code == 0 else "stopped" if polite else "failed"
        entry["exit_code"] = ended.code
        if ended.code == 0:
            entry["weights_sha256"] = weights if step.trains is None else weights_hash(step.trains)
            continue
        fresh |= {"status": entry["status"], "message": f"{step.name}: {ended.message or f'exit code {ended.code}'}"}
        write_json(cell.folder / "cell.json", fresh)
        if polite:
            raise stopped(cell)
        say(f"{cell.name}: failed, {fresh['message']}")
        return fresh
    fresh["status"] = "done"
    if fresh != record:
        write_json(cell.folder / "cell.json", fresh)
    return fresh


def is_there(step: Step, entry: Mapping[str, Any]) -> bool:
    """Whether what a finished step made still lies where it was: the same weights, and its files."""
    same = step.trains is None or weights_hash(step.trains) == entry.get("weights_sha256") != ""
    return same and all(path.is_file() for path in step.makes)


def weights_hash(weights: Path) -> str:
    """SHA-256 of a file, or of the weights in a folder; "" where there are none."""
    file = weights / "model.safetensors" if weights.is_dir() else weights
    return sha256_of(file) if file.is_file() else ""


def read_cell(folder: Path) -> dict[str, Any]:
    """cell.json; {} where there is none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        content = parse_json((folder / "cell.json").read_bytes())
        return content if isinstance(content, dict) else {}
    return {}


def stopped(cell: CommandCell) -> Preempted:
    """What to say when the job ends early."""
    return Preempted(f"stopped at {cell.name}", code="E_PREEMPTED", fix="run the same command again to continue")


def say_on_stderr(line: str) -> None:
    """One line at a time, as it happens."""
    print(line, file=sys.stderr, flush=True)

"""Cells of a benchmark: a method on a set with a seed, made by two ordinary commands that anybody can run again."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medanomaly.datasets.manifest import manifest_fingerprint, read_manifest
from medanomaly.errors import EXIT_PREEMPTED, MedanomalyError, Preempted
from medanomaly.evaluation.benchmark_config import BenchmarkConfig, MethodEntry, SetConfig
from medanomaly.evaluation.benchmark_identity import accepted_identities
from medanomaly.evaluation.measured_command import Ran, run_command
from medanomaly.files import safe_name, sha256_of, write_json

Run = Callable[[Sequence[str], Path, Callable[[], bool]], Ran]
"""(words, log file, asked to stop?) -> how it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One method on one set with one seed."""

    set: SetConfig
    method: MethodEntry
    seed: int | None
    """None = weights that are only measured."""
    floors: bool
    """This cell measures the floors too: the main method's first one of a set does."""
    train: tuple[str, ...]
    """Words of the training command; () = nothing is trained."""
    evaluate: tuple[str, ...]
    """Words of the evaluation command."""
    weights: Path
    """What is evaluated: a checkpoint or its folder."""
    folder: Path
    """The evaluation, and cell.json."""
    out: Path
    """The benchmark's folder, in which the folders of its cells lie."""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.set.name} / {self.method.name}" + (f" / seed {self.seed}" if self.seed is not None else "")


def cells_of(config: BenchmarkConfig, out: Path, *, resolve: Callable[[Path], Path] = lambda path: path) -> list[Cell]:
    """The cells in the order in which they are run: a set's main method first, because it measures the floors.

    Args:
        config: the benchmark.
        out: its folder.
        resolve: from the name of shipped weights to their file.
    """
    made = []
    for chosen, method, seed in config.cells():
        place = Path(path_name(chosen.name)) / (path_name(method.name) + (f"-seed{seed}" if seed is not None else ""))
        run, folder = out / "runs" / place, out / "evaluations" / place
        named = run if method.checkpoint is None else Path(method.checkpoint)
        outside = ("--allow_outside", "true") if chosen.allow_outside else ()
        device = () if config.device == "auto" else ("--device", config.device)
        train: tuple[str, ...] = ()
        if method.preset is not None:
            place_words = ("--data", chosen.manifest, "--out", str(run), "--training.seed", str(seed))
            train = ("train", method.preset, *place_words, *outside, *device, *method.words())
        floors = method.name == config.main and seed in (None, config.seeds[0])
        limits = [(key, getattr(chosen, key)) for key in ("max_images", "max_val_images")]
        evaluate = (
            *("evaluate", str(named), chosen.manifest, str(folder), "--title", chosen.title or chosen.name),
            *("--floors", json.dumps(floors), "--num_resamples", str(config.num_resamples)),
            *(word for key, value in limits if value for word in (f"--{key}", str(value))),
            *(*outside, *device, "--quiet", "true", "--table", "false", "--overwrite", "true"),
        )
        made.append(
            Cell(
                set=chosen,
                method=method,
                seed=seed,
                floors=floors,
                train=train,
                evaluate=evaluate,
                weights=named if method.checkpoint is None else resolve(named),
                folder=folder,
                out=out,
            )
        )
    return made


def path_name(name: str) -> str:
    """A name as it is where it can be one of a folder, else made safe and unique."""
    plain = name.replace("-", "").replace("_", "")
    return name if plain.isascii() and plain.isalnum() else safe_name(name)


def command_text(words: Sequence[str]) -> str:
    """The command as it is typed."""
    return shlex.join(["medanomaly", *words]) if words else ""


def run_cells(
    cells: Sequence[Cell],
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
    fingerprints = {
        path: fingerprint_of(path, outside) for path, outside in {(c.set.manifest, c.set.allow_outside) for c in cells}
    }
    found = []
    for cell in cells:
        if stop():
            raise stopped(cell)
        found.append(made(cell, fingerprints[cell.set.manifest], run=run, stop=stop, say=say))
    return found


def fingerprint_of(manifest: str, allow_outside: bool) -> str:
    """Of a manifest's rows; "" where it cannot be read, which the cells' own commands will say."""
    with contextlib.suppress(MedanomalyError):
        return manifest_fingerprint(read_manifest(Path(manifest), allow_outside=allow_outside))
    return ""


def made(cell: Cell, fingerprint: str, *, run: Run, stop: Callable[[], bool], say: Callable[[str], None]) -> dict[str, Any]:
    """One cell: kept where nothing that decides it has changed, else run."""
    record = read_cell(cell.folder)
    fresh: dict[str, Any] = {
        "set": cell.set.name,
        "method": cell.method.name,
        "seed": cell.seed,
        "manifest_sha256": fingerprint,
        "commands": [command_text(words) for words in (cell.train, cell.evaluate) if words],
        "status": "running",
        "message": "",
        "steps": {},
    }
    for step, words in (("train", cell.train), ("evaluate", cell.evaluate)):
        if not words:
            continue
        weights = weights_hash(cell.weights) if step == "evaluate" else ""
        recorded = record.get("commands", [])
        identity, *older = accepted_identities(words, recorded, cell.out, fingerprint=fingerprint, weights=weights)
        earlier = record.get("steps", {}).get(step, {})
        same = earlier.get("identity") in (identity, *older)
        if same and earlier.get("status") == "done" and is_there(cell, step, earlier):
            fresh["steps"][step] = earlier | {"identity": identity}
            continue
        say(f"{cell.name}: {step}")
        # Training goes on where it stopped, so what that took counts too; of an attempt that was killed nothing is known.
        before = earlier if step == "train" and same and earlier.get("status") in ("stopped", "failed", "running") else {}
        entry: dict[str, Any] = {"identity": identity, "status": "running", "interrupted": bool(before.get("interrupted"))}
        entry["interrupted"] |= before.get("status") == "running"
        entry |= {key: before.get(key, 0.0) for key in ("seconds", "cpu_seconds", "peak_mib")}
        fresh["steps"][step] = entry
        write_json(cell.folder / "cell.json", fresh)
        ended = run(words, cell.folder / f"{step}.log", stop)
        entry["seconds"] += ended.seconds
        entry["cpu_seconds"] += ended.cpu_seconds
        entry["peak_mib"] = max(entry["peak_mib"], ended.peak_mib)
        polite = ended.stopped or ended.code == EXIT_PREEMPTED
        entry["status"] = "done" if ended.code == 0 else "stopped" if polite else "failed"
        entry["exit_code"] = ended.code
        if ended.code == 0:
            entry["weights_sha256"] = weights_hash(cell.weights)
            continue
        fresh |= {"status": entry["status"], "message": f"{step}: {ended.message or f'exit code {ended.code}'}"}
        write_json(cell.folder / "cell.json", fresh)
        if polite:
            raise stopped(cell)
        say(f"{cell.name}: failed, {fresh['message']}")
        return fresh
    fresh["status"] = "done"
    if fresh != record:
        write_json(cell.folder / "cell.json", fresh)
    return fresh


def is_there(cell: Cell, step: str, entry: Mapping[str, Any]) -> bool:
    """Whether what a finished step made still lies where it was: the same weights, or the evaluation."""
    if step == "train":
        return weights_hash(cell.weights) == entry.get("weights_sha256") != ""
    return (cell.folder / "evaluation.json").is_file() and (cell.folder / "images.csv").is_file()


def weights_hash(weights: Path) -> str:
    """SHA-256 of the weights; "" where there are none."""
    file = weights / "model.safetensors" if weights.is_dir() else weights
    return sha256_of(file) if file.is_file() else ""


def read_cell(folder: Path) -> dict[str, Any]:
    """cell.json; {} where there is none that can be read."""
    with contextlib.suppress(OSError, json.JSONDecodeError):
        content = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}


def stopped(cell: Cell) -> Preempted:
    """What to say when the job ends early."""
    return Preempted(f"stopped at {cell.name}", code="E_PREEMPTED", fix="run the same command again to continue")


def say_on_stderr(line: str) -> None:
    """One line at a time, as it happens."""
    print(line, file=sys.stderr, flush=True)

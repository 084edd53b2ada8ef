"""Cells of a benchmark: a method on a set with a seed, made by two ordinary commands that anybody can run again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medanomaly.evaluation.benchmark_config import BenchmarkConfig, MethodEntry, SetConfig
from medanomaly.evaluation.command_cells import Step, path_name


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

    @property
    def facts(self) -> Mapping[str, Any]:
        """What cell.json says of the cell itself."""
        return {"set": self.set.name, "method": self.method.name, "seed": self.seed}

    @property
    def manifest(self) -> str:
        """Of the set."""
        return self.set.manifest

    @property
    def allow_outside(self) -> bool:
        """As the set says."""
        return self.set.allow_outside

    @property
    def steps(self) -> Sequence[Step]:
        """Training, where there is one, and evaluation."""
        made = tuple(self.folder / name for name in ("evaluation.json", "images.csv"))
        evaluate = Step(name="evaluate", words=self.evaluate, reads=(self.weights,), makes=made)
        train = Step(name="train", words=self.train, trains=self.weights, manifest=self.set.train_manifest or None)
        return [train, evaluate] if self.train else [evaluate]


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
            place_words = ("--data", chosen.train_manifest or chosen.manifest, "--out", str(run), "--training.seed", str(seed))
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

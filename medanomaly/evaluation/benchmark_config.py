"""What a benchmark is: sets, methods and seeds. Every method runs on every set, split and protocol alike."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medanomaly.config import from_dict, read_plan
from medanomaly.errors import ConfigError

DECIDED = ("data", "out", "config", "allow_outside", "training.seed", "device")
"""Options of ``train`` that the benchmark itself decides."""


@dataclass(frozen=True, kw_only=True)
class SetConfig:
    """One data set."""

    name: str
    manifest: str
    """CSV with train, val and test rows; a path as on the command line."""
    train_manifest: str = ""
    """Methods are trained on the train and val rows of this one instead, and measured on ``manifest``; "" = the same."""
    title: str = ""
    """In tables; default: the name."""
    allow_outside: bool = False
    """The manifest may name files outside of its own folder."""
    max_images: int = 0
    """Measure only this many test images, spread over the ids; 0 = all."""
    max_val_images: int = 0
    """Choose thresholds on only this many val images; 0 = all."""

    def __post_init__(self) -> None:
        for key in ("max_images", "max_val_images"):
            if getattr(self, key) < 0:
                raise ConfigError(f"sets: {key} of {self.name!r} must not be negative", code="E_CONFIG", fix="0 means all")


@dataclass(frozen=True, kw_only=True)
class MethodEntry:
    """One method: trained here from a preset, or weights that are only measured."""

    name: str
    preset: str | None = None
    """Name of a preset of ``medanomaly train``."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of that command, e.g. ``{method.sampler.noise_level: 250, training.num_steps: 5000}``."""
    checkpoint: str | None = None
    """model.safetensors, its folder, or the name of shipped weights: nothing is trained."""
    only: tuple[str, ...] = ()
    """Sets it runs on; () = all."""
    tried_on_validation: int | None = None
    """Settings that were compared on validation images before these were taken, as its author counts; None = not stated."""

    def __post_init__(self) -> None:
        if (self.preset is None) == (self.checkpoint is None):
            raise ConfigError(f"methods: {self.name!r} needs either a preset or a checkpoint", code="E_CONFIG", fix="name one")
        if not isinstance(self.options, dict) or not all(isinstance(key, str) for key in self.options):
            raise ConfigError(f"methods: options of {self.name!r} must map option names to values", code="E_CONFIG")
        if self.checkpoint is not None and self.options:
            raise ConfigError(
                f"methods: {self.name!r} has options but its checkpoint is only measured", code="E_CONFIG", fix="leave them out"
            )
        for key, value in self.options.items():
            if key.replace("-", "_") in DECIDED:
                raise ConfigError(
                    f"methods: option {key!r} of {self.name!r} is decided by the benchmark", code="E_CONFIG", fix="leave it out"
                )
            if isinstance(value, dict):
                raise ConfigError(
                    f"methods: option {key!r} of {self.name!r} must be a value", code="E_CONFIG", fix=f"write {key}.NAME: value"
                )

    def words(self) -> list[str]:
        """The options as on the command line; lists, booleans and null in JSON, which is what the parser reads."""
        found = []
        for key, value in self.options.items():
            found += [f"--{key.removeprefix('--')}", value if isinstance(value, str) else json.dumps(value)]
        return found


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """A benchmark, as its file holds it."""

    title: str
    main: str
    """The method that the others are compared with; runs on every set."""
    sets: tuple[SetConfig, ...]
    methods: tuple[MethodEntry, ...]
    seeds: tuple[int, ...] = (0,)
    """Of training; weights that are only measured have none. Tables and p-values are of the first, the others show the spread."""
    num_resamples: int = 1000
    """Of the bootstrap over patients."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""

    def __post_init__(self) -> None:
        for kind, names in (("sets", [one.name for one in self.sets]), ("methods", [one.name for one in self.methods])):
            if not names:
                raise ConfigError(f"{kind} is empty", code="E_CONFIG", fix="list at least one")
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise ConfigError(f"{kind}: {twice[0]!r} is there twice", code="E_CONFIG", fix="give each its own name")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ConfigError(f"seeds must be different numbers, got {list(self.seeds)}", code="E_CONFIG")
        if self.num_resamples < 1:
            raise ConfigError(f"num_resamples must be at least 1, got {self.num_resamples}", code="E_CONFIG")
        refuse_unknown("main", self.main, [one.name for one in self.methods])
        for method in self.methods:
            for name in method.only:
                refuse_unknown(f"methods: only of {method.name!r}", name, [one.name for one in self.sets])
        if self.main_method.only:
            raise ConfigError(f"main method {self.main!r} must run on every set", code="E_CONFIG", fix="leave out its `only`")

    @property
    def main_method(self) -> MethodEntry:
        """The entry that ``main`` names."""
        return next(one for one in self.methods if one.name == self.main)

    def cells(self) -> Iterator[tuple[SetConfig, MethodEntry, int | None]]:
        """(set, method, seed) of each cell, the main method first in each set; seed None = weights that are only measured."""
        for chosen in self.sets:
            for method in sorted(self.methods, key=lambda one: one.name != self.main):
                if not method.only or chosen.name in method.only:
                    yield from ((chosen, method, seed) for seed in (self.seeds if method.checkpoint is None else (None,)))


def refuse_unknown(where: str, name: str, known: Collection[str]) -> None:
    """ConfigError with the nearest known name."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        fix = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise ConfigError(f"{where}: {name!r} is unknown", code="E_CONFIG", fix=fix)


def read_benchmark(path: Path, *, presets: Sequence[str], models: Collection[str] = ()) -> BenchmarkConfig:
    """A benchmark from YAML or JSON.

    Args:
        path: the file.
        presets: names that ``preset`` may have.
        models: names of presets that localize nothing, for a clearer refusal.

    Raises:
        InputError: E_MISSING.
        ConfigError: not YAML, a key that is unknown (with the nearest known one), a preset that localizes nothing (E_KIND), or
            anything that cannot be.
    """
    made = from_dict(BenchmarkConfig, read_plan(path, "a benchmark", "benchmarks/phantom64.yaml"), "benchmark")
    for method in made.methods:
        if method.preset in models:
            raise ConfigError(
                f"methods: preset of {method.name!r}: {method.preset} is a diffusion model, which localizes nothing",
                code="E_KIND",
                path=path,
                fix="leave it out; medanomaly train takes it",
            )
        if method.preset is not None:
            refuse_unknown(f"methods: preset of {method.name!r}", method.preset, presets)
    return made

"""What an ablation is: one preset on one manifest, once for every combination of a grid of settings."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medanomaly.config import from_dict, read_plan
from medanomaly.errors import ConfigError
from medanomaly.evaluation.benchmark_config import refuse_unknown

OF_EVERY_COMMAND = ("out", "allow_outside", "overwrite", "device", "quiet", "visdom", "config")
DECIDED: Mapping[str, tuple[str, ...]] = {
    "options": ("data", *OF_EVERY_COMMAND),
    "grid": ("data", *OF_EVERY_COMMAND),
    "likelihood": ("model", "data", "title", *OF_EVERY_COMMAND),
    "generate": ("model", "gif", *OF_EVERY_COMMAND),
    "evaluate_samples": ("samples", "reference", "features", "channels", "title", *OF_EVERY_COMMAND),
}
"""Options of the commands that the ablation itself decides, by the key of the plan that may not name them."""
MOST_CELLS = 200
"""More are a slip of the pen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One setting that varies."""

    option: str
    """Of ``medanomaly train``."""
    name: str
    """In tables: the option's last word that says something."""
    values: tuple[tuple[str, Any], ...]
    """(name in tables, value) each."""


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """An ablation, as its file holds it."""

    title: str
    preset: str
    """A diffusion model's, of ``medanomaly train``."""
    manifest: str
    """CSV with train, val and test rows; a path as on the command line."""
    grid: dict[str, Any]
    """Option of ``train`` -> list of values, or mapping of a name for tables to a value; every combination is a cell."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of ``train`` for every cell, e.g. ``{training.num_steps: 5000}``."""
    features: str = "pixels"
    """What FID and KID compare images by, as for ``medanomaly evaluate-samples``; a path as on the command line."""
    likelihood: dict[str, Any] = field(default_factory=dict)
    """Options of that command, e.g. ``{num_levels: 100}``."""
    generate: dict[str, Any] = field(default_factory=dict)
    """Options of that command, e.g. ``{num_images: 500, sampler: ddpm}``."""
    evaluate_samples: dict[str, Any] = field(default_factory=dict)
    """Options of that command."""
    allow_outside: bool = False
    """The manifest may name files outside of its own folder."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""

    def __post_init__(self) -> None:
        for where, decided in DECIDED.items():
            refuse_options(where, getattr(self, where), decided)
        if not self.grid:
            raise ConfigError("grid is empty", code="E_CONFIG", fix="name at least one option with its values")
        both = sorted(set(map(plain, self.grid)) & set(map(plain, self.options)))
        if both:
            raise ConfigError(f"{both[0]!r} is in options and in grid", code="E_CONFIG", fix="leave it in one of them")
        count = len(self.settings())
        if count > MOST_CELLS:
            raise ConfigError(
                f"grid has {count} cells, more than {MOST_CELLS}", code="E_CONFIG", fix="split it into several plans"
            )

    @property
    def axes(self) -> tuple[Axis, ...]:
        """What varies, in the order of the file; where two options would get the same name both keep their whole one.

        Raises:
            ConfigError: an axis without values, with a value twice, or with a name that YAML took for something else.
        """
        names = [short_name(option) for option in self.grid]
        return tuple(
            Axis(
                option=option, name=name if names.count(name) == 1 else plain(option), values=values_of(option, self.grid[option])
            )
            for name, option in zip(names, self.grid, strict=True)
        )

    def settings(self) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
        """(names of its values, its options of ``train``) for each cell; the last axis varies fastest."""
        axes = self.axes
        return [
            (
                tuple(name for name, _ in chosen),
                {plain(axis.option): value for axis, (_, value) in zip(axes, chosen, strict=True)},
            )
            for chosen in itertools.product(*(axis.values for axis in axes))
        ]


def plain(option: str) -> str:
    """An option's name as the config's fields have it."""
    return option.removeprefix("--").replace("-", "_")


def short_name(option: str) -> str:
    """``method.schedule.name`` -> schedule, ``method.network.attention`` -> attention."""
    parts = plain(option).split(".")
    return parts[-2] if parts[-1] == "name" and len(parts) > 1 else parts[-1]


def values_of(option: str, given: Any) -> tuple[tuple[str, Any], ...]:
    """(name, value) of each value of an axis."""
    if not isinstance(given, list | dict) or not given:
        raise ConfigError(
            f"grid: {option!r} must be a list of values, or names with values", code="E_CONFIG", fix="write [first, second]"
        )
    found = list(given.items()) if isinstance(given, dict) else [(text_of(value), value) for value in given]
    for name, _ in found:
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(
                f"grid: {option!r} has the name {name!r}, which is no text",
                code="E_CONFIG",
                fix='quote it: YAML reads off as "false"',
            )
    written = [json.dumps(value) for _, value in found]
    if len(set(written)) < len(written) or len({name for name, _ in found}) < len(found):
        raise ConfigError(f"grid: {option!r} has a value twice", code="E_CONFIG", fix="leave one out")
    return tuple(found)


def text_of(value: Any) -> str:
    """A value as on the command line; lists, booleans and null in JSON, which is what the parser reads."""
    return value if isinstance(value, str) else json.dumps(value)


def words_of(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Options as on the command line."""
    return tuple(word for key, value in options.items() for word in (f"--{plain(key)}", text_of(value)))


def refuse_options(where: str, options: Any, decided: Collection[str]) -> None:
    """ConfigError for anything but option names with values, and for an option that the ablation decides."""
    if not isinstance(options, dict) or not all(isinstance(key, str) for key in options):
        raise ConfigError(f"{where} must map option names to values", code="E_CONFIG")
    for key, value in options.items():
        if plain(key) in decided:
            raise ConfigError(f"{where}: {key!r} is decided by the ablation", code="E_CONFIG", fix="leave it out")
        if isinstance(value, dict) and where != "grid":
            raise ConfigError(f"{where}: {key!r} must be a value", code="E_CONFIG", fix=f"write {key}.NAME: value")


def read_ablation(path: Path, *, presets: Sequence[str], others: Collection[str] = ()) -> AblationConfig:
    """An ablation from YAML or JSON.

    Args:
        path: the file.
        presets: of diffusion models.
        others: presets of what is none, for a clearer refusal.

    Raises:
        InputError: E_MISSING.
        ConfigError: not YAML, a key that is unknown (with the nearest known one), a preset of no diffusion model (E_KIND), or
            anything that cannot be.
    """
    made = from_dict(AblationConfig, read_plan(path, "an ablation", "benchmarks/digits-ablation.yaml"), "ablation")
    if made.preset in others:
        raise ConfigError(
            f"preset: {made.preset} is no diffusion model, so it draws no images",
            code="E_KIND",
            path=path,
            fix="name e.g. mnist-ddpm",
        )
    refuse_unknown("preset", made.preset, presets)
    return made

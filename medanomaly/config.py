"""Frozen dataclasses to JSON and back, refusing what they do not know."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml  # type: ignore[import-untyped]

from medanomaly.errors import ConfigError, InputError

T = TypeVar("T")
MAX_FILE_BYTES = 2**20
MAX_DEPTH = 50
MAX_ENTRIES = 100_000
"""Of a file of settings, aliases counted as often as they stand; a hundred lines are usual."""


def read_settings(path: Path) -> Any:
    """Content of a YAML or JSON file of settings; nothing in it is executed, and it cannot unfold into more than it seems to be.

    Raises:
        ConfigError: E_CONFIG, it is none, too long, nested too deep, or its aliases multiply.
    """
    fix = "mend the file"
    content = path.read_bytes()[: MAX_FILE_BYTES + 1]
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError("is longer than a file of settings can be", code="E_CONFIG", path=path, fix=fix)
    # PyYAML takes minutes to find that brackets nest too deep for it.
    if content.count(b"[") + content.count(b"{") > MAX_DEPTH and bracket_depth(content) > MAX_DEPTH:
        raise ConfigError("is nested too deep", code="E_CONFIG", path=path, fix=fix)
    try:
        tree = yaml.safe_load(content.decode("utf-8"))
    # PyYAML raises IndexError, KeyError, ValueError, AttributeError and RecursionError besides its own.
    except Exception as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"is not YAML or JSON ({ascii(text)[1:-1][:200]})", code="E_CONFIG", path=path, fix=fix) from error
    if num_entries(tree, MAX_DEPTH) > MAX_ENTRIES:
        raise ConfigError("its aliases hold each other, or multiply", code="E_CONFIG", path=path, fix="write values out")
    return tree


def read_plan(path: Path, what: str, example: str) -> dict[str, Any]:
    """Keys and values of a file that describes a job.

    Args:
        path: YAML or JSON.
        what: it should be, e.g. ``benchmark``.
        example: one of the repository to look at.

    Raises:
        InputError: E_MISSING.
        ConfigError: E_CONFIG, as :func:`read_settings`, or something else than keys and values.
    """
    if not path.is_file():
        raise InputError("is not a file", code="E_MISSING", path=path, fix=f"name the YAML or JSON file of {what}")
    content = read_settings(path)
    if not isinstance(content, dict):
        raise ConfigError("must hold keys and values", code="E_CONFIG", path=path, fix=f"see {example}")
    return content


def bracket_depth(content: bytes) -> int:
    """How deep brackets and braces are nested at most, wherever they stand."""
    depth = deepest = 0
    for byte in content:
        depth += (byte in b"[{") - (byte in b"]}")
        deepest = max(deepest, depth)
    return deepest


def num_entries(tree: Any, depth: int) -> float:
    """Entries of nested lists and mappings, shared ones counted as often as they are reached; infinite beyond a depth."""
    counted: dict[tuple[int, int], float] = {}

    def count(node: Any, left: int) -> float:
        if not isinstance(node, dict | list | set | tuple):
            return 1
        if left == 0:
            return float("inf")
        key = (id(node), left)
        if key not in counted:
            values = node.values() if isinstance(node, dict) else node
            counted[key] = 1 + sum(count(value, left - 1) for value in values)
        return counted[key]

    return count(tree, depth)


def to_dict(config: Any) -> Any:
    """Plain dicts, lists and scalars of a (nested) dataclass."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: to_dict(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, list | tuple):
        return [to_dict(value) for value in config]
    return config


def from_dict(cls: type[T], content: Mapping[str, Any], where: str = "config") -> T:
    """Undo of :func:`to_dict`.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a missing one without default, or a value of the wrong type.
    """
    hints = typing.get_type_hints(cls)
    known = {field.name for field in dataclasses.fields(typing.cast(Any, cls))}
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            fix = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(sorted(known))}"
            raise ConfigError(f"unknown key {where}.{key}", code="E_CONFIG", fix=fix)
    for field in dataclasses.fields(typing.cast(Any, cls)):
        if field.name not in content and field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where}.{field.name} is missing", code="E_CONFIG")
    return cls(**{key: convert(hints[key], value, f"{where}.{key}") for key, value in content.items()})


def convert(hint: Any, value: Any, where: str) -> Any:
    """``value`` from JSON as ``hint`` wants it."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be an object, got {value!r}", code="E_CONFIG")
        return from_dict(hint, value, where)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        inner = [arg for arg in args if arg is not type(None)]
        return convert(inner[0], value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} must be a list, got {value!r}", code="E_CONFIG")
        inner = [args[0]] * len(value) if len(args) == 2 and args[1] is Ellipsis else list(args)
        if len(inner) != len(value):
            raise ConfigError(f"{where} must have {len(inner)} entries, got {len(value)}", code="E_CONFIG")
        return tuple(convert(kind, item, where) for kind, item in zip(inner, value, strict=True))
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{where} must be one of {', '.join(map(str, args))}, got {value!r}", code="E_CONFIG")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and (not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)):
        raise ConfigError(f"{where} must be of type {hint.__name__}, got {value!r}", code="E_CONFIG")
    return value

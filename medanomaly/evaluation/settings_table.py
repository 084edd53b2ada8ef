"""Settings, versions and provenance of a run as tables of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medanomaly.views.report import Table


def settings_tables(config: Mapping[str, Any] | None) -> list[Table]:
    """One folded table with every setting of an experiment; [] where there is none."""
    if not config:
        return []
    rows = [[name, text(value)] for name, value in flattened(config)]
    return [Table(title="Settings", columns=["setting", "value"], rows=rows, folded=True)]


def flattened(content: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """(``method.sampler.noise_level``, value) of nested mappings, in their order."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def text(value: Any) -> str:
    """A value as it is typed: null, true, 0.5, [1, 2]."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(text, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def run_facts(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of a run.json for the foot of a page: what made it, when, with which versions; old ones may have less."""
    environment = run.get("environment") or {}
    packages = environment.get("packages") or {}
    data = run.get("data") or {}
    seconds = run.get("seconds")
    found = {
        "command": run.get("command"),
        "commit": environment.get("git_commit"),
        "medanomaly": environment.get("medanomaly"),
        "python": environment.get("python"),
        "versions": ", ".join(f"{name} {version}" for name, version in packages.items()),
        "machine": f"{environment['machine']}, {environment.get('threads', '?')} threads" if "machine" in environment else None,
        "device": run.get("device"),
        "seed": run.get("seed"),
        "manifest SHA-256": data.get("manifest_sha256"),
        "weights SHA-256": run.get("weights_sha256"),
        "time": None if seconds is None else f"{seconds:,.0f} s",
    }
    return [(name, str(value)) for name, value in found.items() if value not in (None, "")]

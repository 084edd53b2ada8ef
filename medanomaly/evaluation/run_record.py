"""run.json, written when a run begins and completed when it ends: what was asked, of what, with which versions, how long."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import shlex
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medanomaly.datasets.manifest import Record, manifest_fingerprint
from medanomaly.evaluation.run_schema import FORMAT_VERSION, config_sha256
from medanomaly.files import parse_json, write_json


def begin_run(
    out: Path,
    kind: str,
    *,
    command: str,
    config: Mapping[str, Any],
    data: Mapping[str, Any],
    seed: int | None,
    device: object,
    environment: Mapping[str, Any],
    started_unix_s: float | None = None,
    **facts: Any,
) -> None:
    """Write ``config.json`` and a ``run.json`` without an end.

    Args:
        out: the run's folder.
        kind: of :data:`medanomaly.evaluation.run_schema.KINDS`.
        command: as typed, see :func:`command_text`.
        config: content of config.json.
        data: see :func:`data_facts`.
        seed: the one seed of the run; None = nothing is drawn at random.
        device: where it computes.
        environment: versions, see :func:`medanomaly.training.log.environment`.
        started_unix_s: where the run began before it was known to be allowed; None = now.
        facts: what this kind adds.
    """
    write_json(out / "config.json", config)
    content = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "command": command,
        "seed": seed,
        # Of the content as JSON has it: a tuple is a list there.
        "config_sha256": config_sha256(json.loads((out / "config.json").read_text(encoding="utf-8"))),
        "data": dict(data),
        "device": str(device),
        "environment": dict(environment),
        "started_unix_s": time.time() if started_unix_s is None else started_unix_s,
        "finished_unix_s": None,
        "seconds": None,
        **facts,
    }
    write_json(out / "run.json", content)


def end_run(out: Path, **facts: Any) -> None:
    """Add the end, the seconds since the (last) start, and what only the end knows; a folder without run.json is left alone."""
    with contextlib.suppress(OSError, ValueError):
        content = parse_json((out / "run.json").read_bytes())
        now = time.time()
        write_json(
            out / "run.json", content | {"finished_unix_s": now, "seconds": max(0.0, now - content["started_unix_s"]), **facts}
        )


def data_facts(records: Sequence[Record], *, is_manifest: bool = True) -> dict[str, Any]:
    """Fingerprint of a manifest, of its split, and the images in each split; a folder of images has counts only."""
    splits = sorted((record.id, record.patient_id, record.split or "") for record in records)
    return {
        "manifest_sha256": manifest_fingerprint(records) if is_manifest else None,
        "split_sha256": hashlib.sha256(json.dumps(splits).encode()).hexdigest() if is_manifest else None,
        "num_images": dict(sorted(Counter(split for _, _, split in splits).items())) or {"": 0},
    }


def command_text(name: str, function: Callable[..., Any], values: Mapping[str, Any]) -> str:
    """The command that calls ``function`` with these arguments: options that keep their default and all folders left out.

    A folder's path may name a person or a hospital, so of a path only the last name is kept, and of images that are not listed in a
    manifest not even that: they are SOURCE.

    Args:
        name: the command, e.g. "evaluate".
        function: what it calls; parameters without a default are its positional arguments.
        values: argument -> value; other names are ignored.
    """

    def word(value: Any) -> str:
        if isinstance(value, Path):
            # A path with folders is data of one machine; a name alone (shipped weights) stays as it is.
            return value.name or "."
        return value if isinstance(value, str) else json.dumps(value, default=word)

    words = ["medanomaly", name]
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name not in values:
            continue
        value = values[parameter.name]
        if parameter.name == "source" and isinstance(value, Path) and value.suffix.lower() != ".csv":
            value = Path("SOURCE")
        if parameter.default is parameter.empty:
            words.append(word(value))
        elif value != parameter.default:
            words += [f"--{parameter.name.replace('_', '-')}", word(value)]
    return shlex.join(words)

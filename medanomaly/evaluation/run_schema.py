"""What run.json must hold, whatever command wrote it: docs/run_folder.md as a table that a program can check."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from medanomaly.datasets.findings import Finding

FORMAT_VERSION = 1
KINDS = ("train", "localize", "evaluate", "deblur", "likelihood", "generate", "evaluate-samples", "evaluate-classifier")
"""Commands whose folders are runs."""
STATUSES = ("running", "done", "preempted", "failed")
"""What status.json may say."""
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of run.json."""

    path: str
    """Names from the outside in, joined by dots."""
    meaning: str
    """What a value must be, for the finding and the docs."""
    holds: Callable[[Any], bool]


def whole(least: int) -> Callable[[Any], bool]:
    """Whole numbers from ``least`` on; True and False are none."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def or_null(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """The same, or null where there is nothing to say."""
    return lambda value: value is None or holds(value)


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _sha256(value: Any) -> bool:
    return isinstance(value, str) and _HEX.fullmatch(value) is not None


def _not_negative(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _versions(value: Any) -> bool:
    return isinstance(value, Mapping) and {"torch", "monai", "numpy"} <= value.keys() and all(map(_text, value.values()))


def _counts(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(whole(0)(count) for count in value.values())


COMMON = (
    Key("format_version", f"the whole number {FORMAT_VERSION}", lambda value: whole(1)(value) and value <= FORMAT_VERSION),
    Key("kind", f"one of {', '.join(KINDS)}", lambda value: value in KINDS),
    Key("command", "the command as typed, folders of the machine left out", _text),
    Key("seed", "one whole number, or null where nothing is drawn at random", or_null(whole(0))),
    Key("config_sha256", "the SHA-256 of config.json's content", _sha256),
    Key("data.manifest_sha256", "the fingerprint of the manifest, or null for a folder of images", or_null(_sha256)),
    Key("data.split_sha256", "the SHA-256 of (id, patient, split), or null for a folder of images", or_null(_sha256)),
    Key("data.num_images", "images by split, '' = none", _counts),
    Key("device", "where it computed", _text),
    Key("environment.medanomaly", "a version", _text),
    Key("environment.git_commit", "a commit, or null outside of a checkout", or_null(_text)),
    Key("environment.python", "a version", _text),
    Key("environment.machine", "the processor's architecture", _text),
    Key("environment.threads", "a whole number from 1 on", whole(1)),
    Key("environment.packages", "versions by package, torch, monai and numpy among them", _versions),
    Key("started_unix_s", "seconds since 1970", _not_negative),
    Key("finished_unix_s", "seconds since 1970, or null until it ends", or_null(_not_negative)),
    Key("seconds", "from start to end, or null until it ends", or_null(_not_negative)),
)
"""Of every kind."""

_WEIGHTS = Key("weights_sha256", "the SHA-256 of the checkpoint", _sha256)
_IDENTITY = Key("settings.identity", "the identity that lines of report.jsonl carry", _text)
OF_KIND: Mapping[str, tuple[Key, ...]] = {
    "train": (Key("identity", "the SHA-256 of all that decides the weights", _sha256),),
    "localize": (
        _WEIGHTS,
        _IDENTITY,
        Key("settings.threshold", "the operating point in map units, or null", or_null(_not_negative)),
        Key("settings.scale_max", "top of the colour scale in map units", _not_negative),
        Key("settings.unit", "what the map's numbers are", _text),
    ),
    "evaluate": (_WEIGHTS,),
    "deblur": (
        _IDENTITY,
        Key("settings.solver", "the solver or prior by name", _text),
        Key("settings.kernel", "the kernel in words", _text),
        Key("settings.noise_level", "a standard deviation on the 0..255 scale", _not_negative),
    ),
    "likelihood": (_WEIGHTS,),
    "generate": (
        _WEIGHTS,
        Key("classifier_sha256", "the SHA-256 of the classifier that guides, or null", or_null(_sha256)),
        Key("settings.sampler", "the sampler by name", _text),
        Key("settings.num_steps", "a whole number from 1 on", whole(1)),
        Key("settings.num_images", "a whole number from 1 on", whole(1)),
    ),
    "evaluate-samples": (Key("features_sha256", "the SHA-256 of the features' weights, or null", or_null(_sha256)),),
    "evaluate-classifier": (_WEIGHTS,),
}
"""Besides, of one kind."""


def config_sha256(config: Mapping[str, Any]) -> str:
    """Hex SHA-256 of a configuration's content: the same for any order of its keys and any indentation of its file."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def schema_findings(content: Mapping[str, Any]) -> list[Finding]:
    """One finding for each entry of run.json that is missing or is not what it must be; [] = all is there."""
    kind = content.get("kind")
    found = []
    for key in (*COMMON, *OF_KIND.get(kind if isinstance(kind, str) else "", ())):
        value = content
        try:
            for name in key.path.split("."):
                value = value[name]
        except (KeyError, TypeError):
            found.append(Finding(code="E_RUN_KEY", message=f"run.json has no {key.path}: {key.meaning}"))
            continue
        if not key.holds(value):
            message = f"run.json: {key.path} must be {key.meaning}, got {ascii(value)[:60]}"
            found.append(Finding(code="E_RUN_VALUE", message=message))
    return found + _time_findings(content)


def _time_findings(content: Mapping[str, Any]) -> list[Finding]:
    """A run ends after it begins."""
    start, end = content.get("started_unix_s"), content.get("finished_unix_s")
    if _not_negative(start) and _not_negative(end) and float(str(end)) < float(str(start)):
        return [Finding(code="E_RUN_VALUE", message="run.json: finished_unix_s lies before started_unix_s")]
    return []

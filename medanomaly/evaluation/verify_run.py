"""Does a run folder hold what it says: keys of run.json, hashes, every output that its report names, a status that fits."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medanomaly.checkpoint import load_checkpoint
from medanomaly.datasets.csv_rows import rows_of
from medanomaly.datasets.findings import Finding
from medanomaly.errors import InputError, MedanomalyError
from medanomaly.evaluation.job_report import line_of
from medanomaly.evaluation.run_results import RESULTS, result_findings
from medanomaly.evaluation.run_schema import KINDS, STATUSES, config_sha256, schema_findings
from medanomaly.files import parse_json, sha256_of

ParseConfig = Callable[[str, Mapping[str, Any]], object]
"""(kind of run, content of config.json) -> anything; raises where it is none of that kind."""
_LEFT_BEHIND = re.compile(r"\..+\.tmp-\d+")


def verify_run(folder: Path, parse_config: ParseConfig, *, weights: Path | None = None) -> list[Finding]:
    """What is wrong with a run folder; [] = nothing.

    Args:
        folder: of one of :data:`medanomaly.evaluation.run_schema.KINDS`.
        parse_config: turns the content of config.json into what the run was made with.
        weights: the checkpoint that localized or was evaluated, to be compared with the recorded hash; None = not compared.

    Raises:
        InputError: E_MISSING, not a folder, or one without a run.json.
    """
    if not (folder / "run.json").is_file():
        raise InputError(
            "has no run.json",
            code="E_MISSING",
            path=folder,
            fix=f"name a folder that one of these wrote: {', '.join(KINDS)}",
        )
    found: list[Finding] = []
    run = _object(folder / "run.json", found)
    if run is None:
        return found
    found += schema_findings(run)
    found += _config_findings(folder, run, parse_config)
    status = _object(folder / "status.json", found)
    if status is not None:
        found += _status_findings(run, status)
    of_kind: Mapping[str, Callable[..., list[Finding]]] = {
        "train": _train_findings,
        "localize": _job_findings,
        "evaluate": _evaluate_findings,
        "deblur": _job_findings,
    }
    kind = run.get("kind")
    if isinstance(kind, str) and kind in of_kind:
        found += of_kind[kind](folder, run, status or {})
    if isinstance(kind, str) and kind in RESULTS:
        found += result_findings(folder, kind, run, status or {})
    if weights is not None:
        found += _weights_findings(weights, run)
    left = tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob(".*") if _LEFT_BEHIND.fullmatch(path.name)))
    if left:
        found.append(
            Finding(code="E_LEFT_BEHIND", message="files that a killed process did not finish", ids=left, fix="delete them")
        )
    return found


def _object(path: Path, found: list[Finding]) -> dict[str, Any] | None:
    """A JSON object, or None with the reason added to ``found``."""
    try:
        content = parse_json(path.read_bytes())
    except FileNotFoundError:
        found.append(Finding(code="E_MISSING", message=f"{path.name} is not there"))
        return None
    except (OSError, ValueError) as error:
        found.append(Finding(code="E_JSON", message=f"{path.name} cannot be read ({type(error).__name__})"))
        return None
    if not isinstance(content, dict):
        found.append(Finding(code="E_JSON", message=f"{path.name} is not a JSON object"))
        return None
    return content


def _config_findings(folder: Path, run: Mapping[str, Any], parse_config: ParseConfig) -> list[Finding]:
    found: list[Finding] = []
    config = _object(folder / "config.json", found)
    if config is None:
        return found
    try:
        parse_config(str(run.get("kind")), config)
    except (MedanomalyError, KeyError, TypeError, AttributeError, ValueError) as error:
        text = " ".join(str(error).split())
        found.append(Finding(code="E_CONFIG", message=f"config.json is none of this version ({text})"))
    if isinstance(run.get("config_sha256"), str) and config_sha256(config) != run["config_sha256"]:
        found.append(Finding(code="E_HASH", message="config.json is not the one that run.json recorded"))
    return found


def _status_findings(run: Mapping[str, Any], status: Mapping[str, Any]) -> list[Finding]:
    word = status.get("status")
    if word not in STATUSES:
        return [Finding(code="E_STATUS", message=f"status.json: status must be one of {', '.join(STATUSES)}, got {word!a}")]
    ended = run.get("finished_unix_s") is not None
    if word == "done" and not ended:
        return [Finding(code="E_STATUS", message="status.json says done, and run.json has no end")]
    return []


def _train_findings(folder: Path, run: Mapping[str, Any], status: Mapping[str, Any]) -> list[Finding]:
    found = []
    lines = [_step_of(text) for text in _lines(folder / "log.jsonl")]
    if not lines:
        found.append(Finding(code="E_LOG", message="log.jsonl is not there, or empty"))
    steps = [step for step in lines if step is not None]
    if len(steps) < len(lines) or steps != sorted(set(steps)):
        found.append(Finding(code="E_LOG", message="log.jsonl: each line must be a JSON object with a step above the one before"))
    if status.get("status") != "done":
        return found
    if status.get("step") != status.get("num_steps"):
        message = f"status.json says done at step {status.get('step')} of {status.get('num_steps')}"
        found.append(Finding(code="E_STATUS", message=message))
    elif steps and steps[-1] + 1 != status["num_steps"]:
        found.append(Finding(code="E_LOG", message=f"log.jsonl ends at step {steps[-1]} of {status['num_steps']}"))
    path = folder / "model.safetensors"
    if not path.is_file():
        return [*found, Finding(code="E_MISSING", message="model.safetensors is not there, and status.json says done")]
    try:
        header = load_checkpoint(path).header
    except MedanomalyError as error:
        return [*found, Finding(code=error.code, message=f"model.safetensors {error.message}")]
    recorded = _at(run, "data", "manifest_sha256")
    if _at(header, "provenance", "data", "manifest_sha256") != recorded:
        found.append(Finding(code="E_HASH", message="model.safetensors was trained on another manifest than run.json recorded"))
    return found


def _job_findings(folder: Path, run: Mapping[str, Any], status: Mapping[str, Any]) -> list[Finding]:
    found, last = [], {}
    for number, text in enumerate(_lines(folder / "report.jsonl"), start=1):
        line = _line_of(text)
        if line is None:
            found.append(Finding(code="E_REPORT", message=f"report.jsonl line {number} is not one of a report"))
        else:
            last[line["id"]] = line
    if not last and status.get("status") == "done":
        found.append(Finding(code="E_REPORT", message="report.jsonl names no image"))
    fence = Path(os.path.realpath(folder))
    outside = [name for line in last.values() for name in line["outputs"] if not _inside(fence, name)]
    absent = [
        name for line in last.values() for name in line["outputs"] if _inside(fence, name) and not (folder / name).is_file()
    ]
    if outside:
        found.append(Finding(code="E_OUTSIDE", message="report.jsonl names outputs outside of the folder", ids=tuple(outside)))
    if absent:
        fix = "run the same command again"
        found.append(
            Finding(code="E_OUTPUT_MISSING", message="outputs of report.jsonl are not there", ids=tuple(absent), fix=fix)
        )
    identity = _at(run, "settings", "identity")
    other = tuple(key for key, line in last.items() if line["status"] == "ok" and line.get("identity") != identity)
    if other:
        found.append(Finding(code="E_HASH", message="images were localized with other settings than run.json has", ids=other))
    counts = Counter(line["status"] for line in last.values())
    # A later run over fewer images leaves lines of the others behind: there may be more lines than it counted, never fewer.
    for name, told in (("ok", _count(status, "ok") + _count(status, "skipped")), ("failed", _count(status, "failed"))):
        if told > counts[name]:
            message = f"status.json counts {told} images {name}, report.jsonl has {counts[name]}"
            found.append(Finding(code="E_STATUS", message=message))
    return found


def _evaluate_findings(folder: Path, run: Mapping[str, Any], status: Mapping[str, Any]) -> list[Finding]:
    if status.get("status") != "done":
        return []
    found: list[Finding] = []
    content = _object(folder / "evaluation.json", found)
    for name in ("table.md", "table.csv", "images.csv"):
        if not (folder / name).is_file():
            found.append(Finding(code="E_MISSING", message=f"{name} is not there"))
    if content is None:
        return found
    if _at(content, "facts", "manifest_sha256") != _at(run, "data", "manifest_sha256"):
        found.append(Finding(code="E_HASH", message="evaluation.json was measured on another manifest than run.json recorded"))
    if (folder / "images.csv").is_file():
        try:
            rows = Counter(row["method"] for _, row in rows_of(folder / "images.csv", ("method", "id"), required="method"))
        except MedanomalyError as error:
            return [*found, Finding(code=error.code, message=f"images.csv: {error.message}")]
        wanted = _at(content, "counts", "num_images")
        short = tuple(f"{method} {count}" for method, count in rows.items() if count != wanted)
        if short or not rows:
            message = f"images.csv must have {wanted} lines for each method"
            found.append(Finding(code="E_IMAGES", message=message, ids=short))
    return found


def _weights_findings(weights: Path, run: Mapping[str, Any]) -> list[Finding]:
    if sha256_of(weights) == run.get("weights_sha256"):
        return []
    return [
        Finding(code="E_HASH", message="the checkpoint is not the one that run.json recorded", fix="name the one that was used")
    ]


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []


def _step_of(text: str) -> int | None:
    try:
        step = parse_json(text)["step"]
    except (ValueError, KeyError, TypeError):
        return None
    return step if isinstance(step, int) else None


def _line_of(text: str) -> dict[str, Any] | None:
    """A line of a report with an id, a known status, outputs that are names, and a reason where it failed."""
    line = line_of(text)
    if line is None or not line.keys() >= {"reason_code", "message", "seconds"}:
        return None
    known = line["status"] in ("ok", "skipped") or (line["status"] == "failed" and bool(line["reason_code"]))
    return line if known else None


def _inside(fence: Path, name: str) -> bool:
    return Path(os.path.realpath(fence / name)).is_relative_to(fence)


def _at(content: Mapping[str, Any], *names: str) -> Any:
    """The value below these names; None where there is none."""
    value: Any = content
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _count(status: Mapping[str, Any], name: str) -> int:
    value = status.get(name, 0)
    return value if isinstance(value, int) else 0

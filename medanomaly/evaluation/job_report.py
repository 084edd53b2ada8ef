"""What a job did to each image: a line each in report.jsonl, read back by the next run to know what is left to do."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medanomaly.datasets.manifest import Record
from medanomaly.errors import EXIT_OK, EXIT_SOME_FAILED, ConfigError, InputError, MedanomalyError
from medanomaly.files import finite, parse_json, sha256_of

EXIT_NOTHING_USABLE = InputError.exit_code
LINE_KEYS = {"id", "status", "outputs", "sha256_in"}
"""What a line of a report must have to be believed."""


@dataclass(slots=True)
class Summary:
    """Counts of a job."""

    ok: int = 0
    skipped: int = 0
    failed: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    stopped: bool = False

    def exit_code(self) -> int:
        """0 all good, 3 some failed, 4 nothing usable."""
        if not self.failed:
            return EXIT_OK
        return EXIT_SOME_FAILED if self.ok or self.skipped else EXIT_NOTHING_USABLE


def finished(out: Path, identity: str, *, overwrite: bool, journal: Path | None = None) -> dict[str, Mapping[str, Any]]:
    """id -> the last ``ok`` line that was made with the settings of this identity; lines of others are left out.

    With ``overwrite`` the files of other settings are removed: the new settings may make fewer kinds of them, and a mask must not lie
    beside a map that it does not belong to. ``journal`` is where report.jsonl lies, where that is not ``out`` itself.

    Raises:
        ConfigError: E_CHANGED, there are lines of other settings and ``overwrite`` is off.
    """
    report = (journal or out) / "report.jsonl"
    cut_torn_line(report)
    lines = read_report(report)
    made = {line["id"]: line for line in lines if line["status"] == "ok"}
    other = [line for line in made.values() if line.get("identity") != identity]
    if other and not overwrite:
        raise ConfigError(
            f"holds {len(other)} results made with another checkpoint or other settings",
            code="E_CHANGED",
            path=out,
            fix="use a new folder, or --overwrite true",
        )
    for line in other:
        remove_outputs(out, line["outputs"])
    return {key: line for key, line in made.items() if line.get("identity") == identity}


def remove_outputs(out: Path, names: Sequence[str]) -> None:
    """Delete what a line of a report lists, if it is a regular file below ``out``: a report is data and may have been edited."""
    fence = Path(os.path.realpath(out))
    for name in names:
        path = Path(os.path.realpath(out / name))
        if path.is_relative_to(fence) and path.is_file():
            path.unlink()


def cut_torn_line(path: Path) -> None:
    """Drop what a kill left of a last line; the next line would be glued to it and both be lost."""
    content = path.read_bytes() if path.is_file() else b""
    if not content.endswith(b"\n") and content:
        with open(path, "r+b") as stream:
            stream.truncate(content.rfind(b"\n") + 1)


def read_report(path: Path) -> list[dict[str, Any]]:
    """Lines of a report; what is not one is left out, and its image is done again."""
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        line = line_of(text)
        if line is not None:
            lines.append(line)
    return lines


def line_of(text: str) -> dict[str, Any] | None:
    """A line of a report: an object with an id, a status and outputs that can be names of files; None where it is none."""
    try:
        line = parse_json(text)
    except ValueError:
        return None
    if not isinstance(line, dict) or not line.keys() >= LINE_KEYS or not isinstance(line["outputs"], list):
        return None
    words = [line["id"], line["status"], *line["outputs"]]
    return line if all(isinstance(word, str) and is_text(word) for word in words) else None


def is_text(word: str) -> bool:
    """Whether a word can be a name of a file: no NUL, and no surrogate but those that stand for a byte."""
    with contextlib.suppress(UnicodeEncodeError):
        return b"\0" not in os.fsencode(word)
    return False


def is_done(record: Record, done: Mapping[str, Mapping[str, Any]], out: Path) -> bool:
    """True where the same bytes were localized with the same window before and every output is still there."""
    line = done.get(record.id)
    if line is None or not all((out / name).is_file() for name in line["outputs"]):
        return False
    window = None if record.intensity_range is None else list(record.intensity_range)
    try:
        return line.get("intensity_range") == window and sha256_of(record.image) == line["sha256_in"]
    except OSError:
        return False  # what is wrong with it, reading it again will say


def append_line(out: Path, line: Mapping[str, Any]) -> None:
    """Add a line to report.jsonl, which is made closed to other users of the machine: ids may identify."""
    with open(out / "report.jsonl", "a", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o660)) as stream:
        stream.write(json.dumps(finite(dict(line)), allow_nan=False) + "\n")


def report_failure(out: Path, record: Record, error: MedanomalyError, summary: Summary, sha256: str = "") -> None:
    """One line for an image that could not be done."""
    summary.failed += 1
    summary.reasons[error.code] = summary.reasons.get(error.code, 0) + 1
    line = {
        "status": "failed",
        "reason_code": error.code,
        "message": without_place(error, record.image),
        "outputs": [],
        "sha256_in": sha256,
        "seconds": 0.0,
    }
    append_line(out, {"id": record.id, **line})


def without_place(error: MedanomalyError, image: Path) -> str:
    """The error as text without the folder the image lies in: a report travels, and a home folder names a person."""
    text = f"{error.message} [{error.code}]" + (f"; {error.fix}" if error.fix else "")
    places = ((image, "the file"), (image.parent, "its folder")) if len(image.parts) > 2 and image.is_absolute() else ()
    for place, name in places:
        for written in (str(place), ascii(str(place))[1:-1]):
            text = text.replace(written, name)
    return text

"""What a drill found: faults injected, survived and lost, as JSON and as one row of a table."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from medanomaly.files import write_json

COLUMNS = ("drill", "faults injected", "survived", "lost", "measured", "seconds")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Counts of one drill. A fault is survived where all that the drill promises holds; every other one is lost."""

    drill: str
    """What was done, e.g. "SIGKILL during training"."""
    injected: int
    lost: int
    seconds: float
    """Wall time."""
    measured: str = ""
    """What was seen besides, e.g. the slowest file."""
    examples: tuple[str, ...] = field(default=())
    """Of what was lost, each enough to do it again."""

    @property
    def survived(self) -> int:
        """Faults after which everything was as promised."""
        return self.injected - self.lost


def counted(drill: str, injected: int, lost: Sequence[str], began: float, measured: str = "") -> Outcome:
    """The outcome of a drill that began at ``time.monotonic()`` = ``began``; a fault counts once, whatever it did."""
    return Outcome(
        drill=drill,
        injected=injected,
        lost=min(len(lost), injected),
        seconds=time.monotonic() - began,
        measured=measured,
        examples=tuple(lost[:20]),
    )


def write_outcomes(outcomes: Sequence[Outcome], path: Path) -> None:
    """The outcomes of one script as JSON."""
    write_json(path, [asdict(outcome) for outcome in outcomes])


def read_outcomes(paths: Iterable[Path]) -> list[Outcome]:
    """Undo of :func:`write_outcomes`, over several files."""
    rows = [row for path in paths for row in json.loads(path.read_text(encoding="utf-8"))]
    return [Outcome(**row | {"examples": tuple(row["examples"])}) for row in rows]


def table(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table, one row a drill."""
    rows = [
        (one.drill, f"{one.injected:,}", f"{one.survived:,}", f"{one.lost:,}", one.measured, f"{one.seconds:.0f}")
        for one in outcomes
    ]
    lines = [COLUMNS, ("---", "---:", "---:", "---:", "---", "---:"), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def finish(outcomes: Sequence[Outcome], path: Path) -> int:
    """Write, print, and say by the exit code whether anything was lost (1)."""
    write_outcomes(outcomes, path)
    print(table(outcomes), end="")
    for one in outcomes:
        for example in one.examples:
            print(f"LOST {one.drill}: {example}")
    return int(any(one.lost for one in outcomes))

"""What a running job says of each image: a line when it is done, a line when it cannot be."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medanomaly.datasets.manifest import Record
from medanomaly.errors import InputError
from medanomaly.evaluation.bulk_outputs import BulkSettings, Written
from medanomaly.evaluation.job_report import Summary, append_line, remove_outputs, report_failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job on its way."""

    out: Path
    journal: Path
    """Folder of report.jsonl: ``out``, or a shard's own."""
    settings: BulkSettings
    summary: Summary
    done: Mapping[str, Mapping[str, Any]]
    """id -> the line of an earlier run with the same settings."""
    filled_to: int = 0
    """Images a forward pass always has, filled up where there are less; 0 = as many as there are."""

    def report(
        self, record: Record, written: Written, *, score: float, sha256: str, notes: tuple[str, ...], seconds: float
    ) -> None:
        """One line for an image that was localized.

        Outputs that were refused count among the reasons, not among the failures. Files of an earlier run that the image no longer
        gets, because it has changed since, are removed.
        """
        self.summary.ok += 1
        for code in dict.fromkeys(written.withheld):
            self.summary.reasons[code] = self.summary.reasons.get(code, 0) + 1
        before = self.done.get(record.id, {"outputs": ()})["outputs"]
        remove_outputs(self.out, [name for name in before if name not in written.outputs])
        line = {"status": "ok", "reason_code": "", "message": "; ".join(dict.fromkeys((*notes, *written.notes))), "score": score}
        facts = {"outputs": list(written.outputs), "sha256_in": sha256, "identity": self.settings.identity, "seconds": seconds}
        facts |= {"intensity_range": record.intensity_range} if record.intensity_range is not None else {}
        append_line(self.journal, {"id": record.id, **line, **facts})

    @contextlib.contextmanager
    def failures_reported(self, record: Record, sha256: str = "") -> Iterator[None]:
        """An input that cannot be used inside the block becomes a line of the report."""
        try:
            yield
        except InputError as error:
            report_failure(self.journal, record, error, self.summary, sha256=sha256)


class Clock:
    """Seconds since it was last asked."""

    def __init__(self) -> None:
        self.mark = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last call, or since it was made."""
        before, self.mark = self.mark, time.perf_counter()
        return self.mark - before

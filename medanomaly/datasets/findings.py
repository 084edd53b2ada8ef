"""What a check of a data set says: findings with a code, whom they concern and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SHOWN = 10
"""Names of a finding shown in text; the finding itself holds all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, or that a reader of the numbers should know."""

    code: str
    """Stable code: ``E_...`` must be repaired before the data are used, ``W_...`` should be known."""
    message: str
    ids: tuple[str, ...] = ()
    """All images, or patients where the message says so, that it concerns."""
    fix: str = ""

    @property
    def is_error(self) -> bool:
        """True = the data must not be used like this."""
        return self.code.startswith("E_")

    def __str__(self) -> str:
        names = ", ".join(ascii(name)[1:-1] for name in self.ids[:SHOWN])
        more = f", and {len(self.ids) - SHOWN} more" if len(self.ids) > SHOWN else ""
        return f"[{self.code}] {self.message}" + (f": {names}{more}" if names else "") + (f"; {self.fix}" if self.fix else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """All findings, and how much data there is."""

    findings: tuple[Finding, ...]
    num_images: Mapping[tuple[str, str], int]
    """(split, label) -> images; "" = not assigned, unknown."""
    num_patients: Mapping[tuple[str, str], int]
    """(split, label) -> patients with such an image."""

    @property
    def ok(self) -> bool:
        """True = no finding is an error."""
        return not any(finding.is_error for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """The report in JSON's types."""
        counts = [
            {"split": split or None, "label": label or None, "images": count, "patients": self.num_patients[split, label]}
            for (split, label), count in sorted(self.num_images.items())
        ]
        return {"ok": self.ok, "counts": counts, "findings": [asdict(finding) for finding in self.findings]}

    def __str__(self) -> str:
        counts = [
            f"{split or 'no split'}, {ascii(label)[1:-1] or 'no label'}: {count} images, {patients} patients"
            for (split, label), count in sorted(self.num_images.items())
            for patients in [self.num_patients[split, label]]
        ]
        return "\n".join([*counts, *(str(finding) for finding in self.findings)])

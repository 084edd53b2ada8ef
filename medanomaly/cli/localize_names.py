"""What a job calls its images: their ids, but never a DICOM UID, which leads back to the patient's study.

Archives export files under their SOP Instance UID, below folders of study and series. Such an id would stand in the name of each output
and in report.jsonl. Each UID in it is replaced by the first 64 bits of its SHA-256: the same on every machine and in every run, so a
second run finds what is done, and equal for no two of a million images (probability 3e-8). No table of both names is written. Whoever
has the source finds an image by ``sha256_in`` of its line.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace

from medanomaly.datasets.manifest import Record
from medanomaly.errors import InputError

UID = re.compile(r"(?<![0-9])(?:[0-2](?:[._-][0-9]+){4,}|2[._-]25[._-][0-9]{9,})")
"""An ISO object identifier of five or more numbers (PS3.5 section 9), or 2.25 and a long one (annex B.2); also with _ or - for dots."""
_SHORTEST = 12
"""Shorter chains of numbers are dates and versions: a root that is registered for DICOM has ten characters or more before its suffix."""


def without_uids(records: Sequence[Record]) -> list[Record]:
    """The same records, ids of image and patient with a hash in place of each UID; ids without one stay as they are.

    Raises:
        InputError: E_IDS, an id is that of another image with its UID replaced.
    """
    named = [replace(record, id=without_uid(record.id), patient_id=without_uid(record.patient_id)) for record in records]
    if len({record.id for record in named}) < len({record.id for record in records}):
        raise InputError("two ids are equal once UIDs are replaced", code="E_IDS", fix="rename an image, or --keep-patient true")
    return named


def num_with_uid(records: Sequence[Record]) -> int:
    """How many ids hold a UID."""
    return sum(without_uid(record.id) != record.id for record in records)


def without_uid(identifier: str) -> str:
    """An id with ``uid-`` and 16 hexadecimal digits in place of each UID."""

    def hashed(found: re.Match[str]) -> str:
        # The same UID in any of its spellings.
        uid = re.sub("[_-]", ".", found[0])
        return found[0] if len(uid) < _SHORTEST else f"uid-{hashlib.sha256(uid.encode()).hexdigest()[:16]}"

    return UID.sub(hashed, identifier)


def about_names(count: int) -> str:
    """A line, with its end, about images that go by another name; "" for none."""
    if not count:
        return ""
    what = f"{count} image{'s are' if count > 1 else ' is'} named by a hash of the DICOM UID in {'their ids' if count > 1 else 'its id'}"
    return f"{what} (uid-...; find the source by sha256_in); --keep-patient true keeps the ids\n"

"""Which images a model has seen, as hashes in a file beside its weights: nothing it knows may be tested on.

Evaluating a prior on its own training images would measure its memory. A checkpoint's header is no place for 200,000 hashes, so it
names the file ``seen.safetensors`` and its SHA-256; methods that localize keep shorter lists of file hashes in the header itself.
A hash of an id says nothing to who does not know the id, but who can list all possible ids can try each of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from medanomaly.checkpoint import load_header
from medanomaly.datasets.manifest import Record
from medanomaly.errors import CheckpointError, InputError
from medanomaly.files import atomic_write, sha256_of
from medanomaly.rng import stable_hash

SEEN_FILE = "seen.safetensors"
"""Beside ``model.safetensors``: sorted int64 hashes named ``files``, ``images`` and ``patients``."""
FIX_COPY = "copy it with the weights, from the same training or release"


def seen_tensors(records: Iterable[Record]) -> dict[str, Tensor]:
    """Sorted distinct hashes (int64, 8 bytes each) of the files' bytes, of the image ids and of the patient ids.

    An id is hashed with the record's ``source`` and once more without it: see :func:`sightings`.
    """
    files, images, patients = set(), set(), set()
    for record in records:
        files.add(file_hash(sha256_of(record.image)))
        images |= ids_kept("image", record.source, record.id)
        patients |= ids_kept("patient", record.source, record.patient_id)
    return {
        name: torch.tensor(sorted(found), dtype=torch.int64)
        for name, found in (("files", files), ("images", images), ("patients", patients))
    }


def write_seen(folder: Path, records: Iterable[Record]) -> dict[str, str]:
    """Write ``folder/seen.safetensors``; returns what the checkpoint's provenance keeps of it under ``seen``."""
    with atomic_write(folder / SEEN_FILE) as stream:
        stream.write(safetensors.torch.save(seen_tensors(records)))
    return {"file": SEEN_FILE, "sha256": sha256_of(folder / SEEN_FILE)}


def copy_seen(provenance: dict[str, Any], source: Path, target: Path) -> None:
    """Copy the file that a checkpoint's provenance names, if any, from one folder to another.

    Raises:
        CheckpointError: E_SEEN_FILE, it is not there or not the one that belongs to the checkpoint.
    """
    if "seen" in provenance:
        content = belonging(provenance["seen"], source).read_bytes()
        with atomic_write(target / SEEN_FILE) as stream:
            stream.write(content)


def seen(path: Path, records: Sequence[Record]) -> list[str]:
    """Ids of the records that a checkpoint has seen in training or validation, in their order; see :func:`sightings`."""
    return list(sightings(path, records))


def sightings(path: Path, records: Sequence[Record]) -> dict[str, str]:
    """id -> "patient", "id" or "file": how each record that a checkpoint has seen was recognised, in the order of the records.

    The bytes of a file are the same whatever it is called. A resized copy has other bytes and the same id. Other images of a patient
    are no new patient. Ids count within one ``source``; an unknown source (blank, there or here) may be the same one.

    Args:
        path: ``model.safetensors`` or its folder.
        records: what is to be tested on; a file is only read where its ids are not known, and an absent one is not asked.

    Raises:
        CheckpointError: E_SEEN_FILE, the hashes are not beside the weights; E_SEEN_UNKNOWN, the checkpoint says nothing about
            what it has seen; or what reading its header refuses.
    """
    folder = path if path.is_dir() else path.parent
    provenance = load_header(path).get("provenance", {})
    if "seen" in provenance:
        stored = safetensors.torch.load_file(belonging(provenance["seen"], folder))
        files, images, patients = (set(stored[name].tolist()) for name in ("files", "images", "patients"))
    elif "seen_images" in provenance:
        files, images, patients = set(provenance["seen_images"]), set(), set()
    else:
        raise CheckpointError(
            "does not say which images it has seen, so no test of it is honest",
            code="E_SEEN_UNKNOWN",
            path=path,
            fix="use a checkpoint that medanomaly train wrote",
        )
    # The header's shorter list holds the first 12 hex digits.
    key = file_hash if "seen" in provenance else short_hash
    found = {}
    for record in records:
        if patients & ids_asked("patient", record.source, record.patient_id):
            found[record.id] = "patient"
        elif images & ids_asked("image", record.source, record.id):
            found[record.id] = "id"
        elif record.image.is_file() and key(sha256_of(record.image)) in files:
            found[record.id] = "file"
    return found


def refuse_seen(path: Path, records: Sequence[Record], *, what: str, data: Path | None = None) -> None:
    """Nothing is tested on images that the weights have seen.

    Args:
        path: the checkpoint.
        records: what is to be tested on.
        what: the model in the error, e.g. "the prior".
        data: the manifest, for the error.

    Raises:
        InputError: E_SEEN with the number of such images and the first ids.
        CheckpointError: as :func:`sightings`.
    """
    found = sightings(path, records)
    if found:
        how = ", ".join(f"{count} by {name}" for name, count in sorted(Counter(found.values()).items()))
        first = ", ".join(ascii(name) for name in list(found)[:3])
        raise InputError(
            f"{len(found)} of {len(records)} images were seen by {what} in training or validation ({how}), first {first}",
            code="E_SEEN",
            path=data,
            fix="test on other patients; where the ids of two data sets merely coincide, fill the manifest's source column",
        )


def belonging(said: dict[str, str], folder: Path) -> Path:
    """The file of hashes of a checkpoint.

    Raises:
        CheckpointError: E_SEEN_FILE, it is missing or another.
    """
    path = folder / SEEN_FILE
    if not path.is_file():
        raise CheckpointError("is missing: the list of images the weights have seen", code="E_SEEN_FILE", path=path, fix=FIX_COPY)
    if sha256_of(path) != said.get("sha256"):
        raise CheckpointError("belongs to other weights, or is damaged", code="E_SEEN_FILE", path=path, fix=FIX_COPY)
    return path


def file_hash(sha256: str) -> int:
    """63-bit integer from the first digits of a SHA-256."""
    return int(sha256[:16], 16) >> 1


def short_hash(sha256: str) -> str:
    """First 12 digits of a SHA-256."""
    return sha256[:12]


def ids_kept(kind: str, source: str, identifier: str) -> set[int]:
    """Hashes that are kept of an id: within its source, and within any."""
    return {stable_hash(kind, "in", source, identifier), stable_hash(kind, "any", identifier)}


def ids_asked(kind: str, source: str, identifier: str) -> set[int]:
    """Hashes of which one is kept where an id is known: of its source or of an unknown one; a blank source may be any."""
    if not source:
        return {stable_hash(kind, "any", identifier)}
    return {stable_hash(kind, "in", source, identifier), stable_hash(kind, "in", "", identifier)}

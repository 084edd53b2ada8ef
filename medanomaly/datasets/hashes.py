"""SHA-256 of every file of a data set, in the format of ``sha256sum``: a flipped bit in a JPEG or DICOM shows nowhere else."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from medanomaly.datasets.findings import Finding
from medanomaly.datasets.manifest import Record
from medanomaly.errors import InputError
from medanomaly.files import atomic_write, sha256_of

_LINE = re.compile(rb"(\\?)([0-9a-f]{64}) [ *](.+)")
_ESCAPES = {b"\\\\": b"\\", b"\\n": b"\n", b"\\r": b"\r"}


def write_hashes(records: Sequence[Record], manifest: Path, path: Path) -> int:
    """Write the hashes of a manifest, its images and its masks, and return how many; ``sha256sum --check`` reads them too.

    Args:
        records: of the manifest.
        manifest: the CSV; names in ``path`` are relative to its folder, where ``sha256sum`` has to be started.
        path: the file to write.

    Raises:
        InputError: E_MISSING, a file is not there or cannot be read.
    """
    lines = []
    for name, file in named_files(records, manifest):
        digest = digest_of(file)
        if digest is None:
            raise InputError("is not there or cannot be read", code="E_MISSING", path=file, fix="fetch it before hashing")
        escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
        lines.append((b"\\" if escaped != name else b"") + digest.encode() + b"  " + escaped + b"\n")
    with atomic_write(path) as stream:
        stream.writelines(lines)
    return len(lines)


def read_hashes(path: Path) -> dict[bytes, str]:
    """Name -> hex digest of a file that ``write_hashes`` or ``sha256sum`` wrote.

    Raises:
        InputError: E_MISSING, or E_ROW with the line that is none.
    """
    if not path.is_file():
        raise InputError("is not a file", code="E_MISSING", path=path, fix="write it with --write-hashes")
    found = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise InputError(
                f"line {number} is no hash and name", code="E_ROW", path=path, fix="write it again with --write-hashes"
            )
        name = match[3]
        if match[1]:
            name = re.sub(rb"\\[\\nr]", lambda escape: _ESCAPES[escape[0]], name)
        found[name] = match[2].decode()
    return found


def hash_findings(records: Sequence[Record], manifest: Path, path: Path) -> list[Finding]:
    """E_HASH: files that hold other bytes than were hashed; W_NO_HASH: files without one. Only files of the manifest are opened.

    Args:
        records: of the manifest.
        manifest: the CSV.
        path: what :func:`write_hashes` wrote.
    """
    wanted = read_hashes(path)
    changed, unlisted = [], []
    for name, file in named_files(records, manifest):
        digest = digest_of(file)
        if name not in wanted:
            unlisted.append(os.fsdecode(name))
        # What is not there is a finding of its own (E_MISSING).
        elif digest is not None and digest != wanted[name]:
            changed.append(os.fsdecode(name))
    findings = []
    if changed:
        message, fix = f"{len(changed)} files hold other bytes than when they were hashed", "copy them again from their source"
        findings.append(Finding(code="E_HASH", message=message, ids=tuple(changed), fix=fix))
    if unlisted:
        message, fix = f"{len(unlisted)} files have no hash", "write the hashes again once the files are known to be right"
        findings.append(Finding(code="W_NO_HASH", message=message, ids=tuple(unlisted), fix=fix))
    return findings


def named_files(records: Sequence[Record], manifest: Path) -> Iterator[tuple[bytes, Path]]:
    """(name relative to the manifest's folder, file) of the manifest, images and masks, each once, in order."""
    files = dict.fromkeys([manifest, *(file for record in records for file in (record.image, record.mask) if file is not None)])
    base = os.path.realpath(manifest.parent)
    for file in files:
        yield os.fsencode(os.path.relpath(Path(os.path.realpath(file.parent)) / file.name, base)), file


def digest_of(file: Path) -> str | None:
    """Hex SHA-256; None for what is no file that can be read."""
    try:
        return sha256_of(file) if file.is_file() else None
    except OSError:
        return None

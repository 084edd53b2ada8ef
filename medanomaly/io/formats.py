"""Which format a file is: its name and its first bytes must say the same, so nothing is decoded under a false name."""

from __future__ import annotations

from pathlib import Path

from medanomaly.errors import InputError
from medanomaly.io.faults import library_faults

_FORMAT_OF_SUFFIX = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".dcm": "DICOM",
    ".dicom": "DICOM",
    ".npy": "npy",
    ".npz": "npz",
    ".nii": "NIfTI",
    ".nii.gz": "NIfTI (gzip)",
}

image_suffixes = frozenset(_FORMAT_OF_SUFFIX)
"""Lower-case suffixes understood; DICOM files without one (or named by UID) are told by :func:`is_image_file`."""

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"\x93NUMPY", "npy"),
    (b"PK\x03\x04", "npz"),
    (b"\x1f\x8b", "NIfTI (gzip)"),
    # sizeof_hdr of NIfTI-1 (348) and NIfTI-2 (540) in either byte order; the reader checks the magic string as well.
    (b"\x5c\x01\x00\x00", "NIfTI"),
    (b"\x00\x00\x01\x5c", "NIfTI"),
    (b"\x1c\x02\x00\x00", "NIfTI"),
    (b"\x00\x00\x02\x1c", "NIfTI"),
)


def image_suffix(path: Path) -> str:
    """Lower-case suffix with ``.nii.gz`` in one piece; empty for no suffix and for a number, as in names made of a UID."""
    name = path.name.lower()
    if name.endswith(".nii.gz"):
        return ".nii.gz"
    suffix = path.suffix.lower()
    return "" if suffix[1:].isdigit() else suffix


def is_image_file(path: Path) -> bool:
    """Whether a folder listing should offer this path: an understood suffix, or none and DICOM inside."""
    suffix = image_suffix(path)
    if suffix:
        return suffix in image_suffixes
    return path.is_file() and _format_of_content(path) == "DICOM"


def format_of(path: Path) -> str:
    """Name of the format, agreed by suffix and content.

    Args:
        path: an existing regular file that is not empty.

    Raises:
        InputError: E_FORMAT (unknown, or the two disagree) or E_PICKLE (a pickle under a numpy name).
    """
    suffix = image_suffix(path)
    claimed = _FORMAT_OF_SUFFIX.get(suffix, "DICOM" if suffix == "" else None)
    if claimed is None:
        raise InputError(
            f"has a suffix that is not understood ({suffix!a})",
            code="E_FORMAT",
            path=path,
            fix=f"convert it to one of {', '.join(sorted(image_suffixes))}",
        )
    found = _format_of_content(path)
    if found == claimed:
        return claimed
    if claimed in ("npy", "npz") and found == "pickle":
        raise InputError(
            "is a Python pickle, which can run code when loaded, and was not opened",
            code="E_PICKLE",
            path=path,
            fix="save the array with numpy.save(..., allow_pickle=False)",
        )
    holds = "an unknown format" if found is None else found
    raise InputError(
        f"should hold {claimed} by its name but holds {holds}",
        code="E_FORMAT",
        path=path,
        fix="give it the suffix of its real format, or export it again",
    )


def _format_of_content(path: Path) -> str | None:
    """Format the first bytes belong to; None = unknown. Names are ours, except "pickle", which nothing reads."""
    with library_faults(path, "a file"), path.open("rb") as stream:
        start = stream.read(132)
        stream.seek(-1, 2)
        end = stream.read(1)
    # DICOM first: its 128-byte preamble is free and often carries another format's magic.
    if start[128:] == b"DICM":
        return "DICOM"
    for magic, name in _MAGIC:
        if start.startswith(magic):
            return name
    # Protocol 2 and later start with 0x80; every pickle, of any protocol, ends with the STOP opcode.
    return "pickle" if start[:1] == b"\x80" or (end == b"." and start[:1] in b"(c]}lI") else None

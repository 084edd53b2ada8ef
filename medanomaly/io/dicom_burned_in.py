"""Whether a picture may be made of a DICOM image: text burned into its pixels may name the patient, and no hand has looked."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pydicom

from medanomaly.errors import InputError
from medanomaly.io.dicom import _silent_pydicom, _transfer_syntax
from medanomaly.io.faults import library_faults
from medanomaly.io.formats import format_of

UNCHECKED = "the source does not say whether text is burned into its pixels; look before sharing"


def refusal(fix: str, path: Path | None = None) -> InputError:
    """E_BURNED_IN, of a picture that says so, with the way out that the command has."""
    return InputError(
        "text is burned into the pixels (BurnedInAnnotation YES), and may name the patient",
        code="E_BURNED_IN",
        path=path,
        fix=fix,
    )


def burned_in_of(path: Path) -> Literal["YES", "NO", ""]:
    """What an image file says of text in its pixels (BurnedInAnnotation, PS3.3 section C.7.6.1.1.3); pixels stay on disk.

    Returns:
        "" = a DICOM file that does not say; "NO" of other formats, which have no such word and are taken as they come.

    Raises:
        InputError: E_HEADER, E_LIMIT, E_UNREADABLE or E_MALFORMED, the file is no longer what it was.
    """
    if format_of(path) != "DICOM":
        return "NO"
    with library_faults(path, "DICOM", quote=False), _silent_pydicom():
        _transfer_syntax(path)
        word = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["BurnedInAnnotation"]).get("BurnedInAnnotation")
        text = str(word or "").strip().upper()
        return "YES" if text == "YES" else "NO" if text == "NO" else ""

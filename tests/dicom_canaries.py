"""DICOM sources full of identity, and how to find a trace of it in any file."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, EnhancedCTImageStorage, ExplicitVRLittleEndian

STUDY_UID, SERIES_UID, INSTANCE_UID, FRAME_UID = (f"1.2.826.0.1.3680043.10.5432.{number}" for number in (111, 222, 333, 444))
KEPT = {
    "PatientName": "Kanarienvogel^Käthe",
    "PatientID": "KANARI-ID-7",
    "PatientBirthDate": "19511203",
    "PatientSex": "F",
    "StudyInstanceUID": STUDY_UID,
    "StudyDate": "20190417",
    "StudyTime": "113355",
    "StudyID": "KANASTUDY",
    "AccessionNumber": "KANACC99",
    "ReferringPhysicianName": "Canarywalla^Reffina",
}
"""What ``keep_patient`` lets through, by keyword."""
NEVER = {
    "InstitutionName": "Canary General",
    "InstitutionAddress": "Canary Lane 5",
    "OperatorsName": "Canaryoperator^O",
    "PerformingPhysicianName": "Canaryperformer^P",
    "StationName": "CANARYSTATION",
    "DeviceSerialNumber": "CANARYSERIAL",
    "Manufacturer": "Canarymade",
    "OtherPatientIDs": "CANARYOTHER",
    "PatientAddress": "Canary Alley 9",
    "PatientComments": "canary comment",
    "AcquisitionDate": "20190418",
    "ContentDate": "20190419",
    "SeriesDate": "20190420",
    "StudyDescription": "canarystudy words",
    "SeriesDescription": "canaryseries words",
    "ImageComments": "canaryimage words",
    "BodyPartExamined": "CANARYPART",
    "PatientAge": "067Y",
}


def source_dataset(stored: np.ndarray, **tags: Any) -> Dataset:
    """A data set with every canary, a private group, a nested name and a preamble that talks."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = INSTANCE_UID
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        dataset.NumberOfFrames = len(stored)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * stored.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"
    for name, value in {"SpecificCharacterSet": "ISO_IR 100", **KEPT, **NEVER, "SeriesInstanceUID": SERIES_UID, **tags}.items():
        setattr(dataset, name, value)
    dataset.private_block(0x0011, "CANARYCREATOR", create=True).add_new(0x01, "LO", "canaryprivate")
    nested = Dataset()
    nested.PatientName = "Canarynested^N"
    dataset.RequestAttributesSequence = [nested]
    dataset.preamble = b"CANARYPREAMBLE".ljust(128, b"\0")
    return dataset


def write_source(path: Path, stored: np.ndarray | None = None, **tags: Any) -> Path:
    values = np.arange(9 * 13, dtype=np.uint8).reshape(9, 13) if stored is None else stored
    path.parent.mkdir(parents=True, exist_ok=True)
    source_dataset(values, **tags).save_as(path, enforce_file_format=True)
    return path


def write_slice(path: Path, **tags: Any) -> Path:
    """A CT slice: it lies in a frame of reference."""
    plane = {"ImagePositionPatient": [-10, 20, 33.5], "ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "SliceThickness": 2.5}
    dataset = source_dataset(
        np.arange(9 * 13, dtype=np.uint16).reshape(9, 13),
        **{"FrameOfReferenceUID": FRAME_UID, "PixelSpacing": [0.2, 0.3], **plane, **tags},
    )
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_enhanced(path: Path) -> Path:
    """Three frames with spacings of their own, in functional groups."""
    stored = np.stack([np.full((9, 13), 40 * index, np.uint16) for index in range(3)])
    dataset = source_dataset(stored)
    groups = []
    for index in range(3):
        measures, group = Dataset(), Dataset()
        measures.PixelSpacing = [0.1 * (index + 1), 0.2 * (index + 1)]
        group.PixelMeasuresSequence = [measures]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    dataset.save_as(path, enforce_file_format=True)
    return path


def contents(path: Path) -> bytes:
    """A file's bytes and, after them, whatever is compressed in it."""
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        return raw + gzip.decompress(raw)
    if raw[:8] == b"\x89PNG\r\n\x1a\n":
        at, unpacked = 8, []
        while at < len(raw):
            length, kind = int.from_bytes(raw[at : at + 4], "big"), raw[at + 4 : at + 8]
            body = raw[at + 8 : at + 8 + length]
            if kind in (b"zTXt", b"iTXt"):
                unpacked.append(zlib.decompressobj().decompress(body[body.index(b"\0") + 2 :]))
            at += 12 + length
        return raw + b"".join(unpacked)
    return raw


def traces(path: Path, canaries: Sequence[str]) -> list[str]:
    """The canaries that a file holds, in any case and in UTF-8, Latin-1 or UTF-16 of either order."""
    content = contents(path).lower()
    words = [(word, word.lower()) for word in canaries]
    return [
        name
        for name, word in words
        if any(word.encode(code) in content for code in ("utf-8", "latin-1", "utf-16-le", "utf-16-be"))
    ]


def written_forms(value: str) -> list[str]:
    """Words to look for: a name's parts, and a date also with hyphens."""
    if len(value) == 8 and value.isdigit():
        return [value, f"{value[:4]}-{value[4:6]}-{value[6:]}"]
    return [part for part in value.split("^") if len(part) > 1]


IDENTITY = [form for key, value in KEPT.items() if key != "PatientSex" for form in written_forms(value)]
NEVER_WORDS = [form for value in NEVER.values() for form in written_forms(value)]
ALWAYS_OUT = [*NEVER_WORDS, "canary", "HOMECANARY"]
UIDS = [STUDY_UID, SERIES_UID, INSTANCE_UID, FRAME_UID]

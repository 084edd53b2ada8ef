"""Small files of every format, built where they are needed: nothing stored, nothing downloaded."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

PATIENT_NAME = "Secret^Patient"


def dicom_dataset(stored: np.ndarray, syntax: UID = ExplicitVRLittleEndian, **tags: Any) -> Dataset:
    """Data set of stored values (H, W), (F, H, W) with NumberOfFrames, or (H, W, 3); a tag of None is removed."""
    is_color = stored.ndim == 3 and stored.shape[2] == 3
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid(entropy_srcs=["medanomaly"])
    dataset.PatientName = PATIENT_NAME
    dataset.PatientID = "SECRET-ID"
    dataset.Rows, dataset.Columns = stored.shape[:2] if is_color or stored.ndim == 2 else stored.shape[1:]
    if stored.ndim == 3 and not is_color:
        dataset.NumberOfFrames = len(stored)
    dataset.SamplesPerPixel = 3 if is_color else 1
    if is_color:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = "RGB" if is_color else "MONOCHROME2"
    dataset.BitsAllocated = stored.dtype.itemsize * 8
    dataset.BitsStored = tags.get("BitsStored") or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 1 if stored.dtype.kind == "i" else 0
    dataset.PixelData = np.ascontiguousarray(stored).tobytes() + b"\0" * (stored.nbytes % 2)
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def write_dicom(path: Path, stored: np.ndarray, syntax: UID = ExplicitVRLittleEndian, **tags: Any) -> Path:
    dicom_dataset(stored, syntax, **tags).save_as(path, enforce_file_format=True)
    return path


def write_encapsulated_dicom(path: Path, stored: np.ndarray, code_stream: bytes, syntax: UID, **tags: Any) -> Path:
    """DICOM whose one frame is the given code stream, under the header of the stored values."""
    dataset = dicom_dataset(stored, syntax, **tags)
    dataset.PixelData = encapsulate([code_stream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_nifti(path: Path, values: np.ndarray, unit: str = "mm", zooms: tuple[float, ...] | None = None) -> Path:
    image = nibabel.Nifti1Image(values, np.eye(4))
    image.header.set_xyzt_units(unit)
    if zooms is not None:
        image.header.set_zooms(zooms)
    # Not nibabel.save: its gzip header holds the time, and a fuzz run must repeat.
    content = image.to_bytes()
    path.write_bytes(gzip.compress(content, mtime=0) if path.name.endswith(".gz") else content)
    return path


def write_image(path: Path, pixels: np.ndarray) -> Path:
    """The same uint8 (H, W) picture in the format of the path's suffix."""
    suffix = "".join(path.suffixes).lower()
    if suffix in (".png", ".tif", ".tiff"):
        Image.fromarray(pixels).save(path)
    elif suffix in (".jpg", ".jpeg"):
        Image.fromarray(pixels).save(path, quality=95)
    elif suffix == ".npy":
        np.save(path, pixels, allow_pickle=False)
    elif suffix == ".npz":
        np.savez_compressed(path, pixels=pixels)
    elif suffix in (".nii", ".nii.gz"):
        write_nifti(path, pixels)
    else:
        write_dicom(path, pixels)
    return path


ALL_SUFFIXES = (".png", ".jpg", ".tif", ".npy", ".npz", ".nii", ".nii.gz", ".dcm")


def ramp(rows: int = 40, columns: int = 60) -> np.ndarray:
    """uint8 (rows, columns), different in every direction."""
    return (np.arange(rows)[:, None] * 3 + np.arange(columns) * 2).astype(np.uint8)

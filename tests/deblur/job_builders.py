"""Blurred and sharp files of every kind, solvers whose answer is known, and a job on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from scipy import ndimage, signal
from torch import Tensor

from deblur.job import DeblurSettings, deblur_all
from deblur.kernel_spec import parse_kernel
from deblur.kernels import linear_motion
from deblur.policy import Policy
from deblur.restore import CLASSICAL, Restored, Restorer
from medanomaly.datasets.manifest import Record
from medanomaly.evaluation.job_report import Summary
from medanomaly.rng import numpy_generator

PATCH = (slice(4, 10), slice(6, 18))
UNGATED = Policy(gate=False)


def scene(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """(rows, columns) in [.1, .9]: blobs with edges, as smooth as a film."""
    noise = numpy_generator(seed, "deblur-test-scene").normal(size=(rows, columns))
    smooth = ndimage.gaussian_filter(noise, 4)
    edges = ndimage.gaussian_filter((smooth > 0.02).astype(float) + 0.3 * (smooth > -0.08), 0.6)
    field = edges + 3 * smooth + 0.04 * ndimage.gaussian_filter(noise, 1)
    return np.asarray(0.1 + 0.8 * (field - field.min()) / np.ptp(field))


def blurred(size: tuple[int, int], length: float, angle: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(picture, truth) in [0, 1]: a larger scene, blurred where the blur sees everything, half a gray level of noise."""
    taps = linear_motion(length, angle).numpy()
    truth = scene(size[0] + taps.shape[0] - 1, size[1] + taps.shape[1] - 1, seed)
    seen = signal.fftconvolve(truth, taps, mode="valid")
    seen = seen + 0.5 / 255 * numpy_generator(seed, "deblur-test-noise").normal(size=seen.shape)
    down, right = taps.shape[0] // 2, taps.shape[1] // 2
    return np.clip(seen, 0, 1), truth[down : down + size[0], right : right + size[1]]


def write_image(path: Path, pixels: np.ndarray) -> Record:
    """A PNG, TIFF or npy by its suffix, and its record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        Image.fromarray(pixels).save(path)
    return Record(id=path.name, patient_id=path.stem, image=path)


def write_dicom(path: Path, stored: np.ndarray, **tags: Any) -> Record:
    """A radiograph with a patient's name in it: 12 of 16 bits, a window, and what ``tags`` say instead."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = generate_uid(prefix=None), generate_uid(prefix=None)
    dataset.PatientName, dataset.PatientID, dataset.StudyDate = "Secret^Patient", "SECRET-ID", "20200102"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = 8 * stored.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored = bits, 12 if bits == 16 else 8
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = 2048, 4096, "LINEAR_EXACT"
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
    dataset["PixelData"].VR = "OW"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return Record(id=path.name, patient_id=path.stem, image=path)


class Brightener:
    """Adds a tenth to a patch and leaves the rest alone; remembers the sizes of its batches."""

    def __init__(self, by: float = 0.1) -> None:
        self.by = by
        self.batches: list[tuple[int, ...]] = []

    def __call__(self, y: Tensor, kernels: Sequence[Tensor], noise_sd: float) -> Restored:
        self.batches.append(tuple(y.shape))
        assert len(kernels) == len(y)
        made = y.clone()
        made[(..., *PATCH)] += self.by
        return Restored(image=made)


def restorer_of(restore: Callable[..., Restored] | str) -> Restorer:
    """A solver by its name, or around a function."""
    if isinstance(restore, str):
        return Restorer(name=restore, restore=CLASSICAL[restore], identity={})
    return Restorer(name="test", restore=restore, identity={})


def job(
    restore: Callable[..., Restored] | str,
    records: Sequence[Record],
    out: Path,
    kernel: str = "linear 7@20",
    *,
    stop: Callable[[], bool] = lambda: False,
    **settings: Any,
) -> tuple[Summary, dict[str, Any]]:
    """A job on the CPU; without a gate unless one is given."""
    made = DeblurSettings(**{"kernel": parse_kernel(kernel), "policy": UNGATED, "identity": "first", **settings})
    summary, lines = deblur_all(restorer_of(restore), records, out, made, stop=stop)
    return summary, dict(lines)


def report_lines(out: Path) -> list[dict[str, Any]]:
    """Every line of report.jsonl."""
    return [json.loads(line) for line in (out / "report.jsonl").read_text().splitlines()]


def image_of(out: Path, identifier: str) -> Path:
    """The image that the report names for an id."""
    line = next(line for line in reversed(report_lines(out)) if line["id"] == identifier)
    return Path(out / line["record"]["image"])


def pixels_of(path: Path) -> np.ndarray:
    """A PNG's values, of its own type."""
    with Image.open(path) as image:
        return np.asarray(image)


def unit(pixels: np.ndarray) -> Tensor:
    """(1, H, W) float64."""
    return torch.from_numpy(np.asarray(pixels, np.float64))[None]

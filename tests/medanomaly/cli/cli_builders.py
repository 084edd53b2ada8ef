"""Small worlds for the commands: a tiny checkpoint, a tiny data set, images of every kind, and the options that keep training tiny."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from toys import SIDE, images, tiny_config, tiny_method

from medanomaly.checkpoint import save_checkpoint
from medanomaly.cli.main import main
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.methods.experiment import Experiment
from medanomaly.scoring.operating_point import OperatingPoint
from medanomaly.training.config import TrainingConfig

TINY_TRAINING = (
    *("--preprocess.image-size", "16"),
    *("--method.network.channels", "[16,16]", "--method.network.attention", "[false,true]"),
    *("--method.network.head-channels", "16", "--method.network.norm-groups", "8"),
    *("--method.sampler.noise-level", "400", "--method.sampler.num-steps", "2", "--method.map.median-px", "0"),
    *("--training.num-steps", "3", "--training.batch-size", "4", "--training.precision", "fp32", "--training.warmup-steps", "0"),
    *("--training.log-every", "1", "--device", "cpu"),
)
"""Options after ``train phantom64-cfg`` that make it take a second."""


def tiny_checkpoint(folder: Path, *, threshold: float | None = 0.3) -> Path:
    """A folder with the weights of a random 16 x 16 network, as ``train`` would leave it."""
    method = tiny_method(tiny_config(sampler=SamplerConfig(noise_level=400, num_steps=2)))
    experiment = Experiment(
        name="tiny", method=method.config, preprocess=PreprocessConfig(image_size=SIDE), training=TrainingConfig(num_steps=1)
    )
    point = {"criterion": "mean per-image Dice", "chosen_on": "val", "target": None, "num_images": 2, "image_fingerprint": ()}
    points = [] if threshold is None else [OperatingPoint(value=threshold, **point).to_dict()]  # type: ignore[arg-type]
    header = {"experiment": experiment.to_dict(), "step": 1, "operating_points": points, "provenance": {"seen_images": []}}
    save_checkpoint(folder / "model.safetensors", method.denoiser.state_dict(), header)
    return folder


def picture(seed: int, rows: int = SIDE, columns: int = SIDE) -> np.ndarray:
    """(rows, columns) uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, (rows, columns), dtype=np.uint8)


def write_png(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_folder(root: Path, count: int) -> Path:
    """A folder of ``count`` different PNGs, 0.png, 1.png, ..."""
    for index, x in enumerate(images(count)):
        write_png(root / f"{index}.png", ((x[0].numpy() + 1) * 127.5).round().astype(np.uint8))
    return root


def write_dicom(path: Path, stored: np.ndarray, photometric: str = "MONOCHROME2") -> Path:
    """8-bit DICOM of (rows, columns) with a patient's name in it."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    dataset.PatientName, dataset.PatientID = "Secret^Patient", "SECRET-ID"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = stored.tobytes() + b"\0" * (stored.size % 2)
    dataset["PixelData"].VR = "OB"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_labelled(root: Path, rows: Sequence[tuple[str, str, str]], *, masks: bool = True) -> Path:
    """A manifest of (patient, label, split) rows with a different 16 x 16 image each, and a mask for each diseased one."""
    lines = ["id,patient_id,image,label,mask,split"]
    for index, (patient, label, split) in enumerate(rows):
        write_png(root / f"{index}.png", picture(index))
        mask = ""
        if masks and label == "diseased":
            lesion = np.zeros((SIDE, SIDE), np.uint8)
            lesion[4:9, 5:11] = 255
            mask = write_png(root / f"{index}-mask.png", lesion).name
        lines.append(f"i{index},{patient},{index}.png,{label},{mask},{split}")
    manifest = root / "manifest.csv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def report_lines(out: Path) -> list[dict[str, Any]]:
    """Every line of report.jsonl; fails where one is not JSON of its own, NaN included."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in (out / "report.jsonl").read_bytes().decode().split("\n")[:-1]]


def reasons(out: Path) -> dict[str, str]:
    """id -> reason code of its last line; "" = localized."""
    return {line["id"]: line["reason_code"] for line in report_lines(out)}


def written(out: Path) -> dict[str, int]:
    """Result files below a folder with their times of change in ns."""
    folders = ("maps", "images", "masks", "overlays", "figures", "pseudo_healthy")
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for name in folders for path in (out / name).glob("*")}


def output_of(out: Path, identifier: str, kind: str) -> Path:
    """The file of one kind (maps, masks, overlays, ...) that the report names for an id."""
    line = next(line for line in reversed(report_lines(out)) if line["id"] == identifier)
    return next(out / name for name in line["outputs"] if name.startswith(f"{kind}/"))


def localize(checkpoint: Path, source: Path, out: Path, *options: object) -> int:
    """Exit code of ``medanomaly localize`` on the CPU without a progress bar."""
    words = ["localize", checkpoint, source, out, "--device", "cpu", "--quiet", "true", *options]
    return main([str(word) for word in words])

"""What is fuzzed: a valid file of each format, how it is damaged, and how the toolkit reads it."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import torch
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, RLELossless

from benchmarks.drills import mutants
from benchmarks.drills.mutants import Mutate
from benchmarks.drills.tiny import IDENTITY, tiny_experiment, tiny_localize_folder, tiny_run_folder, write_tiny_checkpoint
from medanomaly.checkpoint import load_header
from medanomaly.cli.main import main
from medanomaly.cli.methods import ALL_METHODS, TRAINABLE_PRESETS
from medanomaly.cli.verify_run import settings_of
from medanomaly.datasets.check import check_manifest
from medanomaly.datasets.manifest import Record, read_manifest
from medanomaly.errors import EXIT_INTERNAL, MedanomalyError
from medanomaly.evaluation.ablation_config import read_ablation
from medanomaly.evaluation.benchmark_config import read_benchmark
from medanomaly.evaluation.job_report import finished, is_done
from medanomaly.evaluation.verify_run import verify_run
from medanomaly.io.integrity import check_integrity
from medanomaly.io.limits import ReadLimits
from medanomaly.io.options import ReadOptions
from medanomaly.io.reader import read_image, read_mask
from medanomaly.methods.experiment import load_trained
from medanomaly.training.log import RunLog
from medanomaly.training.loop import refuse_other_run, resume_step

LIMITS = ReadLimits(pixels=2**20, decoded_bytes=2**22)
"""Small ones, so that what passes them shows in the memory of the reading process."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """One kind of file that the toolkit reads."""

    name: str
    file: str
    """Name of the file that is damaged, below the folder of :attr:`make`."""
    make: Callable[[Path], None]
    """Fills a folder with a valid file and what belongs to it."""
    mutate: Mutate
    use: Callable[[Path], None]
    """Reads the file as the toolkit does; may raise MedanomalyError and nothing else."""
    default_count: int = 5000


class InternalError(Exception):
    """A command ended with exit code 1: it met something that nobody had thought of."""


def ramp() -> np.ndarray:
    """uint8 (24, 36), different in every direction."""
    return (np.arange(24)[:, None] * 5 + np.arange(36) * 3).astype(np.uint8)


def save_picture(file: str) -> Callable[[Path], None]:
    """Writes the ramp as raster, array or NIfTI, and once more undamaged for the masks to be compared with."""

    def make(folder: Path) -> None:
        for path in (folder / file, folder / f"fine-{file}"):
            if file.endswith((".nii", ".nii.gz")):
                nibabel.save(nibabel.Nifti1Image(ramp(), np.eye(4)), path)
            elif file.endswith(".npy"):
                np.save(path, ramp(), allow_pickle=False)
            elif file.endswith(".npz"):
                np.savez_compressed(path, pixels=ramp())
            else:
                Image.fromarray(ramp()).save(path)

    return make


def save_dicom(syntax: UID) -> Callable[[Path], None]:
    """Writes the ramp as a DICOM object of that transfer syntax."""

    def make(folder: Path) -> None:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
        dataset.PatientName, dataset.PatientID = "Drill^Patient", "drill"
        dataset.Rows, dataset.Columns = ramp().shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME1", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        dataset.RescaleSlope, dataset.RescaleIntercept = "1.5", "-3"
        dataset.WindowCenter, dataset.WindowWidth, dataset.PixelSpacing = "100", "200", ["0.5", "0.4"]
        dataset.PixelData = ramp().astype("<u2").tobytes()
        dataset["PixelData"].VR = "OW"
        if syntax != ExplicitVRLittleEndian:
            dataset.compress(syntax, generate_instance_uid=False)
        for name in ("drill.dcm", "fine-drill.dcm"):
            dataset.save_as(folder / name, enforce_file_format=True)

    return make


def use_picture(path: Path) -> None:
    """As an image, as the mask of an undamaged one, and to its last byte."""
    with contextlib.suppress(MedanomalyError):
        pixels = read_image(path, ReadOptions(limits=LIMITS)).pixels
        if not (pixels.ndim == 3 and pixels.dtype == np.float32 and np.isfinite(pixels).all()):
            raise InternalError(f"read as {pixels.dtype} {pixels.shape}, or not finite")
    with contextlib.suppress(MedanomalyError):
        mask = read_mask(path, ramp().shape, image_path=path.with_name(f"fine-{path.name}"), limits=LIMITS)
        if mask.dtype != np.bool_:
            raise InternalError(f"a mask read as {mask.dtype}")
    with contextlib.suppress(MedanomalyError):
        check_integrity(path, LIMITS)


def make_manifest(folder: Path) -> None:
    """Three images of two patients with every column filled."""
    for index in range(3):
        Image.fromarray(ramp() + np.uint8(index)).save(folder / f"{index}.png")
    rows = [
        [
            "id",
            "patient_id",
            "image",
            "label",
            "mask",
            "boxes",
            "split",
            "spacing_mm",
            "intensity_low",
            "intensity_high",
            "observations",
        ],
        ["a", "p0", "0.png", "healthy", "empty", "empty", "train", "0.5x0.4", "0", "255", "Edema=0"],
        ["b", "p1", "1.png", "diseased", "1.png", "1 2 10 12 Edema", "val", "0.5", "", "", "Edema=1; Mass=-1"],
        ["c", "p1", "2.png", "diseased", "", "1 1 4 4 x; 2 2 5 5 y", "val", "", "", "", ""],
    ]
    with open(folder / "manifest.csv", "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


def use_manifest(path: Path) -> None:
    """As `data check` does, without decoding the images."""
    check_manifest(read_manifest(path))


def quietly(words: list[str]) -> None:
    """A command with its output thrown away; exit code 1 is an escape."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = main(words)
    if code == EXIT_INTERNAL:
        raise InternalError(said.getvalue().strip())


def make_train_config(folder: Path) -> None:
    """Options of `train` as its --print_config would write them."""
    content = tiny_experiment().to_dict()
    method = {key: value for key, value in content["method"].items() if key != "kind"}
    text = {"method": method, "preprocess": content["preprocess"], "training": content["training"], "device": "cpu"}
    (folder / "config.yaml").write_bytes(mutants.text_of(text))


def use_train_config(path: Path) -> None:
    """`train --config FILE` up to the manifest, which is not there."""
    gone = path.with_name("gone")
    quietly(
        ["train", "phantom64-cfg", "--config", str(path), "--data", str(gone / "m.csv"), "--out", str(gone), "--device", "cpu"]
    )


@cache
def example(name: str) -> bytes:
    """A benchmark's file as it is shipped."""
    return (Path(__file__).resolve().parents[1] / name).read_bytes()


def use_benchmark(path: Path) -> None:
    """As `medanomaly benchmark` reads its file."""
    read_benchmark(path, presets=tuple(TRAINABLE_PRESETS))


def use_ablation(path: Path) -> None:
    """As `medanomaly ablate` reads its file."""
    read_ablation(path, presets=tuple(TRAINABLE_PRESETS))


def use_checkpoint(path: Path) -> None:
    """Its header, and as `localize` loads it."""
    with contextlib.suppress(MedanomalyError):
        load_header(path)
    load_trained(path, ALL_METHODS, torch.device("cpu"))


@cache
def tiny_recipe() -> object:
    """A recipe whose state is replaced again and again."""
    experiment = tiny_experiment()
    return experiment.method.recipe(image_channels=1, training=experiment.training, device=torch.device("cpu"))


def use_train_state(path: Path) -> None:
    """As `train` continues from it."""
    resume_step(path.parent, tiny_recipe(), IDENTITY)  # type: ignore[arg-type]


def use_training_log(path: Path) -> None:
    """As `train` continues it, and as verify-run looks at it."""
    RunLog(path, first_step=2)
    verify_run(path.parent, settings_of)


def use_run_file(path: Path) -> None:
    """As verify-run reads it, and as a continued training asks run.json whose folder it is."""
    with contextlib.suppress(MedanomalyError):
        refuse_other_run(path.parent, IDENTITY)
    verify_run(path.parent, settings_of)


def use_report(path: Path) -> None:
    """As verify-run reads it, and as `localize` and `localize --overwrite` continue from it."""
    verify_run(path.parent, settings_of)
    whole = path.read_bytes()
    with contextlib.suppress(MedanomalyError):
        done = finished(path.parent, IDENTITY, overwrite=False)
        for name in ("0.png", "1.png"):
            is_done(Record(id=name, patient_id=name, image=path.with_name(name)), done, path.parent)
    path.write_bytes(whole)
    finished(path.parent, "another", overwrite=True)


def picture(name: str, file: str, mutate: Mutate = mutants.bytes_mutant) -> Format:
    """A raster, array or NIfTI format."""
    return Format(name=name, file=file, make=save_picture(file), mutate=mutate, use=use_picture)


def run_file(
    file: str, mutate: Mutate, use: Callable[[Path], None], make: Callable[[Path], None] = tiny_localize_folder
) -> Format:
    """A file of a run's folder."""
    return Format(name=file, file=file, make=make, mutate=mutate, use=use)


def copied(example_name: str, file: str) -> Callable[[Path], None]:
    """Puts a shipped file into the folder."""
    return lambda folder: (folder / file).write_bytes(example(example_name)) and None


FORMATS = {
    one.name: one
    for one in (
        picture("PNG", "drill.png", mutants.png_mutant),
        picture("JPEG", "drill.jpg"),
        picture("TIFF", "drill.tif"),
        picture("BMP", "drill.bmp"),
        Format(
            name="DICOM",
            file="drill.dcm",
            make=save_dicom(ExplicitVRLittleEndian),
            mutate=mutants.dicom_mutant,
            use=use_picture,
        ),
        Format(name="DICOM, RLE", file="drill.dcm", make=save_dicom(RLELossless), mutate=mutants.dicom_mutant, use=use_picture),
        picture("NIfTI", "drill.nii"),
        picture("NIfTI, gzip", "drill.nii.gz", mutants.gzip_mutant),
        picture("npy", "drill.npy"),
        picture("npz", "drill.npz", mutants.zip_mutant),
        Format(name="manifest (CSV)", file="manifest.csv", make=make_manifest, mutate=mutants.csv_mutant, use=use_manifest),
        Format(
            name="train --config (YAML)",
            file="config.yaml",
            make=make_train_config,
            mutate=mutants.yaml_mutant,
            use=use_train_config,
            default_count=1000,
        ),
        Format(
            name="benchmark (YAML)",
            file="b.yaml",
            make=copied("lgg64.yaml", "b.yaml"),
            mutate=mutants.yaml_mutant,
            use=use_benchmark,
            default_count=2000,
        ),
        Format(
            name="ablation (YAML)",
            file="a.yaml",
            make=copied("digits-ablation.yaml", "a.yaml"),
            mutate=mutants.yaml_mutant,
            use=use_ablation,
            default_count=2000,
        ),
        Format(
            name="checkpoint (safetensors)",
            file="model.safetensors",
            make=write_tiny_checkpoint,
            mutate=mutants.safetensors_mutant,
            use=use_checkpoint,
        ),
        Format(
            name="training state",
            file="train_state.pt",
            make=tiny_run_folder,
            mutate=mutants.state_mutant,
            use=use_train_state,
        ),
        run_file("log.jsonl", mutants.lines_mutant, use_training_log, tiny_run_folder),
        run_file("run.json", mutants.json_mutant, use_run_file, tiny_run_folder),
        run_file("config.json", mutants.json_mutant, use_run_file, tiny_run_folder),
        run_file("status.json", mutants.json_mutant, use_run_file),
        run_file("report.jsonl", mutants.lines_mutant, use_report),
    )
}
"""By name, in the order of the table."""

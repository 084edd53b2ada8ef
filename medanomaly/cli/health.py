"""Is this machine fit to run the toolkit: each check tries the thing itself, and says what to do where it fails."""

from __future__ import annotations

import functools
import importlib.metadata
import io
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from packaging.requirements import Requirement
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from medanomaly.checkpoint import load_checkpoint
from medanomaly.errors import EXIT_OK, InputError, MedanomalyError, ResourceError
from medanomaly.files import atomic_write, sha256_of
from medanomaly.io.reader import read_image

Level = Literal["ok", "warning", "problem"]
LITTLE_DISK_MIB, NO_DISK_MIB = 2048, 100
LITTLE_SHARED_MIB = 256
"""Loading processes hand batches over in /dev/shm; containers often have 64 MiB, and a worker that finds it full dies of SIGBUS."""
CODECS = "pip install pylibjpeg pylibjpeg-openjpeg pyjpegls python-gdcm"
ASSETS = ("live.html", "live.js", "live.css", "report.html.j2", "report.js", "report.css")
DISTRIBUTION = "medanomaly"
_CARD_HASH = re.compile(r"^\* File: .*SHA-256 `([0-9a-f]{64})`", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What one look found."""

    name: str
    level: Level
    message: str
    fix: str = ""
    exit_code: int = InputError.exit_code
    """Of the command where this is a problem: 6 = resources, 4 = everything else."""

    def __str__(self) -> str:
        return f"{self.level:8s} {self.name}: {self.message}" + (f"; {self.fix}" if self.fix and self.level != "ok" else "")


def exit_code(checks: Sequence[Check]) -> int:
    """0 without a problem, 6 where a resource is one, else 4."""
    return max((check.exit_code for check in checks if check.level == "problem"), default=EXIT_OK)


def checks(folder: Path, weights: Path, templates: Path) -> Iterator[Check]:
    """Every check, one at a time.

    Args:
        folder: where results would be written.
        weights: the folder of shipped weights and their model cards.
        templates: the folder of the live view's page and the report's.
    """
    yield python_check()
    yield requirements_check()
    yield device_check()
    yield from codec_checks()
    yield font_check()
    yield assets_check(templates)
    yield weights_check(weights)
    yield folder_check(folder)
    yield disk_check(folder)
    yield shared_memory_check()


def python_check() -> Check:
    """Interpreter, system, cores."""
    where = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return Check(name="environment", level="ok", message=where)


def requirements_check(distribution: str = DISTRIBUTION) -> Check:
    """Installed versions against the ranges of the package, whose minima carry the fixes it counts on."""
    name = "versions"
    try:
        wanted = [Requirement(text) for text in importlib.metadata.requires(distribution) or []]
    except importlib.metadata.PackageNotFoundError:
        return Check(name=name, level="warning", message="the package is not installed", fix="pip install -e .")
    faults, shown = [], []
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            faults.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            faults.append(f"{requirement.name} {version} is not {requirement.specifier}")
        if requirement.name in ("torch", "monai", "pydicom"):
            shown.append(f"{requirement.name} {version}")
    if faults:
        return Check(name=name, level="problem", message=", ".join(faults), fix="pip install -e . in an environment of its own")
    return Check(name=name, level="ok", message=f"{', '.join(shown)}; all as pyproject.toml asks")


def device_check() -> Check:
    """What `--device auto` takes, tried with a product of matrices."""
    if not torch.cuda.is_available():
        return Check(name="device", level="ok", message=f"cpu, {torch.get_num_threads()} threads; no CUDA")
    try:
        x = torch.ones(64, 64, device="cuda")
        works = float((x @ x).sum()) == 64.0**3
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        message = f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB"
    except RuntimeError as error:
        works, message = False, f"CUDA is there and does not compute ({' '.join(str(error).split())[:120]})"
    fix = "use --device cpu, or install the torch build of this driver"
    return Check(name="device", level="ok" if works else "problem", message=message, fix=fix, exit_code=ResourceError.exit_code)


def codec_checks() -> Iterator[Check]:
    """Compressed DICOM: a picture is encoded, written and read back; what nothing here can encode is only asked for."""
    made: dict[UID, Callable[[], bytes | None]] = {
        RLELossless: lambda: None,
        JPEGBaseline8Bit: lambda: pillow_bytes("JPEG", quality=95),
        JPEG2000Lossless: lambda: pillow_bytes("JPEG2000", no_jp2=True),
        JPEGLSLossless: jpeg_ls_bytes,
    }
    for syntax, encode in made.items():
        yield codec_check(syntax, encode)
    for syntax in (JPEGLosslessSV1, HTJ2KLossless):
        found = get_decoder(syntax).is_available
        message = "a decoder is installed" if found else "no decoder is installed; such files are refused with E_CODEC"
        yield Check(name=f"DICOM {syntax.name}", level="ok" if found else "warning", message=message, fix=CODECS)


def picture() -> np.ndarray:
    """uint8 (16, 24), smooth enough for a lossy code."""
    return (np.arange(16)[:, None] * 4 + np.arange(24) * 3).astype(np.uint8)


def pillow_bytes(kind: str, **options: object) -> bytes:
    """The picture as a code stream of Pillow's."""
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, kind, **options)
    return stream.getvalue()


def jpeg_ls_bytes() -> bytes:
    """The picture as a JPEG-LS code stream."""
    from jpeg_ls import encode_array  # type: ignore[import-not-found, import-untyped, unused-ignore]

    return bytes(encode_array(picture()))


def codec_check(syntax: UID, encode: Callable[[], bytes | None]) -> Check:
    """One transfer syntax there and back, a lossy one to four gray levels."""
    name = f"DICOM {syntax.name}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "picture.dcm"
            write_compressed(path, syntax, encode())
            difference = float(np.abs(read_image(path).pixels[0] - picture()).max())
    except ImportError as error:
        return Check(name=name, level="warning", message=f"cannot be tried ({error})", fix=CODECS)
    # Whatever an encoder or a broken library raises is what this check is for.
    except Exception as error:
        return Check(name=name, level="problem", message=" ".join(str(error).split())[:200], fix=CODECS)
    if difference > (4 if syntax == JPEGBaseline8Bit else 0):
        return Check(name=name, level="problem", message=f"decodes to other values, by up to {difference:g}", fix=CODECS)
    return Check(name=name, level="ok", message="decodes")


def write_compressed(path: Path, syntax: UID, code_stream: bytes | None) -> None:
    """The picture as a DICOM object; None = compressed by pydicom."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = picture().shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    if code_stream is None:
        dataset.compress(syntax, picture(), generate_instance_uid=False)
    else:
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([code_stream])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)


def font_check() -> Check:
    """The font of figures and overlays, which comes with matplotlib."""
    from matplotlib.font_manager import FontProperties, findfont

    try:
        found = Path(findfont(FontProperties(family="DejaVu Sans"), fallback_to_default=False)).name
    except ValueError:
        return Check(name="font", level="warning", message="DejaVu Sans is not found", fix="install matplotlib again")
    return Check(name="font", level="ok", message=found)


def assets_check(templates: Path) -> Check:
    """Pages of the live view and the report, and the server that hands panes on."""
    absent = [name for name in ASSETS if not (templates / name).is_file()]
    if absent:
        message = f"{', '.join(absent)} missing in {templates}"
        return Check(name="live view", level="problem", message=message, fix="install medanomaly again")
    try:
        version = importlib.metadata.version("visdom")
    except importlib.metadata.PackageNotFoundError:
        return Check(name="live view", level="warning", message="visdom is not installed", fix="pip install visdom")
    return Check(name="live view", level="ok", message=f"page and report are there, visdom {version}")


def weights_check(folder: Path) -> Check:
    """Shipped weights against the hash that the model card beside them states; each is read as well."""
    name, fix = "shipped weights", "install medanomaly again"
    faults, files = [], sorted(folder.glob("*/model.safetensors"))
    for file in files:
        card = file.with_name("MODEL_CARD.md")
        stated = _CARD_HASH.search(card.read_text(encoding="utf-8")) if card.is_file() else None
        if stated is None:
            faults.append(f"{file.parent.name}: no card states its hash")
        elif sha256_of(file) != stated[1]:
            faults.append(f"{file.parent.name}: is not the file its card describes")
        else:
            try:
                load_checkpoint(file)
            except MedanomalyError as error:
                faults.append(f"{file.parent.name}: {error.message}")
    if not files:
        return Check(name=name, level="problem", message=f"there are none in {folder}", fix=fix)
    if faults:
        return Check(name=name, level="problem", message=", ".join(faults), fix=fix)
    return Check(name=name, level="ok", message=f"{', '.join(file.parent.name for file in files)}: as their cards say")


def nearest_existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def folder_check(folder: Path) -> Check:
    """A file is written whole and removed, as results are."""
    where = nearest_existing(folder)
    probe = where / f".medanomaly-doctor-{os.getpid()}-{time.time_ns()}"
    try:
        with atomic_write(probe) as stream:
            stream.write(b"probe")
        probe.unlink()
    except (MedanomalyError, OSError) as error:
        text = error.message if isinstance(error, MedanomalyError) else str(error.strerror)
        fix = "choose another output folder"
        code = ResourceError.exit_code
        return Check(name="output folder", level="problem", message=f"{where}: {text}", fix=fix, exit_code=code)
    return Check(name="output folder", level="ok", message=f"{where} can be written")


def disk_check(folder: Path) -> Check:
    """Free space where results would be written."""
    free = shutil.disk_usage(nearest_existing(folder)).free / 2**20
    level: Level = "problem" if free < NO_DISK_MIB else "warning" if free < LITTLE_DISK_MIB else "ok"
    fix = "free space, or choose another output folder"
    return Check(name="disk", level=level, message=f"{free / 1024:.1f} GiB free", fix=fix, exit_code=ResourceError.exit_code)


@functools.cache
def shared_memory_folder() -> Path:
    """Where Linux keeps shared memory."""
    return Path("/dev/shm")


def shared_memory_check() -> Check:
    """Room for batches that loading processes hand over; a tensor is put there."""
    name, fix = "shared memory", "use --training.num-workers 0, or give the container more (docker run --shm-size 1g)"
    try:
        torch.zeros(2**18).share_memory_()  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError) as error:
        text = f"cannot be used ({' '.join(str(error).split())[:120]})"
        return Check(name=name, level="problem", message=text, fix=fix, exit_code=ResourceError.exit_code)
    if not shared_memory_folder().is_dir():
        return Check(name=name, level="ok", message="works")
    free = shutil.disk_usage(shared_memory_folder()).free / 2**20
    return Check(name=name, level="warning" if free < LITTLE_SHARED_MIB else "ok", message=f"{free:.0f} MiB free", fix=fix)

"""One image of a deblurring job: read with its plan, judged, written, and the line of the report that says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from deblur.dicom_stored import limits_of, write_derived
from deblur.diffpir import noise_floor
from deblur.job_table import quality_of
from deblur.kernel_spec import KernelSpec
from deblur.picture import Picture, change_of, moved, read_picture, write_picture
from deblur.policy import Plan, Policy, judge, outcome_of, plan
from deblur.restore import Restored
from medanomaly.datasets.manifest import Record
from medanomaly.errors import ConfigError, InputError
from medanomaly.files import safe_name
from medanomaly.io.writers import write_npy


@dataclass(frozen=True, kw_only=True)
class DeblurSettings:
    """What a job does, but for the solver."""

    kernel: KernelSpec
    noise_level: float = 0.5
    """Standard deviation of the noise on the 0..255 scale of the image's window, before rounding; the seed's default."""
    policy: Policy = Policy()
    to: Literal["png", "npy"] = "png"
    """Of sources that are not DICOM, which give DICOM."""
    keep_patient: bool = False
    """DICOM outputs name the source's patient and study and reference it; else they carry no identity."""
    seed: int = 0
    """Of random kernels."""
    batch_size: int = 4
    overwrite: bool = False
    identity: str
    """Hash of all that decides the outputs."""

    def __post_init__(self) -> None:
        if not 0 < self.noise_level <= 255:
            raise ConfigError(
                f"noise_level must be above 0 and at most 255, got {self.noise_level:g}",
                code="E_CONFIG",
                fix="0.5 is half a gray level of an 8-bit image, about the least there is",
            )
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}", code="E_CONFIG")


@dataclass(frozen=True, eq=False, kw_only=True)
class Ready:
    """A picture with its plan."""

    picture: Picture
    plan: Plan
    noise_sd: float
    """In [0, 1], rounding included."""


def prepared(record: Record, settings: DeblurSettings) -> Ready:
    """Read a picture and choose its kernel.

    Raises:
        InputError, ConfigError: as :func:`read_picture` and :func:`deblur.policy.plan`.
    """
    picture = read_picture(record)
    made = plan(
        picture.y,
        settings.kernel,
        step=picture.step,
        policy=settings.policy,
        spacing_mm=picture.spacing_mm,
        seed=settings.seed,
        key=record.id,
    )
    num_gray_levels = round(1 / picture.step) + 1 if picture.step else None
    return Ready(picture=picture, plan=made, noise_sd=noise_floor(settings.noise_level / 255, num_gray_levels))


def written(
    out: Path, one: Ready, restored: Restored | None, settings: DeblurSettings, solver: str, seconds: float
) -> dict[str, Any]:
    """Judge and write one image; its line of the report."""
    picture, made = one.picture, one.plan
    record, name = picture.record, safe_name(picture.record.id)
    result = None if restored is None else restored.image[0]
    verdict = made.verdict if result is None else judge(picture.y, result, made, one.noise_sd, settings.policy)
    used = result if verdict.accepted else None
    outputs = [f"kernels/{name}.npy"]
    write_npy(out / outputs[0], made.kernel.numpy().astype("float32"))
    notes = picture.notes
    if picture.dicom is None:
        image, after = write_picture(out, name, picture, used, to_npy=settings.to == "npy")
    else:
        image, after = f"images/{name}.dcm", record
        notes += write_dicom_picture(out / image, picture, used, settings, f"{solver}, kernel {made.text}")
    outputs.append(image)
    if used is not None and restored is not None and restored.std is not None:
        outputs.append(f"std/{name}.npy")
        # In the image's own units.
        write_npy(out / outputs[-1], (restored.std[0, 0] * (picture.high - picture.low)).to(torch.float32).numpy())
    facts = {
        "kernel": made.text,
        "kernel_size": list(made.kernel.shape),
        "kernel_file": outputs[0],
        "kernel_source": made.source,
        "confidence": made.confidence,
        "noise_level": settings.noise_level,
        "gate": settings.policy.gate,
        "verdict": verdict.status,
        "reasons": list(verdict.reasons),
        "values": verdict.values,
        "before": quality_of(picture.y),
        "after": None if used is None else quality_of(used.clamp(0, 1)),
    }
    new = {
        "image": image,
        "intensity_range": None if after.intensity_range is None else list(after.intensity_range),
        "spacing_mm": None if picture.spacing_mm is None else list(picture.spacing_mm),
    }
    return {
        "id": record.id,
        "status": "ok",
        "reason_code": "",
        "message": "; ".join((*notes, *verdict.reasons)),
        "outcome": outcome_of(verdict),
        "deblur": facts,
        "record": new,
        "outputs": outputs,
        "sha256_in": picture.sha256,
        "identity": settings.identity,
        "intensity_range": None if record.intensity_range is None else list(record.intensity_range),
        "spacing_given": None if record.spacing_mm is None else list(record.spacing_mm),
        "seconds": seconds,
    }


def write_dicom_picture(
    path: Path, picture: Picture, restored: torch.Tensor | None, settings: DeblurSettings, what: str
) -> tuple[str, ...]:
    """A derived DICOM image: the source's stored values, moved where the solver moved them. Returns notes."""
    dicom = picture.dicom
    if dicom is None:
        raise InputError("is not DICOM", code="E_FORMAT", path=picture.record.image, fix="write a PNG")
    stored = picture.stored
    if restored is not None:
        stored = moved(stored, picture.scale * change_of(picture, restored), *limits_of(dicom.display)).astype(stored.dtype)
    return write_derived(
        path,
        picture.record.image,
        dicom,
        stored,
        settings=settings.identity,
        what=what if restored is not None else "unchanged",
        keep_patient=settings.keep_patient,
    )

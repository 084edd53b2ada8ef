"""What a job writes of one image: arrays and pictures, NIfTI, and DICOM, each where the source allows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.transforms import to_native
from medanomaly.errors import InputError
from medanomaly.files import safe_name
from medanomaly.io.dicom_burned_in import UNCHECKED, burned_in_of
from medanomaly.io.faults import library_faults
from medanomaly.io.formats import format_of
from medanomaly.io.nifti_out import write_nifti
from medanomaly.io.writers import write_npy, write_png
from medanomaly.types import AnomalyResult, FloatArray, Geometry
from medanomaly.views.overlay import map_overlay, overlay_figure
from medanomaly.views.shown import picture, shown_channel

PLAIN = "png"
DICOM_KINDS = ("sc", "seg", "pm", "pr")
KINDS = (PLAIN, "nifti", *DICOM_KINDS)
"""What ``--to`` can name: npy maps with PNG pictures, NIfTI maps and masks, and DICOM Secondary Capture, Segmentation, Parametric Map,
Presentation State."""
NEED_THRESHOLD = ("sc", "seg", "pr")


@dataclass(frozen=True, kw_only=True)
class BulkSettings:
    """What a job writes and how."""

    threshold: float | None
    """Operating point for masks and overlays; None = float maps and pseudo-healthy images only."""
    scale_max: float
    """Top of the one colour scale of the job, in map units."""
    unit: str = "|x - pseudo-healthy|"
    """What the map's numbers are, above the colour bar."""
    identity: str
    """Hash of everything that decides the outputs: checkpoint, sampler, threshold."""
    batch_size: int = 8
    overwrite: bool = False
    """Redo a folder that was made with other settings."""
    kinds: tuple[str, ...] = (PLAIN,)
    """Of ``KINDS``; those of ``NEED_THRESHOLD`` want a threshold."""
    keep_patient: bool = False
    """DICOM outputs name the source's patient and study and reference it; else they carry no identity."""
    burned_in: bool = False
    """Pictures are made also of sources that say that text is burned into their pixels; always so with ``keep_patient``."""
    finding: str = "lesion"
    """What a Segmentation's segment marks, a name that :func:`medanomaly.io.dicom_codes.finding_code` knows."""
    volumes: bool = False
    """NIfTI files of several slices are localized whole; else they need a frame."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image read and ready."""

    record: Record
    sha256: str
    x: Tensor
    geometry: Geometry
    native: FloatArray
    """(C, H, W) in [-1, 1], for pictures."""
    notes: tuple[str, ...]
    frame: int | None = None
    """0-based frame or slice that was read, None = the only one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was made of an image."""

    outputs: tuple[str, ...] = ()
    """Names below the job's folder."""
    notes: tuple[str, ...] = ()
    """What was left out and why, for the report."""
    withheld: tuple[str, ...] = ()
    """Reason codes of outputs that were asked for and refused."""

    def __add__(self, other: Written) -> Written:
        return Written(
            outputs=self.outputs + other.outputs, notes=self.notes + other.notes, withheld=self.withheld + other.withheld
        )


def write_outputs(out: Path, loaded: Loaded, result: AnomalyResult, settings: BulkSettings) -> Written:
    """Write one image's results at native size and return their names below ``out``.

    Kinds that the source's format does not allow are left out with a note: DICOM needs a DICOM source, NIfTI a NIfTI source.

    Raises:
        InputError: E_NONFINITE; E_MALFORMED and the like where the source cannot be read again.
        ResourceError: a file cannot be written.
    """
    anomaly_map = np.clip(to_native(result.anomaly_map[0], loaded.geometry)[0], 0, None)
    if not np.isfinite(anomaly_map).all():
        raise InputError("the method gave a map that is not finite", code="E_NONFINITE", path=loaded.record.image)
    made = Written()
    if PLAIN in settings.kinds:
        made += write_plain(out, loaded, result, anomaly_map, settings)
    wanted = [kind for kind in settings.kinds if kind != PLAIN]
    source_format = format_of(loaded.record.image) if wanted else ""
    if "nifti" in wanted and source_format.startswith("NIfTI"):
        made += write_niftis(out, loaded.record, anomaly_map, settings, loaded.frame)
        wanted.remove("nifti")
    if source_format == "DICOM" and set(wanted) & set(DICOM_KINDS):
        made += write_dicoms(out, loaded, anomaly_map, settings)
        wanted = [kind for kind in wanted if kind not in DICOM_KINDS]
    return made + skipped(wanted, f"the source is {source_format}")


def skipped(kinds: list[str], why: str) -> Written:
    """The note about kinds that were asked for and cannot be."""
    return Written(notes=(f"{', '.join(kinds)} skipped: {why}",)) if kinds else Written()


def write_plain(out: Path, loaded: Loaded, result: AnomalyResult, anomaly_map: FloatArray, settings: BulkSettings) -> Written:
    """The map as npy; image, pseudo-healthy image, mask, overlay and figure as PNG; the deviation of several maps as npy.

    Of a source that says that text is burned into its pixels there are only map, deviation and mask, unless somebody allowed pictures:
    image, overlay and figure show its pixels, and the pseudo-healthy image keeps what the walk did not take for an anomaly.
    """
    name, burned_in = safe_name(loaded.record.id), burned_in_of(loaded.record.image)
    shown = settings.burned_in or settings.keep_patient or burned_in != "YES"
    outputs = [f"maps/{name}.npy"]
    write_npy(out / outputs[0], anomaly_map)
    if shown:
        outputs.append(f"images/{name}.png")
        write_png(out / outputs[-1], picture(loaded.native))
    if result.pseudo_healthy is not None and shown:
        twin = np.clip(to_native(result.pseudo_healthy[0], loaded.geometry), -1, 1)
        outputs.append(f"pseudo_healthy/{name}.png")
        write_png(out / outputs[-1], picture(twin))
        if shown_channel(len(twin)):
            # The picture shows one channel; the array has them all.
            outputs.append(f"pseudo_healthy/{name}.npy")
            write_npy(out / outputs[-1], twin)
    if result.map_std is not None:
        outputs.append(f"uncertainty/{name}.npy")
        write_npy(out / outputs[-1], np.clip(to_native(result.map_std[0], loaded.geometry)[0], 0, None))
    if settings.threshold is not None:
        outputs.append(f"masks/{name}.png")
        write_png(out / outputs[-1], anomaly_map > settings.threshold)
    if settings.threshold is not None and shown:
        outputs += [f"overlays/{name}.png", f"figures/{name}.png"]
        threshold, scale_max = settings.threshold, settings.scale_max
        write_png(out / outputs[-2], map_overlay(loaded.native, anomaly_map, threshold=threshold, scale_max=scale_max))
        overlay_figure(
            out / outputs[-1], loaded.native, anomaly_map, threshold=threshold, scale_max=scale_max, unit=settings.unit
        )
    if not shown:
        return Written(outputs=tuple(outputs), notes=(withheld_note("pictures"),), withheld=("E_BURNED_IN",))
    unchecked = burned_in == "" and not settings.keep_patient
    return Written(outputs=tuple(outputs), notes=(f"pictures: {UNCHECKED}",) if unchecked else ())


def withheld_note(what: str) -> str:
    """What was not written, for the report. Map and mask are: they hold no pixel of the source, though a map may trace its letters."""
    return (
        f"{what} withheld: text is burned into the pixels (BurnedInAnnotation YES) [E_BURNED_IN]; the map may trace its letters"
    )


def write_niftis(out: Path, record: Record, anomaly_map: FloatArray, settings: BulkSettings, frame: int | None = None) -> Written:
    """The map (R, C) or (R, C, K), and where there is a threshold the mask, on the grid of the NIfTI source."""
    name = safe_name(record.id)
    outputs = [f"nifti_maps/{name}.nii.gz"]
    write_nifti(out / outputs[0], anomaly_map, record.image, frame)
    if settings.threshold is not None:
        outputs.append(f"nifti_masks/{name}.nii.gz")
        write_nifti(out / outputs[1], anomaly_map > settings.threshold, record.image, frame)
    return Written(outputs=tuple(outputs))


def write_dicoms(out: Path, loaded: Loaded, anomaly_map: FloatArray, settings: BulkSettings) -> Written:
    """The kinds of DICOM object that were asked for, all in one study.

    A source whose header says that text is burned into its pixels gets no Secondary Capture unless somebody allowed it: map and
    mask hold no pixels of the source, the overlay does. Where the header does not say, the overlay is written and the report says so.
    A Presentation State is made of gray sources only, and with the patient only: it is nothing without the UIDs of its image.
    """
    # Here, because the library takes seconds to import and most jobs write no DICOM.
    from medanomaly.io.dicom_codes import finding_code
    from medanomaly.io.dicom_identity import read_source
    from medanomaly.io.dicom_making import Making
    from medanomaly.io.dicom_out import Target, parametric_map, secondary_capture, segmentation, write_dicom
    from medanomaly.io.dicom_presentation import presentation_state

    name, threshold = safe_name(loaded.record.id), settings.threshold
    source = read_source(loaded.record.image, loaded.frame, keep_patient=settings.keep_patient)
    target = Target.of(source)
    making = Making(
        settings=settings.identity,
        threshold=threshold,
        scale_max=settings.scale_max,
        unit=settings.unit,
        finding=finding_code(settings.finding),
    )

    def built(kind: str) -> Any:
        # Whatever the library has against a value of the source is this image's fault, not the job's.
        with library_faults(loaded.record.image, "DICOM", quote=False):
            if kind == "pm" or threshold is None:
                return parametric_map(anomaly_map, source, target, making)
            if kind == "seg":
                return segmentation(anomaly_map > threshold, source, target, making)
            if kind == "pr":
                return presentation_state(anomaly_map > threshold, loaded.record.image, loaded.frame, source, target, making)
            overlay = map_overlay(loaded.native, anomaly_map, threshold=threshold, scale_max=settings.scale_max)
            return secondary_capture(overlay, source, target, making, show_text=settings.burned_in)

    made = Written(notes=() if source.spacing_mm else ("pixel spacing is unknown: DICOM outputs say 1 mm where one must stand",))
    for kind in [kind for kind in settings.kinds if kind == "pm" or (kind in DICOM_KINDS and threshold is not None)]:
        try:
            result = built(kind)
        except InputError as error:
            if error.code not in ("E_BURNED_IN", "E_COLOR"):
                raise
            burned_in = error.code == "E_BURNED_IN"
            note = withheld_note(kind) if burned_in else f"{kind} skipped: {error.message} [{error.code}]"
            made += Written(notes=(note,), withheld=(error.code,) if burned_in else ())
            continue
        write_dicom(out / kind / f"{name}.dcm", result)
        made += Written(outputs=(f"{kind}/{name}.dcm",))
        if kind == "sc" and not source.burned_in and not settings.keep_patient:
            made += Written(notes=(f"pictures: {UNCHECKED}",))
    return made

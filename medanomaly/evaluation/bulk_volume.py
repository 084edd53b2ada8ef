"""A NIfTI volume is localized slice by slice, as the network was trained, and becomes one map in the order of its file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.transforms import PreprocessConfig, intensity_windows, scale_to_model, to_model, to_native
from medanomaly.errors import InputError, MedanomalyError
from medanomaly.evaluation.bulk_answers import answered, memory_short
from medanomaly.evaluation.bulk_lines import Clock, Job
from medanomaly.evaluation.bulk_outputs import BulkSettings, Loaded, Written, skipped, write_niftis
from medanomaly.files import sha256_of
from medanomaly.io.channels import to_channels
from medanomaly.io.faults import library_faults
from medanomaly.io.formats import format_of
from medanomaly.io.limits import regular_file_size
from medanomaly.io.nifti import nifti_header
from medanomaly.io.nifti_out import stored_order
from medanomaly.io.options import ReadOptions
from medanomaly.io.volume import Volume, axial_slices, read_volume
from medanomaly.types import AnomalyMethod, AnomalyResult, FloatArray, RawImage, WalkObserver


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedVolume:
    """A volume read and cut into axial pictures."""

    record: Record
    sha256: str
    volume: Volume
    planes: FloatArray
    """(K, H, W) in [-1, 1], in radiological view, all scaled by one window."""
    notes: tuple[str, ...]


def is_volume(record: Record, options: ReadOptions) -> bool:
    """Whether a record is a NIfTI file of several slices; False for what cannot be read, which reading it will report."""
    try:
        regular_file_size(record.image, options.limits)
        if not format_of(record.image).startswith("NIfTI"):
            return False
        with library_faults(record.image, "NIfTI"):
            sizes = nifti_header(record.image)["dim"]
            return int(sizes[0]) >= 3 and int(sizes[3]) > 1
    except MedanomalyError:
        return False


def localize_volume(
    method: AnomalyMethod,
    record: Record,
    preprocess: PreprocessConfig,
    job: Job,
    *,
    options: ReadOptions,
    device: torch.device | str,
    stop: Callable[[], bool],
    observer: WalkObserver | None,
) -> None:
    """All slices of one NIfTI volume, then its map and mask; its score is that of its highest slice.

    A stop before or between two batches leaves the whole volume to the next run, and is noted in the job's summary.
    """
    clock = Clock()
    with job.failures_reported(record):
        one = load_volume(record, preprocess, options)
        slices = list(slices_of(one, preprocess, options))
        maps: list[FloatArray] = []
        scores: list[float] = []
        for start in range(0, len(slices), job.settings.batch_size):
            if stop():
                job.summary.stopped = True
                return
            chunk = slices[start : start + job.settings.batch_size]
            for loaded, result in answered(method, chunk, device, observer, filled_to=job.filled_to):
                if result is None:
                    raise memory_short(loaded)
                maps.append(native_map(loaded, result))
                scores.append(float(result.score[0]))
        written = write_volume(job.out, one, maps, job.settings)
        job.report(record, written, score=max(scores), sha256=one.sha256, notes=one.notes, seconds=clock.lap())


def load_volume(record: Record, preprocess: PreprocessConfig, options: ReadOptions) -> LoadedVolume:
    """Read a volume and scale it by one window, so that its slices stay comparable.

    The window is the record's or the config's where one is given, else percentiles of all voxels together.

    Raises:
        InputError: what reading a volume raises; a series of volumes (four axes) is E_MULTIFRAME.
    """
    with library_faults(record.image, "NIfTI"):
        volume = read_volume(record.image, options.limits)
        planes, _ = axial_slices(volume)
        whole = RawImage(pixels=planes.reshape(1, -1, planes.shape[2]), value_range=None)
        windows = intensity_windows(whole, preprocess, record.intensity_range)
        scaled = scale_to_model(whole.pixels, windows).numpy().reshape(planes.shape)
        low, high = windows[0]
        note = f"{len(planes)} slices, one intensity window: {low:g} to {high:g}"
        return LoadedVolume(record=record, sha256=sha256_of(record.image), volume=volume, planes=scaled, notes=(note,))


def slices_of(one: LoadedVolume, preprocess: PreprocessConfig, options: ReadOptions) -> Iterator[Loaded]:
    """Each slice as an image of its own, ready for the method."""
    # The values are in model space already.
    as_scaled = replace(preprocess, intensity="range", low=-1.0, high=1.0)
    for plane in one.planes:
        pixels, _ = to_channels(plane[None], options, one.record.image)
        x, geometry = to_model(RawImage(pixels=pixels, value_range=(-1.0, 1.0)), as_scaled)
        yield Loaded(one.record, one.sha256, x, geometry, pixels, ())


def native_map(loaded: Loaded, result: AnomalyResult) -> FloatArray:
    """(H, W) map of a slice.

    Raises:
        InputError: E_NONFINITE.
    """
    anomaly_map: FloatArray = np.clip(to_native(result.anomaly_map[0], loaded.geometry)[0], 0, None)
    if not np.isfinite(anomaly_map).all():
        raise InputError("the method gave a map that is not finite", code="E_NONFINITE", path=loaded.record.image)
    return anomaly_map


def write_volume(out: Path, one: LoadedVolume, maps: list[FloatArray], settings: BulkSettings) -> Written:
    """Map and mask of the whole volume in its file's order and place; pictures and DICOM are of single images."""
    stored = stored_order(np.stack(maps), one.volume)
    others = [kind for kind in settings.kinds if kind != "nifti"]
    return write_niftis(out, one.record, stored, settings) + skipped(others, "the source is a volume")

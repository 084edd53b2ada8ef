"""A NIfTI volume becomes one map in the order of its file, whatever the batch, the order of axes or an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from torch import Tensor

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.evaluation.bulk import BulkSettings, localize_all
from medanomaly.evaluation.job_report import Summary
from medanomaly.io.options import ReadOptions
from medanomaly.types import AnomalyResult, WalkObserver

SIDE = 8
SETTINGS = BulkSettings(threshold=1.0, scale_max=2.0, identity="first", batch_size=3, kinds=("nifti",), volumes=True)
LPS, RAS = np.diag([-1.0, -1, 2, 1]), np.diag([1.0, 1, 2, 1])


class Whiteness:
    """The map is how far a pixel is above black; remembers what it saw."""

    def __init__(self, limit: int = 100) -> None:
        self.limit, self.seen = limit, []

    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
        if len(x) > self.limit:
            raise MemoryError
        self.seen.append(x.clone())
        return AnomalyResult(anomaly_map=x[:, :1] + 1, score=(x[:, :1] + 1).amax(dim=(1, 2, 3)))


def volume(path: Path, shape: tuple[int, ...] = (SIDE, SIDE, 5), affine: np.ndarray = LPS) -> Record:
    values = np.random.default_rng(0).random(shape, dtype=np.float32) * 900
    values[..., 0] = 0
    values[1, 2, -1] = 1000
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return Record(id=path.name, patient_id=path.name, image=path)


def job(method: Whiteness, records: list[Record], out: Path, settings: BulkSettings = SETTINGS, **words: object) -> Summary:
    stop: Callable[[], bool] = words.pop("stop", lambda: False)  # type: ignore[assignment]
    preprocess = PreprocessConfig(image_size=SIDE, intensity="range", low=0, high=1000, **words)  # type: ignore[arg-type]
    options = ReadOptions(channels=preprocess.channels)
    return localize_all(method, records, preprocess, out, settings, options=options, stop=stop)


def line_of(out: Path) -> dict[str, object]:
    return json.loads((out / "report.jsonl").read_text().splitlines()[-1])  # type: ignore[no-any-return]


def made_of(out: Path, kind: str) -> np.ndarray:
    (path,) = (out / kind).iterdir()
    return np.asarray(nibabel.load(path).dataobj)


@pytest.mark.parametrize("affine", [LPS, RAS, np.array([[0, -1.0, 0, 0], [1, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])])
def test_map_and_mask_lie_on_the_voxels_they_belong_to(tmp_path: Path, affine: np.ndarray) -> None:
    record = volume(tmp_path / "in.nii.gz", affine=affine)
    assert job(Whiteness(), [record], tmp_path / "out").ok == 1
    stored = nibabel.load(record.image)
    values = np.asarray(stored.dataobj)
    np.testing.assert_allclose(made_of(tmp_path / "out", "nifti_maps"), values / 500, atol=1e-4)
    np.testing.assert_array_equal(made_of(tmp_path / "out", "nifti_masks"), values > 500)
    (path,) = (tmp_path / "out" / "nifti_maps").iterdir()
    np.testing.assert_allclose(nibabel.load(path).affine, stored.affine)
    assert line_of(tmp_path / "out")["score"] == pytest.approx(2.0)


def test_the_network_sees_axial_slices_in_radiological_view(tmp_path: Path) -> None:
    one, other = Whiteness(), Whiteness()
    record = volume(tmp_path / "a.nii")
    values = np.asarray(nibabel.load(record.image).dataobj)
    flipped = tmp_path / "b.nii"
    nibabel.save(nibabel.Nifti1Image(values[::-1, ::-1], RAS), flipped)
    job(one, [record], tmp_path / "1")
    job(other, [Record(id="b", patient_id="b", image=flipped)], tmp_path / "2")
    torch.testing.assert_close(torch.cat(one.seen), torch.cat(other.seen))
    np.testing.assert_allclose(torch.cat(one.seen)[3, 0].numpy(), values[:, :, 3].T / 500 - 1, atol=1e-4)


def test_all_slices_are_scaled_by_one_window(tmp_path: Path) -> None:
    method = Whiteness()
    record = volume(tmp_path / "a.nii")
    options = ReadOptions()
    localize_all(
        method, [record], PreprocessConfig(image_size=SIDE, percentiles=(0, 100)), tmp_path / "out", SETTINGS, options=options
    )
    values = np.asarray(nibabel.load(record.image).dataobj)
    seen = torch.cat(method.seen)[:, 0].numpy()
    np.testing.assert_allclose(seen, values.transpose(2, 1, 0) / 500 - 1, atol=1e-4)
    assert "one intensity window: 0 to 1000" in str(line_of(tmp_path / "out")["message"])


def test_a_slice_without_contrast_is_blank(tmp_path: Path) -> None:
    job(Whiteness(), [volume(tmp_path / "a.nii")], tmp_path / "out")
    assert not made_of(tmp_path / "out", "nifti_maps")[..., 0].any()


def test_batches_and_short_memory_do_not_change_the_map(tmp_path: Path) -> None:
    record = volume(tmp_path / "a.nii")
    for name, size, limit in (("whole", 8, 100), ("single", 1, 100), ("halved", 8, 2)):
        job(Whiteness(limit), [record], tmp_path / name, replace(SETTINGS, batch_size=size))
    files = [next((tmp_path / name / "nifti_maps").iterdir()).read_bytes() for name in ("whole", "single", "halved")]
    assert files[0] == files[1] == files[2]


def test_a_volume_that_does_not_fit_in_memory_fails_once(tmp_path: Path) -> None:
    summary = job(Whiteness(limit=0), [volume(tmp_path / "a.nii")], tmp_path / "out")
    assert (summary.ok, summary.failed, summary.reasons) == (0, 1, {"E_MEMORY": 1})
    assert not (tmp_path / "out" / "nifti_maps").exists()


def test_a_stop_inside_a_volume_leaves_it_to_the_next_run(tmp_path: Path) -> None:
    records = [volume(tmp_path / "a.nii"), volume(tmp_path / "b.nii")]
    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 2

    summary = job(Whiteness(), records, tmp_path / "out", stop=stop)
    assert summary.stopped
    assert summary.ok == summary.failed == 0
    assert json.loads((tmp_path / "out" / "status.json").read_text())["status"] == "preempted"
    assert job(Whiteness(), records, tmp_path / "out").ok == 2
    assert job(Whiteness(), records, tmp_path / "out").skipped == 2


def test_other_kinds_are_said_to_be_skipped_and_images_beside_volumes_are_done(tmp_path: Path) -> None:
    records = [volume(tmp_path / "a.nii"), volume(tmp_path / "flat.nii", shape=(SIDE, SIDE, 1))]
    settings = replace(SETTINGS, kinds=("png", "nifti", "sc"))
    assert job(Whiteness(), records, tmp_path / "out", settings).ok == 2
    lines = {line["id"]: line for line in map(json.loads, (tmp_path / "out" / "report.jsonl").read_text().splitlines())}
    assert "png, sc skipped: the source is a volume" in lines["a.nii"]["message"]
    assert [name.split("/")[0] for name in lines["a.nii"]["outputs"]] == ["nifti_maps", "nifti_masks"]
    assert "sc skipped: the source is NIfTI" in lines["flat.nii"]["message"]
    flat = next(name for name in lines["flat.nii"]["outputs"] if name.startswith("nifti_maps"))
    assert nibabel.load(tmp_path / "out" / flat).shape == (SIDE, SIDE, 1)


def test_without_leave_a_volume_still_needs_a_frame(tmp_path: Path) -> None:
    summary = job(Whiteness(), [volume(tmp_path / "a.nii")], tmp_path / "out", replace(SETTINGS, volumes=False))
    assert summary.reasons == {"E_MULTIFRAME": 1}


def test_what_is_no_volume_that_can_be_read_is_reported(tmp_path: Path) -> None:
    series = volume(tmp_path / "series.nii", shape=(SIDE, SIDE, 5, 2))
    cut = volume(tmp_path / "cut.nii")
    cut.image.write_bytes(cut.image.read_bytes()[:-40])
    colour = Record(id="c", patient_id="c", image=volume(tmp_path / "c.nii").image)
    summary = job(Whiteness(), [series, cut, Record(id="none", patient_id="n", image=tmp_path / "none.nii")], tmp_path / "out")
    assert summary.reasons == {"E_MULTIFRAME": 1, "E_TRUNCATED": 1, "E_NOT_FOUND": 1}
    assert job(Whiteness(), [colour], tmp_path / "four", channels=4).reasons == {"E_CHANNELS": 1}


def test_a_gray_volume_is_repeated_for_a_network_of_three_channels(tmp_path: Path) -> None:
    method = Whiteness()
    assert job(method, [volume(tmp_path / "a.nii")], tmp_path / "out", channels=3).ok == 1
    assert method.seen[0].shape[1] == 3

"""The deblurring job: what is written of each kind of file, what stays bit for bit, what is refused, and how it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from job_builders import (
    PATCH,
    Brightener,
    blurred,
    image_of,
    job,
    pixels_of,
    report_lines,
    scene,
    unit,
    write_dicom,
    write_image,
)
from torch import Tensor
from toys import gaussian_eps

from deblur.diffpir import DiffPirConfig
from deblur.job_table import write_tables
from deblur.kernel_spec import parse_kernel, read_kernel
from deblur.kernels import linear_motion
from deblur.picture import moved, read_picture
from deblur.policy import Policy, plan
from deblur.quality import psnr
from deblur.restore import Restored, diffpir_restore, tile_side
from medanomaly.datasets.manifest import Record, read_manifest
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.errors import ConfigError, InputError, ResourceError
from medanomaly.io.reader import read_image
from medanomaly.types import Box

SHARP_8 = np.rint(255 * scene(40, 52)).astype(np.uint8)
SHARP_16 = np.rint(65535 * scene(40, 52)).astype(np.uint16)
STORED_12 = np.rint(4095 * scene(40, 52)).astype(np.uint16)


def never(y: Tensor, kernels: Sequence[Tensor], noise_sd: float) -> Restored:
    """A solver that must not be asked."""
    raise AssertionError("asked although there is nothing to deblur")


def unchanged(y: Tensor, kernels: Sequence[Tensor], noise_sd: float) -> Restored:
    return Restored(image=y)


def outside(pixels: np.ndarray) -> np.ndarray:
    """The pixels that the test's solver leaves alone."""
    kept = np.ones(pixels.shape, bool)
    kept[PATCH] = False
    return np.asarray(pixels[kept])


@pytest.mark.parametrize("size", [(48, 48), (40, 61)])
def test_a_known_kernel_brings_a_picture_nearer_to_its_truth_at_any_size(size: tuple[int, int], tmp_path: Path) -> None:
    picture, truth = blurred(size, 7, 20)
    record = write_image(tmp_path / "in" / "a.png", np.rint(65535 * picture).astype(np.uint16))
    job("wiener", [record], tmp_path / "out")
    found = pixels_of(image_of(tmp_path / "out", "a.png")) / 65535
    assert found.shape == size
    assert psnr(unit(found), unit(truth)) > psnr(unit(picture), unit(truth)) + 3


@pytest.mark.parametrize("stored", [SHARP_8, SHARP_16], ids=["8 bit", "16 bit"])
def test_a_sharp_png_keeps_every_bit_where_the_kernel_is_estimated(stored: np.ndarray, tmp_path: Path) -> None:
    record = write_image(tmp_path / "in" / "a.png", stored)
    summary, lines = job(never, [record], tmp_path / "out", "estimated", policy=Policy())
    assert (summary.ok, lines["a.png"]["outcome"]) == (1, "unchanged")
    found = pixels_of(image_of(tmp_path / "out", "a.png"))
    assert found.dtype == stored.dtype
    np.testing.assert_array_equal(found, stored)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": 3000, "WindowWidth": 5000},
        {"VOILUTFunction": "SIGMOID"},
    ],
    ids=["plain", "inverted", "rescaled", "sigmoid"],
)
def test_a_sharp_dicom_keeps_its_stored_values_and_is_read_as_before(tags: dict[str, Any], tmp_path: Path) -> None:
    record = write_dicom(tmp_path / "in" / "a.dcm", STORED_12, **tags)
    _, lines = job(never, [record], tmp_path / "out", "estimated", policy=Policy())
    assert lines["a.dcm"]["outcome"] == "unchanged"
    made = image_of(tmp_path / "out", "a.dcm")
    np.testing.assert_array_equal(pydicom.dcmread(made).pixel_array, STORED_12)
    np.testing.assert_array_equal(read_image(made).pixels, read_image(record.image).pixels)


def test_a_given_kernel_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    record = write_image(tmp_path / "in" / "a.png", SHARP_8)
    _, lines = job(never, [record], tmp_path / "out", "linear 9@0", policy=Policy())
    assert lines["a.png"]["deblur"]["verdict"] == "rejected"
    assert "worse than the best" in lines["a.png"]["message"]
    np.testing.assert_array_equal(pixels_of(image_of(tmp_path / "out", "a.png")), SHARP_8)


def test_a_result_that_the_gate_rejects_changes_nothing(tmp_path: Path) -> None:
    picture, _ = blurred((48, 48), 7, 20)
    record = write_image(tmp_path / "in" / "a.png", np.rint(255 * picture).astype(np.uint8))
    solver = Brightener(by=0.5)
    _, lines = job(solver, [record], tmp_path / "out", policy=Policy())
    assert solver.batches == [(1, 1, 48, 48)]
    assert (lines["a.png"]["deblur"]["verdict"], lines["a.png"]["deblur"]["after"]) == ("rejected", None)
    np.testing.assert_array_equal(pixels_of(image_of(tmp_path / "out", "a.png")), pixels_of(record.image))


@pytest.mark.parametrize("kernel", ["linear 7@20", "estimated"])
def test_a_motion_that_is_there_passes_both_gates(kernel: str, tmp_path: Path) -> None:
    picture, truth = blurred((96, 96), 7, 20, seed=3)
    record = write_image(tmp_path / "in" / "a.png", np.rint(255 * picture).astype(np.uint8))
    _, lines = job("tv", [record], tmp_path / "out", kernel, policy=Policy())
    facts = lines["a.png"]["deblur"]
    assert facts["verdict"] == "applied", facts["reasons"]
    assert facts["kernel_source"] == kernel.split()[0]
    assert (facts["confidence"] is None) == (kernel != "estimated")
    assert facts["after"]["tenengrad"] > facts["before"]["tenengrad"]
    found = pixels_of(image_of(tmp_path / "out", "a.png")) / 65535
    assert psnr(unit(found), unit(truth)) > psnr(unit(picture), unit(truth)) + 2


def test_pixels_that_the_solver_left_alone_keep_their_values_in_a_changed_picture(tmp_path: Path) -> None:
    eight = write_image(tmp_path / "in" / "eight.png", SHARP_8)
    sixteen = write_image(tmp_path / "in" / "sixteen.png", SHARP_16)
    job(Brightener(), [eight, sixteen], tmp_path / "out")
    wide = pixels_of(image_of(tmp_path / "out", "eight.png"))
    assert wide.dtype == np.uint16
    np.testing.assert_array_equal(outside(wide), 257 * outside(SHARP_8.astype(np.uint16)))
    np.testing.assert_allclose(wide[PATCH], np.minimum(257.0 * SHARP_8[PATCH] + 6553.5, 65535), atol=0.51)
    found = pixels_of(image_of(tmp_path / "out", "sixteen.png"))
    np.testing.assert_array_equal(outside(found), outside(SHARP_16))
    np.testing.assert_allclose(found[PATCH], np.minimum(SHARP_16[PATCH] + 6553.5, 65535), atol=0.51)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_changed_dicom_is_brighter_on_the_screen_just_where_the_solver_says(photometric: str, tmp_path: Path) -> None:
    record = write_dicom(
        tmp_path / "in" / "a.dcm", STORED_12, PhotometricInterpretation=photometric, RescaleSlope=1, RescaleIntercept=0
    )
    job(Brightener(), [record], tmp_path / "out")
    made = image_of(tmp_path / "out", "a.dcm")
    np.testing.assert_array_equal(outside(pydicom.dcmread(made).pixel_array), outside(STORED_12))
    before, after = read_image(record.image).pixels[0], read_image(made).pixels[0]
    np.testing.assert_allclose(after[PATCH], np.minimum(before[PATCH] + 409.6, 4095), atol=1.5)


def test_a_change_is_rounded_to_the_nearest_stored_value() -> None:
    stored = np.array([[10, 10, 10, 0, 255]], np.uint8)
    change = np.array([[0.4, 0.6, -0.6, -3.0, 3.0]])
    np.testing.assert_array_equal(moved(stored, change, 0, 255), [[10, 11, 9, 0, 255]])


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_solvers_see_a_dicom_through_its_display_window(photometric: str, tmp_path: Path) -> None:
    stored = (600 + STORED_12 / 5).astype(np.uint16)
    tags = {"PhotometricInterpretation": photometric, "WindowCenter": 1000, "WindowWidth": 1000}
    record = write_dicom(tmp_path / "in" / "a.dcm", stored, **tags)
    np.testing.assert_allclose(read_picture(record).y[0], read_image(record.image).pixels[0] / 4095, atol=1e-6)


def test_signed_dicom_values_stay_signed(tmp_path: Path) -> None:
    stored = (STORED_12.astype(np.int16) - 2048).astype(np.int16)
    tags = {"PixelRepresentation": 1, "BitsStored": 16, "WindowCenter": 0}
    record = write_dicom(tmp_path / "in" / "a.dcm", stored, **tags)
    job(Brightener(), [record], tmp_path / "out")
    found = pydicom.dcmread(image_of(tmp_path / "out", "a.dcm")).pixel_array
    assert found.dtype == np.int16
    np.testing.assert_array_equal(outside(found), outside(stored))
    assert (found[PATCH] > stored[PATCH]).all()


def test_a_derived_dicom_names_nobody_unless_the_patient_is_kept(tmp_path: Path) -> None:
    record = write_dicom(tmp_path / "in" / "a.dcm", STORED_12)
    source = pydicom.dcmread(record.image)
    job(Brightener(), [record], tmp_path / "out")
    job(Brightener(), [record], tmp_path / "kept", keep_patient=True)
    anonymous, kept = image_of(tmp_path / "out", "a.dcm"), image_of(tmp_path / "kept", "a.dcm")
    for identity in (
        b"Secret",
        b"SECRET",
        b"20200102",
        *(str(source[name].value).encode() for name in ("StudyInstanceUID", "SOPInstanceUID")),
    ):
        assert identity not in anonymous.read_bytes()
    made = pydicom.dcmread(kept)
    assert (made.PatientID, made.StudyInstanceUID) == ("SECRET-ID", source.StudyInstanceUID)
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    for path in (anonymous, kept):
        made = pydicom.dcmread(path)
        assert made.ImageType[0] == "DERIVED"
        assert made.SOPInstanceUID != source.SOPInstanceUID
        assert "linear 7@20" in made.DerivationDescription


def test_text_in_the_pixels_stays_in_the_house(tmp_path: Path) -> None:
    record = write_dicom(tmp_path / "in" / "a.dcm", STORED_12, BurnedInAnnotation="YES")
    summary, _ = job(Brightener(), [record], tmp_path / "out")
    assert summary.reasons == {"E_BURNED_IN": 1}
    assert not list((tmp_path / "out").glob("images/*"))
    assert job(Brightener(), [record], tmp_path / "kept", keep_patient=True)[0].ok == 1


def test_floats_become_arrays_in_their_own_units(tmp_path: Path) -> None:
    values = (1000 * scene(40, 52) - 300).astype(np.float32)
    record = write_image(tmp_path / "in" / "a.npy", values)
    job(Brightener(), [record], tmp_path / "out")
    found = np.load(image_of(tmp_path / "out", "a.npy"))
    np.testing.assert_array_equal(outside(found), outside(values))
    most = values.max()
    np.testing.assert_allclose(found[PATCH], np.minimum(values[PATCH] + 0.1 * np.ptp(values), most), rtol=1e-4, atol=1e-2)


def test_the_new_manifest_keeps_ids_and_annotations_and_reads_the_same_brightness(tmp_path: Path) -> None:
    plain = write_image(tmp_path / "in" / "plain.png", SHARP_8)
    mask = write_image(tmp_path / "in" / "mask.png", np.where(SHARP_8 > 128, np.uint8(255), np.uint8(0))).image
    boxes = (Box(x_min=1, y_min=2, x_max=9, y_max=8, label="nodule"),)
    plain = replace(plain, id="first", label="diseased", mask=mask, boxes=boxes, split="test", spacing_mm=(0.2, 0.3))
    windowed = replace(write_image(tmp_path / "in" / "w.png", SHARP_8), intensity_low=10.0, intensity_high=200.0)
    twelve = write_dicom(tmp_path / "in" / "a.dcm", STORED_12)
    records = [plain, windowed, twelve]
    _, lines = job(Brightener(), records, tmp_path / "out")
    write_tables(records, lines, tmp_path / "out")
    found = read_manifest(tmp_path / "out" / "manifest.csv")
    assert [record.id for record in found] == ["first", "w.png", "a.dcm"]
    same = ("patient_id", "label", "boxes", "split", "spacing_mm")
    assert [getattr(found[0], name) for name in same] == [getattr(plain, name) for name in same]
    assert found[0].mask is not None
    np.testing.assert_array_equal(pixels_of(found[0].mask), pixels_of(mask))
    # The window of an 8-bit image, in the units of the 16-bit one.
    assert found[1].intensity_range == (2570.0, 51400.0)
    table = (tmp_path / "out" / "deblur.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table] == ["id", "first", "w.png", "a.dcm"]
    assert lines["first"]["sha256_in"] in table[1]


def test_the_kernel_file_holds_the_taps_that_were_used(tmp_path: Path) -> None:
    record = write_image(tmp_path / "in" / "a.png", SHARP_8)
    _, lines = job(Brightener(), [record], tmp_path / "out", "linear 7@20")
    taps = read_kernel(tmp_path / "out" / lines["a.png"]["deblur"]["kernel_file"])
    torch.testing.assert_close(taps, linear_motion(7, 20), atol=1e-6, rtol=0)
    assert lines["a.png"]["deblur"]["kernel_size"] == list(linear_motion(7, 20).shape)


def test_a_kernel_in_millimetres_follows_each_pictures_spacing(tmp_path: Path) -> None:
    fine = replace(write_image(tmp_path / "in" / "fine.png", SHARP_8), spacing_mm=(0.1, 0.1))
    coarse = replace(write_image(tmp_path / "in" / "coarse.png", SHARP_8), spacing_mm=(0.5, 0.5))
    unknown = write_image(tmp_path / "in" / "unknown.png", SHARP_8)
    summary, lines = job(Brightener(), [fine, coarse, unknown], tmp_path / "out", "linear 1.5mm@0")
    assert [lines[name]["deblur"]["kernel_size"] for name in ("fine.png", "coarse.png")] == [[1, 15], [1, 3]]
    assert summary.reasons == {"E_SPACING": 1}


def test_each_picture_has_its_own_random_kernel_by_seed(tmp_path: Path) -> None:
    records = [write_image(tmp_path / "in" / f"{index}.png", SHARP_8) for index in range(2)]
    taps = {}
    for seed in (0, 1):
        out = tmp_path / str(seed)
        _, lines = job(Brightener(), records, out, "random 9", seed=seed)
        taps[seed] = [np.load(out / lines[record.id]["deblur"]["kernel_file"]) for record in records]
    assert not np.array_equal(taps[0][0], taps[0][1])
    assert not np.array_equal(taps[0][0], taps[1][0])
    _, lines = job(Brightener(), records[1:], tmp_path / "again", "random 9", seed=0)
    np.testing.assert_array_equal(np.load(tmp_path / "again" / lines["1.png"]["deblur"]["kernel_file"]), taps[0][1])


def test_bad_files_get_a_line_each_and_the_others_are_done(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    hole = scene(40, 52).astype(np.float32)
    hole[3, 4] = np.nan
    torn = folder / "torn.png"
    records = [
        write_image(folder / "good.png", SHARP_8),
        write_image(folder / "constant.png", np.full((40, 52), 7, np.uint8)),
        write_image(folder / "nan.npy", hole),
        write_image(folder / "small.png", SHARP_8[:6, :30]),
        write_image(folder / "colour.png", np.stack([SHARP_8, SHARP_8, 255 - SHARP_8], 2)),
        Record(id="torn.png", patient_id="torn", image=torn),
        Record(id="absent.png", patient_id="absent", image=folder / "absent.png"),
    ]
    torn.write_bytes((folder / "good.png").read_bytes()[:90])
    summary, lines = job(Brightener(), records, tmp_path / "out", "linear 9@90")
    assert list(lines) == ["good.png"]
    codes = {line["id"]: line["reason_code"] for line in report_lines(tmp_path / "out")}
    assert codes.pop("torn.png") in ("E_TRUNCATED", "E_MALFORMED")
    assert codes == {
        "good.png": "",
        "constant.png": "E_RANGE",
        "nan.npy": "E_NONFINITE",
        "small.png": "E_KERNEL",
        "colour.png": "E_COLOR",
        "absent.png": "E_NOT_FOUND",
    }
    assert (summary.ok, summary.failed, summary.exit_code()) == (1, 6, 3)


def test_a_constant_picture_has_no_plan() -> None:
    with pytest.raises(InputError, match="constant") as caught:
        plan(torch.full((1, 40, 40), 0.5), parse_kernel("linear 5@0"), step=0.0, policy=Policy(gate=False))
    assert caught.value.code == "E_RANGE"


def test_pictures_too_small_for_the_gate_say_how_to_go_on(tmp_path: Path) -> None:
    record = write_image(tmp_path / "in" / "a.png", SHARP_8[:24, :24])
    summary, _ = job(Brightener(), [record], tmp_path / "out", policy=Policy())
    assert summary.reasons == {"E_SHAPE": 1}
    assert "--gate false" in report_lines(tmp_path / "out")[0]["message"]
    assert job(Brightener(), [record], tmp_path / "ungated")[0].ok == 1


@pytest.mark.parametrize("level", [0, -1, 256, float("nan")])
def test_an_impossible_noise_level_is_refused(level: float, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="noise_level"):
        job(Brightener(), [], tmp_path / "out", noise_level=level)


def test_pictures_of_one_size_share_a_batch_and_a_rounded_one_is_noisier(tmp_path: Path) -> None:
    records = [write_image(tmp_path / "in" / f"{index}.png", SHARP_8) for index in range(3)]
    records.append(write_image(tmp_path / "in" / "other.png", SHARP_8[:, :50]))
    records.append(write_image(tmp_path / "in" / "sixteen.png", SHARP_16))
    solver = Brightener()
    job(solver, records, tmp_path / "out", batch_size=5)
    assert solver.batches == [(3, 1, 40, 52), (1, 1, 40, 50), (1, 1, 40, 52)]


def test_a_batch_that_fails_is_halved_down_to_the_picture_to_blame(tmp_path: Path) -> None:
    records = []
    for index in range(4):
        pixels = SHARP_8.copy()
        pixels[0, 0] = 40 * index
        records.append(write_image(tmp_path / "in" / f"{index}.png", pixels))
    guilty = 80 / 255

    def solver(y: Tensor, kernels: Sequence[Tensor], noise_sd: float) -> Restored:
        if bool((y[:, 0, 0, 0] - guilty).abs().min() < 1e-4):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return Restored(image=y)

    summary, lines = job(solver, records, tmp_path / "out")
    assert sorted(lines) == ["0.png", "1.png", "3.png"]
    assert summary.reasons == {"E_MEMORY": 1}


def test_a_second_run_does_only_what_is_missing_or_changed(tmp_path: Path) -> None:
    records = [write_image(tmp_path / "in" / f"{index}.png", SHARP_8) for index in range(4)]
    asked: list[int] = []

    def after_two() -> bool:
        asked.append(0)
        return len(asked) > 2

    first, _ = job(Brightener(), records, tmp_path / "out", stop=after_two, batch_size=1)
    assert (first.ok, first.stopped) == (2, True)
    write_image(tmp_path / "in" / "1.png", 255 - SHARP_8)
    solver = Brightener()
    second, lines = job(solver, records, tmp_path / "out")
    assert (second.ok, second.skipped, second.stopped) == (3, 1, False)
    assert sum(batch[0] for batch in solver.batches) == 3
    assert set(lines) == {record.id for record in records}


def test_another_pixel_spacing_in_the_manifest_makes_another_kernel_in_millimetres(tmp_path: Path) -> None:
    record = write_image(tmp_path / "in" / "a.png", SHARP_8)
    sizes = []
    for spacing in (0.1, 0.5):
        _, lines = job(Brightener(), [replace(record, spacing_mm=(spacing, spacing))], tmp_path / "out", "linear 1.5mm@0")
        sizes.append(lines["a.png"]["deblur"]["kernel_size"])
    assert sizes == [[1, 15], [1, 3]]


def test_other_settings_need_another_folder_or_overwrite(tmp_path: Path) -> None:
    record = write_image(tmp_path / "in" / "a.png", SHARP_8)
    job(Brightener(), [record], tmp_path / "out")
    with pytest.raises(ConfigError, match="other settings") as caught:
        job(Brightener(), [record], tmp_path / "out", identity="second")
    assert caught.value.code == "E_CHANGED"
    assert job(Brightener(), [record], tmp_path / "out", identity="second", overwrite=True)[0].ok == 1


def test_a_full_disk_ends_the_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_arguments: object) -> None:
        raise ResourceError("the disk is full", code="E_DISK_FULL")

    monkeypatch.setattr("deblur.job_image.write_npy", full)
    with pytest.raises(ResourceError, match="disk"):
        job(Brightener(), [write_image(tmp_path / "in" / "a.png", SHARP_8)], tmp_path / "out")


def test_several_samples_leave_their_deviation_in_the_units_of_the_image(tmp_path: Path) -> None:
    schedule = NoiseSchedule.linear()
    solver = diffpir_restore(
        gaussian_eps(0.0, 0.3, schedule),
        schedule,
        image_size=64,
        size_multiple=4,
        config=DiffPirConfig(num_steps=4, num_samples=3),
        seed=0,
    )
    record = write_image(tmp_path / "in" / "a.png", SHARP_8)
    _, lines = job(solver, [record], tmp_path / "out", "linear 5@20", noise_level=5)
    name = next(name for name in lines["a.png"]["outputs"] if name.startswith("std/"))
    found = np.load(tmp_path / "out" / name)
    assert found.shape == SHARP_8.shape
    assert 0.05 < found.mean() < 20  # gray levels, for a noise of five


def test_a_network_is_asked_whole_where_the_canvas_is_hardly_larger_than_its_training() -> None:
    assert tile_side((64, 64), 64) == 64
    assert tile_side((80, 72), 64) == 80
    assert tile_side((144, 72), 64) == 72
    assert tile_side((144, 88), 64) == 64

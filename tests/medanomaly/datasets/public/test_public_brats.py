"""BraTS volumes become pictures: the right way up, on one scale, with the tumour where it was, once."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from tree_brats import TRAINING, brats_affine, build, draw_case, write_case, write_volume

from medanomaly.cli.main import main
from medanomaly.datasets.check import check_manifest
from medanomaly.datasets.manifest import Record, read_manifest
from medanomaly.datasets.public.brats import brats
from medanomaly.datasets.public.listing import Listing
from medanomaly.errors import ConfigError, InputError
from medanomaly.io.reader import ReadOptions, read_image, read_mask

SMALL = (8, 10, 10)


def small(root: Path, num: int = 4) -> Path:
    """Subjects of a few voxels: tumour in the slices 4 to 6 of 10."""
    for number in range(1, num + 1):
        write_case(root / f"BraTS20_Training_{number:03d}", draw_case(number, SMALL))
    return root


def listed(root: Path, out: Path, **options: Any) -> Listing:
    return brats(root, out, **{"skip_low": 1, "skip_high": 1, "fractions": (1.0, 0.0, 0.0), **options})


def numbers(listing: Listing, label: str, case: str = "BraTS20_Training_001") -> list[int]:
    return [int(r.id.rpartition("/z")[2]) for r in listing.records if r.label == label and r.id.startswith(f"{case}/")]


def codes(listing: Listing) -> list[str]:
    return [finding.code for finding in listing.findings]


def finding(listing: Listing, code: str) -> Any:
    found = [finding for finding in listing.findings if finding.code == code]
    assert len(found) == 1, listing.findings
    return found[0]


def picture(record: Record, channels: int = 4) -> np.ndarray:
    return np.asarray(read_image(record.image, ReadOptions(channels=channels)).pixels)


def test_the_example_tree_gives_these_rows(tmp_path: Path) -> None:
    build(tmp_path / "root")
    listing = brats(tmp_path / "root", tmp_path / "out", skip_low=1, skip_high=1)
    cases = [f"BraTS20_Training_{number:03d}" for number in (1, 2, 3, 4, 5, 6, 7, 355)]
    assert [r.id for r in listing.records] == [f"{case}/z{z:03d}" for case in cases for z in range(1, 9)]
    assert {r.patient_id for r in listing.records} == set(cases)
    for record in listing.records:
        z = int(record.id[-3:])
        assert record.label == ("diseased" if z in (4, 5, 6) else "healthy")
        assert (record.mask is None, record.annotated_empty) == ((record.label == "healthy"),) * 2
        assert (record.view, record.source, record.spacing_mm) == ("axial", "BraTS", (1.0, 1.0))
        assert record.intensity_range == (0.0, 1.0)
        assert record.image == tmp_path / "out" / "images" / record.patient_id / f"z{z:03d}.npy"
    assert Counter((r.split, r.label) for r in listing.records) == {
        **{("train", "healthy"): 25, ("train", "diseased"): 15},
        **{("val", "healthy"): 5, ("val", "diseased"): 3, ("test", "healthy"): 10, ("test", "diseased"): 6},
    }
    assert finding(listing, "W_NO_SEG").ids == ("BraTS20_Validation_001",)
    assert finding(listing, "W_SEG_NAME").ids == ("BraTS20_Training_355 (W39_1998.09.19_Segm.nii.gz)",)
    assert len(listing.findings) == 2
    report = check_manifest(listing.records, deep=True, options=ReadOptions(channels=4))
    assert [finding.code for finding in report.findings] == ["W_N_TOO_SMALL"]


def test_the_command_writes_a_manifest_and_says_what_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path / "root")
    out = tmp_path / "out" / "manifest.csv"
    words = ["data", "brats", str(tmp_path / "root"), "--out", str(out), "--modalities", "[t2]"]
    assert main([*words, "--skip-low", "4", "--skip-high", "4", "--fractions", "[0.5,0.25,0.25]"]) == 0
    assert "[W_NO_SEG]" in capsys.readouterr().err
    records = read_manifest(out)
    assert [r.id[-4:] for r in records] == ["z004", "z005"] * 8
    assert picture(records[0], channels=1).shape == (1, 36, 30)


def test_a_canary_stays_at_its_place_in_picture_and_mask(tmp_path: Path) -> None:
    """Front and right of the patient lie at the top and left of the picture, as a radiologist looks at it."""
    for turned in (False, True):
        volumes = {kind: np.full(SMALL, 10, np.int16) for kind in ("flair", "t1", "t1ce", "t2")}
        volumes["seg"] = np.zeros(SMALL, np.uint8)
        for kind in ("t1", "seg"):  # stored towards left, back, top: second from the right, third from the front, slice 6
            volumes[kind][1, 2, 6] = 4 if kind == "seg" else 100
        affine = brats_affine(SMALL, (1.0, 2.0, 3.0))
        root, folder = tmp_path / f"root-{turned}", tmp_path / f"root-{turned}" / "BraTS20_Training_001"
        for kind, values in volumes.items():
            if turned:  # the same head, stored towards right, front, top
                mirror = np.diag([-1.0, -1, 1, 1])
                mirror[:2, 3] = SMALL[0] - 1, SMALL[1] - 1
                write_volume(folder / f"{folder.name}_{kind}.nii", values[::-1, ::-1], affine @ mirror)
            else:
                write_volume(folder / f"{folder.name}_{kind}.nii", values, affine)
        listing = listed(root, tmp_path / f"out-{turned}", percentile=100.0)
        record = next(r for r in listing.records if r.id.endswith("z006"))
        assert record.mask is not None
        assert record.label == "diseased"
        pixels = picture(record)
        assert pixels.shape == (4, 10, 8)
        assert [tuple(spot) for spot in np.argwhere(pixels == 1) if spot[0] == 1] == [(1, 2, 1)]
        assert [tuple(spot) for spot in np.argwhere(read_mask(record.mask, (10, 8)))] == [(2, 1)]
        assert record.spacing_mm == (2.0, 1.0)
        assert codes(listing) == (["W_ORIENTATION"] if turned else [])


def test_volumes_whose_headers_are_silent_are_read_in_the_order_of_brats_and_named(tmp_path: Path) -> None:
    small(tmp_path / "root")
    plain = listed(tmp_path / "root", tmp_path / "plain")
    for path in sorted((tmp_path / "root").rglob("*001_*.nii.gz")):
        content = bytearray(gzip.decompress(path.read_bytes()))
        content[252:256] = bytes(4)  # qform_code and sform_code
        path.write_bytes(gzip.compress(content))
    listing = listed(tmp_path / "root", tmp_path / "out")
    assert finding(listing, "W_ORIENTATION").ids == ("BraTS20_Training_001",)
    for one, other in zip(plain.records, listing.records, strict=True):
        np.testing.assert_array_equal(picture(one), picture(other))


def test_each_modality_is_divided_by_the_percentile_of_its_brain_in_the_whole_volume(tmp_path: Path) -> None:
    small(tmp_path / "root", 1)
    volumes = draw_case(1, SMALL)
    order = ("t2", "flair")
    listing = listed(tmp_path / "root", tmp_path / "out", modalities=order, percentile=90.0)
    for record in listing.records:
        z = int(record.id[-3:])
        pixels = picture(record, channels=2)
        for channel, kind in enumerate(order):
            white = np.percentile(volumes[kind][volumes[kind] > 0], 90)
            expected = np.clip(volumes[kind][:, :, z].T / white, 0, 1)
            np.testing.assert_allclose(pixels[channel], expected, atol=1 / 2048)
            np.testing.assert_array_equal(pixels[channel] == 0, volumes[kind][:, :, z].T == 0)


def test_every_label_above_0_is_tumour_and_the_cavity_is_told(tmp_path: Path) -> None:
    for name, labels in (("001", (1, 2, 4)), ("002", (1, 2, 3)), ("003", (1, 3, 4))):
        volumes = draw_case(1, SMALL)
        seg = np.zeros(SMALL, np.float32)
        seg[3, 4:7, 5] = labels
        write_case(tmp_path / "root" / f"BraTS20_Training_{name}", {**volumes, "seg": seg})
    listing = listed(tmp_path / "root", tmp_path / "out")
    for record in (r for r in listing.records if r.label == "diseased"):
        assert record.id.endswith("z005")
        assert record.mask is not None
        assert np.argwhere(read_mask(record.mask)).tolist() == [[4, 3], [5, 3], [6, 3]]
    assert finding(listing, "W_TREATED").ids == ("BraTS20_Training_003",)


@pytest.mark.parametrize(
    ("options", "healthy", "diseased"),
    [
        ({}, [1, 2, 3, 7, 8], [4, 5, 6]),
        ({"skip_low": 0, "skip_high": 4}, [0, 1, 2, 3], [4, 5]),
        ({"healthy_gap": 1}, [1, 2, 8], [4, 5, 6]),
        ({"healthy_gap": 2, "skip_high": 4}, [1], [4, 5]),
        ({"min_lesion_px": 3}, [1, 2, 3, 7, 8], [4, 5]),
        ({"min_lesion_px": 4}, [1, 2, 3, 7, 8], [5]),
        ({"healthy_gap": 1, "min_lesion_px": 4}, [1, 2, 8], [5]),
        ({"min_brain": 0.5}, [2, 3, 7], [4, 5, 6]),
    ],
)
def test_which_slices_are_healthy_and_which_diseased(
    tmp_path: Path, options: dict[str, Any], healthy: list[int], diseased: list[int]
) -> None:
    volumes = draw_case(1, SMALL)
    volumes["seg"] = np.zeros(SMALL, np.uint8)
    for z, count in ((4, 3), (5, 5), (6, 2)):
        volumes["seg"][2, 2 : 2 + count, z] = 1
    for z in (1, 8):
        for kind in ("flair", "t1", "t1ce", "t2"):
            volumes[kind][:, :, z] = 0
            volumes[kind][2:5, :, z] = 300  # 3 of 8 columns
    write_case(tmp_path / "root" / "BraTS20_Training_001", volumes)
    listing = listed(tmp_path / "root", tmp_path / "out", **options)
    assert numbers(listing, "healthy") == healthy
    assert numbers(listing, "diseased") == diseased
    if {"healthy_gap", "min_lesion_px", "min_brain"} & options.keys():
        told = sum(int(f.message.split()[0]) for f in listing.findings if f.code == "W_LEFT_OUT")
        assert told == (10 - options.get("skip_low", 1) - options.get("skip_high", 1)) - len(healthy) - len(diseased)


def test_all_time_points_of_a_patient_are_in_one_split(tmp_path: Path) -> None:
    for patient in range(12):
        for point in range(2):
            name = f"BraTS-GLI-{patient:05d}-{point:03d}"
            write_case(tmp_path / "root" / name, draw_case(patient, SMALL))
    for seed in range(5):
        records = listed(tmp_path / "root", tmp_path / "out", fractions=(0.5, 0.2, 0.3), seed=seed).records
        splits: dict[str, set[str | None]] = {}
        for record in records:
            splits.setdefault(record.patient_id, set()).add(record.split)
        assert len(splits) == 12
        assert all(len(found) == 1 for found in splits.values())
        assert set.union(*splits.values()) == {"train", "val", "test"}


def test_the_result_does_not_depend_on_the_order_of_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(tmp_path / "root")
    first = listed(tmp_path / "root", tmp_path / "out", fractions=(0.5, 0.25, 0.25))
    scandir = os.scandir

    class Backwards:
        def __init__(self, path: str) -> None:
            with scandir(path) as entries:
                self.entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

        def __enter__(self) -> Backwards:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def __iter__(self) -> Backwards:
            return self

        def __next__(self) -> os.DirEntry[str]:
            return next(self.entries)

        def close(self) -> None:
            return None

    monkeypatch.setattr(os, "scandir", Backwards)
    assert listed(tmp_path / "root", tmp_path / "out", fractions=(0.5, 0.25, 0.25)) == first


def test_an_interrupted_extraction_continues_and_ends_the_same(tmp_path: Path) -> None:
    small(tmp_path / "root")
    whole = listed(tmp_path / "root", tmp_path / "whole")

    def cut_short(items: Sequence[Any], text: str) -> Iterable[Any]:
        yield from items[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        listed(tmp_path / "root", tmp_path / "out", progress=cut_short)
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npy")}
    assert len(done) == 2 * 8
    again = listed(tmp_path / "root", tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    assert [r.id for r in again.records] == [r.id for r in whole.records]


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}


def change_percentile(root: Path, out: Path) -> dict[str, Any]:
    return {"percentile": 50.0}


def change_modalities(root: Path, out: Path) -> dict[str, Any]:
    return {"modalities": ("t1", "flair", "t1ce", "t2")}


def change_source(root: Path, out: Path) -> dict[str, Any]:
    write_case(root / "BraTS20_Training_001", draw_case(99, SMALL))
    return {}


def break_off_inside_a_case(root: Path, out: Path) -> dict[str, Any]:
    (out / "images" / "BraTS20_Training_001" / "slices.json").unlink()
    (out / "images" / "BraTS20_Training_001" / "z003.npy").write_bytes(b"of other settings")
    return {}


def spoil_the_stamp(root: Path, out: Path) -> dict[str, Any]:
    (out / "images" / "BraTS20_Training_001" / "slices.json").write_text("[")
    (out / "images" / "BraTS20_Training_001" / "z003.npy").write_bytes(b"of other settings")
    return {}


def lose_a_mask(root: Path, out: Path) -> dict[str, Any]:
    (out / "masks" / "BraTS20_Training_001" / "z004.png").unlink()
    return {}


def ask_for_more_slices(root: Path, out: Path) -> dict[str, Any]:
    return {"skip_low": 0, "skip_high": 0, "min_brain": 0.0}


@pytest.mark.parametrize(
    "change",
    [
        *(change_percentile, change_modalities, change_source, break_off_inside_a_case),
        *(spoil_the_stamp, lose_a_mask, ask_for_more_slices),
    ],
)
def test_what_no_longer_fits_is_made_again(tmp_path: Path, change: Callable[[Path, Path], dict[str, Any]]) -> None:
    small(tmp_path / "root", 2)
    listed(tmp_path / "root", tmp_path / "out")
    options = change(tmp_path / "root", tmp_path / "out")
    listed(tmp_path / "root", tmp_path / "out", **options)
    listed(tmp_path / "root", tmp_path / "new", **options)
    assert tree(tmp_path / "out") == tree(tmp_path / "new")


def test_pictures_of_other_settings_do_not_survive_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted while a case is written again, a later run with the first settings must not take it for finished."""
    reader = sys.modules[brats.__module__]
    small(tmp_path / "root", 1)
    listed(tmp_path / "root", tmp_path / "out")
    before = tree(tmp_path / "out")
    write = reader.write_slices

    def break_off(folder: Path, case: Any, pictures: Any, numbers: Any) -> None:
        write(folder, case, pictures, list(numbers)[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(reader, "write_slices", break_off)
    with pytest.raises(KeyboardInterrupt):
        listed(tmp_path / "root", tmp_path / "out", percentile=50.0)
    monkeypatch.setattr(reader, "write_slices", write)
    assert tree(tmp_path / "out") != before
    listed(tmp_path / "root", tmp_path / "out")
    assert tree(tmp_path / "out") == before


def other_size(folder: Path) -> None:
    write_volume(folder / f"{folder.name}_t1ce.nii.gz", draw_case(1, (8, 10, 9))["t1ce"])


def other_place(folder: Path) -> None:
    affine = brats_affine(SMALL)
    affine[0, 3] += 1
    write_volume(folder / f"{folder.name}_t1ce.nii.gz", draw_case(1, SMALL)["t1ce"], affine)


def flipped_seg(folder: Path) -> None:
    write_volume(folder / f"{folder.name}_seg.nii.gz", draw_case(1, SMALL)["seg"], np.diag([1.0, -1, 1, 1]))


def seg_of_other_size(folder: Path) -> None:
    write_volume(folder / f"{folder.name}_seg.nii.gz", np.zeros((10, 8, 10), np.uint8))


def soft_seg(folder: Path) -> None:
    write_volume(folder / f"{folder.name}_seg.nii.gz", np.full(SMALL, 0.4, np.float32))


def wild_label(folder: Path) -> None:
    write_volume(folder / f"{folder.name}_seg.nii.gz", np.full(SMALL, 5, np.uint8))


def negative_label(folder: Path) -> None:
    write_volume(folder / f"{folder.name}_seg.nii.gz", np.full(SMALL, -1, np.int16))


def black(folder: Path) -> None:
    write_volume(folder / f"{folder.name}_t2.nii.gz", np.zeros(SMALL, np.int16))


def nan(folder: Path) -> None:
    write_volume(folder / f"{folder.name}_t2.nii.gz", np.full(SMALL, np.nan, np.float32))


def cut(folder: Path) -> None:
    path = folder / f"{folder.name}_flair.nii.gz"
    path.write_bytes(path.read_bytes()[:-60])


def emptied(folder: Path) -> None:
    (folder / f"{folder.name}_flair.nii.gz").write_bytes(b"")


def dangling(folder: Path) -> None:
    path = folder / f"{folder.name}_flair.nii.gz"
    path.unlink()
    path.symlink_to(folder / "gone.nii.gz")


@pytest.mark.parametrize(
    ("spoil", "code", "file"),
    [
        (other_size, "E_GEOMETRY", "t1ce"),
        (other_place, "E_GEOMETRY", "t1ce"),
        (flipped_seg, "E_GEOMETRY", "seg"),
        (seg_of_other_size, "E_GEOMETRY", "seg"),
        (soft_seg, "E_MASK_VALUES", "seg"),
        (wild_label, "E_MASK_VALUES", "seg"),
        (negative_label, "E_MASK_VALUES", "seg"),
        (black, "E_CONSTANT", "t2"),
        (nan, "E_NONFINITE", "t2"),
        (cut, "E_TRUNCATED", "flair"),
        (emptied, "E_EMPTY", "flair"),
        (dangling, "E_NOT_FOUND", "flair"),
    ],
)
def test_a_subject_that_cannot_be_used_is_left_out_and_the_others_go_on(
    tmp_path: Path, spoil: Callable[[Path], None], code: str, file: str
) -> None:
    small(tmp_path / "root")
    spoil(tmp_path / "root" / "BraTS20_Training_001")
    spoil(tmp_path / "root" / "BraTS20_Training_003")
    listing = listed(tmp_path / "root", tmp_path / "out")
    assert {r.patient_id for r in listing.records} == {"BraTS20_Training_002", "BraTS20_Training_004"}
    found = finding(listing, "W_UNUSABLE")
    assert found.ids == ("BraTS20_Training_001", "BraTS20_Training_003")
    assert f"[{code}]" in found.message
    assert f"BraTS20_Training_001_{file}.nii.gz" in found.message
    if code == "E_GEOMETRY":
        assert "BraTS20_Training_001_flair.nii.gz" in found.message
    assert not (tmp_path / "out" / "images" / "BraTS20_Training_001").exists()


def test_a_header_that_says_nothing_beside_one_that_does_is_no_agreement(tmp_path: Path) -> None:
    small(tmp_path / "root", 2)
    image = nibabel.Nifti1Image(draw_case(1, SMALL)["seg"], None)
    (tmp_path / "root" / "BraTS20_Training_001" / "BraTS20_Training_001_seg.nii").write_bytes(image.to_bytes())
    (tmp_path / "root" / "BraTS20_Training_001" / "BraTS20_Training_001_seg.nii.gz").unlink()
    listing = listed(tmp_path / "root", tmp_path / "out")
    assert "only one of them says where it lies" in finding(listing, "W_UNUSABLE").message


def test_a_shift_of_rounding_is_no_other_place(tmp_path: Path) -> None:
    small(tmp_path / "root", 1)
    affine = brats_affine(SMALL)
    affine[:3, 3] += 1e-3
    folder = tmp_path / "root" / "BraTS20_Training_001"
    write_volume(folder / f"{folder.name}_t1ce.nii.gz", draw_case(1, SMALL)["t1ce"], affine)
    assert codes(listed(tmp_path / "root", tmp_path / "out")) == []


def test_nothing_usable_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    small(tmp_path / "root")
    with pytest.raises(InputError, match=r"4 subjects.*\[W_NO_SLICES\] 4 subjects give no slice") as caught:
        brats(tmp_path / "root", tmp_path / "out")  # 80 + 26 of 10 slices
    assert caught.value.code == "E_EMPTY"


def test_too_few_patients_for_the_splits_is_an_error(tmp_path: Path) -> None:
    small(tmp_path / "root", 2)
    with pytest.raises(InputError) as caught:
        listed(tmp_path / "root", tmp_path / "out", fractions=(0.4, 0.3, 0.3))
    assert caught.value.code == "E_TOO_FEW"


@pytest.mark.parametrize(
    "options",
    [
        *({"modalities": ()}, {"modalities": ("flair", "flair")}, {"modalities": ("t1w",)}, {"modalities": ("seg",)}),
        *({"fractions": (0.5, 0.5, 0.5)}, {"fractions": (1.5, -0.5, 0.0)}, {"percentile": 0.0}, {"percentile": 101.0}),
        *({"skip_low": -1}, {"skip_high": -1}, {"healthy_gap": -1}, {"min_lesion_px": 0}, {"min_brain": 1.1}),
        *({"min_brain": float("nan")}, {"percentile": float("nan")}, {"fractions": (0.5, 0.5)}),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_read(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        listed(tmp_path / "absent", tmp_path / "out", **options)
    assert caught.value.code == "E_CONFIG"


def test_the_root_is_only_read(tmp_path: Path) -> None:
    build(tmp_path / "root")
    shutil.copytree(tmp_path / "root", tmp_path / "copy")
    listed(tmp_path / "root", tmp_path / "out")
    assert tree(tmp_path / "root") == tree(tmp_path / "copy")
    assert len(list((tmp_path / "root" / TRAINING).iterdir())) == 8


def test_the_stamp_is_valid_json_without_a_path_of_the_machine(tmp_path: Path) -> None:
    small(tmp_path / "root", 1)
    listed(tmp_path / "root", tmp_path / "out")
    text = (tmp_path / "out" / "images" / "BraTS20_Training_001" / "slices.json").read_text()
    assert json.loads(text)["facts"]["numbers"] == list(range(10))
    assert str(tmp_path) not in text

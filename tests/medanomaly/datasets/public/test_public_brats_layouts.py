"""Every way in which BraTS is known to lie on a disk is read; what cannot be BraTS is refused with the way out."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from tree_brats import brats_affine, draw_case, write_case, write_volume

from medanomaly.datasets.public.brats import brats
from medanomaly.datasets.public.brats_layout import MODALITIES, SEG, find_cases, patient_of
from medanomaly.datasets.public.listing import Listing
from medanomaly.errors import InputError
from medanomaly.io.reader import ReadOptions, read_image, read_mask

SMALL = (8, 10, 10)
SINCE_2023 = {"flair": "t2f", "t1": "t1n", "t1ce": "t1c", "t2": "t2w", "seg": "seg"}


def listed(root: Path, out: Path, num_skipped: int = 1) -> Listing:
    return brats(root, out, skip_low=num_skipped, skip_high=num_skipped, fractions=(1.0, 0.0, 0.0))


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"unread")
    return root


def with_grades(root: Path) -> list[str]:
    for grade, name in (("HGG", "BraTS19_CBICA_AAB_1"), ("LGG", "BraTS19_2013_0_1")):
        write_case(root / "MICCAI_BraTS_2019_Data_Training" / grade / name, draw_case(len(grade + name), SMALL))
    return ["BraTS19_2013_0", "BraTS19_CBICA_AAB"]


def of_2018(root: Path) -> list[str]:
    write_case(root / "MICCAI_BraTS_2018_Data_Training" / "HGG" / "Brats18_TCIA01_131_1", draw_case(1, SMALL))
    return ["Brats18_TCIA01_131"]


def of_2020_unpacked(root: Path) -> list[str]:
    folder = root / "BraTS2020_TrainingData" / "MICCAI_BraTS2020_TrainingData" / "BraTS20_Training_001"
    write_case(folder, draw_case(1, SMALL), "{case}_{kind}.nii")
    return ["BraTS20_Training_001"]


def of_2021(root: Path) -> list[str]:
    write_case(root / "BraTS2021_00000", draw_case(1, SMALL))
    return ["BraTS2021_00000"]


def of_2021_in_folders_named_like_files(root: Path) -> list[str]:
    for kind, values in draw_case(1, SMALL).items():
        inner = f"00000057_{'final_seg' if kind == 'seg' else f'brain_{kind}'}.nii"
        write_volume(root / "BraTS2021_00495" / f"BraTS2021_00495_{kind}.nii" / inner, values)
    return ["BraTS2021_00495"]


def of_2023(root: Path) -> list[str]:
    folder = root / "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData"
    for name in ("BraTS-GLI-00000-000", "BraTS-GLI-00000-001", "BraTS-GLI-00002-000"):
        volumes = {SINCE_2023[kind]: values for kind, values in draw_case(len(name), SMALL).items()}
        write_case(folder / name, volumes, "{case}-{kind}.nii.gz")
    return ["BraTS-GLI-00000", "BraTS-GLI-00002"]


def in_one_flat_folder(root: Path) -> list[str]:
    for name in ("BraTS20_Training_001", "BraTS20_Training_002"):
        for kind, values in draw_case(1, SMALL).items():
            write_volume(root / f"{name}_{kind}.nii.gz", values)
    return ["BraTS20_Training_001", "BraTS20_Training_002"]


@pytest.mark.parametrize(
    "style",
    [
        *(with_grades, of_2018, of_2020_unpacked, of_2021, of_2021_in_folders_named_like_files, of_2023, in_one_flat_folder),
    ],
)
def test_the_folder_styles_of_all_years_are_read(tmp_path: Path, style: Callable[[Path], list[str]]) -> None:
    patients = style(tmp_path / "root")
    listing = listed(tmp_path / "root", tmp_path / "out")
    assert listing.findings == ()
    assert sorted({record.patient_id for record in listing.records}) == patients
    cases = {record.id.rpartition("/")[0] for record in listing.records}
    assert len(listing.records) == 8 * len(cases)
    assert all(case.startswith(record.patient_id) for case, record in zip(sorted(cases), listing.records[::8], strict=True))


@pytest.mark.parametrize("style", [of_2020_unpacked, of_2023])
def test_channels_are_the_modalities_in_their_order(tmp_path: Path, style: Callable[[Path], list[str]]) -> None:
    style(tmp_path / "root")
    layout = find_cases(tmp_path / "root", MODALITIES)
    words = [SINCE_2023[kind] if style is of_2023 else kind for kind in (*MODALITIES, SEG)]
    for case in layout.cases:
        assert [path.name.removesuffix(".gz") for path in case.files] == [
            f"{case.id}{'-' if style is of_2023 else '_'}{word}.nii" for word in words
        ]


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("Brats17_CBICA_AAB_1", "Brats17_CBICA_AAB"),
        ("Brats18_2013_2_1", "Brats18_2013_2"),
        ("BraTS19_TMC_06290_1", "BraTS19_TMC_06290"),
        ("BraTS20_Training_001", "BraTS20_Training_001"),
        ("BraTS2021_00000", "BraTS2021_00000"),
        ("BraTS-GLI-00005-100", "BraTS-GLI-00005"),
        ("BraTS-MEN-RT-0002-1", "BraTS-MEN-RT-0002"),
        ("brats_train_006", "brats_train_006"),
    ],
)
def test_the_patient_is_the_case_without_its_time_point(case: str, patient: str) -> None:
    assert patient_of(case) == patient


def test_missing_files_are_all_named_with_what_is_missing(tmp_path: Path) -> None:
    for number in range(1, 16):
        kinds = {1: ("t1", "seg"), 2: ("flair", "t1", "t1ce", "t2"), 3: ("flair", "t1", "t1ce", "seg")}.get(
            number, (*MODALITIES, SEG)
        )
        name = f"BraTS20_Training_{number:03d}"
        touch(tmp_path, *(f"{name}/{name}_{kind}.nii.gz" for kind in kinds))
    for number in range(16, 30):
        touch(tmp_path, f"BraTS20_Training_{number:03d}/BraTS20_Training_{number:03d}_t1.nii.gz")
    layout = find_cases(tmp_path, MODALITIES)
    assert [case.id for case in layout.cases] == [f"BraTS20_Training_{number:03d}" for number in range(4, 16)]
    found = {finding.code: finding.ids for finding in layout.findings}
    assert found == {
        "W_MISSING": (
            "BraTS20_Training_001 (flair, t1ce, t2)",
            "BraTS20_Training_003 (t2)",
            *(f"BraTS20_Training_{number:03d} (flair, t1ce, t2, seg)" for number in range(16, 30)),
        ),
        "W_NO_SEG": ("BraTS20_Training_002",),
    }
    assert len(find_cases(tmp_path, ("t1",)).cases) == 14


def test_a_subject_found_twice_is_read_once_and_named(tmp_path: Path) -> None:
    name = "BraTS20_Training_001"
    kinds = [f"{name}_{kind}.nii.gz" for kind in (*MODALITIES, SEG)]
    touch(tmp_path, *(f"{folder}/{name}/{kind}" for folder in ("b", "a") for kind in kinds))
    layout = find_cases(tmp_path, MODALITIES)
    assert [path.parent.parent.name for case in layout.cases for path in case.files] == ["a"] * 5
    assert [(finding.code, finding.ids) for finding in layout.findings] == [("W_DUPLICATE", (name,))]


def test_of_a_subject_found_twice_the_complete_one_is_read(tmp_path: Path) -> None:
    name = "BraTS20_Training_001"
    touch(tmp_path, *(f"a/{name}/{name}_{kind}.nii.gz" for kind in MODALITIES))
    touch(tmp_path, *(f"b/{name}/{name}_{kind}.nii.gz" for kind in (*MODALITIES, SEG)))
    layout = find_cases(tmp_path, MODALITIES)
    assert [path.parent.parent.name for case in layout.cases for path in case.files] == ["b"] * 5
    assert [(finding.code, finding.ids) for finding in layout.findings] == [("W_DUPLICATE", (name,))]


def test_of_two_files_of_a_kind_the_first_is_read_and_the_subject_named(tmp_path: Path) -> None:
    name = "BraTS20_Training_001"
    touch(tmp_path, *(f"{name}/{name}_{kind}.nii{end}" for kind in (*MODALITIES, SEG) for end in ("", ".gz")))
    layout = find_cases(tmp_path, MODALITIES)
    assert [path.suffix for case in layout.cases for path in case.files] == [".nii"] * 5
    assert [(finding.code, finding.ids) for finding in layout.findings] == [("W_DUPLICATE", (name,))]


def test_several_releases_in_one_folder_are_told(tmp_path: Path) -> None:
    for name in ("BraTS20_Training_001", "BraTS2021_00001"):
        touch(tmp_path, *(f"{name}/{name}_{kind}.nii.gz" for kind in (*MODALITIES, SEG)))
    assert [(f.code, f.ids) for f in find_cases(tmp_path, MODALITIES).findings] == [("W_RELEASES", ("BraTS20", "BraTS2021"))]


def test_an_odd_name_is_no_segmentation_where_two_subjects_could_own_it(tmp_path: Path) -> None:
    for name in ("BraTS20_Training_001", "BraTS20_Training_002"):
        touch(tmp_path, *(f"{name}_{kind}.nii.gz" for kind in MODALITIES))
    touch(tmp_path, "W39_1998.09.19_Segm.nii")
    with pytest.raises(InputError, match="2 have no segmentation") as caught:
        find_cases(tmp_path, MODALITIES)
    assert caught.value.code == "E_EMPTY"


def test_hidden_files_and_links_out_of_the_root_are_not_read(tmp_path: Path) -> None:
    name = "BraTS20_Training_001"
    touch(tmp_path / "root", *(f"{name}/{name}_{kind}.nii.gz" for kind in (*MODALITIES, SEG)))
    touch(tmp_path / "root", f"{name}/._{name}_seg.nii.gz")
    outside = touch(tmp_path / "elsewhere", f"{name}_t1.nii.gz") / f"{name}_t1.nii.gz"
    assert find_cases(tmp_path / "root", MODALITIES).findings == ()
    (tmp_path / "root" / name / f"{name}_t1.nii.gz").unlink()
    (tmp_path / "root" / name / f"{name}_t1.nii.gz").symlink_to(outside)
    with pytest.raises(InputError, match=r"lack a modality, the first: BraTS20_Training_001 \(t1\)"):
        find_cases(tmp_path / "root", MODALITIES)


def test_a_folder_of_something_else_is_refused_with_the_tree_expected(tmp_path: Path) -> None:
    touch(tmp_path, "a/scan.nii.gz", "a/b.png", "IXI002-Guys-0828-T1.nii.gz")
    with pytest.raises(
        InputError, match=r"holds no file with a name of BraTS \(3 images\).*BraTS20_Training_001_\{flair"
    ) as caught:
        find_cases(tmp_path, MODALITIES)
    assert caught.value.code == "E_LAYOUT"


def test_an_empty_folder_a_file_and_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name, code in (("empty", "E_LAYOUT"), ("file", "E_NOT_REGULAR"), ("absent", "E_MISSING")):
        with pytest.raises(InputError) as caught:
            find_cases(tmp_path / name, MODALITIES)
        assert caught.value.code == code


def cut_beforehand(
    root: Path, *, suffix: str = "_w", by_subject: bool = False, subjects: int = 3
) -> dict[str, dict[str, np.ndarray]]:
    """Slices 3 to 8 of each subject as single files, headers without meaning, in a folder each or in one of their subject."""
    drawn = {}
    folder_number = 240
    for number in range(1, subjects + 1):
        case = f"brats_train_{number:03d}"
        drawn[case] = draw_case(number, SMALL)
        for z in range(3, 9):
            folder = root / "training" / (case if by_subject else f"{folder_number:06d}")
            folder_number += 1
            for kind, values in drawn[case].items():
                write_volume(folder / f"{case}_{kind}_{z:03d}{suffix}.nii.gz", values[:, :, z], np.eye(4))
    return drawn


@pytest.mark.parametrize(("suffix", "by_subject"), [("_w", False), ("", False), ("_w", True)])
def test_slices_cut_beforehand_are_grouped_by_subject_and_shown_like_volumes(
    tmp_path: Path, suffix: str, by_subject: bool
) -> None:
    drawn = cut_beforehand(tmp_path / "root", suffix=suffix, by_subject=by_subject)
    # The ends were cut off by whoever cut the slices: nothing more is skipped.
    listing = listed(tmp_path / "root", tmp_path / "out", num_skipped=80)
    assert listing.findings == ()
    assert [r.id for r in listing.records] == [f"{case}/z{z:03d}" for case in sorted(drawn) for z in range(3, 9)]
    assert {r.patient_id for r in listing.records} == set(drawn)
    for record in listing.records:
        volumes, z = drawn[record.patient_id], int(record.id[-3:])
        pixels = read_image(record.image, ReadOptions(channels=4)).pixels
        for channel, kind in enumerate(MODALITIES):
            kept = volumes[kind][:, :, 3:9]
            white = np.percentile(kept[kept > 0], 99)
            np.testing.assert_allclose(pixels[channel], np.clip(volumes[kind][:, :, z].T / white, 0, 1), atol=1 / 2048)
        lesion = volumes["seg"][:, :, z].T > 0
        assert record.label == ("diseased" if lesion.any() else "healthy")
        if record.mask is not None:
            np.testing.assert_array_equal(read_mask(record.mask), lesion)


def test_labels_of_test_slices_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    drawn = cut_beforehand(tmp_path / "root", subjects=2)
    shutil.move(tmp_path / "root" / "training", tmp_path / "root" / "testing")
    for path in sorted((tmp_path / "root").rglob("*_seg_*")):
        target = tmp_path / "root" / "test_labels" / f"{path.parent.name}-label.nii.gz"
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    listing = listed(tmp_path / "root", tmp_path / "out")
    assert listing.findings == ()
    assert len(listing.records) == 12
    for record in listing.records:
        z = int(record.id[-3:])
        assert (record.label == "diseased") == bool(drawn[record.patient_id]["seg"][:, :, z].any())


def test_slices_without_a_label_or_a_modality_are_named_one_by_one(tmp_path: Path) -> None:
    cut_beforehand(tmp_path / "root", subjects=1)
    next((tmp_path / "root").rglob("*_t1_004_w*")).unlink()
    next((tmp_path / "root").rglob("*_seg_006_w*")).unlink()
    listing = listed(tmp_path / "root", tmp_path / "out")
    assert [r.id[-3:] for r in listing.records] == ["003", "005", "007", "008"]
    assert [(finding.code, finding.ids) for finding in listing.findings] == [
        ("W_MISSING", ("brats_train_001 slice 4 (t1)",)),
        ("W_NO_SEG", ("brats_train_001 slice 6",)),
    ]


def test_slices_of_a_subject_that_differ_in_size_are_refused(tmp_path: Path) -> None:
    cut_beforehand(tmp_path / "root", subjects=2)
    path = next((tmp_path / "root").rglob("brats_train_001_t1_004_w*"))
    write_volume(path, draw_case(1, (10, 8, 10))["t1"][:, :, 4])
    listing = listed(tmp_path / "root", tmp_path / "out")
    assert {r.patient_id for r in listing.records} == {"brats_train_002"}
    assert f"{path.name}: has 10 x 8 x 1 voxels, brats_train_001_t1_003_w.nii.gz has 8 x 10 x 1" in listing.findings[0].message


def test_a_slice_file_that_holds_a_volume_is_refused(tmp_path: Path) -> None:
    cut_beforehand(tmp_path / "root", subjects=2)
    for path in (tmp_path / "root").rglob("brats_train_001_t1_*"):
        write_volume(path, draw_case(1, SMALL)["t1"])
    listing = listed(tmp_path / "root", tmp_path / "out")
    assert {r.patient_id for r in listing.records} == {"brats_train_002"}
    assert "[E_GEOMETRY]" in listing.findings[0].message


def test_spacing_of_a_flat_slice_is_turned_with_it(tmp_path: Path) -> None:
    for kind, values in draw_case(1, SMALL).items():
        image = nibabel.Nifti1Image(values[:, :, 5], brats_affine(SMALL))
        image.header.set_zooms((0.5, 2.0))
        image.header.set_xyzt_units("mm")
        image.header["pixdim"][3] = 0  # as some writers leave it
        path = tmp_path / "root" / "000001" / f"brats_val_001_{kind}_005.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(image.to_bytes()))
    assert listed(tmp_path / "root", tmp_path / "out").records[0].spacing_mm == (2.0, 0.5)


def test_volumes_and_slices_together_are_refused(tmp_path: Path) -> None:
    of_2021(tmp_path)
    cut_beforehand(tmp_path, subjects=1)
    with pytest.raises(InputError, match="both volumes and slices") as caught:
        find_cases(tmp_path, MODALITIES)
    assert caught.value.code == "E_LAYOUT"

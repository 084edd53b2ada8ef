"""What only decoding every byte shows of a data set: the same picture in other bytes, broken checksums, masks of other grids."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from datasets_builders import cohort

from medanomaly.datasets.check import check_manifest
from medanomaly.datasets.dataset import ManifestDataset
from medanomaly.datasets.findings import CheckReport, Finding
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.errors import InputError
from medanomaly.io.reader import read_image
from medanomaly.io.writers import write_npy
from medanomaly.types import Box


def codes(report: CheckReport) -> list[str]:
    return [finding.code for finding in report.findings]


def the(report: CheckReport, code: str) -> Finding:
    (finding,) = [finding for finding in report.findings if finding.code == code]
    return finding


def saved_again(record: Record, other: Path) -> Record:
    """A record whose image shows the pixels of ``record`` from a file of another format."""
    write_npy(other, read_image(record.image).pixels[0])
    return replace(record, id=other.name, image=other, mask=None)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, "W_DUPLICATE"),
        ({"split": "test", "patient_id": "somebody"}, "E_DUPLICATE"),
        ({"label": "diseased", "patient_id": "somebody"}, "E_LABEL_CONFLICT"),
    ],
)
def test_the_same_pixels_under_another_name_and_format_are_found_when_decoded(
    tmp_path: Path, change: dict[str, str], code: str
) -> None:
    records = cohort(tmp_path)
    records.append(replace(saved_again(records[0], tmp_path / "again.npy"), **change))  # type: ignore[arg-type]
    assert code not in codes(check_manifest(records))
    finding = the(check_manifest(records, deep=True), code)
    assert finding.ids == (records[0].id, "again.npy")
    assert "the same pixels" in finding.message


def test_the_same_bytes_are_reported_once_and_constant_images_are_no_duplicates(tmp_path: Path) -> None:
    records = cohort(tmp_path)
    records[1].image.write_bytes(records[0].image.read_bytes())
    for index, size in ((8, (6, 9)), (9, (6, 9))):
        write_npy(tmp_path / f"{index}.npy", np.full(size, 3, np.float32))
        records[index] = replace(records[index], image=tmp_path / f"{index}.npy")
    report = check_manifest(records[:8] + records[10:], deep=True)
    assert the(report, "W_DUPLICATE").ids == (records[0].id, records[1].id)
    write_npy(tmp_path / "9.npy", np.full((6, 9), 4, np.float32))
    assert "pixels" not in str(check_manifest(records, deep=True))


def nifti(path: Path, values: np.ndarray, affine: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def slice_with_mask(root: Path, mask_affine: np.ndarray) -> Record:
    """A NIfTI slice whose image has the identity for an affine."""
    lesion = np.zeros((24, 36), np.uint8)
    lesion[2, 3:5] = 1
    image = nifti(root / "image.nii.gz", np.arange(24 * 36, dtype=np.int16).reshape(24, 36), np.eye(4))
    return Record(
        id="slice", patient_id="p", image=image, mask=nifti(root / "mask.nii.gz", lesion, mask_affine), label="diseased"
    )


@pytest.mark.parametrize(("flip", "found"), [(1, []), (-1, ["E_GEOMETRY"])])
def test_a_nifti_mask_that_is_flipped_against_its_image_is_an_error_where_it_is_checked_and_where_it_is_used(
    tmp_path: Path, flip: int, found: list[str]
) -> None:
    record = slice_with_mask(tmp_path, np.diag([flip, 1.0, 1, 1]))
    assert [code for code in codes(check_manifest([record], deep=True)) if code.startswith("E_")] == found
    dataset = ManifestDataset([record], PreprocessConfig(image_size=8), ("healthy", "diseased"))
    if found:
        with pytest.raises(InputError) as refused:
            dataset[0]
        assert refused.value.code == "E_GEOMETRY"
    else:
        mask = dataset[0].mask
        assert mask is not None
        assert mask.sum() == 2


@pytest.mark.parametrize("which", ["image", "mask"])
def test_a_broken_checksum_passes_a_fast_check_and_fails_a_deep_one(tmp_path: Path, which: str) -> None:
    record = slice_with_mask(tmp_path, np.eye(4))
    path: Path = getattr(record, which)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    assert check_manifest([record]).ok
    assert the(check_manifest([record], deep=True), "E_CHECKSUM").ids == ("slice",)


INSIDE = (0.0, 0.0, 9.0, 6.0)
"""Left, upper, right and lower edge of the images of a cohort."""


@pytest.mark.parametrize(
    ("edges", "fits"),
    [
        (INSIDE, True),
        ((-1.0, -1.0, 10.0, 7.0), True),
        ((-1.1, 0.0, 9.0, 6.0), False),
        ((0.0, -1.1, 9.0, 6.0), False),
        ((0.0, 0.0, 10.1, 6.0), False),
        ((0.0, 0.0, 9.0, 7.1), False),
        # Within the slack, and nothing of it shows.
        ((9.0, 0.0, 9.5, 6.0), False),
        ((-0.5, 0.0, 0.0, 6.0), False),
        ((0.0, 6.0, 9.0, 6.5), False),
        ((0.0, -0.5, 9.0, 0.0), False),
    ],
)
def test_boxes_that_reach_more_than_a_px_beyond_their_image_are_an_error_when_decoded(
    tmp_path: Path, edges: tuple[float, float, float, float], fits: bool
) -> None:
    records = cohort(tmp_path)
    good, box = (Box(x_min=e[0], y_min=e[1], x_max=e[2], y_max=e[3]) for e in (INSIDE, edges))
    for index in (2, 7):
        records[index] = replace(records[index], boxes=(good, box))
    assert check_manifest(records).ok
    report = check_manifest(records, deep=True)
    assert report.ok == fits
    if not fits:
        finding = the(report, "E_BOX_SIZE")
        assert finding.ids == (records[2].id, records[7].id)
        assert finding.fix.startswith("boxes must be in px of the image as it lies on disk")
        assert finding.fix.endswith("or use --image-size / --resized-to")

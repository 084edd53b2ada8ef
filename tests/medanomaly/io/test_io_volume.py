"""A whole volume is read once, checked, and cut into pictures that are the right way up whatever order the file has."""

from __future__ import annotations

import gzip
import itertools
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
from io_builders import write_nifti
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from medanomaly.errors import InputError
from medanomaly.io.limits import ReadLimits
from medanomaly.io.volume import axial_slices, orientation_of, read_volume

SHAPE = (5, 7, 4)
BRATS_AFFINE = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])


def ramp() -> np.ndarray:
    return np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)


def save(path: Path, values: np.ndarray, affine: np.ndarray | None, zooms: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Path:
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_zooms(zooms)
    image.header.set_xyzt_units("mm")
    if affine is None:
        image.header["sform_code"] = image.header["qform_code"] = 0
    content = image.to_bytes()
    path.write_bytes(gzip.compress(content, mtime=0) if path.name.endswith(".gz") else content)
    return path


def code_of(path: Path, **limits: int) -> str:
    with pytest.raises(InputError) as caught:
        read_volume(path, ReadLimits(**limits))
    assert caught.value.message
    assert caught.value.path == path
    return caught.value.code


@pytest.mark.parametrize("name", ["plain.nii", "packed.nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, ">f4", np.float64])
def test_a_volume_is_the_stored_array_as_float32(tmp_path: Path, name: str, dtype: str) -> None:
    volume = read_volume(save(tmp_path / name, ramp().astype(dtype), BRATS_AFFINE, (1.0, 2.0, 3.0)))
    np.testing.assert_array_equal(volume.values, ramp())
    assert volume.values.dtype == np.float32
    np.testing.assert_array_equal(volume.affine, BRATS_AFFINE)
    assert volume.spacing_mm == (1.0, 2.0, 3.0)


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(ramp(), BRATS_AFFINE)
    image.header.set_slope_inter(0.5, -10)
    (tmp_path / "scaled.nii").write_bytes(image.to_bytes())
    np.testing.assert_array_equal(read_volume(tmp_path / "scaled.nii").values, ramp() * 0.5 - 10)


def test_an_image_of_two_axes_is_a_volume_of_one_slice(tmp_path: Path) -> None:
    assert read_volume(write_nifti(tmp_path / "flat.nii", ramp()[:, :, 0])).values.shape == (5, 7, 1)


def test_the_bright_corner_lies_where_a_radiologist_expects_it_for_every_stored_order(tmp_path: Path) -> None:
    """Front right bottom is the first slice's upper left corner, in all 48 orders a file may have."""
    brats = np.zeros(SHAPE, np.float32)  # stored towards left, back, top: index 0 is right, front, bottom
    brats[0, 0, 0] = 1  # right, front, bottom
    brats[0, 1, 0] = 2  # one voxel behind it
    brats[1, 0, 0] = 3  # one voxel to the patient's left
    brats[0, 0, 1] = 4  # one slice above
    orders = ["".join(letters) for axes in itertools.permutations(("LR", "PA", "SI")) for letters in itertools.product(*axes)]
    assert len(set(orders)) == 48
    for order in orders:
        turn = ornt_transform(axcodes2ornt("LPS"), axcodes2ornt(order))
        stored = apply_orientation(brats, turn)
        affine = BRATS_AFFINE @ np.diag([2.0, 3.0, 4.0, 1.0]) @ inv_ornt_aff(turn, SHAPE)
        zooms = tuple(float(size) for size in np.linalg.norm(affine[:3, :3], axis=0))
        volume = read_volume(save(tmp_path / "turned.nii", np.asarray(stored), affine, zooms))
        assert orientation_of(volume) == order
        planes, spacing = axial_slices(volume)
        assert planes.shape == (4, 7, 5), order
        assert [planes[0, 0, 0], planes[0, 1, 0], planes[0, 0, 1], planes[1, 0, 0]] == [1, 2, 3, 4], order
        assert spacing == pytest.approx((3.0, 2.0)), order


def test_a_silent_header_is_taken_in_the_order_of_brats(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "silent.nii", ramp(), None))
    assert volume.affine is None
    assert orientation_of(volume) == ""
    np.testing.assert_array_equal(axial_slices(volume)[0], ramp().transpose(2, 1, 0))


def test_spacing_without_a_unit_is_unknown(tmp_path: Path) -> None:
    volume = read_volume(write_nifti(tmp_path / "unitless.nii", ramp(), unit="unknown"))
    assert volume.spacing_mm is None
    assert axial_slices(volume)[1] is None


@pytest.mark.parametrize("name", ["cut.nii", "cut.nii.gz"])
def test_a_volume_cut_short_is_told(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, np.random.default_rng(0).integers(0, 999, SHAPE, np.int16), BRATS_AFFINE)
    path.write_bytes(path.read_bytes()[:-40])
    assert code_of(path) == "E_TRUNCATED"


def test_a_wrong_gzip_checksum_is_seen(tmp_path: Path) -> None:
    path = save(tmp_path / "rotten.nii.gz", ramp(), BRATS_AFFINE)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # the CRC's first byte
    path.write_bytes(content)
    assert code_of(path) == "E_MALFORMED"


@pytest.mark.parametrize(("dims", "code"), [((32767,) * 3, "E_LIMIT"), ((0, 5, 1), "E_HEADER"), ((-5, 5, 1), "E_HEADER")])
@pytest.mark.parametrize("packed", [False, True])
def test_impossible_dimensions_are_refused_from_the_header(
    tmp_path: Path, dims: tuple[int, ...], code: str, packed: bool
) -> None:
    path = save(tmp_path / "dims.nii", ramp(), BRATS_AFFINE)
    content = bytearray(path.read_bytes())
    struct.pack_into("<3h", content, 42, *dims)
    path = tmp_path / ("dims.nii.gz" if packed else "dims.nii")
    path.write_bytes(gzip.compress(content) if packed else content)
    assert code_of(path) == code


def test_the_limit_counts_the_float32_that_a_volume_becomes(tmp_path: Path) -> None:
    path = save(tmp_path / "bytes.nii.gz", ramp().astype(np.uint8), BRATS_AFFINE)
    assert code_of(path, decoded_bytes=4 * 140 - 1) == "E_LIMIT"
    read_volume(path, ReadLimits(decoded_bytes=4 * 140))


def test_nan_voxels_are_counted(tmp_path: Path) -> None:
    values = ramp().astype(np.float32)
    values[0, :2, 0] = np.nan, np.inf
    path = save(tmp_path / "holes.nii", values, BRATS_AFFINE)
    with pytest.raises(InputError, match="2 non-finite") as caught:
        read_volume(path)
    assert caught.value.code == "E_NONFINITE"


def test_an_affine_that_maps_no_volume_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "flat.nii", ramp(), BRATS_AFFINE)
    content = bytearray(path.read_bytes())
    struct.pack_into("<4f", content, 280, 0, 0, 0, 0)  # srow_x
    path.write_bytes(content)
    assert code_of(path) == "E_GEOMETRY"


def test_series_colour_text_and_folders_are_refused(tmp_path: Path) -> None:
    assert code_of(write_nifti(tmp_path / "series.nii", np.zeros((4, 5, 6, 2), np.uint8))) == "E_MULTIFRAME"
    rgb = np.zeros((4, 5, 1), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert code_of(write_nifti(tmp_path / "rgb.nii", rgb)) == "E_COLOR"
    assert code_of(write_nifti(tmp_path / "complex.nii", np.zeros((4, 5, 1), np.complex64))) == "E_DTYPE"
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"not a brain " * 100))
    assert code_of(tmp_path / "text.nii.gz") == "E_FORMAT"
    assert code_of(tmp_path) == "E_NOT_REGULAR"
    assert code_of(tmp_path / "absent.nii") == "E_NOT_FOUND"

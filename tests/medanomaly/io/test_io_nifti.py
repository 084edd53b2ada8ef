import gzip
import struct

import nibabel
import numpy as np
import pytest
from io_builders import ramp, write_nifti

from medanomaly.errors import InputError
from medanomaly.io.reader import ReadOptions, read_image


def code_of(path, **options):
    with pytest.raises(InputError) as caught:
        read_image(path, ReadOptions(**options))
    assert caught.value.message
    return caught.value.code


def edit_header(path, offset, layout, *values):
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, offset, *values)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_slice_is_the_stored_array_in_its_own_order(tmp_path, suffix):
    volume = np.random.default_rng(0).normal(size=(5, 7, 4)).astype(np.float32)
    affine = np.diag([-2.0, 3, 4, 1])  # a flip in the affine must not move the pixels
    nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / f"volume{suffix}")
    stored = np.asarray(nibabel.load(tmp_path / f"volume{suffix}").dataobj)
    for k in range(4):
        image = read_image(tmp_path / f"volume{suffix}", ReadOptions(frame=k))
        np.testing.assert_array_equal(image.pixels[0], stored[:, :, k])
        assert image.pixels.flags.c_contiguous


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, ">i2", np.float64])
def test_nifti_2_and_either_byte_order_are_read(tmp_path, dtype):
    values = np.asarray(ramp(), dtype=dtype)
    header = nibabel.Nifti2Header(endianness=">" if dtype == ">i2" else "<")
    header.set_data_dtype(values.dtype)
    nibabel.save(nibabel.Nifti2Image(values, np.eye(4), header), tmp_path / "second.nii")
    np.testing.assert_array_equal(read_image(tmp_path / "second.nii").pixels[0], values)


def test_scale_and_intercept_are_applied(tmp_path):
    image = nibabel.Nifti1Image(ramp(), np.eye(4))
    image.header.set_slope_inter(0.5, -10)
    (tmp_path / "scaled.nii").write_bytes(image.to_bytes())
    loaded = np.asarray(nibabel.load(tmp_path / "scaled.nii").dataobj)
    np.testing.assert_allclose(read_image(tmp_path / "scaled.nii").pixels[0], loaded)
    assert loaded.min() < 0


def test_an_infinite_scale_is_left_out_and_told(tmp_path):
    path = edit_header(write_nifti(tmp_path / "slope.nii", ramp()), 112, "<f", float("inf"))
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels[0], ramp())
    assert "scl_slope inf is no scale: values are as stored" in image.notes


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("meter", 1000), ("micron", 0.001)])
def test_spacing_is_in_mm_whatever_the_unit(tmp_path, unit, factor):
    image = read_image(write_nifti(tmp_path / "spaced.nii", ramp(), unit=unit, zooms=(0.5, 2.0)))
    assert image.spacing_mm == pytest.approx((0.5 * factor, 2.0 * factor))


def test_spacing_without_a_unit_is_unknown_not_assumed(tmp_path):
    image = read_image(write_nifti(tmp_path / "unitless.nii", ramp(), unit="unknown"))
    assert image.spacing_mm is None
    assert any("no unit of length" in note for note in image.notes)


def test_volumes_need_a_slice_and_series_of_volumes_are_refused(tmp_path):
    volume = write_nifti(tmp_path / "volume.nii", np.zeros((4, 5, 6), np.uint8))
    assert code_of(volume) == "E_MULTIFRAME"
    assert code_of(volume, frame=6) == "E_MULTIFRAME"
    assert code_of(write_nifti(tmp_path / "series.nii", np.zeros((4, 5, 6, 2), np.uint8)), frame=0) == "E_MULTIFRAME"
    assert read_image(write_nifti(tmp_path / "ones.nii", np.zeros((4, 5, 1, 1), np.uint8))).native_size == (4, 5)


@pytest.mark.parametrize(("dims", "code"), [((32767,) * 3, "E_LIMIT"), ((0, 5, 1), "E_HEADER"), ((-5, 5, 1), "E_HEADER")])
@pytest.mark.parametrize("compressed", [False, True])
def test_impossible_dimensions_are_refused_from_the_header(tmp_path, dims, code, compressed):
    path = edit_header(write_nifti(tmp_path / "dims.nii", np.zeros((4, 5, 1), np.uint8)), 42, "<3h", *dims)
    if compressed:
        (tmp_path / "dims.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / "dims.nii.gz"
    assert code_of(path) == code


def test_missing_bytes_are_counted_from_the_header_before_any_voxel_is_read(tmp_path):
    path = edit_header(write_nifti(tmp_path / "dims.nii", np.zeros((4, 5, 1), np.uint8)), 42, "<3h", 8000, 8000, 1)
    with pytest.raises(InputError, match=f"ends {8000 * 8000 - 20} bytes too early") as caught:
        read_image(path)
    assert caught.value.code == "E_TRUNCATED"


@pytest.mark.parametrize("offset", [0.0, -1.0, float("nan"), 2e9])
def test_data_that_starts_nowhere_is_refused(tmp_path, offset):
    path = edit_header(write_nifti(tmp_path / "offset.nii", ramp()), 108, "<f", offset)
    assert code_of(path) in ("E_HEADER", "E_LIMIT")


@pytest.mark.parametrize(("dtype", "code"), [([("R", "u1"), ("G", "u1"), ("B", "u1")], "E_COLOR"), (np.complex64, "E_DTYPE")])
def test_rgb_and_complex_voxels_are_refused(tmp_path, dtype, code):
    assert code_of(write_nifti(tmp_path / "odd.nii", np.zeros((4, 5, 1), dtype))) == code


def test_an_analyze_header_is_not_nifti(tmp_path):
    path = edit_header(write_nifti(tmp_path / "old.nii", ramp()), 344, "<4s", b"ni1\0")
    assert code_of(path) == "E_FORMAT"


def test_gzip_of_something_else_is_not_nifti(tmp_path):
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"not a brain " * 100))
    assert code_of(tmp_path / "text.nii.gz") == "E_FORMAT"

"""NIfTI out lies on the grid of its source and takes nothing else from it."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension

from medanomaly.io.nifti_out import stored_order, write_nifti
from medanomaly.io.volume import axial_slices, read_volume

AFFINE = np.array([[0, -2.0, 0, 90], [1.5, 0, 0, -70], [0, 0, 3, 12], [0, 0, 0, 1]])
"""Rows run to the front, columns to the left: no axis where it is by default."""


def write_source(path: Path, shape: tuple[int, ...] = (4, 5, 6), kind: Any = nibabel.Nifti1Image, affine: Any = AFFINE) -> Path:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    image = kind(values, affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"Canary description"
    image.header["aux_file"] = b"canary.aux"
    image.header["intent_name"] = b"canaryintent"
    if affine is not None:
        image.set_qform(affine, 1)
        image.set_sform(affine, 2)
    image.header.extensions.append(Nifti1Extension("comment", b"canary extension"))
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_values_affines_and_sizes_are_those_of_the_source(tmp_path: Path, kind: Any) -> None:
    source = write_source(tmp_path / "in.nii.gz", kind=kind)
    values = np.random.default_rng(0).random((4, 5, 6), dtype=np.float32)
    write_nifti(tmp_path / "out.nii.gz", values, source)
    made, was = nibabel.load(tmp_path / "out.nii.gz"), nibabel.load(source)
    assert type(made) is kind
    np.testing.assert_array_equal(np.asarray(made.dataobj), values)
    assert made.get_data_dtype() == np.float32
    for form in ("get_qform", "get_sform"):
        (new, code), (old, old_code) = getattr(made, form)(coded=True), getattr(was, form)(coded=True)
        np.testing.assert_allclose(new, old, atol=1e-5)
        assert code == old_code
    assert made.header.get_zooms() == was.header.get_zooms()
    assert made.header.get_xyzt_units()[0] == "mm"


def test_a_mask_is_bytes_of_0_and_1(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random((4, 5, 6)) > 0.5
    write_nifti(tmp_path / "out.nii.gz", mask, write_source(tmp_path / "in.nii"))
    made = nibabel.load(tmp_path / "out.nii.gz")
    assert made.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(made.dataobj), mask)


def test_one_slice_lies_where_it_was_cut(tmp_path: Path) -> None:
    source = write_source(tmp_path / "in.nii")
    write_nifti(tmp_path / "out.nii.gz", np.zeros((4, 5), np.float32), source, frame=4)
    made = nibabel.load(tmp_path / "out.nii.gz")
    assert made.shape == (4, 5, 1)
    for form in (made.affine, made.get_qform()):
        np.testing.assert_allclose(form @ [1, 2, 0, 1], AFFINE @ [1, 2, 4, 1], atol=1e-4)


def test_a_picture_of_two_axes_stays_one_and_a_file_without_a_place_gets_none(tmp_path: Path) -> None:
    source = write_source(tmp_path / "in.nii", shape=(4, 5), affine=None)
    write_nifti(tmp_path / "out.nii.gz", np.zeros((4, 5), np.float32), source)
    made = nibabel.load(tmp_path / "out.nii.gz")
    assert made.shape == (4, 5)
    assert (int(made.header["qform_code"]), int(made.header["sform_code"])) == (0, 0)


def test_nothing_that_was_written_into_the_header_comes_along(tmp_path: Path) -> None:
    source = write_source(tmp_path / "canaryfile.nii")
    assert source.read_bytes().lower().count(b"canary") == 4
    write_nifti(tmp_path / "out.nii.gz", np.zeros((4, 5, 6), np.float32), source)
    raw = (tmp_path / "out.nii.gz").read_bytes()
    assert b"canary" not in (raw + gzip.decompress(raw)).lower()
    assert raw[3] == 0, "no file name in gzip's own header"
    assert raw[4:8] == bytes(4), "nor the time"


@pytest.mark.parametrize("affine", [AFFINE, np.diag([1.0, 1, 1, 1]), np.diag([-1.0, -1, 1, 1]), np.diag([1.0, -2, -3, 1]), None])
def test_slices_go_back_to_the_order_of_their_file(tmp_path: Path, affine: Any) -> None:
    volume = read_volume(write_source(tmp_path / "in.nii", affine=affine))
    planes, _ = axial_slices(volume)
    np.testing.assert_array_equal(stored_order(planes, volume), volume.values)

"""A mask belongs to its image where both headers put the same index on the same place; arrays are never turned to make it so."""

import struct

import nibabel
import numpy as np
import pytest

from medanomaly.errors import InputError
from medanomaly.io.nifti_geometry import misplacement_px, placement_of
from medanomaly.io.reader import ReadOptions, read_image, read_mask

OBLIQUE = nibabel.affines.from_matvec(np.diag([0.5, 0.7, 3]) @ nibabel.eulerangles.euler2mat(0.3, 0.2, 0.1), [-90.0, 12.5, 40.0])
SHAPE = (12, 9, 5)


def write(path, *, qform=None, sform=None, qform_code=1, sform_code=1, values=None, kind=nibabel.Nifti1Image):
    """A NIfTI file whose two placements are given one by one; None = its code is 0."""
    image = kind(np.zeros(SHAPE, np.uint8) if values is None else values, np.eye(4))
    image.header.set_qform(qform, qform_code if qform is not None else 0)
    image.header.set_sform(sform, sform_code if sform is not None else 0)
    path.write_bytes(kind(image.dataobj, None, image.header).to_bytes())
    return path


def rotation(angle):
    """A rotation about the first axis: a qform cannot hold the shear that OBLIQUE has."""
    return nibabel.affines.from_matvec(nibabel.eulerangles.euler2mat(0, 0, angle) @ np.diag([0.5, 0.7, 3]), [-90.0, 12.5, 40.0])


def refused(image, mask):
    with pytest.raises(InputError) as caught:
        read_mask(mask, SHAPE[:2], image_path=image, frame=0)
    assert caught.value.fix
    return caught.value


def moved(affine, **change):
    """The affine with a flip of the first axis, a shift in mm, or another voxel size."""
    other = affine.copy()
    if "flip" in change:
        other[:3, 0] *= -1
        other[:3, 3] -= (SHAPE[0] - 1) * other[:3, 0]
    other[:3, 3] += change.get("shift_mm", 0)
    other[:3, :3] *= change.get("scale", 1)
    return other


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_a_mask_on_the_grid_of_its_image_is_read_whatever_the_affine(tmp_path, kind):
    image = write(tmp_path / "image.nii", sform=OBLIQUE, kind=kind)
    mask = write(tmp_path / "mask.nii", sform=OBLIQUE + 1e-6, sform_code=2)
    assert read_mask(mask, SHAPE[:2], image_path=image, frame=0).shape == SHAPE[:2]


@pytest.mark.parametrize("change", [{"flip": True}, {"shift_mm": 0.5}, {"scale": 1.1}])
def test_a_mask_that_lies_elsewhere_is_refused_though_its_size_is_right(tmp_path, change):
    image = write(tmp_path / "image.nii", sform=OBLIQUE)
    mask = write(tmp_path / "mask.nii", sform=moved(OBLIQUE, **change))
    error = refused(image, mask)
    assert (error.code, error.path) == ("E_GEOMETRY", mask)
    assert "voxels off" in error.message


def test_a_flip_of_the_affine_alone_moves_no_pixel_of_an_image(tmp_path):
    values = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    for name, affine in (("as-is", OBLIQUE), ("flipped", moved(OBLIQUE, flip=True))):
        path = write(tmp_path / f"{name}.nii", sform=affine, values=values)
        np.testing.assert_array_equal(read_image(path, ReadOptions(frame=3)).pixels[0], values[:, :, 3])


def test_a_mask_of_another_slice_is_refused(tmp_path):
    image = write(tmp_path / "image.nii", sform=OBLIQUE, values=np.zeros((12, 9), np.uint8))
    other = OBLIQUE.copy()
    other[:3, 3] += OBLIQUE[:3, 2]
    mask = write(tmp_path / "mask.nii", sform=other, values=np.zeros((12, 9), np.uint8))
    assert "1 voxels off" in refused(image, mask).message


def test_a_qform_counts_where_there_is_no_sform(tmp_path):
    image = write(tmp_path / "image.nii", qform=rotation(0.4))
    assert read_mask(write(tmp_path / "same.nii", sform=rotation(0.4)), SHAPE[:2], image_path=image, frame=0).size
    assert refused(image, write(tmp_path / "turned.nii", sform=rotation(0.5))).code == "E_GEOMETRY"


def test_files_that_say_no_place_are_compared_by_size_only(tmp_path):
    image, mask = write(tmp_path / "image.nii"), write(tmp_path / "mask.nii", sform=OBLIQUE)
    assert placement_of(image).affine is None
    assert read_mask(mask, SHAPE[:2], image_path=image, frame=0).shape == SHAPE[:2]
    np.save(tmp_path / "image.npy", np.zeros(SHAPE[:2], np.uint8))
    assert read_mask(mask, SHAPE[:2], image_path=tmp_path / "image.npy", frame=0).shape == SHAPE[:2]


def test_two_forms_that_name_one_space_must_agree_and_of_two_spaces_need_not(tmp_path):
    scanner, atlas = rotation(0.1), rotation(0.9)
    contradictory = write(tmp_path / "contradictory.nii", qform=scanner, sform=atlas, qform_code=1, sform_code=1)
    legitimate = write(tmp_path / "legitimate.nii", qform=scanner, sform=atlas, qform_code=1, sform_code=4)
    np.testing.assert_allclose(placement_of(legitimate).affine, atlas, atol=1e-5)
    mask = write(tmp_path / "mask.nii", sform=atlas)
    assert read_mask(mask, SHAPE[:2], image_path=legitimate, frame=0).shape == SHAPE[:2]
    for image, lesion in ((contradictory, mask), (legitimate, contradictory)):
        error = refused(image, lesion)
        assert (error.code, error.path) == ("E_GEOMETRY", contradictory)
        assert "contradicts itself" in error.message


@pytest.mark.parametrize("column", [[0.0, 0, 0], [float("nan"), 0, 0], [float("inf"), 0, 0]])
def test_an_affine_that_cannot_be_inverted_is_refused(tmp_path, column):
    path = write(tmp_path / "flat.nii", sform=OBLIQUE)
    content = bytearray(path.read_bytes())
    for row, value in enumerate(column):
        struct.pack_into("<f", content, 280 + 16 * row, value)
    path.write_bytes(content)
    assert refused(write(tmp_path / "image.nii", sform=OBLIQUE), path).code == "E_GEOMETRY"


def test_misplacement_is_told_in_voxels_of_the_reference_at_the_worst_corner():
    reference = np.diag([2.0, 4, 1, 1])
    shifted = reference.copy()
    shifted[:3, 3] = [3, 2, 0]
    assert misplacement_px(shifted, reference, (5, 5, 1)) == pytest.approx(1.5)
    assert misplacement_px(np.diag([2.0, 5, 9, 1]), reference, (5, 5, 1)) == pytest.approx(1.0)  # 4 rows of 1 mm over 4 mm

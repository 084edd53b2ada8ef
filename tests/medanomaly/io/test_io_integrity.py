"""What reads well and is wrong: a broken checksum, a stream without end, two placements in one header."""

import gzip
import zlib

import nibabel
import numpy as np
import pytest
from io_builders import ALL_SUFFIXES, ramp, write_image, write_nifti

from medanomaly.errors import InputError
from medanomaly.io.integrity import check_integrity
from medanomaly.io.reader import ReadLimits, read_image


def code_of(path, **limits):
    with pytest.raises(InputError) as caught:
        check_integrity(path, ReadLimits(**limits))
    assert caught.value.path == path
    return caught.value.code


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_a_faultless_file_of_any_format_passes(tmp_path, suffix):
    check_integrity(write_image(tmp_path / f"fine{suffix}", ramp()), ReadLimits())


def test_a_bad_gzip_checksum_shows_only_when_the_stream_is_read_to_its_end(tmp_path):
    path = write_nifti(tmp_path / "volume.nii.gz", ramp())
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # CRC-32, then the size: the last eight bytes
    path.write_bytes(content)
    np.testing.assert_array_equal(read_image(path).pixels[0], ramp())
    assert code_of(path) == "E_CHECKSUM"


def test_a_flipped_bit_in_stored_voxels_of_a_gzip_is_found(tmp_path):
    """Level 0 keeps the bytes as they are: inflating alone notices nothing."""
    path, plain = tmp_path / "flipped.nii.gz", write_nifti(tmp_path / "plain.nii", ramp()).read_bytes()
    content = bytearray(gzip.compress(plain, compresslevel=0, mtime=0))
    content[-100] ^= 4
    path.write_bytes(content)
    assert (read_image(path).pixels[0] != ramp()).sum() == 1
    assert code_of(path) == "E_CHECKSUM"


def test_bytes_after_the_stream_are_found(tmp_path):
    path = write_nifti(tmp_path / "more.nii.gz", ramp())
    path.write_bytes(path.read_bytes() + b"not gzip")
    assert code_of(path) == "E_CHECKSUM"


def test_a_stream_without_its_end_is_truncated(tmp_path):
    path = write_nifti(tmp_path / "cut.nii.gz", ramp())
    path.write_bytes(path.read_bytes()[:-6])
    assert code_of(path) == "E_TRUNCATED"


def test_a_stream_that_goes_on_behind_the_voxels_is_bounded(tmp_path):
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(write_nifti(tmp_path / "plain.nii", ramp()).read_bytes() + bytes(2**22), mtime=0))
    assert read_image(path).native_size == (40, 60)
    check_integrity(path, ReadLimits())
    assert code_of(path, decoded_bytes=2**21) == "E_LIMIT"


def test_an_image_whose_two_forms_disagree_is_found_without_a_mask(tmp_path):
    image = nibabel.Nifti1Image(ramp(), np.eye(4))
    image.header.set_sform(np.diag([-1.0, 1, 1, 1]), 1)
    image.header.set_qform(np.eye(4), 1)
    (tmp_path / "two.nii").write_bytes(nibabel.Nifti1Image(ramp(), None, image.header).to_bytes())
    assert code_of(tmp_path / "two.nii") == "E_GEOMETRY"


def test_an_empty_file_and_a_foreign_one_keep_their_codes(tmp_path):
    (tmp_path / "empty.nii.gz").touch()
    (tmp_path / "text.nii").write_bytes(zlib.compress(b"no brain"))
    assert code_of(tmp_path / "empty.nii.gz") == "E_EMPTY"
    assert code_of(tmp_path / "text.nii") == "E_FORMAT"

import os
import pickle
import socket
from pathlib import Path

import numpy as np
import pytest
from io_builders import ALL_SUFFIXES, ramp, write_dicom, write_image, write_nifti
from PIL import Image, ImageFile

from medanomaly.errors import InputError
from medanomaly.io.reader import ReadLimits, ReadOptions, image_suffixes, is_image_file, read_image, read_mask


def code_of(path, **options):
    with pytest.raises(InputError) as caught:
        read_image(path, ReadOptions(**options))
    assert caught.value.path == path
    assert str(path) in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_one_bright_pixel_lands_on_the_same_row_and_column_in_every_format(tmp_path, suffix):
    canary = np.zeros((40, 60), np.uint8)
    canary[7, 31] = 255
    image = read_image(write_image(tmp_path / f"canary{suffix}", canary))
    assert image.native_size == (40, 60)
    assert image.pixels.dtype == np.float32
    assert np.unravel_index(image.pixels.argmax(), image.pixels.shape) == (0, 7, 31)


@pytest.mark.parametrize("suffix", [suffix for suffix in ALL_SUFFIXES if suffix != ".jpg"])
def test_lossless_formats_return_the_stored_values(tmp_path, suffix):
    image = read_image(write_image(tmp_path / f"ramp{suffix}", ramp()))
    np.testing.assert_array_equal(image.pixels[0], ramp())
    assert image.value_range == (None if ".nii" in suffix else (0, 255))


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_three_channels_repeat_a_gray_image(tmp_path, suffix):
    path = write_image(tmp_path / f"ramp{suffix}", ramp())
    gray, rgb = read_image(path).pixels, read_image(path, ReadOptions(channels=3)).pixels
    np.testing.assert_array_equal(rgb, np.concatenate([gray, gray, gray]))


@pytest.mark.parametrize("suffix", sorted(image_suffixes))
def test_an_empty_file_is_refused_before_any_library_sees_it(tmp_path, suffix):
    path = tmp_path / f"empty{suffix}"
    path.touch()
    assert code_of(path) == "E_EMPTY"


@pytest.mark.parametrize("suffix", sorted(image_suffixes))
def test_text_under_an_image_name_is_a_format_error(tmp_path, suffix):
    path = tmp_path / f"notes{suffix}"
    path.write_text("patient is fine\n" * 20)
    assert code_of(path) == "E_FORMAT"


@pytest.mark.parametrize("real", ALL_SUFFIXES)
@pytest.mark.parametrize("claimed", ALL_SUFFIXES)
def test_a_file_under_the_name_of_another_format_is_refused(tmp_path, real, claimed):
    path = write_image(tmp_path / f"real{real}", ramp()).rename(tmp_path / f"claimed{claimed}")
    if real == claimed:
        assert read_image(path).native_size == (40, 60)
    else:
        assert code_of(path) == "E_FORMAT"


def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path):
    path = tmp_path / "image.bmp"
    path.write_bytes(b"BM" + bytes(200))
    with pytest.raises(InputError, match=r"\.dcm") as caught:
        read_image(path)
    assert caught.value.code == "E_FORMAT"


@pytest.mark.parametrize("name", ["IM0001", "1.2.840.113619.2.55", "IMAGE.DCM", "x.dicom"])
def test_dicom_is_read_without_a_suffix_or_with_a_uid_for_a_name(tmp_path, name):
    path = write_dicom(tmp_path / name, ramp())
    assert is_image_file(path)
    np.testing.assert_array_equal(read_image(path).pixels[0], ramp())


def test_a_folder_listing_offers_images_only(tmp_path):
    (tmp_path / "README").write_text("x" * 300)
    (tmp_path / "table.csv").write_text("id\n")
    write_image(tmp_path / "volume.nii.gz", ramp())
    (tmp_path / "other.gz").write_bytes(b"\x1f\x8b")
    write_dicom(tmp_path / "IM1", ramp())
    assert sorted(path.name for path in tmp_path.iterdir() if is_image_file(path)) == ["IM1", "volume.nii.gz"]


@pytest.mark.timeout(5)
def test_what_is_no_regular_file_is_refused_without_opening_it(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.dcm")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "device.npy").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # a socket's name may have 107 bytes only
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
        for name in ("pipe.dcm", "folder.png", "device.npy", "socket.png"):
            assert code_of(tmp_path / name) == "E_NOT_REGULAR"


def test_missing_files_dangling_links_and_link_loops_are_named(tmp_path):
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert code_of(tmp_path / "missing.png") == "E_NOT_FOUND"
    assert code_of(tmp_path / "dangling.png") == "E_NOT_FOUND"
    assert code_of(tmp_path / "loop.png") == "E_UNREADABLE"


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_a_pixel_limit_is_checked_from_the_header(tmp_path, suffix):
    path = write_image(tmp_path / f"ramp{suffix}", ramp())
    assert code_of(path, limits=ReadLimits(pixels=40 * 60 - 1)) == "E_LIMIT"
    assert read_image(path, ReadOptions(limits=ReadLimits(pixels=40 * 60))).native_size == (40, 60)


@pytest.mark.parametrize("share", [0.99, 0.9, 0.5])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".npy", ".nii", ".nii.gz", ".dcm"])
def test_a_file_cut_short_is_said_to_be_truncated(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 96), dtype=np.uint8)
    path = write_image(tmp_path / f"cut{suffix}", noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert code_of(path) == "E_TRUNCATED"


@pytest.mark.parametrize("suffix", [".npy", ".nii"])
def test_nan_and_infinity_are_refused_with_count_and_place_unless_a_value_is_chosen(tmp_path, suffix):
    values = ramp().astype(np.float32)
    values[3, 5], values[9, 1] = np.nan, -np.inf
    path = tmp_path / f"holes{suffix}"
    np.save(path, values) if suffix == ".npy" else write_nifti(path, values)
    with pytest.raises(InputError, match=r"2 non-finite values, the first at \(channel, row, column\) \(0, 3, 5\)") as caught:
        read_image(path)
    assert caught.value.code == "E_NONFINITE"
    filled = read_image(path, ReadOptions(nan_to=-1.0))
    assert filled.pixels[0, 3, 5] == filled.pixels[0, 9, 1] == -1
    assert filled.notes[-1] == "2 non-finite values replaced by -1"
    assert filled.pixels[0, 4, 5] == values[4, 5]


@pytest.mark.parametrize(
    "wrong", [{"channels": 0}, {"voi": "auto"}, {"frame": -1}, {"window_index": -1}, {"nan_to": float("nan")}]
)
def test_options_that_cannot_be_are_refused_where_they_are_built(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ReadOptions(**wrong)


class Payload:
    def __init__(self, sentinel):
        self.sentinel = sentinel

    def __reduce__(self):
        return os.mkdir, (str(self.sentinel),)


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_raw_pickle_under_a_numpy_name_is_refused_and_never_run(tmp_path, suffix, protocol):
    sentinel, path = tmp_path / "executed", tmp_path / f"evil{suffix}"
    path.write_bytes(pickle.dumps(Payload(sentinel), protocol=protocol))
    assert code_of(path) == "E_PICKLE"
    assert not sentinel.exists()
    pickle.loads(path.read_bytes())
    assert sentinel.exists(), "the payload would have run"


@pytest.mark.parametrize("save", [np.save, np.savez])
def test_an_object_array_is_refused_and_never_run(tmp_path, save):
    sentinel, path = tmp_path / "executed", tmp_path / f"evil{'.npy' if save is np.save else '.npz'}"
    save(path, np.array([[Payload(sentinel)]], dtype=object))
    assert code_of(path) == "E_PICKLE"
    assert not sentinel.exists()


@pytest.mark.parametrize("suffix", [suffix for suffix in ALL_SUFFIXES if suffix != ".jpg"])
@pytest.mark.parametrize("on", [1, 255])
def test_masks_of_zero_and_one_or_zero_and_255_become_the_same_bool_array(tmp_path, suffix, on):
    truth = np.zeros((40, 60), bool)
    truth[5:9, 20:50] = True
    mask = read_mask(write_image(tmp_path / f"mask{suffix}", truth.astype(np.uint8) * np.uint8(on)), native_size=(40, 60))
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, truth)


def test_one_bit_png_and_bool_npy_masks_keep_their_positives(tmp_path):
    truth = ramp() % 5 == 0
    Image.fromarray(truth).save(tmp_path / "one_bit.png")
    np.save(tmp_path / "bool.npy", truth)
    np.testing.assert_array_equal(read_mask(tmp_path / "one_bit.png"), truth)
    np.testing.assert_array_equal(read_mask(tmp_path / "bool.npy"), truth)


def test_constant_masks_are_all_false_or_all_true(tmp_path):
    for name, value, expected in (("empty", 0, False), ("ones", 1, True), ("white", 255, True)):
        path = write_image(tmp_path / f"{name}.png", np.full((4, 6), value, np.uint8))
        assert (read_mask(path) == expected).all()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("labels.png", np.uint8([[0, 1], [2, 4]])),
        ("both.png", np.uint8([[0, 1], [255, 0]])),
        ("soft.npy", np.float32([[0, 0.4], [1, 0]])),
        ("soft.nii", np.float32([[0, 0.4], [1, 0]])),
        ("far_from_whole.nii", np.float32([[0, 1.002], [1, 0]])),
        ("negative.nii", np.int16([[0, -1], [1, 0]])),
        ("negative.npy", np.int16([[0, -1], [1, 0]])),
        ("gray.tif", np.uint8([[0, 128], [255, 0]])),
    ],
)
def test_values_that_leave_doubt_are_no_mask(tmp_path, name, values):
    path = tmp_path / name
    write_nifti(path, values) if name.endswith(".nii") else write_image(path, values)
    with pytest.raises(InputError, match="is no mask") as caught:
        read_mask(path)
    assert caught.value.code == "E_MASK_VALUES"


def test_nifti_labels_above_zero_are_united_and_slope_noise_is_rounded_away(tmp_path):
    labels = np.float64([[0, 1.0000000353], [2, 4.0004]])
    np.testing.assert_array_equal(read_mask(write_nifti(tmp_path / "labels.nii.gz", labels)), labels > 0.5)


def test_a_mask_of_another_size_is_refused_and_a_transposed_one_is_recognised(tmp_path):
    path = write_image(tmp_path / "mask.png", np.zeros((60, 40), np.uint8))
    with pytest.raises(InputError, match="transposed") as caught:
        read_mask(path, native_size=(40, 60))
    assert caught.value.code == "E_MASK_SIZE"
    with pytest.raises(InputError) as caught:
        read_mask(path, native_size=(30, 30))
    assert "transposed" not in str(caught.value)


def test_a_slice_of_a_mask_volume_is_chosen_by_frame(tmp_path):
    volume = np.zeros((4, 6, 3), np.uint8)
    volume[1, 5, 2] = 1
    path = write_nifti(tmp_path / "mask.nii", volume)
    assert read_mask(path, frame=2)[1, 5]
    assert not read_mask(path, frame=0).any()
    with pytest.raises(InputError, match="3 slices"):
        read_mask(path)


def test_the_source_never_forces_a_file_to_be_dicom():
    import medanomaly.io

    sources = [path.read_text() for path in Path(medanomaly.io.__path__[0]).glob("*.py")]
    assert len(sources) > 8
    assert not any("force=True" in source for source in sources)

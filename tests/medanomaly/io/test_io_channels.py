"""How many planes come out of each format, and which files are refused for holding another number than was asked for."""

import io

import numpy as np
import pytest
from io_builders import ALL_SUFFIXES, ramp, write_dicom, write_encapsulated_dicom, write_image, write_nifti
from PIL import Image
from pydicom.uid import JPEGBaseline8Bit, UltrasoundImageStorage

from medanomaly.errors import InputError
from medanomaly.io.reader import ReadOptions, read_image


def sequences(count: int, rows: int = 12, columns: int = 20) -> np.ndarray:
    """(count, rows, columns) float32, each plane in a unit of its own."""
    rng = np.random.default_rng(count)
    return (rng.uniform(0, 1, (count, rows, columns)) * 10.0 ** np.arange(count)[:, None, None]).astype(np.float32)


def colour(rows: int = 16, columns: int = 24) -> np.ndarray:
    """(rows, columns, 3) uint8: red on the left, green in the middle, blue on the right."""
    pixels = np.zeros((rows, columns, 3), np.uint8)
    for channel in range(3):
        pixels[:, 8 * channel : 8 * channel + 8, channel] = 200
    return pixels


def refused(path, **options) -> InputError:
    with pytest.raises(InputError) as caught:
        read_image(path, ReadOptions(**options))
    return caught.value


@pytest.mark.parametrize("count", [2, 4, 7])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_an_array_of_any_number_of_planes_is_read_where_that_number_is_asked_for(tmp_path, suffix, count):
    path, planes = tmp_path / f"planes{suffix}", sequences(count)
    np.save(path, planes) if suffix == ".npy" else np.savez_compressed(path, planes)
    for options in (ReadOptions(channels=count), ReadOptions(channels=None)):
        image = read_image(path, options)
        np.testing.assert_array_equal(image.pixels, planes)
        assert (image.native_size, image.value_range, image.notes) == ((12, 20), None, ())


@pytest.mark.parametrize(("held", "wanted"), [(3, 4), (4, 1), (4, 3), (1, 4), (1, 2), (2, 3)])
def test_another_number_of_planes_is_refused_with_both_numbers(tmp_path, held, wanted):
    np.save(tmp_path / "planes.npy", sequences(held))
    error = refused(tmp_path / "planes.npy", channels=wanted, allow_color=True)
    assert error.code == "E_CHANNELS"
    assert f"holds {held} channel" in error.message
    assert f"where {wanted} " in error.message
    assert error.path is not None


def test_channels_in_the_last_axis_are_refused_unless_the_first_has_the_number_asked_for(tmp_path):
    for name, shape in (("last", (24, 32, 4)), ("volume", (155, 24, 32))):
        np.save(tmp_path / f"{name}.npy", np.zeros(shape, np.float32))
        assert refused(tmp_path / f"{name}.npy", channels=4).code == "E_SHAPE"
        assert refused(tmp_path / f"{name}.npy", channels=None).code == "E_SHAPE"
    np.save(tmp_path / "small.npy", np.zeros((4, 3, 2), np.float32))
    assert read_image(tmp_path / "small.npy", ReadOptions(channels=4)).native_size == (3, 2)


def test_an_array_without_planes_is_a_header_error(tmp_path):
    np.save(tmp_path / "none.npy", np.zeros((0, 4, 6), np.float32))
    assert refused(tmp_path / "none.npy", channels=None).code == "E_HEADER"


def test_many_planes_count_towards_the_limit(tmp_path):
    np.save(tmp_path / "planes.npy", np.zeros((7, 10, 10), np.uint8))
    limits = type(ReadOptions().limits)(decoded_bytes=1000)
    assert read_image(tmp_path / "planes.npy", ReadOptions(channels=7, limits=limits)).native_size == (10, 10)
    np.save(tmp_path / "planes.npy", np.zeros((7, 11, 13), np.uint8))
    assert refused(tmp_path / "planes.npy", channels=7, limits=limits).code == "E_LIMIT"


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_a_gray_image_is_repeated_for_three_channels_and_says_so(tmp_path, suffix):
    image = read_image(write_image(tmp_path / f"ramp{suffix}", ramp()), ReadOptions(channels=3))
    assert image.pixels.shape == (3, 40, 60)
    assert image.notes[-1] == "gray, repeated in 3 channels"


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_none_reads_what_the_file_holds(tmp_path, suffix):
    assert read_image(write_image(tmp_path / f"gray{suffix}", ramp()), ReadOptions(channels=None)).pixels.shape == (1, 40, 60)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.dcm"])
def test_a_colour_picture_keeps_its_colours_and_its_range(tmp_path, name):
    path, pixels = tmp_path / name, colour()
    if name.endswith(".dcm"):
        write_dicom(path, pixels)
    elif name.endswith(".jpg"):
        Image.fromarray(pixels).save(path, quality=100, subsampling=0)
    else:
        Image.fromarray(pixels).save(path)
    for channels in (3, None):
        image = read_image(path, ReadOptions(channels=channels))
        np.testing.assert_allclose(image.pixels, np.moveaxis(pixels, 2, 0), atol=3 if name.endswith(".jpg") else 0)
        assert image.value_range == (0, 255)
    assert refused(path).code == "E_COLOR"
    assert "preprocess.channels 3" in str(refused(path).fix)
    assert refused(path, channels=4).code == "E_CHANNELS"


def test_dicom_colour_is_read_alike_in_either_planar_configuration(tmp_path):
    pixels = colour()
    by_plane = write_dicom(
        tmp_path / "plane.dcm", pixels, PlanarConfiguration=1, PixelData=np.ascontiguousarray(np.moveaxis(pixels, 2, 0)).tobytes()
    )
    by_pixel = write_dicom(tmp_path / "pixel.dcm", pixels)
    for path in (by_plane, by_pixel):
        np.testing.assert_array_equal(read_image(path, ReadOptions(channels=3)).pixels, np.moveaxis(pixels, 2, 0))


def test_dicom_ybr_full_is_turned_into_rgb_by_the_standards_equations(tmp_path):
    """PS3.3 section C.7.6.3.1.2: R = Y + 1.402 Cr', G = Y - 0.344136 Cb' - 0.714136 Cr', B = Y + 1.772 Cb'."""
    ybr = np.random.default_rng(0).integers(60, 190, (8, 10, 3), dtype=np.uint8)
    path = write_dicom(tmp_path / "ybr.dcm", ybr, PhotometricInterpretation="YBR_FULL")
    y, cb, cr = np.moveaxis(ybr.astype(np.float64), 2, 0)
    cb, cr = cb - 128, cr - 128
    expected = np.clip([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], 0, 255)
    np.testing.assert_allclose(read_image(path, ReadOptions(channels=3)).pixels, expected, atol=1)


def test_jpeg_compressed_dicom_colour_as_of_fundus_cameras_keeps_its_colours(tmp_path):
    stream, pixels = io.BytesIO(), colour()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=100, subsampling=0)
    path = write_encapsulated_dicom(
        tmp_path / "fundus.dcm", pixels, stream.getvalue(), JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL"
    )
    np.testing.assert_allclose(read_image(path, ReadOptions(channels=3)).pixels, np.moveaxis(pixels, 2, 0), atol=4)


def test_a_frame_of_a_colour_clip_is_read_by_its_number(tmp_path):
    """Ultrasound: (frames, rows, columns, 3)."""
    frames = np.stack([colour(), 255 - colour()])
    path = write_dicom(
        tmp_path / "clip.dcm",
        frames[0],
        NumberOfFrames=2,
        PixelData=frames.tobytes(),
        SOPClassUID=UltrasoundImageStorage,
    )
    assert refused(path, channels=3).code == "E_MULTIFRAME"
    for index in range(2):
        image = read_image(path, ReadOptions(channels=3, frame=index))
        np.testing.assert_array_equal(image.pixels, np.moveaxis(frames[index], 2, 0))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_niftis_fourth_axis_holds_the_channels_that_are_asked_for(tmp_path, suffix):
    volume = np.random.default_rng(0).normal(size=(5, 7, 3, 4)).astype(np.float32)
    path = write_nifti(tmp_path / f"sequences{suffix}", volume)
    for channels in (4, None):
        for k in range(3):
            image = read_image(path, ReadOptions(channels=channels, frame=k))
            np.testing.assert_array_equal(image.pixels, np.moveaxis(volume[:, :, k], 2, 0))
            assert "fourth axis read as 4 channels" in image.notes
    assert refused(path, channels=4).code == "E_MULTIFRAME"
    assert refused(path, channels=3, frame=0).code == "E_CHANNELS"
    # To a gray model it is a series of volumes, e.g. over time.
    assert refused(path, frame=0).code == "E_MULTIFRAME"


def test_a_niftis_third_axis_never_holds_channels_and_a_fifth_is_refused(tmp_path):
    slices = write_nifti(tmp_path / "slices.nii", np.zeros((5, 7, 4), np.uint8))
    assert refused(slices, channels=4).code == "E_MULTIFRAME"
    assert refused(slices, channels=4, frame=0).code == "E_CHANNELS"
    vectors = write_nifti(tmp_path / "vectors.nii", np.zeros((5, 7, 1, 1, 4), np.uint8))
    assert refused(vectors, channels=4).code == "E_MULTIFRAME"

import numpy as np
import pytest
from io_builders import ramp
from PIL import Image

from medanomaly.io.reader import ReadOptions, read_image, read_mask
from medanomaly.io.writers import write_npy, write_png


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_png_comes_back_exactly(tmp_path, dtype):
    pixels = ramp().astype(dtype) * (257 if dtype == np.uint16 else 1)
    write_png(tmp_path / "new" / "gray.png", pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "gray.png").pixels[0], pixels)


def test_rgb_png_comes_back_exactly_even_from_a_strided_view(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 14), dtype=np.uint8).transpose(1, 2, 0)[:, ::-1]
    write_png(tmp_path / "rgb.png", pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "rgb.png", ReadOptions(channels=3)).pixels, pixels.transpose(2, 0, 1))


def test_a_bool_mask_is_saved_as_0_and_255_and_read_back(tmp_path):
    mask = ramp() % 7 == 0
    write_png(tmp_path / "mask.png", mask)
    with Image.open(tmp_path / "mask.png") as image:
        assert set(np.unique(np.asarray(image))) == {0, 255}
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), mask)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int64])
def test_what_would_wrap_or_round_is_refused_and_nothing_is_written(tmp_path, dtype):
    with pytest.raises(TypeError, match="scale, clip and cast"):
        write_png(tmp_path / "map.png", ramp().astype(dtype))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(4,), (4, 5, 4), (1, 4, 5), (0, 5)])
def test_other_shapes_are_refused(tmp_path, shape):
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        write_png(tmp_path / "odd.png", np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        write_png(tmp_path / "odd.png", np.zeros((4, 5, 3), np.uint16))


def test_the_same_pixels_give_the_same_bytes_and_leave_no_temporary_file(tmp_path):
    write_png(tmp_path / "a.png", ramp())
    write_png(tmp_path / "b.png", ramp())
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_npy_comes_back_exactly_and_in_c_order(tmp_path):
    values = np.asfortranarray(np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32))
    write_npy(tmp_path / "map.npy", values)
    np.testing.assert_array_equal(read_image(tmp_path / "map.npy").pixels[0], values)
    assert b"'fortran_order': False" in (tmp_path / "map.npy").read_bytes()


def test_npy_of_another_type_is_refused(tmp_path):
    with pytest.raises(TypeError, match="float32"):
        write_npy(tmp_path / "map.npy", np.zeros((2, 2)))
    assert list(tmp_path.iterdir()) == []

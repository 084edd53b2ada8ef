import struct
import zlib

import numpy as np
import pytest
from io_builders import ramp
from PIL import Image

from medanomaly.errors import InputError
from medanomaly.io.channels import LUMA_WEIGHTS
from medanomaly.io.reader import ReadLimits, ReadOptions, read_image, read_mask


def refused(path, **options):
    with pytest.raises(InputError) as caught:
        read_image(path, ReadOptions(**options))
    return caught.value


def png_claiming(path, width, height, depth=8, color=0, content=b""):
    """PNG of any claimed size; content is the raw scanlines."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b""))
    return path


def rgb_noise(rows=12, columns=10):
    return np.random.default_rng(1).integers(0, 256, (rows, columns, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_16_bit_ramp_keeps_every_value_and_its_range(tmp_path, suffix):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(values).save(tmp_path / f"ramp{suffix}")
    image = read_image(tmp_path / f"ramp{suffix}")
    np.testing.assert_array_equal(image.pixels[0], values)
    assert image.value_range == (0, 65535)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_float_and_32_bit_tiff_keep_their_values_and_have_no_known_range(tmp_path, dtype):
    values = (ramp().astype(dtype) - 100) * 3
    Image.fromarray(values).save(tmp_path / "values.tif")
    image = read_image(tmp_path / "values.tif")
    np.testing.assert_array_equal(image.pixels[0], values)
    assert image.value_range is None


def test_a_one_bit_image_is_black_and_white(tmp_path):
    Image.fromarray(ramp() > 90).save(tmp_path / "bits.png")
    image = read_image(tmp_path / "bits.png")
    np.testing.assert_array_equal(image.pixels[0], (ramp() > 90) * 255.0)
    assert image.value_range == (0, 255)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_gray_in_a_colour_mode_is_read_as_gray(tmp_path, mode):
    Image.fromarray(ramp()).convert(mode).save(tmp_path / "gray.png")
    image = read_image(tmp_path / "gray.png")
    np.testing.assert_array_equal(image.pixels[0], ramp())
    assert "colour with equal planes, read as gray" in image.notes


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_true_colour_is_refused_unless_allowed_and_then_is_luma(tmp_path, mode):
    Image.fromarray(rgb_noise()).convert(mode).save(tmp_path / "colour.png")
    with Image.open(tmp_path / "colour.png") as image:
        rgb = np.asarray(image.convert("RGB"), np.float64)
    assert refused(tmp_path / "colour.png").code == "E_COLOR"
    luma = read_image(tmp_path / "colour.png", ReadOptions(allow_color=True))
    np.testing.assert_allclose(luma.pixels[0], rgb @ LUMA_WEIGHTS, rtol=1e-5)
    planes = read_image(tmp_path / "colour.png", ReadOptions(channels=3)).pixels
    np.testing.assert_array_equal(planes, np.moveaxis(rgb, 2, 0))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_have_no_brightness_and_are_refused_even_where_colour_is_allowed(tmp_path, mode):
    image = Image.fromarray(ramp()).convert(mode)
    image.putalpha(Image.fromarray(ramp()))
    image.save(tmp_path / "seethrough.png")
    assert refused(tmp_path / "seethrough.png", allow_color=True).code == "E_ALPHA"


def test_cmyk_is_refused_because_its_brightness_depends_on_a_profile(tmp_path):
    Image.fromarray(rgb_noise()).convert("CMYK").save(tmp_path / "print.jpg")
    assert refused(tmp_path / "print.jpg", allow_color=True).code == "E_COLOR"


@pytest.mark.parametrize(("color", "samples"), [(2, 3), (4, 2)])
def test_16_bit_colour_that_pillow_would_halve_is_refused(tmp_path, color, samples):
    path = png_claiming(tmp_path / "deep.png", 4, 3, depth=16, color=color, content=(b"\0" + b"\x12\x34" * samples * 4) * 3)
    with Image.open(path) as image:
        assert image.mode in ("RGB", "RGBA"), "Pillow keeps 8 of the 16 bits"
    assert refused(path).code == "E_DEPTH"


def test_white_is_zero_is_inverted_in_16_bit_tiff_as_pillow_does_in_8_bit(tmp_path):
    for dtype, white in ((np.uint8, 255), (np.uint16, 65535)):
        path = tmp_path / f"negative{white}.tif"
        Image.fromarray(ramp().astype(dtype)).save(path)
        content = path.read_bytes()
        entry = struct.pack("<HHI", 262, 3, 1)
        at = content.index(entry) + len(entry)
        path.write_bytes(content[:at] + struct.pack("<H", 0) + content[at + 2 :])
        np.testing.assert_array_equal(read_image(path).pixels[0], white - ramp().astype(np.float32))


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_pages_and_animations_need_a_chosen_frame(tmp_path, suffix):
    frames = [Image.fromarray(np.roll(ramp(), shift)) for shift in range(3)]
    path = tmp_path / f"many{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    error = refused(path)
    assert error.code == "E_MULTIFRAME"
    assert "3 frames" in str(error)
    assert refused(path, frame=3).code == "E_MULTIFRAME"
    assert refused(path, frame=0, limits=ReadLimits(frames=2)).code == "E_LIMIT"
    np.testing.assert_array_equal(read_image(path, ReadOptions(frame=1, allow_color=True)).pixels[0], np.roll(ramp(), 1))


def test_a_jpeg_with_a_second_picture_inside_needs_a_chosen_frame(tmp_path):
    frames = [Image.fromarray(ramp()), Image.fromarray(ramp().max() - ramp())]
    frames[0].save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert refused(tmp_path / "phone.jpg").code == "E_MULTIFRAME"


@pytest.mark.parametrize(("side", "pillow"), [(13000, "warns above 89 M"), (60000, "refuses above 179 M")])
def test_a_png_bomb_is_refused_by_our_limit_from_its_header(tmp_path, side, pillow):
    path = png_claiming(tmp_path / "bomb.png", side, side, content=bytes(100))
    error = refused(path)
    assert error.code == "E_LIMIT"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_images_and_masks_alike(tmp_path, suffix, orientation):
    corner = np.zeros((16, 24), np.uint8)
    corner[:8, :8] = 255  # whole JPEG blocks, so the mask stays exact
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"turned{suffix}"
    Image.fromarray(corner).save(path, exif=exif, quality=100)
    # Exif 2.3, tag 0x0112: where the stored first row and first column lie in the upright picture.
    upright = {
        1: corner,
        2: corner[:, ::-1],
        3: corner[::-1, ::-1],
        4: corner[::-1],
        5: corner.T,
        6: corner.T[:, ::-1],
        7: corner.T[::-1, ::-1],
        8: corner.T[::-1],
    }[orientation]
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels[0], upright)
    np.testing.assert_array_equal(read_mask(path, native_size=upright.shape), upright > 0)
    assert (f"EXIF orientation {orientation} applied" in image.notes) == (orientation > 1)


@pytest.mark.parametrize("where", ["IHDR", "IDAT"])
def test_a_damaged_png_chunk_is_malformed(tmp_path, where):
    Image.fromarray(ramp()).save(tmp_path / "bad.png")
    content = bytearray((tmp_path / "bad.png").read_bytes())
    content[content.index(where.encode()) + 6] ^= 0xFF
    (tmp_path / "bad.png").write_bytes(content)
    assert refused(tmp_path / "bad.png").code in ("E_MALFORMED", "E_LIMIT")

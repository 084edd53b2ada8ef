import resource
import subprocess
import sys

import numpy as np
import pytest
from io_builders import ramp

from medanomaly.errors import InputError
from medanomaly.io.reader import ReadOptions, read_image


def code_of(path, **options):
    with pytest.raises(InputError) as caught:
        read_image(path, ReadOptions(**options))
    return caught.value.code


def npy_claiming(path, shape, dtype="<f4", content=bytes(64)):
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content)
    return path


@pytest.mark.parametrize(
    ("dtype", "value_range"),
    [("bool", (0, 1)), ("uint8", (0, 255)), (">u2", (0, 65535)), ("int16", None), ("float16", None), (">f8", None)],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_number_type_and_memory_order_gives_the_same_pixels(tmp_path, dtype, value_range, order):
    values = np.array(ramp() > 90 if dtype == "bool" else ramp(), dtype=dtype, order=order)
    np.save(tmp_path / "values.npy", values)
    image = read_image(tmp_path / "values.npy")
    np.testing.assert_array_equal(image.pixels[0], values)
    assert image.value_range == value_range


def test_a_leading_axis_of_one_or_three_holds_planes(tmp_path):
    planes = np.stack([ramp(), ramp() + np.uint8(1), ramp() + np.uint8(2)])
    np.save(tmp_path / "one.npy", planes[:1])
    np.save(tmp_path / "three.npy", planes)
    np.testing.assert_array_equal(read_image(tmp_path / "one.npy").pixels, planes[:1])
    np.testing.assert_array_equal(read_image(tmp_path / "three.npy", ReadOptions(channels=3)).pixels, planes)
    assert code_of(tmp_path / "three.npy") == "E_COLOR"


@pytest.mark.parametrize("shape", [(), (5,), (4, 6, 3), (1, 1, 4, 6)])
def test_other_layouts_are_refused_not_guessed(tmp_path, shape):
    np.save(tmp_path / "layout.npy", np.zeros(shape, np.float32))
    assert code_of(tmp_path / "layout.npy") == "E_SHAPE"


@pytest.mark.parametrize("values", [np.zeros((2, 2), complex), np.array([["a", "b"]]), np.zeros((2, 2), "M8[s]")])
def test_what_is_no_real_number_is_refused(tmp_path, values):
    np.save(tmp_path / "odd.npy", values)
    assert code_of(tmp_path / "odd.npy") == "E_DTYPE"


def test_a_side_of_zero_is_a_header_error(tmp_path):
    np.save(tmp_path / "none.npy", np.zeros((0, 5), np.float32))
    assert code_of(tmp_path / "none.npy") == "E_HEADER"


def test_bytes_after_the_array_are_refused(tmp_path):
    with open(tmp_path / "two.npy", "wb") as stream:
        np.save(stream, ramp())
        np.save(stream, ramp())
    assert code_of(tmp_path / "two.npy") == "E_MALFORMED"


def test_an_npz_of_two_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "two.npz", image=ramp(), mask=ramp())
    assert code_of(tmp_path / "two.npz") == "E_SHAPE"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_whose_checksum_disagrees_with_its_pixels_is_refused(tmp_path, save):
    save(tmp_path / "bits.npz", np.random.default_rng(0).integers(0, 256, (300, 300), dtype=np.uint8))
    content = bytearray((tmp_path / "bits.npz").read_bytes())
    content[content.rindex(b"PK\x01\x02") + 16] ^= 1  # CRC-32 in the central directory
    (tmp_path / "bits.npz").write_bytes(content)
    assert code_of(tmp_path / "bits.npz") == "E_MALFORMED"


def test_a_header_of_gigabytes_or_terabytes_is_refused_without_allocating_them(tmp_path):
    """In a process of its own whose address space would not hold the claimed arrays."""
    paths = [npy_claiming(tmp_path / f"{rows}.npy", (rows, rows)) for rows in (40_000, 1_400_000)]
    program = (
        "import sys; from pathlib import Path\n"
        "from medanomaly.io.reader import read_image; from medanomaly.errors import InputError\n"
        "for path in sys.argv[1:]:\n"
        "    try: read_image(Path(path))\n"
        "    except InputError as error: print(error.code)"
    )

    def cap_memory():
        resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))

    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, paths)], capture_output=True, text=True, preexec_fn=cap_memory, check=False
    )
    assert done.stdout.split() == ["E_LIMIT", "E_LIMIT"], done.stderr


def test_an_array_smaller_than_its_header_is_truncated(tmp_path):
    assert code_of(npy_claiming(tmp_path / "short.npy", (40, 60))) == "E_TRUNCATED"


def test_a_header_that_is_no_python_literal_is_malformed(tmp_path):
    path = npy_claiming(tmp_path / "bad.npy", (4, 4))
    path.write_bytes(path.read_bytes().replace(b"{'descr'", b"(((('''"))
    assert code_of(path) == "E_MALFORMED"


def test_gray_planes_with_nan_are_refused_for_the_nan_not_for_colour(tmp_path):
    gray = ramp().astype(np.float32)
    gray[2, 3] = np.nan
    np.save(tmp_path / "nan.npy", np.stack([gray] * 3))
    assert code_of(tmp_path / "nan.npy") == "E_NONFINITE"


def test_a_float64_beyond_float32_counts_as_non_finite(tmp_path):
    np.save(tmp_path / "huge.npy", np.full((2, 2), 1e300))
    assert code_of(tmp_path / "huge.npy") == "E_NONFINITE"

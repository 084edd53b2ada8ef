from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from deblur.kernel_spec import KernelSpec, parse_kernel, read_kernel
from deblur.kernels import centred, check_kernel, gaussian, identity, linear_motion, random_motion
from medanomaly.errors import ConfigError, InputError, MedanomalyError
from medanomaly.rng import generator


def moments(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Centre of mass (down, right) from the origin, and the covariance matrix in the same order; px."""
    rows, columns = (torch.arange(side, dtype=torch.float64) - side // 2 for side in kernel.shape)
    place = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).flatten(1)
    centre = place @ kernel.flatten()
    return centre, (place * kernel.flatten()) @ place.T - torch.outer(centre, centre)


def test_a_motion_of_ten_pixels_along_columns_has_the_eleven_published_taps() -> None:
    torch.testing.assert_close(linear_motion(10, 0), torch.tensor([[0.05, *[0.1] * 9, 0.05]], dtype=torch.float64))
    torch.testing.assert_close(linear_motion(10, 90), linear_motion(10, 0).T)


def test_an_odd_motion_along_an_axis_is_a_plain_mean() -> None:
    torch.testing.assert_close(linear_motion(5, 0), torch.full((1, 5), 0.2, dtype=torch.float64))


@pytest.mark.parametrize("length", [1.5, 2, 3.7, 10, 31])
@pytest.mark.parametrize("angle", [0, 17, 45, 90, 133.5, -30, 400])
def test_a_motion_is_centred_odd_and_sums_to_one(length: float, angle: float) -> None:
    kernel = linear_motion(length, angle)
    assert all(side % 2 for side in kernel.shape)
    assert kernel.sum().item() == pytest.approx(1, abs=1e-12)
    assert torch.equal(kernel, kernel.flip(0, 1))
    assert (check_kernel(kernel) >= 0).all()


@pytest.mark.parametrize("angle", [20.0, 70.0, 110.0, 155.0])
def test_a_motion_points_counter_clockwise_from_the_columns(angle: float) -> None:
    _, covariance = moments(linear_motion(21, angle))
    values, vectors = torch.linalg.eigh(covariance)
    down, right = vectors[:, 1]
    # Upwards is towards smaller rows.
    assert math.degrees(math.atan2(-down, right)) % 180 == pytest.approx(angle, abs=1)
    assert float(values[1]) == pytest.approx((21**2 - 1) / 12, rel=0.06)


@pytest.mark.parametrize("length", [0, 0.5, 1])
def test_a_motion_of_at_most_a_pixel_is_no_blur(length: float) -> None:
    assert torch.equal(linear_motion(length, 33), identity())


@pytest.mark.parametrize(("length", "angle"), [(-1, 0), (math.nan, 0), (300, 0), (5, math.inf)])
def test_a_motion_that_cannot_be_is_refused(length: float, angle: float) -> None:
    with pytest.raises(ConfigError, match="E_KERNEL"):
        linear_motion(length, angle)


@pytest.mark.parametrize("size", [3, 4, 9, 10])
@pytest.mark.parametrize("intensity", [0.0, 0.5, 1.0])
def test_a_random_motion_fits_its_square_and_is_centred(size: int, intensity: float) -> None:
    kernels = [random_motion(size, generator(0, "shake", draw), intensity) for draw in range(20)]
    for kernel in kernels:
        assert kernel.shape == (size, size)
        assert kernel.sum().item() == pytest.approx(1, abs=1e-12)
        assert moments(kernel)[0].abs().max() < 1e-9
    assert not torch.allclose(kernels[0], kernels[1])


def test_a_random_motion_is_that_of_its_generator() -> None:
    assert torch.equal(random_motion(10, generator(0, "shake")), random_motion(10, generator(0, "shake")))


def test_a_random_motion_bends_with_its_intensity_and_is_straight_without() -> None:
    def width(intensity: float) -> float:
        draws = [moments(random_motion(21, generator(3, "bend", draw), intensity))[1] for draw in range(30)]
        return sum(float(torch.linalg.eigvalsh(covariance)[0]) for covariance in draws) / len(draws)

    # Splatting alone spreads a straight line by at most 1/4 px^2 an axis.
    assert width(0.0) < 0.26
    assert width(1.0) > 4 * width(0.0)


@pytest.mark.parametrize(("size", "intensity"), [(2, 0.5), (0, 0.5), (256, 0.5), (9, -0.1), (9, math.nan)])
def test_a_random_motion_that_cannot_be_is_refused(size: int, intensity: float) -> None:
    with pytest.raises(ConfigError, match="E_KERNEL"):
        random_motion(size, generator(0, "shake"), intensity)


def test_a_gaussian_is_the_one_of_scipy() -> None:
    delta = np.zeros((41, 41))
    delta[20, 20] = 1
    expected = ndimage.gaussian_filter(delta, (2.5, 1.25))
    kernel = gaussian((2.5, 1.25)).numpy()
    rows, columns = kernel.shape
    np.testing.assert_allclose(
        kernel, expected[20 - rows // 2 : 21 + rows // 2, 20 - columns // 2 : 21 + columns // 2], atol=1e-12
    )
    assert torch.equal(gaussian(0), identity())


@pytest.mark.parametrize("sigma", [-1.0, math.nan, 100.0])
def test_a_gaussian_that_cannot_be_is_refused(sigma: float) -> None:
    with pytest.raises(ConfigError, match="E_KERNEL"):
        gaussian(sigma)


@pytest.mark.parametrize("shape", [(10, 10), (9, 4), (1, 6), (3, 3)])
def test_centring_puts_the_centre_of_mass_on_the_origin(shape: tuple[int, int]) -> None:
    kernel = torch.rand(shape, generator=generator(1, "kernel"), dtype=torch.float64)
    kernel = kernel / kernel.sum()
    moved = centred(kernel)
    assert all(side % 2 for side in moved.shape)
    assert moments(moved)[0].abs().max() < 1e-12
    assert moved.sum().item() == pytest.approx(1, abs=1e-12)


def test_centring_by_whole_pixels_keeps_every_tap() -> None:
    kernel = torch.zeros(6, 8, dtype=torch.float64)
    kernel[0, 5:8] = torch.tensor([0.5, 0.3, 0.2])
    moved = centred(kernel, whole_pixels=True)
    torch.testing.assert_close(moved[moved > 0], kernel[kernel > 0], rtol=0, atol=0)
    assert moments(moved)[0].abs().max() <= 0.5


BAD = {
    "negative": torch.tensor([[1.5, -0.5]]),
    "finite": torch.tensor([[1.0, math.nan]]),
    "zero everywhere": torch.zeros(3, 3),
    "sums to": torch.ones(3, 3),
    "two axes": torch.ones(1, 1, 1),
    "larger than the image": torch.full((1, 9), 1 / 9),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_tensor_that_is_no_kernel_is_refused_with_its_fault(fault: str) -> None:
    with pytest.raises(InputError, match=rf"{fault}.*E_KERNEL"):
        check_kernel(BAD[fault], (8, 8))


@pytest.mark.parametrize(
    "text", ["1,2,1\n0,4,0\n", "1; 2; 1\n0; 4; 0", "1\t2\t1\n\n0\t4\t0\n", "1 2  1\n0 4 0", "\ufeff1, 2, 1,\n0, 4, 0,\n"]
)
@pytest.mark.parametrize("name", ["k.csv", "k.txt"])
def test_a_kernel_is_read_from_numbers_however_they_are_separated(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    torch.testing.assert_close(read_kernel(tmp_path / name), torch.tensor([[1, 2, 1], [0, 4, 0]], dtype=torch.float64) / 8)


def test_a_kernel_is_read_from_an_array_and_from_a_picture(tmp_path: Path) -> None:
    weights = np.array([[0, 100, 50, 0], [20, 255, 25, 30]], dtype=np.uint8)
    np.save(tmp_path / "k.npy", weights / weights.sum())
    Image.fromarray(weights).save(tmp_path / "k.png")
    expected = torch.from_numpy(weights / weights.sum())
    torch.testing.assert_close(read_kernel(tmp_path / "k.npy"), expected, atol=1e-7, rtol=0)
    torch.testing.assert_close(read_kernel(tmp_path / "k.png"), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("text", ["1,2\n3\n", "a,b\n", "0,0\n0,0\n", "1,-2\n", "1,nan\n", "", "0,1;0,2\n", ",".join(["1"] * 256)])
def test_a_text_that_holds_no_kernel_is_refused_by_its_path(tmp_path: Path, text: str) -> None:
    (tmp_path / "k.csv").write_text(text)
    with pytest.raises(InputError, match=r"k\.csv.*E_(KERNEL|EMPTY)"):
        read_kernel(tmp_path / "k.csv")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("linear 10@30", "linear 10@30"),
        ("  Linear 1.8 mm @ -30 ", "linear 1.8mm@-30"),
        ("random 10", "random 10"),
        ("gaussian 2px", "gaussian 2"),
        ("gaussian .5mm", "gaussian 0.5mm"),
        ("identity", "identity"),
        ("estimated", "estimated"),
        ("given PSF 1.npy", "given PSF 1.npy"),
        ("Given PSF 1.npy", "given PSF 1.npy"),
    ],
)
def test_a_kernel_in_words_is_read_and_written_back(text: str, written: str) -> None:
    assert str(parse_kernel(text)) == written
    assert parse_kernel(written) == parse_kernel(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "motion 10",
        "linear 10",
        "Linear 10",
        "linear @30",
        "linear -5@0",
        "gaussian 2@30",
        "random 9.5",
        "random 9mm",
        "given",
        "identity 3",
        "linear 1e999@0",
    ],
)
def test_words_that_name_no_kernel_are_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ConfigError, match=r"E_KERNEL.*linear 10@30"):
        parse_kernel(text)


def test_each_kind_of_kernel_is_built(tmp_path: Path) -> None:
    (tmp_path / "k.csv").write_text("0,0,0,1,1")
    torch.testing.assert_close(parse_kernel("linear 10@30").build(), linear_motion(10, 30))
    assert torch.equal(parse_kernel("gaussian 2").build(), gaussian(2))
    assert torch.equal(parse_kernel("identity").build(), identity())
    assert torch.equal(parse_kernel("random 10").build(generator=generator(0, "k")), random_motion(10, generator(0, "k")))
    # Centre of mass at 1.5: moved by 2 whole px, the two equal taps stay two equal taps.
    assert parse_kernel(f"given {tmp_path / 'k.csv'}").build().tolist() == [[0.5, 0.5, 0.0]]


def test_millimetres_become_pixels_through_the_spacing_of_each_axis() -> None:
    torch.testing.assert_close(parse_kernel("linear 3mm@30").build((0.3, 0.3)), linear_motion(10, 30))
    torch.testing.assert_close(parse_kernel("linear 3mm@0").build((7.0, 0.3)), linear_motion(10, 0))
    torch.testing.assert_close(parse_kernel("linear 3mm@90").build((0.3, 7.0)), linear_motion(10, 90))
    # Rows twice as far apart: half as many of them, and a flatter path.
    flat = math.hypot(10 / math.sqrt(2), 5 / math.sqrt(2)), math.degrees(math.atan(0.5))
    torch.testing.assert_close(parse_kernel("linear 3mm@45").build((0.6, 0.3)), linear_motion(*flat))
    torch.testing.assert_close(parse_kernel("gaussian 1mm").build((0.5, 0.25)), gaussian((2, 4)))


@pytest.mark.parametrize("spacing", [None, (0.0, 0.3), (math.nan, 0.3)])
def test_millimetres_without_a_spacing_are_refused(spacing: tuple[float, float] | None) -> None:
    with pytest.raises(ConfigError, match=r"linear 3mm@30.*E_SPACING"):
        parse_kernel("linear 3mm@30").build(spacing)


@pytest.mark.parametrize("text", ["estimated", "random 10"])
def test_a_kernel_that_needs_more_says_what(text: str) -> None:
    with pytest.raises(ConfigError, match=r"needs (a generator|the image).*E_KERNEL"):
        parse_kernel(text).build()


def test_a_spec_of_parts_that_do_not_belong_together_is_refused() -> None:
    for parts in (
        {"kind": "given"},
        {"kind": "linear", "path": Path("k.npy")},
        {"kind": "shake"},
        {"kind": "linear", "unit": "cm"},
    ):
        with pytest.raises(MedanomalyError, match="E_KERNEL"):
            KernelSpec(**parts)  # type: ignore[arg-type]

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from job_builders import blurred
from scipy import ndimage
from torch import Tensor

from deblur.blur import (
    Canvas,
    MaskedBlur,
    adjoint_periodic,
    blur_periodic,
    masked_step,
    otf,
    periodic_step,
    prox_masked,
    prox_periodic,
)
from deblur.kernels import gaussian, identity, linear_motion
from medanomaly.errors import ConfigError, InputError
from medanomaly.rng import generator

SHAPES = [(3, 3), (5, 2), (4, 4), (1, 6), (1, 7), (6, 1), (1, 1)]
EXACT = {"max_iterations": 600, "tolerance": 1e-12}


def noise(*shape: int, key: object = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=generator(0, "blur test", key), dtype=dtype)


def any_kernel(shape: tuple[int, int], key: object = 0) -> Tensor:
    """Without any symmetry, so that a flip or a shift shows."""
    kernel = noise(*shape, key=("kernel", key))
    return kernel / kernel.sum()


def window(size: tuple[int, int] = (12, 9), key: object = 0) -> Tensor:
    """A mask (1, 1, 16, 14) with a hole, as a canvas has it."""
    mask = torch.zeros(1, 1, 16, 14, dtype=torch.bool)
    mask[..., 2 : 2 + size[0], 3 : 3 + size[1]] = True
    mask[..., 5:7, 6:9] = False
    return mask


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [(12, 10), (11, 13)])
def test_periodic_blur_is_scipys_convolution(shape: tuple[int, int], size: tuple[int, int]) -> None:
    x, kernel = noise(1, 1, *size), any_kernel(shape)
    # scipy's default origin is size // 2 as well, for odd and even sizes.
    expected = ndimage.convolve(x[0, 0].numpy(), kernel.numpy(), mode="wrap")
    np.testing.assert_allclose(blur_periodic(x, kernel)[0, 0].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_delta_becomes_the_kernel_around_it(shape: tuple[int, int]) -> None:
    x = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    x[..., 8, 8] = 1
    kernel = any_kernel(shape)
    top, left = 8 - shape[0] // 2, 8 - shape[1] // 2
    blurred = blur_periodic(x, kernel)[0, 0, top : top + shape[0], left : left + shape[1]]
    torch.testing.assert_close(blurred, kernel, atol=1e-12, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_adjoint_is_the_adjoint(shape: tuple[int, int]) -> None:
    kernel, a, b = any_kernel(shape), noise(1, 1, 16, 14, key="a"), noise(1, 1, 16, 14, key="b")
    expected = (blur_periodic(a, kernel) * b).sum()
    torch.testing.assert_close((a * adjoint_periodic(b, kernel)).sum(), expected)
    masked = MaskedBlur.of(kernel, window(), a)
    torch.testing.assert_close((a * masked.adjoint(b)).sum(), (masked.forward(a) * b).sum())
    assert (masked.forward(a) == 0)[~window()].all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rho", [1e-10, 1e-5, 0.1, 10.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_periodic_prox_is_where_the_gradient_vanishes(shape: tuple[int, int], rho: float, dtype: torch.dtype) -> None:
    # On the diagonal in Fourier space numpy's own transform gives each frequency's minimiser.
    kernel, y, z = any_kernel(shape), noise(1, 1, 12, 10, key="y", dtype=dtype), noise(1, 1, 12, 10, key="z", dtype=dtype)
    x = prox_periodic(y, z, rho, kernel)
    assert x.dtype == dtype
    wide = x.double()
    residual = y.double() - blur_periodic(wide, kernel)
    gradient = adjoint_periodic(residual, kernel) - rho * (wide - z.double())
    # What rounding x to its dtype leaves.
    epsilon = torch.finfo(dtype).eps
    assert gradient.abs().max() <= 40 * epsilon * max(1.0, rho) * max(1.0, float(wide.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_periodic_prox_keeps_its_digits_at_the_lowest_noise(dtype: torch.dtype) -> None:
    # A blurred image without noise has one answer. Dividing a small difference by rho misses it by 100 and more here in float32.
    x, kernel = noise(1, 1, 32, 32, key="truth"), gaussian(0.6)
    y = blur_periodic(x, kernel)
    restored = prox_periodic(y.to(dtype), torch.zeros_like(y, dtype=dtype), 1e-10, kernel)
    torch.testing.assert_close(restored.double(), x, atol=3e-5, rtol=0)


@pytest.mark.parametrize("rho", [1e-10, 10.0])
def test_single_precision_is_rounded_once_at_the_end(rho: float) -> None:
    kernel, mask = linear_motion(6, 20), window()
    y, z = noise(1, 1, 16, 14, key="y", dtype=torch.float32), noise(1, 1, 16, 14, key="z", dtype=torch.float32)
    periodic, masked = prox_periodic(y, z, rho, kernel), prox_masked(y, z, rho, kernel, mask)
    assert torch.equal(periodic, prox_periodic(y.double(), z.double(), rho, kernel).float())
    assert torch.equal(masked, prox_masked(y.double(), z.double(), rho, kernel, mask).float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rho", [1e-10, 1e-5, 0.1, 10.0])
@pytest.mark.parametrize("shape", [(3, 3), (5, 2), (4, 4), (1, 6)])
def test_the_masked_prox_is_where_the_gradient_vanishes(shape: tuple[int, int], rho: float, dtype: torch.dtype) -> None:
    kernel, mask = any_kernel(shape), window()
    y, z = noise(1, 1, 16, 14, key="y", dtype=dtype), noise(1, 1, 16, 14, key="z", dtype=dtype)
    x = prox_masked(y, z, rho, kernel, mask, **EXACT).double()
    blur = MaskedBlur.of(kernel, mask, y)
    gradient = blur.adjoint(y - blur.forward(x)) - rho * (x - z.double())
    epsilon = torch.finfo(dtype).eps
    assert gradient.abs().max() <= max(1e-9, 40 * epsilon * max(1.0, rho)) * max(1.0, float(x.abs().max()))


@pytest.mark.parametrize("rho", [1e-10, 1e-6])
def test_a_prox_that_ends_early_is_not_blown_up_where_the_kernel_sees_nothing(rho: float) -> None:
    kernel = linear_motion(10, 33)
    picture = torch.from_numpy(np.rint(255 * blurred((40, 40), 10, 33, seed=3)[0]) / 255)[None, None]
    canvas = Canvas.around((40, 40), kernel, multiple=8)
    y = canvas.place(picture)
    z = torch.full_like(y, float(picture.mean()))
    x = prox_masked(y, z, rho, kernel, canvas.mask)
    misfit = [float((y - blur_periodic(image, kernel))[canvas.mask].square().mean().sqrt()) for image in (z, x)]
    assert misfit[1] < 0.02 * misfit[0]
    # The picture itself is at most .39 away from its mean.
    assert float(canvas.crop(x - z).abs().max()) < 0.8


def test_the_masked_prox_is_the_dense_least_squares_solution() -> None:
    kernel, mask = any_kernel((4, 3)), window()
    y, z = noise(1, 1, 16, 14, key="y"), noise(1, 1, 16, 14, key="z")
    basis = torch.eye(16 * 14, dtype=torch.float64).reshape(-1, 1, 16, 14)
    matrix = MaskedBlur.of(kernel, mask, basis).forward(basis).flatten(1).T
    rho = 1e-3
    right = matrix.T @ (y * mask).flatten() + rho * z.flatten()
    expected = torch.linalg.solve(matrix.T @ matrix + rho * torch.eye(16 * 14, dtype=torch.float64), right)
    torch.testing.assert_close(prox_masked(y, z, rho, kernel, mask, **EXACT).flatten(), expected, atol=1e-9, rtol=0)


def test_with_everything_observed_the_masked_prox_is_the_periodic_one_after_a_step() -> None:
    kernel, y, z = any_kernel((4, 5)), noise(2, 1, 16, 14, key="y"), noise(2, 1, 16, 14, key="z")
    everything = torch.ones(1, 1, 16, 14, dtype=torch.bool)
    masked = prox_masked(y, z, 1e-6, kernel, everything, max_iterations=1)
    torch.testing.assert_close(masked, prox_periodic(y, z, 1e-6, kernel), atol=1e-8, rtol=0)


def test_what_the_mask_hides_does_not_matter() -> None:
    kernel, mask = any_kernel((4, 5)), window()
    y, z = noise(1, 1, 16, 14, key="y"), noise(1, 1, 16, 14, key="z")
    other = torch.where(mask, y, 100.0)
    torch.testing.assert_close(prox_masked(other, z, 0.01, kernel, mask), prox_masked(y, z, 0.01, kernel, mask))


def test_far_from_what_was_observed_the_prox_changes_nothing() -> None:
    mask = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    mask[..., :8] = True
    y, z = noise(1, 1, 16, 16, key="y"), noise(1, 1, 16, 16, key="z")
    x = prox_masked(y, z, 0.01, linear_motion(3, 0), mask, **EXACT)
    # Columns 8 and 15 reach into the observed half, the others do not.
    torch.testing.assert_close(x[..., 9:15], z[..., 9:15], atol=1e-8, rtol=0)
    assert (x - z)[..., [8, 15]].abs().max() > 0.01


@pytest.mark.parametrize("rho", [1e-8, 1.0])
def test_without_blur_the_prox_is_a_weighted_mean(rho: float) -> None:
    y, z, mask = noise(1, 1, 16, 14, key="y"), noise(1, 1, 16, 14, key="z"), window()
    mean = (y + rho * z) / (1 + rho)
    torch.testing.assert_close(prox_periodic(y, z, rho, identity()), mean)
    torch.testing.assert_close(prox_masked(y, z, rho, identity(), mask), torch.where(mask, mean, z))


def test_a_batch_is_its_images_one_by_one() -> None:
    kernels = [any_kernel((4, 5)), linear_motion(5, 30), identity()]
    mask = window().repeat(3, 1, 1, 1)
    mask[1, :, 4:6] = False
    y, z = noise(3, 2, 16, 14, key="y"), noise(3, 2, 16, 14, key="z")
    z[2] = y[2]  # done at once, while the others go on
    rho = torch.tensor([1e-6, 1e-2, 1.0])
    periodic = prox_periodic(y, z, rho, kernels)
    masked = prox_masked(y, z, rho, kernels, mask)
    for i in range(3):
        one = slice(i, i + 1)
        torch.testing.assert_close(periodic[one], prox_periodic(y[one], z[one], float(rho[i]), kernels[i]), atol=1e-9, rtol=0)
        alone = torch.cat(
            [prox_masked(y[one, c : c + 1], z[one, c : c + 1], rho[one], kernels[i], mask[one]) for c in (0, 1)], dim=1
        )
        torch.testing.assert_close(masked[one], alone, atol=1e-9, rtol=0)


def test_a_step_is_its_prox_and_leaves_its_arguments_alone() -> None:
    kernel, mask = any_kernel((4, 5)), window()
    y, z = noise(1, 1, 16, 14, key="y", dtype=torch.float32), noise(1, 1, 16, 14, key="z", dtype=torch.float32)
    before = y.clone(), z.clone()
    assert torch.equal(periodic_step(y, kernel)(z, 0.01), prox_periodic(y, z, 0.01, kernel))
    assert torch.equal(masked_step(y, kernel, mask)(z, 0.01), prox_masked(y, z, 0.01, kernel, mask))
    assert torch.equal(y, before[0])
    assert torch.equal(z, before[1])


@pytest.mark.parametrize("shape", [(1, 9), (8, 5), (6, 6), (1, 1)])
@pytest.mark.parametrize("multiple", [1, 8])
def test_no_pixel_outside_of_the_canvas_reaches_the_picture(shape: tuple[int, int], multiple: int) -> None:
    # A scene larger than any canvas, blurred, cut out: the same as blurring that part of the scene on the canvas.
    kernel, scene = any_kernel(shape), noise(1, 1, 60, 60, key="scene")
    canvas = Canvas.around((20, 17), kernel, multiple=multiple)
    top, left = 20 - canvas.before[0], 20 - canvas.before[1]
    cut = scene[..., top : top + canvas.size[0], left : left + canvas.size[1]]
    expected = blur_periodic(scene, kernel)[..., 20:40, 20:37]
    torch.testing.assert_close(canvas.crop(blur_periodic(cut, kernel)), expected, atol=1e-12, rtol=0)
    assert all(side % multiple == 0 for side in canvas.size)


def test_a_canvas_keeps_the_picture_and_says_where_it_is() -> None:
    y = noise(2, 3, 20, 17)
    canvas = Canvas.around((20, 17), linear_motion(6, 30), multiple=8)
    placed = canvas.place(y)
    assert placed.shape == (2, 3, *canvas.size)
    assert torch.equal(canvas.crop(placed), y)
    assert torch.equal(placed[canvas.mask.expand_as(placed)], y.flatten())
    assert int(canvas.mask.sum()) == 20 * 17
    assert torch.equal(placed[..., 0, 0], y[..., 0, 0])


def test_pixels_that_are_not_usable_are_not_observed() -> None:
    usable = torch.ones(20, 17, dtype=torch.bool)
    usable[:, :3] = False
    canvas = Canvas.around((20, 17), linear_motion(5, 0), usable=usable)
    assert torch.equal(canvas.crop(canvas.mask)[0, 0], usable)
    each = Canvas.around((20, 17), linear_motion(5, 0), usable=usable[None, None].repeat(2, 1, 1, 1))
    assert each.mask.shape == (2, 1, *canvas.size)


@pytest.mark.parametrize(
    "usable",
    [
        torch.zeros(20, 17, dtype=torch.bool),
        torch.ones(20, 17),
        torch.ones(17, 20, dtype=torch.bool),
        torch.ones(2, 20, 17, dtype=torch.bool),
    ],
)
def test_a_mask_that_cannot_be_used_is_refused(usable: Tensor) -> None:
    with pytest.raises(InputError, match="E_MASK"):
        Canvas.around((20, 17), identity(), usable=usable)


def test_a_kernel_larger_than_the_image_is_refused_everywhere() -> None:
    y, kernel = noise(1, 1, 8, 8), linear_motion(11, 0)
    with pytest.raises(InputError, match=r"larger than the image.*E_KERNEL"):
        otf(kernel, (8, 8))
    with pytest.raises(InputError, match="E_KERNEL"):
        blur_periodic(y, kernel)
    with pytest.raises(InputError, match="E_KERNEL"):
        Canvas.around((8, 8), kernel)


@pytest.mark.parametrize("rho", [0.0, -1.0, math.nan, math.inf])
def test_a_weight_that_is_not_positive_is_refused(rho: float) -> None:
    y = noise(1, 1, 16, 14)
    with pytest.raises(ConfigError, match="E_RHO"):
        prox_periodic(y, y, rho, identity())
    with pytest.raises(ConfigError, match="E_RHO"):
        prox_masked(y, y, rho, identity(), window())


def test_shapes_and_values_that_do_not_fit_are_refused() -> None:
    y = noise(2, 1, 16, 14)
    with pytest.raises(InputError, match="E_SHAPE"):
        blur_periodic(y[0, 0], identity())
    with pytest.raises(InputError, match="E_SHAPE"):
        blur_periodic((y * 255).to(torch.uint8), identity())
    with pytest.raises(InputError, match=r"3 kernels for a batch of 2.*E_KERNEL"):
        blur_periodic(y, [identity()] * 3)
    with pytest.raises(ConfigError, match="E_RHO"):
        prox_periodic(y, y, torch.ones(3), identity())
    with pytest.raises(InputError, match="E_MASK"):
        prox_masked(y, y, 0.1, identity(), window()[0])
    with pytest.raises(InputError, match="E_SHAPE"):
        Canvas.around((20, 17), identity()).place(y)
    with pytest.raises(ConfigError, match="E_CONFIG"):
        Canvas.around((20, 17), identity(), multiple=0)
    broken = y.clone()
    broken[0, 0, 3, 3] = math.nan
    with pytest.raises(InputError, match="E_NONFINITE"):
        periodic_step(broken, identity())
    with pytest.raises(InputError, match="E_NONFINITE"):
        masked_step(broken, identity(), window())

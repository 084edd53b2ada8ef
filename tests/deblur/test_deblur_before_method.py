"""Deblurring before a method: what is left alone bit for bit, what is counted, and what is refused at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from job_builders import Brightener, blurred, restorer_of, scene
from torch import Tensor

from deblur.before_method import GatedDeblur
from deblur.diffpir import to_model, to_unit
from deblur.kernel_spec import parse_kernel
from deblur.quality import psnr
from deblur.restore import Restored
from medanomaly.errors import ConfigError, InputError
from medanomaly.types import AnomalyResult, WalkObserver


def never(y: Tensor, kernels: Sequence[Tensor], noise_sd: float) -> Restored:
    raise AssertionError("asked although there is nothing to deblur")


def rounded(picture: np.ndarray) -> Tensor:
    """(1, H, W) float32 in model space, of 8 bits."""
    return to_model(torch.from_numpy(np.rint(255 * picture) / 255).float()[None])


def test_sharp_and_constant_images_go_through_bit_for_bit_and_a_blurred_one_is_deblurred() -> None:
    picture, truth = blurred((96, 96), 7, 20, seed=3)
    x = torch.stack([rounded(scene(96, 96)), torch.full((1, 96, 96), -1.0), rounded(picture)])
    x[0, 0, 3, 5] = 1e-9  # does not survive the way to [0, 1] and back
    transform = GatedDeblur(restorer_of("tv"), parse_kernel("estimated"), image_size=96, channels=1, noise_level=0.5)
    made = transform(x)
    assert torch.equal(made[:2], x[:2])
    assert dict(transform.counts) == {"no_motion_detected": 1, "constant": 1, "applied": 1}
    reference = torch.from_numpy(truth)[None]
    assert psnr(to_unit(made[2]), reference) > psnr(to_unit(x[2]), reference) + 2
    assert float(made.abs().max()) <= 1


def test_the_method_is_asked_about_the_deblurred_images() -> None:
    class Echo:
        def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
            return AnomalyResult(anomaly_map=x + 1, score=x.amax((1, 2, 3)))

    transform = GatedDeblur(restorer_of(never), parse_kernel("linear 9@0"), image_size=40, channels=1, noise_level=0.5)
    x = rounded(scene(40, 40))[None]
    assert torch.equal(transform.before(Echo()).localize(x).anomaly_map, x + 1)
    assert dict(transform.counts) == {"rejected": 1}
    assert transform.said() == "1 rejected"


def test_a_result_that_the_gate_rejects_is_not_passed_on() -> None:
    picture, _ = blurred((96, 96), 7, 20, seed=3)
    x = rounded(picture)[None]
    solver = Brightener(by=0.5)
    transform = GatedDeblur(restorer_of(solver), parse_kernel("linear 7@20"), image_size=96, channels=1, noise_level=0.5)
    assert torch.equal(transform(x), x)
    assert (len(solver.batches), dict(transform.counts)) == (1, {"rejected": 1})


@pytest.mark.parametrize(
    ("kernel", "size", "channels", "code"),
    [
        ("linear 2mm@0", 64, 1, "E_KERNEL"),
        ("random 9", 64, 1, "E_KERNEL"),
        ("linear 80@0", 64, 1, "E_KERNEL"),
        ("estimated", 16, 1, "E_SHAPE"),
        ("estimated", 64, 3, "E_CHANNELS"),
    ],
)
def test_what_would_fail_for_every_image_is_refused_at_once(kernel: str, size: int, channels: int, code: str) -> None:
    with pytest.raises((ConfigError, InputError)) as caught:
        GatedDeblur(restorer_of(never), parse_kernel(kernel), image_size=size, channels=channels, noise_level=0.5)
    assert caught.value.code == code

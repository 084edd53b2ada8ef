from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from deblur.blur import blur_periodic
from deblur.classical import wiener
from deblur.diffpir import noise_floor
from deblur.estimate import MotionEstimate
from deblur.gate import GateConfig, Verdict, kernel_gate, post_gate, pre_gate
from deblur.kernels import gaussian, linear_motion
from deblur.policy import Plan, judge
from deblur.quality import psnr
from medanomaly.errors import ConfigError, InputError
from medanomaly.rng import generator

NOISE = 2 / 255


def estimate(*, is_motion: bool, reason: str = "") -> MotionEstimate:
    return MotionEstimate(
        length_px=7.0,
        angle_deg=30.0,
        log_likelihood_ratio=42.0,
        is_motion=is_motion,
        confidence=0.9,
        noise_sd=NOISE,
        length_range_px=(6.5, 7.5),
        angle_range_deg=(28.0, 32.0),
        reason=reason,
    )


def white(key: int = 0) -> Tensor:
    return torch.randn(40, 50, dtype=torch.float64, generator=generator(0, "deblur-gate", key))


def picture() -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(50.0), indexing="ij")
    return (0.5 + 0.3 * torch.sin(rows / 5) * torch.cos(columns / 7)).double()


def good() -> tuple[Tensor, Tensor, Tensor]:
    """(y, restored, reblurred) that pass: the residual is the noise."""
    x = picture()
    return x + NOISE * white(), x, x


def test_a_motion_lets_deblurring_go_on_and_its_numbers_through() -> None:
    verdict = pre_gate(estimate(is_motion=True))
    assert verdict.accepted
    assert verdict.reasons == ()
    assert verdict.values["length_px"] == 7
    assert verdict.values["log_likelihood_ratio"] == 42


def test_no_motion_stops_deblurring_with_the_estimators_reason() -> None:
    verdict = pre_gate(estimate(is_motion=False, reason="too little to see"))
    assert verdict.status == "no_motion_detected"
    assert not verdict.accepted
    assert verdict.reasons == ("too little to see",)


def test_a_kernel_is_rejected_where_others_explain_the_picture_better() -> None:
    config = GateConfig(kernel_deficit=8)
    assert kernel_gate(-3.0, config).accepted
    assert kernel_gate(8.0, config).accepted
    assert kernel_gate(8.1, config).status == "rejected"
    assert kernel_gate(math.nan, config).status == "rejected"
    assert "8.1" in kernel_gate(8.1, config).reasons[0]


def test_a_result_that_leaves_the_noise_is_applied() -> None:
    verdict = post_gate(*good(), NOISE)
    assert verdict.status == "applied"
    assert verdict.values["residual_over_noise"] == pytest.approx(1, abs=0.05)
    assert abs(verdict.values["residual_lag1"]) < 0.1


@pytest.mark.parametrize("factor", [0.2, 1.5])
def test_a_residual_much_smaller_or_larger_than_the_noise_is_rejected(factor: float) -> None:
    x = picture()
    verdict = post_gate(x + factor * NOISE * white(), x, x, NOISE)
    assert verdict.status == "rejected"
    assert len(verdict.reasons) == 1
    assert "residual" in verdict.reasons[0]


def test_what_residual_is_too_small_depends_on_what_a_good_solution_leaves() -> None:
    x = picture()
    y = x + 0.2 * NOISE * white()
    assert post_gate(y, x, x, NOISE, expected_residual=0.5).accepted
    verdict = post_gate(y, x, x, NOISE, expected_residual=0.8)
    assert verdict.status == "rejected"
    assert "0.20 times the noise, outside of 0.24..1.2" in verdict.reasons[0]
    assert post_gate(x + 1.5 * NOISE * white(), x, x, NOISE, expected_residual=0.5).status == "rejected"


def test_rounding_counts_as_noise_where_the_noise_is_lower() -> None:
    x = picture()
    y = (x * 255).round() / 255
    assert post_gate(y, x, x, 0.0).values["residual_over_noise"] == pytest.approx(1, abs=0.05)
    assert post_gate(y, x, x, 0.1 / 255, level=0).status == "rejected"


def test_ringing_is_rejected_although_it_is_sharp() -> None:
    y, x, reblurred = good()
    ringing = x + 0.15 * white(1)
    verdict = post_gate(y, ringing, reblurred, NOISE, config=GateConfig(out_of_range_share=1))
    assert verdict.status == "rejected"
    assert len(verdict.reasons) == 1
    assert verdict.values["tenengrad_ratio"] > 4


def test_values_far_out_of_range_are_rejected_and_noise_at_black_is_not() -> None:
    y, x, reblurred = good()
    black = x.clone()
    black[:2] = -4 / 255
    allowed = GateConfig(tenengrad_ratio=1e9)
    assert post_gate(y, black, reblurred, NOISE, config=allowed).accepted
    black[:2] = -6 / 255
    verdict = post_gate(y, black, reblurred, NOISE, config=allowed)
    assert verdict.status == "rejected"
    assert verdict.values["out_of_range_share"] == pytest.approx(2 / 40)


def test_every_fault_is_named() -> None:
    y, x, _ = good()
    assert len(post_gate(y, x + 3 * white(1), x + 1, NOISE).reasons) == 3


def test_the_border_is_left_out() -> None:
    y, x, reblurred = good()
    spoiled = reblurred.clone()
    spoiled[:3], spoiled[:, -3:] = 9, 9
    assert post_gate(y, x, spoiled, NOISE, border=3).accepted
    assert post_gate(y, x, spoiled, NOISE, border=2).status == "rejected"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_result_that_is_not_finite_is_rejected_and_no_error(value: float) -> None:
    y, x, reblurred = good()
    x = x.clone()
    x[5, 5] = value
    assert post_gate(y, x, reblurred, NOISE).status == "rejected"


def test_a_flat_picture_that_gains_gradients_is_rejected() -> None:
    flat = torch.full((20, 20), 0.5, dtype=torch.float64)
    assert post_gate(flat, flat + 0.01 * white()[:20, :20], flat, NOISE).values["tenengrad_ratio"] == math.inf
    assert post_gate(flat, flat, flat, NOISE).values["tenengrad_ratio"] == 1


def test_a_channel_axis_changes_nothing_and_float32_little() -> None:
    y, x, reblurred = good()
    plain = post_gate(y, x, reblurred, NOISE)
    assert post_gate(y[None], x[None], reblurred[None], NOISE) == plain
    single = post_gate(y.float(), x.float(), reblurred.float(), NOISE)
    assert single.values["residual_over_noise"] == pytest.approx(plain.values["residual_over_noise"], rel=1e-4)


def test_images_that_do_not_go_together_are_refused() -> None:
    y, x, reblurred = good()
    for call in (
        lambda: post_gate(y, x[:-1], reblurred, NOISE),
        lambda: post_gate(y, x, reblurred[None], NOISE),
        lambda: post_gate(y, x, reblurred, NOISE, border=-1),
        lambda: post_gate(y, x, reblurred, NOISE, border=17),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert caught.value.code == "E_SHAPE"
    with pytest.raises(InputError) as caught:
        post_gate(y, x, reblurred, -1.0)
    assert caught.value.code == "E_RANGE"


@pytest.mark.parametrize(
    "setting",
    [
        {"residual_low": 1.3},
        {"tenengrad_ratio": -1.0},
        {"kernel_deficit": math.nan},
        {"out_of_range_share": 1.5},
        {"residual_high": math.inf},
    ],
)
def test_thresholds_that_cannot_be_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as caught:
        GateConfig(**setting)
    assert caught.value.code == "E_CONFIG"


def test_a_rough_picture_that_was_blurred_a_little_is_deblurred_though_little_of_the_noise_is_left() -> None:
    kernel, noise_sd = linear_motion(5, 30), noise_floor(0.5 / 255, 256)
    rough = torch.rand(1, 1, 64, 64, generator=generator(0, "rough"), dtype=torch.float64)
    x = 0.1 + 0.8 * blur_periodic(rough, gaussian(1.0))
    y = (blur_periodic(x, kernel) * 255).round() / 255
    restored = wiener(y, kernel, noise_sd, boundary="periodic")
    made = Plan(kernel=kernel, text="", source="given", confidence=None, verdict=Verdict(status="applied"))
    verdict = judge(y[0], restored[0], made, noise_sd)
    assert psnr(restored[0], x[0]) > psnr(y[0], x[0]) + 5
    assert verdict.values["residual_over_noise"] < 0.3
    assert verdict.accepted

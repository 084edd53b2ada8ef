"""No harm: when not to deblur, and when to throw the result away and keep the picture as it came.

Three questions, each with a verdict and its numbers. Before: is there a motion at all? Of a kernel: does it explain the picture about
as well as the best one? After: is the residual noise, and is the result still a picture? A "no" to any of them returns the input.
Sharpness is never a reason to accept. It is a reason to reject: only ringing makes an image many times sharper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from deblur.estimate import MotionEstimate
from deblur.quality import out_of_range_share, plane, residual_rms_over_noise, residual_whiteness, tenengrad
from medanomaly.errors import ConfigError, InputError

Status = Literal["applied", "no_motion_detected", "rejected"]


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """Thresholds of the no-harm policy.

    The numbers at the fields are from 452 results of Wiener's filter on 12 chest X-rays (128 px, to 117 after cropping) and 24 phantoms
    (128 px), motions of 5 and 10 px, noise .5 and 5 levels, kernels right, 2 px or 10 degrees off: ``benchmarks/deblur_estimate.py
    --harm`` repeats them.
    """

    kernel_deficit: float = 8.0
    """Log units that a kernel may explain the picture worse than the best straight motion or none. Right kernels: at most 1.9 in 91
    cases. Kernels that cost .5 dB or more: at least 18."""
    residual_low: float = 0.3
    """Least rms of k * x - y over what the best linear solution would leave (:func:`deblur.spectral_prior.expected_residual`): below,
    the solver has fitted the noise, or the noise was said to be much more than it is. Right kernels with the noise as told: .62 and
    more; with nothing but rounding where half a level was told: .38. Over the noise itself both reach down to .12, where a rough image
    was blurred a little, with gains of up to 9 dB: such results an absolute bound rejects."""
    residual_high: float = 1.2
    """Largest rms of k * x - y over noise and rounding: above, the borders, the noise level or a catastrophe. Right kernels: at most
    .98, saturated films 1.03; but a length that is 2 px wrong, too, at most 1.01 on smooth films: this threshold does not tell a wrong
    kernel."""
    tenengrad_ratio: float = 4.0
    """Largest mean squared gradient of the result over that of the picture. Right kernels: at most 2.7; 2 px too long: 1.0 to 10;
    a sharp film "deblurred": 2 to 136, mostly above 15."""
    out_of_range_share: float = 0.02
    """Largest share of pixels beyond [0, 1] by more than ``out_of_range_slack``. Right kernels: at most .017, on films with saturated
    areas, where the blur model does not hold; 2 px too long: up to .063."""
    out_of_range_slack: float = 5 / 255
    """What noise around black collimator borders and saturated pixels is forgiven, in units of the [0, 1] image."""

    def __post_init__(self) -> None:
        numbers = (self.kernel_deficit, self.residual_low, self.residual_high, self.tenengrad_ratio, self.out_of_range_slack)
        if not (all(math.isfinite(number) and number >= 0 for number in numbers) and 0 <= self.out_of_range_share <= 1):
            raise ConfigError(
                "thresholds must be finite and not negative, the share at most 1", code="E_CONFIG", fix="keep defaults"
            )
        if self.residual_low >= self.residual_high:
            raise ConfigError(
                f"residual_low={self.residual_low:g} must be below residual_high={self.residual_high:g}",
                code="E_CONFIG",
                fix="use 0.3 and 1.2",
            )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What to do with a picture, why, and the numbers behind it."""

    status: Status
    """'applied': nothing speaks against it. Otherwise the picture stays as it came."""
    reasons: tuple[str, ...] = ()
    """One sentence a fault; empty where applied."""
    values: dict[str, float] = field(default_factory=dict)
    """What was measured, for the report."""

    @property
    def accepted(self) -> bool:
        """Whether the result is to be used."""
        return self.status == "applied"


def pre_gate(estimate: MotionEstimate) -> Verdict:
    """Whether to deblur at all: 'no_motion_detected' unless the estimate claims a motion. 'applied' means go on."""
    values = {
        "log_likelihood_ratio": estimate.log_likelihood_ratio,
        "length_px": estimate.length_px,
        "angle_deg": estimate.angle_deg,
        "confidence": estimate.confidence,
        "noise_sd": estimate.noise_sd,
    }
    if estimate.is_motion:
        return Verdict(status="applied", values=values)
    return Verdict(status="no_motion_detected", reasons=(estimate.reason,), values=values)


def kernel_gate(deficit: float, config: GateConfig = GateConfig()) -> Verdict:
    """Whether a kernel from elsewhere fits the picture.

    The only gate that tells a length that is 2 px wrong: on smooth pictures the residual of such a kernel is as small as the right
    one's.

    Args:
        deficit: from :func:`deblur.estimate.kernel_deficit`; not finite = rejected.
        config: thresholds.
    """
    values = {"kernel_deficit": deficit}
    if deficit <= config.kernel_deficit:
        return Verdict(status="applied", values=values)
    reason = f"the kernel explains the picture {deficit:.1f} log units worse than the best, limit {config.kernel_deficit:g}"
    return Verdict(status="rejected", reasons=(reason,), values=values)


def post_gate(
    y: Tensor,
    restored: Tensor,
    reblurred: Tensor,
    noise_sd: float,
    *,
    level: float = 1 / 255,
    border: int = 0,
    expected_residual: float = 1.0,
    config: GateConfig = GateConfig(),
) -> Verdict:
    """Whether a deblurred picture may replace the one that came.

    Args:
        y: (H, W) or (1, H, W) in [0, 1], the picture that came.
        restored: the same shape, not clamped: clamping hides what is out of range.
        reblurred: the same shape, k * x with the margins that the solver found.
        noise_sd: standard deviation of the noise before rounding, in units of the [0, 1] image.
        level: step of the stored values, 1 / 255 for 8 bits; 0 where ``noise_sd`` includes rounding.
        border: px left out on each side, where k * x is not known.
        expected_residual: rms over the noise that a good solution leaves; 1 = all of it.
        config: thresholds.

    Returns:
        'applied' or 'rejected' with every reason. A result with values that are not finite is rejected, not an error.

    Raises:
        InputError: E_SHAPE for shapes that differ or a border that leaves less than 8 px; E_NONFINITE for y; E_RANGE for the noise.
    """
    plane(y, least=8 + 2 * border)
    if restored.shape != y.shape or reblurred.shape != y.shape or border < 0:
        raise InputError(
            f"picture {tuple(y.shape)}, result {tuple(restored.shape)}, reblurred {tuple(reblurred.shape)}, border {border} "
            "do not go together",
            code="E_SHAPE",
            fix="crop the canvas to the picture",
        )
    inner = (..., slice(border, y.shape[-2] - border), slice(border, y.shape[-1] - border))
    y, restored, reblurred = y.double()[inner], restored.double()[inner], reblurred.double()[inner]
    if not bool((restored.isfinite() & reblurred.isfinite()).all()):
        return Verdict(status="rejected", reasons=("the result holds values that are not finite",))
    residual = reblurred - y
    before, after = tenengrad(y), tenengrad(restored)
    ratio = after / before if before > 0 else (1.0 if after == 0 else math.inf)
    values = {
        "residual_over_noise": residual_rms_over_noise(residual, noise_sd, level=level),
        "residual_expected": expected_residual,
        "tenengrad_ratio": ratio,
        "out_of_range_share": out_of_range_share(restored, slack=config.out_of_range_slack),
    }
    if float(residual.max()) > float(residual.min()):
        whiteness = residual_whiteness(residual)
        values |= {"residual_lag1": whiteness.lag1, "residual_low_excess": whiteness.low_share - whiteness.low_share_white}
    reasons = []
    least = config.residual_low * expected_residual
    if not least <= values["residual_over_noise"] <= config.residual_high:
        reasons.append(
            f"the residual is {values['residual_over_noise']:.2f} times the noise, outside of {least:.2g}..{config.residual_high:g}"
        )
    if ratio > config.tenengrad_ratio:
        reasons.append(f"gradients grew {ratio:.1f} times, more than {config.tenengrad_ratio:g}: ringing")
    if values["out_of_range_share"] > config.out_of_range_share:
        reasons.append(
            f"{values['out_of_range_share']:.2%} of the pixels are out of range, more than {config.out_of_range_share:.2%}"
        )
    return Verdict(status="rejected" if reasons else "applied", reasons=tuple(reasons), values=values)

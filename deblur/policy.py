"""What is done with one picture: which kernel, whether to use it at all, and whether the result may replace the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from deblur.blur import blur_periodic
from deblur.estimate import LEAST_SIDE_PX, KernelEstimator, estimate_motion, kernel_deficit
from deblur.gate import GateConfig, Status, Verdict, kernel_gate, post_gate, pre_gate
from deblur.kernel_spec import KernelKind, KernelSpec
from deblur.kernels import check_kernel
from deblur.spectral_prior import expected_residual
from medanomaly.errors import InputError
from medanomaly.rng import generator

LONGEST_PX = 20
"""Longest motion that is looked for: the estimator's default."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """The kernel of a picture and what speaks for it."""

    kernel: Tensor
    """(kh, kw) float64; no blur where an estimate claims none."""
    text: str
    """The kernel in words, without folders: 'linear 9.75@31'."""
    source: KernelKind
    """Where it comes from."""
    confidence: float | None
    """0..1 of an estimate; None = not estimated."""
    verdict: Verdict
    """'applied' = go on."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How pictures are judged."""

    gate: bool = True
    """False = whatever comes out is used: for synthetic tests. An estimate that claims no motion still leaves the picture alone."""
    config: GateConfig = GateConfig()


def plan(
    y: Tensor,
    spec: KernelSpec,
    *,
    step: float,
    policy: Policy = Policy(),
    spacing_mm: tuple[float, float] | None = None,
    seed: int = 0,
    key: str = "",
    estimator: KernelEstimator | None = None,
) -> Plan:
    """The kernel for a picture, and whether to deblur with it.

    Args:
        y: (1, H, W) in [0, 1].
        spec: which kernel was asked for.
        step: of the stored values in [0, 1], 1 / 255 for 8 bits; 0 = not rounded.
        policy: the gate.
        spacing_mm: (row, column), for kernels in mm.
        seed: of random kernels.
        key: of this picture, so that each has its own random kernel.
        estimator: used instead of :func:`estimate_motion` for 'estimated'.

    Raises:
        InputError: E_KERNEL, a kernel that is larger than the picture or no blur at all; E_SHAPE, the picture is too small to
            be judged; E_RANGE, it is constant.
        ConfigError: E_SPACING, a kernel in mm and no pixel spacing.
    """
    if float(y.max()) <= float(y.min()):
        raise InputError("the image is constant", code="E_RANGE", fix="there is nothing to deblur, leave it out")
    judged = policy.gate or spec.kind == "estimated"
    if judged and min(y.shape[-2:]) < LEAST_SIDE_PX:
        raise InputError(
            f"the image of {tuple(y.shape[-2:])} px is too small to be judged, which takes {LEAST_SIDE_PX} px a side",
            code="E_SHAPE",
            fix="give the kernel, and --gate false to do without the gate",
        )
    if spec.kind == "estimated":
        found = estimate_motion(y, level=step, max_length_px=LONGEST_PX) if estimator is None else estimator(y)
        text = f"linear {found.length_px:.4g}@{found.angle_deg:.4g}" if found.is_motion else "identity"
        return Plan(kernel=found.kernel(), text=text, source="estimated", confidence=found.confidence, verdict=pre_gate(found))
    draws = generator(seed, "deblur-kernel", key) if spec.kind == "random" else None
    kernel = check_kernel(spec.build(spacing_mm, draws), (y.shape[-2], y.shape[-1]))
    if spec.kind == "linear" and kernel.numel() == 1:
        raise InputError(
            f"a motion of '{spec}' is no blur in this image", code="E_KERNEL", fix="check the unit; 'identity' says it outright"
        )
    text = f"given {spec.path.name}" if spec.path is not None else str(spec)
    verdict = Verdict(status="applied")
    if policy.gate:
        # The estimator's segments must be able to hold the kernel; they are three times the longest motion, or 64 px.
        longest = min(85, max(LONGEST_PX, math.ceil(max(kernel.shape) / 3)))
        verdict = kernel_gate(kernel_deficit(y, kernel, level=step, max_length_px=longest), policy.config)
    return Plan(kernel=kernel, text=text, source=spec.kind, confidence=None, verdict=verdict)


def judge(y: Tensor, restored: Tensor, made: Plan, noise_sd: float, policy: Policy = Policy()) -> Verdict:
    """Whether a result may replace its picture: the post-gate's verdict, with the values of the plan's.

    Without a gate the numbers are the same and everything finite is applied.

    Args:
        y: (1, H, W) in [0, 1].
        restored: the same shape, not clamped.
        made: the plan.
        noise_sd: in [0, 1], rounding included.
        policy: the gate.

    Raises:
        InputError: E_SHAPE, the kernel leaves too little of the picture to compare.
    """
    border = max(made.kernel.shape) // 2
    try:
        reblurred = blur_periodic(restored[None], made.kernel.to(restored.device))[0]
        expected = expected_residual(y[0], made.kernel, noise_sd)
        # The margins that a solver found are not known here: what they reach is left out.
        verdict = post_gate(
            y, restored, reblurred, noise_sd, level=0.0, border=border, expected_residual=expected, config=policy.config
        )
    except InputError as error:
        if policy.gate or error.code != "E_SHAPE":
            raise
        verdict = Verdict(status="applied")  # too small to be measured, and nobody asked for it
    values = made.verdict.values | verdict.values
    status: Status = verdict.status
    if not policy.gate and bool(torch.isfinite(restored).all()):
        status = "applied"
    return replace(verdict, status=status, values=values)


Outcome = Literal["deblurred", "unchanged"]


def outcome_of(verdict: Verdict) -> Outcome:
    """What became of the picture."""
    return "deblurred" if verdict.accepted else "unchanged"

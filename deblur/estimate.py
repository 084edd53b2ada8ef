"""Which straight motion blurred an image, if any: length and angle from the image alone, with a refusal where it cannot be told.

Each candidate blur is scored by Whittle's likelihood (:mod:`deblur.whittle`), and so is "no motion, however soft", also with a disk or
a square for a blur (:mod:`deblur.rivals`). The ratio of the two decides. A radiograph is always soft, equally in all directions: without
such rivals its softness passes for a short motion.
What is estimated is the motion of an 8-bit image of about linear gray scale; a curved path is answered by the nearest straight one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deblur.kernels import check_kernel, identity, linear_motion
from deblur.quality import effective_noise, plane
from deblur.rivals import rival_powers
from deblur.whittle import Spectrum, blur_power, fit, moved_start, noise_sd_of, spectrum_of
from medanomaly.errors import ConfigError, InputError

SEGMENT_PX = 64
"""Side of the segments whose spectra are averaged. Three times the longest motion: its lobes are then three bins wide."""
LEAST_SIDE_PX = 32
"""Smallest image: below, too few frequencies are left between the mean and the noise."""
SHORTEST_PX = 3.0
"""Shorter motions are searched and never claimed: nothing tells them from the softness of a film or from a stretched image."""
MOTION_LOG_RATIO = 8.0
"""Least log likelihood ratio of a slanted motion. Of 240 sharp chest films (120 validation films of 64 px, noise of .5 and 5 levels)
none reached more than 1.8 with a slanted motion of 3 px or more; of 96 blurred ones, motions that were 6 px and 60 degrees wrong
reached 7.5."""
ALIGNED_LOG_RATIO = 20.0
"""The same of a motion along rows or columns: what is stacked along an axis of the body, such as ribs, has a spectrum with dark lobes
too. Of the same 240 films 13 reached more than 5 with a motion of 3 px or more, all within 10 degrees of the columns; the largest
ratio was 16.1."""
ALIGNED_DEG = 12.0
"""How near to rows or columns a motion is taken for aligned."""
LEAST_MASS = 0.5
"""Least posterior mass within 1 px and 5 degrees of the estimate."""
NUM_LEADERS = 24
"""Coarse candidates that are fitted to the end."""
PASSES = ((1.0, 0.5), (0.5, 0.25), (0.25, 0.125))
"""Steps of the fine grids: of the length in px, and of the angle in px that the ends of the motion move by."""
RANGE_LOG_UNITS = 2.0
"""The ranges hold what is at most this much less likely than the best: about 95 % where the model holds."""

Candidate = tuple[float, float]
"""(length_px, angle_deg)."""


@dataclass(frozen=True, kw_only=True)
class MotionEstimate:
    """The most likely motion, and whether to believe in it."""

    length_px: float
    """Most likely length, also where there is no motion; as :func:`~deblur.kernels.linear_motion` measures it."""
    angle_deg: float
    """Most likely direction, 0 <= angle < 180, counter-clockwise as seen, from the direction of growing columns."""
    log_likelihood_ratio: float
    """Of that motion over the best blur without a direction, in natural units, both with their best softness and noise."""
    is_motion: bool
    """The ratio, the length and the posterior mass all pass; False says 'do not deblur', not 'sharp'."""
    confidence: float
    """0..1: posterior probability that the length is right within 1 px and the angle within 5 degrees, from a flat prior over the
    candidates, times 1 / (1 + exp(threshold - ratio))."""
    noise_sd: float
    """Standard deviation of the white noise in units of the [0, 1] image, rounding included; as given, or fitted."""
    length_range_px: tuple[float, float]
    """Lengths that are at most two log units less likely than the best."""
    angle_range_deg: tuple[float, float]
    """Angles that are at most two log units less likely; may go below 0 or beyond 180 so that low <= angle <= high."""
    reason: str = ""
    """Why no motion is claimed; empty where it is."""

    def kernel(self) -> Tensor:
        """(kh, kw) float64: the motion's kernel, or no blur where none is claimed."""
        return linear_motion(self.length_px, self.angle_deg) if self.is_motion else identity()


KernelEstimator = Callable[[Tensor], MotionEstimate]
"""y (H, W) or (1, H, W) in [0, 1] -> estimate: the place where another estimator can be put."""


def estimate_motion(
    y: Tensor, *, noise_sd: float | None = None, max_length_px: int = 20, level: float = 1 / 255
) -> MotionEstimate:
    """Length and angle of the straight motion that blurred an image.

    Args:
        y: (H, W) or (1, H, W) in [0, 1], at least 32 px a side; the border need not be anything special.
        noise_sd: standard deviation of the white noise before rounding, in the same units; None = fitted.
        max_length_px: longest motion to look for. Lengths beyond a third of the shorter side are not looked for.
        level: step of the stored values, 1 / 255 for 8 bits.

    Raises:
        InputError: E_SHAPE for other shapes and smaller images, E_NONFINITE, E_RANGE for a constant image,
            values far outside of [0, 1] or an impossible noise.
        ConfigError: E_CONFIG for a longest motion below 4 px or above 85 px.
    """
    search = _searched(y, noise_sd, max_length_px, level)
    best, ratio = search.best, search.top - search.no_motion
    mass = _mass_near(search)
    likely = [motion for motion, score in zip(search.grid, search.scores, strict=True) if score >= search.top - RANGE_LOG_UNITS]
    lengths = [length for length, _ in (best, *likely)]
    turns = [turned(angle, best[1]) for _, angle in (best, *likely)]
    reason = _doubt(best, ratio, mass, search.longest)
    return MotionEstimate(
        length_px=best[0],
        angle_deg=best[1],
        log_likelihood_ratio=ratio,
        is_motion=not reason,
        confidence=mass / (1 + math.exp(min(50.0, least_ratio(best[1]) - ratio))),
        noise_sd=noise_sd_of(search.spectrum, search.coefficients[0]),
        length_range_px=(min(lengths), max(lengths)),
        angle_range_deg=(best[1] + min(turns), best[1] + max(turns)),
        reason=reason,
    )


def kernel_deficit(
    y: Tensor, kernel: Tensor, *, noise_sd: float | None = None, max_length_px: int = 20, level: float = 1 / 255
) -> float:
    """How much worse a kernel explains an image than the best straight motion, disk, square or no blur: log units, >= about 0.

    A given kernel of the wrong length fits the residual and fails here. Negative where a curved kernel explains more than any
    straight one.

    Args:
        y: (H, W) or (1, H, W) in [0, 1], at least 32 px a side.
        kernel: (kh, kw), >= 0, sum 1.
        noise_sd: as for :func:`estimate_motion`, as are the others and the errors.

    Raises:
        InputError: E_KERNEL besides, for what is no kernel or is larger than a segment.
    """
    search = _searched(y, noise_sd, max_length_px, level)
    power = blur_power(check_kernel(kernel, (search.spectrum.side, search.spectrum.side)), search.spectrum.side)[None]
    starts = [
        moved_start(search.spectrum, power, search.coefficients, search.power),
        moved_start(search.spectrum, power, search.rival_coefficients, search.rival_power),
    ]
    given = max(float(fit(search.spectrum, power, start, iterations=60).score) for start in starts)
    return max(search.top, search.no_motion) - given


@dataclass(frozen=True, eq=False, kw_only=True)
class _Search:
    """What the search over straight motions found."""

    spectrum: Spectrum
    longest: int
    best: Candidate
    top: float
    """Score of the best motion."""
    no_motion: float
    """Score of the best rival: no blur, a disk or a square."""
    coefficients: Tensor
    """(1, D) of the best motion."""
    power: Tensor
    """(1, N) |K|² of the best motion."""
    rival_coefficients: Tensor
    rival_power: Tensor
    grid: list[Candidate]
    """The second fine grid, about the best; the third is too small to say how uncertain the best is."""
    scores: list[float]
    coarse_scores: list[float]
    """Of ``coarse_grid(longest)``."""


def _searched(y: Tensor, noise_sd: float | None, max_length_px: int, level: float) -> _Search:
    """Coarse to fine: all candidates roughly, the leaders well, then grids about the best of them."""
    if not 4 <= max_length_px <= 85:
        raise ConfigError(f"max_length_px must be in 4..85, got {max_length_px}", code="E_CONFIG", fix="use 20")
    image = plane(y, least=LEAST_SIDE_PX)
    if float(image.max() - image.min()) < 1e-9:
        raise InputError("the image is constant", code="E_RANGE", fix="there is nothing to estimate a motion from")
    if image.min() < -0.5 or image.max() > 1.5:
        raise InputError(
            f"the image reaches from {image.min():.3g} to {image.max():.3g}", code="E_RANGE", fix="scale it to [0, 1], linearly"
        )
    # A floor keeps the logarithm finite where an image of floats has no noise at all.
    noise = effective_noise(noise_sd or 0.0, max(level, 1e-4 / 255))
    side = min(max(SEGMENT_PX, 3 * max_length_px), *image.shape) // 2 * 2
    longest = min(max_length_px, side // 3)
    spectrum = spectrum_of(image, side, noise_variance=noise**2, noise_known=noise_sd is not None)
    no_blur = torch.ones(1, len(spectrum.power))

    soft = fit(spectrum, no_blur, iterations=60)
    candidates, powers = coarse_grid(longest), _coarse_powers(side, longest)
    rough = fit(spectrum, powers, moved_start(spectrum, powers, soft.coefficients, no_blur), iterations=3)
    leaders = rough.score.topk(min(NUM_LEADERS, len(candidates))).indices
    better = fit(spectrum, powers[leaders], rough.coefficients[leaders], iterations=12)
    chosen = int(better.score.argmax())
    best, start = candidates[int(leaders[chosen])], better.coefficients[chosen : chosen + 1]
    known = powers[leaders[chosen]][None]
    passes = []
    for length_step, turn in PASSES:  # each is centred on the best of the one before
        grid = fine_grid(best, length_step, turn, longest)
        near = _powers(grid, side)
        found = fit(spectrum, near, moved_start(spectrum, near, start, known), iterations=8)
        chosen = int(found.score.argmax())
        best, start, known = grid[chosen], found.coefficients[chosen : chosen + 1], near[chosen : chosen + 1]
        passes.append((grid, found.score.tolist()))
    # The rivals start from both ends, so that none loses by a bad start; no blur itself is one of them.
    rivals = rival_powers(side, longest)
    found_rivals = [
        fit(spectrum, rivals, moved_start(spectrum, rivals, coefficients, power), iterations=8)
        for coefficients, power in ((soft.coefficients, no_blur), (start, known))
    ]
    leading = max(found_rivals, key=lambda fitted: float(fitted.score.max()))
    first = int(leading.score.argmax())
    rival = fit(spectrum, rivals[first : first + 1], leading.coefficients[first : first + 1], iterations=30)
    return _Search(
        spectrum=spectrum,
        longest=longest,
        best=best,
        top=float(found.score[chosen]),
        no_motion=float(rival.score),
        coefficients=start,
        power=known,
        rival_coefficients=rival.coefficients,
        rival_power=rivals[first : first + 1],
        grid=passes[1][0],
        scores=passes[1][1],
        coarse_scores=rough.score.index_copy(0, leaders, better.score).tolist(),
    )


def coarse_grid(longest: int) -> tuple[Candidate, ...]:
    """All lengths 2, 3, .. longest px, at angles whose ends lie about 1.3 px apart, never more than 22.5 degrees."""
    found = []
    for length in range(2, longest + 1):
        num = _num_angles(length)
        found += [(float(length), 180 * index / num) for index in range(num)]
    return tuple(found)


def fine_grid(centre: Candidate, length_step: float, turn: float, longest: int) -> list[Candidate]:
    """7 lengths x 9 angles about a candidate; an angle's step moves the ends of the motion by ``turn`` px."""
    degrees = math.degrees(2 * turn / max(centre[0], 3.0))
    lengths = [centre[0] + length_step * step for step in range(-3, 4)]
    return [
        (length, (centre[1] + degrees * step) % 180)
        for length in lengths
        if 1.5 <= length <= longest + 1
        for step in range(-4, 5)
    ]


def turned(angle_deg: float, reference_deg: float) -> float:
    """Degrees from the reference to the angle, -90 <= turn < 90: a motion and its reverse are the same blur."""
    return (angle_deg - reference_deg + 90) % 180 - 90


def least_ratio(angle_deg: float) -> float:
    """The log likelihood ratio that a motion of this direction needs."""
    return ALIGNED_LOG_RATIO if abs((angle_deg + 45) % 90 - 45) <= ALIGNED_DEG else MOTION_LOG_RATIO


def _num_angles(length: float) -> int:
    """Angles of one length on the coarse grid: the ends of the motion move by about 1.3 px from one to the next."""
    return max(8, math.ceil(1.2 * math.pi * length / 2))


@functools.lru_cache(maxsize=4)
def _coarse_powers(side: int, longest: int) -> Tensor:
    """:func:`_powers` of the coarse grid, which is the same for every image."""
    return _powers(coarse_grid(longest), side)


def _powers(motions: Sequence[Candidate], side: int) -> Tensor:
    """(C, N) |K|² of straight motions."""
    return torch.stack([blur_power(linear_motion(*motion), side) for motion in motions])


def _mass_near(search: _Search) -> float:
    """Posterior mass within 1 px and 5 degrees of the best; fine cells near it, coarse cells beyond the fine grid."""
    length, angle = search.best
    turns = [abs(turned(a, angle)) for _, a in search.grid]
    reach_px, reach_deg = max(abs(other - length) for other, _ in search.grid), max(turns)
    # Cells are measured in px times degrees: of the fine grid 7 or fewer lengths of .5 px by 9 angles.
    top = max(search.scores)
    parts = [0.5 * reach_deg / 4 * math.exp(score - top) for score in search.scores]
    near = sum(
        part for part, (other, _), turn in zip(parts, search.grid, turns, strict=True) if abs(other - length) <= 1 and turn <= 5
    )
    far = sum(
        180 / _num_angles(other) * math.exp(min(0.0, score - top))
        for (other, a), score in zip(coarse_grid(search.longest), search.coarse_scores, strict=True)
        if abs(other - length) > reach_px or abs(turned(a, angle)) > reach_deg
    )
    return near / (sum(parts) + far)


def _doubt(best: Candidate, ratio: float, mass: float, longest: int) -> str:
    """Why not to believe in a motion; empty where all is well."""
    least = least_ratio(best[1])
    if ratio < least:
        aligned = ", for a motion along rows or columns" if least == ALIGNED_LOG_RATIO else ""
        return f"log likelihood ratio {ratio:.1f} is below {least:g}{aligned}"
    if best[0] < SHORTEST_PX:
        return f"a length of {best[0]:g} px is not told from softness"
    if best[0] > longest:
        return f"the length lies beyond the {longest} px looked for"
    if mass < LEAST_MASS:
        return f"only {mass:.0%} of the posterior lie within 1 px and 5 degrees of the best"
    return ""

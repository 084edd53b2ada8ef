"""Blind motion estimation and its gates, measured: on chest phantoms, and on a folder of sharp gray images.

    python -m benchmarks.deblur_estimate --phantoms 20 --phantom_sizes 128 256 --sharp 100
    python -m benchmarks.deblur_estimate --images FOLDER --num_images 100 --sharp 200 --harm 10
    python -m benchmarks.deblur_estimate --manifest cxr.csv --side 64 --phantoms 1 --phantom_sizes 54 --lengths --sharp 100

Images of a folder keep their size; those of a manifest are brought to a side, as a model sees them.

Every scene is blurred by a straight motion at a random angle and cropped to what the blur saw whole, so borders are unknown; then
noise is added and the result rounded to 8 bits. Phantoms are drawn without film noise: noise that moves with the patient would be a
gift to the estimator. Three tables:

- motion: share of images whose length is right within 1 px and angle within 5 degrees, share claimed, and claimed although wrong;
- sharp: how many images without motion are claimed as motion, and changed, since Wiener's filter with that motion passes the gates; as
  they are with each noise, and softened, enlarged, stretched, framed or as JPEG with the lowest; with exact (Clopper-Pearson) intervals;
- harm (``--harm N``): dB gained or lost by Wiener's filter with the right kernel, with one of a length 2 px or an angle 10 degrees
  off, and with the estimated one; on images without motion and with a curved one, too. Kept = passed the gates of ``deblur/gate.py``.

Prints a line of JSON for each image as it is done, and the tables on stderr at the end.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from benchmarks.deblur_scenes import SHARP, Plane, films_of, gray, observed, quiet_phantom
from deblur.blur import blur_periodic
from deblur.classical import wiener
from deblur.estimate import MotionEstimate, estimate_motion, kernel_deficit, turned
from deblur.gate import Verdict, kernel_gate, post_gate, pre_gate
from deblur.kernels import identity, linear_motion, random_motion
from deblur.quality import effective_noise, psnr
from deblur.spectral_prior import expected_residual
from medanomaly.rng import generator, numpy_generator

Row = dict[str, float | str | bool]


def clopper_pearson(found: int, count: int) -> tuple[float, float]:
    """Exact 95 % interval of a share (Clopper & Pearson 1934, doi:10.1093/biomet/26.4.404)."""
    low = float(stats.beta.ppf(0.025, found, count - found + 1)) if found else 0.0
    return low, float(stats.beta.ppf(0.975, found + 1, count - found)) if found < count else 1.0


def estimated(picture: Tensor, known: float | None) -> tuple[MotionEstimate, float]:
    """The estimate and its CPU seconds; ``known`` = noise in levels, where it is told."""
    started = time.process_time()
    found = estimate_motion(picture[0], noise_sd=None if known is None else known / 255)
    return found, time.process_time() - started


def restored(picture: Tensor, truth: Tensor, kernel: Tensor, noise_sd: float) -> tuple[float, Verdict]:
    """(dB gained over the picture, the post-gate's verdict) of Wiener's filter with a kernel."""
    result = wiener(picture, kernel, noise_sd)
    border = max(kernel.shape) // 2
    expected = expected_residual(picture[0, 0], kernel, noise_sd)
    again = blur_periodic(result, kernel)[0]
    verdict = post_gate(picture[0], result[0], again, noise_sd, level=0, border=border, expected_residual=expected)
    gain = psnr(result[0].clamp(0, 1), truth[0]) - psnr(picture[0], truth[0])
    return gain, verdict


def motion_rows(title: str, scenes: list[Plane], arguments: argparse.Namespace) -> Iterator[Row]:
    """One row an image, length and noise."""
    for noise in arguments.noises:
        for length in arguments.lengths:
            for index, scene in enumerate(scenes):
                random = numpy_generator(arguments.seed, "deblur-benchmark", title, noise, length, index)
                angle = float(random.uniform(0, 180))
                picture, _ = observed(scene, linear_motion(length, angle), noise, random)
                found, seconds = estimated(picture, noise if arguments.tell_noise else None)
                off, turn = found.length_px - length, turned(found.angle_deg, angle)
                row: Row = {"table": "motion", "set": title, "noise": noise, "length": length, "angle": angle, "image": index}
                row |= {"length_error": off, "angle_error": turn, "right": abs(off) <= 1 and abs(turn) <= 5}
                row |= {"claimed": found.is_motion, "ratio": found.log_likelihood_ratio, "confidence": found.confidence}
                yield row | {"noise_sd": found.noise_sd, "cpu_s": seconds}


def sharp_rows(title: str, scenes: list[Plane], arguments: argparse.Namespace) -> Iterator[Row]:
    """One row an image without motion, noise and what was done to it; all images as they are, a quarter of them otherwise."""
    lowest = min(arguments.noises)
    variants = [("as it is", noise) for noise in arguments.noises] + [(name, lowest) for name in SHARP if name != "as it is"]
    for name, noise in variants[: len(arguments.noises)] if arguments.plain else variants:
        for index, scene in enumerate(scenes if name == "as it is" else scenes[: max(1, len(scenes) // 4)]):
            key = (title, name, index) if noise == lowest else (title, name, index, noise)
            random = numpy_generator(arguments.seed, "deblur-benchmark-sharp", *key)
            # Film noise of the image itself stays.
            picture, truth = observed(SHARP[name](scene).clip(0, 1), identity(), noise, random)
            found, seconds = estimated(picture, None)
            gain, changed = 0.0, False
            if found.is_motion:
                gain, verdict = restored(picture, truth, found.kernel(), effective_noise(noise / 255))
                changed = verdict.accepted
            row: Row = {"table": "sharp", "set": title, "noise": noise, "change": name, "image": index}
            row |= {"claimed": found.is_motion, "changed": changed, "gain": gain if changed else 0.0}
            row |= {"ratio": found.log_likelihood_ratio, "length": found.length_px, "angle": found.angle_deg}
            yield row | {"confidence": found.confidence, "cpu_s": seconds}


def harm_rows(title: str, scenes: list[Plane], arguments: argparse.Namespace) -> Iterator[Row]:
    """One row an image, noise, true motion and kernel tried."""
    for noise in arguments.noises:
        for motion in ("none", "curved, 11 px", *arguments.lengths):
            for index, scene in enumerate(scenes[: arguments.harm]):
                random = numpy_generator(arguments.seed, "deblur-benchmark-harm", title, noise, motion, index)
                angle, length = float(random.uniform(0, 180)), motion if isinstance(motion, float) else 0.0
                curve = random_motion(11, generator(arguments.seed, "deblur-benchmark-curve", title, noise, index))
                truly = curve if motion == "curved, 11 px" else linear_motion(length, angle)
                picture, truth = observed(scene, truly, noise, random)
                noise_sd = effective_noise(noise / 255)
                row: Row = {"table": "harm", "set": title, "noise": noise, "motion": motion, "image": index}
                found, _ = estimated(picture, None)
                before = pre_gate(found)
                gain, after = restored(picture, truth, found.kernel(), noise_sd) if before.accepted else (0.0, before)
                yield row | {"kernel": "estimated", "gain": gain, "kept": after.accepted, **after.values}
                kernels = {"right": truly} if motion != "none" else {"10 px": linear_motion(10, angle)}
                if length:
                    kernels |= {"2 px longer": linear_motion(length + 2, angle), "2 px shorter": linear_motion(length - 2, angle)}
                    kernels |= {
                        "+10 degrees": linear_motion(length, angle + 10),
                        "-10 degrees": linear_motion(length, angle - 10),
                    }
                for name, kernel in kernels.items():
                    deficit = kernel_deficit(picture[0], kernel)
                    gain, after = restored(picture, truth, kernel, noise_sd)
                    kept = after.accepted and kernel_gate(deficit).accepted
                    yield row | {"kernel": name, "gain": gain, "kept": kept, "deficit": deficit, **after.values}


def summaries(rows: list[Row]) -> Iterator[str]:
    """The three tables, as Markdown."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        keys = {
            "motion": ("set", "noise", "length"),
            "sharp": ("set", "noise", "change"),
            "harm": ("set", "noise", "motion", "kernel"),
        }
        groups[(row["table"], *(row[key] for key in keys[str(row["table"])]))].append(row)

    def column(group: list[Row], key: str) -> Plane:
        return np.array([float(row[key]) for row in group])

    yield "\n| set | noise | length | images | right | claimed | right and claimed | claimed, wrong | median ratio | CPU s |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for key, group in groups.items():
        if key[0] == "motion":
            right, claimed = column(group, "right"), column(group, "claimed")
            cells = [*key[1:], len(group), f"{right.mean():.0%}", f"{claimed.mean():.0%}", f"{(right * claimed).mean():.0%}"]
            cells += [int(((1 - right) * claimed).sum()), f"{np.median(column(group, 'ratio')):.1f}"]
            yield f"| {' | '.join(map(str, cells))} | {column(group, 'cpu_s').mean():.2f} |"
    yield "\n| set | noise | without motion | images | claimed | changed | share changed, 95 % | worst dB | largest ratio, 3 px or more |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for key, group in groups.items():
        if key[0] == "sharp":
            largest = max((float(row["ratio"]) for row in group if float(row["length"]) >= 3), default=math.nan)
            claimed, changed = (int(column(group, name).sum()) for name in ("claimed", "changed"))
            low, high = clopper_pearson(changed, len(group))
            cells = [*key[1:], len(group), claimed, changed, f"{low:.1%} to {high:.1%}", f"{column(group, 'gain').min():+.1f}"]
            yield f"| {' | '.join(map(str, cells))} | {largest:.1f} |"
    yield "\n| set | noise | motion | kernel | images | dB mean | dB worst | kept | dB worst kept |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for key, group in groups.items():
        if key[0] == "harm":
            gain, kept = column(group, "gain"), column(group, "kept")
            cells = [*key[1:], len(group), f"{gain.mean():+.1f}", f"{gain.min():+.1f}", f"{kept.mean():.0%}"]
            yield f"| {' | '.join(map(str, cells))} | {gain[kept > 0].min(initial=0):+.1f} |"


def main() -> int:
    """Draw or read, blur, estimate, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--phantoms", type=int, default=0, help="phantoms of each size")
    parser.add_argument("--phantom_sizes", type=int, nargs="+", default=[128])
    parser.add_argument("--images", type=Path, help="folder of sharp gray images")
    parser.add_argument(
        "--num_images", type=int, default=50, help="of the folder, drawn by the seed; or of the split, spread over it"
    )
    parser.add_argument("--manifest", type=Path, help="manifest of sharp gray images")
    parser.add_argument("--split", default="test", help="of the manifest")
    parser.add_argument("--side", type=int, default=64, help="that images of the manifest are brought to, px")
    parser.add_argument("--allow_outside", action="store_true", help="the manifest may name files outside of its own folder")
    parser.add_argument("--plain", action="store_true", help="sharp images only as they are")
    parser.add_argument("--lengths", type=float, nargs="*", default=[5.0, 10.0], help="px")
    parser.add_argument("--noises", type=float, nargs="+", default=[0.5, 5.0], help="standard deviations, 8-bit levels")
    parser.add_argument("--tell_noise", action="store_true", help="tell the estimator the noise instead of fitting it")
    parser.add_argument("--sharp", type=int, default=0, help="images without motion, of each set")
    parser.add_argument("--harm", type=int, default=0, help="images to deblur, of each set")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sets: dict[str, Callable[[int], Plane]] = {}
    for size in arguments.phantom_sizes if arguments.phantoms else ():
        # A larger phantom, so that what is left after the blur has about the size asked for.
        sets[f"phantom {size}"] = functools.partial(quiet_phantom, arguments.seed, size + 10)
    if arguments.images:
        files = sorted(path for path in arguments.images.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".dcm"))
        order = numpy_generator(arguments.seed, "deblur-benchmark-files").permutation(len(files))
        sets["images"] = lambda index: gray(files[order[index % len(files)]])
    if arguments.manifest:
        most = max(arguments.num_images if arguments.lengths else 0, arguments.sharp, arguments.harm)
        films = films_of(arguments.manifest, arguments.split, most, arguments.side, allow_outside=arguments.allow_outside)
        sets[f"{arguments.split} films {arguments.side}"] = lambda index: films[index]
    rows: list[Row] = []
    for title, scene_of in sets.items():
        count = arguments.phantoms if title.startswith("phantom") else arguments.num_images
        scenes = [scene_of(index) for index in range(max(count if arguments.lengths else 0, arguments.sharp, arguments.harm))]
        for made in (
            motion_rows(title, scenes[:count], arguments),
            sharp_rows(title, scenes[: arguments.sharp], arguments) if arguments.sharp else (),
            harm_rows(title, scenes, arguments) if arguments.harm else (),
        ):
            for row in made:
                print(json.dumps(row), flush=True)
                rows.append(row)
    print("\n".join(summaries(rows)), file=sys.stderr)
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())

"""Blind motion estimation and its gates, measured: on chest phantoms, and on a folder of sharp gray images.

    python -m benchmarks.deblur_estimate --phantoms 20 --phantom_sizes 128 256 --sharp 100
    python -m benchmarks.deblur_estimate --images FOLDER --num_images 100 --sharp 200 --harm 10

Every scene is blurred by a straight motion at a random angle and cropped to what the blur saw whole, so borders are unknown; then
noise is added and the result rounded to 8 bits. Phantoms are drawn without film noise: noise that moves with the patient would be a
gift to the estimator. Three tables:

- motion: share of images whose length is right within 1 px and angle within 5 degrees, share claimed, and claimed although wrong;
- sharp: how many images without motion are claimed as motion; as they are, and softened, enlarged, stretched, framed or as JPEG;
- harm (``--harm N``): dB gained or lost by Wiener's filter with the right kernel, with one of a length 2 px or an angle 10 degrees
  off, and with the estimated one; on images without motion and with a curved one, too. Kept = passed the gates of ``deblur/gate.py``.

Prints a line of JSON for each image as it is done, and the tables on stderr at the end.
"""

from __future__ import annotations

import argparse
import functools
import io
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
from PIL import Image
from scipy import ndimage, signal
from torch import Tensor

from deblur.blur import blur_periodic
from deblur.classical import wiener
from deblur.estimate import MotionEstimate, estimate_motion, kernel_deficit, turned
from deblur.gate import Verdict, kernel_gate, post_gate, pre_gate
from deblur.kernels import identity, linear_motion, random_motion
from deblur.quality import effective_noise, psnr
from medanomaly.datasets.phantom import block_mean, draw_anatomy, draw_thorax, heart_coverage, lung_coverage
from medanomaly.io.reader import read_image
from medanomaly.rng import generator, numpy_generator

Plane = np.ndarray[Any, np.dtype[np.float64]]
Row = dict[str, float | str | bool]


def quiet_phantom(seed: int, size: int, patient: int) -> Plane:
    """(size, size) in [0, 1]: a healthy chest as :mod:`medanomaly.datasets.phantom` draws it, without film noise or rounding."""
    anatomy = draw_anatomy(numpy_generator(seed, "deblur-anatomy", patient))
    grid = (np.arange(4 * size) + 0.5) / (4 * size) - 0.5
    rows, columns = np.meshgrid(grid, grid, indexing="ij")
    turn = numpy_generator(seed, "deblur-turn", patient).uniform(-0.04, 0.04)
    y, x = np.cos(turn) * rows - np.sin(turn) * columns, np.sin(turn) * rows + np.cos(turn) * columns
    lungs = [lung_coverage(x, y, anatomy, side, 0.0) * (1 - heart_coverage(x, y, anatomy)) for side in (0, 1)]
    return block_mean(ndimage.gaussian_filter(draw_thorax(x, y, anatomy, lungs), 2.0))


def gray(path: Path) -> Plane:
    """(H, W) in [0, 1] of a gray image file."""
    raw = read_image(path)
    low, high = raw.value_range or (float(raw.pixels.min()), float(raw.pixels.max()))
    return np.asarray((raw.pixels[0].astype(np.float64) - low) / (high - low))


def observed(scene: Plane, kernel: Tensor, noise: float, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(picture, truth) both (1, 1, H, W) in [0, 1]: blurred where the blur sees everything, noise in levels, 8 bits."""
    taps = kernel.numpy()
    seen = signal.fftconvolve(scene, taps, mode="valid")
    down, right = taps.shape[0] // 2, taps.shape[1] // 2
    truth = scene[down : down + seen.shape[0], right : right + seen.shape[1]]
    picture = np.clip(np.rint(255 * seen + noise * random.normal(size=seen.shape)), 0, 255) / 255
    return torch.from_numpy(picture)[None, None], torch.from_numpy(truth.copy())[None, None]


def as_jpeg(scene: Plane) -> Plane:
    """The scene after JPEG of quality 85."""
    memory = io.BytesIO()
    Image.fromarray(np.rint(255 * scene.clip(0, 1)).astype(np.uint8)).save(memory, "JPEG", quality=85)
    return np.asarray(Image.open(memory), dtype=np.float64) / 255


def framed(scene: Plane) -> Plane:
    """The scene inside a black collimator frame that is turned by 5 degrees, with a white marker."""
    frame = np.zeros_like(scene)
    rows, columns = scene.shape
    frame[rows // 10 : -rows // 10, columns // 8 : -columns // 8] = 1
    frame = ndimage.rotate(frame, 5, reshape=False, order=1)
    lit = scene * frame
    lit[rows // 8 : rows // 8 + 6, columns // 5 : columns // 5 + 3] = 1
    return np.asarray(lit)


SHARP: dict[str, Callable[[Plane], Plane]] = {
    "as it is": lambda scene: scene,
    "Gaussian 0.7 px": lambda scene: ndimage.gaussian_filter(scene, 0.7),
    "Gaussian 1.5 px": lambda scene: ndimage.gaussian_filter(scene, 1.5),
    "Gaussian 1.4 x 1 px": lambda scene: ndimage.gaussian_filter(scene, (1.4, 1.0)),
    "enlarged 1.6 times": lambda scene: ndimage.zoom(scene, 1.6, order=3),
    "rows stretched 1.3 times": lambda scene: ndimage.zoom(scene, (1.3, 1), order=3),
    "turned frame, marker": framed,
    "JPEG 85": as_jpeg,
}
"""Images without motion, and what else may look like it."""


def estimated(picture: Tensor, known: float | None) -> tuple[MotionEstimate, float]:
    """The estimate and its CPU seconds; ``known`` = noise in levels, where it is told."""
    started = time.process_time()
    found = estimate_motion(picture[0], noise_sd=None if known is None else known / 255)
    return found, time.process_time() - started


def restored(picture: Tensor, truth: Tensor, kernel: Tensor, noise_sd: float) -> tuple[float, Verdict]:
    """(dB gained over the picture, the post-gate's verdict) of Wiener's filter with a kernel."""
    result = wiener(picture, kernel, noise_sd)
    border = max(kernel.shape) // 2
    verdict = post_gate(picture[0], result[0], blur_periodic(result, kernel)[0], noise_sd, level=0, border=border)
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
    """One row an image without motion and what was done to it; all images as they are, a quarter of them otherwise."""
    for name, change in SHARP.items():
        for index, scene in enumerate(scenes if name == "as it is" else scenes[: max(1, len(scenes) // 4)]):
            random = numpy_generator(arguments.seed, "deblur-benchmark-sharp", title, name, index)
            # Film noise of the image itself stays; of the two noises the lower one is harder.
            picture, _ = observed(change(scene).clip(0, 1), identity(), min(arguments.noises), random)
            found, seconds = estimated(picture, None)
            row: Row = {"table": "sharp", "set": title, "change": name, "image": index, "claimed": found.is_motion}
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
        keys = {"motion": ("set", "noise", "length"), "sharp": ("set", "change"), "harm": ("set", "noise", "motion", "kernel")}
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
    yield "\n| set | without motion | images | claimed | largest ratio at 3 px or more |\n|---|---|---|---|---|"
    for key, group in groups.items():
        if key[0] == "sharp":
            largest = max((float(row["ratio"]) for row in group if float(row["length"]) >= 3), default=math.nan)
            yield f"| {key[1]} | {key[2]} | {len(group)} | {int(column(group, 'claimed').sum())} | {largest:.1f} |"
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
    parser.add_argument("--num_images", type=int, default=50, help="of the folder, drawn by the seed")
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
    rows: list[Row] = []
    for title, scene_of in sets.items():
        count = arguments.num_images if title == "images" else arguments.phantoms
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

"""medanomaly animate: a GIF of one image on its way up the noise levels and down again, with the map forming."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from medanomaly.cli.device import choose_device
from medanomaly.cli.evaluate import resolve_checkpoint
from medanomaly.cli.localize import SCALE_OVER_THRESHOLD, chosen_threshold
from medanomaly.cli.methods import ALL_METHODS
from medanomaly.cli.output import refuse_existing
from medanomaly.cli.parsing import run_function
from medanomaly.cli.sampler_option import sampler_given
from medanomaly.datasets.transforms import to_model
from medanomaly.errors import ConfigError
from medanomaly.files import atomic_write
from medanomaly.io.dicom_burned_in import UNCHECKED, burned_in_of, refusal
from medanomaly.io.options import ReadOptions
from medanomaly.io.reader import read_image
from medanomaly.methods.experiment import load_trained
from medanomaly.methods.speeds import Speed
from medanomaly.scoring.maps import difference_map
from medanomaly.views.animation import MAX_BYTES, WalkRecorder, walk_gif
from medanomaly.views.shown import map_unit


def animate(
    checkpoint: Path,
    image: Path,
    out: Path,
    speed: Speed | None = None,
    noise_level: int | None = None,
    num_steps: int | None = None,
    guidance_scale: float | None = None,
    max_bytes: int = MAX_BYTES,
    allow_color: bool = False,
    frame: int | None = None,
    burned_in: Literal["skip", "keep"] = "skip",
    overwrite: bool = False,
    device: str = "auto",
) -> int:
    """Write a GIF: x_t, the predicted clean image and its difference to the input at each level, then the result.

    All frames have one scale: images from -1 to 1, maps from 0 to four times the checkpoint's threshold, where it has one for these
    settings, else to the largest value of the finished map.

    Args:
        checkpoint: model.safetensors, its folder, or the name of shipped weights
        image: the image (DICOM, PNG, JPEG, TIFF, NIfTI, npy)
        out: the GIF
        speed: exact (every level), fast (40 network evaluations an image) or screening (25); replaces the checkpoint's steps
        noise_level: replaces the checkpoint's
        num_steps: replaces the checkpoint's; more steps are more frames
        guidance_scale: replaces the checkpoint's g
        max_bytes: frames are left out evenly where the file would be larger
        allow_color: turn a colour image into luma for a gray model
        frame: which frame of a file that holds several
        burned_in: a DICOM image that says that text is burned into its pixels: skip (refused), or keep once somebody has looked
        overwrite: replace an earlier GIF
        device: auto, cpu, cuda, ...
    """
    if max_bytes < 1:
        raise ConfigError(f"max_bytes must be at least 1, got {max_bytes}", code="E_CONFIG")
    if out.suffix.lower() != ".gif":
        raise ConfigError("does not end with .gif", code="E_CONFIG", path=out, fix="name the output image.gif")
    where = choose_device(device)
    refuse_existing(out, overwrite=overwrite)
    changed = sampler_given(speed=speed, num_steps=num_steps, noise_level=noise_level, guidance_scale=guidance_scale)
    trained = load_trained(resolve_checkpoint(checkpoint), ALL_METHODS, where, sampler=changed)
    channels = trained.experiment.preprocess.channels
    raw = read_image(image, ReadOptions(channels=channels, allow_color=allow_color, frame=frame))
    text_in_pixels = burned_in_of(image)
    if text_in_pixels == "YES" and burned_in == "skip":
        raise refusal("--burned-in keep once somebody has looked", image)
    x, _ = to_model(raw, trained.experiment.preprocess)
    recorder = WalkRecorder()
    result = trained.method.localize(x[None].to(where), recorder)
    if not recorder.steps or result.pseudo_healthy is None:
        title = trained.experiment.method.title
        raise ConfigError(
            f"{title} does not walk between noise levels", code="E_METHOD", path=checkpoint, fix="use another method"
        )
    change = trained.experiment.method.map.change
    anomaly_map = result.anomaly_map[0, 0].cpu().numpy()
    threshold, _ = chosen_threshold(trained.operating_points, "auto", None)
    content = walk_gif(
        x.numpy(),
        recorder.steps,
        final_map=anomaly_map,
        pseudo_healthy=result.pseudo_healthy[0].cpu().numpy(),
        scale_max=SCALE_OVER_THRESHOLD * threshold if threshold else max(float(np.max(anomaly_map)), 1e-6),
        unit=map_unit(trained.experiment.method.map.unit, channels),
        # As the method compares images: a map may count one sign of change alone.
        forming=lambda x_0: difference_map(x[None], torch.from_numpy(x_0)[None], change)[0, 0].numpy(),
        max_bytes=max_bytes,
    )
    with atomic_write(out) as stream:
        stream.write(content)
    if text_in_pixels == "":
        print(f"note: {UNCHECKED}")
    print(f"wrote {out} ({len(recorder.steps)} levels, {len(content) / 1e6:.2f} MB). Not for diagnosis.")
    return 0


def main(arguments: Sequence[str]) -> int:
    """``medanomaly animate CHECKPOINT IMAGE OUT.gif``."""
    return run_function(animate, "medanomaly animate", "CHECKPOINT IMAGE OUT.gif [options]", arguments)

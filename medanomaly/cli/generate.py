"""medanomaly generate: images from a diffusion model, of no class, by class name, or guided by a classifier."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from medanomaly.cli.device import choose_device
from medanomaly.cli.evaluate import resolve_checkpoint
from medanomaly.cli.guiding import conditioned, guidance_of, guiding_classifier, labels_of
from medanomaly.cli.live import live_view, with_address
from medanomaly.cli.output import make_folder, refuse_existing
from medanomaly.cli.parsing import run_function
from medanomaly.config import to_dict
from medanomaly.errors import ConfigError
from medanomaly.evaluation.run_record import begin_run, command_text, data_facts, end_run
from medanomaly.files import atomic_write, sha256_of
from medanomaly.generation.config import SamplerName, SamplingConfig, SpacingName, ThresholdName, VarianceName
from medanomaly.generation.drawing import draw_images
from medanomaly.generation.folder import (
    GIF,
    GRID,
    IMAGES,
    MANIFEST,
    NULL_NAME,
    SAMPLES,
    remove_earlier,
    write_batch,
    write_collection,
)
from medanomaly.generation.guides import refuse_other_images
from medanomaly.generation.labels import Label, text_of
from medanomaly.methods.diffusion_model import load_diffusion_model
from medanomaly.training.log import environment, write_status
from medanomaly.types import WalkObserver
from medanomaly.views.live import LiveView
from medanomaly.views.live_reverse import watch_reverse
from medanomaly.views.reverse_gif import MOST_ROWS, ReverseRecorder, reverse_gif


def generate(
    model: Path,
    out: Path,
    num_images: int = 64,
    label: str | None = None,
    unconditional: bool = False,
    guidance_scale: float | None = None,
    classifier: Path | None = None,
    classifier_scale: float = 1.0,
    sampler: SamplerName = "dpm-solver++",
    num_steps: int | None = None,
    eta: float | None = None,
    variance: VarianceName = "auto",
    spacing: SpacingName = "auto",
    threshold: ThresholdName = "static",
    seed: int = 0,
    batch_size: int = 16,
    gif: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    visdom: str | None = None,
    quiet: bool = False,
) -> int:
    """Draw images from noise. Without --label each class of the model or the classifier has its turn; a model without any draws freely.

    OUT gets images/, samples.npz (what `medanomaly evaluate-samples` reads), manifest.csv, grid.png, run.json, config.json, status.json.
    Image i depends on the seed and on i, not on its batch or the number of images, and starts from the same noise for every label.

    Args:
        model: diffusion model or cfg_diffusion checkpoint: model.safetensors, its folder, or the name of shipped weights
        out: folder to write to
        num_images: how many, over all labels
        label: class by name; 'Edema,Cardiomegaly' asks a multi-label classifier for both at once
        unconditional: draw from the null class of a model that has classes: images of all of them as they come
        guidance_scale: g of classifier-free guidance: 0 none, 1 the class alone, 3 by default; with a classifier: the model is told no
            class unless this is given
        classifier: checkpoint of a classifier of noisy images, of the model's size, channels and noise schedule
        classifier_scale: s of the classifier's gradient
        sampler: ddpm (ancestral), ddim or dpm-solver++
        num_steps: network evaluations an image, twice as many with classifier-free guidance; default: every level, 100, or 20
        eta: of ddim and dpm-solver++, 0..1: how much is drawn on the way; default: 0 for ddim, 1 for dpm-solver++
        variance: of ddpm: learned, posterior, beta; auto = learned where the model has one
        spacing: of the levels: uniform, log_snr, karras or power; auto = log_snr for dpm-solver++, else uniform
        threshold: of the predicted clean image: static (clamped to the range), dynamic (scaled by a quantile) or none
        seed: of all noise
        batch_size: images a forward pass
        gif: write reverse.gif too: a few images of the first labels as they form
        overwrite: replace earlier images in OUT
        device: auto, cpu, cuda, ...
        visdom: show the images as they form at this address, e.g. http://127.0.0.1:8097, where `medanomaly live` listens
        quiet: no progress bar
    """
    typed = dict(locals())
    for name, value, least in (("num_images", num_images, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}", code="E_CONFIG")
    if guidance_scale is not None and not 0 <= guidance_scale <= 50:
        raise ConfigError(f"guidance_scale must be in 0..50, got {guidance_scale}", code="E_CONFIG")
    config = SamplingConfig(
        sampler=sampler, num_steps=num_steps, eta=eta, variance=variance, spacing=spacing, threshold=threshold
    )
    where = choose_device(device)
    for name in (SAMPLES, IMAGES, MANIFEST, GRID):
        refuse_existing(out / name, overwrite=overwrite)
    weights = resolve_checkpoint(model)
    loaded = load_diffusion_model(weights, where)
    guiding = None if classifier is None else guiding_classifier(classifier, where)
    size, channels = loaded.experiment.preprocess.image_size, loaded.experiment.preprocess.channels
    if guiding is not None:
        facts: dict[str, Any] = {"image_size": size, "channels": channels, "schedule": loaded.schedule}
        refuse_other_images(guiding.classifier, **facts, scale=classifier_scale)
    config = config.resolved(loaded.schedule, has_variance=loaded.denoiser.config.learn_sigma)
    labels = labels_of(loaded, guiding.classifier if guiding else None, label, num_images, unconditional=unconditional)
    model_of = conditioned(
        loaded, guiding.classifier if guiding else None, guidance_scale=guidance_scale, classifier_scale=classifier_scale
    )
    for asked in dict.fromkeys(labels):
        model_of(asked)
    make_folder(out)
    remove_earlier(out)
    write_status(out, "running")
    begin_run(
        out,
        "generate",
        command=command_text("generate", generate, typed),
        config=loaded.experiment.to_dict(),
        data=data_facts([], is_manifest=False),
        seed=seed,
        device=where,
        environment=environment(),
        weights_sha256=sha256_of(weights / "model.safetensors" if weights.is_dir() else weights),
        classifier_sha256=guiding.sha256 if guiding else None,
        settings=to_dict(config)
        | {
            "guidance_scale": guidance_of(labels, guidance_scale, has_guide=guiding is not None),
            "classifier_scale": classifier_scale if guiding else None,
            "num_images": num_images,
            "labels": sorted({text_of(asked) for asked in labels}),
        },
    )
    levels = config.levels(loaded.schedule)
    recorders: dict[Label, ReverseRecorder] = {}
    batches, records = [], []
    with (
        live_view(visdom) as view,
        tqdm(total=num_images * (len(levels) - 1), unit="step", desc="generating", disable=quiet, file=sys.stderr) as bar,
    ):

        def watch(asked: Label, indices: Sequence[int]) -> WalkObserver:
            observers: list[WalkObserver] = [lambda _level, _x_t, _x_0: bar.update(len(indices)) and None]
            if gif and asked not in recorders and len(recorders) < MOST_ROWS:
                recorders[asked] = ReverseRecorder(len(levels) - 1)
                observers.append(recorders[asked])
            observers += [] if view is None else [watch_batch(view, asked)]
            return joined(observers)

        for drawn in draw_images(
            model_of,
            labels,
            (channels, size, size),
            loaded.schedule,
            config,
            seed=seed,
            batch_size=batch_size,
            device=where,
            watch=watch,
        ):
            batches.append(drawn)
            records += write_batch(out, drawn)
    described = f"{loaded.experiment.name}: {config.sampler}, {config.num_steps} steps, seed {seed}"
    write_collection(out, batches, records, title=described)
    if gif:
        rows = [(text_of(asked) or NULL_NAME, recorder.steps) for asked, recorder in recorders.items()]
        with atomic_write(out / GIF) as stream:
            stream.write(reverse_gif(rows, title=described))
    end_run(out)
    write_status(out, "done", num_images=num_images)
    written = ", ".join([f"{IMAGES}/", SAMPLES, MANIFEST, GRID, *([GIF] if gif else [])])
    print(f"{num_images} images by {described}\nwrote {out} ({written}). Of no patient; not for diagnosis.")
    return 0


def watch_batch(view: LiveView, label: Label) -> WalkObserver:
    """The live view of one batch."""
    return watch_reverse(view, text_of(label) or NULL_NAME)


def joined(observers: Sequence[WalkObserver]) -> WalkObserver:
    """All of them as one."""

    def observe(level: int, x_t: Any, x_0: Any) -> None:
        for observer in observers:
            observer(level, x_t, x_0)

    return observe


def main(arguments: Sequence[str]) -> int:
    """``medanomaly generate MODEL OUT``."""
    return run_function(generate, "medanomaly generate", "MODEL OUT [options]", with_address(arguments))

"""What blur costs a localizer, and what deblurring gives back: the same checkpoint and thresholds on sharp, blurred and deblurred images.

    medanomaly data phantom runs/phantom-test --num-patients 120 --seed 1 --fractions '[0,0.3,0.7]'
    python -m benchmarks.deblur_localization phantom64-cfg runs/phantom-test/manifest.csv deblur-phantom --prior phantom64-cfg

Every test image is blurred at the model's side by a straight motion at a random angle, its border continued outwards, made noisy and
rounded to 8 bits; then it is deblurred by total variation and by DiffPIR, once with the right kernel and without gates, once with the
kernel estimated and the gates on. Thresholds are chosen once, on the sharp val images: the detector does not know that anything happened.
Intervals are 95 % bootstraps over patients; differences are of each image's Dice to the blurred image's. Images that localizer or prior
have seen are refused. A CFG checkpoint may serve as the prior by its null class, also the localizer's own. Writes table.md and
results.json. Counts as a test evaluation of the localizer's weights.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import signal
from torch import Tensor
from tqdm import tqdm

from benchmarks.ablate_map import per_image
from benchmarks.deblur import gated
from benchmarks.deblur_cases import STEP, Case, solved
from deblur.diffpir import DiffPirConfig, to_model
from deblur.kernel_spec import KernelSpec
from deblur.kernels import linear_motion
from deblur.policy import plan
from deblur.quality import psnr
from deblur.restore import START_LEVEL, ZETA, Restorer, load_restorer
from medanomaly.cli.deblur import named
from medanomaly.cli.device import choose_device
from medanomaly.cli.evaluate import SHIPPED, refuse_seen, resolve_checkpoint, samples_of
from medanomaly.cli.methods import ALL_METHODS
from medanomaly.cli.output import make_folder
from medanomaly.datasets.dataset import ManifestDataset
from medanomaly.datasets.manifest import Record, manifest_fingerprint, read_manifest
from medanomaly.datasets.seen import refuse_seen as refuse_seen_by_prior
from medanomaly.errors import ConfigError, InputError
from medanomaly.evaluation.measure import MeasureConfig
from medanomaly.evaluation.study import MethodStudy, study
from medanomaly.evaluation.tables import as_markdown, cell
from medanomaly.evaluation.times_tested import count_text, record_test_evaluation
from medanomaly.files import atomic_write, sha256_of, write_json
from medanomaly.methods.experiment import load_trained
from medanomaly.metrics.bootstrap import patient_bootstrap
from medanomaly.rng import numpy_generator
from medanomaly.training.log import environment
from medanomaly.types import Sample

METRICS = ("pixel AP", "pixel AUROC", "Dice @ val-Dice threshold", "image AUROC")
DIFFERENCE = "Dice - blurred"


def blurred_case(record: Record, sample: Sample, length: float, noise: float, seed: int) -> Case:
    """The model's image blurred at its full size, its border continued outwards, noisy and of 8 bits."""
    random = numpy_generator(seed, "deblur-localization", record.id, length, noise)
    angle = float(random.uniform(0, 180))
    taps = linear_motion(length, angle).numpy()
    truth = (sample.x[0].double().numpy() + 1) / 2
    margins = [(side // 2, side // 2) for side in taps.shape]
    seen = signal.fftconvolve(np.pad(truth, margins, mode="edge"), taps, mode="valid")
    stored = np.clip(np.rint(255 * seen + noise * random.normal(size=seen.shape)), 0, 255)
    y, x = (torch.from_numpy(values)[None].float() for values in (stored / 255, truth))
    return Case(record=record, y=y, truth=x, length=length, angle=angle, noise=noise)


def conditions(
    cases: Sequence[Case], restorers: Mapping[str, Restorer], batch_size: int, device: torch.device
) -> Iterator[tuple[str, list[Tensor], float]]:
    """(name, (1, S, S) images in [0, 1], share of images that were changed) of each way the localizer is asked."""
    yield "blurred", [case.y for case in cases], 0.0
    right = [linear_motion(case.length, case.angle) for case in cases]
    plans = [plan(case.y, KernelSpec(kind="estimated"), step=STEP) for case in cases]
    tried = [index for index, made in enumerate(plans) if made.verdict.accepted]
    for name, restorer in restorers.items():
        known = solved(restorer.restore, cases, right, batch_size, restorer.size_multiple, device)
        yield f"{name}, kernel known", known, 1.0
        kernels = [plans[index].kernel for index in tried]
        found = solved(restorer.restore, [cases[i] for i in tried], kernels, batch_size, restorer.size_multiple, device)
        images = [case.y for case in cases]
        for index, restored in zip(tried, found, strict=True):
            images[index] = gated(cases[index], plans[index], restored)
        changed = sum(image is not case.y for image, case in zip(images, cases, strict=True)) / len(cases)
        yield f"{name}, kernel estimated", images, changed


def numbers(found: MethodStudy, healthy: str, against: MethodStudy | None, num_resamples: int) -> dict[str, Any]:
    """The metrics of a condition with their intervals, and the difference in Dice to the blurred images'."""
    made: dict[str, Any] = {row.name: asdict(row.interval) for row in found.rows if row.name in METRICS}
    if against is not None:
        dice, _, patients = per_image(found, healthy)
        before, _, _ = per_image(against, healthy)
        gain = dice - before
        made[DIFFERENCE] = asdict(
            patient_bootstrap(lambda index: float(gain[index].mean()), patients, num_resamples=num_resamples)
        )
    return made


def fidelity(images: Sequence[Tensor], cases: Sequence[Case], num_resamples: int) -> dict[str, Any]:
    """PSNR in dB of the images against the sharp ones, clamped, with its interval."""
    values = np.array([psnr(image.clamp(0, 1), case.truth) for image, case in zip(images, cases, strict=True)])
    patients = [case.record.patient_id for case in cases]
    return asdict(patient_bootstrap(lambda index: float(values[index].mean()), patients, num_resamples=num_resamples))


def written(out: Path, rows: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any], notes: Sequence[str]) -> str:
    """Write table.md and results.json; returns the table."""
    columns = ["PSNR", *METRICS, DIFFERENCE]
    cells = [[name, *(cell(row.get(column)) for column in columns), f"{row['changed']:.0%}"] for name, row in rows.items()]
    text = as_markdown(["images", *columns, "changed"], cells, notes)
    with atomic_write(out / "table.md") as stream:
        stream.write(text.encode())
    write_json(out / "results.json", {"settings": dict(facts), "conditions": rows})
    return text


def main(words: Sequence[str] | None = None) -> int:
    """Blur, deblur, localize, measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="of a localizer, or the name of shipped weights")
    parser.add_argument("manifest", type=Path, help="with masks, test rows, and val rows for the threshold")
    parser.add_argument("out", type=Path)
    parser.add_argument("--prior", default="", help="of DiffPIR, or shipped weights by name; empty = total variation only")
    parser.add_argument("--length", type=float, default=10.0, help="of the motion, px at the model's side")
    parser.add_argument("--noise", type=float, default=0.5, help="standard deviation, 8-bit levels")
    parser.add_argument("--steps", type=int, default=20, help="of DiffPIR")
    parser.add_argument("--start_level", type=int, default=START_LEVEL, help="of DiffPIR; 1000 as published")
    parser.add_argument("--zeta", type=float, default=ZETA, help="of DiffPIR, share of fresh noise; 0.3 as published")
    parser.add_argument("--max_images", type=int, default=0, help="of the test split; 0 = all")
    parser.add_argument("--max_val_images", type=int, default=0)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--num_resamples", type=int, default=1000)
    parser.add_argument("--allow_outside", action="store_true", help="the manifest may name files outside of its own folder")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    make_folder(options.out)
    device = choose_device(options.device)
    weights = resolve_checkpoint(options.checkpoint)
    trained = load_trained(weights, ALL_METHODS, device)
    if trained.experiment.preprocess.channels != 1:
        raise ConfigError("deblurring is for gray images", code="E_CHANNELS", path=weights, fix="use a gray localizer")
    records = read_manifest(options.manifest, allow_outside=options.allow_outside)
    test = samples_of(records, "test", trained, options.max_images)
    validation = samples_of(records, "val", trained, options.max_val_images)
    if not len(test) or not len(validation):
        raise InputError("needs test and val rows", code="E_SPLIT", path=options.manifest, fix="fill the split column")
    refuse_seen(test.records, trained, options.manifest)
    config = DiffPirConfig(num_steps=options.steps, t_start=options.start_level, zeta=options.zeta)
    names = {"TV": "tv", **({f"DiffPIR-{options.steps}": named(options.prior)} if options.prior else {})}
    restorers = {name: load_restorer(solver, device, config=config, seed=options.seed) for name, solver in names.items()}
    if options.prior:
        refuse_seen_by_prior(Path(named(options.prior)), test.records, what="the prior", data=options.manifest)
    healthy = trained.experiment.method.target
    measure = MeasureConfig(num_resamples=options.num_resamples, regions=False)

    def studied(name: str, samples: Sequence[Sample], checked: ManifestDataset | tuple[()], points: Any = ()) -> MethodStudy:
        return study(
            name,
            trained.method,
            test=samples,
            validation=checked,  # type: ignore[arg-type]
            healthy=healthy,
            points=points,
            config=measure,
            batch_size=options.batch_size,
            device=device,
        )

    samples = [test[index] for index in range(len(test))]
    sharp = studied("sharp", samples, validation)
    rows = {"sharp": numbers(sharp, healthy, None, options.num_resamples) | {"changed": 0.0}}
    cases = [blurred_case(r, s, options.length, options.noise, options.seed) for r, s in zip(test.records, samples, strict=True)]
    blurred: MethodStudy | None = None
    for name, images, changed in tqdm(
        conditions(cases, restorers, options.batch_size, device), unit="condition", file=sys.stderr
    ):
        seen = [replace(sample, x=to_model(image.clamp(0, 1))) for sample, image in zip(samples, images, strict=True)]
        found = studied(name, seen, (), sharp.points)
        rows[name] = numbers(found, healthy, blurred, options.num_resamples) | {"changed": changed}
        rows[name]["PSNR"] = fidelity(images, cases, options.num_resamples)
        blurred = found if blurred is None else blurred
    fingerprint = manifest_fingerprint(records)
    counted = record_test_evaluation(weights, options.out, manifest_sha256=fingerprint, num_images=len(test), shipped=SHIPPED)
    file = weights / "model.safetensors" if weights.is_dir() else weights
    facts = {
        key: value for key, value in vars(options).items() if key not in ("checkpoint", "manifest", "out", "prior", "device")
    }
    facts |= {"weights_sha256": sha256_of(file), "manifest_sha256": fingerprint, "environment": environment()}
    facts |= {"solvers": {name: dict(one.identity) for name, one in restorers.items()}, "num_images": len(test)}
    notes = [
        f"{len(test)} test images; motion of {options.length:g} px, noise {options.noise:g} gray levels, seed {options.seed}.",
        "Thresholds chosen on sharp val images. 95 % percentile bootstraps over patients.",
        count_text(counted),
    ]
    print(written(options.out, rows, facts, notes))
    return 0


if __name__ == "__main__":
    sys.exit(main())

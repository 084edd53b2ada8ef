"""What each option of the map is worth: one checkpoint, one test set, one change at a time against the plain map.

    python benchmarks/ablate_map.py phantom64-cfg demo-output/phantoms/manifest.csv ablation

Base is the checkpoint's sampler at its one noise level, with its filters and image score, no calibration and nothing subtracted.
Every other row changes one thing. Half of the healthy val images make the calibration of the z row; all rows choose their thresholds on
the rest of val, so they stand on the same images. Dice is the mean over test images with a lesion at the threshold that is best on
val. Intervals are 95 % bootstraps over patients. p-values are sign-flip permutations over patients of the difference to base image by
image, once for Dice and once for the image's own average precision, each Holm-corrected over the rows. Writes table.md and
ablation.json. The rows are read together with how many there are: the best of seven on one test set is not a setting to report as chosen.
Each row counts as a test evaluation of these weights, in the same test_evaluations.jsonl that `medanomaly evaluate` keeps.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from medanomaly.cli.device import choose_device
from medanomaly.cli.evaluate import SHIPPED, refuse_seen, resolve_checkpoint
from medanomaly.cli.methods import ALL_METHODS
from medanomaly.config import to_dict
from medanomaly.datasets.dataset import ManifestDataset
from medanomaly.datasets.manifest import Record, manifest_fingerprint, read_manifest
from medanomaly.datasets.splits import spread
from medanomaly.errors import ConfigError, InputError
from medanomaly.evaluation.calibrate import healthy_calibration
from medanomaly.evaluation.cost import cost
from medanomaly.evaluation.measure import MeasureConfig
from medanomaly.evaluation.predict import with_truth
from medanomaly.evaluation.study import MethodStudy, refuse_different_images, study
from medanomaly.evaluation.tables import as_markdown, cell
from medanomaly.evaluation.times_tested import count_text, record_test_evaluation
from medanomaly.files import atomic_write, sha256_of, write_json
from medanomaly.methods.cfg_diffusion import CfgDiffusion
from medanomaly.methods.experiment import load_trained
from medanomaly.metrics.bootstrap import holm_correction, paired_permutation_test
from medanomaly.metrics.pixel import dice_per_image, pixel_average_precision
from medanomaly.scoring.calibration import HealthyCalibration
from medanomaly.training.log import environment
from medanomaly.types import Sample

METRICS = ("pixel AP", "pixel AUROC", "Dice @ val-Dice threshold")
LEVEL_SHARES = (0.7, 1.0, 1.3)
"""Levels of the multi-level mean, as shares of the checkpoint's."""
INTERVAL_SHARES = (0.2, 0.8)
"""Guidance interval, as shares of the noise level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One variant against base."""

    name: str
    study: MethodStudy
    evaluations: int
    """Forward passes an image."""
    dice_p: float
    """Of the difference in Dice; NaN for base."""
    precision_p: float
    """Of the difference in the images' own average precision."""
    dice_p_holm: float
    precision_p_holm: float


def plain(method: CfgDiffusion) -> CfgDiffusion:
    """The base row: one level, no calibration, nothing subtracted, guidance everywhere and unclipped; filters stay."""
    sampler = replace(method.config.sampler, noise_levels=None, guidance_interval=None, dynamic_threshold=None)
    return method.variant(sampler=sampler, map_config=replace(method.config.map, healthy_z=False, subtract_round_trip=False))


def variants(base: CfgDiffusion, calibration: HealthyCalibration) -> dict[str, CfgDiffusion]:
    """Base and, by what is changed, everything else."""
    sampler, settings = base.config.sampler, base.config.map
    level = sampler.noise_level
    levels = sorted({min(max(round(share * level), 1), base.schedule.num_levels) for share in LEVEL_SHARES})
    low, high = (round(share * level) for share in INTERVAL_SHARES)
    return {
        "base": base,
        "healthy z-map": base.variant(map_config=replace(settings, healthy_z=True), calibration=calibration),
        "null round trip subtracted": base.variant(map_config=replace(settings, subtract_round_trip=True)),
        f"mean of levels {', '.join(map(str, levels))}": base.variant(sampler=replace(sampler, noise_levels=tuple(levels))),
        f"guidance in levels {low} to {high}": base.variant(sampler=replace(sampler, guidance_interval=(low, high))),
        "dynamic thresholding 0.995": base.variant(sampler=replace(sampler, dynamic_threshold=0.995)),
        **(
            {"no median": base.variant(map_config=replace(settings, median_px=0))}
            if settings.median_px
            else {"5 x 5 median": base.variant(map_config=replace(settings, median_px=5))}
        ),
    }


def per_image(found: MethodStudy, healthy: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], list[str]]:
    """(Dice, average precision, patient) of each test image with a lesion, in the order of the samples."""
    point = found.pixel_threshold()
    if point is None:
        raise InputError("no threshold could be chosen on val", code="E_SPLIT", fix="add healthy or annotated val images")
    lesioned = [(p, truth) for p, truth in with_truth(found.predictions, healthy) if truth.any()]
    maps, truths = [p.anomaly_map for p, _ in lesioned], [truth for _, truth in lesioned]
    precision = np.array([pixel_average_precision([one], [truth]) for one, truth in zip(maps, truths, strict=True)])
    return dice_per_image(maps, truths, point.value), precision, [p.patient_id for p, _ in lesioned]


def compared(studies: Sequence[MethodStudy], evaluations: Sequence[int], healthy: str) -> list[Row]:
    """Rows with their p-values against the first; Holm over the others."""
    refuse_different_images(studies)
    dice, precision, patients = zip(*(per_image(one, healthy) for one in studies), strict=True)
    p_values = [
        [paired_permutation_test(values, of_all[0], patients[0]).p_value for values in of_all[1:]] for of_all in (dice, precision)
    ]
    nan = math.nan
    raw = [[nan, *values] for values in p_values]
    adjusted = [[nan, *holm_correction(values).tolist()] for values in p_values]
    return [
        Row(
            name=one.name,
            study=one,
            evaluations=evaluations[index],
            dice_p=raw[0][index],
            precision_p=raw[1][index],
            dice_p_holm=adjusted[0][index],
            precision_p_holm=adjusted[1][index],
        )
        for index, one in enumerate(studies)
    ]


def numbers(row: Row) -> dict[str, Any]:
    """JSON content of a row."""
    content = row.study.to_dict()
    names = ("evaluations", "dice_p", "precision_p", "dice_p_holm", "precision_p_holm")
    return content | {name: getattr(row, name) for name in names}


def table(rows: Sequence[Row], first_notes: Sequence[str]) -> str:
    """Markdown: one row a variant; the notes given come before those that say how numbers were made."""

    def p(value: float) -> str:
        return "" if math.isnan(value) else f"{value:.4f}"

    columns = ["map", *METRICS, "p (AP by image, Holm)", "p (Dice, Holm)", "evaluations an image"]
    lines = []
    for row in rows:
        measured = {one["name"]: one for one in row.study.to_dict()["measured"]}
        cells = [cell(measured.get(name)) for name in METRICS]
        lines.append([row.name, *cells, p(row.precision_p_holm), p(row.dice_p_holm), str(row.evaluations)])
    notes = [
        *first_notes,
        "95 % bootstrap intervals over patients; p: sign-flip permutation over patients against base, "
        f"Holm-corrected over {len(rows) - 1} rows.",
    ]
    return as_markdown(columns, lines, notes)


def halves(records: Sequence[Record], healthy: str) -> tuple[list[Record], list[Record]]:
    """(healthy val images that calibrate, every second one of them; the rest of val, for thresholds)."""
    calibrating = [record for record in records if record.label == healthy][::2]
    taken = {record.id for record in calibrating}
    return calibrating, [record for record in records if record.id not in taken]


def main(arguments: Sequence[str] | None = None) -> int:
    """Ablate one checkpoint on one manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--max_images", type=int, default=0, help="test images, spread over the ids; 0 = all")
    parser.add_argument("--max_val_images", type=int, default=0, help="val images, spread over the ids; 0 = all")
    parser.add_argument("--num_resamples", type=int, default=1000)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    where = choose_device(options.device)
    weights = resolve_checkpoint(options.checkpoint)
    trained = load_trained(weights, ALL_METHODS, where)
    if not isinstance(trained.method, CfgDiffusion):
        raise ConfigError("is no CFG diffusion checkpoint", code="E_METHOD", path=options.checkpoint, fix="name another")
    experiment, healthy = trained.experiment, trained.experiment.method.target
    records = read_manifest(options.manifest)
    limits = {"val": options.max_val_images, "test": options.max_images}
    splits = {name: spread([r for r in records if r.split == name], limit) for name, limit in limits.items()}
    for name, chosen in splits.items():
        if not chosen:
            raise InputError(f"has no {name} rows", code="E_SPLIT", path=options.manifest, fix="fill the split column")
    refuse_seen(splits["test"], trained, options.manifest)

    def samples(chosen: Sequence[Record]) -> list[Sample]:
        dataset = ManifestDataset(chosen, experiment.preprocess, experiment.method.classes)
        return [dataset[index] for index in range(len(dataset))]

    calibrating, rest = halves(splits["val"], healthy)
    test, validation = samples(splits["test"]), samples(rest)
    base = plain(trained.method)
    calibration = healthy_calibration(base, samples(calibrating), batch_size=options.batch_size, device=where)
    methods = variants(base, calibration)
    config = MeasureConfig(num_resamples=options.num_resamples, regions=False)
    studies = [
        study(
            name,
            method,
            test=test,
            validation=validation,
            healthy=healthy,
            config=config,
            batch_size=options.batch_size,
            device=where,
        )
        for name, method in tqdm(methods.items(), unit="row", file=sys.stderr)
    ]
    evaluations = [cost(method, test[0].x[None].to(where)).evaluations for method in methods.values()]
    rows = compared(studies, evaluations, healthy)
    patients = len({sample.patient_id for sample in test})
    sizes = (
        f"{len(test)} test images of {patients} patients; thresholds on {len(validation)} val images, calibration on "
        f"{len(calibrating)} others."
    )
    options.out.mkdir(parents=True, exist_ok=True)
    fingerprint = manifest_fingerprint(records)
    # Each row is one more look at the test split, and could be the one that is picked.
    tested = [
        record_test_evaluation(weights, options.out, manifest_sha256=fingerprint, num_images=len(test), shipped=SHIPPED)
        for _ in rows
    ][-1]
    text = table(rows, [sizes, count_text(tested)])
    facts = {
        "manifest_sha256": fingerprint,
        "weights_sha256": sha256_of(weights / "model.safetensors" if weights.is_dir() else weights),
        "base": to_dict(base.config),
        "environment": environment(),
        "num_resamples": options.num_resamples,
        "num_rows": len(rows),
        "test_evaluations": tested,
    }
    write_json(options.out / "ablation.json", {"facts": facts, "rows": [numbers(row) for row in rows]})
    with atomic_write(options.out / "table.md") as stream:
        stream.write(text.encode())
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

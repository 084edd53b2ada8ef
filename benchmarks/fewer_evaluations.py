"""Is the map of a cheaper walk the map of the full one? Evaluations, fidelity and accuracy of sampler settings, on one network.

    python -m benchmarks.fewer_evaluations phantom64-cfg runs/phantom-test/manifest.csv runs/fewer-phantom --split val

The reference walks every level by DDIM, with the same network, noise level and guidance. Per setting: network evaluations an image,
Pearson correlation and relative L2 of the raw difference maps (all pixels of all images) against the reference's, the same in the
median image and after the checkpoint's filters, pixel AP and mean Dice (at the checkpoint's own Dice threshold) with the change
against the reference, and its 95 % bootstrap interval over patients. Processor time is of one process; compare within a run.

Settings are `name=key:value,key:value` of the sampler; `--sweep` tries grids x orders x delta x held guidance at the given step counts.
Settings are chosen on val images; test images are for the table. Writes table.md and fewer_evaluations.json; the reference is kept in
reference.npz and used again where the images and the weights are the same.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from medanomaly.cli.device import choose_device
from medanomaly.cli.evaluate import refuse_seen, resolve_checkpoint
from medanomaly.cli.methods import ALL_METHODS
from medanomaly.config import from_dict, to_dict
from medanomaly.datasets.dataset import ManifestDataset
from medanomaly.datasets.manifest import read_manifest
from medanomaly.datasets.splits import spread
from medanomaly.errors import ConfigError, InputError
from medanomaly.evaluation.cost import cost
from medanomaly.evaluation.predict import at_native_size, with_truth
from medanomaly.files import atomic_write, sha256_of, write_json
from medanomaly.methods.cfg_diffusion import CfgDiffusion
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.methods.experiment import load_trained
from medanomaly.metrics.bootstrap import Interval, patient_bootstraps
from medanomaly.metrics.pixel import dice_per_image, pixel_average_precision
from medanomaly.training.log import environment
from medanomaly.types import AnomalyResult, Sample

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One setting."""

    name: str
    sampler: dict[str, Any]
    evaluations: int
    pearson: float
    relative_l2: float
    median_relative_l2: float
    """Over images, each by itself: where one image falls into another basin, the pooled number is that image's."""
    filtered_relative_l2: float
    average_precision: float
    dice: float
    change_ap: Interval
    change_dice: Interval
    seconds: float
    """Processor time for all images."""


@dataclass(frozen=True, slots=True)
class Maps:
    """What one setting made of all images."""

    raw: Tensor
    """(N, 1, H, W) difference maps before filters."""
    results: list[AnomalyResult]
    """A batch each."""
    seconds: float


def walked(method: CfgDiffusion, batches: Sequence[Tensor]) -> Maps:
    """Every batch through the method."""
    started = time.process_time()
    raw, results = [], []
    for x in batches:
        maps = []
        for encoded in method.latents(x):
            change, twin = method.translate(x, encoded)
            maps.append(change)
        raw.append(torch.stack(maps).mean(dim=0).cpu())
        results.append(method.finished(maps, twin))
    return Maps(torch.cat(raw), results, time.process_time() - started)


def sweep(steps: Sequence[int], level: int) -> dict[str, dict[str, Any]]:
    """Every combination of the ideas at these step counts."""
    made = {}
    for n, spacing, order, delta, every in itertools.product(
        steps, ("uniform", "log_snr", "karras", "power"), (1, 2), (False, True), (1, 2)
    ):
        name = f"{spacing} {n}{', second order' if order == 2 else ''}{', delta' if delta else ''}{', held' if every > 1 else ''}"
        made[name] = {"num_steps": min(n, level), "spacing": spacing, "order": order, "delta": delta, "guidance_every": every}
    return made


def parsed(text: str) -> tuple[str, dict[str, Any]]:
    """``name=key:value,...`` -> (name, sampler fields)."""
    name, _, rest = text.partition("=")
    pairs = [part.partition(":") for part in rest.split(",") if part]
    return name, {
        key: json.loads(value) if value[:1].isdigit() or value in ("true", "false") else value for key, _, value in pairs
    }


def compared(name: str, changed: dict[str, Any], found: Maps, reference: Maps, about: Judge, count: int) -> Row:
    """A row from the maps of a setting and those of the reference."""
    ours, theirs = found.raw.double().flatten().numpy(), reference.raw.double().flatten().numpy()
    apart, whole = (found.raw - reference.raw).flatten(1).norm(dim=1), reference.raw.flatten(1).norm(dim=1)
    per_image = (apart / whole)[whole > 0]
    filtered = [torch.cat([r.anomaly_map.cpu() for r in maps.results]).double() for maps in (found, reference)]
    changes, (precision, dice) = about.change(found.results, reference.results)
    return Row(
        name=name,
        sampler=changed,
        evaluations=count,
        pearson=float(np.corrcoef(ours, theirs)[0, 1]),
        relative_l2=float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)),
        median_relative_l2=float(per_image.median()),
        filtered_relative_l2=float((filtered[0] - filtered[1]).norm() / filtered[1].norm()),
        average_precision=precision,
        dice=dice,
        change_ap=changes[0],
        change_dice=changes[1],
        seconds=found.seconds,
    )


class Judge:
    """Accuracy of maps on the images' masks."""

    def __init__(self, batches: Sequence[Sequence[Sample]], healthy: str, threshold: float, num_resamples: int) -> None:
        self.batches, self.healthy, self.threshold, self.num_resamples = batches, healthy, threshold, num_resamples

    def judged(self, results: Sequence[AnomalyResult]) -> tuple[list[Any], list[Any], list[str]]:
        """(maps, masks, patients) of images whose truth is known, at their own size."""
        found = [p for batch, result in zip(self.batches, results, strict=True) for p in at_native_size(batch, result)]
        truths = with_truth(found, self.healthy)
        return [p.anomaly_map for p, _ in truths], [truth for _, truth in truths], [p.patient_id for p, _ in truths]

    def change(
        self, ours: Sequence[AnomalyResult], theirs: Sequence[AnomalyResult]
    ) -> tuple[list[Interval], tuple[float, float]]:
        """(changes of AP and of mean Dice with intervals, AP and mean Dice of ``ours``)."""
        maps, masks, patients = self.judged(ours)
        other, _, _ = self.judged(theirs)
        if not any(mask.any() for mask in masks):
            raise InputError("no image has a lesion mask", code="E_MASK", fix="name a manifest with masks")
        lesioned = np.array([mask.any() for mask in masks])
        dices = [np.full(len(masks), np.nan) for _ in range(2)]
        for values, some in zip(dices, (maps, other), strict=True):
            chosen = np.flatnonzero(lesioned)
            values[chosen] = dice_per_image([some[i] for i in chosen], [masks[i] for i in chosen], self.threshold)

        def numbers(index: npt.NDArray[np.int64]) -> Floats:
            if not lesioned[index].any():
                return np.full(2, np.nan)
            precision = [pixel_average_precision([some[i] for i in index], [masks[i] for i in index]) for some in (maps, other)]
            return np.array([precision[0] - precision[1], np.nanmean(dices[0][index] - dices[1][index])])

        intervals = patient_bootstraps(numbers, patients, num_resamples=self.num_resamples)
        return intervals, (pixel_average_precision(maps, masks), float(np.nanmean(dices[0])))


def table(rows: Sequence[Row], reference: Row) -> str:
    """Markdown, cheapest first."""

    def signed(one: Interval) -> str:
        return f"{one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"

    lines = [
        "| walk | evaluations | Pearson | relative L2 | median image | filtered | AP | change | Dice | change | processor time |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in [reference, *sorted(rows, key=lambda row: (row.evaluations, row.relative_l2))]:
        lines.append(
            f"| {row.name} | {row.evaluations} | {row.pearson:.4f} | {100 * row.relative_l2:.1f} % |"
            f" {100 * row.median_relative_l2:.1f} % |"
            f" {100 * row.filtered_relative_l2:.1f} % | {row.average_precision:.3f} | {signed(row.change_ap)} | {row.dice:.3f} |"
            f" {signed(row.change_dice)} | {reference.seconds / max(row.seconds, 1e-9):.1f}x faster |"
        )
    return "\n".join(lines) + "\n"


def batched(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    """Consecutive groups."""
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


def kept_reference(path: Path, identity: str) -> Maps | None:
    """The reference of an earlier run on the same images with the same weights."""
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as kept:
        if str(kept["identity"]) != identity:
            return None
        arrays = {name: torch.from_numpy(kept[name]) for name in ("raw", "maps", "scores")}
        sizes, seconds = kept["sizes"].tolist(), float(kept["seconds"])
    results = [
        AnomalyResult(anomaly_map=m, score=s, pseudo_healthy=None, map_std=None)
        for m, s in zip(torch.split(arrays["maps"], sizes), torch.split(arrays["scores"], sizes), strict=True)
    ]
    return Maps(arrays["raw"], results, seconds)


def keep_reference(path: Path, found: Maps, identity: str) -> None:
    """For the next run."""
    arrays: dict[str, Any] = {
        "raw": found.raw.numpy(),
        "maps": torch.cat([r.anomaly_map.cpu() for r in found.results]).numpy(),
        "scores": torch.cat([r.score.cpu() for r in found.results]).numpy(),
    }
    with atomic_write(path) as stream:
        np.savez_compressed(
            stream, identity=identity, seconds=found.seconds, sizes=[len(r.score) for r in found.results], **arrays
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--num_images", type=int, default=24, help="spread over the ids; 0 = all")
    parser.add_argument("--settings", nargs="*", default=[], help="name=key:value,...")
    parser.add_argument("--sweep", type=int, nargs="*", default=[], help="step counts each way")
    parser.add_argument("--batch_size", type=int, default=12)
    parser.add_argument("--num_resamples", type=int, default=200)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--allow_outside", action="store_true")
    chosen = parser.parse_args(arguments)
    device = choose_device(chosen.device)
    weights = resolve_checkpoint(chosen.checkpoint)
    trained = load_trained(weights, ALL_METHODS, device)
    method = trained.method
    if not isinstance(method, CfgDiffusion):
        raise ConfigError("only CFG diffusion has these settings", code="E_METHOD")
    records = [r for r in read_manifest(chosen.manifest, allow_outside=chosen.allow_outside) if r.split == chosen.split]
    if not records:
        raise InputError(f"has no {chosen.split} rows", code="E_SPLIT", path=chosen.manifest)
    if chosen.split == "test":
        refuse_seen(records, trained, chosen.manifest)
    dataset = ManifestDataset(
        spread(records, chosen.num_images), trained.experiment.preprocess, trained.experiment.method.classes
    )
    samples = [dataset[index] for index in range(len(dataset))]
    groups = list(batched(samples, chosen.batch_size))
    batches = [torch.stack([sample.x for sample in group]).to(device) for group in groups]
    base = method.config.sampler
    settings = dict(parsed(text) for text in chosen.settings) | sweep(chosen.sweep, base.noise_level)
    made: dict[str, SamplerConfig] = {
        name: from_dict(SamplerConfig, to_dict(base) | changed, "sampler") for name, changed in settings.items()
    }
    full = replace(
        base, num_steps=base.noise_level, spacing="uniform", order=1, delta=False, guidance_every=1, encode_iterations=0
    )
    identity = (
        f"{sha256_of(weights if weights.is_file() else weights / 'model.safetensors')} {[s.id for s in samples]} {to_dict(full)}"
    )
    chosen.out.mkdir(parents=True, exist_ok=True)
    reference = kept_reference(chosen.out / "reference.npz", identity)
    if reference is None:
        print(f"walking every level of {len(samples)} images", file=sys.stderr)
        reference = walked(method.variant(sampler=full), batches)
        keep_reference(chosen.out / "reference.npz", reference, identity)
    points = [p for p in trained.operating_points if "Dice" in p.criterion]
    judge = Judge(groups, trained.experiment.method.target, points[0].value if points else float("nan"), chosen.num_resamples)
    full_cost = (
        3 * base.noise_level if base.noise_levels is None else cost(method.variant(sampler=full), batches[0][:1]).evaluations
    )
    top = compared("every level (reference)", {}, reference, reference, judge, full_cost)
    rows = []
    for name, sampler in tqdm(made.items(), desc="settings", file=sys.stderr):
        variant = method.variant(sampler=sampler)
        count = cost(variant, batches[0][:1]).evaluations
        rows.append(compared(name, settings[name], walked(variant, batches), reference, judge, count))
    text = table(rows, top)
    facts = {
        "checkpoint": chosen.checkpoint.name,
        "manifest": chosen.manifest.name,
        "split": chosen.split,
        "num_images": len(samples),
        "num_patients": len({sample.patient_id for sample in samples}),
        "environment": environment(),
    }
    write_json(chosen.out / "fewer_evaluations.json", {"facts": facts, "rows": [asdict(row) for row in [top, *rows]]})
    with atomic_write(chosen.out / "table.md") as stream:
        stream.write(text.encode())
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

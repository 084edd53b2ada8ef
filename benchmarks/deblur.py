"""Deblurring measured on held-out images of a manifest: known, estimated and wrong kernels, sharp images, and where the time goes.

    python -m benchmarks.deblur runs/cxr64-prior cxr.csv deblur-benchmark --num_images 100 --steps 20 100

Each image is brought to the prior's side, which is its scale in training, blurred by a straight motion at a random angle and cropped to
what the blur saw whole, so borders are unknown; then noise is added and the result rounded to 8 bits. Images that the prior has seen are
refused. Intervals are 95 % percentile bootstraps over patients. Tables:

- known kernel: PSNR and SSIM of the blurred image and of each solver, without gates, and DiffPIR against total variation, paired;
- estimated kernel: how often length (1 px) and angle (5 degrees) are right, and the share of the known kernel's gain, gates on;
- sharp images: how many are changed, with an estimated kernel and with a fixed motion of the first length;
- kernel off by 2 px or 10 degrees: the worst change of PSNR, gates on and off;
- time: the share of DiffPIR's outside of the network.

Writes rows.jsonl as it goes, from which the same command continues, and at the end table.md and results.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.deblur_cases import STEP, Case, Stopwatch, case_of, frame_of, solved
from benchmarks.deblur_tables import write_results
from deblur.diffpir import DiffPirConfig
from deblur.estimate import turned
from deblur.kernel_spec import KernelSpec
from deblur.kernels import linear_motion
from deblur.policy import Plan, judge, plan
from deblur.quality import psnr, ssim
from deblur.restore import CLASSICAL, START_LEVEL, ZETA, Restore, diffpir_restore
from medanomaly.cli.device import choose_device
from medanomaly.datasets.manifest import Record, manifest_fingerprint, read_manifest
from medanomaly.datasets.seen import refuse_seen
from medanomaly.datasets.splits import spread
from medanomaly.errors import ConfigError, InputError
from medanomaly.files import sha256_of, write_json
from medanomaly.methods.diffusion_model import LoadedModel, load_diffusion_model
from medanomaly.training.log import environment

WRONG = {"2 px longer": (2.0, 0.0), "2 px shorter": (-2.0, 0.0), "+10 degrees": (0.0, 10.0), "-10 degrees": (0.0, -10.0)}
Row = dict[str, Any]


def scores(x: Tensor, case: Case) -> Row:
    """PSNR in dB and SSIM of a picture, clamped."""
    clamped = x.clamp(0, 1)
    return {"psnr": psnr(clamped, case.truth), "ssim": ssim(clamped, case.truth)}


def gated(case: Case, made: Plan, restored: Tensor) -> Tensor:
    """What the command would write: the result, or the picture where a gate says no."""
    return restored if judge(case.y, restored, made, case.noise_sd).accepted else case.y


def about(case: Case, table: str, **more: Any) -> Row:
    """The start of a row."""
    return {
        "table": table,
        "id": case.record.id,
        "patient": case.record.patient_id,
        "length": case.length,
        "noise": case.noise,
    } | more


@dataclass(frozen=True, eq=False, kw_only=True)
class Bench:
    """The solvers and how they are fed."""

    restores: dict[str, Restore]
    """By name; those without a prior first."""
    main: tuple[str, ...]
    """Which of them meet estimated and wrong kernels."""
    batch_size: int
    multiple: int
    device: torch.device
    watches: dict[str, Stopwatch]

    def solve(self, name: str, cases: Sequence[Case], kernels: Sequence[Tensor]) -> list[Tensor]:
        """Results of a solver."""
        multiple = self.multiple if name in self.watches else 8
        return solved(self.restores[name], cases, kernels, self.batch_size, multiple, self.device)

    def known(self, cases: Sequence[Case]) -> Iterator[Row]:
        """All solvers with the right kernel, without gates; and the seconds of those with a prior."""
        kernels = [linear_motion(case.length, case.angle) for case in cases]
        for case in cases:
            yield about(case, "known", method="blurred") | scores(case.y, case)
        for name in self.restores:
            watch = self.watches.get(name)
            before, started = watch.seconds if watch else 0.0, time.perf_counter()
            results = self.solve(name, cases, kernels)
            total = time.perf_counter() - started
            for case, x in zip(cases, results, strict=True):
                yield about(case, "known", method=name) | scores(x, case)
            network = watch.seconds - before if watch else 0.0
            row = {"table": "time", "method": name, "length": cases[0].length, "noise": cases[0].noise, "num_images": len(cases)}
            yield row | {"seconds": total, "network_seconds": network}

    def estimated(self, cases: Sequence[Case]) -> Iterator[Row]:
        """The kernel from the picture alone, gates on."""
        plans = [plan(case.y, KernelSpec(kind="estimated"), step=STEP) for case in cases]
        for case, made in zip(cases, plans, strict=True):
            found = made.verdict.values
            off, turn = found["length_px"] - case.length, turned(found["angle_deg"], case.angle)
            row = about(case, "estimate", claimed=made.verdict.accepted, right=abs(off) <= 1 and abs(turn) <= 5)
            yield row | {"length_error": off, "angle_error": turn, "confidence": made.confidence}
        yield from self.through_gates("estimated", cases, plans)

    def sharp(self, cases: Sequence[Case], length: float) -> Iterator[Row]:
        """Pictures without motion: what is changed."""
        yield from self.through_gates(
            "sharp, estimated", cases, [plan(c.y, KernelSpec(kind="estimated"), step=STEP) for c in cases]
        )
        fixed = KernelSpec(kind="linear", extent=length, angle_deg=30.0)
        yield from self.through_gates(f"sharp, {fixed}", cases, [plan(case.y, fixed, step=STEP) for case in cases])

    def wrong(self, cases: Sequence[Case]) -> Iterator[Row]:
        """Kernels that are a little off, gates on and off."""
        for name, (longer, turn) in WRONG.items():
            specs = [KernelSpec(kind="linear", extent=case.length + longer, angle_deg=case.angle + turn) for case in cases]
            plans = [plan(case.y, spec, step=STEP) for case, spec in zip(cases, specs, strict=True)]
            yield from self.through_gates(name, cases, plans, ungated=True)

    def through_gates(self, table: str, cases: Sequence[Case], plans: Sequence[Plan], *, ungated: bool = False) -> Iterator[Row]:
        """A row an image and solver: PSNR before and after the gates; only what passes the first is solved, or all if ``ungated``."""
        tried = [index for index, made in enumerate(plans) if made.verdict.accepted or ungated]
        for name in self.main:
            results = self.solve(name, [cases[i] for i in tried], [plans[i].kernel for i in tried])
            solution = dict(zip(tried, results, strict=True))
            for index, (case, made) in enumerate(zip(cases, plans, strict=True)):
                x = gated(case, made, solution[index]) if made.verdict.accepted else case.y
                row = about(case, table, method=name, changed=x is not case.y, before=psnr(case.y, case.truth))
                row |= {"ungated_psnr": scores(solution[index], case)["psnr"]} if index in solution else {}
                yield row | scores(x, case)


def cells(
    bench: Bench, chosen: Sequence[Record], frames: Sequence[np.ndarray], options: argparse.Namespace
) -> Iterator[tuple[str, Any]]:
    """(name, generator of rows) of each part of the benchmark."""
    pairs = list(zip(chosen, frames, strict=True))
    for noise in options.noises:
        for length in options.lengths:
            cases = [case_of(record, frame, length, noise, options.seed) for record, frame in pairs]
            yield f"known {length} {noise}", bench.known(cases)
            yield f"estimated {length} {noise}", bench.estimated(cases)
            yield f"wrong {length} {noise}", bench.wrong(cases[: options.num_wrong])
        sharp = [case_of(record, frame, 0.0, noise, options.seed) for record, frame in pairs]
        yield f"sharp {noise}", bench.sharp(sharp, options.lengths[0])


def solvers(model: LoadedModel, options: argparse.Namespace, device: torch.device, side: int) -> Bench:
    """All solvers; DiffPIR once for each number of steps."""
    restores: dict[str, Restore] = {"Wiener": CLASSICAL["wiener"], "RL": CLASSICAL["rl"], "TV": CLASSICAL["tv"]}
    multiple, watches = model.config.network.size_multiple, {}
    for steps in options.steps:
        watch, config = Stopwatch(model.eps_fn()), DiffPirConfig(num_steps=steps, t_start=options.start_level, zeta=options.zeta)
        name = f"DiffPIR-{steps}"
        restores[name] = diffpir_restore(
            watch, model.schedule, image_size=side, size_multiple=multiple, config=config, seed=options.seed
        )
        watches[name] = watch
    main = ("TV", f"DiffPIR-{options.steps[0]}")
    return Bench(restores=restores, main=main, batch_size=options.batch_size, multiple=multiple, device=device, watches=watches)


def done_cells(out: Path, identity: str) -> set[str]:
    """Parts that an earlier run finished; ConfigError where it had other settings."""
    out.mkdir(parents=True, exist_ok=True)
    marker = out / "identity.json"
    if marker.is_file() and json.loads(marker.read_text())["identity"] != identity:
        raise ConfigError("holds a benchmark of other settings", code="E_CHANGED", path=out, fix="name another folder")
    write_json(marker, {"identity": identity})
    lines = (out / "rows.jsonl").read_text().splitlines() if (out / "rows.jsonl").is_file() else []
    return {json.loads(line)["cell"] for line in lines}


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("prior", type=Path, help="model.safetensors of a diffusion model, or its folder")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--num_images", type=int, default=0, help="at most, spread over the ids; 0 = all")
    parser.add_argument("--num_wrong", type=int, default=50, help="images that meet wrong kernels")
    parser.add_argument("--lengths", type=float, nargs="+", default=[10.0, 5.0], help="of the motion, px at the prior's side")
    parser.add_argument("--noises", type=float, nargs="+", default=[0.5, 5.0], help="standard deviations, 8-bit levels")
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 100], help="of DiffPIR; the first meets estimated kernels")
    parser.add_argument("--start_level", type=int, default=START_LEVEL, help="of DiffPIR; 1000 as published")
    parser.add_argument("--zeta", type=float, default=ZETA, help="of DiffPIR, share of fresh noise; 0.3 as published")
    parser.add_argument("--size", type=int, default=0, help="side of the images, px; 0 = the prior's")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--num_resamples", type=int, default=1000)
    parser.add_argument("--allow_outside", action="store_true", help="the manifest may name files outside of its own folder")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Measure, and write the tables."""
    options = arguments(words)
    device = choose_device(options.device)
    model = load_diffusion_model(options.prior, device)
    records = [r for r in read_manifest(options.manifest, allow_outside=options.allow_outside) if r.split == options.split]
    chosen = spread(records, options.num_images)
    if not chosen:
        raise InputError(f"has no image in split {options.split!a}", code="E_SPLIT", path=options.manifest, fix="see --split")
    refuse_seen(options.prior, chosen, what="the prior", data=options.manifest)
    side = options.size or model.experiment.preprocess.image_size
    preprocess = replace(model.experiment.preprocess, image_size=side)
    weights = options.prior / "model.safetensors" if options.prior.is_dir() else options.prior
    facts = {
        name: value
        for name, value in vars(options).items()
        if name not in ("prior", "manifest", "out", "device", "allow_outside")
    }
    facts |= {"weights_sha256": sha256_of(weights), "manifest_sha256": manifest_fingerprint(chosen), "side": side}
    identity = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    done = done_cells(options.out, identity)
    frames = [frame_of(record, preprocess) for record in chosen]
    bench = solvers(model, options, device, model.experiment.preprocess.image_size)
    bar = tqdm(total=len(options.noises) * (3 * len(options.lengths) + 1), unit="part", file=sys.stderr)
    for name, rows in cells(bench, chosen, frames, options):
        if name not in done:
            lines = [json.dumps({"cell": name, **row}) + "\n" for row in rows]
            with open(options.out / "rows.jsonl", "a", encoding="utf-8") as stream:
                stream.write("".join(lines))
        bar.update()
    bar.close()
    facts |= {"num_images": len(chosen), "prior": model.experiment.name, "device": str(device), "environment": environment()}
    print(write_results(options.out, facts, num_resamples=options.num_resamples))
    return 0


if __name__ == "__main__":
    sys.exit(main())

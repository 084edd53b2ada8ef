"""Network evaluations and training steps a second, by precision, memory layout, compilation and batch; ratios of one run.

    python -m benchmarks.network_speed gray64-cfg --batch 16 --precision fp32 bf16 --layout first last ready --out speed.json
    python -m benchmarks.network_speed cxr256-cfg --batch 16 32 --precision bf16 --layout ready --compile no blocks whole --device cuda

The preset's network with random weights: what it costs does not depend on them. Variants take turns, so that other work on the machine
meets all alike; each number is a median. On a CPU it is processor time of this process with --threads threads (1), on a GPU wall time
between synchronisations. FLOPs are counted on one evaluation, so that a rate can be held against the machine's.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from medanomaly.diffusion.inference import for_inference
from medanomaly.diffusion.unet import Denoiser
from medanomaly.methods.cfg_diffusion import CfgDiffusionConfig
from medanomaly.methods.compiled import compile_blocks
from medanomaly.methods.diffusion_model import DiffusionModelConfig
from medanomaly.presets import MODEL_PRESETS, PRESETS

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to compute."""

    precision: str
    layout: str
    """first or last, where the channels are; ready = last and all else that medanomaly.diffusion.inference does."""
    compiled: str
    """no, blocks or whole."""
    batch: int

    def __str__(self) -> str:
        layout = "ready for inference" if self.layout == "ready" else f"channels {self.layout}"
        return f"{self.precision}, {layout}{'' if self.compiled == 'no' else f', {self.compiled} compiled'}, batch {self.batch}"


def denoiser_of(preset: str) -> tuple[Denoiser, int]:
    """(the preset's network with random weights, image size)."""
    experiment = {**PRESETS, **MODEL_PRESETS}[preset]()
    method = experiment.method
    if not isinstance(method, CfgDiffusionConfig | DiffusionModelConfig):
        raise SystemExit(f"{preset} has no diffusion network")
    torch.manual_seed(0)
    channels = experiment.preprocess.channels
    return Denoiser(method.network, image_channels=channels, classes=method.classes), experiment.preprocess.image_size


def inputs(network: Denoiser, size: int, variant: Variant, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """(x_t, levels, labels) of one evaluation."""
    x = torch.randn(variant.batch, network.image_channels, size, size, device=device)
    x = x if variant.layout == "first" else x.to(memory_format=torch.channels_last)
    levels = torch.full((variant.batch,), 300, device=device)
    return x, levels, torch.full_like(levels, network.null_index)


def prepared(network: Denoiser, variant: Variant, device: torch.device, *, weights: torch.dtype) -> nn.Module:
    """A copy on the device in the variant's layout, with weights of this type."""
    copied = copy.deepcopy(network)
    if variant.layout == "ready":
        copied = for_inference(copied, device)
    copied = copied.to(device, weights)
    if variant.layout == "last":
        copied = copied.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if variant.compiled == "blocks":
        compile_blocks(copied)
    return torch.compile(copied) if variant.compiled == "whole" else copied  # type: ignore[return-value]


def evaluation(network: Denoiser, size: int, variant: Variant, device: torch.device) -> Callable[[], object]:
    """One forward pass without gradient, weights in the variant's precision."""
    dtype = DTYPES[variant.precision]
    ready = prepared(network, variant, device, weights=dtype).eval()
    x, levels, labels = inputs(network, size, variant, device)
    x = x.to(dtype)

    def call() -> object:
        with torch.inference_mode():
            return ready(x, levels, labels)

    return call


def training_step(network: Denoiser, size: int, variant: Variant, device: torch.device) -> Callable[[], object]:
    """Forward under autocast, backward, AdamW; weights stay float32, as in ``train``."""
    ready = prepared(network, variant, device, weights=torch.float32).train()
    optimizer = torch.optim.AdamW(ready.parameters(), fused=device.type == "cuda")
    x, levels, labels = inputs(network, size, variant, device)
    dtype = DTYPES[variant.precision]

    def call() -> object:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            output = ready(x, levels, labels)
        loss = output.float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return call


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Processor time of a call on a CPU, wall time on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        call()
        torch.cuda.synchronize(device)
        return time.perf_counter() - start
    start = time.process_time()
    call()
    return time.process_time() - start


def measured(calls: dict[Variant, Callable[[], object]], device: torch.device, repeats: int) -> list[dict[str, object]]:
    """Rows of the table: medians in turns, and the speed against the first variant, image for image."""
    warm = {}
    for variant, call in calls.items():
        start = time.perf_counter()
        call()
        call()
        warm[variant] = time.perf_counter() - start
    taken: dict[Variant, list[float]] = {variant: [] for variant in calls}
    for _ in range(repeats):
        for variant, call in calls.items():
            taken[variant].append(seconds(call, device))
    medians = {variant: statistics.median(times) for variant, times in taken.items()}
    first = next(iter(calls))
    return [
        asdict(variant)
        | {
            "seconds": medians[variant],
            "images_per_s": variant.batch / medians[variant],
            "speed": (medians[first] / first.batch) / (medians[variant] / variant.batch),
            "warm_up_s": round(warm[variant], 1),
        }
        for variant in calls
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every combination that was asked for; see the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("preset", choices=sorted({**PRESETS, **MODEL_PRESETS}))
    parser.add_argument("--what", choices=("evaluation", "training"), default="evaluation")
    parser.add_argument("--precision", nargs="+", choices=sorted(DTYPES), default=["fp32", "bf16"])
    parser.add_argument("--layout", nargs="+", choices=("first", "last", "ready"), help="default: all that apply")
    parser.add_argument("--compile", nargs="+", choices=("no", "blocks", "whole"), default=["no"])
    parser.add_argument("--batch", nargs="+", type=int, default=[16])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    device = torch.device(chosen.device)
    network, size = denoiser_of(chosen.preset)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.eval()(
            *inputs(network, size, Variant(precision="fp32", layout="first", compiled="no", batch=1), torch.device("cpu"))
        )
    layouts = chosen.layout or (["first", "last"] if chosen.what == "training" else ["first", "last", "ready"])
    if chosen.what == "training" and "ready" in layouts:
        raise SystemExit("a network ready for inference is not trained: --layout first last")
    made = evaluation if chosen.what == "evaluation" else training_step
    variants = [
        Variant(precision=precision, layout=layout, compiled=compiled, batch=batch)
        for precision, layout, compiled, batch in itertools.product(chosen.precision, layouts, chosen.compile, chosen.batch)
    ]
    rows = measured({variant: made(network, size, variant, device) for variant in variants}, device, chosen.repeats)
    about = {
        "preset": chosen.preset,
        "what": chosen.what,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {chosen.threads} thread(s)",
        "torch": torch.__version__,
        "gflop_per_evaluation": round(counter.get_total_flops() / 1e9, 2),
        "repeats": chosen.repeats,
    }
    print(f"{chosen.preset}, {chosen.what}, {about['device']}, {about['gflop_per_evaluation']} GFLOP an evaluation")
    for variant, row in zip(variants, rows, strict=True):
        print(f"{variant!s:50s} {row['images_per_s']:8.1f} images/s  {row['speed']:5.2f}x  (warm-up {row['warm_up_s']} s)")
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

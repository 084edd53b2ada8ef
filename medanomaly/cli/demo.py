"""medanomaly demo: phantoms, a minute of training, localization of phantoms and real chest X-rays, one table, one page."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from medanomaly.cli.evaluate import evaluate
from medanomaly.cli.parsing import run_function
from medanomaly.cli.report import build_report
from medanomaly.cli.train import train
from medanomaly.datasets.phantom import PhantomConfig, phantom_set
from medanomaly.errors import InputError
from medanomaly.evaluation.folder import read_evaluation
from medanomaly.evaluation.present import sheet
from medanomaly.evaluation.tables import as_markdown, comparison
from medanomaly.presets import phantom64_cfg, phantom64_method
from medanomaly.training.log import RunLog
from medanomaly.views.curves import loss_figure

CHEST_XRAYS = Path(__file__).resolve().parents[2] / "data" / "cxr" / "manifest.csv"
DEMO_SEED = 2026
"""Of the demo's phantoms; the shipped weights were trained on seed 0, so they share no patient."""
STEPS_A_MINUTE = 80
"""Training steps of the demo: about a minute on two cores."""


def demo(
    out: Path = Path("demo-output"), num_patients: int = 80, train_steps: int = STEPS_A_MINUTE, num_resamples: int = 1000
) -> int:
    """Draw phantoms, train for a minute, localize held-out phantoms and chest X-rays with the shipped weights, write a report.

    Args:
        out: output folder
        num_patients: phantom patients
        train_steps: steps of the short training that shows the loss fall; its weights are not used for the results
        num_resamples: of the bootstrap
    """
    start = time.perf_counter()
    if not CHEST_XRAYS.is_file():
        raise InputError(
            "the example X-rays are not here", code="E_MISSING", path=CHEST_XRAYS, fix="run the demo from a checkout"
        )
    say("1/4 drawing chest phantoms with effusions")
    phantom_set(PhantomConfig(num_patients=num_patients, seed=DEMO_SEED), out / "phantoms", (0.4, 0.2, 0.4))

    say(f"2/4 training a fresh network for {train_steps} steps (about a minute), to see the loss fall")
    preset = phantom64_cfg()
    training = replace(
        preset.training,
        num_steps=train_steps,
        warmup_steps=10,
        log_every=10,
        validate_every=train_steps,
        save_every=train_steps,
        precision="fp32",
    )
    method = phantom64_method()
    method = replace(method, sampler=replace(method.sampler, noise_level=100, num_steps=2))
    short = replace(preset, training=training, method=method)
    run = out / "short-training"
    # A finished run would be continued, and no loss would be seen to fall.
    shutil.rmtree(run, ignore_errors=True)
    train(short, out / "phantoms" / "manifest.csv", run, device=torch.device("cpu"))
    lines = RunLog.read(run / "log.jsonl")
    loss = loss_figure([line["step"] for line in lines], [line["mse"] for line in lines], name="mean squared error of the noise")

    say("3/4 localizing held-out phantoms and real chest X-rays with the shipped weights")
    phantoms, chests = out / "evaluation-phantoms", out / "evaluation-chest-xrays"
    evaluate(
        Path("phantom64-cfg"),
        out / "phantoms" / "manifest.csv",
        phantoms,
        "Chest phantoms",
        num_resamples=num_resamples,
        overwrite=True,
        table=False,
    )
    evaluate(
        Path("cxr64-cfg"),
        CHEST_XRAYS,
        chests,
        "Chest X-rays (pneumonia)",
        num_resamples=num_resamples,
        overwrite=True,
        table=False,
    )

    say("4/4 writing the report")
    figures = [(f"Loss of the {train_steps}-step training of this demo; the results below use the shipped weights", loss)]
    took = f"{time.perf_counter() - start:.0f} s on {torch.get_num_threads()} threads"
    build_report([phantoms, chests], out / "report.html", title="medanomaly demo", figures=figures, facts=[("demo took", took)])
    for folder, name in ((phantoms, "phantoms.png"), (chests, "chest-xrays.png")):
        found = read_evaluation(folder)
        sheet(out / name, found, num_cases=4, title=found.content["title"])
        counts = found.content["counts"]
        print(f"\n{found.content['title']}: {counts['num_images']} images, {counts['num_patients']} patients")
        print(as_markdown(*comparison(found.content["methods"])))
    print(f"Took {took}. Open {out / 'report.html'} in a browser. Not for diagnosis.")
    return 0


def say(text: str) -> None:
    """A line of progress."""
    print(f"\n== {text}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """``medanomaly demo [--out FOLDER]``."""
    return run_function(demo, "medanomaly demo", "[options]", arguments)

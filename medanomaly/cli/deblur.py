"""medanomaly deblur: motion blur taken out of a file, a folder or a manifest; images that show none are left as they are."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from deblur.diffpir import DiffPirConfig
from deblur.job import RULES, DeblurSettings, deblur_all
from deblur.job_table import write_tables
from deblur.kernel_spec import KernelSpec, parse_kernel, read_kernel
from deblur.page import write_page
from deblur.policy import Policy
from deblur.restore import CLASSICAL, START_LEVEL, ZETA, load_restorer
from medanomaly.cli.device import choose_device
from medanomaly.cli.evaluate import resolve_checkpoint
from medanomaly.cli.localize import records_of
from medanomaly.cli.localize_names import about_names, num_with_uid, without_uids
from medanomaly.cli.output import make_folder
from medanomaly.cli.parsing import run_function
from medanomaly.cli.preprocess import refuse_place
from medanomaly.config import to_dict
from medanomaly.errors import ConfigError, Preempted
from medanomaly.evaluation.run_record import begin_run, command_text, data_facts, end_run
from medanomaly.files import sha256_of
from medanomaly.training.log import environment
from medanomaly.training.preempt import stop_requested


def deblur(
    solver: str,
    source: Path,
    out: Path,
    kernel: str = "",
    noise_level: float = 0.5,
    steps: int = 20,
    start_level: int = START_LEVEL,
    zeta: float = ZETA,
    samples: int = 1,
    seed: int = 0,
    gate: bool = True,
    to: Literal["png", "npy"] = "png",
    keep_patient: bool = False,
    batch_size: int = 4,
    page: int = 24,
    allow_outside: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> int:
    """Deblur gray images at their own size; a rerun does what is missing or has changed. Images without motion blur keep their values.

    OUT gets images/ (8- or 16-bit PNG, npy for floats; DICOM for DICOM, derived, without patient identity unless --keep-patient
    true), kernels/, manifest.csv of the new images, deblur.csv with kernel, verdict and numbers of each, report.html and report.jsonl.

    Args:
        solver: tv, wiener, rl (no weights needed), or a prior for DiffPIR: model.safetensors, its folder, or shipped (cxr64-prior)
        source: an image (DICOM, PNG, JPEG, TIFF, NIfTI slice, npy), a folder of them, or a manifest CSV
        out: output folder
        kernel: required: estimated, linear 10@30 (px@degrees), linear 1.8mm@30, gaussian 2, given FILE, identity; random 10 for tests
        noise_level: standard deviation of the noise on the 0..255 scale
        steps: of DiffPIR, network evaluations an image, e.g. 20 or 100
        start_level: of DiffPIR: noise level that its walk begins at; the published 1000 makes up more of the image
        zeta: of DiffPIR: share of fresh noise in each step, 0..1; published: 0.3
        samples: of DiffPIR: their mean is the result, their deviation pixel by pixel goes to std/
        seed: of DiffPIR's noise and of random kernels
        gate: keep an image as it is where it shows no motion, the kernel does not fit, or the result cannot be trusted
        to: png or npy, for sources that are not DICOM
        keep_patient: DICOM outputs name patient and study of the source and reference it; ids stay as they are
        batch_size: images a forward pass
        page: images with pictures in OUT/report.html; 0 = no page
        allow_outside: a manifest may name files outside of its own folder
        overwrite: redo a folder made with other settings, or write into one that holds other files
        device: auto, cpu, cuda, ...
        quiet: no progress bar
    """
    typed, started = dict(locals()), time.time()
    spec = required_kernel(kernel)
    config = DiffPirConfig(num_steps=steps, num_samples=samples, t_start=start_level, zeta=zeta)
    where = choose_device(device)
    restorer = load_restorer(named(solver), where, config=config, seed=seed)
    policy = Policy(gate=gate)
    content = {"rules": RULES, "solver": restorer.identity, "kernel": str(spec), "taps": taps_hash(spec), "seed": seed}
    content |= {"noise_level": noise_level, "policy": to_dict(policy), "to": to, "keep_patient": keep_patient}
    source_records = records_of(source, allow_outside)
    num_renamed = num_with_uid(source_records)
    records = source_records if keep_patient or not num_renamed else without_uids(source_records)
    content |= {"ids": "kept"} if keep_patient and num_renamed else {}
    identity = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
    settings = DeblurSettings(
        kernel=spec,
        noise_level=noise_level,
        policy=policy,
        to=to,
        keep_patient=keep_patient,
        seed=seed,
        batch_size=batch_size,
        overwrite=overwrite,
        identity=identity,
    )
    if source.is_dir() or source.suffix.lower() == ".csv":
        refuse_place(source, out, overwrite=overwrite)
    make_folder(out)
    if spec.kind == "random":
        print("warning: random kernels are for synthetic tests: they have nothing to do with these images", file=sys.stderr)

    def begin() -> None:
        begin_run(
            out,
            "deblur",
            command=command_text("deblur", deblur, typed | {"solver": solver if solver in CLASSICAL else Path(solver)}),
            config={
                "solver": restorer.identity,
                "prior": restorer.experiment,
                "kernel": kernel_text(spec),
                "policy": to_dict(policy),
            },
            data=data_facts(records, is_manifest=source.suffix.lower() == ".csv" and source.is_file()),
            seed=seed,
            device=where,
            environment=environment(),
            started_unix_s=started,
            settings={"identity": identity, "noise_level": noise_level, "solver": restorer.name, "kernel": kernel_text(spec)},
        )

    with (
        stop_requested() as stop,
        tqdm(total=len(records), unit="image", desc="deblurring", disable=quiet, file=sys.stderr) as bar,
    ):
        summary, lines = deblur_all(
            restorer,
            records,
            out,
            settings,
            device=where,
            stop=stop,
            watch=lambda count: bar.update(count) and None,
            begin=begin,
        )
    end_run(out)
    write_tables(records, lines, out)
    if page > 0 and lines:
        said = [
            ("solver", restorer.name),
            ("kernel", kernel_text(spec)),
            ("noise level", f"{noise_level:g}"),
            ("gate", str(gate).lower()),
        ]
        write_page(out / "report.html", records, lines, settings=[*said, ("seed", str(seed))], max_cases=page)
    changed = sum(line["outcome"] == "deblurred" for line in lines.values())
    reasons = ", ".join(f"{code}: {count}" for code, count in sorted(summary.reasons.items()))
    print(f"{summary.ok} done, {summary.skipped} already there, {summary.failed} failed{f' ({reasons})' if reasons else ''}")
    print(about_names(0 if keep_patient else num_renamed), end="")
    print(
        f"{changed} deblurred by {restorer.name}, {len(lines) - changed} left as they were{f'; {restorer.note}' if restorer.note else ''}"
    )
    print(f"wrote {out} (deblur.csv says what happened to each image). Not for diagnosis.")
    if summary.stopped:
        raise Preempted("stopped before the end", code="E_PREEMPTED", path=out, fix="run the same command again to continue")
    return summary.exit_code()


def required_kernel(text: str, option: str = "--kernel") -> KernelSpec:
    """The kernel of a command line, its file read once so that a bad one is refused before the work.

    Raises:
        ConfigError: E_KERNEL, none was given, or none is called so.
        InputError: E_KERNEL, a file that holds none.
    """
    if not text.strip():
        raise ConfigError(
            f"{option} is required: a wrong kernel does more harm than blur",
            code="E_KERNEL",
            fix=f"take {option} estimated, or 'linear 10@30', 'given FILE' where you know it",
        )
    spec = parse_kernel(text)
    if spec.path is not None:
        read_kernel(spec.path)
    return spec


def kernel_text(spec: KernelSpec) -> str:
    """The kernel without folders: a path may name a person."""
    return f"given {spec.path.name}" if spec.path is not None else str(spec)


def taps_hash(spec: KernelSpec) -> str | None:
    """SHA-256 of a given kernel's file."""
    return None if spec.path is None else sha256_of(spec.path)


def named(solver: str) -> str:
    """The solver, or where its prior lies: shipped weights may be named."""
    return solver if solver in CLASSICAL else str(resolve_checkpoint(Path(solver)))


def main(arguments: Sequence[str]) -> int:
    """``medanomaly deblur SOLVER SOURCE OUT --kernel ...``."""
    return run_function(deblur, "medanomaly deblur", "PRIOR|tv|wiener|rl SOURCE OUT --kernel KERNEL [options]", arguments)

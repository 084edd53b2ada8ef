"""A world so small that a drill can live through it hundreds of times: a random network, a handful of images, and their run folders."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from medanomaly.checkpoint import load_train_state, save_checkpoint, save_train_state
from medanomaly.datasets.manifest import Record, write_manifest
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.diffusion.unet import NetworkConfig
from medanomaly.evaluation.run_record import begin_run, data_facts, end_run
from medanomaly.files import sha256_of, write_json
from medanomaly.methods.cfg_diffusion import CfgDiffusionConfig
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.methods.experiment import Experiment
from medanomaly.scoring.finish import MapConfig
from medanomaly.scoring.operating_point import DICE, OperatingPoint
from medanomaly.training.config import TrainingConfig
from medanomaly.training.log import environment

SIDE = 16
IDENTITY = "drill"
TIMED = frozenset({"run.json", "status.json", "report.jsonl", ".lock"})
"""Files that say when they were written."""


def tiny_experiment() -> Experiment:
    """A network of 16 x 16 images that takes milliseconds."""
    network = NetworkConfig(channels=(16, 16), attention=(False, True), head_channels=16, norm_groups=8)
    method = CfgDiffusionConfig(network=network, sampler=SamplerConfig(noise_level=400, num_steps=2), map=MapConfig(median_px=0))
    training = TrainingConfig(num_steps=4, precision="fp32", warmup_steps=0)
    return Experiment(name="phantom64-cfg", method=method, preprocess=PreprocessConfig(image_size=SIDE), training=training)


def write_tiny_checkpoint(folder: Path) -> None:
    """``model.safetensors`` of random weights, as `train` would leave it."""
    experiment = tiny_experiment()
    recipe = experiment.method.recipe(image_channels=1, training=experiment.training, device=torch.device("cpu"))
    point = OperatingPoint(value=0.3, criterion=DICE, chosen_on="val", target=None, num_images=2, image_fingerprint=())
    header = {"experiment": experiment.to_dict(), "step": 4, "operating_points": [point.to_dict()]}
    save_checkpoint(folder / "model.safetensors", recipe.weights(), header | {"provenance": {"seen_images": []}})


def draw(path: Path, seed: int) -> Path:
    """A noise image of 16 x 16 px."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)).save(path)
    return path


def tiny_manifest(folder: Path, num_images: int = 16) -> Path:
    """Images of as many patients, half of them diseased with a mask, two thirds in train."""
    records = []
    for index in range(num_images):
        image, is_ill = draw(folder / f"{index}.png", index), index % 2 == 1
        mask = folder / f"mask{index}.png"
        lesion = np.zeros((SIDE, SIDE), np.uint8)
        lesion[4:9, 4:9] = 255
        Image.fromarray(lesion).save(mask)
        records.append(
            Record(
                id=f"i{index}",
                patient_id=f"p{index}",
                image=image,
                label="diseased" if is_ill else "healthy",
                mask=mask if is_ill else None,
                annotated_empty=not is_ill,
                split="val" if index >= num_images * 2 // 3 else "train",
            )
        )
    write_manifest(records, folder / "manifest.csv")
    return folder / "manifest.csv"


def train_words(manifest: Path, out: Path, *, num_steps: int, save_every: int, num_workers: int = 0) -> list[str]:
    """The command line of a training that takes seconds."""
    options = {
        "preprocess.image_size": SIDE,
        "method.network.channels": "[16,16]",
        "method.network.attention": "[false,true]",
        "method.network.head_channels": 16,
        "method.network.norm_groups": 8,
        "method.sampler.noise_level": 400,
        "method.sampler.num_steps": 2,
        "method.map.median_px": 0,
        "training.num_steps": num_steps,
        "training.batch_size": 4,
        "training.precision": "fp32",
        "training.warmup_steps": 0,
        "training.log_every": 1,
        "training.save_every": save_every,
        "training.validate_every": max(1, num_steps // 3),
        "training.num_workers": num_workers,
        "device": "cpu",
    }
    given = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    return ["train", "phantom64-cfg", "--data", str(manifest), "--out", str(out), *given]


def localize_words(checkpoint: Path, source: Path, out: Path, *more: str) -> list[str]:
    """The command line of a job over tiny images."""
    return ["localize", str(checkpoint), str(source), str(out), "--device", "cpu", "--quiet", "true", "--batch-size", "2", *more]


def tree(folder: Path, leave_out: frozenset[str] = TIMED) -> dict[str, str]:
    """Relative name -> SHA-256 of every file but those that say when they were written."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in leave_out)
    return {path.relative_to(folder).as_posix(): digest_of(path) for path in sorted(files)}


def digest_of(path: Path) -> str:
    """Hash of a file's bytes; of a training state's content, whose pickle also depends on which equal strings were one object."""
    return state_digest(load_train_state(path)) if path.suffix == ".pt" else sha256_of(path)


def state_digest(state: Any) -> str:
    """Hash of nested dicts and lists of tensors and plain values, with types, shapes and every bit."""
    digest = hashlib.sha256()
    waiting = [state]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            digest.update(f"map {list(value)!r}".encode())
            waiting += value.values()
        elif isinstance(value, list | tuple):
            digest.update(f"list {len(value)}".encode())
            waiting += value
        elif isinstance(value, torch.Tensor):
            digest.update(f"{value.dtype} {tuple(value.shape)}".encode() + value.contiguous().numpy().tobytes())
        else:
            digest.update(f"{type(value).__name__} {value!r}".encode())
    return digest.hexdigest()


def torn(folder: Path) -> list[str]:
    """Temporary files that somebody left."""
    return [path.name for path in folder.rglob(".*tmp-*")]


def begin(folder: Path, kind: str, records: Sequence[Record]) -> None:
    """config.json and run.json of a run over these records."""
    begin_run(
        folder,
        kind,
        command=f"medanomaly {kind}",
        config=tiny_experiment().to_dict(),
        data=data_facts(records),
        seed=0,
        device="cpu",
        environment=environment() | {"git_commit": None},
        identity=IDENTITY,
        settings={"identity": IDENTITY},
        weights_sha256=hashlib.sha256(b"").hexdigest(),
    )


def tiny_run_folder(folder: Path) -> None:
    """The folder of a training that was stopped at step 4 of 8."""
    experiment = tiny_experiment()
    recipe = experiment.method.recipe(image_channels=1, training=experiment.training, device=torch.device("cpu"))
    begin(folder, "train", [])
    save_train_state(folder / "train_state.pt", {"identity": IDENTITY, "step": 4, "recipe": recipe.state()})
    (folder / "log.jsonl").write_text("".join(f'{{"step": {step}, "loss": 0.5}}\n' for step in range(4)))
    write_json(folder / "status.json", {"status": "preempted", "step": 4, "num_steps": 8})


def tiny_localize_folder(folder: Path) -> None:
    """The folder of a job over two images, one of which failed."""
    images = [draw(folder / name, 0) for name in ("0.png", "1.png")]
    begin(folder, "localize", [Record(id=path.name, patient_id=path.name, image=path) for path in images])
    (folder / "maps").mkdir()
    (folder / "maps" / "0.npy").write_bytes(b"map")
    said = (
        f'"sha256_in": "{sha256_of(images[0])}", "message": "", "seconds": 0.1, "identity": "{IDENTITY}", "intensity_range": null'
    )
    (folder / "report.jsonl").write_text(
        f'{{"id": "0.png", "status": "ok", "reason_code": "", "outputs": ["maps/0.npy"], {said}}}\n'
        f'{{"id": "1.png", "status": "failed", "reason_code": "E_EMPTY", "outputs": [], {said}}}\n'
    )
    write_json(folder / "status.json", {"status": "done", "ok": 1, "skipped": 0, "failed": 1, "reasons": {"E_EMPTY": 1}})
    end_run(folder)

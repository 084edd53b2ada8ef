"""Run folders as the commands leave them, small and whole, to be broken one thing at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medanomaly.evaluation.run_record import begin_run, data_facts, end_run
from medanomaly.evaluation.run_results import RESULTS
from medanomaly.files import write_json

SHA = "a" * 64
VERSIONS = {
    "medanomaly": "0.1",
    "git_commit": None,
    "python": "3.11",
    "machine": "x86_64",
    "threads": 1,
    "packages": {"torch": "2", "monai": "1", "numpy": "2"},
}
OF_KIND: dict[str, dict[str, Any]] = {
    "train": {"identity": SHA},
    "evaluate": {"weights_sha256": SHA},
    "localize": {
        "weights_sha256": SHA,
        "settings": {"identity": "job", "threshold": 0.3, "scale_max": 1.2, "unit": "units"},
    },
    "deblur": {"settings": {"identity": "job", "solver": "tv", "kernel": "linear 10@30", "noise_level": 0.5}},
    "likelihood": {"weights_sha256": SHA},
    "generate": {
        "weights_sha256": SHA,
        "classifier_sha256": None,
        "settings": {"sampler": "ddim", "num_steps": 2, "num_images": 2},
    },
    "evaluate-samples": {"features_sha256": None},
    "evaluate-classifier": {"weights_sha256": SHA},
}
TABLES = {
    "deblur": ("deblur.csv", "id,image\na,maps/a.npy\n"),
    "likelihood": ("images.csv", "id,patient_id\na,p\nb,q\n"),
    "generate": ("manifest.csv", "id,image\n0,images/0.png\n1,images/1.png\n"),
    "evaluate-samples": ("neighbours.csv", "sample,nearest_training_id\na,b\n"),
    "evaluate-classifier": ("images.csv", "id,level\na,0\nb,0\na,10\nb,10\n"),
}
"""Of the kinds whose results are a list of files: the table with a row an image."""


def write_run(out: Path, kind: str, *, ended: bool = True) -> None:
    """config.json and run.json."""
    begin_run(
        out,
        kind,
        command=f"medanomaly {kind}",
        config={"name": "tiny", "levels": (1, 2)},
        data=data_facts([], is_manifest=False) | {"manifest_sha256": SHA, "split_sha256": SHA},
        seed=0,
        device="cpu",
        environment=VERSIONS,
        **OF_KIND[kind],
    )
    if ended:
        end_run(out)


def localized(out: Path, kind: str = "localize") -> Path:
    """A job of one good and one failed image."""
    write_run(out, kind)
    (out / "maps").mkdir()
    (out / "maps" / "a.npy").write_bytes(b"map")
    common = {"sha256_in": SHA, "seconds": 0.1}
    lines = [
        {"id": "a", "status": "ok", "reason_code": "", "message": "", "outputs": ["maps/a.npy"], "identity": "job", **common},
        {"id": "b", "status": "failed", "reason_code": "E_EMPTY", "message": "is empty", "outputs": [], **common},
    ]
    (out / "report.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_json(out / "status.json", {"status": "done", "ok": 1, "skipped": 0, "failed": 1, "reasons": {"E_EMPTY": 1}})
    return out


def resulting(kind: str, out: Path) -> Path:
    """A finished run of a kind whose results are a list of files: two images, or one that was deblurred."""
    if kind == "deblur":
        localized(out, kind)
    else:
        write_run(out, kind)
        write_json(out / "status.json", {"status": "done"} | ({} if kind == "generate" else {"num_images": 2}))
    for name in RESULTS[kind].files:
        (out / name).write_text("{}\n")
    name, text = TABLES[kind]
    (out / name).write_text(text)
    for index in range(2 if kind == "generate" else 0):
        (out / "images").mkdir(exist_ok=True)
        (out / "images" / f"{index}.png").write_bytes(b"image")
    return out


def evaluated(out: Path) -> Path:
    """An evaluation of two methods on two images."""
    write_run(out, "evaluate")
    write_json(out / "evaluation.json", {"facts": {"manifest_sha256": SHA}, "counts": {"num_images": 2}})
    for name in ("table.md", "table.csv"):
        (out / name).write_text("x\n")
    (out / "images.csv").write_text("method,id\none,a\none,b\ntwo,a\ntwo,b\n")
    write_json(out / "status.json", {"status": "done"})
    return out


def trained(out: Path) -> Path:
    """A training of three steps that is still running."""
    write_run(out, "train", ended=False)
    (out / "log.jsonl").write_text("".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in range(3)))
    write_json(out / "status.json", {"status": "running", "step": 0, "num_steps": 3})
    return out

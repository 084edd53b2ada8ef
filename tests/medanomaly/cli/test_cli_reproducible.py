"""The same commands make the same files in another process, whatever order that gives to sets and dictionaries of text."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from cli_builders import TINY_TRAINING, write_labelled
from live_builders import ROOT

from medanomaly.cli.main import main

ROWS = [(f"{split}{n}", label, split) for split in ("train", "val") for n, label in enumerate(("healthy", "diseased") * 2)]


def test_weights_and_maps_are_equal_bit_for_bit_in_another_process_with_another_hash_seed(tmp_path: Path) -> None:
    manifest = write_labelled(tmp_path / "set", ROWS)

    def lines(out: Path) -> list[list[str]]:
        train = ["train", "phantom64-cfg", "--data", str(manifest), "--out", str(out / "run"), *TINY_TRAINING]
        return [train, ["localize", str(out / "run"), str(tmp_path / "set" / "0.png"), str(out / "maps"), "--device", "cpu"]]

    assert [main(line) for line in lines(tmp_path / "here")] == [0, 0]
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    environment = os.environ | {
        "PYTHONHASHSEED": seed,
        "PYTHONPATH": str(ROOT),
        # With another number of threads, sums are rounded in another order.
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    program = f"import sys\nfrom medanomaly.cli.main import main\nsys.exit(max(map(main, {lines(tmp_path / 'there')!r})))"
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    made = sorted(path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*") if path.is_file())
    kept = [path for path in made if path.suffix in (".safetensors", ".npy", ".png", ".pt") or path.name == "log.jsonl"]
    assert {path.suffix for path in kept} >= {".safetensors", ".npy", ".png", ".pt", ".jsonl"}
    for path in kept:
        assert (tmp_path / "here" / path).read_bytes() == (tmp_path / "there" / path).read_bytes(), path

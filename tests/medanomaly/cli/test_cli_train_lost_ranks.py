"""Training by several processes where one fails or hangs, and where memory runs out: who is to blame stands in the last line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_builders import TINY_TRAINING, write_labelled
from rank_builders import in_ranks

from medanomaly.checkpoint import load_train_state
from medanomaly.cli.main import main
from medanomaly.methods.recipe import DiffusionTrainer
from medanomaly.training import optimise

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
ROWS = [(f"{split}{n}", label, split) for split in ("train", "val") for n, label in enumerate(("healthy", "diseased") * 2)]


def words(manifest: Path, out: Path, *options: str) -> list[str]:
    return ["train", "phantom64-cfg", "--data", str(manifest), "--out", str(out), *TINY_TRAINING, *options]


@pytest.mark.parametrize("num_workers", ["0", "1"])
def test_a_file_that_stops_one_process_is_named_by_it_and_the_other_ends_as_well(tmp_path: Path, num_workers: str) -> None:
    manifest = write_labelled(tmp_path / "set", ROWS)
    torn = tmp_path / "set" / "2.png"
    torn.write_bytes(torn.read_bytes()[:90])
    line = words(manifest, tmp_path / "run", "--rank-timeout-s", "60", "--training.num-workers", num_workers)
    began = time.monotonic()
    codes = in_ranks(2, lambda _rank: main(line), tmp_path / "said")
    assert time.monotonic() - began < 60
    assert 4 in codes
    assert set(codes) <= {4, 6}
    for rank, code in enumerate(codes):
        last = (tmp_path / "said" / f"{rank}.txt").read_text().splitlines()[-1]
        assert ("2.png: ends too early" in last and "[E_TRUNCATED]" in last) if code == 4 else "[E_RANK_LOST]" in last
        assert "Traceback" not in last


def test_a_process_that_hangs_is_given_up_after_the_timeout(tmp_path: Path) -> None:
    manifest = write_labelled(tmp_path / "set", ROWS)
    told = tmp_path / "said" / "0.txt"

    def act(rank: int) -> int:
        average, count = optimise.average_over_ranks, 0

        def hanging(tensors: Any) -> None:
            nonlocal count
            count += 1
            if rank == 1 and count == 2:
                # Alive, its connections open, until the other one has given up.
                deadline = time.monotonic() + 60
                while "E_RANK_LOST" not in told.read_text() and time.monotonic() < deadline:
                    time.sleep(0.05)
                os._exit(0 if "E_RANK_LOST" in told.read_text() else 88)
            average(tensors)

        optimise.average_over_ranks = hanging
        return main(words(manifest, tmp_path / "run", "--rank-timeout-s", "3"))

    assert in_ranks(2, act, tmp_path / "said") == [6, 0]
    assert "rank 0 lost the other processes of this training" in told.read_text()


def test_memory_that_runs_out_in_training_ends_it_and_no_step_has_a_smaller_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_labelled(tmp_path / "set", ROWS)
    loss: Callable[..., Any] = DiffusionTrainer.loss
    sizes: list[int] = []

    def short_of_memory(self: DiffusionTrainer, denoiser: Any, batch: Any, generator: Any) -> Any:
        sizes.append(len(batch.x))
        if len(sizes) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(self, denoiser, batch, generator)

    monkeypatch.setattr(DiffusionTrainer, "loss", short_of_memory)
    line = words(manifest, tmp_path / "run", "--training.save-every", "1", "--training.validate-every", "9")
    assert main(line) == 6
    assert "out of memory [E_MEMORY]; use a smaller batch size or image size" in capsys.readouterr().err
    assert sizes == [4, 4]
    assert load_train_state(tmp_path / "run" / "train_state.pt")["step"] == 1
    assert main(line) == 0
    assert set(sizes) == {4}

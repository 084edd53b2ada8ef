"""`medanomaly train` by several processes: the weights of one, written by the first, and what remains when a process is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_builders import TINY_TRAINING, write_labelled
from live_builders import ROOT
from rank_builders import PATIENCE_S, free_port, in_ranks
from safetensors.torch import load_file

from medanomaly.cli.main import main
from medanomaly.methods.recipe import DiffusionTrainer
from medanomaly.training import optimise
from medanomaly.training.log import RunLog

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
ROWS = [(f"{split}{n}", label, split) for split in ("train", "val") for n, label in enumerate(("healthy", "diseased") * 2)]
OPTIONS = (*TINY_TRAINING, "--training.num-steps", "5", "--training.save-every", "2", "--method.network.dropout", "0.2")


def words(manifest: Path, out: Path) -> list[str]:
    return ["train", "phantom64-cfg", "--data", str(manifest), "--out", str(out), *OPTIONS, "--rank-timeout-s", "60"]


def trained(manifest: Path, out: Path, before: Callable[[int], None] = lambda _rank: None, count: int = 2) -> list[int]:
    """Exit codes of one training by several processes, each of which does something ``before``."""

    def act(rank: int) -> int:
        before(rank)
        return main(words(manifest, out))

    return in_ranks(count, act, out.with_name(f"{out.name}-said"))


def said(out: Path, rank: int) -> str:
    return (out.with_name(f"{out.name}-said") / f"{rank}.txt").read_text()


def weights(out: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(out / "model.safetensors")
    return found


def assert_same_run(one: Path, other: Path) -> None:
    assert (one / "log.jsonl").read_bytes() == (other / "log.jsonl").read_bytes()
    assert all(torch.equal(weights(one)[name], value) for name, value in weights(other).items())


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled(tmp_path_factory.mktemp("data"), ROWS)


@pytest.fixture(scope="module")
def by_two(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training by two processes, of which the second one may not open a file for writing."""
    out = tmp_path_factory.mktemp("runs") / "two"

    def refuse_writing(rank: int) -> None:
        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open" and str(arguments[0]).startswith(str(out)) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
                os._exit(77)

        if rank == 1:
            sys.addaudithook(hook)

    assert trained(manifest, out, refuse_writing) == [0, 0], said(out, 0) + said(out, 1)
    return out


def test_two_processes_train_the_weights_of_one(manifest: Path, by_two: Path, tmp_path: Path) -> None:
    assert main(words(manifest, tmp_path / "one")) == 0
    one, two = weights(tmp_path / "one"), weights(by_two)
    assert max(float((one[name] - value).abs().max()) for name, value in two.items()) < 1e-5
    logs = [RunLog.read(out / "log.jsonl") for out in (tmp_path / "one", by_two)]
    assert [line.keys() for line in logs[0]] == [line.keys() for line in logs[1]]
    assert [line["loss"] for line in logs[0]] == pytest.approx([line["loss"] for line in logs[1]], abs=1e-5)
    # They have learned something, so equal weights are no accident of standing still.
    assert logs[0][0]["loss"] != logs[0][-1]["loss"]
    assert json.loads((by_two / "run.json").read_text())["num_ranks"] == 2
    assert main(["verify-run", str(by_two)]) == 0
    assert said(by_two, 1) == ""


def test_a_killed_process_ends_the_training_and_the_same_command_makes_the_uninterrupted_weights_bit_for_bit(
    manifest: Path, by_two: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"

    def die_in_step_3(rank: int) -> None:
        average, count = optimise.average_over_ranks, 0

        def dying(tensors: Any) -> None:
            nonlocal count
            count += 1
            if rank == 1 and count == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            average(tensors)

        optimise.average_over_ranks = dying

    assert trained(manifest, out, die_in_step_3) == [6, -signal.SIGKILL]
    assert "rank 0 lost the other processes of this training" in said(out, 0)
    assert "[E_RANK_LOST]; look for the rank that ended first; the same command continues" in said(out, 0)
    assert not (out / "model.safetensors").exists()
    assert trained(manifest, out) == [0, 0], said(out, 0)
    assert json.loads((out / "status.json").read_text()) == {"status": "done", "step": 5, "num_steps": 5}
    assert_same_run(out, by_two)


def test_a_signal_to_one_process_stops_all_after_the_same_step(manifest: Path, by_two: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped"

    def ask_to_stop(rank: int) -> None:
        average, count = optimise.average_over_ranks, 0

        def asking(tensors: Any) -> None:
            nonlocal count
            count += 1
            if rank == 1 and count == 3:
                signal.raise_signal(signal.SIGTERM)
            average(tensors)

        optimise.average_over_ranks = asking

    assert trained(manifest, out, ask_to_stop) == [75, 75]
    assert json.loads((out / "status.json").read_text()) == {"status": "preempted", "step": 3, "num_steps": 5}
    assert all("stopped at step 3 of 5, state saved [E_PREEMPTED]" in said(out, rank) for rank in (0, 1))
    assert trained(manifest, out) == [0, 0]
    assert_same_run(out, by_two)


def test_a_loss_that_is_nan_in_one_process_is_skipped_by_all(manifest: Path, tmp_path: Path) -> None:
    def spoil(rank: int) -> None:
        loss, count = DiffusionTrainer.loss, 0

        def spoiling(self: DiffusionTrainer, *arguments: Any) -> dict[str, torch.Tensor]:
            nonlocal count
            count += 1
            terms = loss(self, *arguments)
            return terms | {"loss": terms["loss"] * float("nan")} if rank == 1 and count == 2 else terms

        DiffusionTrainer.loss = spoiling  # type: ignore[assignment]

    out = tmp_path / "out"
    assert trained(manifest, out, spoil) == [0, 0]
    assert [line["skipped"] for line in RunLog.read(out / "log.jsonl")] == [0, 1, 0, 0, 0]
    assert all(bool(value.isfinite().all()) for value in weights(out).values())


@pytest.mark.parametrize(
    ("preset", "options", "message"),
    [
        ("phantom64-cfg", ("--training.batch-size", "5"), "batch_size 5 cannot be split evenly over 2 processes [E_RANKS]"),
        ("gray64-fpgan", ("--training.precision", "fp32"), "cannot be trained by several processes"),
    ],
)
def test_what_cannot_be_shared_is_refused_before_a_step(
    manifest: Path, tmp_path: Path, preset: str, options: tuple[str, ...], message: str
) -> None:
    plain = ["train", preset, "--data", str(manifest), "--out", str(tmp_path / "run"), "--preprocess.image-size", "32"]

    assert in_ranks(2, lambda _rank: main([*plain, "--device", "cpu", *options]), tmp_path / "said") == [2, 2]
    assert message in (tmp_path / "said" / "0.txt").read_text()
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_torchrun_starts_a_lost_process_again_and_the_run_ends_as_if_nothing_had_happened(
    manifest: Path, by_two: Path, tmp_path: Path
) -> None:
    out, worker = tmp_path / "run", tmp_path / "worker.py"
    worker.write_text(
        "import os, signal, sys\n"
        "from medanomaly.training import optimise\n"
        "average, count = optimise.average_over_ranks, 0\n"
        "def dying(tensors):\n"
        "    global count\n"
        "    count += 1\n"
        "    if os.environ['RANK'] == '1' and os.environ['TORCHELASTIC_RESTART_COUNT'] == '0' and count == 4:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    average(tensors)\n"
        "optimise.average_over_ranks = dying\n"
        "from medanomaly.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    launcher += ["--master-port", str(free_port()), "--max-restarts", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [*launcher, str(worker), *words(manifest, out)], env=environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert ended.returncode == 0, ended.stderr
    assert_same_run(out, by_two)

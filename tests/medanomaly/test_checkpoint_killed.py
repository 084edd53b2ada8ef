"""A process that is killed while it saves, at whatever moment, leaves a state that loads and is of one piece."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from medanomaly.checkpoint import load_checkpoint, load_train_state, save_checkpoint, save_train_state

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
TRIALS = 20


def save_for_ever(folder: Path) -> None:
    torch.set_num_threads(1)
    step = 1
    while True:
        weight = torch.full((50_000,), float(step))
        save_train_state(folder / "train_state.pt", {"step": step, "recipe": {"weight": weight}})
        save_checkpoint(folder / "model.safetensors", {"weight": weight}, {"step": step})
        step += 1


def test_a_kill_at_any_moment_leaves_a_state_that_loads_and_is_of_one_piece(tmp_path: Path) -> None:
    reached, torn = [], 0
    for trial in range(TRIALS):
        folder = tmp_path / str(trial)
        process = multiprocessing.get_context("fork").Process(target=save_for_ever, args=(folder,))
        process.start()
        assert process.pid is not None
        deadline = time.monotonic() + 60
        while not (folder / "model.safetensors").exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        # A golden ratio of a save spreads the moments over it.
        time.sleep(0.02 * (trial * 0.618 % 1))
        os.kill(process.pid, signal.SIGKILL)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        state, released = load_train_state(folder / "train_state.pt"), load_checkpoint(folder)
        assert bool((state["recipe"]["weight"] == state["step"]).all())
        assert bool((released.tensors["weight"] == released.header["step"]).all())
        assert state["step"] - released.header["step"] in (0, 1)
        reached.append(state["step"])
        torn += any(".tmp-" in path.name for path in folder.iterdir())
    # Some were hit in the middle of a save, or this proves nothing.
    assert torn > 0
    assert max(reached) > 1

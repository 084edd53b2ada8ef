"""A signal to the whole process group stops a training in peace: its loading processes go on until it has saved."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from toys import images

from medanomaly.cli.owned_folder import stoppable
from medanomaly.errors import Preempted
from medanomaly.files import write_json
from medanomaly.training.batches import training_batches
from medanomaly.training.preempt import NUMBERS, held_back, outlive_first_signal
from medanomaly.types import Geometry, Sample


class Samples:
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Sample:
        return Sample(id=str(index), patient_id=str(index), x=images(4)[index], label="healthy", mask=None, geometry=GEOMETRY)


GEOMETRY = Geometry.__new__(Geometry)


def worker(pipe: Connection) -> None:
    outlive_first_signal(0)
    pipe.send("alive")
    pipe.recv()


@pytest.mark.parametrize("number", NUMBERS)
def test_a_loading_process_outlives_the_first_signal_even_while_it_starts_and_not_the_second(number: signal.Signals) -> None:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=worker, args=(theirs,))
    with held_back():
        process.start()
    assert process.pid is not None
    os.kill(process.pid, number)
    assert ours.poll(60)
    assert ours.recv() == "alive"
    time.sleep(0.1)
    assert process.is_alive()
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == 1


def test_signals_are_let_through_again_after_the_start() -> None:
    with held_back():
        assert set(NUMBERS) <= signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert not set(NUMBERS) & signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_batches_keep_coming_after_the_loading_processes_were_signalled() -> None:
    batches = training_batches(
        Samples(),
        ("healthy",),
        batch_size=2,
        seed=0,
        first_step=0,
        num_steps=12,
        flip=False,
        num_workers=1,
    )
    next(batches)
    (loading,) = multiprocessing.active_children()
    assert loading.pid is not None
    os.kill(loading.pid, signal.SIGTERM)
    assert sum(1 for _ in batches) == 11
    assert torch.is_tensor(images(1))


def test_a_signal_between_training_and_thresholds_is_a_preemption_and_says_so(tmp_path: Path) -> None:
    write_json(tmp_path / "status.json", {"status": "done", "step": 4})
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted) as stopped, stoppable(tmp_path):
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.exit_code == 75
    assert json.loads((tmp_path / "status.json").read_text()) == {"status": "preempted", "step": 4}
    assert signal.getsignal(signal.SIGTERM) is before

"""What goes wrong in a loading process is told as if the training itself had read the image."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from toys import images, samples

from medanomaly.datasets.dataset import ManifestDataset
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.errors import CheckpointError, InputError, ResourceError
from medanomaly.training import loading
from medanomaly.training.batches import training_batches
from medanomaly.training.loading import end_processes
from medanomaly.types import Batch, Sample

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


class Eight:
    """Eight samples, one of which does something."""

    def __init__(self, place: int, act: Callable[[], object]) -> None:
        self.samples, self.place, self.act = samples(8), place, act

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        if index == self.place:
            self.act()
        return self.samples[index]


def batches(source: Eight | ManifestDataset, *, num_workers: int, num_steps: int = 8) -> Iterator[Batch]:
    return training_batches(
        source,
        ("healthy", "diseased"),
        batch_size=2,
        seed=0,
        first_step=0,
        num_steps=num_steps,
        flip=False,
        num_workers=num_workers,
    )


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_image_that_cannot_be_used_is_one_error_with_its_name_whoever_read_it(tmp_path: Path, num_workers: int) -> None:
    image = tmp_path / "torn.png"
    Image.fromarray((images(1)[0, 0].numpy() * 100 + 100).astype(np.uint8)).save(image)
    image.write_bytes(image.read_bytes()[:90])
    torn = ManifestDataset(
        [Record(id="a", patient_id="a", image=image, label="healthy")], PreprocessConfig(image_size=16), ("healthy", "diseased")
    )
    with pytest.raises(InputError) as refused:
        next(batches(torn, num_workers=num_workers))
    assert (refused.value.code, refused.value.exit_code, refused.value.path) == ("E_TRUNCATED", 4, image)
    assert "Traceback" not in str(refused.value)


def test_an_error_comes_whole_from_another_process() -> None:
    error = CheckpointError("is torn", code="E_CKPT_CORRUPT", fix="copy it again", path="x")
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is CheckpointError
    assert (str(found), found.code, found.fix, found.path) == (str(error), error.code, error.fix, error.path)


def test_a_loading_process_that_dies_is_an_error_that_names_what_it_was_reading() -> None:
    coming = batches(Eight(5, die), num_workers=1)
    with pytest.raises(ResourceError, match=r"a loading process ended; being read: image 5 .*\[E_WORKER\]; look at") as lost:
        list(coming)
    assert lost.value.exit_code == 6
    assert "the same command continues from the last saved state" in lost.value.fix


def test_the_end_of_a_loading_process_does_not_interrupt_a_step_and_is_told_with_the_next_batch() -> None:
    steps: list[str] = []

    def train() -> None:
        for _ in batches(Eight(5, die), num_workers=1):
            steps.append("begun")
            began = time.monotonic()
            while time.monotonic() - began < 0.5:
                # The process dies in here, ahead of the training.
                time.sleep(0.02)
            steps.append("done")

    with pytest.raises(ResourceError, match="being read: image 5 ") as lost:
        train()
    assert steps
    assert steps[-1] == "done"
    assert lost.value.code == "E_WORKER"


def test_after_the_end_of_loading_the_end_of_another_process_is_nobodys_business() -> None:
    loaded: Any = iter(DataLoader(list(range(8)), num_workers=1))
    theirs = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    try:
        loaded._workers[0].kill()
        os.waitid(os.P_PID, loaded._workers[0].pid, os.WEXITED | os.WNOWAIT)
        # Nobody has heard of it yet, as where a broken connection was noticed first.
        end_processes(loaded)
    finally:
        signal.signal(signal.SIGCHLD, theirs)
    assert subprocess.run(["true"], check=True).returncode == 0


def test_a_loading_process_that_hangs_is_given_up_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "PATIENCE_S", 2)
    # How long the hanging one is then given to end.
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)
    coming = batches(Eight(3, lambda: time.sleep(60)), num_workers=1)
    with pytest.raises(ResourceError, match=r"gave no batch for 2 s; being read: image 3 .*E_WORKER"):
        list(coming)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("kind", [RuntimeError, FileNotFoundError])
def test_another_error_stays_what_it_is(num_workers: int, kind: type[Exception]) -> None:
    def fails() -> None:
        raise kind("nobody foresaw")

    with pytest.raises(kind, match="nobody foresaw"):
        list(batches(Eight(0, fails), num_workers=num_workers))

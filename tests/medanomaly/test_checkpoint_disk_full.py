"""A disk that fills up while something is written is called so, wherever the write was."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import pytest
import torch

from medanomaly import files
from medanomaly.checkpoint import load_train_state, save_train_state
from medanomaly.cli import verify_run
from medanomaly.cli.main import main
from medanomaly.errors import ResourceError


class Full(io.FileIO):
    """Takes the first 100 bytes."""

    def write(self, content: Any) -> int:
        if self.tell() + len(content) > 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(content)


def test_a_state_that_does_not_fit_on_the_disk_is_a_full_disk_and_the_last_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "train_state.pt"
    save_train_state(path, {"step": 1})
    monkeypatch.setattr(files, "open", lambda name, _mode: Full(name, "w"), raising=False)
    with pytest.raises(ResourceError) as full:
        save_train_state(path, {"weights": torch.zeros(1000)})
    assert full.value.code == "E_DISK_FULL"
    assert load_train_state(path) == {"step": 1}
    assert [one.name for one in tmp_path.iterdir()] == ["train_state.pt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_in_an_appended_line_ends_with_the_code_of_resources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(number, "full")

    monkeypatch.setattr(verify_run, "findings_of", full)
    assert main(["verify-run", str(tmp_path)]) == 6
    assert "[E_DISK_FULL]; free space and run again" in capsys.readouterr().err

"""The folder of a training belongs to one process, which clears away what a killed one left."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from cli_builders import TINY_TRAINING, write_labelled

from medanomaly.cli.main import main
from medanomaly.cli.owned_folder import owned
from medanomaly.errors import ResourceError
from medanomaly.evaluation.bulk import locked


def test_a_folder_that_another_process_trains_in_is_refused_untouched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(str(patient), ("healthy", "diseased")[patient % 2], "val" if patient > 3 else "train") for patient in range(6)]
    words = ["train", "phantom64-cfg", "--data", str(write_labelled(tmp_path / "set", rows)), "--out", str(tmp_path / "run")]
    with locked(tmp_path / "run"):
        assert main([*words, *TINY_TRAINING]) == 6
        assert "[E_LOCKED]; wait for it" in capsys.readouterr().err
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    left = tmp_path / "run" / ".train_state.pt.tmp-123"
    left.write_bytes(b"half")
    assert main([*words, *TINY_TRAINING]) == 0, shlex.join(words)
    assert not left.exists()


def test_a_command_that_wrote_nothing_leaves_no_folder_and_one_that_did_leaves_all(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), owned(tmp_path / "new"):
        raise ZeroDivisionError
    assert not (tmp_path / "new").exists()
    with owned(tmp_path / "used"):
        (tmp_path / "used" / "file").write_bytes(b"")
    assert (tmp_path / "used" / "file").exists()
    (tmp_path / "old").mkdir()
    with owned(tmp_path / "old"):
        pass
    assert (tmp_path / "old").exists()


def test_another_rank_leaves_the_folder_to_the_first(tmp_path: Path) -> None:
    with owned(tmp_path / "run"), owned(tmp_path / "run", by_this_process=False):
        with pytest.raises(ResourceError, match="E_LOCKED"), owned(tmp_path / "run"):
            pass
        assert (tmp_path / "run").exists()

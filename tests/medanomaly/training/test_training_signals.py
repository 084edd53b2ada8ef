"""Whenever a signal comes, a training ends in peace at its next step; a second one ends it at once and spoils no file."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from training_builders import CONFIG, At, differences, run, saved

from medanomaly import checkpoint
from medanomaly.errors import Preempted
from medanomaly.methods.cfg_diffusion import CfgDiffusionRecipe
from medanomaly.training.log import RunLog


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("whole")
    run(run_dir)
    return run_dir


def once_before(target: object, name: str, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call of ``target.name`` does something first."""
    original, called = getattr(target, name), False

    def wrapped(*arguments: Any, **options: Any) -> Any:
        nonlocal called
        if not called:
            called = True
            act()
        return original(*arguments, **options)

    monkeypatch.setattr(target, name, wrapped)


def inside_a_save(act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first save, half of the file written."""
    original, called = checkpoint._Remembering.write, False

    def write(self: Any, content: bytes) -> int:
        nonlocal called
        written = original(self, content)
        if not called:
            called = True
            act()
        return written

    monkeypatch.setattr(checkpoint._Remembering, "write", write)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("phase", "stopped_at"), [("step", 1), ("validation", 4), ("saving", 2), ("live view", 3), ("logging", 1)]
)
def test_a_signal_in_any_phase_stops_after_the_step_it_came_in_and_the_rest_is_the_uninterrupted_run(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str, stopped_at: int, number: signal.Signals
) -> None:
    def ask() -> None:
        signal.raise_signal(number)

    observers: tuple[At, ...] = ()
    config = CONFIG
    if phase == "step":
        once_before(CfgDiffusionRecipe, "loss", ask, monkeypatch)
    elif phase == "validation":
        once_before(CfgDiffusionRecipe, "validate", ask, monkeypatch)
    elif phase == "saving":
        config = replace(CONFIG, save_every=2)
        inside_a_save(ask, monkeypatch)
    elif phase == "live view":
        observers = (At(2, ask),)
    else:
        once_before(RunLog, "write", ask, monkeypatch)
    with pytest.raises(Preempted, match=f"stopped at step {stopped_at} of 8, state saved"):
        run(tmp_path, config, observers=observers)
    assert saved(tmp_path)["step"] == stopped_at
    run(tmp_path, config)
    assert differences(saved(tmp_path), saved(whole)) == []
    assert (tmp_path / "log.jsonl").read_bytes() == (whole / "log.jsonl").read_bytes()


def test_a_second_signal_ends_a_save_at_once_and_the_state_before_it_stays(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    config = replace(CONFIG, save_every=2)
    # As in a program started by hand: a test runner's own processes ignore it.
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, kept))
    with pytest.raises(Preempted):
        run(tmp_path, config, observers=(At(2, lambda: signal.raise_signal(signal.SIGINT)),))
    before = (tmp_path / "train_state.pt").read_bytes()

    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    inside_a_save(twice, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, config)
    assert (tmp_path / "train_state.pt").read_bytes() == before
    assert [path.name for path in tmp_path.glob(".train_state*")] == []
    monkeypatch.undo()
    run(tmp_path, config)
    assert differences(saved(tmp_path), saved(whole)) == []

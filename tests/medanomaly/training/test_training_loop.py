import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from training_builders import CONFIG, VALIDATION, At, batches_of, differences, make_recipe, run, saved

from medanomaly.errors import EXIT_PREEMPTED, CheckpointError, Preempted
from medanomaly.training.log import RunLog
from medanomaly.training.loop import Diverged, fit, validation_loss
from medanomaly.types import Batch


class PowerCut(Exception):
    """Ends a run without any chance to save."""


def cut() -> NoReturn:
    raise PowerCut


def terminate() -> None:
    signal.raise_signal(signal.SIGTERM)


def status(run_dir: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run_dir / "status.json").read_text())
    return found


@pytest.fixture(scope="module", params=[0.0, 0.3], ids=["plain", "dropout"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """An uninterrupted run of eight steps, and its dropout."""
    run_dir = tmp_path_factory.mktemp("whole")
    run(run_dir, dropout=request.param)
    return run_dir, request.param


def assert_equal_runs(one: Path, other: Path) -> None:
    assert differences(saved(one), saved(other)) == []
    assert (one / "log.jsonl").read_bytes() == (other / "log.jsonl").read_bytes()
    assert status(one) == status(other)


@pytest.mark.parametrize(("workers_before", "workers_after"), [(0, 0), (0, 2), (2, 0)])
def test_stopped_by_a_signal_after_3_steps_and_continued_is_the_uninterrupted_run_bit_for_bit(
    whole: tuple[Path, float], tmp_path: Path, workers_before: int, workers_after: int
) -> None:
    expected, dropout = whole
    with pytest.raises(Preempted, match="step 3 of 8") as stopped:
        run(tmp_path, replace(CONFIG, num_workers=workers_before), dropout=dropout, observers=(At(2, terminate),))
    assert stopped.value.exit_code == EXIT_PREEMPTED
    assert status(tmp_path) == {"status": "preempted", "step": 3, "num_steps": 8}
    assert saved(tmp_path)["step"] == 3
    run(tmp_path, replace(CONFIG, num_workers=workers_after), dropout=dropout)
    assert_equal_runs(tmp_path, expected)
    assert status(tmp_path)["status"] == "done"


def test_cut_off_between_two_saves_and_continued_is_the_uninterrupted_run_bit_for_bit(
    whole: tuple[Path, float], tmp_path: Path
) -> None:
    expected, dropout = whole
    config = replace(CONFIG, save_every=3)
    with pytest.raises(PowerCut):
        run(tmp_path, config, dropout=dropout, observers=(At(4, cut),))
    # The log is ahead of the state: its last lines must be done again, not twice.
    assert saved(tmp_path)["step"] == 3
    assert [line["step"] for line in RunLog.read(tmp_path / "log.jsonl")] == [0, 1, 2, 3, 4]
    with open(tmp_path / "log.jsonl", "a") as log:
        log.write('{"step": 5, "lo')
    run(tmp_path, config, dropout=dropout)
    assert_equal_runs(tmp_path, expected)


def test_every_step_is_logged_once_with_the_validation_loss_where_it_is_due(whole: tuple[Path, float]) -> None:
    lines = RunLog.read(whole[0] / "log.jsonl")
    assert [line["step"] for line in lines] == list(range(8))
    assert [line["step"] for line in lines if "val_loss" in line] == [3, 7]


def test_a_finished_run_asked_again_changes_nothing(whole: tuple[Path, float], tmp_path: Path) -> None:
    for name in ("train_state.pt", "log.jsonl"):
        (tmp_path / name).write_bytes((whole[0] / name).read_bytes())
    run(tmp_path, dropout=whole[1])
    assert_equal_runs(tmp_path, whole[0])


def test_another_seed_trains_other_weights(whole: tuple[Path, float], tmp_path: Path) -> None:
    run(tmp_path, replace(CONFIG, seed=1), dropout=whole[1])
    found = differences(saved(tmp_path)["recipe"]["denoiser"], saved(whole[0])["recipe"]["denoiser"])
    assert len(found) > 10


def test_a_state_of_another_identity_is_refused_and_kept(whole: tuple[Path, float], tmp_path: Path) -> None:
    content = (whole[0] / "train_state.pt").read_bytes()
    (tmp_path / "train_state.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="E_CONFIG_MISMATCH"):
        run(tmp_path, dropout=whole[1], identity="another manifest")
    assert (tmp_path / "train_state.pt").read_bytes() == content


def poisoned(bad_steps: set[int]) -> tuple[list[Batch], object]:
    """The run's batches, those of some steps NaN."""
    made = list(batches_of(CONFIG)(0))
    for step in bad_steps:
        made[step] = Batch(x=torch.full_like(made[step].x, float("nan")), label=made[step].label)

    def batches(first_step: int) -> Iterator[Batch]:
        return iter(made[first_step:])

    return made, batches


@pytest.mark.parametrize("save_every", [1, 3])
def test_a_loss_that_stays_nan_is_skipped_and_then_stops_the_run_without_spoiling_the_saved_state(
    tmp_path: Path, save_every: int
) -> None:
    config = replace(CONFIG, save_every=save_every)
    _, batches = poisoned({3, 4, 5, 6, 7})
    with pytest.raises(Diverged, match=r"3 steps up to step 5 .*E_DIVERGED.*learning_rate"):
        fit(make_recipe(config), batches, config, tmp_path, identity="x")  # type: ignore[arg-type]
    assert status(tmp_path)["status"] == "failed"
    good = make_recipe(config)
    fit(good, batches_of(config), replace(config, num_steps=3), tmp_path / "three", identity="x")
    recipe = saved(tmp_path)["recipe"]
    for name in ("denoiser", "average", "optimizer"):
        # Only the learning rate, set at the start of a skipped step, may differ.
        found = differences(recipe[name], good.state()[name])
        assert [place for place in found if not place.endswith("param_groups.0.lr")] == []


def test_single_bad_steps_are_skipped_and_logged_and_the_run_goes_on(tmp_path: Path) -> None:
    _, batches = poisoned({1, 2, 4, 5})
    fit(make_recipe(CONFIG), batches, CONFIG, tmp_path, identity="x")  # type: ignore[arg-type]
    lines = RunLog.read(tmp_path / "log.jsonl")
    assert [line["skipped"] for line in lines] == [0, 1, 1, 0, 1, 1, 0, 0]
    assert [line["step"] for line in lines if line["loss"] is None] == [1, 2, 4, 5]
    assert all(value.isfinite().all() for value in saved(tmp_path)["recipe"]["denoiser"].values())


def test_validation_terms_are_the_mean_over_its_batches_with_the_same_noise_each_time() -> None:
    recipe = make_recipe(CONFIG)
    once = validation_loss(recipe, VALIDATION, seed=0)
    assert once.keys() == {"val_loss", "val_mse", "val_bound"}
    assert once == validation_loss(recipe, VALIDATION, seed=0)
    assert once != validation_loss(recipe, VALIDATION, seed=1)
    twice = validation_loss(recipe, [*VALIDATION, *VALIDATION], seed=0)
    assert twice["val_loss"] != once["val_loss"]
    assert validation_loss(recipe, [], seed=0) == {}

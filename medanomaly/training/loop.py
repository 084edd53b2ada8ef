"""The one training loop: step, log, validate, save, resume by the same command."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from medanomaly.checkpoint import load_train_state, save_train_state
from medanomaly.errors import CheckpointError, MedanomalyError, Preempted
from medanomaly.rng import generator
from medanomaly.training.config import TrainingConfig
from medanomaly.training.log import RunLog, write_status
from medanomaly.training.preempt import stop_requested
from medanomaly.types import Batch, Observer, Recipe


class Diverged(MedanomalyError):
    """The loss stayed non-finite."""


def refuse_other_run(run_dir: Path, identity: str) -> None:
    """Nothing of a folder may be touched by a run of another configuration or data set.

    The identity in run.json is asked, a few lines; the state itself, which may be gigabytes, is read once, by :func:`fit`.

    Raises:
        CheckpointError: E_CONFIG_MISMATCH.
    """
    record, state = run_dir / "run.json", run_dir / "train_state.pt"
    if not (record.is_file() and state.exists()):
        return
    with contextlib.suppress(json.JSONDecodeError):
        if json.loads(record.read_text(encoding="utf-8")).get("identity", identity) != identity:
            raise other_run(state)


def other_run(path: Path) -> CheckpointError:
    """What to say of a state that is not this run's."""
    return CheckpointError(
        "belongs to another configuration or data set", code="E_CONFIG_MISMATCH", path=path, fix="use a new output folder"
    )


def resume_step(run_dir: Path, recipe: Recipe, identity: str) -> int:
    """First step still to do: 0 for a fresh folder, else the saved state's, loaded into the recipe.

    Args:
        run_dir: the run's folder.
        recipe: gets the saved state.
        identity: hash of config and data; a state of another identity is refused.
    """
    path = run_dir / "train_state.pt"
    if not path.exists():
        return 0
    state = load_train_state(path)
    if state.get("identity") != identity:
        raise other_run(path)
    recipe.load_state(state["recipe"])
    return int(state["step"])


def fit(
    recipe: Recipe,
    batches: Callable[[int], Iterator[Batch]],
    config: TrainingConfig,
    run_dir: Path,
    *,
    identity: str,
    validation: Sequence[Batch] = (),
    observers: Sequence[Observer] = (),
    at_validation: Callable[[int], None] = lambda _step: None,
) -> Path:
    """Train to ``config.num_steps`` and return the run folder; the same call continues where an earlier one stopped.

    On one machine, with one thread count and the same versions, stopping and continuing gives bit for bit the weights, optimiser
    state and log of an uninterrupted run: batches and noise depend on (seed, step) alone.

    Args:
        recipe: owns networks and optimisers.
        batches: first step -> the batches of that step and all later ones.
        config: length and bookkeeping.
        run_dir: gets log.jsonl, train_state.pt, status.json.
        identity: hash of everything that may not change between a run and its continuation.
        validation: batches whose loss is logged every ``validate_every`` steps with the same noise each time.
        observers: told every logged line.
        at_validation: called with the step after each validation loss; must not change the recipe.

    Raises:
        Preempted: SIGTERM or SIGINT came; the state was saved.
        Diverged: more than ``max_skipped`` steps in a row had a non-finite loss or gradient.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    first_step = resume_step(run_dir, recipe, identity)
    log = RunLog(run_dir / "log.jsonl", first_step=first_step, observers=observers)
    skipped_in_a_row = 0

    def save(step: int) -> None:
        state: dict[str, Any] = {"identity": identity, "step": step, "recipe": recipe.state()}
        save_train_state(run_dir / "train_state.pt", state)

    with stop_requested() as stop:
        write_status(run_dir, "running", step=first_step, num_steps=config.num_steps)
        # The range first: its end stops the loop before another batch is asked for.
        for step, batch in zip(range(first_step, config.num_steps), batches(first_step), strict=False):
            values = recipe.step(batch, generator(config.seed, "train", step))
            skipped_in_a_row = skipped_in_a_row + 1 if values.get("skipped") else 0
            done = step + 1
            if skipped_in_a_row > config.max_skipped:
                write_status(run_dir, "failed", step=step, num_steps=config.num_steps)
                raise Diverged(
                    f"the loss was not finite for {skipped_in_a_row} steps up to step {step}",
                    code="E_DIVERGED",
                    path=run_dir,
                    fix="lower training.learning_rate; the last good state is kept",
                )
            if done % config.validate_every == 0 or done == config.num_steps:
                values |= validation_loss(recipe, validation, config.seed)
                at_validation(step)
            if step % config.log_every == 0 or "val_loss" in values or done == config.num_steps:
                log.write(step, values)
            if done % config.save_every == 0 or done == config.num_steps:
                save(done)
            if stop() and done < config.num_steps:
                save(done)
                write_status(run_dir, "preempted", step=done, num_steps=config.num_steps)
                raise Preempted(
                    f"stopped at step {done} of {config.num_steps}, state saved",
                    code="E_PREEMPTED",
                    path=run_dir,
                    fix="run the same command again to continue",
                )
    write_status(run_dir, "done", step=config.num_steps, num_steps=config.num_steps)
    return run_dir


def validation_loss(recipe: Recipe, validation: Sequence[Batch], seed: int) -> dict[str, float]:
    """Mean of the recipe's validation terms, named ``val_*``; empty without validation batches or where a recipe has none."""
    validate = getattr(recipe, "validate", None)
    if not validation or validate is None:
        return {}
    terms = [validate(batch, generator(seed, "validation", index)) for index, batch in enumerate(validation)]
    return {f"val_{name}": sum(term[name] for term in terms) / len(terms) for name in terms[0]}

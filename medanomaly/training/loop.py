"""The one training loop: step, log, validate, save, resume by the same command."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from medanomaly.checkpoint import load_train_state, save_train_state
from medanomaly.errors import CheckpointError, MedanomalyError, Preempted
from medanomaly.files import parse_json
from medanomaly.rng import generator
from medanomaly.training.config import TrainingConfig
from medanomaly.training.log import RunLog, write_status
from medanomaly.training.preempt import stop_requested
from medanomaly.training.ranks import anyone, is_first, mean_of, refuse_unlike
from medanomaly.types import Batch, Observer, Recipe


class Diverged(MedanomalyError):
    """The loss stayed non-finite."""


def refuse_other_run(run_dir: Path, identity: str, config: Mapping[str, Any] | None = None) -> None:
    """Nothing of a folder may be touched by a run of another configuration or data set.

    The identity in run.json is asked, a few lines; the state itself, which may be gigabytes, is read once, by :func:`fit`.

    Args:
        run_dir: the run's folder.
        identity: hash of config and data.
        config: settings that the identity is made of, to say which ones differ from those in config.json.

    Raises:
        CheckpointError: E_CONFIG_MISMATCH.
    """
    record, state = run_dir / "run.json", run_dir / "train_state.pt"
    if not (record.is_file() and state.exists()):
        return
    content: Any = None
    with contextlib.suppress(ValueError):
        content = parse_json(record.read_bytes())
    if isinstance(content, dict) and content.get("identity", identity) != identity:
        before: Any = None
        with contextlib.suppress(ValueError, OSError):
            before = parse_json((run_dir / "config.json").read_bytes())
        raise other_run(state, differing(before, config) if config and isinstance(before, dict) else [])


def other_run(path: Path, settings: Sequence[str] = ()) -> CheckpointError:
    """What to say of a state that is not this run's."""
    fix = "use a new output folder" + (f", or the settings of before: {'; '.join(settings)}" if settings else "")
    return CheckpointError("belongs to another configuration or data set", code="E_CONFIG_MISMATCH", path=path, fix=fix)


def differing(before: Any, now: Any, key: str = "") -> list[str]:
    """``key value (now value)`` of each setting of ``now`` that was another one before."""
    if isinstance(before, dict) and isinstance(now, Mapping):
        return [found for name in now for found in differing(before.get(name), now[name], f"{key}.{name}".lstrip("."))]
    return [] if before == now else [f"{key} {before!a} (now {now!a})"]


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
    try:
        recipe.load_state(state["recipe"])
        step = int(state["step"])
    except (MemoryError, torch.OutOfMemoryError):
        raise
    # Of whatever is missing or of another shape each part says something else: a recipe, torch, its optimisers.
    except Exception as error:
        raise CheckpointError(
            f"does not fit this training ({type(error).__name__})",
            code="E_CKPT_KEYS",
            path=path,
            fix="delete it to start this run again",
        ) from error
    if step < 0:
        raise CheckpointError(f"says step {step}", code="E_CKPT_FORMAT", path=path, fix="delete it to start this run again")
    return step


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
    state and log of an uninterrupted run: batches and noise depend on (seed, step) alone. Under torchrun all processes call this, each
    with its share of the batches; the first one writes, and all stop after the same step.

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
    # Before anything is written: who has not read the state by now would read a later one.
    refuse_unlike(first_step, identity)
    log = RunLog(run_dir / "log.jsonl", first_step=first_step, observers=observers) if is_first() else None
    skipped_in_a_row = 0

    def save(step: int) -> None:
        if is_first():
            state: dict[str, Any] = {"identity": identity, "step": step, "recipe": recipe.state()}
            save_train_state(run_dir / "train_state.pt", state)

    def say(status: str, step: int) -> None:
        if is_first():
            write_status(run_dir, status, step=step, num_steps=config.num_steps)

    with stop_requested() as stop:
        say("running", first_step)
        # The range first: its end stops the loop before another batch is asked for.
        for step, batch in zip(range(first_step, config.num_steps), batches(first_step), strict=False):
            values = recipe.step(batch, generator(config.seed, "train", step))
            skipped_in_a_row = skipped_in_a_row + 1 if values.get("skipped") else 0
            done = step + 1
            if skipped_in_a_row > config.max_skipped:
                say("failed", step)
                raise Diverged(
                    f"the loss was not finite for {skipped_in_a_row} steps up to step {step}",
                    code="E_DIVERGED",
                    path=run_dir,
                    fix="lower training.learning_rate; the last good state is kept",
                )
            is_validated = done % config.validate_every == 0 or done == config.num_steps
            is_logged = step % config.log_every == 0 or done == config.num_steps
            if is_validated or is_logged:
                values = mean_of(values)
            if is_validated and is_first():
                values |= validation_loss(recipe, validation, config.seed)
                at_validation(step)
            if log is not None and (is_logged or "val_loss" in values):
                log.write(step, values)
            if done % config.save_every == 0 or done == config.num_steps:
                save(done)
            if done < config.num_steps and anyone(stop()):
                save(done)
                say("preempted", done)
                raise Preempted(
                    f"stopped at step {done} of {config.num_steps}, state saved",
                    code="E_PREEMPTED",
                    path=run_dir,
                    fix="run the same command again to continue",
                )
    say("done", config.num_steps)
    return run_dir


def validation_loss(recipe: Recipe, validation: Sequence[Batch], seed: int) -> dict[str, float]:
    """Mean of the recipe's validation terms, named ``val_*``; empty without validation batches or where a recipe has none."""
    validate = getattr(recipe, "validate", None)
    if not validation or validate is None:
        return {}
    terms = [validate(batch, generator(seed, "validation", index)) for index, batch in enumerate(validation)]
    return {f"val_{name}": sum(term[name] for term in terms) / len(terms) for name in terms[0]}

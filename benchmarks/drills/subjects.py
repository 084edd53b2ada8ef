"""The two jobs that drills disturb, a training and a localization of many images, with what they are compared with."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.drills.processes import run
from benchmarks.drills.tiny import draw, localize_words, tiny_manifest, torn, train_words, tree, write_tiny_checkpoint
from medanomaly.checkpoint import load_checkpoint, load_train_state
from medanomaly.errors import MedanomalyError


@dataclass(frozen=True)
class Subject:
    """A job that can be done in any folder, and its results where nothing disturbed it."""

    name: str
    words: Callable[[Path], list[str]]
    """Folder -> the command line."""
    undisturbed: dict[str, str]
    """Name -> SHA-256 of every file of a run from start to end."""
    seconds: float
    """That run took."""

    def difference(self, out: Path) -> str:
        """What of a finished folder is not as in the undisturbed run; "" = nothing."""
        found = tree(out)
        other = sorted(name for name in found.keys() | self.undisturbed.keys() if found.get(name) != self.undisturbed.get(name))
        return f"{len(other)} files differ, e.g. {', '.join(other[:3])}" if other else ""


def training(root: Path, *, num_steps: int, save_every: int, num_workers: int = 0) -> Subject:
    """A training whose state is saved every few steps."""
    (root / "set").mkdir()
    manifest = tiny_manifest(root / "set")

    def words(out: Path) -> list[str]:
        return train_words(manifest, out, num_steps=num_steps, save_every=save_every, num_workers=num_workers)

    return subject("training", words, root)


def localization(root: Path, *, num_images: int, more: tuple[str, ...] = ()) -> Subject:
    """A job over many images, two a batch."""
    (root / "weights").mkdir()
    write_tiny_checkpoint(root / "weights")
    for index in range(num_images):
        draw(root / "images" / f"{index}.png", index)

    def words(out: Path) -> list[str]:
        return localize_words(root / "weights", root / "images", out, *more)

    return subject("localization", words, root)


def in_turn(folder: Path, *makers: Callable[[Path], Subject]) -> Iterator[tuple[Subject, Path]]:
    """Each job with the folder that it was made in, a new one below ``folder``."""
    for index, make in enumerate(makers):
        root = folder / str(index)
        root.mkdir()
        yield make(root), root


def subject(name: str, words: Callable[[Path], list[str]], root: Path) -> Subject:
    """With two undisturbed runs, which must be equal, or nothing can be compared with them.

    The folder is always called the same: its name is in the record of the run.
    """
    runs = []
    for turn in ("first", "second"):
        (root / turn).mkdir()
        ended = run(words(root / turn / "out"), root / f"{turn}.log")
        if ended.code:
            raise RuntimeError(f"the undisturbed {name} ended with {ended.code}: {ended.said}")
        runs.append((tree(root / turn / "out"), ended.seconds))
    (reference, seconds), (again, _) = runs
    if reference != again:
        raise RuntimeError(f"two undisturbed runs of {name} differ: nothing can be compared with them")
    return Subject(name=name, words=words, undisturbed=reference, seconds=seconds)


def damage(out: Path) -> str:
    """What of a folder whose job was ended by force cannot be used; "" = everything that is there is whole."""
    try:
        if (out / "train_state.pt").exists():
            load_train_state(out / "train_state.pt")
        if (out / "model.safetensors").exists():
            load_checkpoint(out)
    except MedanomalyError as error:
        return str(error)
    for path in out.rglob("*.json"):
        try:
            json.loads(path.read_bytes())
        except ValueError:
            return f"{path.name} is no JSON"
    return ""


def state_step(out: Path) -> int:
    """Step of the saved state; 0 where there is none."""
    with contextlib.suppress(MedanomalyError, KeyError):
        return int(load_train_state(out / "train_state.pt")["step"])
    return 0


def left_behind(out: Path) -> str:
    """Temporary files in a finished folder; "" = none."""
    names = torn(out)
    return f"left {', '.join(names[:3])}" if names else ""

"""What decides a step of a benchmark's cell, as a hash that stays the same when the benchmark's folder is moved."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence
from pathlib import Path

HERE = "<out>"
"""Stands for the benchmark's folder in the words that are hashed."""
OWN_FOLDERS = ("runs", "evaluations")
"""What the benchmark writes below its folder; only paths into these are made independent of it."""


def identity_of(words: Sequence[str], fingerprint: str, weights: str) -> str:
    """Hash of all that decides what a command makes: its words, the manifest's rows, the weights it reads."""
    return hashlib.sha256(json.dumps([*words, fingerprint, weights]).encode()).hexdigest()


def portable(words: Sequence[str], out: Path) -> list[str]:
    """The words with ``<out>`` for the benchmark's folder, so that cells of two folders can be put together in one."""

    def one(word: str) -> str:
        # By the names of its own folders: with `out` = "." every relative word would lie below it.
        inside = any(Path(word).is_relative_to(out / name) for name in OWN_FOLDERS)
        return f"{HERE}/{Path(word).relative_to(out).as_posix()}" if inside else word

    return [one(word) for word in words]


def accepted_identities(
    words: Sequence[str], recorded: Sequence[str], out: Path, *, fingerprint: str, weights: str
) -> tuple[str, ...]:
    """Identities under which a step counts as the same; the first is the one to write down.

    Records of earlier versions hash the words as they were typed, with the folder in them. They are read where those words,
    which cell.json holds, differ from today's in the benchmark's folder only.

    Args:
        words: of the step's command now.
        recorded: the commands of cell.json, as they were typed.
        out: the benchmark's folder now.
        fingerprint: of the manifest.
        weights: SHA-256 of the weights that the step reads, "" for none.
    """
    today = portable(words, out)
    older = [typed for typed in (shlex.split(text)[1:] for text in recorded) if same_but_for_the_folder(typed, today)]
    return tuple(identity_of(one, fingerprint, weights) for one in (today, *older))


def same_but_for_the_folder(typed: Sequence[str], today: Sequence[str]) -> bool:
    """Whether words as typed are the portable ones, whatever folder stood where they say ``<out>``."""
    if len(typed) != len(today):
        return False
    for one, other in zip(typed, today, strict=True):
        rest = Path(other).relative_to(HERE).parts if other.startswith(f"{HERE}/") else ()
        if one != other and (not rest or Path(one).parts[-len(rest) :] != rest):
            return False
    return True

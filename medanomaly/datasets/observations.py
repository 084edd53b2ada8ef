"""Everything a multi-label source says of an image as one cell of a table."""

from __future__ import annotations

from collections.abc import Iterable

from medanomaly.errors import InputError

MEANING = {"1": 1, "0": 0, "-1": -1}
"""Present, absent, uncertain, as CheXpert writes them (Irvin et al. 2019, arXiv:1901.07031)."""
Observations = tuple[tuple[str, int], ...]
"""(name, 1 present | 0 absent | -1 uncertain) of each observation the source mentions, in its order."""


def observations_text(observations: Iterable[tuple[str, int]]) -> str:
    """``name=value`` of each, separated by semicolons."""
    return "; ".join(f"{name}={value}" for name, value in observations)


def observations_of(cell: str) -> Observations:
    """Undo of :func:`observations_text`; "" gives none.

    Raises:
        InputError: E_OBSERVATION, not ``name=1``, ``name=0`` or ``name=-1``, or a name twice.
    """
    pairs = []
    for part in cell.split(";") if cell.strip() else ():
        name, _, value = (word.strip() for word in part.rpartition("="))
        if not name or value not in MEANING:
            raise InputError(
                f"an observation must be name=1, name=0 or name=-1, got {part.strip()!a}",
                code="E_OBSERVATION",
                fix="separate observations by semicolons",
            )
        pairs.append((name, MEANING[value]))
    if len({name for name, _ in pairs}) != len(pairs):
        raise InputError(f"an observation is there twice in {cell!a}", code="E_OBSERVATION", fix="keep one of them")
    return tuple(pairs)

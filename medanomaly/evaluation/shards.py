"""One job by several processes or machines: which images are whose, told by the launcher or by hand.

An image belongs to shard ``hash(id) mod count``, not to a stretch of the sorted ids: an image that is added later moves no other one,
and no process needs the whole list to know its own. The price is balance: of N images a shard holds N / n +- sqrt(N / n), so 200,000
over 64 are 3,125 +- 55, and the fullest of the 64 about 4 % above the mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medanomaly.errors import ConfigError
from medanomaly.rng import stable_hash

FOLDER = "shards"
"""Below the output folder: what each shard did, a folder each."""
_PART = re.compile(r"(\d+)-of-(\d+)")


@dataclass(frozen=True, slots=True)
class Shard:
    """Number 1 .. count of the parts a job is cut into."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ConfigError(
                f"--shard must be 1/n .. n/n, got {self.number}/{self.count}", code="E_SHARD", fix="write e.g. --shard 1/4"
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def holds(self, identifier: str) -> bool:
        """Whether the image with this id is one of this shard's."""
        return stable_hash("shard", identifier) % self.count == self.number - 1

    def folder(self, out: Path) -> Path:
        """Where the shard's own report, status and record lie below a job's folder."""
        return out / FOLDER / f"{self.number:05d}-of-{self.count:05d}"


def shard_of(text: str, environment: Mapping[str, str]) -> Shard:
    """What ``--shard`` says: ``2/8``, or ``auto`` or ``auto/8`` to ask the launcher's variables.

    torchrun: RANK and WORLD_SIZE. A SLURM array: its task id, counted from its lowest with ``auto``; with ``auto/8`` the array must be
    0-7, and single tasks of it can be run again. A Kubernetes Indexed Job: JOB_COMPLETION_INDEX; it does not say how many, so ``auto/8``.

    Raises:
        ConfigError: E_SHARD, it is none of these, no launcher says which shard this is, or two do.
    """
    if by_hand := re.fullmatch(r"(\d+)/(\d+)", text):
        return Shard(int(by_hand[1]), int(by_hand[2]))
    by_launcher = re.fullmatch(r"auto(?:/(\d+))?", text)
    if by_launcher is None:
        raise ConfigError(f"--shard must be i/n, auto or auto/n, got {text!a}", code="E_SHARD", fix="write e.g. --shard 1/4")
    wanted = None if by_launcher[1] is None else int(by_launcher[1])
    found: dict[str, tuple[int, int | None]] = {}
    if "TORCHELASTIC_RUN_ID" in environment:
        found["torchrun"] = (whole(environment, "RANK"), whole(environment, "WORLD_SIZE"))
    if "SLURM_ARRAY_TASK_ID" in environment:
        found["a SLURM array"] = array_task(environment, wanted)
    if "JOB_COMPLETION_INDEX" in environment:
        found["a Kubernetes Indexed Job"] = (whole(environment, "JOB_COMPLETION_INDEX"), None)
    if len(found) != 1:
        what = f"{' and '.join(found)} both say" if found else "no launcher says"
        raise ConfigError(f"--shard {text}: {what} which shard this is", code="E_SHARD", fix="write it as --shard i/n")
    launcher, (index, count) = found.popitem()
    if count is None and wanted is None:
        raise ConfigError(
            f"--shard auto: {launcher} does not say how many shards there are", code="E_SHARD", fix="write e.g. --shard auto/8"
        )
    if count is not None and wanted is not None and count != wanted:
        raise ConfigError(f"--shard {text}: {launcher} says that there are {count}", code="E_SHARD", fix="write --shard auto")
    total = (count if wanted is None else wanted) or 0
    if index >= total:
        raise ConfigError(
            f"--shard {text}: {launcher} says number {index}, and {total} shards are numbered from 0",
            code="E_SHARD",
            fix=f"let {launcher} count 0 .. {max(total - 1, 0)}",
        )
    return Shard(index + 1, total)


def array_task(environment: Mapping[str, str], wanted: int | None) -> tuple[int, int | None]:
    """(index from 0, count or None) of a task of a SLURM array."""
    task = whole(environment, "SLURM_ARRAY_TASK_ID")
    if wanted is not None:
        return task, None
    lowest, highest, count = (whole(environment, f"SLURM_ARRAY_TASK_{name}") for name in ("MIN", "MAX", "COUNT"))
    step = whole(environment, "SLURM_ARRAY_TASK_STEP") if environment.get("SLURM_ARRAY_TASK_STEP") else 1
    if step < 1 or (highest - lowest) // step + 1 != count or (task - lowest) % step:
        raise ConfigError(
            "--shard auto: the SLURM array has gaps, so its tasks do not say which shards they are",
            code="E_SHARD",
            fix="write --shard auto/n with the n of the whole job; task 0 is the first shard",
        )
    return (task - lowest) // step, count


def whole(environment: Mapping[str, str], name: str) -> int:
    """A variable that must be a whole number."""
    text = environment.get(name, "")
    if not re.fullmatch(r"\d{1,9}", text):
        raise ConfigError(f"{name} must be a whole number, got {text!a}", code="E_SHARD", fix="write --shard i/n")
    return int(text)


def parts_of(out: Path) -> dict[Shard, Path]:
    """Shards that have left something below a job's folder, in order.

    Raises:
        ConfigError: E_SHARD, they are parts of jobs cut in different ways.
    """
    found: dict[Shard, Path] = {}
    for path in sorted((out / FOLDER).iterdir()) if (out / FOLDER).is_dir() else []:
        if (name := _PART.fullmatch(path.name)) and path.is_dir():
            found[Shard(int(name[1]), int(name[2]))] = path
    counts = sorted({shard.count for shard in found})
    if len(counts) > 1:
        raise ConfigError(
            f"holds parts of a job in {' and in '.join(map(str, counts))} shards",
            code="E_SHARD",
            path=out,
            fix=f"delete what is wrong below {FOLDER}/, or use a new folder",
        )
    return found


def refuse_mixed(out: Path, shard: Shard | None) -> None:
    """A folder holds one job, in one piece or cut in one way: an image must not be two shards'.

    Raises:
        ConfigError: E_SHARD.
    """
    others = {part.count for part in parts_of(out)}
    fix = "use a new folder"
    if shard is None and others:
        raise ConfigError(f"holds a job in {others.pop()} shards", code="E_SHARD", path=out, fix=f"{fix}, or --shard i/n")
    if shard is not None and others - {shard.count}:
        raise ConfigError(f"holds a job in {others.pop()} shards, not {shard.count}", code="E_SHARD", path=out, fix=fix)
    if shard is not None and not others and (out / "report.jsonl").exists():
        raise ConfigError("holds a job in one piece", code="E_SHARD", path=out, fix=f"{fix}, or leave --shard out")

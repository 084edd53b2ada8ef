"""Whose image is whose, and what launchers say of it."""

from __future__ import annotations

from collections import Counter

import pytest

from medanomaly.errors import ConfigError
from medanomaly.evaluation.shards import Shard, shard_of

ARRAY = {"SLURM_ARRAY_TASK_ID": "12", "SLURM_ARRAY_TASK_MIN": "10", "SLURM_ARRAY_TASK_MAX": "14", "SLURM_ARRAY_TASK_COUNT": "5"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "3"}


def test_every_image_is_of_one_shard_and_the_shards_are_of_the_size_that_chance_allows() -> None:
    ids = [f"patient{number // 3}/view{number}.png" for number in range(4000)]
    owners = Counter(shard.number for name in ids for shard in (Shard(number, 8) for number in range(1, 9)) if shard.holds(name))
    assert owners.total() == len(ids)
    # 500 expected of each, standard deviation 21.
    assert all(abs(count - 500) < 5 * 21 for count in owners.values())
    assert len(owners) == 8


def test_the_shard_of_an_image_is_the_same_in_every_version() -> None:
    # A folder that was half done must not be dealt out anew: these numbers may not change.
    assert [next(n for n in range(1, 6) if Shard(n, 5).holds(name)) for name in ("a.png", "b/c.dcm", "ü")] == [1, 4, 2]


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("2/8", TORCHRUN, Shard(2, 8)),
        ("auto", TORCHRUN, Shard(2, 3)),
        ("auto", ARRAY, Shard(3, 5)),
        ("auto", ARRAY | {"SLURM_ARRAY_TASK_MAX": "18", "SLURM_ARRAY_TASK_STEP": "2"}, Shard(2, 5)),
        ("auto/20", ARRAY, Shard(13, 20)),
        ("auto/4", {"JOB_COMPLETION_INDEX": "3"}, Shard(4, 4)),
        # What a plain torchrun-like environment leaves behind is no launcher of shards.
        ("auto/4", {"JOB_COMPLETION_INDEX": "0", "RANK": "1", "WORLD_SIZE": "2"}, Shard(1, 4)),
    ],
)
def test_a_launcher_says_which_shard_this_is(text: str, environment: dict[str, str], expected: Shard) -> None:
    assert shard_of(text, environment) == expected


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("0/4", {}, "1/n .. n/n, got 0/4"),
        ("5/4", {}, "1/n .. n/n, got 5/4"),
        ("half", {}, "must be i/n, auto or auto/n"),
        ("auto", {"RANK": "0", "WORLD_SIZE": "2"}, "no launcher says"),
        ("auto", TORCHRUN | ARRAY, "torchrun and a SLURM array both say"),
        ("auto", {"JOB_COMPLETION_INDEX": "1"}, "does not say how many"),
        ("auto/4", TORCHRUN, "torchrun says that there are 3"),
        ("auto/4", {"JOB_COMPLETION_INDEX": "4"}, "says number 4, and 4 shards are numbered from 0"),
        ("auto", ARRAY | {"SLURM_ARRAY_TASK_COUNT": "2"}, "has gaps"),
        ("auto/8", {"SLURM_ARRAY_TASK_ID": "one"}, "SLURM_ARRAY_TASK_ID must be a whole number, got 'one'"),
    ],
)
def test_what_does_not_say_one_shard_is_refused(text: str, environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match="E_SHARD") as refused:
        shard_of(text, environment)
    assert message in str(refused.value)

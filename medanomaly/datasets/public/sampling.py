"""A smaller set of the same kind: at most so many images of a class and split, chosen by a seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from medanomaly.datasets.manifest import Record
from medanomaly.errors import ConfigError
from medanomaly.rng import stable_hash


def at_most(records: Sequence[Record], num: int, seed: int) -> list[Record]:
    """At most ``num`` records of each (split, label), in the order they came in; 0 = all.

    The choice is by a hash of (seed, id): it depends neither on the order of the records nor on the other classes, and a
    larger ``num`` keeps what a smaller one chose.

    Raises:
        ConfigError: E_CONFIG, num is negative.
    """
    if num < 0:
        raise ConfigError(f"sample must be 0 (all) or more, got {num}", code="E_CONFIG")
    if num == 0:
        return list(records)
    groups: dict[tuple[str | None, str | None], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.split, record.label].append(record)
    chosen = {
        record.id
        for group in groups.values()
        for record in sorted(group, key=lambda record: (stable_hash(seed, "sample", record.id), record.id))[:num]
    }
    return [record for record in records if record.id in chosen]

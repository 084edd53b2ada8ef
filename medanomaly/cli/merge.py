"""medanomaly merge: the report of a job from those of its shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medanomaly.cli.parsing import run_function
from medanomaly.evaluation.merge_shards import merge_shards


def merge(out: Path) -> int:
    """Put the reports of all shards together: report.jsonl is the same, byte for byte, from 1 shard or from 8.

    The last shard of a job does this by itself; this command says which shards are missing, or merges after one was run again.

    Args:
        out: folder that `medanomaly localize --shard i/n` wrote to
    """
    summary = merge_shards(out)
    reasons = ", ".join(f"{code}: {count}" for code, count in summary.reasons.items())
    print(f"{summary.ok} localized, {summary.skipped} already there, {summary.failed} failed{f' ({reasons})' if reasons else ''}")
    print(f"wrote {out / 'report.jsonl'}. Not for diagnosis.")
    return summary.exit_code()


def main(arguments: Sequence[str]) -> int:
    """``medanomaly merge OUT``."""
    return run_function(merge, "medanomaly merge", "OUT", arguments)

"""Every drill after the other, and one table: `make drills`, about 20 minutes on two quiet cores.

python -m benchmarks.drills runs/drills --scale 0.1
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.drills import bad_batch, disk_full, frozen_view, fuzz, kills, rank_kills, statistical, terminations
from benchmarks.drills.outcome import read_outcomes, table

DRILLS: dict[str, tuple[Callable[[list[str] | None], int], str, int]] = {
    "statistical": (statistical.main, "--sets", 400),
    "frozen_view": (frozen_view.main, "--count", 5),
    "terminations": (terminations.main, "--count", 20),
    "disk_full": (disk_full.main, "--count", 20),
    "kills": (kills.main, "--count", 100),
    "rank_kills": (rank_kills.main, "--count", 10),
    "fuzz": (fuzz.main, "--count", 1000),
    "bad_batch": (bad_batch.main, "--count", 2000),
}
"""Name of the script and of its JSON -> (what runs it, its count, how many by default)."""


def main(arguments: list[str] | None = None) -> int:
    """Run the drills, write drills.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for the results")
    parser.add_argument("--scale", type=float, default=1.0, help="times the default counts")
    parser.add_argument("--only", choices=[*DRILLS], action="append", help="default: all")
    parser.add_argument("--table", action="store_true", help="only make the table of what is in the folder")
    given = parser.parse_args(arguments)
    lost = 0
    for name in () if given.table else given.only or DRILLS:
        run, option, count = DRILLS[name]
        print(f"== {name}", flush=True)
        lost += run([str(given.out), option, str(max(1, round(count * given.scale)))])
    outcomes = read_outcomes(path for name in DRILLS if (path := given.out / f"{name}.json").is_file())
    (given.out / "drills.md").write_text(table(outcomes), encoding="utf-8")
    print(f"\n{table(outcomes)}wrote {given.out / 'drills.md'}")
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())

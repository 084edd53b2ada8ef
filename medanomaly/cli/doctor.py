"""medanomaly doctor: is this machine fit to run the toolkit; one line a check."""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from medanomaly.cli.evaluate import SHIPPED
from medanomaly.cli.health import checks, exit_code
from medanomaly.cli.parsing import run_function

TEMPLATES = Path(__file__).resolve().parents[1] / "views" / "templates"


def doctor(folder: Path = Path(), json: bool = False) -> int:
    """Try everything that a run needs: versions, device, codecs, fonts, pages, weights, disk; exit 4 or 6 where something is a problem.

    Args:
        folder: where results would be written
        json: print JSON instead of lines
    """
    found = []
    for check in checks(folder, SHIPPED, TEMPLATES):
        found.append(check)
        if not json:
            print(check, flush=True)
    code = exit_code(found)
    if json:
        print(json_format.dumps({"exit_code": code, "checks": [asdict(check) for check in found]}, indent=2))
    return code


def with_value(words: Sequence[str]) -> list[str]:
    """The command line with ``--json`` alone meaning true."""
    following = [*words[1:], "--"][: len(words)]
    return [
        "--json=true" if word == "--json" and after.startswith("--") else word
        for word, after in zip(words, following, strict=True)
    ]


def main(arguments: Sequence[str]) -> int:
    """``medanomaly doctor [--folder OUT] [--json]``."""
    return run_function(doctor, "medanomaly doctor", "[--folder OUT] [--json]", with_value(arguments))

"""medanomaly benchmark: every method on the same split under the same protocol, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medanomaly.cli.evaluate import resolve_checkpoint
from medanomaly.cli.methods import ALL_PRESETS
from medanomaly.cli.output import make_folder
from medanomaly.cli.parsing import run_function
from medanomaly.config import to_dict
from medanomaly.errors import EXIT_OK, EXIT_SOME_FAILED, InputError
from medanomaly.evaluation.benchmark_cells import cells_of
from medanomaly.evaluation.benchmark_compare import compare
from medanomaly.evaluation.benchmark_config import read_benchmark
from medanomaly.evaluation.benchmark_figures import write_figures
from medanomaly.evaluation.benchmark_page import write_tables
from medanomaly.evaluation.bulk import locked
from medanomaly.evaluation.command_cells import path_name, run_cells, say_on_stderr
from medanomaly.files import write_json
from medanomaly.presets import MODEL_PRESETS
from medanomaly.training.preempt import stop_requested


def benchmark(plan: Path, out: Path, table: bool = True) -> int:
    """Train and measure every method of a benchmark; what is there already is kept, so the same command continues.

    Args:
        plan: YAML or JSON: title, main, sets, methods, seeds; see benchmarks/phantom64.yaml
        out: folder for runs/, evaluations/, figures/, table.md, table.csv and table.json
        table: print the table
    """
    chosen = read_benchmark(plan, presets=list(ALL_PRESETS), models=list(MODEL_PRESETS))
    make_folder(out)
    cells = cells_of(chosen, out, resolve=resolve_checkpoint)
    with locked(out), stop_requested() as stop:
        write_json(out / "benchmark.json", to_dict(chosen))
        records = run_cells(cells, stop=stop, say=say_on_stderr)
        failed = [record for record in records if record["status"] != "done"]
        if len(failed) == len(records):
            raise InputError(f"every cell failed, the first with: {failed[0]['message']}", code="E_CELLS", path=out)
        results = compare(chosen, records, [cell.folder for cell in cells])
        pictures = {one.name: write_figures(out / "figures" / path_name(one.name), one, main=chosen.main) for one in results}
        named = {
            name: [(caption, path.relative_to(out).as_posix()) for caption, path in found] for name, found in pictures.items()
        }
        text = write_tables(out, chosen, results, records, named)
    if table:
        print(text)
    print(f"wrote {out}")
    return EXIT_SOME_FAILED if failed else EXIT_OK


def main(arguments: Sequence[str]) -> int:
    """``medanomaly benchmark PLAN OUT``."""
    return run_function(benchmark, "medanomaly benchmark", "PLAN OUT [options]", arguments)

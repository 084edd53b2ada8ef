"""medanomaly ablate: a grid of settings, each trained, measured and sampled from, in one table and one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medanomaly.cli.evaluate import resolve_checkpoint
from medanomaly.cli.methods import TRAINABLE_PRESETS
from medanomaly.cli.output import make_folder
from medanomaly.cli.parsing import run_function
from medanomaly.config import to_dict
from medanomaly.errors import EXIT_OK, EXIT_SOME_FAILED, InputError
from medanomaly.evaluation.ablation_cells import cells_of
from medanomaly.evaluation.ablation_config import read_ablation
from medanomaly.evaluation.ablation_page import write_tables
from medanomaly.evaluation.ablation_results import compare
from medanomaly.evaluation.bulk import locked
from medanomaly.evaluation.command_cells import run_cells, say_on_stderr
from medanomaly.files import write_json
from medanomaly.presets import MODEL_PRESETS, PRESETS
from medanomaly.training.preempt import stop_requested


def ablate(plan: Path, out: Path, table: bool = True) -> int:
    """Train, measure and sample every cell of a grid; what is there already is kept, so the same command continues.

    A cell is four ordinary commands: train, likelihood, generate, evaluate-samples. table.md lists them.

    Args:
        plan: YAML or JSON: title, preset, manifest, grid, and options of the four commands; see benchmarks/digits-ablation.yaml
        out: folder for runs/, evaluations/, table.md, table.csv, table.json and ablation.png
        table: print the table
    """
    models = {**MODEL_PRESETS, **PRESETS}
    chosen = read_ablation(plan, presets=list(models), others=[name for name in TRAINABLE_PRESETS if name not in models])
    cells = cells_of(chosen, out, channels=models[chosen.preset]().preprocess.channels, resolve=resolve_checkpoint)
    make_folder(out)
    with locked(out), stop_requested() as stop:
        write_json(out / "ablation.json", to_dict(chosen))
        records = run_cells(cells, stop=stop, say=say_on_stderr)
        failed = [record for record in records if record["status"] != "done"]
        if len(failed) == len(records):
            raise InputError(f"every cell failed, the first with: {failed[0]['message']}", code="E_CELLS", path=out)
        text = write_tables(out, chosen, compare(cells, records), cells, records)
    if table:
        print(text)
    print(f"wrote {out}")
    return EXIT_SOME_FAILED if failed else EXIT_OK


def main(arguments: Sequence[str]) -> int:
    """``medanomaly ablate PLAN OUT``."""
    return run_function(ablate, "medanomaly ablate", "PLAN OUT [options]", arguments)

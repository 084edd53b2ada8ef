"""A choice of settings as files: choice.json, curve.csv and curve.png."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medanomaly.evaluation.choose import Criterion, Trial, best_by, best_by_masks
from medanomaly.files import atomic_write, write_json
from medanomaly.metrics.bootstrap import Interval
from medanomaly.views.setting_grid import GridPanel, grid_figure

SETTINGS = ("checkpoint", "noise_level", "num_steps", "guidance_scale")
NUMBERS = ("healthy_change", "diseased_change", "healthy_spread", "diseased_spread", "average_precision", "dice")
TITLES: dict[Criterion, str] = {"gap": "guided gap (no masks)", "auroc": "image AUROC"}


def write_choice(
    out: Path, trials: Sequence[Trial], criterion: Criterion, *, facts: Mapping[str, Any], options: Sequence[str]
) -> dict[str, Any]:
    """Write what was tried and what was chosen; returns the content of ``choice.json``.

    ``num_configurations`` says how many settings compete: the best of many looks better than it is, so a choice is confirmed on
    images that did not take part. ``lost`` is the mask-tuned setting's number less the chosen one's, on the same validation
    images: what choosing without masks costs there.

    Args:
        out: folder.
        trials: all of them.
        criterion: that decides.
        facts: provenance to keep.
        options: of the command line with the chosen settings.
    """
    chosen, tuned = best_by(trials, criterion), best_by_masks(trials)
    other: Criterion = "auroc" if criterion == "gap" else "gap"
    content = {
        "criterion": criterion,
        "chosen": as_row(chosen),
        f"chosen_by_{other}": as_row(best_by(trials, other)) if any(one.worth(other) > float("-inf") for one in trials) else None,
        "chosen_by_masks": None if tuned is None else as_row(tuned),
        "lost": None if tuned is None else {name: lost(tuned, chosen, name) for name in ("average_precision", "dice")},
        "num_configurations": len(trials),
        "split": "val",
        "options": list(options),
        "intervals": {"gap": asdict(chosen.gap), "image_auroc": asdict(chosen.image_auroc)},
        "facts": dict(facts),
    }
    write_json(out / "choice.json", content)
    with atomic_write(out / "curve.csv") as stream:
        stream.write(as_csv(trials).encode())
    with atomic_write(out / "curve.png") as stream:
        stream.write(grid_figure(panels(trials, chosen)))
    return content


def lost(tuned: Trial, chosen: Trial, name: str) -> float:
    """The tuned trial's number less the chosen one's; both were measured on one set of masks."""
    return float(getattr(tuned, name)) - float(getattr(chosen, name))


def as_row(trial: Trial) -> dict[str, Any]:
    """One flat row: the setting, the criteria with their intervals, the rest."""

    def ends(name: str, interval: Interval) -> dict[str, float]:
        return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}

    return {
        **{name: getattr(trial.setting, name) for name in SETTINGS},
        **ends("gap", trial.gap),
        **ends("image_auroc", trial.image_auroc),
        **{name: getattr(trial, name) for name in NUMBERS},
    }


def as_csv(trials: Sequence[Trial]) -> str:
    """One line a trial; empty where a number is not defined."""
    stream = io.StringIO()
    rows = [as_row(one) for one in trials]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows(["" if value is None or value != value else value for value in row.values()] for row in rows)
    return stream.getvalue()


def panels(trials: Sequence[Trial], chosen: Trial) -> list[GridPanel]:
    """Both criteria and, where there is one, the masks' number, a row of panels for each checkpoint."""
    wanted = [("gap", TITLES["gap"]), ("image_auroc", TITLES["auroc"])]
    wanted += [("average_precision", "pixel AP (masks)")] if best_by_masks(trials) else []
    made = []
    for checkpoint in dict.fromkeys(one.setting.checkpoint for one in trials):
        own = [one for one in trials if one.setting.checkpoint == checkpoint]
        rows = sorted({one.setting.noise_level for one in own})
        columns = sorted({one.setting.guidance_scale for one in own})
        for name, title in wanted:
            values = [[float("nan")] * len(columns) for _ in rows]
            for one in own:
                value = as_row(one)[name]
                place = rows.index(one.setting.noise_level), columns.index(one.setting.guidance_scale)
                values[place[0]][place[1]] = float("nan") if value is None else float(value)
            mine = chosen.setting.checkpoint == checkpoint
            marked = (rows.index(chosen.setting.noise_level), columns.index(chosen.setting.guidance_scale)) if mine else None
            made.append(
                GridPanel(row=checkpoint, title=title, noise_levels=rows, guidance_scales=columns, values=values, marked=marked)
            )
    return made

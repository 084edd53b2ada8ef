"""Pictures beside the results of `medanomaly localize`: the inputs, and the maps in colours of one scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.transforms import PreprocessConfig, intensity_windows, scale_to_model
from medanomaly.evaluation.job_report import read_report
from medanomaly.files import safe_name
from medanomaly.io.options import ReadOptions
from medanomaly.io.reader import read_image
from medanomaly.io.writers import write_png
from medanomaly.views.overlay import map_colours
from medanomaly.views.shown import picture


def draw_samples(folder: Path, records: Sequence[Record], preprocess: PreprocessConfig) -> None:
    """Write ``input/NAME.png`` and ``heatmaps/NAME.png`` for each record that was localized in ``folder``.

    The brightest colour of all heatmaps is the largest value of all maps, so their colours can be compared.
    """
    lines = {line["id"]: line for line in read_report(folder / "report.jsonl") if line["status"] == "ok"}
    done = [record for record in records if record.id in lines]
    maps = {record.id: np.load(folder / lines[record.id]["outputs"][0], allow_pickle=False) for record in done}
    scale_max = max((float(values.max()) for values in maps.values()), default=0.0) or 1.0
    for record in done:
        raw = read_image(record.image, ReadOptions(channels=preprocess.channels))
        x = scale_to_model(raw.pixels, intensity_windows(raw, preprocess, record.intensity_range)).numpy()
        name = f"{safe_name(record.id)}.png"
        write_png(folder / "input" / name, picture(x))
        write_png(folder / "heatmaps" / name, map_colours(maps[record.id], scale_max=scale_max))

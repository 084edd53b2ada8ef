"""A benchmark's folder as sections of a report: its main table a set, its notes and its figures, as table.json holds them."""

from __future__ import annotations

import json
from pathlib import Path

from medanomaly.errors import InputError
from medanomaly.evaluation.tables import cell
from medanomaly.views.report import Section, Table


def benchmark_sections(path: Path) -> list[Section]:
    """One section a set.

    Raises:
        InputError: E_MISSING, not a finished benchmark.
    """
    file = path / "table.json"
    if not file.is_file():
        raise InputError("has no table.json", code="E_MISSING", path=path, fix="let `medanomaly benchmark` finish first")
    content = json.loads(file.read_text(encoding="utf-8"))
    made = []
    for found in content["sets"]:
        titles = list(found["rows"][0]["measured"]) if found["rows"] else []
        rows = [[row["name"], *(cell(row["measured"][title]) for title in titles)] for row in found["rows"]]
        counts = found["counts"]
        intro = (
            f"{counts['num_images']} test images of {counts['num_patients']} patients: {counts['num_diseased']} diseased, "
            f"{counts['num_healthy']} healthy; {counts['num_with_lesion']} with a lesion mask. All methods on the same images."
        )
        pictures = sorted((path / "figures").glob("*/*.png"))
        own = [one for one in pictures if one.parent.name.startswith(found["name"])]
        made.append(
            Section(
                title=f"Benchmark: {found['name']}",
                intro=intro,
                tables=[Table(title="Methods", columns=["method", *titles], rows=rows, notes=found["notes"])],
                figures=[(one.stem.replace("_", " ").replace("-", " "), one.read_bytes()) for one in own],
            )
        )
    return made

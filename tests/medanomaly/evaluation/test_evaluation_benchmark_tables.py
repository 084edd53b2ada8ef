from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_builders import hand_benchmark

from medanomaly.evaluation.benchmark_compare import COLUMNS, MethodRow, SetResult, compare
from medanomaly.evaluation.benchmark_page import markdown, write_tables
from medanomaly.evaluation.benchmark_tables import seed_spread

OURS = [0.9, 0.8, 0.7, 0.6, 0.5]
BETTER = [0.8, 0.6, 0.4, 0.2, 0.0]


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one."""
    lines = text.split("\n")
    start = lines.index(heading) + 1
    end = next((index for index in range(start, len(lines)) if lines[index].startswith("#")), len(lines))
    return "\n".join(lines[start:end])


def table(text: str) -> list[list[str]]:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.split("\n") if line.startswith("|")]
    return [row for row in rows if not set(row[0]) <= {"-"}]


def write(tmp_path: Path, ours: Sequence[float] = OURS, theirs: Sequence[float] = BETTER, **changes: object) -> str:
    config, records, folders = hand_benchmark(tmp_path, ours, theirs, floors={"floor": theirs})
    results = [replace(result, **changes) for result in compare(config, records, folders)]  # type: ignore[arg-type]
    return write_tables(tmp_path, config, results, records)


def test_values_stand_with_intervals_and_the_oracle_in_a_table_of_its_own(tmp_path: Path) -> None:
    text = write(tmp_path)
    rows = table(section(text, "## The set"))
    assert rows[0] == ["method", *COLUMNS]
    assert rows[1][:4] == ["ours", *["0.750 [0.650, 0.850]"] * 3]
    assert rows[2][:2] == ["theirs", "0.500 [0.400, 0.600]"]
    assert rows[3][0] == "floor (floor)"
    assert rows[1][COLUMNS.__len__()] == "n/a"
    assert "oracle" not in section(text, "## The set")
    oracle = table(section(text, "### oracle (uses test labels)"))
    assert oracle[0] == ["method", "Dice @ oracle (uses test labels)"]
    assert oracle[1] == ["ours", "0.750 [0.650, 0.850]"]


def test_p_values_and_their_correction_are_printed_with_the_smallest_possible(tmp_path: Path) -> None:
    part = section(write(tmp_path), "### Differences from the main method")
    rows = table(part)
    assert rows[1] == ["theirs", *("-0.300", "0.062", "0.12", "5 (5 patients)"), *("-0.150", "0.062", "0.12", "5 (5 patients)")]
    assert "smallest possible p with 5 patients 0.0625; above 0.05, so no difference could show" in part
    assert "Holm over the 2 comparisons of this set, floors included" in part


def test_enough_patients_get_no_warning_but_what_holm_makes_of_the_smallest_p(tmp_path: Path) -> None:
    ours, theirs = [0.5] * 6, [0.4] * 6
    part = section(write(tmp_path, ours, theirs), "### Differences from the main method")
    assert "6 patients 0.03125; after Holm 0.0625, above 0.05 unless others are smaller." in part
    longer = section(write(tmp_path / "more", [0.5] * 8, [0.4] * 8), "### Differences from the main method")
    assert "8 patients 0.007812." in longer


def test_the_notes_state_conventions_threshold_resolution_chance_and_n(tmp_path: Path) -> None:
    text = section(write(tmp_path), "## The set")
    for said in (
        "6 test images of 6 patients: 5 diseased, 1 healthy; 5 with a lesion mask",
        "both empty is undefined, an empty prediction on a lesion is 0",
        "measured at the image's own rows and columns",
        "theirs: threshold 0.5: mean per-image Dice on val (9 images).",
        "Dice of flagging every pixel of every image with a lesion: 0.182 [0.182, 0.182].",
        "n too small: 6 patients and 5 images with a lesion",
        "6 patients: coverage of the intervals below nominal likely",
        "ours: settings compared on validation: not stated; evaluations of these weights on this test split: 2.",
    ):
        assert said in text


def test_a_set_that_is_large_enough_is_not_called_small(tmp_path: Path) -> None:
    counts = {"num_images": 60, "num_patients": 30, "num_diseased": 30, "num_healthy": 30, "num_with_lesion": 30}
    text = write(tmp_path, counts=counts)
    assert "too small" not in text
    assert "coverage" not in text


def test_the_cost_of_each_method_is_a_table_and_unknown_is_not_zero(tmp_path: Path) -> None:
    rows = table(section(write(tmp_path), "### Cost"))
    assert rows[1] == ["ours", "1,234,567", "75", "0.2500", "512", "1.5"]
    assert rows[3] == ["floor (floor)", "1,234,567", "75", "0.2500", "-", "-"]


def seeded(row: MethodRow, *values: float) -> MethodRow:
    return replace(row, by_seed={str(seed): {"pixel AP": value} for seed, value in enumerate(values)})


def test_seeds_have_columns_of_their_own_and_leave_the_intervals_alone(tmp_path: Path) -> None:
    config, records, folders = hand_benchmark(tmp_path, OURS, BETTER)
    (result,) = compare(config, records, folders)
    one = markdown(config, [result], records)
    assert "### Training seeds" not in one
    several: SetResult = replace(result, rows=(seeded(result.rows[0], 0.1, 0.2, 0.6), result.rows[1]))
    text = markdown(config, [several], records)
    assert table(section(text, "## The set")) == table(section(one, "## The set"))
    rows = table(section(text, "### Training seeds"))
    assert rows[0][:2] == ["method", "seeds"]
    # Mean 0.3; squares 0.04 + 0.01 + 0.09 over 2.
    assert rows[1][:4] == ["ours", "3", "n/a", "0.300 ± 0.265"]
    assert len(rows) == 2
    assert seed_spread(several.rows[0], "pixel AP")[:2] == pytest.approx((0.3, 0.07**0.5))
    assert "not an interval over patients" in section(text, "### Training seeds")


def test_a_missing_cell_is_said_with_its_reason_and_its_commands(tmp_path: Path) -> None:
    config, records, folders = hand_benchmark(tmp_path, OURS, BETTER)
    records[1] |= {"status": "failed", "message": "train: no memory"}
    text = write_tables(tmp_path, config, compare(config, records, folders), records)
    assert "* Missing: theirs, seed 0: train: no memory." in text
    assert "set / theirs / 0 (failed: train: no memory)\n\n    medanomaly x\n" in text
    records[1]["status"], records[0]["status"] = "done", "failed"
    text = write_tables(tmp_path, config, compare(config, records, folders), records)
    assert "No floors: the main method's first cell, which measures them, failed." in text
    assert "No differences: the main method is missing." in text


def test_the_csv_and_the_json_hold_the_same_numbers(tmp_path: Path) -> None:
    write(tmp_path)
    lines = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    found = {(line["method"], line["metric"]): line for line in lines}
    assert found["ours", "pixel AP"]["value"] == "0.75"
    assert found["ours", "Dice @ oracle (uses test labels)"]["value"] == "0.75"
    assert float(found["theirs", "Dice minus main"]["p"]) == 0.0625
    assert float(found["theirs", "Dice minus main"]["p_holm"]) == 0.125
    assert found["floor", "train_minutes"]["value"] == ""
    content = json.loads((tmp_path / "table.json").read_text())
    (only,) = content["sets"]
    ours, theirs, _ = only["rows"]
    assert ours["measured"]["pixel AP"]["low"] == 0.65
    assert ours["measured"]["image AP"] is None
    assert theirs["against_main"]["dice"]["p_holm"] == 0.125
    assert only["dice_of_all_positive"]["value"] == pytest.approx(20 / 110)
    assert [cell["commands"] for cell in content["cells"]] == [["medanomaly x"]] * 2

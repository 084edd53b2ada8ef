import csv
import io
import math
from typing import Any

import pytest

from medanomaly.evaluation.tables import NOTES, as_csv, as_markdown, cell, comparison, round_trip_note


def row(name: str, value: float | None, low: float | None = 0.5, high: float | None = 0.75, note: str = "") -> dict[str, Any]:
    counts = {"confidence": 0.95, "num_images": 8, "num_patients": 4}
    return {"group": "pixels", "name": name, "value": value, "low": low, "high": high, "note": note, **counts}


def method(name: str, *rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "measured": list(rows), "operating_points": [], "round_trip": None} | more


@pytest.mark.parametrize(
    ("measured", "text"),
    [
        (row("a", 0.61249), "0.612 [0.500, 0.750]"),
        (row("a", 26.02, 24.0, 30.0), "26.0 [24.0, 30.0]"),
        (row("a", 0.6, None, None), "0.600 [n/a, n/a]"),
        (row("a", 0.6, math.nan, 0.7), "0.600 [n/a, 0.700]"),
        (row("a", None), "n/a"),
        (row("a", math.nan), "n/a"),
        (None, "n/a"),
    ],
)
def test_a_cell_shows_its_interval_and_says_na_where_nothing_is_defined(measured: dict[str, Any] | None, text: str) -> None:
    assert cell(measured) == text


def test_a_number_that_only_one_method_has_is_na_for_the_other() -> None:
    columns, rows, _ = comparison([method("one", row("a", 0.6), row("b", 0.7)), method("two", row("c", 0.8), row("a", 0.9))])
    assert columns == ["metric", "one", "two"]
    interval = "[0.500, 0.750]"
    assert rows == [
        ["a", f"0.600 {interval}", f"0.900 {interval}"],
        ["b", f"0.700 {interval}", "n/a"],
        ["c", "n/a", f"0.800 {interval}"],
    ]


def test_notes_name_conventions_thresholds_round_trips_and_too_few_patients() -> None:
    one = method("one", row("a", 0.6), operating_points=[{"origin": "threshold 0.5: Dice on val (8 images)"}])
    trip = {"psnr_db": 31.24, "max_error": 0.1234, "num_images": 16.0}
    two = method("two", row("a", 0.6, note="x; 4 patients: coverage below nominal likely"), round_trip=trip)
    notes = comparison([one, two])[2]
    assert notes[: len(NOTES)] == list(NOTES)
    assert "one: threshold 0.5: Dice on val (8 images)." in notes
    assert any("two: null round trip PSNR 31.2 dB, largest error 0.123 of a range of 2 (16 images)" in note for note in notes)
    assert any("Fewer than 30 patients" in note for note in notes)
    assert not any("Fewer than 30" in note for note in comparison([one])[2])


def test_markdown_columns_line_up() -> None:
    lines = as_markdown(["metric", "one"], [["a long name", "1"], ["b", "0.5 [0.1, 0.9]"]], ["a note"]).splitlines()
    assert {len(line) for line in lines[:4]} == {len(lines[0])}
    assert [place for place, letter in enumerate(lines[0]) if letter == "|"] == [
        p for p, letter in enumerate(lines[3]) if letter == "|"
    ]
    assert lines[4:] == ["", "* a note"]


def test_the_long_form_has_one_line_a_method_and_number() -> None:
    text = as_csv([method("one, two", row("a", 0.6), row("b", None)), method("three", row("a", 0.9))])
    found = list(csv.DictReader(io.StringIO(text)))
    assert [(line["method"], line["name"], line["value"]) for line in found] == [
        ("one, two", "a", "0.6"),
        ("one, two", "b", ""),
        ("three", "a", "0.9"),
    ]


def test_an_exact_round_trip_is_said_so_and_another_by_its_quality() -> None:
    # As JSON gives it back: infinity is null there.
    assert round_trip_note({"psnr_db": None, "max_error": 0.0, "num_images": 16.0}).startswith(
        "null round trip exact (16 images)"
    )
    assert "PSNR 34.4 dB, largest error 0.166" in round_trip_note({"psnr_db": 34.4, "max_error": 0.166, "num_images": 16.0})

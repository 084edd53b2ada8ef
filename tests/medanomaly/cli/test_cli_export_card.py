"""A model card leaves no required field empty: what a program knows is filled in, the rest is asked."""

from __future__ import annotations

import re
from pathlib import Path

from cli_builders import TINY_TRAINING, write_labelled

from medanomaly.cli.main import main
from medanomaly.evaluation.model_card import OPEN_QUESTIONS

ROWS = [(f"{split}{index}", ("healthy", "diseased")[index % 2], split) for split in ("train", "val") for index in range(4)]
SECTIONS = ("Training", "Thresholds", "Results", "Limits")


def test_no_required_field_of_a_card_is_empty(tmp_path: Path) -> None:
    manifest = write_labelled(tmp_path / "data", ROWS)
    assert main(["train", "gray64-cfg", "--data", str(manifest), "--out", str(tmp_path / "run"), *TINY_TRAINING]) == 0
    said = ["--command", "medanomaly train ...", "--data_note", "Noise, drawn for a test."]
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out"), *said]) == 0
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    head, *parts = re.split(r"^## (.+)$", card, flags=re.MULTILINE)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    assert set(SECTIONS) <= sections.keys()
    assert [name for name, text in sections.items() if not text.strip()] == []
    items = re.findall(r"^\* ([^:\n]+):(.*)$", card, flags=re.MULTILINE)
    assert {"Preset", "Method", "Network", "Map", "File", "Licence"} <= {name for name, _ in items}
    assert [name for name, text in items if not text.strip(" .")] == []
    assert "Not a medical device; not for diagnosis" in head
    assert all(question in card for question in OPEN_QUESTIONS)

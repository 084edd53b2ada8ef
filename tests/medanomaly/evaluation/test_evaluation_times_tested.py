from __future__ import annotations

import json
from pathlib import Path

from medanomaly.evaluation.times_tested import NAME, count_text, record_test_evaluation


def test_each_evaluation_adds_a_line_beside_the_weights(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    run.mkdir(), out.mkdir()
    counted = [record_test_evaluation(run, out, manifest_sha256=name, num_images=3) for name in ("aa", "bb", "aa")]
    assert [one["count"] for one in counted] == [1, 1, 2]
    lines = [json.loads(line) for line in (run / NAME).read_text().splitlines()]
    assert [(line["manifest_sha256"], line["num_images"]) for line in lines] == [("aa", 3), ("bb", 3), ("aa", 3)]
    assert not (out / NAME).exists()
    # A file of weights is counted in its folder, with those before.
    assert record_test_evaluation(run / "model.safetensors", out, manifest_sha256="aa", num_images=3)["count"] == 3


def test_shipped_weights_and_folders_that_cannot_be_written_are_counted_beside_the_evaluation(tmp_path: Path) -> None:
    shipped, out = tmp_path / "weights", tmp_path / "out"
    (shipped / "one").mkdir(parents=True), out.mkdir()
    counted = record_test_evaluation(shipped / "one", out, manifest_sha256="aa", num_images=3, shipped=shipped)
    assert counted == {"count": 1, "kept_beside": "evaluation"}
    assert list((shipped / "one").iterdir()) == []
    # What cannot be opened for writing: permissions would not stop the administrator.
    blocked = tmp_path / "blocked"
    (blocked / NAME).mkdir(parents=True)
    assert record_test_evaluation(blocked, out, manifest_sha256="aa", num_images=3) == {"count": 2, "kept_beside": "evaluation"}


def test_a_torn_line_was_an_evaluation_too(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"unix_s": 1, "manifest_sha256": "aa", "num_im\n')
    assert record_test_evaluation(tmp_path, tmp_path, manifest_sha256="aa", num_images=1)["count"] == 2


def test_the_sentence_says_how_often_and_what_is_not_known() -> None:
    assert count_text({"count": 1, "kept_beside": "weights"}).startswith("These weights were measured once on this test split (")
    assert "3 times on this test split, as far as this folder knows" in count_text({"count": 3, "kept_beside": "evaluation"})

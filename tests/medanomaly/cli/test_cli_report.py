"""One page from several evaluations, whatever their folders are called."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli_builders import localize, picture, write_folder, write_labelled, write_png

from medanomaly.cli.main import main
from medanomaly.files import write_json

ROWS = [("v1", "healthy", "val"), ("v2", "diseased", "val"), ("t1", "healthy", "test"), ("t2", "diseased", "test")]


@pytest.mark.parametrize("names", [["one"], ["one", "it's two, [or] three"], ["plain", "123"]])
def test_a_page_has_a_section_for_each_evaluation_in_the_order_given(
    names: list[str], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    manifest = write_labelled(tmp_path / "data", ROWS)
    for index, name in enumerate(names):
        words = ["evaluate", str(checkpoint), str(manifest), name, "--title", f"Set number {index}"]
        assert main([*words, "--num-resamples", "5", "--floors", "false", "--quiet", "true", "--device", "cpu"]) == 0
    assert main(["report", *names, "--out", "page.html", "--title", "All <sets>"]) == 0
    page = (tmp_path / "page.html").read_text()
    places = [page.index(f"<h2>Set number {index}") for index in range(len(names))]
    assert places == sorted(places)
    assert "All &lt;sets&gt;" in page
    assert "All <sets>" not in page


def test_without_a_place_the_page_goes_into_the_first_folder(checkpoint: Path, tmp_path: Path) -> None:
    manifest = write_labelled(tmp_path / "data", ROWS)
    words = ["evaluate", checkpoint, manifest, tmp_path / "out", "--num-resamples", 5, "--quiet", "true", "--device", "cpu"]
    assert main([str(word) for word in words]) == 0
    assert main(["report", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_folder_without_an_evaluation_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 4
    err = capsys.readouterr().err
    assert "is not an evaluation folder, nor one of localize, train or benchmark [E_MISSING]" in err
    assert err.count("\n") == 1


def test_a_job_is_a_page_with_its_failures_and_without_names_or_places(checkpoint: Path, tmp_path: Path) -> None:
    images = write_folder(tmp_path / "images", 3)
    (images / "Smith^Anna.png").write_bytes(b"")
    assert localize(checkpoint, images, tmp_path / "job") == 3
    assert main(["report", str(tmp_path / "job"), "--source", str(images)]) == 0
    page = (tmp_path / "job" / "report.html").read_text()
    assert "3 localized, 1 failed" in page
    assert "E_EMPTY" in page
    for text in ("Smith", "0.png", str(tmp_path)):
        assert text not in page
    # Originals that are still what was localized are shown, and laid under the slider.
    assert page.count('data-compare="0"') == page.count('data-compare="1"') == 3
    assert page.count("original of line") == 3
    assert "reference <b>" not in page, "nothing is known of what is diseased"
    # The job kept them itself.
    assert main(["report", str(tmp_path / "job"), "--ids", "true"]) == 0
    named = (tmp_path / "job" / "report.html").read_text()
    assert "Smith^Anna.png" in named
    assert named.count("original of") == 3


def test_an_image_that_changed_since_is_not_shown_as_the_original(checkpoint: Path, tmp_path: Path) -> None:
    images = write_folder(tmp_path / "images", 2)
    assert localize(checkpoint, images, tmp_path / "job") == 0
    write_png(images / "0.png", picture(99))
    # As jobs of before there were originals in them.
    shutil.rmtree(tmp_path / "job" / "images")
    assert main(["report", str(tmp_path / "job"), "--source", str(images)]) == 0
    page = (tmp_path / "job" / "report.html").read_text()
    assert page.count("original of line") == 1


def test_an_id_that_is_markup_is_text(checkpoint: Path, tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>"
    manifest = write_labelled(tmp_path / "data", [(attack, label, split) for _, label, split in ROWS])
    rows = manifest.read_text().replace("i0,", "<img src=x>0,").replace("i2,", f"{attack}2,")
    manifest.write_text(rows.replace(f",{attack},", f",{attack}-val,", 2))
    words = ["evaluate", checkpoint, manifest, tmp_path / "out", "--num-resamples", 5, "--quiet", "true", "--device", "cpu"]
    assert main([str(word) for word in words]) == 0
    assert main(["report", str(tmp_path / "out"), "--ids", "true"]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert attack not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;2" in page


def test_a_training_is_a_page_with_curves_and_settings(tmp_path: Path) -> None:
    lines = [{"step": step, "loss": 1.0, "learning_rate": 1e-3} for step in range(3)]
    run = tmp_path / "run"
    run.mkdir()
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_json(run / "config.json", {"training": {"num_steps": 7}})
    write_json(run / "run.json", {"seed": 3, "environment": {"git_commit": "abc", "packages": {"torch": "2.0"}}})
    assert main(["report", str(run), "--title", "T"]) == 0
    page = (run / "report.html").read_text()
    for text in ("Training: run", "training.num_steps", "Learning rate", "torch 2.0", "abc"):
        assert text in page


def test_a_benchmark_is_a_page_with_a_section_for_each_set(tmp_path: Path) -> None:
    number = {"value": 0.5, "low": 0.4, "high": 0.6}
    counts = {"num_images": 4, "num_patients": 4, "num_diseased": 2, "num_healthy": 2, "num_with_lesion": 2}
    rows = [{"name": "ours", "measured": {"pixel AP": number, "Dice": None}}]
    write_json(tmp_path / "benchmark.json", {})
    write_json(tmp_path / "table.json", {"sets": [{"name": "s", "counts": counts, "rows": rows, "notes": ["a note"]}]})
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    for text in ("Benchmark: s", "0.500 [0.400, 0.600]", "n/a", "a note"):
        assert text in page

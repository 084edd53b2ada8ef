"""One page from several evaluations, whatever their folders are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_builders import write_labelled

from medanomaly.cli.main import main

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
    assert "is not an evaluation folder [E_MISSING]; run `medanomaly evaluate` first" in err
    assert err.count("\n") == 1

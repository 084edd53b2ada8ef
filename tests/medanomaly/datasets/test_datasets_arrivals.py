"""A file that arrives is taken once it has stopped growing, once for each state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from medanomaly.datasets import arrivals as module
from medanomaly.datasets.arrivals import arrivals, look


def watched(folder: Path, most: int) -> Iterator[list[str]]:
    """What is given at each look, without waiting; [] for a look that gives nothing is left out by ``arrivals`` itself."""
    count = iter(range(most))
    return ([path.as_posix() for path in paths] for paths in arrivals(folder, 0.0, lambda: next(count, None) is None))


def test_a_file_is_given_at_the_second_look_and_never_again(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.dcm").write_bytes(b"1")
    assert list(watched(tmp_path, 40)) == [["a.png", "b/c.dcm"]]


def test_a_growing_file_waits_and_one_that_is_written_again_is_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = [{"a": 1}, {"a": 2}, {"a": 3}, {"a": 3}, {"a": 3}, {"a": 4}, {"a": 4}, {}, {"a": 4}, {"a": 4}]
    left = iter(states)
    given: list[tuple[int, list[str]]] = []
    number = 0

    def next_look(_folder: Path) -> dict[Path, tuple[int, int]]:
        nonlocal number
        number += 1
        return {Path(name): (size, 0) for name, size in next(left).items()}

    monkeypatch.setattr(module, "look", next_look)
    for paths in arrivals(tmp_path, 0.0, lambda: number >= len(states)):
        given.append((number, [str(path) for path in paths]))
    assert given == [(4, ["a"]), (7, ["a"]), (10, ["a"])]


def test_it_stops_while_it_waits(tmp_path: Path) -> None:
    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 3

    assert list(arrivals(tmp_path, 3600.0, stop)) == []


def test_what_vanishes_between_listing_and_asking_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    monkeypatch.setattr(module, "image_files", lambda _folder: [Path("gone.png"), Path("a.png")])
    assert list(look(tmp_path)) == [Path("a.png")]


def test_a_folder_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    assert look(tmp_path / "none") == {}

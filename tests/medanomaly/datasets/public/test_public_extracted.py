from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medanomaly.datasets.public.extracted import Pixels, picture_folder, write_pictures
from medanomaly.errors import InputError, ResourceError

NAMES = ["train/0", "train/1", "test/0"]


class Source:
    """Gray pictures of one level, and a note of which were asked for."""

    def __init__(self, level: int = 10, fails: tuple[int, ...] = ()) -> None:
        self.level, self.fails, self.asked = level, fails, list[int]()

    def read(self, indices: Sequence[int]) -> Iterator[Pixels | None]:
        for index in indices:
            self.asked.append(index)
            yield None if index in self.fails else np.full((4, 5), self.level + index, np.uint8)


def levels(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): int(np.asarray(Image.open(path))[0, 0]) for path in sorted(folder.rglob("*.png"))
    }


def test_every_picture_is_written_with_its_own_values(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path, "set")
    assert folder == tmp_path / "images" / "set"
    assert write_pictures(folder, NAMES, Source().read, {"a": 1}) == set()
    assert levels(folder) == {"test/0.png": 12, "train/0.png": 10, "train/1.png": 11}


def test_a_second_run_writes_only_what_is_missing_or_was_cut_short(tmp_path: Path) -> None:
    write_pictures(tmp_path, NAMES, Source().read, {"a": 1})
    (tmp_path / "test/0.png").unlink()
    whole = (tmp_path / "train/1.png").read_bytes()
    (tmp_path / "train/1.png").write_bytes(whole[:-1])
    again = Source()
    write_pictures(tmp_path, NAMES, again.read, {"a": 1})
    assert again.asked == [1, 2]
    assert (tmp_path / "train/1.png").read_bytes() == whole


def test_other_settings_leave_no_old_picture_behind_even_of_names_not_asked_for(tmp_path: Path) -> None:
    write_pictures(tmp_path, NAMES, Source(10).read, {"a": 1})
    write_pictures(tmp_path, NAMES[:1], Source(50).read, {"a": 2})
    assert levels(tmp_path) == {"train/0.png": 50}
    write_pictures(tmp_path, NAMES, Source(50).read, {"a": 2})
    assert levels(tmp_path) == {"test/0.png": 52, "train/0.png": 50, "train/1.png": 51}


def test_pictures_that_are_not_ours_are_not_removed(tmp_path: Path) -> None:
    (tmp_path / "theirs.png").write_bytes(b"somebody's")
    with pytest.raises(InputError, match="did not write"):
        write_pictures(tmp_path, NAMES, Source().read, {"a": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.png"]
    assert (tmp_path / "theirs.png").read_bytes() == b"somebody's"


def test_an_interruption_leaves_whole_files_only_and_the_next_run_goes_on(tmp_path: Path) -> None:
    def breaks(indices: Sequence[int]) -> Iterator[Pixels | None]:
        yield np.zeros((4, 5), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pictures(tmp_path, NAMES, breaks, {"a": 1})
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["0.png", "settings.json"]
    again = Source()
    write_pictures(tmp_path, NAMES, again.read, {"a": 1})
    assert again.asked == [1, 2]


def test_a_picture_that_cannot_be_made_is_named_and_tried_again(tmp_path: Path) -> None:
    assert write_pictures(tmp_path, NAMES, Source(fails=(1,)).read, {"a": 1}) == {"train/1"}
    again = Source()
    assert write_pictures(tmp_path, NAMES, again.read, {"a": 1}) == set()
    assert again.asked == [1]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "train").write_bytes(b"a file")
    with pytest.raises(ResourceError) as refused:
        write_pictures(tmp_path, NAMES, Source().read, {"a": 1})
    assert refused.value.code == "E_OUTPUT"
    assert str(tmp_path) in str(refused.value)

"""Where results go is settled before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from medanomaly.cli.output import make_folder, refuse_existing
from medanomaly.errors import ConfigError, ResourceError


def test_a_folder_is_made_with_its_parents_and_may_be_there(tmp_path: Path) -> None:
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("below", ["file", "file/folder"])
def test_a_folder_that_cannot_be_is_a_resource_error(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResourceError) as caught:
        make_folder(tmp_path / below)
    assert caught.value.code == "E_OUTPUT"


def test_a_result_that_is_there_is_kept_unless_a_person_says_so(tmp_path: Path) -> None:
    result = tmp_path / "result"
    refuse_existing(result, overwrite=False)
    result.write_text("earlier")
    refuse_existing(result, overwrite=True)
    with pytest.raises(ConfigError, match="--overwrite true") as caught:
        refuse_existing(result, overwrite=False)
    assert caught.value.code == "E_EXISTS"

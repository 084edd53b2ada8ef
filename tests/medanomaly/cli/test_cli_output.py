"""Where results go is settled before anything is computed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from medanomaly.cli.main import main
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


def test_a_place_that_cannot_be_written_is_refused_before_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def loaded(*_arguments: object, **_options: object) -> None:
        raise AssertionError("the weights were read")

    monkeypatch.setattr("medanomaly.cli.localize.load_trained", loaded)
    file, image = tmp_path / "file", tmp_path / "a.png"
    file.write_text("x")
    image.write_text("x")

    def asked(out: Path) -> str:
        assert main(["localize", "phantom64-cfg", str(image), str(out), "--device", "cpu"]) == 6
        return capsys.readouterr().err

    assert "[E_OUTPUT]" in asked(file)
    assert "[E_OUTPUT]" in asked(file / "below" / "deeper")
    monkeypatch.setattr("os.access", lambda _path, _mode: False)  # what permissions say; a test as root is never refused
    assert "may not be written [E_OUTPUT]" in asked(tmp_path / "new" / "folder")
    monkeypatch.undo()
    monkeypatch.setattr("medanomaly.cli.localize.load_trained", loaded)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(total=1, used=1, free=0))
    assert "[E_DISK_FULL]" in asked(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()


def test_a_result_that_is_there_is_kept_unless_a_person_says_so(tmp_path: Path) -> None:
    result = tmp_path / "result"
    refuse_existing(result, overwrite=False)
    result.write_text("earlier")
    refuse_existing(result, overwrite=True)
    with pytest.raises(ConfigError, match="--overwrite true") as caught:
        refuse_existing(result, overwrite=False)
    assert caught.value.code == "E_EXISTS"

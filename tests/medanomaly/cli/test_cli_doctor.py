"""The doctor says of each thing that a run needs whether it is there, and finds it out by trying."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from medanomaly.cli import health
from medanomaly.cli.doctor import TEMPLATES
from medanomaly.cli.evaluate import SHIPPED
from medanomaly.cli.health import Check, assets_check, codec_checks, disk_check, exit_code, folder_check, weights_check
from medanomaly.cli.main import main

Usage = namedtuple("Usage", "total used free")


def test_this_machine_is_fit_and_every_check_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--folder", str(tmp_path / "later")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split(maxsplit=1)[0] for line in lines} <= {"ok", "warning"}
    names = [line.split(maxsplit=1)[1].split(":")[0] for line in lines]
    for name in ("versions", "device", "font", "live view", "shipped weights", "output folder", "disk", "shared memory"):
        assert name in names
    assert list(tmp_path.iterdir()) == []
    assert main(["doctor", "--json", "--folder", str(tmp_path)]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [check["name"] for check in content["checks"]] == names
    assert content["exit_code"] == 0


def test_each_codec_is_tried_with_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = [JPEGBaseline8Bit, JPEG2000Lossless, JPEGLSLossless, RLELossless]
    names = {f"DICOM {syntax.name}" for syntax in tried}
    assert {check.name: (check.level, check.message) for check in codec_checks() if check.name in names} == dict.fromkeys(
        names, ("ok", "decodes")
    )
    # A decoder that gives other values.
    read = health.read_image
    monkeypatch.setattr(health, "read_image", lambda path: type("Raw", (), {"pixels": read(path).pixels + 5}))
    assert {check.level for check in codec_checks() if check.name in names} == {"problem"}


def test_versions_are_compared_with_the_ranges_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert health.requirements_check().level == "ok"
    wanted = ["torch>=99", "numpy>=1", "no-such-distribution>=1", "visdom<0; python_version < '3'", "nothing; extra == 'test'"]
    monkeypatch.setattr(health.importlib.metadata, "requires", lambda _name: wanted)
    found = health.requirements_check()
    assert found.level == "problem"
    assert "is not >=99, no-such-distribution is not installed" in found.message
    assert "numpy" not in found.message
    assert "visdom" not in found.message
    monkeypatch.undo()
    assert health.requirements_check("no-such-distribution").level == "warning"


def test_weights_that_are_not_those_of_their_card_are_a_problem(tmp_path: Path) -> None:
    assert weights_check(SHIPPED).level == "ok"
    name = sorted(path.parent.name for path in SHIPPED.glob("*/model.safetensors"))[0]
    shutil.copytree(SHIPPED / name, tmp_path / name)
    assert weights_check(tmp_path).level == "ok"
    content = bytearray((tmp_path / name / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (tmp_path / name / "model.safetensors").write_bytes(content)
    assert weights_check(tmp_path).message == f"{name}: is not the file its card describes"
    (tmp_path / name / "MODEL_CARD.md").unlink()
    assert weights_check(tmp_path).message == f"{name}: no card states its hash"
    assert weights_check(tmp_path / "nowhere").level == "problem"


def test_a_missing_page_is_named(tmp_path: Path) -> None:
    assert assets_check(TEMPLATES).level == "ok"
    assert "live.html" in assets_check(tmp_path).message
    assert assets_check(tmp_path).level == "problem"


@pytest.mark.parametrize(("free_mib", "level"), [(50, "problem"), (500, "warning"), (5000, "ok")])
def test_little_disk_is_told_and_none_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_mib: int, level: str
) -> None:
    monkeypatch.setattr(health.shutil, "disk_usage", lambda _path: Usage(0, 0, free_mib * 2**20))
    assert disk_check(tmp_path / "not" / "there").level == level


def test_little_shared_memory_is_told_before_a_worker_dies_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health.shutil, "disk_usage", lambda _path: Usage(0, 0, 64 * 2**20))
    assert health.shared_memory_check().level == "warning"


def test_a_folder_that_cannot_be_written_ends_with_the_code_of_resources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    found = folder_check(tmp_path / "file")
    assert (found.level, found.exit_code) == ("problem", 6)
    assert main(["doctor", "--folder", str(tmp_path / "file")]) == 6
    assert "problem  output folder: " in capsys.readouterr().out


def test_resources_decide_the_exit_code_and_warnings_do_not() -> None:
    fine = Check(name="a", level="warning", message="", exit_code=6)
    bad = Check(name="b", level="problem", message="")
    full = Check(name="c", level="problem", message="", exit_code=6)
    assert [exit_code(found) for found in ([fine], [fine, bad], [bad, full])] == [0, 4, 6]

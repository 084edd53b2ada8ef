"""A job cut into shards ends with the files and the report of one piece, whoever did what, and whoever was killed on the way."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path

import pytest
from cli_builders import localize, report_lines, write_folder
from rank_builders import in_ranks
from torch import Tensor

from medanomaly.cli.main import main
from medanomaly.evaluation.bulk import locked
from medanomaly.evaluation.shards import Shard
from medanomaly.methods.cfg_diffusion import CfgDiffusion
from medanomaly.types import AnomalyResult, WalkObserver

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def results(out: Path) -> dict[str, str]:
    """Hash of each file that is a result or the merged report."""
    found = [path for path in out.rglob("*") if path.is_file() and "shards" not in path.parts and path.name != ".lock"]
    kept = [path for path in found if path.name not in ("run.json", "status.json")]
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def done(checkpoint: Path, source: Path, out: Path, shard: str) -> int:
    return localize(checkpoint, source, out, "--shard", shard, "--batch-size", "2")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine images and one that is none; three shards have some of them each."""
    root = write_folder(tmp_path_factory.mktemp("source") / "in", 9)
    (root / "broken.png").write_bytes(b"no picture")
    names = [path.name for path in root.iterdir()]
    assert all(any(Shard(number, 3).holds(name) for name in names) for number in (1, 2, 3))
    return root


@pytest.fixture(scope="module")
def by_one(checkpoint: Path, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("by-one") / "out"
    assert done(checkpoint, source, out, "1/1") == 3
    return out


def test_three_shards_in_any_order_make_the_files_of_one_byte_for_byte_and_the_last_one_merges(
    checkpoint: Path, source: Path, by_one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    codes = [done(checkpoint, source, out, "3/3"), done(checkpoint, source, out, "1/3")]
    assert not (out / "report.jsonl").exists()
    assert main(["merge", str(out)]) == 4
    assert "cannot be merged yet: shard 2/3 is missing [E_SHARD]; run those shards, then merge" in capsys.readouterr().err
    codes.append(done(checkpoint, source, out, "2/3"))
    assert sorted(codes) == [0, 0, 3]
    assert "all 3 shards are done and merged" in capsys.readouterr().out
    assert results(out) == results(by_one)
    lines = report_lines(out)
    assert [line["id"] for line in lines] == sorted(path.name for path in source.iterdir())
    status = json.loads((out / "status.json").read_text())
    assert status == {"status": "done", "ok": 9, "skipped": 0, "failed": 1, "reasons": {lines[-1]["reason_code"]: 1}}
    assert lines[-1]["id"] == "broken.png"
    assert json.loads((out / "run.json").read_text())["num_shards"] == 3
    assert "--shard" not in json.loads((out / "run.json").read_text())["command"]
    assert main(["verify-run", str(out)]) == 0
    assert (out / "report.jsonl").stat().st_mode & 0o007 == 0
    # Again: everything is there, and nothing changes.
    before = {name: (out / name).stat().st_mtime_ns for line in lines for name in line["outputs"]}
    (out / ".merging-killed").mkdir()
    (out / ".merging-killed" / "0.jsonl").write_text("an id\n")
    (out / ".report.jsonl.tmp-7").write_text("half")
    assert main(["merge", str(out)]) == 3
    assert not [path for path in out.iterdir() if path.name.startswith((".merging", ".report"))]
    assert done(checkpoint, source, out, "1/3") in (0, 3)
    assert results(out) == results(by_one)
    assert before == {name: (out / name).stat().st_mtime_ns for name in before}


def test_the_merged_report_says_what_a_job_in_one_piece_says(
    checkpoint: Path, source: Path, by_one: Path, tmp_path: Path
) -> None:
    assert localize(checkpoint, source, tmp_path / "plain", "--batch-size", "2") == 3
    plain = {line["id"]: line for line in report_lines(tmp_path / "plain")}
    for line in report_lines(by_one):
        assert line.pop("score", 0) == pytest.approx(plain[line["id"]].pop("score", 0), rel=1e-4)
        assert line | {"seconds": 0} == plain[line["id"]] | {"seconds": 0}


def test_a_killed_shard_is_named_and_continued_and_half_written_files_of_others_are_left_alone(
    checkpoint: Path, source: Path, by_one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    def killed(_rank: int) -> int:
        replace, count = os.replace, 0

        def dying(one: Path, other: Path) -> None:
            nonlocal count
            count += 1
            # Three files say what the run is, each image has six.
            if count == 3 + 6 + 4:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(one, other)

        os.replace = dying
        return done(checkpoint, source, out, "1/1")

    assert in_ranks(1, killed, tmp_path / "said") == [-signal.SIGKILL]
    (out / "maps" / ".somebody-elses-0123abcd.npy.tmp-7").write_bytes(b"half")
    assert [path for path in out.rglob(".*.tmp-*") if "somebody" not in path.name]
    assert main(["merge", str(out)]) == 4
    assert "shard 1/1 is not finished" in capsys.readouterr().err
    finished = report_lines(Shard(1, 1).folder(out))
    before = {name: (out / name).stat().st_mtime_ns for line in finished for name in line["outputs"]}
    assert before
    assert done(checkpoint, source, out, "1/1") == 3
    assert [path.name for path in out.rglob(".*.tmp-*")] == [".somebody-elses-0123abcd.npy.tmp-7"]
    (out / "maps" / ".somebody-elses-0123abcd.npy.tmp-7").unlink()
    assert before == {name: (out / name).stat().st_mtime_ns for name in before}
    assert results(out) == results(by_one)


def test_one_shard_is_one_process_and_shards_exclude_a_job_in_one_piece_but_not_each_other(
    checkpoint: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with locked(out, shared=True), locked(Shard(1, 3).folder(out)):
        assert done(checkpoint, source, out, "1/3") == 6
        assert "[E_LOCKED]" in capsys.readouterr().err
        assert main(["merge", str(out)]) == 6
        assert done(checkpoint, source, out, "2/3") in (0, 3)
        with pytest.raises(ValueError, match="E_LOCKED"), locked(out):
            pass


def test_a_folder_holds_one_job_cut_in_one_way(
    checkpoint: Path, source: Path, by_one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = results(by_one)
    assert localize(checkpoint, source, by_one) == 2
    assert "holds a job in 1 shards [E_SHARD]" in capsys.readouterr().err
    assert done(checkpoint, source, by_one, "1/2") == 2
    assert "holds a job in 1 shards, not 2 [E_SHARD]" in capsys.readouterr().err
    assert results(by_one) == before
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "report.jsonl").write_text("")
    assert done(checkpoint, source, tmp_path / "plain", "1/2") == 2
    assert "holds a job in one piece [E_SHARD]" in capsys.readouterr().err
    assert main(["merge", str(tmp_path / "plain")]) == 4


def test_shards_of_different_lists_of_images_are_not_merged(
    checkpoint: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, fewer = tmp_path / "out", write_folder(tmp_path / "fewer", 3)
    assert done(checkpoint, source, out, "1/3") in (0, 3)
    assert done(checkpoint, source, out, "2/3") in (0, 3)
    assert done(checkpoint, fewer, out, "3/3") == 4
    assert "shard 3/3 was made with other weights, settings or images than most [E_SHARD]" in capsys.readouterr().err


def test_a_failed_image_does_not_make_torchrun_end_the_other_shards(
    checkpoint: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = next(number for number in (1, 2, 3) if Shard(number, 3).holds("broken.png"))
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": number - 1, "WORLD_SIZE": 3}.items():
        monkeypatch.setenv(name, str(value))
    assert done(checkpoint, source, tmp_path / "out", "auto") == 0
    status = json.loads((Shard(number, 3).folder(tmp_path / "out") / "status.json").read_text())
    assert status["failed"] == 1


def test_every_forward_pass_of_a_shard_has_the_same_size(
    checkpoint: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    localize_x, sizes = CfgDiffusion.localize, []

    def noted(self: CfgDiffusion, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
        sizes.append(len(x))
        return localize_x(self, x, observer)

    monkeypatch.setattr(CfgDiffusion, "localize", noted)
    assert localize(checkpoint, source, tmp_path / "out", "--shard", "1/1", "--batch-size", "4") == 3
    # Ten files, one of which is no image.
    assert sizes == [4, 4, 4]

"""``medanomaly deblur``: sources, options, refusals and exit codes; what is written of each kind of file is tested with the job."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_builders import picture, report_lines, write_png
from dicom_canaries import INSTANCE_UID, KEPT, NEVER, SERIES_UID, STUDY_UID, traces, write_source
from PIL import Image
from scipy import ndimage
from toys import SIDE, TINY

from medanomaly.checkpoint import save_checkpoint
from medanomaly.cli.main import main
from medanomaly.datasets.manifest import read_manifest
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.methods.cfg_diffusion import CfgDiffusionConfig
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.methods.diffusion_model import DiffusionModelConfig
from medanomaly.methods.experiment import ExperimentOf
from medanomaly.training.config import TrainingConfig

KERNEL = ("--kernel", "linear 5@30", "--gate", "false")


def smooth(seed: int, rows: int = 24, columns: int = 30) -> np.ndarray:
    """(rows, columns) uint8 without an edge."""
    return ndimage.gaussian_filter(picture(seed, rows, columns).astype(float), 2).round().astype(np.uint8)


def deblur(solver: object, source: Path, out: Path, *options: object) -> int:
    words = ["deblur", solver, source, out, "--device", "cpu", "--quiet", "true", *options]
    return main([str(word) for word in words])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(3):
        write_png(tmp_path / "in" / f"{index}.png", smooth(index))
    return tmp_path / "in"


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of an unconditional model."""
    path = tmp_path_factory.mktemp("prior")
    config = DiffusionModelConfig(network=replace(TINY, learn_sigma=False))
    training = TrainingConfig(num_steps=1)
    made = config.recipe(image_channels=1, training=training, device=torch.device("cpu"))
    experiment = ExperimentOf(name="tiny", method=config, preprocess=PreprocessConfig(image_size=SIDE), training=training)
    save_checkpoint(
        path / "model.safetensors", made.denoiser.state_dict(), {"experiment": experiment.to_dict(), "provenance": {}}
    )
    return path


def test_a_folder_a_file_and_a_manifest_are_deblurred(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deblur("wiener", folder, tmp_path / "of-folder", *KERNEL) == 0
    assert "3 deblurred by wiener, 0 left as they were" in capsys.readouterr().out
    assert deblur("wiener", folder / "0.png", tmp_path / "of-file", *KERNEL) == 0
    (tmp_path / "list.csv").write_text("id,image,label\nfirst,in/0.png,healthy\nsecond,in/1.png,diseased\n")
    assert deblur("wiener", tmp_path / "list.csv", tmp_path / "of-list", *KERNEL) == 0
    found = read_manifest(tmp_path / "of-list" / "manifest.csv")
    assert [(record.id, record.label) for record in found] == [("first", "healthy"), ("second", "diseased")]
    with Image.open(found[0].image) as one, Image.open(read_manifest(tmp_path / "of-file" / "manifest.csv")[0].image) as other:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_a_prior_deblurs_by_diffpir_and_the_record_says_with_what(prior: Path, folder: Path, tmp_path: Path) -> None:
    options = ("--steps", "2", "--samples", "2", "--noise-level", "4", *KERNEL)
    assert deblur(prior, folder, tmp_path / "out", *options) == 0
    assert len(list((tmp_path / "out" / "std").glob("*.npy"))) == 3
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["settings"]["solver"] == "DiffPIR with tiny, 2 steps"
    assert (run["settings"]["kernel"], run["settings"]["noise_level"]) == ("linear 5@30", 4.0)
    assert str(tmp_path) not in (tmp_path / "out" / "run.json").read_text() + (tmp_path / "out" / "report.jsonl").read_text()
    before = [path.read_bytes() for path in sorted((tmp_path / "out" / "images").iterdir())]
    assert deblur(prior, folder, tmp_path / "again", *options, "--batch-size", "1") == 0
    assert [path.read_bytes() for path in sorted((tmp_path / "again" / "images").iterdir())] == before


def test_the_same_command_again_does_nothing_and_another_needs_overwrite(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deblur("wiener", folder, tmp_path / "out", *KERNEL) == 0
    assert deblur("wiener", folder, tmp_path / "out", *KERNEL) == 0
    assert "0 done, 3 already there" in capsys.readouterr().out
    for change in (("--noise-level", "1"), ("--to", "npy"), ("--kernel", "linear 6@30"), ("--gate", "true")):
        assert deblur("wiener", folder, tmp_path / "out", *KERNEL, *change) == 2
        assert "E_CHANGED" in capsys.readouterr().err
    assert deblur("wiener", folder, tmp_path / "out", *KERNEL, "--noise-level", "1", "--overwrite", "true") == 0


def test_a_kernel_file_that_changes_makes_another_job(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taps = tmp_path / "psf.csv"
    taps.write_text("0.2,0.6,0.2\n")
    options = ("--kernel", f"given {taps}", "--gate", "false")
    assert deblur("wiener", folder, tmp_path / "out", *options) == 0
    taps.write_text("0.3,0.4,0.3\n")
    assert deblur("wiener", folder, tmp_path / "out", *options) == 2
    assert "E_CHANGED" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ((), "E_KERNEL", "--kernel is required"),
        (("--kernel", "sideways 10"), "E_KERNEL", "no kernel is called"),
        (("--kernel", "linear -5@0"), "E_KERNEL", "cannot be"),
        (("--kernel", "linear 5@0", "--noise-level", "0"), "E_CONFIG", "noise_level"),
        (("--kernel", "linear 5@0", "--batch-size", "0"), "E_CONFIG", "batch_size"),
        (("--kernel", "linear 5@0", "--steps", "0"), "E_CONFIG", "num_steps"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_written(
    options: tuple[str, ...], code: str, words: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deblur("wiener", folder, tmp_path / "out", *options) == 2
    err = capsys.readouterr().err
    assert code in err
    assert words in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("taps", "words"), [("0,0\n0,0\n", "zero everywhere"), ("0.5,-0.1,0.6\n", "negative"), ("", "")])
def test_a_kernel_file_that_holds_no_kernel_is_refused(
    taps: str, words: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "psf.csv").write_text(taps)
    assert deblur("wiener", folder, tmp_path / "out", "--kernel", f"given {tmp_path / 'psf.csv'}") != 0
    err = capsys.readouterr().err
    assert words in err
    assert "internal error" not in err
    assert not (tmp_path / "out").exists()


def test_a_kernel_larger_than_the_image_fails_that_image_alone(folder: Path, tmp_path: Path) -> None:
    write_png(folder / "strip.png", smooth(9, 6, 40))
    assert deblur("wiener", folder, tmp_path / "out", "--kernel", "linear 12@90", "--gate", "false") == 3
    codes = {line["id"]: line["reason_code"] for line in report_lines(tmp_path / "out")}
    assert codes == {"0.png": "", "1.png": "", "2.png": "", "strip.png": "E_KERNEL"}


def test_only_unusable_images_end_with_exit_code_4(tmp_path: Path) -> None:
    write_png(tmp_path / "in" / "flat.png", np.full((24, 24), 9, np.uint8))
    assert deblur("wiener", tmp_path / "in", tmp_path / "out", *KERNEL) == 4


def test_random_kernels_come_with_a_warning(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deblur("wiener", folder, tmp_path / "out", "--kernel", "random 7", "--seed", "0", "--gate", "false") == 0
    assert "synthetic tests" in capsys.readouterr().err


def test_neither_a_solver_nor_a_prior_says_what_there_is(
    checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deblur("magic", folder, tmp_path / "out", *KERNEL) != 0
    assert "neither a checkpoint nor one of tv, wiener, rl" in capsys.readouterr().err


def test_the_sources_folder_is_never_written_into(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deblur("wiener", folder, folder / "out", *KERNEL) == 2
    assert "must not be the source's folder" in capsys.readouterr().err


def test_localize_deblurs_first_and_writes_it_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    method = CfgDiffusionConfig(network=TINY, sampler=SamplerConfig(noise_level=400, num_steps=2))
    training = TrainingConfig(num_steps=1)
    made = method.recipe(image_channels=1, training=training, device=torch.device("cpu"))
    experiment = ExperimentOf(name="tiny", method=method, preprocess=PreprocessConfig(image_size=32), training=training)
    weights = tmp_path / "weights" / "model.safetensors"
    save_checkpoint(
        weights, made.denoiser.state_dict(), {"experiment": experiment.to_dict(), "operating_points": [], "provenance": {}}
    )
    image = write_png(tmp_path / "one.png", smooth(0, 32, 32))
    words = ["localize", weights, image, tmp_path / "out", "--device", "cpu", "--quiet", "true"]
    assert main([str(word) for word in words]) == 0
    plain = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    words += ["--deblur", "wiener", "--deblur-kernel", "estimated"]
    assert main([str(word) for word in words]) == 2
    assert "E_CHANGED" in capsys.readouterr().err
    assert main([str(word) for word in [*words, "--overwrite", "true"]]) == 0
    assert "deblurring with wiener: 1 " in capsys.readouterr().out
    said = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    assert said["deblur"] == {"solver": {"solver": "wiener"}, "kernel": "estimated", "taps": None, "noise_level": 0.5}
    assert said["identity"] != plain["identity"]
    assert main([str(word) for word in words[:-2]]) == 2
    assert "--deblur-kernel is required" in capsys.readouterr().err


def test_the_shipped_prior_goes_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_png(tmp_path / "film.png", smooth(0))
    assert deblur("cxr64-prior", source, tmp_path / "out", *KERNEL, "--steps", "1") == 0
    assert "1 deblurred by DiffPIR with gray64-prior, 1 steps" in capsys.readouterr().out


def test_no_output_names_a_patient_or_a_uid_of_its_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write_source(source / STUDY_UID / SERIES_UID / f"{INSTANCE_UID}.dcm")
    write_source(source / "text.dcm", BurnedInAnnotation="YES")
    assert deblur("wiener", source, out, *KERNEL) == 3
    said = capsys.readouterr()
    assert "1 image is named by a hash of the DICOM UID" in said.out
    uids = [STUDY_UID, SERIES_UID, INSTANCE_UID]
    canaries = [*uids, *(uid.replace(".", "_") for uid in uids), *KEPT.values(), *NEVER.values()]
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"manifest.csv", "deblur.csv", "report.jsonl", "run.json", "report.html"}
    for path in files:
        assert traces(path, [text for text in canaries if len(text) > 4]) == [], path
        assert [uid for uid in canaries if uid in str(path.relative_to(out))] == []
    assert [line["reason_code"] for line in report_lines(out)] == ["", "E_BURNED_IN"]
    assert deblur("wiener", source, out, *KERNEL) == 3
    assert json.loads((out / "status.json").read_text())["skipped"] == 1
    assert deblur("wiener", source, tmp_path / "kept", *KERNEL, "--keep-patient", "true") == 0
    assert f"{STUDY_UID}/{SERIES_UID}/{INSTANCE_UID}.dcm" in {line["id"] for line in report_lines(tmp_path / "kept")}


def test_what_the_run_is_stands_in_its_folder_from_the_start(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("deblur.job.written", killed)
    assert main(["deblur", "wiener", str(folder), str(tmp_path / "out"), *KERNEL, "--quiet", "true"]) == 130
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["settings"]["kernel"] == "linear 5@30"
    assert json.loads((tmp_path / "out" / "status.json").read_text())["status"] == "running"

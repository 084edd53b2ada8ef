"""The whole job on colour pictures and on four MRI sequences: train, evaluate, report, export, localize, and what is refused."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cli_builders import TINY_TRAINING, localize, output_of, picture, reasons, report_lines, write_png, written
from PIL import Image

from medanomaly.checkpoint import load_checkpoint
from medanomaly.cli.main import main
from medanomaly.evaluation.folder import read_evaluation

ROWS, COLUMNS = 20, 32
"""Not square, and larger than the model: every output has been through the way back."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A finished pipeline."""

    channels: int
    root: Path

    @property
    def manifest(self) -> Path:
        return self.root / "data" / "manifest.csv"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def evaluation(self) -> Path:
        return self.root / "evaluation"

    @property
    def maps(self) -> Path:
        return self.root / "maps"


def planes(channels: int, seed: int) -> np.ndarray:
    """(channels, ROWS, COLUMNS) uint8 noise around a colour of its own in each plane."""
    noise = np.random.default_rng(seed).integers(0, 60, (channels, ROWS, COLUMNS))
    return (noise + np.linspace(180, 20, channels, dtype=int)[:, None, None]).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    """Three planes as a picture in the format of the suffix, others as a float32 array whose planes differ in unit."""
    if path.suffix == ".npy":
        np.save(path, pixels.astype(np.float32) * 10.0 ** np.arange(len(pixels), dtype=np.float32)[:, None, None])
    else:
        Image.fromarray(np.moveaxis(pixels, 0, 2)).save(path)
    return path


def write_set(root: Path, channels: int) -> None:
    """Twelve patients; every second one has a bright block with its mask. Colour: half PNG, half JPEG."""
    root.mkdir(parents=True)
    lines = ["id,patient_id,image,label,mask,split"]
    for index in range(12):
        pixels, label, mask = planes(channels, index), "healthy", ""
        if index % 2:
            lesion = np.zeros((ROWS, COLUMNS), np.uint8)
            lesion[6:12, 8:18] = 255
            pixels[:, lesion > 0] = 250
            label, mask = "diseased", write_png(root / f"{index}-mask.png", lesion).name
        suffix = "npy" if channels != 3 else ("png", "jpg")[index // 2 % 2]
        name = save(root / f"{index}.{suffix}", pixels).name
        lines.append(f"i{index},p{index},{name},{label},{mask},{('train', 'val', 'test')[index // 4]}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module", params=[3, 4])
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Job:
    channels = request.param
    made = Job(channels=channels, root=tmp_path_factory.mktemp(f"channels-{channels}"))
    write_set(made.root / "data", channels)
    preset = {3: "rgb64-cfg", 4: "mri4x64-cfg"}[channels]
    card = ("--command", "medanomaly train", "--data-note", "Drawn.", "--evaluation", made.evaluation)
    commands: list[Sequence[object]] = [
        ["data", "check", made.manifest, "--deep", "true", "--channels", channels],
        ["train", preset, "--data", made.manifest, "--out", made.run, *TINY_TRAINING, "--training.num-steps", "2"],
        ["evaluate", made.run, made.manifest, made.evaluation, "--num-resamples", "20", "--device", "cpu", "--quiet", "true"],
        ["report", made.evaluation],
        ["export", made.run, made.root / "release", *card],
        ["localize", made.run, made.manifest, made.maps, "--threshold", "0.2", "--device", "cpu", "--quiet", "true"],
    ]
    for words in commands:
        assert main([str(word) for word in words]) == 0, words[:2]
    return made


def test_the_checkpoint_knows_its_channels_and_its_network_takes_them(job: Job) -> None:
    checkpoint = load_checkpoint(job.run / "model.safetensors")
    assert checkpoint.header["experiment"]["preprocess"]["channels"] == job.channels
    (first,) = (value for name, value in checkpoint.tensors.items() if name.endswith("conv_in.conv.weight"))
    assert first.shape[1] == job.channels
    assert json.loads((job.run / "config.json").read_text())["preprocess"]["channels"] == job.channels


def test_localize_writes_every_output_at_native_size(job: Job) -> None:
    lines = report_lines(job.maps)
    assert [line["status"] for line in lines] == ["ok"] * 12
    assert len(written(job.maps)) == 12 * (6 if job.channels == 3 else 7)
    for line in lines:
        anomaly_map = np.load(output_of(job.maps, line["id"], "maps"))
        assert anomaly_map.shape == (ROWS, COLUMNS)
        assert anomaly_map.max() > 0
        with Image.open(output_of(job.maps, line["id"], "masks")) as mask:
            np.testing.assert_array_equal(np.asarray(mask) > 0, anomaly_map > 0.2)
        with Image.open(output_of(job.maps, line["id"], "overlays")) as overlay:
            assert (overlay.mode, overlay.size) == ("RGB", (COLUMNS, ROWS))


def test_the_pseudo_healthy_image_has_the_channels_of_the_image(job: Job) -> None:
    folder = job.maps / "pseudo_healthy"
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            assert image.size == (COLUMNS, ROWS)
            assert image.mode == ("RGB" if job.channels == 3 else "L")
            shown = np.asarray(image)
        if job.channels == 4:
            twin = np.load(path.with_suffix(".npy"))
            assert (twin.shape, twin.dtype) == ((4, ROWS, COLUMNS), np.float32)
            assert np.abs(twin).max() <= 1
            np.testing.assert_array_equal(shown, np.rint((twin[0].astype(np.float64) + 1) * 127.5))
        else:
            assert np.ptp(shown.astype(int), axis=2).max() > 0


def test_the_notes_and_the_unit_say_what_is_shown_and_summed(job: Job) -> None:
    messages = {line["message"] for line in report_lines(job.maps)}
    assert messages == ({""} if job.channels == 3 else {"pictures: channel 1 of 4 shown"})
    unit = json.loads((job.maps / "run.json").read_text())["settings"]["unit"]
    assert unit == f"|x - pseudo-healthy|, model units ({job.channels} channels summed)"
    assert json.loads((job.evaluation / "evaluation.json").read_text())["display"]["unit"] == unit
    card = (job.root / "release" / "MODEL_CARD.md").read_text()
    assert f"summed over {job.channels} channels, and so are the thresholds below" in card


def test_the_cases_keep_all_channels_and_the_fidelity_is_over_all_of_them(job: Job) -> None:
    folder = read_evaluation(job.evaluation)
    quality = []
    for case in folder.cases:
        assert case.pixels.shape == (job.channels, ROWS, COLUMNS)
        assert case.pseudo_healthy is not None
        outside = np.ones((ROWS, COLUMNS), bool) if case.reference is None else ~case.reference
        error = np.mean((case.pixels.astype(np.float64) - case.pseudo_healthy)[:, outside] ** 2)
        quality.append(10 * np.log10(4 / error))
    measured = {row["name"]: row["value"] for row in folder.content["methods"][0]["measured"]}
    assert measured["PSNR outside lesions, dB"] == pytest.approx(np.mean(quality), abs=1e-3)
    assert -1 <= measured["SSIM outside lesions"] <= 1


def test_the_report_shows_colour_in_colour_and_says_what_it_shows(job: Job) -> None:
    page = (job.evaluation / "report.html").read_text()
    shown = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in re.findall(r"data:image/png;base64,([^\"]+)", page)
    ]
    originals = [image for image in shown if image.shape[:2] == (ROWS, COLUMNS)]
    # Original, twin and map of four cases and of the two worst; heatmaps and outlines are drawn larger.
    assert len(originals) == (4 + 2) * 3
    first = originals[0]
    if job.channels == 3:
        assert first.shape == (ROWS, COLUMNS, 3)
        means = first.reshape(-1, 3).mean(axis=0)
        assert means[0] > means[1] + 40 > means[2] + 80
        assert "all colour in them is a mark" in page
    else:
        assert first.shape == (ROWS, COLUMNS)
        assert "Images have 4 channels: channel 1 of 4 shown" in page


def test_a_check_without_a_number_reads_what_the_files_hold(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(job.manifest), "--deep", "true"]) == 0
    assert f"--channels {job.channels}" in capsys.readouterr().out
    assert main(["data", "check", str(job.manifest), "--deep", "true", "--channels", "1"]) == 4
    assert ("E_COLOR" if job.channels == 3 else "E_CHANNELS") in capsys.readouterr().out
    assert main(["data", "check", str(job.manifest), "--channels", "0"]) == 2


def test_files_of_other_channels_are_refused_one_by_one_and_gray_is_repeated_for_colour(job: Job, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    write_png(folder / "gray.png", picture(0, ROWS, COLUMNS))
    save(folder / "colour.png", planes(3, 1))
    for count in (3, 4, 5):
        save(folder / f"{count}.npy", planes(count, count))
    assert localize(job.run, folder, tmp_path / "out", "--threshold", "0.2") == 3
    refused = {name for name, code in reasons(tmp_path / "out").items() if code}
    assert set(reasons(tmp_path / "out").values()) == {"", "E_CHANNELS"}
    messages = {line["id"]: line["message"] for line in report_lines(tmp_path / "out")}
    if job.channels == 3:
        assert refused == {"4.npy", "5.npy"}
        assert messages["gray.png"] == "gray, repeated in 3 channels"
        assert "holds 4 channels where 3 are needed" in messages["4.npy"]
    else:
        assert refused == {"gray.png", "colour.png", "3.npy", "5.npy"}
        assert "holds 3 channels where 4 are needed" in messages["3.npy"]


def test_a_gray_model_refuses_colour_unless_allowed_and_four_planes_always(checkpoint: Path, tmp_path: Path) -> None:
    save(write_png(tmp_path / "in" / "colour.png", picture(0)), planes(3, 1))
    save(tmp_path / "in" / "4.npy", planes(4, 4))
    assert localize(checkpoint, tmp_path / "in", tmp_path / "out") == 4
    assert reasons(tmp_path / "out") == {"colour.png": "E_COLOR", "4.npy": "E_CHANNELS"}
    assert localize(checkpoint, tmp_path / "in", tmp_path / "luma", "--allow-color", "true") == 3
    assert reasons(tmp_path / "luma") == {"colour.png": "", "4.npy": "E_CHANNELS"}


def test_a_gray_preset_does_not_train_on_other_channels(job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", str(job.manifest), "--out", str(tmp_path / "run"), *TINY_TRAINING]
    assert main(["train", "gray64-cfg", *words]) == 4
    assert ("[E_COLOR]" if job.channels == 3 else "[E_CHANNELS]") in capsys.readouterr().err
    assert main(["train", "gray64-cfg", *words, "--preprocess.channels", "0"]) == 2

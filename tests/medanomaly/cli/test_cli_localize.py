"""One job: what goes in, what comes out, what is refused before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_builders import (
    localize,
    output_of,
    picture,
    reasons,
    report_lines,
    tiny_checkpoint,
    write_dicom,
    write_folder,
    write_png,
    written,
)
from PIL import Image


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_single_file_is_localized(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = write_png(tmp_path / "one.png", picture(0))
    assert localize(checkpoint, image, tmp_path / "out") == 0
    assert reasons(tmp_path / "out") == {"one.png": ""}
    out = capsys.readouterr().out
    assert "1 localized, 0 already there, 0 failed" in out
    assert "threshold 0.3: mean per-image Dice, chosen on val (2 images)" in out
    assert "Not for diagnosis" in out


def test_a_manifest_is_localized_by_its_ids(checkpoint: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "images", 2)
    (tmp_path / "list.csv").write_text("id,image\nfirst,images/0.png\nsecond,images/1.png\n")
    assert localize(checkpoint, tmp_path / "list.csv", tmp_path / "out") == 0
    assert reasons(tmp_path / "out") == {"first": "", "second": ""}


def test_a_manifest_is_read_again_where_its_intensity_window_changed(checkpoint: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "images", 2)
    table = "image,intensity_low,intensity_high\nimages/0.png,0,255\nimages/1.png,0,255\n"
    for text in (table, table, table.replace("1.png,0,255", "1.png,0,128")):
        (tmp_path / "list.csv").write_text(text)
        assert localize(checkpoint, tmp_path / "list.csv", tmp_path / "out") == 0
    assert [line["id"] for line in report_lines(tmp_path / "out")] == ["images/0.png", "images/1.png", "images/1.png"]


@pytest.mark.parametrize(("rows", "columns"), [(40, 60), (33, 20), (1, 17)])
def test_outputs_have_the_rows_and_columns_of_their_png(rows: int, columns: int, checkpoint: Path, tmp_path: Path) -> None:
    image = write_png(tmp_path / "one.png", picture(0, rows, columns))
    assert localize(checkpoint, image, tmp_path / "out") == 0
    assert np.load(output_of(tmp_path / "out", "one.png", "maps")).shape == (rows, columns)
    for kind in ("masks", "pseudo_healthy", "overlays"):
        assert pixels_of(output_of(tmp_path / "out", "one.png", kind)).shape[:2] == (rows, columns)


def test_dicom_keeps_its_size_and_monochrome1_looks_like_its_monochrome2_twin(checkpoint: Path, tmp_path: Path) -> None:
    stored = np.zeros((40, 60), np.uint8)
    stored[5:15, 30:55] = 230
    write_dicom(tmp_path / "in" / "two.dcm", stored)
    write_dicom(tmp_path / "in" / "one.dcm", 255 - stored, "MONOCHROME1")
    # The highest threshold: nothing is flagged, so that the overlay shows the image alone.
    assert localize(checkpoint, tmp_path / "in", tmp_path / "out", "--threshold", "2") == 0
    overlays = [pixels_of(output_of(tmp_path / "out", name, "overlays")) for name in ("one.dcm", "two.dcm")]
    maps = [np.load(output_of(tmp_path / "out", name, "maps")) for name in ("one.dcm", "two.dcm")]
    assert overlays[0].shape == (40, 60, 3)
    np.testing.assert_array_equal(overlays[0], overlays[1])
    np.testing.assert_array_equal(maps[0], maps[1])
    assert overlays[0][5:15, 30:55].min() > 200
    assert overlays[0][20:].max() < 50
    notes = {line["id"]: line["message"] for line in report_lines(tmp_path / "out")}
    assert "MONOCHROME1" in notes["one.dcm"]
    assert "MONOCHROME1" not in notes["two.dcm"]


def test_no_output_holds_a_patients_name_or_the_folder_images_came_from(checkpoint: Path, tmp_path: Path) -> None:
    source = tmp_path / "home-of-somebody"
    write_dicom(source / "good.dcm", picture(0, 20, 20))
    cut = write_dicom(source / "cut.dcm", picture(1, 20, 20))
    cut.write_bytes(cut.read_bytes()[:-100])
    write_dicom(source / "strange.dcm", picture(2, 20, 20), "HSV")
    out = tmp_path / "out"
    assert localize(checkpoint, source, out) == 3
    assert reasons(out)["good.dcm"] == ""
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) == 5 + 6
    for path in files:
        content = path.read_bytes()
        assert b"Secret" not in content, path
        assert b"SECRET" not in content, path
        assert b"home-of-somebody" not in content, path
        assert str(tmp_path).encode() not in content, path


def test_equal_names_in_different_folders_give_different_outputs(checkpoint: Path, tmp_path: Path) -> None:
    for index, patient in enumerate(("a", "b", "c")):
        write_png(tmp_path / "in" / patient / "view1_frontal.png", picture(index))
    assert localize(checkpoint, tmp_path / "in", tmp_path / "out") == 0
    assert len(written(tmp_path / "out")) == 6 * 3
    maps = [np.load(output_of(tmp_path / "out", f"{patient}/view1_frontal.png", "maps")) for patient in "abc"]
    assert not np.array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[1], maps[2])


def test_results_do_not_depend_on_the_batch_size(checkpoint: Path, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "in", 5)
    for size in (1, 4):
        assert localize(checkpoint, source, tmp_path / f"by-{size}", "--batch-size", size) == 0
    for index in range(5):
        one, four = (np.load(output_of(tmp_path / f"by-{size}", f"{index}.png", "maps")) for size in (1, 4))
        np.testing.assert_allclose(one, four, atol=1e-5, rtol=0)
    scores = [[line["score"] for line in report_lines(tmp_path / f"by-{size}")] for size in (1, 4)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5, rtol=0)


def test_a_threshold_decides_the_mask_and_where_it_came_from_is_said(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, out = write_png(tmp_path / "one.png", picture(0)), tmp_path / "out"
    assert localize(checkpoint, image, out) == 0
    middle = float(np.median(np.load(output_of(out, "one.png", "maps"))))
    capsys.readouterr()
    assert localize(checkpoint, image, out, "--threshold", repr(middle), "--overwrite", "true") == 0
    assert f"threshold {middle:g}: given on the command line" in capsys.readouterr().out
    mask = pixels_of(output_of(out, "one.png", "masks")) > 0
    np.testing.assert_array_equal(mask, np.load(output_of(out, "one.png", "maps")) > middle)
    assert mask.mean() == 0.5


def test_without_a_threshold_there_are_maps_and_no_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = write_png(tmp_path / "one.png", picture(0))
    checkpoint = tiny_checkpoint(tmp_path / "checkpoint", threshold=None)
    assert localize(checkpoint, image, tmp_path / "out") == 0
    assert "no threshold for this checkpoint and sampler: no masks or overlays were written" in capsys.readouterr().out
    assert sorted(name.split("/")[0] for name in written(tmp_path / "out")) == ["images", "maps", "pseudo_healthy"]


def test_stored_thresholds_do_not_speak_of_maps_of_another_sampler(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = write_png(tmp_path / "one.png", picture(0))
    assert localize(checkpoint, image, tmp_path / "as stored") == 0
    assert "masks" in {name.split("/")[0] for name in written(tmp_path / "as stored")}
    assert localize(checkpoint, image, tmp_path / "other", "--guidance-scale=2") == 0
    assert "no threshold for this checkpoint and sampler" in capsys.readouterr().out
    assert "masks" not in {name.split("/")[0] for name in written(tmp_path / "other")}


@pytest.mark.parametrize(
    ("option", "value", "advice"),
    [
        ("--criterion", "healthy", "no threshold 'healthy' for this checkpoint"),
        ("--criterion", "dyce", "choose auto, dice or healthy"),
        ("--threshold", "0", "threshold must be positive and finite"),
        ("--threshold", "-1", "threshold must be positive and finite"),
        ("--noise-level", "0", "sampler.num_steps must be in 1..noise_level=0"),
        ("--noise-level", "1001", "sampler.noise_level must be at most"),
        ("--num-steps", "0", "sampler.num_steps must be in 1..noise_level=400"),
        ("--guidance-scale", "-5", "sampler.guidance_scale must be in 0..50"),
        ("--guidance-scale", "1e6", "sampler.guidance_scale must be in 0..50"),
        ("--guidance-scale", "nan", "guidance_scale must be"),
    ],
)
def test_a_setting_out_of_range_is_refused_before_anything_is_written(
    option: str, value: str, advice: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = write_png(tmp_path / "one.png", picture(0))
    assert localize(checkpoint, image, tmp_path / "out", f"{option}={value}") == 2
    err = capsys.readouterr().err
    assert advice in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def corrupt(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def scramble(path: Path) -> None:
    path.write_bytes(b"\xff" * 400)


def pickled(path: Path) -> None:
    path.write_bytes(b"\x80\x04\x95\x0a\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.")


@pytest.mark.parametrize(
    ("damage", "code"),
    [(Path.unlink, "E_CKPT_MISSING"), (corrupt, "E_CKPT_CORRUPT"), (scramble, "E_CKPT_CORRUPT"), (pickled, "E_CKPT_CORRUPT")],
)
def test_a_checkpoint_that_cannot_be_trusted_is_refused(
    damage: Callable[[Path], None], code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = write_png(tmp_path / "one.png", picture(0))
    checkpoint = tiny_checkpoint(tmp_path / "checkpoint")
    damage(checkpoint / "model.safetensors")
    assert localize(checkpoint, image, tmp_path / "out") == 5
    err = capsys.readouterr().err
    assert f"[{code}]" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("source", ["absent.png", "absent", "absent.csv"])
def test_a_source_that_is_not_there_is_no_input(
    source: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert localize(checkpoint, tmp_path / source, tmp_path / "out") == 4
    err = capsys.readouterr().err
    assert f"{source}: " in err
    assert "[E_MISSING]" in err
    assert err.count("\n") == 1


def test_an_empty_folder_is_no_input(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert localize(checkpoint, tmp_path / "empty", tmp_path / "out") == 4
    err = capsys.readouterr().err
    assert "holds no images [E_NO_IMAGES]" in err
    assert err.count("\n") == 1


def test_an_output_folder_that_cannot_be_is_a_resource_error(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = write_png(tmp_path / "one.png", picture(0))
    assert localize(checkpoint, image, image / "out") == 6
    err = capsys.readouterr().err
    assert "[E_OUTPUT]; choose another output folder" in err
    assert err.count("\n") == 1


def test_a_checkpoint_may_be_named_by_its_file_or_its_folder(checkpoint: Path, tmp_path: Path) -> None:
    image = write_png(tmp_path / "one.png", picture(0))
    assert localize(checkpoint / "model.safetensors", image, tmp_path / "out") == 0
    before = written(tmp_path / "out")
    assert localize(checkpoint, image, tmp_path / "out") == 0
    assert written(tmp_path / "out") == before

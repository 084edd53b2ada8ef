"""A GIF of a walk: as many frames as levels, one scale, refused where there is no walk."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_builders import picture, write_png
from dicom_canaries import write_source
from PIL import Image

from medanomaly.cli.main import main


def animate(checkpoint: Path, out: Path, *options: object) -> int:
    image = out.parent / "image.png"
    write_png(image, picture(0))
    return main([str(word) for word in ("animate", checkpoint, image, out, "--device", "cpu", *options)])


def test_each_level_up_and_down_is_a_frame_and_the_result_the_last(checkpoint: Path, tmp_path: Path) -> None:
    assert animate(checkpoint, tmp_path / "walk.gif") == 0
    with Image.open(tmp_path / "walk.gif") as gif:
        assert gif.format == "GIF"
        assert gif.n_frames == 2 + 2 + 1
    assert (tmp_path / "walk.gif").stat().st_size < 3_000_000


def test_more_steps_are_more_frames_unless_bytes_are_few(checkpoint: Path, tmp_path: Path) -> None:
    assert animate(checkpoint, tmp_path / "walk.gif", "--num-steps", 4) == 0
    with Image.open(tmp_path / "walk.gif") as gif:
        assert gif.n_frames == 9
    bound = (tmp_path / "walk.gif").stat().st_size // 2
    assert animate(checkpoint, tmp_path / "small.gif", "--num-steps", 4, "--max-bytes", bound) == 0
    assert (tmp_path / "small.gif").stat().st_size <= bound


def test_an_earlier_gif_and_another_ending_are_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "walk.gif").write_text("earlier")
    assert animate(checkpoint, tmp_path / "walk.gif") == 2
    assert "[E_EXISTS]" in capsys.readouterr().err
    assert (tmp_path / "walk.gif").read_text() == "earlier"
    assert animate(checkpoint, tmp_path / "walk.png") == 2
    assert "does not end with .gif" in capsys.readouterr().err


def test_a_method_that_does_not_walk_is_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from medanomaly.methods.cfg_diffusion import CfgDiffusion

    localize = CfgDiffusion.localize
    monkeypatch.setattr(CfgDiffusion, "localize", lambda self, x, observer=None: localize(self, x))
    assert animate(checkpoint, tmp_path / "walk.gif") == 2
    assert "does not walk between noise levels [E_METHOD]" in capsys.readouterr().err
    assert not (tmp_path / "walk.gif").exists()


def test_no_gif_is_made_of_a_film_with_text_in_its_pixels_unless_somebody_has_looked(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = write_source(tmp_path / "film.dcm", BurnedInAnnotation="YES")
    words = ["animate", str(checkpoint), str(film), str(tmp_path / "walk.gif"), "--device", "cpu"]
    assert main(words) == 4
    assert "[E_BURNED_IN]" in capsys.readouterr().err
    assert not (tmp_path / "walk.gif").exists()
    assert main([*words, "--burned-in", "keep"]) == 0
    assert "does not say" not in capsys.readouterr().out
    silent = write_source(tmp_path / "silent.dcm")
    assert main(["animate", str(checkpoint), str(silent), str(tmp_path / "silent.gif"), "--device", "cpu"]) == 0
    assert "does not say whether text is burned into its pixels" in capsys.readouterr().out


def test_an_image_that_is_not_there_is_said_to_be_missing(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["animate", str(checkpoint), str(tmp_path / "no.dcm"), str(tmp_path / "walk.gif"), "--device", "cpu"]) == 4
    assert "no.dcm: does not exist [E_NOT_FOUND]" in capsys.readouterr().err

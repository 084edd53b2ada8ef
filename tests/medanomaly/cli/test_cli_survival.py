"""What a command does with damaged, odd-sized, linked or missing inputs: told by its exit code and its report."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from cli_builders import localize, output_of, picture, reasons, report_lines, write_dicom, write_labelled, write_png, written
from PIL import Image

from medanomaly.cli.main import main


@pytest.mark.parametrize("share", [0.99, 0.5, 0.1])
def test_a_dicom_cut_anywhere_fails_alone_and_says_what_to_do(checkpoint: Path, tmp_path: Path, share: float) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    cut = write_dicom(source / "cut.dcm", picture(0, 64, 96))
    content = cut.read_bytes()
    cut.write_bytes(content[: int(len(content) * share)])
    whole = [write_dicom(source / f"{index}.dcm", picture(index, 64, 96)).name for index in (1, 2)]
    assert localize(checkpoint, source, out) == 3
    (line,) = [line for line in report_lines(out) if line["id"] == "cut.dcm"]
    assert line["status"] == "failed"
    assert line["reason_code"] == "E_TRUNCATED"
    assert line["message"].endswith("; copy it again from the archive")
    assert reasons(out) == {"cut.dcm": "E_TRUNCATED"} | dict.fromkeys(whole, "")


@pytest.mark.parametrize("size", [(30, 33), (33, 30), (200, 201), (1, 40), (40, 1)])
def test_every_output_has_the_rows_and_columns_of_its_image(checkpoint: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    write_png(tmp_path / "in" / "odd.png", picture(0, *size))
    assert localize(checkpoint, tmp_path / "in", tmp_path / "out") == 0
    anomaly_map = np.load(output_of(tmp_path / "out", "odd.png", "maps"))
    assert anomaly_map.shape == size
    for kind in ("masks", "images", "pseudo_healthy", "overlays"):
        with Image.open(output_of(tmp_path / "out", "odd.png", kind)) as image:
            assert (image.height, image.width) == size


@pytest.mark.parametrize("name", ["gray.png", "gray.npy", "gray.dcm", "gray.nii"])
@pytest.mark.parametrize("value", [0, 5])
def test_a_constant_image_of_any_format_gets_a_map_of_zeros_and_a_note(
    checkpoint: Path, tmp_path: Path, name: str, value: int
) -> None:
    pixels, path = np.full((16, 16), value, np.uint8), tmp_path / name
    if name.endswith(".npy"):
        np.save(path, pixels)
    elif name.endswith(".nii"):
        nibabel.save(nibabel.Nifti1Image(pixels, np.eye(4)), path)
    else:
        (write_dicom if name.endswith(".dcm") else write_png)(path, pixels)
    assert localize(checkpoint, path, tmp_path / "out") == 0
    assert f"every pixel holds {value}" in report_lines(tmp_path / "out")[0]["message"]
    assert (np.load(output_of(tmp_path / "out", name, "maps")) == 0).all()


def test_holes_are_filled_only_with_a_value_somebody_chose(checkpoint: Path, tmp_path: Path) -> None:
    pixels = picture(0).astype(np.float32)
    pixels[3, 5], pixels[4, 4] = np.nan, np.inf
    np.save(tmp_path / "holes.npy", pixels)
    assert localize(checkpoint, tmp_path / "holes.npy", tmp_path / "refused") == 4
    assert reasons(tmp_path / "refused") == {"holes.npy": "E_NONFINITE"}
    assert localize(checkpoint, tmp_path / "holes.npy", tmp_path / "filled", "--nan-to", "0") == 0
    assert "2 non-finite values replaced by 0" in report_lines(tmp_path / "filled")[0]["message"]
    assert localize(checkpoint, tmp_path / "holes.npy", tmp_path / "filled", "--nan-to", "7") == 2, "other pixels, other results"
    assert localize(checkpoint, tmp_path / "holes.npy", tmp_path / "none", "--nan-to", "nan") == 2


@pytest.mark.timeout(120)
def test_links_outside_are_named_and_not_followed_dangling_ones_fail_and_loops_end(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write_png(source / "sub" / "good.png", picture(0))
    (source / "outside.png").symlink_to(write_png(tmp_path / "private.png", picture(1)))
    (source / "dangling.png").symlink_to(source / "nowhere.png")
    (source / "self.png").symlink_to(source / "self.png")
    (source / "sub" / "loop").symlink_to(source)
    assert localize(checkpoint, source, out) == 3
    assert reasons(out) == {"sub/good.png": "", "dangling.png": "E_NOT_FOUND", "self.png": "E_UNREADABLE"}
    assert [str(source / "outside.png") in record.getMessage() for record in caplog.records].count(True) == 1


def three_missing(root: Path) -> tuple[Path, list[str]]:
    """A manifest of five images of which three are not there."""
    rows = [(str(patient), "healthy", "test") for patient in range(5)]
    manifest, gone = write_labelled(root, rows), ["0.png", "2.png", "3.png"]
    for name in gone:
        (root / name).unlink()
    return manifest, gone


def test_check_names_every_file_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, gone = three_missing(tmp_path)
    assert main(["data", "check", str(manifest)]) == 4
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "[E_MISSING]" in line]
    assert all(str(tmp_path / name) in line for name in gone)


def test_a_job_reports_every_file_that_is_missing_and_does_the_others(checkpoint: Path, tmp_path: Path) -> None:
    manifest, _ = three_missing(tmp_path)
    assert localize(checkpoint, manifest, tmp_path / "out") == 3
    assert reasons(tmp_path / "out") == dict.fromkeys(("i0", "i2", "i3"), "E_NOT_FOUND") | {"i1": "", "i4": ""}
    assert len(written(tmp_path / "out")) == 6 * 2


@pytest.mark.timeout(240)
@pytest.mark.parametrize("column", ["image", "mask"])
@pytest.mark.parametrize("cell", ["../pipe.png", "{outside}/pipe.png", "C:\\x.png", "https://host/x.png", "away/pipe.png"])
def test_a_table_that_leads_outside_is_refused_by_every_command_before_a_file_is_opened(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], column: str, cell: str
) -> None:
    manifest = write_labelled(tmp_path / "set", [("a", "healthy", "train"), ("b", "diseased", "test")])
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for a writer
    (tmp_path / "set" / "away").symlink_to(tmp_path)
    header, first, *rest = manifest.read_text().splitlines()
    cells = dict(zip(header.split(","), first.split(","), strict=True)) | {column: cell.format(outside=tmp_path)}
    manifest.write_text("\n".join([header, ",".join(cells.values()), *rest]) + "\n")
    commands = (
        ["data", "check", manifest],
        ["localize", checkpoint, manifest, tmp_path / "out", "--device", "cpu"],
        ["evaluate", checkpoint, manifest, tmp_path / "out", "--device", "cpu"],
        ["train", "phantom64-cfg", "--data", manifest, "--out", tmp_path / "run", "--device", "cpu"],
    )
    for command in commands:
        assert main([str(word) for word in command]) == 4
        err = capsys.readouterr().err
        assert "[E_TRAVERSAL]" in err
        assert err.count("\n") == 1
        assert "line 2" in err
        assert str(manifest) in err


@pytest.mark.parametrize("deep", [False, True])
def test_a_bad_gzip_checksum_is_for_the_deep_check_to_find(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], deep: bool
) -> None:
    nibabel.save(nibabel.Nifti1Image(picture(0, 40, 60), np.eye(4)), tmp_path / "scan.nii.gz")
    content = bytearray((tmp_path / "scan.nii.gz").read_bytes())
    content[-8] ^= 1
    (tmp_path / "scan.nii.gz").write_bytes(content)
    (tmp_path / "manifest.csv").write_text("image\nscan.nii.gz\n")
    assert main(["data", "check", str(tmp_path / "manifest.csv"), "--deep", str(deep).lower()]) == (4 if deep else 0)
    assert ("[E_CHECKSUM]" in capsys.readouterr().out) == deep


@pytest.mark.parametrize("name", [b"two\nlines.csv", b"quo\"te 's.csv", "\u8133.csv".encode()])
@pytest.mark.parametrize("words", [["data", "check", "{}"], ["localize", "{checkpoint}", "{}", "{out}"]])
def test_an_error_about_a_strange_name_is_one_line_of_plain_text(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: bytes, words: list[str]
) -> None:
    table = tmp_path / os.fsdecode(name)
    table.write_bytes(b"path\na.png\n")
    assert main([word.format(table, checkpoint=checkpoint, out=tmp_path / "out") for word in words]) == 4
    err = capsys.readouterr().err
    assert err.isascii()
    assert err.endswith("[E_COLUMN]; add it\n")
    assert err.count("\n") == 1


def test_an_argument_that_is_no_utf8_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Inside of a folder such names are done; as an argument the command line's parser cannot take them."""
    assert main(["data", "check", str(tmp_path / os.fsdecode(b"not-utf8-\xff.csv"))]) == 2
    err = capsys.readouterr().err
    assert "[E_USAGE]" in err
    assert err.isascii()
    assert err.count("\n") == 1

"""Every command explains itself, and every mistake on the command line is one line with an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medanomaly import __version__
from medanomaly.cli import localize as localize_command
from medanomaly.cli.main import COMMANDS, main

ACTIONS = ("data phantom", "data folder", "data table", "data check", "train phantom64-cfg", "train cxr256-cfg")


def complaint(words: list[str], rc: int, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line a mistake gives; nothing on stdout, no traceback."""
    assert main(words) == rc
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("medanomaly")
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("command", [*COMMANDS, *ACTIONS])
def test_every_command_has_a_help_page_without_python_types(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: medanomaly {command}")
    assert len(text.splitlines()) > 5
    assert "<class" not in text
    assert "==SUPPRESS==" not in text


def test_help_of_localize_explains_each_of_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    main(["localize", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for words in ("--noise_level NOISE_LEVEL replaces the checkpoint's", "images a forward pass", "(type: int, default: 8)"):
        assert words in text


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_without_a_command_all_commands_are_listed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)
    assert "Not for diagnosis" in text


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


MISTAKES = [
    (["localise"], "did you mean localize?"),
    (["xyzzy"], "see medanomaly --help"),
    (["data", "fantom"], "did you mean phantom?"),
    (["train", "phantom64"], "did you mean phantom64-cfg?"),
    (["train", "zzz"], "write one of phantom64-cfg, "),
    (["train", "--data", "a.csv"], "no preset was named"),
    (["localize", "a", "b", "c", "--batch-sise", "3"], "did you mean --batch_size?"),
    (["localize", "a", "b", "c", "--batch-sise=3"], "did you mean --batch_size?"),
    (["localize", "a", "b"], "out"),
    (["localize", "a", "b", "c", "d"], "unrecognized arguments: d"),
    (["localize", "a", "b", "c", "--batch-size", "many"], "--batch_size must be a whole number, got many"),
    (["localize", "a", "b", "c", "--noise-level", "1.5"], "--noise_level must be a whole number or null, got 1.5"),
    (["localize", "a", "b", "c", "--overwrite", "maybe"], "--overwrite must be true or false, got maybe"),
    (["localize", "a", "b", "c", "--batch-size", "0"], "batch_size must be at least 1, got 0"),
    (["localize", "a", "b", "c", "--frame", "-1"], "frame must be 0 or more, got -1"),
    (["localize", "a", "b", "c", "--config", "absent.yaml"], "absent.yaml"),
    (["evaluate", "a", "b", "c", "--batch-size", "0"], "batch_size must be at least 1, got 0"),
    (["evaluate", "a", "b", "c", "--num-resamples", "0"], "num_resamples must be at least 1, got 0"),
    (["evaluate", "a", "b", "c", "--max-cases", "-1"], "max_cases must be at least 0, got -1"),
    (["report"], "folders"),
    (["export", "a", "b"], "--command is missing"),
    (["export", "a", "b", "--command", "train", "--data-note", " "], "--data_note is missing"),
    (["data", "phantom", "x", "--image-size", "8"], "image_size must be in 32..1024 px, got 8"),
    (["data", "phantom", "x", "--fractions", "[1,0]"], "--fractions must be tuple with 3 elements, got [1, 0]"),
    (["train", "phantom64-cfg", "--out", "b"], "required: data"),
    (
        ["train", "phantom64-cfg", "--data", "a", "--out", "b", "--method.sampler.guidence-scale", "3"],
        "--method.sampler.guidance_",
    ),
    (["train", "phantom64-cfg", "--data", "a", "--out", "b", "--training.num-steps", "0"], "num_steps must be at least 1"),
    (["train", "phantom64-cfg", "--data", "a", "--out", "b", "--training.decay", "cosin"], "must be one of ['cosine', "),
    (["train", "phantom64-cfg", "--data", "a", "--out", "b", "--preprocess.image-size", "30"], "must be a multiple of 8"),
]


@pytest.mark.parametrize(("words", "advice"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_on_the_command_line_is_one_line_with_advice(
    words: list[str], advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert advice in complaint(words, 2, capsys)


@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a host without CUDA")
@pytest.mark.parametrize(
    "command", [["localize", "a", "b", "c"], ["evaluate", "a", "b", "c"], ["train", "phantom64-cfg", "--data", "a", "--out", "b"]]
)
def test_cuda_where_there_is_none_is_a_resource_error(
    command: list[str], device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = complaint([*command, "--device", device], 6, capsys)
    assert f"{device}: CUDA is not available here [E_DEVICE]; use --device cpu" in text


def fail(error: BaseException) -> object:
    def raising(*_: object) -> int:
        raise error

    return raising


def test_an_error_nobody_foresaw_is_one_line_and_its_traceback_is_for_debug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(localize_command, "main", fail(RuntimeError("first line\nsecond line")))
    text = complaint(["localize"], 1, capsys)
    assert "internal error: RuntimeError: first line second line; run again with --debug" in text
    assert "read it before sending it" not in text
    assert main(["localize", "--debug"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "may quote names, folders and header values" in said


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_lack_of_memory_is_a_resource_error_with_advice(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(localize_command, "main", fail(error))
    assert "out of memory [E_MEMORY]; use a smaller batch size or image size" in complaint(["localize"], 6, capsys)


def test_an_interrupt_from_the_keyboard_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(localize_command, "main", fail(KeyboardInterrupt()))
    assert "interrupted" in complaint(["localize"], 130, capsys)


@pytest.mark.parametrize("words", ["--help", "data --help", "--version"])
def test_a_reader_that_leaves_early_is_no_error(words: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", "medanomaly", *words.split()], stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_a_reader_that_leaves_while_a_command_talks_is_no_error(tmp_path: Path) -> None:
    script = tmp_path / "talking.py"
    script.write_text(
        "import sys, medanomaly.cli.data as command\n"
        "command.main = lambda words: [print('x' * 9999) for _ in range(99)] and 0\n"
        "from medanomaly.cli.main import main\n"
        "sys.exit(main(['data']))\n"
    )
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run([sys.executable, str(script)], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_another_broken_pipe_is_still_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_words: object) -> int:
        raise BrokenPipeError("a worker is gone")

    monkeypatch.setattr(localize_command, "main", broken)
    assert main(["localize"]) == 1
    assert "internal error: BrokenPipeError" in capsys.readouterr().err

"""A file of settings is data: whatever stands in it, it is read in a moment or refused in one line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from medanomaly.cli.main import main
from medanomaly.config import MAX_DEPTH, MAX_FILE_BYTES, read_settings
from medanomaly.errors import ConfigError
from medanomaly.files import parse_json

LAUGHS = b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (letter, letter, b", ".join([b"*%c" % (letter - 1)] * 9)) for letter in range(ord("b"), ord("j"))
)
"""Nine lines that unfold into 9^9 entries."""
REFUSED = {
    "no UTF-8": b"title: \xff",
    "open bracket": b"a: [1,",
    "nested": b"a: " + b"[" * 20_000 + b"]" * 20_000,
    "multiplied": LAUGHS,
    "holding itself": b"a: &a [*a]",
    "too long": b"#" * (MAX_FILE_BYTES + 1),
    "no date": b"a: 2001-99-99",
    "empty number": b"a: !!int ''",
    "odd truth": b"a: !!bool perhaps",
    "code": b"a: !!python/object/apply:os.system [id]",
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_file_of_settings_is_refused_in_one_line_and_at_once(tmp_path: Path, what: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(REFUSED[what])
    began = time.process_time()
    with pytest.raises(ConfigError) as refused:
        read_settings(path)
    assert time.process_time() - began < 2
    assert refused.value.code == "E_CONFIG"
    assert refused.value.path == path
    assert len(str(refused.value)) < 600
    assert "\n" not in str(refused.value)


def test_ordinary_settings_aliases_and_brackets_in_text_are_read(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("base: &base {rate: 0.5}\nfirst: *base\nsecond: *base\ntext: '[[[[[['\ndeep: [[[1]]]\n")
    content = read_settings(path)
    assert content["first"] == content["second"] == {"rate": 0.5}
    assert content["deep"] == [[[1]]]
    path.write_text("a: " + "[" * (MAX_DEPTH - 2) + "]" * (MAX_DEPTH - 2))
    read_settings(path)


@pytest.mark.parametrize("what", ["no UTF-8", "nested", "multiplied", "no date"])
@pytest.mark.parametrize("form", ["--config {}", "--config={}"])
def test_every_command_looks_at_its_config_file_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str, form: str
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(REFUSED[what])
    assert main(["live", *form.format(path).split()]) == 2
    err = capsys.readouterr().err
    assert "[E_CONFIG]" in err
    assert str(path) in err


def test_json_that_nests_beyond_the_stack_is_a_value_error_like_other_nonsense() -> None:
    assert parse_json(b'{"a": [1]}') == {"a": [1]}
    for text, said in (("[" * 100_000, "too deep"), (b"\xff", "decode"), ("{", "Expecting")):
        with pytest.raises(ValueError, match=said):
            parse_json(text)


@pytest.mark.parametrize(
    "content", ["method: []", "training: null", "method: {network: 3}", "preprocess: [1]", "method: {network: null}"]
)
def test_a_value_where_a_mapping_of_options_belongs_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    words = [
        "train",
        "phantom64-cfg",
        "--config",
        str(path),
        "--data",
        str(tmp_path / "gone.csv"),
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(words) in (2, 4)
    assert "internal error" not in capsys.readouterr().err

"""A typed function is a command line: names, types and files of options."""

from __future__ import annotations

from pathlib import Path

import pytest

from medanomaly.cli.parsing import normalise, run_function
from medanomaly.errors import ConfigError


def parse(*words: str) -> dict[str, object]:
    """What a command gets from its words."""
    seen: dict[str, object] = {}

    def command(source: Path, noise_level: int = 5, note: str = "", scale: float | None = None) -> int:
        """A command.

        Args:
            source: a path
            noise_level: a number
            note: a text
            scale: a number or nothing
        """
        seen.update(source=source, noise_level=noise_level, note=note, scale=scale)
        return 7

    assert run_function(command, "command", "SOURCE", words) == 7
    return seen


def test_dashes_and_underscores_in_an_option_mean_the_same() -> None:
    assert parse("a", "--noise-level", "3") == parse("a", "--noise_level", "3") == parse("a", "--noise-level=3")
    assert parse("a", "--noise-level", "3")["noise_level"] == 3


def test_only_names_of_options_are_rewritten_never_values() -> None:
    words = ["--data-note", "a-b", "--note=x-y", "-h", "--", "a-b/c-d.png", "--method.noise-level=-3"]
    assert normalise(words) == ["--data_note", "a-b", "--note=x-y", "-h", "--", "a-b/c-d.png", "--method.noise_level=-3"]


@pytest.mark.parametrize("text", ["123", "true", "null", "1e5", "a: b", "[x]", "00123", "two words", "caf\u00e9"])
def test_text_and_paths_stay_as_typed_whatever_they_look_like(text: str) -> None:
    assert parse(text, "--note", text) == {"source": Path(text), "noise_level": 5, "note": text, "scale": None}


def test_options_may_come_from_a_file_and_the_command_line_wins(tmp_path: Path) -> None:
    options = tmp_path / "options.yaml"
    options.write_text("noise_level: 3\nscale: 0.5\n")
    assert parse("a", "--config", str(options), "--noise-level", "4") == {
        "source": Path("a"),
        "noise_level": 4,
        "note": "",
        "scale": 0.5,
    }


def test_a_file_of_options_with_an_unknown_name_is_refused(tmp_path: Path) -> None:
    options = tmp_path / "options.yaml"
    options.write_text("nois_level: 3\n")
    with pytest.raises(ConfigError, match="nois_level"):
        parse("a", "--config", str(options))


@pytest.mark.parametrize(
    "content", ["note: !!python/object/apply:pathlib.Path.touch [{0}]\n", "note: !!python/object/apply:os.system ['touch {0}']\n"]
)
def test_a_file_of_options_is_never_executed(content: str, tmp_path: Path) -> None:
    sentinel, options = tmp_path / "sentinel", tmp_path / "options.yaml"
    options.write_text(content.format(sentinel))
    with pytest.raises(ConfigError):
        parse("a", "--config", str(options))
    assert not sentinel.exists()


def test_an_abbreviated_option_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean --noise_level"):
        parse("a", "--noise", "3")

"""Command lines generated from typed functions and dataclasses: help from their docstrings, one-line errors."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, set_parsing_settings

from medanomaly.errors import ConfigError

set_parsing_settings(docstring_parse_attribute_docstrings=True)


class CommandParser(ArgumentParser):  # type: ignore[misc]
    """jsonargparse's parser with short usage lines and errors as ConfigError."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """One line: what is wrong, the nearest known option, where help is."""
        if isinstance(ex, ConfigError):
            raise ex
        text = " ".join(message.split())
        cause: BaseException | None = ex
        while cause is not None:
            if isinstance(cause, ConfigError):
                raise cause
            cause = cause.__cause__ or cause.__context__
        known = [option for action in self._actions for option in action.option_strings]
        typed = [word.split("=")[0] for word in sys.argv[1:] if word.startswith("--")]
        unknown = [word for word in typed if word.replace("-", "_")[2:] not in {option[2:].replace("-", "_") for option in known}]
        near = difflib.get_close_matches(unknown[0], known, n=1) if unknown else []
        advice = f"did you mean {near[0]}?" if near else f"see {self.prog} --help"
        raise ConfigError(text, code="E_USAGE", fix=advice)


def normalise(arguments: Sequence[str]) -> list[str]:
    """Option names with dashes (--noise-level) as the underscores of the config's fields; values are left alone."""

    def option(word: str) -> str:
        match = re.fullmatch(r"--([A-Za-z][\w.-]*)(=.*)?", word, flags=re.DOTALL)
        return word if match is None else f"--{match[1].replace('-', '_')}{match[2] or ''}"

    return [option(word) for word in arguments]


def parser(prog: str, description: str, usage: str) -> CommandParser:
    """An empty parser with ``--config FILE`` (YAML or JSON; flags win) and ``--print_config``."""
    made = CommandParser(prog=prog, description=description, usage=f"{prog} {usage}", allow_abbrev=False)
    made.add_argument("--config", action="config", help="YAML or JSON file with any of these options; flags win")
    return made


def run_function(function: Callable[..., int], prog: str, usage: str, arguments: Sequence[str]) -> int:
    """Parse the arguments a typed function takes, and call it."""
    made = parser(prog, "", usage)
    made.add_function_arguments(function, as_positional=True, fail_untyped=True)
    values: dict[str, Any] = made.instantiate(made.parse_args(normalise(arguments))).as_dict()
    values.pop("config", None)
    return function(**values)

"""Command lines generated from typed functions and dataclasses: help from their docstrings, one-line errors."""

from __future__ import annotations

import difflib
import itertools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, set_parsing_settings

from medanomaly.config import read_settings
from medanomaly.errors import ConfigError

TYPE_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple": "a list [a, b, ...]",
    "dict": "a mapping {a: b, ...}",
    "NoneType": "null",
}
"""What people call the types of an option."""

set_parsing_settings(docstring_parse_attribute_docstrings=True)


class CommandParser(ArgumentParser):  # type: ignore[misc]
    """jsonargparse's parser with short usage lines and errors as ConfigError."""

    words: Sequence[str] = ()
    """What is being parsed, for advice on misspelt options."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """One line: what is wrong, the nearest known option, where help is."""
        cause: BaseException | None = ex
        while cause is not None:
            if isinstance(cause, ConfigError):
                raise cause
            cause = cause.__cause__ or cause.__context__
        known = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        typed = [word.split("=")[0] for word in self.words if word.startswith("--")]
        unknown = [word for word in typed if word not in known]
        near = [option for word in unknown for option in known if option.startswith(word)]
        near += [match for word in unknown for match in difflib.get_close_matches(word, known, n=1)]
        advice = f"did you mean {near[0]}?" if near else f"see {self.prog} --help"
        raise ConfigError(plain(message), code="E_USAGE", fix=advice)

    def format_help(self) -> str:
        """Help with types as people write them: ``path``, not ``<class 'Path'>``."""
        return re.sub(r"(?<=type:)(\s+)(?:<class\s+'Path'>|Path\b)", r"\1path", str(super().format_help()))


def plain(message: str) -> str:
    """jsonargparse's message on one line, without the parts that speak of Python."""
    text = " ".join(message.split())
    wrong = re.search(r'Parser key "([\w.]+)": (.*?)(?:\.? Given value type: .*?)?(?:\.? Got value| Given value): (.*)$', text)
    if wrong is None:
        return text
    kinds = re.findall(r"Expected an? (?:<class '(\w+)'>|(?:typing\.)?(.+?))(?= - |$)", wrong[2])
    others = [re.sub(r"^Literal\['(\w+)'\]$", r"\1", other).replace("Literal", "one of ") for _, other in kinds]
    wanted = " or ".join(TYPE_NAMES.get(simple, other) or simple for (simple, _), other in zip(kinds, others, strict=True))
    return f"--{wrong[1]} must be {wanted or 'of another type'}, got {wrong[3]}"


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
    values: dict[str, Any] = parsed(made, arguments).as_dict()
    values.pop("config", None)
    return function(**values)


def config_files(words: Sequence[str]) -> list[Path]:
    """Files named by ``--config``, to be looked at before jsonargparse unfolds them."""
    given = [after for word, after in itertools.pairwise(words) if word == "--config"]
    given += [word.removeprefix("--config=") for word in words if word.startswith("--config=")]
    return [Path(name) for name in given if os.path.isfile(name)]  # noqa: PTH113 (False also for names that cannot be)


def parsed(made: CommandParser, arguments: Sequence[str]) -> Any:
    """The namespace of a command line, dataclasses built."""
    made.words = normalise(arguments)
    for file in config_files(made.words):
        read_settings(file)
    try:
        return made.instantiate(made.parse_args(made.words))
    # jsonargparse on null or a list where a mapping of options belongs.
    except (TypeError, AttributeError, LookupError, ArithmeticError) as error:
        text = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"an option has a value of another kind ({text})", code="E_CONFIG", fix=f"see {made.prog} --help"
        ) from error

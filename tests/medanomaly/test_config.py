import json
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from medanomaly.config import from_dict, to_dict
from medanomaly.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    name: Literal["a", "b"] = "a"


@dataclass(frozen=True, kw_only=True)
class Outer:
    count: int
    text: str = "x"
    flag: bool = False
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[int, float] | None = None
    limit: float | None = None
    inner: Inner = field(default_factory=Inner)


FULL = Outer(count=3, text="é", flag=True, sizes=(4, 5, 6), pair=(1, 2.5), limit=0.25, inner=Inner(rate=1.0, name="b"))


@pytest.mark.parametrize("config", [Outer(count=1), FULL])
def test_a_config_survives_json(config: Outer) -> None:
    assert from_dict(Outer, json.loads(json.dumps(to_dict(config)))) == config


def test_what_is_left_out_keeps_its_default() -> None:
    assert from_dict(Outer, {"count": 3}) == Outer(count=3)


def test_a_whole_number_is_a_float_where_a_float_is_wanted() -> None:
    found = from_dict(Outer, {"count": 3, "limit": 1, "inner": {"rate": 2}})
    assert (type(found.limit), type(found.inner.rate)) == (float, float)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"count": 1, "cuont": 2}, "unknown key config.cuont .*did you mean count"),
        ({"count": 1, "inner": {"rat": 2.0}}, "unknown key config.inner.rat .*did you mean rate"),
        ({"count": 1, "zzz": 2}, "unknown key config.zzz .*known keys: count, flag, inner"),
        ({"text": "y"}, "config.count is missing"),
    ],
)
def test_an_unknown_or_missing_key_is_refused_with_what_was_meant(content: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        from_dict(Outer, content)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("count", "3"),
        ("count", 3.0),
        ("count", True),
        ("count", None),
        ("text", 3),
        ("flag", 1),
        ("flag", "yes"),
        ("sizes", 3),
        ("sizes", "12"),
        ("sizes", [1, "2"]),
        ("pair", [1]),
        ("pair", [1, 2, 3]),
        ("pair", ["1", 2.0]),
        ("limit", "0.5"),
        ("limit", True),
        ("inner", 3),
        ("inner", [1]),
    ],
)
def test_a_value_of_another_type_is_refused_by_key_and_never_converted(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"config\.{key}"):
        from_dict(Outer, {"count": 1} | {key: value})


def test_a_word_that_is_no_choice_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"config\.inner\.name must be one of a, b, got 'c'"):
        from_dict(Outer, {"count": 1, "inner": {"name": "c"}})

"""From classes that mean no disease to a task of healthy against diseased: a digit that is normal, another that is not."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from medanomaly.errors import ConfigError


def two_classes(names: Sequence[str], healthy: Sequence[str], diseased: Sequence[str]) -> dict[str, str]:
    """class -> the label it gets; classes that are not in the answer are left out of the data.

    Args:
        names: the classes of the set.
        healthy: those that become ``healthy``; none, with ``diseased`` given: all others.
        diseased: those that become ``diseased``; none, with ``healthy`` given: all others. Both empty: classes stay themselves.

    Raises:
        ConfigError: E_CLASS, a name that is no class (with the nearest), one that is in both, or nothing left for one of them.
    """
    for name in (*healthy, *diseased):
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
            raise ConfigError(
                f"{name!r} is not one of the classes {', '.join(names)}",
                code="E_CLASS",
                fix=f"did you mean {near[0]!r}?" if near else "choose of these",
            )
    if set(healthy) & set(diseased):
        both = ", ".join(sorted(set(healthy) & set(diseased)))
        raise ConfigError(f"{both} cannot be healthy and diseased", code="E_CLASS", fix="name each class once")
    if not healthy and not diseased:
        return {name: name for name in names}
    well = list(healthy) or [name for name in names if name not in diseased]
    ill = list(diseased) or [name for name in names if name not in healthy]
    if not well or not ill:
        raise ConfigError("every class is on one side", code="E_CLASS", fix="leave some for healthy and some for diseased")
    return {**dict.fromkeys(well, "healthy"), **dict.fromkeys(ill, "diseased")}

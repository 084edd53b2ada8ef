"""Options of the commands that localize which replace a checkpoint's sampler settings."""

from __future__ import annotations

from typing import Any

from medanomaly.methods.speeds import Speed


def sampler_given(*, speed: Speed | None, num_steps: int | None, **options: Any) -> dict[str, Any]:
    """The settings that were given, for ``load_trained``; the number of steps wins over that of the speed."""
    given = {"speed": speed, "num_steps": num_steps, **options}
    return {name: value for name, value in given.items() if value is not None}

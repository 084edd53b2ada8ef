"""The pinned environment is one that pyproject.toml allows, and holds everything it asks for."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCKED = {
    canonicalize_name(name): version
    for line in (ROOT / "requirements-lock.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
    for name, version in [line.split("==")]
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_every_requirement_is_pinned_within_its_range() -> None:
    wanted = [Requirement(text) for text in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"])]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"python_version": "3.11"})]
    assert len(wanted) > 20
    wrong = [
        str(one) for one in wanted if not one.specifier.contains(LOCKED.get(canonicalize_name(one.name), "0"), prereleases=True)
    ]
    assert wrong == []


def test_the_torch_that_make_installs_is_the_pinned_one() -> None:
    assert f"torch=={LOCKED[canonicalize_name('torch')]}" in (ROOT / "requirements-cpu.txt").read_text("utf-8").splitlines()

"""Who may import whom (docs/architecture.md): reads every import and refuses the arrows that turn back."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LAYER = {
    "medanomaly": 0,  # its __init__.py: the version
    "medanomaly.types": 0,
    "medanomaly.errors": 0,
    "medanomaly.config": 1,
    "medanomaly.checkpoint": 1,
    "medanomaly.rng": 1,
    "medanomaly.files": 1,
    "medanomaly.diffusion": 2,
    "medanomaly.scoring": 2,
    "medanomaly.metrics": 2,
    "medanomaly.datasets": 2,
    "medanomaly.io": 2,
    "medanomaly.views": 2,
    "medanomaly.training": 3,
    "medanomaly.evaluation": 3,
    "medanomaly.generation": 3,
    "medanomaly.methods": 4,
    "medanomaly.classifiers": 4,
    "medanomaly.presets": 5,
    "baselines": 6,
    "deblur": 6,
    "medanomaly.cli": 7,
    "medanomaly.__main__": 8,  # `python -m medanomaly`
    "scripts": 8,
}
"""Room -> layer. An import goes to a lower layer, or stays in its room."""

SAME_LAYER = {
    ("medanomaly.checkpoint", "medanomaly.files"): "checkpoints are written whole",
    ("medanomaly.classifiers", "medanomaly.methods"): "a classifier is trained as an experiment, like any method",
    ("medanomaly.datasets", "medanomaly.io"): "a manifest names files, io reads them",
    ("medanomaly.scoring", "medanomaly.metrics"): "an operating point is the threshold that is best by a metric",
}
"""The arrows that stay within a layer, each with its reason."""

OURS = ("medanomaly", "baselines", "deblur", "scripts", "tests")


def room_of(module: str) -> str:
    """``medanomaly.io.dicom`` -> ``medanomaly.io``; outside the core the top-level package."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "medanomaly" else parts[0]


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Absolute dotted names a module imports, also those inside functions and under TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            # `from medanomaly import io` names the room only in its second half; `from medanomaly import __version__` does not.
            yield from (f"{source}.{alias.name}" if f"{source}.{alias.name}" in LAYER else source for alias in node.names)


def arrows(root: Path) -> Iterator[tuple[str, str, str]]:
    """(file, its room, name it imports) for each import of ours in the packages and scripts under root."""
    for path in sorted(file for top in OURS[:-1] for file in (root / top).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        package = module if is_package else module.rpartition(".")[0]
        yield from (
            (path.relative_to(root).as_posix(), room_of(module), target)
            for target in (module, *imports(ast.parse(path.read_text(encoding="utf-8"), str(path)), package))
            if target.split(".")[0] in OURS
        )


def violations(root: Path) -> list[str]:
    """One line for each import that goes up, or sideways without a reason, and for each file of a room without a layer."""
    found = []
    for file, here, target in arrows(root):
        there = room_of(target)
        if here not in LAYER:
            found.append(f"{file}: {here} has no layer; give it one in LAYER and in docs/architecture.md")
        elif there != here and (here, there) not in SAME_LAYER and LAYER.get(there, 9) >= LAYER[here]:
            found.append(f"{file}: {here} must not import {target}")
    return list(dict.fromkeys(found))


def test_no_import_goes_up_or_sideways() -> None:
    assert violations(ROOT) == []


def test_every_arrow_within_a_layer_is_still_needed() -> None:
    assert SAME_LAYER.keys() <= {(here, room_of(target)) for _, here, target in arrows(ROOT)}


def test_the_arrows_within_a_layer_make_no_circle() -> None:
    # With chains of one arrow there is none: whoever is imported within its layer imports nobody there.
    assert not {here for here, _ in SAME_LAYER} & {there for _, there in SAME_LAYER}
    assert all(LAYER[here] == LAYER[there] for here, there in SAME_LAYER)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("medanomaly/types.py", "from medanomaly.files import sha256_of"),
        ("medanomaly/diffusion/walk.py", "import medanomaly.scoring.difference"),
        ("medanomaly/io/dicom.py", "from medanomaly.datasets.manifest import Record"),
        ("medanomaly/io/dicom.py", "from medanomaly import datasets"),
        ("medanomaly/io/dicom.py", "from ..datasets import manifest"),
        ("medanomaly/io/__init__.py", "from ..datasets import manifest"),
        ("medanomaly/io/dicom.py", "from .. import datasets"),
        ("medanomaly/training/loop.py", "def fit():\n    from medanomaly.methods import METHODS"),
        ("medanomaly/methods/recipe.py", "import medanomaly.presets"),
        ("medanomaly/presets.py", "from baselines.brightness import Brightness"),
        ("medanomaly/evaluation/localize.py", "import deblur"),
        ("baselines/autoencoder.py", "import deblur.diffpir"),
        ("deblur/diffpir.py", "import baselines"),
        ("baselines/autoencoder.py", "from medanomaly.cli import main"),
        ("medanomaly/cli/demo.py", "import scripts.train"),
        ("medanomaly/cli/demo.py", "import tests.toys"),
        ("medanomaly/somewhere/new.py", "import torch"),
    ],
)
def test_an_arrow_that_turns_back_is_found(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(line + "\n")
    assert [entry.split(":")[0] for entry in violations(tmp_path)] == [file]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("medanomaly/types.py", "import torch"),
        ("medanomaly/rng.py", "from medanomaly.errors import InputError"),
        ("medanomaly/datasets/manifest.py", "from medanomaly.io.reader import read_image"),
        ("medanomaly/io/dicom.py", "from .reader import read_image\nfrom medanomaly import __version__"),
        ("medanomaly/methods/cfg.py", "from medanomaly.diffusion.walk import ddim_walk"),
        ("baselines/autoencoder.py", "from medanomaly.training.loop import fit"),
        ("medanomaly/cli/demo.py", "import baselines, deblur"),
        ("scripts/train.py", "from medanomaly.cli.main import main"),
    ],
)
def test_an_arrow_that_goes_down_is_allowed(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(line + "\n")
    assert violations(tmp_path) == []

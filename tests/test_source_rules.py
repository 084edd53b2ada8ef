"""What no file of the repository may contain: calls that run code found in data, and paths of one person's machine."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ("medanomaly", "baselines", "deblur", "scripts")

RUNS_CODE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
"""Modules whose reading half executes what the file says."""
HARMLESS = {"pickle.UnpicklingError"}
"""Their names that may be used all the same: an error to catch."""
NEEDS = {"torch.load": ("weights_only", True)}
"""Call -> keyword it must carry with this very value."""
REFUSES = {
    "pydicom.dcmread": {"force": True},
    "dcmread": {"force": True},
    "np.load": {"allow_pickle": True},
    "numpy.load": {"allow_pickle": True},
    "subprocess.run": {"shell": True},
    "subprocess.Popen": {"shell": True},
}
"""Call -> keyword value it must not carry: force reads any file as DICOM, the others run what they are given."""
FORBIDDEN = {"eval", "exec", "__import__", "yaml.load", "yaml.unsafe_load", "pd.read_pickle", "pandas.read_pickle", "os.system"}

# The brackets keep this file from finding itself.
MACHINE_PATH = re.compile(r"(?<![\w./:~-])/(?:wor[k]|tm[p]|hom[e]|roo[t]|User[s]|mn[t])/[A-Za-z0-9_.-]+|\b[A-Z]:\\User[s]\\")
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".yml",
    ".yaml",
    ".txt",
    ".cfg",
    ".cff",
    ".csv",
    ".json",
    ".ipynb",
    ".sh",
    ".html",
    ".j2",
    ".css",
    "",
}


def dotted(node: ast.expr) -> str:
    """``torch.load`` for that expression; a leading dot where the front is not a plain name."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def risky(name: str) -> bool:
    """Whether a dotted name belongs to a module that runs code, its harmless names aside."""
    return name.split(".")[0] in RUNS_CODE and name not in HARMLESS


def dangers(source: str, name: str = "") -> Iterator[str]:
    """One phrase for each import or call that could execute code from data."""
    for node in ast.walk(ast.parse(source, name)):
        if isinstance(node, ast.Import):
            # A plain `import pickle` is judged by what is then used of it.
            yield from (
                f"imports {name.name}" for name in node.names if risky(name.name) and (name.asname or name.name != "pickle")
            )
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (f"imports {name}" for name in names if risky(name))
            if "torch.load" in names:
                yield "imports torch.load under a bare name, where its keyword cannot be checked"
        elif isinstance(node, ast.Attribute) and risky(dotted(node)):
            yield f"uses {dotted(node)}"
        elif isinstance(node, ast.Call):
            call = dotted(node.func)
            given = {word.arg: getattr(word.value, "value", None) for word in node.keywords if word.arg}
            if call in FORBIDDEN:
                yield f"calls {call}"
            if call in NEEDS and given.get(NEEDS[call][0]) is not NEEDS[call][1]:
                yield f"calls {call} without {NEEDS[call][0]}={NEEDS[call][1]}"
            yield from (
                f"calls {call} with {word}={value}" for word, value in REFUSES.get(call, {}).items() if given.get(word) is value
            )


def committed_texts(root: Path) -> Iterator[Path]:
    """Text files git would keep, told by .gitignore's names, so that a checkout and an unpacked archive are read alike."""
    ignored = [".git", *(line.strip().rstrip("/") for line in (root / ".gitignore").read_text().splitlines() if line.strip())]
    for entry in sorted(root.iterdir()):
        if any(fnmatch(entry.name, pattern) for pattern in ignored):
            continue
        for path in [entry] if entry.is_file() else sorted(entry.rglob("*")):
            kept = not any(fnmatch(part, pattern) for part in path.relative_to(root).parts for pattern in ignored)
            if kept and path.suffix in TEXT and path.is_file():
                yield path


def test_no_code_is_executed_from_data() -> None:
    found = [
        f"{path.relative_to(ROOT).as_posix()}: {danger}"
        for top in SOURCE
        for path in sorted((ROOT / top).rglob("*.py"))
        for danger in dangers(path.read_text(encoding="utf-8"), str(path))
    ]
    assert found == []


def test_no_file_names_a_path_of_one_machine() -> None:
    texts = list(committed_texts(ROOT))
    assert ROOT / "pyproject.toml" in texts
    found = [
        f"{path.relative_to(ROOT).as_posix()}:{number}: {line.strip()[:100]}"
        for path in texts
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle; pickle.loads(data)",
        "import pickle as quiet",
        "from pickle import loads",
        "import dill",
        "from joblib import load",
        "import torch; torch.load('x.pt')",
        "import torch; torch.load('x.pt', weights_only=False)",
        "import torch; torch.load('x.pt', **options)",
        "from torch import load",
        "eval('1 + 1')",
        "exec('pass')",
        "pydicom.dcmread('x.dcm', force=True)",
        "np.load('x.npy', allow_pickle=True)",
        "yaml.load(text)",
        "subprocess.run(command, shell=True)",
    ],
)
def test_a_call_that_could_execute_data_is_found(line: str) -> None:
    assert len(list(dangers(line))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "import pickle; pickle.UnpicklingError",
        "torch.load('x.pt', weights_only=True)",
        "model.eval()",
        "pydicom.dcmread('x.dcm')",
        "np.load('x.npy', allow_pickle=False)",
    ],
)
def test_a_call_that_only_reads_is_allowed(line: str) -> None:
    assert list(dangers(line)) == []


@pytest.mark.parametrize("folder", ["wor" + "k", "tm" + "p", "hom" + "e", "roo" + "t", "User" + "s"])
def test_a_machine_path_is_told_from_an_address_and_a_relative_path(folder: str) -> None:
    assert MACHINE_PATH.search(f"--data /{folder}/someone/images")
    assert not MACHINE_PATH.search(f"https://example.org/{folder}/someone")
    assert not MACHINE_PATH.search(f"runs/{folder}/someone")

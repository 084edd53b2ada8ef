"""The notebook runs from top to bottom in a kernel of its own, and is kept without outputs."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from PIL import Image

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "quick_demo.ipynb"


# A process of its own: nbclient leaves sockets to the garbage collector. They lie in the file system, so nothing listens on a port.
EXECUTE = """
import sys
import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

source, target, folder = sys.argv[1:]
book = nbformat.read(source, as_version=4)
manager = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=folder + "/kernel")
NotebookClient(book, km=manager, timeout=1200, resources={"metadata": {"path": folder}}).execute()
nbformat.write(book, target)
"""


def executed(folder: Path) -> tuple[str, list[Image.Image]]:
    """(what it printed, its pictures) after a run in an empty folder."""
    words = [str(NOTEBOOK), str(folder / "executed.ipynb"), str(folder)]
    done = subprocess.run([sys.executable, "-c", EXECUTE, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    book = nbformat.read(folder / "executed.ipynb", as_version=4)
    outputs: list[Any] = [output for cell in book.cells for output in cell.get("outputs", [])]
    shown = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    text = "".join(output["text"] for output in outputs if output.output_type == "stream" and output.name == "stdout")
    return text, [Image.open(io.BytesIO(base64.b64decode(one))) for one in shown]


def share(text: str, start: str) -> float:
    """The percentage of the line that starts so."""
    line = next(line for line in text.splitlines() if line.startswith(start))
    return float(line.split(": ")[1].split("%")[0]) / 100


def test_the_notebook_is_valid_starts_with_what_it_shows_and_holds_no_outputs() -> None:
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    assert book.nbformat == 4
    assert book.cells[0].cell_type == "markdown"
    assert "minutes" in book.cells[0].source
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [None] * len(code)
    assert not any(cell.outputs for cell in code)


def test_every_cell_runs_with_little_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICK_DEMO_SHARE", "0.01")
    text, pictures = executed(tmp_path)
    assert len(pictures) == 5
    assert min(min(picture.size) for picture in pictures) > 150
    assert "guided to each digit, read as that digit" in text


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_guided_digits_are_read_as_the_chosen_one_and_free_ones_are_not(tmp_path: Path) -> None:
    text, _ = executed(tmp_path)
    assert share(text, "reader on real") > 0.95
    assert share(text, "without guidance") < 0.3
    assert share(text, "guided to 3") >= 0.9
    assert share(text, "guided to each") >= 0.9

"""One checkpoint of random weights for all tests of the commands: it is only read."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_builders import tiny_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))

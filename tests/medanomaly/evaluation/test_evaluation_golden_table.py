from __future__ import annotations

import json

import pytest
from golden_table import METHODS, STORED, golden_table


def test_the_table_of_twelve_phantoms_is_the_stored_one() -> None:
    stored, found = json.loads(STORED.read_text()), golden_table()
    assert list(found) == list(stored) == list(METHODS)
    for method, rows in stored.items():
        assert list(found[method]) == list(rows), method
        for name, numbers in rows.items():
            defined = [value is not None for value in numbers]
            assert [value is not None for value in found[method][name]] == defined, (method, name)
            kept = [[value for value in one if value is not None] for one in (found[method][name], numbers)]
            assert kept[0] == pytest.approx(kept[1], abs=1e-6), (method, name)

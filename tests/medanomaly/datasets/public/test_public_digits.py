from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from medanomaly.datasets.public.digits import FACTOR, digits


def test_all_digits_are_written_in_steps_of_fifteen_and_fifteen_sixteenths(tmp_path: Path) -> None:
    listing = digits(tmp_path, tmp_path, healthy=("0",), diseased=("8",), sample=5)
    assert FACTOR == 15.9375
    stored = load_digits()
    assert Counter((record.split, record.label) for record in listing.records) == {
        (split, label): 5 for split in ("train", "val", "test") for label in ("healthy", "diseased")
    }
    for record in listing.records:
        number = int(record.id)
        assert stored.target[number] == (0 if record.label == "healthy" else 8)
        written = np.asarray(Image.open(record.image)).astype(float)
        np.testing.assert_array_equal(np.rint(written / FACTOR), stored.images[number])
        assert np.abs(written - stored.images[number] * FACTOR).max() <= 0.5


def test_without_a_choice_all_1797_keep_their_digit(tmp_path: Path) -> None:
    listing = digits(tmp_path / "new", tmp_path / "new")
    assert listing.findings == ()
    assert len(listing.records) == 1797
    assert Counter(record.label for record in listing.records) == Counter(str(digit) for digit in load_digits().target)
    assert {record.split for record in listing.records} == {"train", "val", "test"}
    assert digits(tmp_path / "new", tmp_path / "new", seed=1).records != listing.records

import numpy as np
import pytest
from tree_chexpert import packed, runs

from medanomaly.datasets.public.coco_rle import decode_rle, run_lengths
from medanomaly.errors import InputError


@pytest.mark.parametrize("seed", range(40))
def test_decoding_undoes_encoding(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(1, 60, size=2)
    coarse = rng.random((rows, columns)) < rng.choice([0.02, 0.5, 0.98])
    mask = np.repeat(np.repeat(coarse, rng.integers(1, 12), axis=0), rng.integers(1, 12), axis=1)
    assert (decode_rle(packed(runs(mask)), *mask.shape) == mask).all()
    assert (decode_rle(runs(mask), *mask.shape) == mask).all()


def test_runs_go_down_the_columns_and_begin_with_zeros() -> None:
    expected = np.array([[False, True, False], [True, False, False]])
    assert (decode_rle([1, 2, 3], 2, 3) == expected).all()
    assert (decode_rle([0, 6], 2, 3) == np.ones((2, 3), bool)).all()
    assert not decode_rle([6], 2, 3).any()


def test_text_by_hand() -> None:
    # 5 groups: 10 is one group below 16; 16 needs a second, because bit 16 alone would be the sign; -1 is 31 with the sign.
    assert run_lengths(":") == [10]
    assert run_lengths("`0") == [16]
    assert run_lengths("O") == [-1]
    # The fourth length is written as its difference to the second: 7 - 9 = -2, the group 30, the character N.
    assert run_lengths("294N") == [2, 9, 4, 7]


@pytest.mark.parametrize(("text", "rows", "columns"), [("PVWX6", 2320, 2828), ("nefl3", 2022, 2021)])
def test_the_published_text_of_an_empty_mask_is_one_run_over_the_film(text: str, rows: int, columns: int) -> None:
    assert run_lengths(text) == [rows * columns]


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ("5\x1f", "no character"),
        ("5p", "no character"),
        ("6`", "ends within"),
        ("o" * 10_000, "too long"),
        ("6O", "whole number"),
        ("5", "6 are expected"),
        ("7", "6 are expected"),
        ("", "6 are expected"),
        ([7, -1], "whole number"),
        ([6.0], "whole number"),
        ([True, 5], "whole number"),
        (["6"], "whole number"),
    ],
)
def test_what_does_not_fill_the_mask_exactly_is_refused(counts: str | list[int], reason: str) -> None:
    with pytest.raises(InputError, match=reason) as refused:
        decode_rle(counts, 2, 3)
    assert refused.value.code == "E_MALFORMED"

"""Masks as COCO run lengths: runs of 0 and 1 down the columns, packed into printable characters.

The format is that of the COCO data set's annotations (Lin et al. 2014, arXiv:1405.0312; its mask interface documents it): a mask
is read column by column, and the lengths of its runs are listed, the first one of zeros (perhaps 0 long). In the compressed form
each length, from the fourth on its difference to the length two places before, is written in groups of five bits, lowest first,
as the characters with codes 48 to 111: bit 32 of a character says that another group follows, and bit 16 of the last group is the
sign.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medanomaly.errors import InputError
from medanomaly.types import BoolArray

LONGEST = 10
"""Groups of a length: 50 bits hold any mask, and a longer one is an attack or a damaged file."""


def decode_rle(counts: str | Sequence[int], rows: int, columns: int) -> BoolArray:
    """Mask (rows, columns) of a run-length encoding.

    Args:
        counts: the compressed text, or the lengths themselves (COCO's uncompressed form).
        rows: of the mask, px; the caller has checked that rows x columns is bearable.
        columns: likewise.

    Raises:
        InputError: E_MALFORMED, characters outside of the code, a text that ends within a length, a negative length, or lengths
            that do not fill rows x columns exactly.
    """
    lengths = run_lengths(counts) if isinstance(counts, str) else list(counts)
    if any(type(length) is not int or length < 0 for length in lengths):
        raise malformed("a run length is not a whole number >= 0")
    if sum(lengths) != rows * columns:
        raise malformed(f"its runs hold {sum(lengths)} px, {rows} x {columns} = {rows * columns} are expected")
    values = np.arange(len(lengths)) % 2 == 1
    mask: BoolArray = np.repeat(values, lengths).reshape(columns, rows).T
    return mask


def run_lengths(text: str) -> list[int]:
    """The lengths a compressed text stands for; they may still be negative.

    Raises:
        InputError: E_MALFORMED.
    """
    lengths: list[int] = []
    value, groups = 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise malformed(f"{character!a} is no character of the code")
        if groups == LONGEST:
            raise malformed("a run length is too long")
        value |= (code & 31) << 5 * groups
        groups += 1
        if code & 32:
            continue
        if code & 16:
            value -= 1 << 5 * groups
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value, groups = 0, 0
    if groups:
        raise malformed("it ends within a run length")
    return lengths


def malformed(what: str) -> InputError:
    """The error for text that is no run-length encoding."""
    return InputError(f"is no run-length encoding: {what}", code="E_MALFORMED", fix="fetch the file again")

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from tree_mnist import idx_bytes

from medanomaly.datasets.public.idx import read_idx
from medanomaly.errors import InputError
from medanomaly.io.limits import ReadLimits

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def code_of(path: Path, content: bytes, num_dimensions: int = 3, limits: ReadLimits = ReadLimits()) -> str:
    with pytest.raises(InputError) as refused:
        read_idx(written(path, content), num_dimensions, limits)
    assert str(path) in str(refused.value)
    return refused.value.code


def test_values_come_back_as_written_plain_and_gzipped_whatever_the_name(tmp_path: Path) -> None:
    for content in (idx_bytes(IMAGES), gzip.compress(idx_bytes(IMAGES))):
        np.testing.assert_array_equal(read_idx(written(tmp_path / "file", content), 3), IMAGES)
    np.testing.assert_array_equal(read_idx(written(tmp_path / "labels", idx_bytes(IMAGES[0, 0])), 1), IMAGES[0, 0])


def test_images_for_labels_another_type_and_anything_else_are_refused(tmp_path: Path) -> None:
    whole = idx_bytes(IMAGES)
    assert code_of(tmp_path / "a", whole, num_dimensions=1) == "E_FORMAT"
    assert code_of(tmp_path / "b", b"\0\0\x0d\x03" + whole[4:]) == "E_FORMAT"
    assert code_of(tmp_path / "c", b"<html>not here</html>") == "E_FORMAT"
    assert code_of(tmp_path / "d", b"") == "E_EMPTY"


def test_a_file_cut_anywhere_is_truncated(tmp_path: Path) -> None:
    whole = idx_bytes(IMAGES)
    for length in (6, 15, 16, len(whole) - 1):
        assert code_of(tmp_path / "a", whole[:length]) == "E_TRUNCATED"
        assert code_of(tmp_path / "b", gzip.compress(whole[:length])) == "E_TRUNCATED"
    packed = gzip.compress(whole)
    assert code_of(tmp_path / "c", packed[:-9]) == "E_TRUNCATED"


def test_bytes_after_the_last_value_and_a_wrong_sum_are_damage(tmp_path: Path) -> None:
    whole = idx_bytes(IMAGES)
    assert code_of(tmp_path / "a", whole + b"\0") == "E_MALFORMED"
    packed = bytearray(gzip.compress(whole))
    packed[-8] ^= 1
    assert code_of(tmp_path / "b", bytes(packed)) == "E_MALFORMED"


def test_a_header_beyond_the_limit_is_refused_before_anything_is_unpacked(tmp_path: Path) -> None:
    claims = struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 2**31, 2**31)
    assert code_of(tmp_path / "a", claims + bytes(99)) == "E_LIMIT"
    assert code_of(tmp_path / "b", struct.pack(">4B3I", 0, 0, 8, 3, 0, 28, 28)) == "E_HEADER"


def test_a_gzip_bomb_is_unpacked_no_further_than_its_header_announces(tmp_path: Path) -> None:
    import tracemalloc

    content = gzip.compress(idx_bytes(IMAGES) + bytes(2**27))
    tracemalloc.start()
    assert code_of(tmp_path / "a", content) == "E_MALFORMED"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24

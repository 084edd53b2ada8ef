"""Damaged files: whatever is cut, flipped or overwritten, only InputError escapes, and what is read is well formed."""

import numpy as np
import pytest
from io_builders import ALL_SUFFIXES, ramp, write_image

from medanomaly.errors import InputError
from medanomaly.io.reader import ReadLimits, ReadOptions, read_image

OPTIONS = ReadOptions(limits=ReadLimits(pixels=2**20, decoded_bytes=2**22))


def mutant(content, rng):
    """The content cut, with header bytes overwritten, or with bits flipped anywhere."""
    damaged = bytearray(content)
    kind = rng.integers(3)
    if kind == 0:
        return bytes(damaged[: rng.integers(1, len(damaged))])
    if kind == 1:
        for _ in range(rng.integers(1, 5)):
            damaged[rng.integers(min(len(damaged), 600))] = rng.integers(256)
    else:
        for _ in range(rng.integers(1, 9)):
            damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
    return bytes(damaged)


def count_refusals(path, num_mutants):
    content, rng, refusals = path.read_bytes(), np.random.default_rng(0), []
    for _ in range(num_mutants):
        path.write_bytes(mutant(content, rng))
        try:
            image = read_image(path, OPTIONS)
        except InputError as error:
            refusals.append(error)
        else:
            assert image.pixels.ndim == 3
            assert image.pixels.dtype == np.float32
            assert np.isfinite(image.pixels).all()
    assert all(error.message and error.path == path for error in refusals)
    return len(refusals)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_only_input_errors_escape_from_sixty_damaged_files(tmp_path, suffix):
    assert 0 < count_refusals(write_image(tmp_path / f"fuzz{suffix}", ramp()), 60) <= 60


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_only_input_errors_escape_from_fifteen_hundred_damaged_files(tmp_path, suffix):
    assert 0 < count_refusals(write_image(tmp_path / f"fuzz{suffix}", ramp()), 1500) <= 1500

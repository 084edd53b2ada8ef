"""Damaged files: whatever is cut, flipped or overwritten, only InputError escapes, and what is read is well formed."""

import resource
import time

import numpy as np
import pytest
from io_builders import ALL_SUFFIXES, ramp, write_image

from medanomaly.errors import InputError
from medanomaly.io.integrity import check_integrity
from medanomaly.io.reader import ReadLimits, ReadOptions, read_image, read_mask

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


def refusal_of(read, path, *args, **options):
    """(the InputError that the reading ends in or None, what it returned)."""
    try:
        return None, read(path, *args, **options)
    except InputError as error:
        refusal = error
    assert refusal.message
    assert refusal.path == path
    return refusal, None


def count_refusals(path, num_mutants):
    """Mutants of which nothing is read; every one is read as an image, as a mask of an undamaged image, and to its last byte."""
    content, rng, refusals = path.read_bytes(), np.random.default_rng(0), 0
    fine, before = path.with_name(f"fine-{path.name}"), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fine.write_bytes(content)
    for _ in range(num_mutants):
        path.write_bytes(mutant(content, rng))
        start = time.perf_counter()
        error, image = refusal_of(read_image, path, OPTIONS)
        _, mask = refusal_of(read_mask, path, image_path=fine, limits=OPTIONS.limits)
        refusal_of(check_integrity, path, OPTIONS.limits)
        assert time.perf_counter() - start < 10
        refusals += error is not None
        if image is not None:
            assert image.pixels.ndim == 3
            assert image.pixels.dtype == np.float32
            assert np.isfinite(image.pixels).all()
        assert mask is None or mask.dtype == np.bool_
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB: 1 GiB
    return refusals


@pytest.mark.timeout(20)
@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_only_input_errors_escape_from_sixty_damaged_files(tmp_path, suffix):
    assert 0 < count_refusals(write_image(tmp_path / f"fuzz{suffix}", ramp()), 60) <= 60


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_only_input_errors_escape_from_fifteen_hundred_damaged_files(tmp_path, suffix):
    assert 0 < count_refusals(write_image(tmp_path / f"fuzz{suffix}", ramp()), 1500) <= 1500

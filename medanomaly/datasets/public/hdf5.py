"""HDF5 as plain arrays: only values that lie in the file itself, checked before they are read."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from medanomaly.errors import InputError
from medanomaly.io.faults import library_faults

SIGNATURE = b"\x89HDF\r\n\x1a\n"
CHUNK_BYTES = 2**30
"""Largest chunk that is unpacked: a chunk is the least HDF5 can read."""
FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
"""What h5py brings itself. Others would load a plug-in library, which a data file must not cause."""


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """The open file, read only and without locking, so that it may lie on a read-only disk.

    Raises:
        InputError: E_MISSING, E_FORMAT, E_TRUNCATED or E_MALFORMED.
    """
    import h5py  # half a second of import that no other set needs

    if not path.is_file():
        raise InputError("is not a file", code="E_MISSING", path=path, fix="download it")
    with path.open("rb") as probe:
        if probe.read(len(SIGNATURE)) != SIGNATURE:
            raise InputError("is not HDF5", code="E_FORMAT", path=path, fix="unpack it (gunzip), or download it again")
    with library_faults(path, "HDF5"):
        file = h5py.File(path, "r", locking=False)
    try:
        yield file
    finally:
        file.close()


def plain_dataset(file: Any, path: Path, key: str, tail: tuple[int, ...]) -> Any:
    """The uint8 data set ``file[key]`` of shape (N, *tail), N at least 1, whose values lie in this very file.

    Refused are links to other places or files, external storage and virtual data sets, by which a file can name any other
    file of the machine; filters that need a plug-in; chunks beyond ``CHUNK_BYTES``.

    Raises:
        InputError: E_LAYOUT (no such key), E_TRAVERSAL, E_SHAPE, E_DTYPE, E_FILTER, E_LIMIT or E_MALFORMED.
    """
    import h5py

    def refused(message: str, code: str) -> InputError:
        return InputError(f"{key!r} {message}", code=code, path=path, fix="download it from the set's official page")

    with library_faults(path, "HDF5"):
        # The link before what it leads to, which may be a file anywhere on the machine.
        link = file.get(key, getlink=True)
        if link is None:
            raise refused(f"is not there; the file holds {', '.join(map(ascii, file)) or 'nothing'}", "E_LAYOUT")
        if not isinstance(link, h5py.HardLink):
            raise refused("is a link to another place, which is not followed", "E_TRAVERSAL")
        dataset = file[key]
        if not isinstance(dataset, h5py.Dataset):
            raise refused("is not an array", "E_LAYOUT")
        if dataset.external or dataset.is_virtual:
            raise refused("keeps its values in other files, which are not opened", "E_TRAVERSAL")
        if dataset.dtype != np.uint8:
            raise refused(f"holds {dataset.dtype}, not uint8", "E_DTYPE")
        shape = tuple(dataset.shape or ())
        if shape[1:] != tail or not shape or shape[0] == 0:
            raise refused(f"is {shape}, not {('N', *tail)}", "E_SHAPE")
        if dataset.chunks is not None and math.prod(dataset.chunks) > CHUNK_BYTES:
            raise refused(f"is packed in chunks of {dataset.chunks}, too large to unpack", "E_LIMIT")
        filters = dataset.id.get_create_plist()
        unknown = {filters.get_filter(index)[0] for index in range(filters.get_nfilters())} - FILTERS.keys()
        if unknown:
            raise refused(f"is packed by the HDF5 filters {sorted(unknown)}, which need a plug-in", "E_FILTER")
    return dataset

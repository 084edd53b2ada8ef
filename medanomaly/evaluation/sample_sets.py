"""Sets of images to compare, generated or real, brought to one size in model space: from a folder, a manifest or an npz."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medanomaly.datasets.folder import plain_folder
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.transforms import PreprocessConfig, to_model
from medanomaly.errors import InputError
from medanomaly.io.options import ReadOptions
from medanomaly.io.reader import read_image


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """Images of one size with what is known of where they come from."""

    ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    """Of generated images the ids: each was drawn by itself."""
    x: Tensor
    """(n, C, S, S) float32 in [-1, 1]."""

    def __len__(self) -> int:
        return len(self.ids)


def read_records(records: Sequence[Record], preprocess: PreprocessConfig) -> ImageSet:
    """The images of records.

    Raises:
        InputError: an image that cannot be used; names the file.
    """
    x = []
    for record in records:
        raw = read_image(record.image, ReadOptions(channels=preprocess.channels))
        x.append(to_model(raw, preprocess, record.intensity_range)[0])
    return ImageSet(
        ids=tuple(record.id for record in records),
        patient_ids=tuple(record.patient_id for record in records),
        x=torch.stack(x),
    )


def read_samples(source: Path, *, channels: int, image_size: int | None) -> ImageSet:
    """Generated images: of a folder, or of an npz whose array ``x`` is (n, C, S, S) float in [-1, 1].

    A folder's images keep their range: black and white of the format become -1 and 1.

    Args:
        source: the folder or the file.
        channels: 1 = gray, 3 = colour.
        image_size: side they are resized to; None = their own.

    Raises:
        InputError: E_SIZES, a folder with images of several sizes (a contact sheet among them); E_SHAPE, E_RANGE or E_MALFORMED
            for an npz; or an image that cannot be read.
    """
    found = read_npz(source, channels) if source.suffix.lower() == ".npz" and source.is_file() else read_folder(source, channels)
    size = found.x.shape[-1] if image_size is None else image_size
    if size == found.x.shape[-1]:
        return found
    preprocess = PreprocessConfig(image_size=size, channels=channels)
    x = torch.nn.functional.interpolate(found.x, size=(preprocess.image_size,) * 2, mode="bilinear", antialias=True)
    return ImageSet(ids=found.ids, patient_ids=found.patient_ids, x=x.clamp(-1, 1))


def read_folder(root: Path, channels: int) -> ImageSet:
    """Every image below a folder, at its own size."""
    records = plain_folder(root)
    raws = [read_image(record.image, ReadOptions(channels=channels)) for record in records]
    sizes = Counter(raw.native_size for raw in raws)
    if len(sizes) > 1:
        usual, _ = sizes.most_common(1)[0]
        odd = next(record.id for record, raw in zip(records, raws, strict=True) if raw.native_size != usual)
        raise InputError(
            f"holds images of {len(sizes)} sizes: {odd!a} is not {usual[0]} x {usual[1]} px like most",
            code="E_SIZES",
            path=root,
            fix="name a folder that holds samples only, without a contact sheet",
        )
    preprocess = PreprocessConfig(image_size=max(raws[0].native_size), channels=channels)
    ids = tuple(record.id for record in records)
    return ImageSet(ids=ids, patient_ids=ids, x=torch.stack([to_model(raw, preprocess)[0] for raw in raws]))


def read_npz(path: Path, channels: int) -> ImageSet:
    """The array ``x`` of an npz; ids are the positions."""
    array = npz_array(path, "x")
    if array.ndim != 4 or array.shape[1] != channels or array.shape[2] != array.shape[3] or not array.size:
        raise InputError(f"x must be (n, {channels}, S, S), got {array.shape}", code="E_SHAPE", path=path, fix="save it so")
    if array.dtype.kind != "f" or not np.isfinite(array).all() or np.abs(array).max() > 1 + 1e-3:
        raise InputError(
            f"x must be finite floats in [-1, 1], got {array.dtype}", code="E_RANGE", path=path, fix="save model space"
        )
    ids = tuple(str(index) for index in range(len(array)))
    return ImageSet(ids=ids, patient_ids=ids, x=torch.from_numpy(array.astype(np.float32)).clamp(-1, 1))


def npz_array(path: Path, name: str) -> npt.NDArray[Any]:
    """One array of an npz; objects in it are never unpickled.

    Raises:
        InputError: E_MALFORMED, no npz, or one without that array.
    """
    try:
        # NumPy leaves a file open that turns out to be no archive.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return np.asarray(archive[name])
    except KeyError as error:
        raise InputError(f"has no array {name!r}", code="E_MALFORMED", path=path, fix=f"save {name} with numpy.savez") from error
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:  # TypeError: a plain npy under this name
        raise InputError("is no npz of plain arrays", code="E_MALFORMED", path=path, fix="save it with numpy.savez") from error

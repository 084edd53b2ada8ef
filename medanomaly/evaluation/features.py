"""What images are compared by: feature extractors, each named with the SHA-256 of its weights.

An extractor is any function from images to numbers. None is downloaded, and no file is run: a TorchScript module is a program, so
features of a foreign network are computed by whoever trusts it and handed over as numbers (:func:`stored_features`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medanomaly.errors import InputError
from medanomaly.evaluation.sample_sets import ImageSet, npz_array
from medanomaly.files import sha256_of

FeatureFn = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""(B, C, S, S) in [-1, 1] -> (B, d) features, and (B, classes) probabilities where it is a classifier."""
PIXEL_SIDE = 8
"""Of the floor: 64 numbers an image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What an extractor says of a set of images, in its order."""

    values: npt.NDArray[np.float64]
    """(n, d)."""
    probabilities: npt.NDArray[np.float64] | None = None
    """(n, classes); None = it is no classifier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extractor:
    """Features with a name that a table can show."""

    name: str
    sha256: str
    """Of the weights or the numbers; "" where there are none."""
    features_of: Callable[[str, ImageSet], Features]
    """(samples, reference or train; the images) -> their features."""


def computed(name: str, sha256: str, feature_fn: FeatureFn, *, batch_size: int, device: torch.device) -> Extractor:
    """An extractor that asks a function, a batch at a time."""

    @torch.inference_mode()
    def features_of(_role: str, images: ImageSet) -> Features:
        answers = [feature_fn(part.to(device)) for part in torch.split(images.x, batch_size)]
        values = torch.cat([features.flatten(1).double().cpu() for features, _ in answers]).numpy()
        known = [found.double().cpu() for _, found in answers if found is not None]
        return Features(values=values, probabilities=torch.cat(known).numpy() if known else None)

    return Extractor(name=name, sha256=sha256, features_of=features_of)


def pixel_features(side: int = PIXEL_SIDE) -> FeatureFn:
    """The image itself, averaged to ``side`` x ``side``: a floor that sees brightness and coarse shape, and no texture."""

    def feature_fn(x: Tensor) -> tuple[Tensor, Tensor | None]:
        return F.adaptive_avg_pool2d(x, side).flatten(1), None

    return feature_fn


def classifier_features(network: nn.Module, scores: Callable[[Tensor], Tensor], last: nn.Linear) -> FeatureFn:
    """What the last layer of a classifier reads, and what it says.

    Args:
        network: in eval mode.
        scores: (B, C, S, S) -> (B, classes) before the softmax, by that network.
        last: its last layer.
    """
    network.eval()

    def feature_fn(x: Tensor) -> tuple[Tensor, Tensor | None]:
        seen: list[Tensor] = []
        handle = last.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
        try:
            probabilities = scores(x).float().softmax(dim=1)
        finally:
            handle.remove()
        return seen[-1].flatten(1), probabilities

    return feature_fn


def stored_features(path: Path) -> Extractor:
    """Features that somebody else computed: an npz of ``samples``, ``reference`` and where needed ``train``, each (n, d).

    ``samples_ids`` and so on are the ids, in any order: names below the folder with forward slashes, positions in an npz, ids of
    the manifest. ``samples_probabilities`` and so on, (n, classes), may be there.

    Raises:
        InputError: E_MISSING, no such file; E_MALFORMED, no such array; E_IDS, an image without features; E_COUNT, other numbers of
            ids and rows.
    """
    if not path.is_file():
        raise InputError("no such file", code="E_MISSING", path=path, fix="name an npz of features")

    def features_of(role: str, images: ImageSet) -> Features:
        ids = [str(name) for name in npz_array(path, f"{role}_ids").tolist()]
        rows = rows_of_ids(ids, images.ids, path)
        values = table(path, role, len(ids))[rows]
        name = f"{role}_probabilities"
        return Features(values=values, probabilities=table(path, name, len(ids))[rows] if has_array(path, name) else None)

    return Extractor(name=f"features of {path.name}", sha256=sha256_of(path), features_of=features_of)


def rows_of_ids(ids: Sequence[str], wanted: Sequence[str], path: Path) -> list[int]:
    """Row of each wanted id.

    Raises:
        InputError: E_IDS.
    """
    row = {name: index for index, name in enumerate(ids)}
    absent = [name for name in wanted if name not in row]
    if absent:
        raise InputError(
            f"has no features of {len(absent)} images, first {absent[0]!a}",
            code="E_IDS",
            path=path,
            fix="compute them for every image, with the ids of this command's sets",
        )
    return [row[name] for name in wanted]


def table(path: Path, name: str, count: int) -> npt.NDArray[np.float64]:
    """(count, d) array of the npz.

    Raises:
        InputError: E_COUNT.
    """
    values = npz_array(path, name)
    if values.ndim != 2 or len(values) != count or values.dtype.kind != "f":
        raise InputError(
            f"{name} must be {count} rows of floats, one an id, got {values.shape} {values.dtype}",
            code="E_COUNT",
            path=path,
            fix="save one row an image",
        )
    return values.astype(np.float64)


def has_array(path: Path, name: str) -> bool:
    """Whether the npz holds it."""
    with np.load(path, allow_pickle=False) as archive:
        return name in archive.files

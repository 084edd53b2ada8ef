"""One file a checkpoint: safetensors with everything needed to use it in its header; the training state beside it, only to resume.

Nothing here executes what it reads: weights are safetensors, the training state is a ``weights_only`` file of tensors and plain types.
"""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from medanomaly.errors import CheckpointError
from medanomaly.files import atomic_write, finite, parse_json

FORMAT_VERSION = 1
MAX_HEADER_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A released model as it lies on disk."""

    tensors: dict[str, Tensor]
    """float32, whatever the file holds."""
    header: dict[str, Any]
    """Everything but the weights: config, classes, operating points, provenance."""


def save_checkpoint(path: Path, tensors: dict[str, Tensor], header: dict[str, Any], *, half: bool = False) -> None:
    """Write ``path`` whole.

    Args:
        path: the ``.safetensors`` file.
        tensors: weights by name.
        header: JSON content; non-finite numbers become null.
        half: store float16 (half the size; read back as float32).
    """
    stored = {
        name: (value.half() if half and value.is_floating_point() else value).contiguous() for name, value in tensors.items()
    }
    content = {"format_version": FORMAT_VERSION, "dtype": "float16" if half else "float32", **header}
    text = json.dumps(finite(content), allow_nan=False, sort_keys=True)
    with atomic_write(path) as stream:
        stream.write(safetensors.torch.save(stored, metadata={"medanomaly": text}))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and check a checkpoint.

    Raises:
        CheckpointError: not there, not safetensors, torn, of a newer format, without our header, or with non-finite weights.
    """
    path = path / "model.safetensors" if path.is_dir() else path
    tensors, header = read_checkpoint(path, weights=True)
    wrong = [name for name, value in tensors.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if wrong:
        raise CheckpointError(f"holds non-finite weights: {', '.join(wrong[:5])}", code="E_CKPT_NONFINITE", path=path)
    return Checkpoint({name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}, header)


def load_header(path: Path) -> dict[str, Any]:
    """Header of a checkpoint, checked as :func:`load_checkpoint` does; no weights are read."""
    return read_checkpoint(path, weights=False)[1]


def read_checkpoint(path: Path, *, weights: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors as stored, none unless ``weights``; header) of a checkpoint or its folder.

    Raises:
        CheckpointError: as :func:`load_checkpoint`, but for non-finite weights.
    """
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        raise CheckpointError(
            "no such checkpoint", code="E_CKPT_MISSING", path=path, fix="name a model.safetensors or its folder"
        )
    size = path.stat().st_size
    with open(path, "rb") as stream:
        start = stream.read(8)
    if len(start) < 8 or not 2 <= struct.unpack("<Q", start)[0] <= min(MAX_HEADER_BYTES, max(size - 8, 0)):
        raise CheckpointError("is not a whole safetensors file", code="E_CKPT_CORRUPT", path=path, fix="copy or train it again")
    try:
        with safetensors.safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in (stored.keys() if weights else ())}
    except Exception as error:
        raise CheckpointError(
            f"cannot be read ({type(error).__name__})", code="E_CKPT_CORRUPT", path=path, fix="copy or train it again"
        ) from error
    if "medanomaly" not in metadata:
        raise CheckpointError(
            "was not written by medanomaly", code="E_CKPT_FORMAT", path=path, fix="train or export it with medanomaly"
        )
    try:
        header = parse_json(metadata["medanomaly"])
        version = int(header.get("format_version", 0))
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise CheckpointError(
            "has an unreadable header", code="E_CKPT_FORMAT", path=path, fix="copy or train it again"
        ) from error
    if version > FORMAT_VERSION:
        raise CheckpointError("was made by a newer version", code="E_CKPT_VERSION", path=path, fix="update medanomaly")
    return tensors, header


def load_weights(module: torch.nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Strictly put tensors into a module.

    Raises:
        CheckpointError: missing, unexpected or misshapen tensors, up to five of each named.
    """
    wanted = module.state_dict()
    missing = sorted(wanted.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - wanted.keys())
    shapes = sorted(name for name in wanted.keys() & tensors.keys() if wanted[name].shape != tensors[name].shape)
    if missing or unexpected or shapes:
        parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
        text = "; ".join(f"{what}: {', '.join(names[:5])}" for what, names in parts if names)
        raise CheckpointError(f"weights do not fit the network ({text})", code="E_CKPT_KEYS", path=source)
    module.load_state_dict(tensors)


def save_train_state(path: Path, state: dict[str, Any]) -> None:
    """Write a training state (tensors, numbers, strings, lists, dicts) whole."""
    with atomic_write(path) as stream:
        kept = _Remembering(stream)
        try:
            torch.save(state, kept)  # type: ignore[arg-type]
        except RuntimeError as error:
            # Closing its archive, torch covers what went wrong while writing it, such as a full disk.
            if kept.error is not None:
                raise kept.error from error
            raise


class _Remembering:
    """A file that keeps the error a write ended in."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        """As the file does."""
        try:
            return self.stream.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """As the file does."""
        self.stream.flush()


def load_train_state(path: Path) -> dict[str, Any]:
    """Read a training state without executing anything in it.

    Raises:
        CheckpointError: torn, compressed, or holding more than tensors and plain types.
    """
    fix = "delete it to start this run again"
    try:
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()) or archive.testzip() is not None:
                raise CheckpointError("is damaged", code="E_CKPT_CORRUPT", path=path, fix=fix)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError("holds objects that would have to be executed", code="E_CKPT_PICKLE", path=path, fix=fix) from error
    except Exception as error:
        raise CheckpointError(f"is damaged ({type(error).__name__})", code="E_CKPT_CORRUPT", path=path, fix=fix) from error
    if not isinstance(state, dict):
        raise CheckpointError("is not a training state", code="E_CKPT_FORMAT", path=path, fix=fix)
    return state

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from medanomaly.checkpoint import (
    FORMAT_VERSION,
    load_checkpoint,
    load_header,
    load_train_state,
    load_weights,
    save_checkpoint,
    save_train_state,
)
from medanomaly.errors import CheckpointError


def tensors() -> dict[str, Tensor]:
    return {"weight": torch.linspace(-1, 1, 600).reshape(20, 30), "steps": torch.tensor([3], dtype=torch.int64)}


def written(path: Path, **options: Any) -> Path:
    save_checkpoint(path, tensors(), {"step": 7, "classes": ["healthy", "diseased"]}, **options)
    return path


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    found = load_checkpoint(written(tmp_path / "model.safetensors"))
    assert found.header == {"format_version": FORMAT_VERSION, "dtype": "float32", "step": 7, "classes": ["healthy", "diseased"]}
    assert found.tensors.keys() == {"weight", "steps"}
    for name, value in tensors().items():
        assert torch.equal(found.tensors[name], value)
        assert found.tensors[name].dtype == value.dtype


def test_a_folder_names_the_model_in_it(tmp_path: Path) -> None:
    written(tmp_path / "model.safetensors")
    assert load_checkpoint(tmp_path).header["step"] == 7


def test_half_precision_halves_the_file_and_is_read_as_float32(tmp_path: Path) -> None:
    whole, half = written(tmp_path / "whole.safetensors"), written(tmp_path / "half.safetensors", half=True)
    assert whole.stat().st_size - half.stat().st_size == pytest.approx(600 * 2, abs=16)
    found = load_checkpoint(half)
    assert found.header["dtype"] == "float16"
    assert found.tensors["weight"].dtype == torch.float32
    assert torch.equal(found.tensors["weight"], tensors()["weight"].half().float())
    assert torch.equal(found.tensors["steps"], tensors()["steps"])


def test_equal_content_gives_equal_bytes_and_nan_in_a_header_becomes_null(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_checkpoint(tmp_path / name, tensors(), {"auroc": float("nan")})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert load_checkpoint(tmp_path / "one").header["auroc"] is None


@pytest.mark.parametrize("share", [0, 0.003, 0.3, 0.99])
def test_a_torn_file_is_refused(tmp_path: Path, share: float) -> None:
    path = written(tmp_path / "model.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="E_CKPT_CORRUPT") as refused:
        load_checkpoint(path)
    assert refused.value.exit_code == 5
    assert str(path) in str(refused.value)


def lying_header(content: bytes) -> bytes:
    return (2**40).to_bytes(8, "little") + content[8:]


def trailing(content: bytes) -> bytes:
    return content + b"\0" * 100


def pickled(_content: bytes) -> bytes:
    return pickle.dumps({"weight": [1.0, 2.0]})


@pytest.mark.parametrize("damage", [lying_header, trailing, pickled])
def test_a_file_that_only_claims_to_be_safetensors_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = written(tmp_path / "model.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match="E_CKPT_CORRUPT"):
        load_checkpoint(path)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match="E_CKPT_MISSING"):
            load_checkpoint(path)


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        (None, "E_CKPT_FORMAT"),
        ({"format": "pt"}, "E_CKPT_FORMAT"),
        ({"medanomaly": "{torn"}, "E_CKPT_FORMAT"),
        ({"medanomaly": "[]"}, "E_CKPT_FORMAT"),
        ({"medanomaly": json.dumps({"format_version": "new"})}, "E_CKPT_FORMAT"),
        ({"medanomaly": json.dumps({"format_version": FORMAT_VERSION + 1})}, "E_CKPT_VERSION"),
    ],
)
def test_a_foreign_or_newer_safetensors_file_is_refused(tmp_path: Path, metadata: dict[str, str] | None, code: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors.torch.save(tensors(), metadata=metadata))
    with pytest.raises(CheckpointError, match=code):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match=code):
        load_header(path)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("half", [False, True])
def test_non_finite_weights_are_refused_by_name(tmp_path: Path, poison: float, half: bool) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, tensors() | {"bias": torch.tensor([0.0, poison])}, {}, half=half)
    with pytest.raises(CheckpointError, match=r"non-finite weights: bias .*E_CKPT_NONFINITE"):
        load_checkpoint(path)
    # A header is had without its weights, whatever these are.
    assert load_header(tmp_path)["dtype"] == ("float16" if half else "float32")


def test_a_header_is_had_without_reading_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sealed:
        """As safetensors' open file, but for its tensors."""

        def __init__(self, *_: object, **__: object) -> None: ...

        def __enter__(self) -> object:
            return self

        def __exit__(self, *_: object) -> None: ...

        def metadata(self) -> dict[str, str]:
            return {"medanomaly": json.dumps({"format_version": FORMAT_VERSION, "step": 3})}

        def keys(self) -> list[str]:
            return ["weight"]

        def get_tensor(self, name: str) -> None:
            raise OSError(f"{name} was read")

    save_checkpoint(tmp_path / "model.safetensors", tensors(), {})
    monkeypatch.setattr("safetensors.safe_open", Sealed)
    assert load_header(tmp_path)["step"] == 3
    with pytest.raises(CheckpointError, match="E_CKPT_CORRUPT"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda held: held.pop("bias"), "missing: bias"),
        (lambda held: held.update(gain=torch.zeros(1)), "unexpected: gain"),
        (lambda held: held.update(weight=torch.zeros(3, 2)), "of another shape: weight"),
        (lambda held: held.update({f"x{n}": torch.zeros(1) for n in range(9)}), "unexpected: x0, x1, x2, x3, x4\\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_up_to_five_names_each(
    change: Callable[[dict[str, Tensor]], Any], said: str
) -> None:
    module = nn.Linear(3, 3)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    held = {name: value + 1 for name, value in before.items()}
    change(held)
    with pytest.raises(CheckpointError, match=said):
        load_weights(module, held, "some file")
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_weights_that_fit_are_put_in() -> None:
    module = nn.Linear(3, 3)
    held = {name: value + 1 for name, value in module.state_dict().items()}
    load_weights(module, held, "some file")
    assert all(torch.equal(value, held[name]) for name, value in module.state_dict().items())


STATE = {"step": 3, "identity": "x", "rates": [0.5, 1.0], "recipe": {"weight": torch.linspace(0, 1, 500)}}


def test_a_training_state_comes_back(tmp_path: Path) -> None:
    save_train_state(tmp_path / "train_state.pt", STATE)
    found = load_train_state(tmp_path / "train_state.pt")
    assert torch.equal(found["recipe"].pop("weight"), STATE["recipe"]["weight"])  # type: ignore[index]
    assert found == STATE | {"recipe": {}}


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_a_torn_training_state_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "train_state.pt"
    save_train_state(path, STATE)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="E_CKPT_CORRUPT"):
        load_train_state(path)


def test_a_flipped_bit_in_a_training_state_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "train_state.pt"
    save_train_state(path, STATE)
    content = bytearray(path.read_bytes())
    place = content.index(STATE["recipe"]["weight"][100:110].numpy().tobytes())  # type: ignore[index]
    content[place] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="E_CKPT_CORRUPT"):
        load_train_state(path)


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.sentinel),)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_payload_in_a_training_state_is_refused_and_not_executed(tmp_path: Path, legacy: bool) -> None:
    path, sentinel = tmp_path / "train_state.pt", tmp_path / "executed"
    torch.save({"step": Payload(sentinel)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="E_CKPT_CORRUPT" if legacy else "E_CKPT_PICKLE"):
        load_train_state(path)
    assert not sentinel.exists()
    pickle.loads(pickle.dumps(Payload(sentinel)))
    assert sentinel.exists()


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path, deflated = tmp_path / "train_state.pt", tmp_path / "deflated.pt"
    save_train_state(path, STATE)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as squeezed:
        for member in archive.infolist():
            squeezed.writestr(member.filename, archive.read(member))
    with pytest.raises(CheckpointError, match="E_CKPT_CORRUPT"):
        load_train_state(deflated)


def test_a_state_that_is_no_dict_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "train_state.pt")
    with pytest.raises(CheckpointError, match="E_CKPT_FORMAT"):
        load_train_state(tmp_path / "train_state.pt")

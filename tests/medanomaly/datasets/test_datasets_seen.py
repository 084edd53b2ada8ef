"""What a model has seen is recognised by its bytes, its id or its patient, and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from medanomaly.checkpoint import save_checkpoint
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.seen import SEEN_FILE, copy_seen, refuse_seen, seen, seen_tensors, sightings, write_seen
from medanomaly.errors import CheckpointError, InputError
from medanomaly.files import sha256_of


def record(folder: Path, name: str, content: str, *, patient: str = "", source: str = "") -> Record:
    path = folder / name
    path.write_text(content)
    return Record(id=name, patient_id=patient or f"patient of {name}", image=path, source=source)


def checkpoint(folder: Path, records: list[Record]) -> Path:
    """A model that has seen the records."""
    folder.mkdir(exist_ok=True)
    save_checkpoint(folder / "model.safetensors", {"w": torch.zeros(1)}, {"provenance": {"seen": write_seen(folder, records)}})
    return folder


def test_new_images_of_new_patients_pass(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "run", [record(tmp_path, "a", "one"), record(tmp_path, "b", "two")])
    new = [record(tmp_path, "c", "three"), record(tmp_path, "d", "four")]
    assert seen(model, new) == []
    refuse_seen(model, new, what="the prior")


def test_an_image_is_known_by_its_bytes_under_any_name(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "run", [record(tmp_path, "a", "one", source="X")])
    renamed = [record(tmp_path, "c", "three", source="Y"), record(tmp_path, "d", "one", source="Y")]
    assert sightings(model, renamed) == {"d": "file"}


def test_an_image_is_known_by_its_id_after_resizing(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "run", [record(tmp_path, "a", "native", patient="p", source="X")])
    (tmp_path / "small").mkdir()
    resized = record(tmp_path / "small", "a", "resized", patient="q", source="X")
    assert sightings(model / "model.safetensors", [resized]) == {"a": "id"}


def test_another_image_of_a_patient_is_no_new_patient(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "run", [record(tmp_path, "a", "one", patient="p", source="X")])
    assert sightings(model, [record(tmp_path, "b", "two", patient="p", source="X")]) == {"b": "patient"}


@pytest.mark.parametrize(
    ("there", "here", "known"), [("X", "X", True), ("X", "Y", False), ("X", "", True), ("", "Y", True), ("", "", True)]
)
def test_ids_count_within_a_source_and_an_unknown_source_may_be_any(tmp_path: Path, there: str, here: str, known: bool) -> None:
    model = checkpoint(tmp_path / "run", [record(tmp_path, "a", "one", source=there)])
    (tmp_path / "other").mkdir()
    assert bool(seen(model, [record(tmp_path / "other", "a", "two", source=here)])) is known


def test_an_image_and_a_patient_of_one_name_are_not_confused(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "run", [record(tmp_path, "a", "one", patient="p")])
    assert seen(model, [record(tmp_path, "p", "two", patient="a")]) == []


def test_an_absent_file_is_asked_by_its_ids_only(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "run", [record(tmp_path, "a", "one")])
    absent = Record(id="z", patient_id="z", image=tmp_path / "absent")
    assert sightings(model, [absent, replace(absent, id="a")]) == {"a": "id"}


def test_the_refusal_counts_and_names(tmp_path: Path) -> None:
    old = [record(tmp_path, name, name, patient=f"p{name}") for name in "abcde"]
    model = checkpoint(tmp_path / "run", old)
    (tmp_path / "other").mkdir()
    tested = [*old[:3], record(tmp_path / "other", "d", "new"), record(tmp_path, "f", "e"), record(tmp_path, "g", "g")]
    with pytest.raises(InputError) as refused:
        refuse_seen(model, tested, what="the prior", data=tmp_path / "manifest.csv")
    text = str(refused.value)
    assert "5 of 6 images were seen by the prior in training or validation (1 by file, 1 by id, 3 by patient)" in text
    assert "first 'a', 'b', 'c' [E_SEEN]" in text
    assert refused.value.path == tmp_path / "manifest.csv"


def test_two_hundred_thousand_images_take_eight_megabytes(tmp_path: Path) -> None:
    same = record(tmp_path, "a", "one", source="X")
    tensors = seen_tensors([replace(same, id=f"i{n}", patient_id=f"p{n}") for n in range(50)])
    assert {name: len(value) for name, value in tensors.items()} == {"files": 1, "images": 100, "patients": 100}
    assert {value.dtype for value in tensors.values()} == {torch.int64}
    assert all(bool((value.diff() > 0).all()) for value in tensors.values())


def test_the_shorter_list_in_a_methods_header_is_understood(tmp_path: Path) -> None:
    old = record(tmp_path, "a", "one")
    header = {"provenance": {"seen_images": [sha256_of(old.image)[:12]]}}
    save_checkpoint(tmp_path / "model.safetensors", {"w": torch.zeros(1)}, header)
    (tmp_path / "other").mkdir()
    assert sightings(tmp_path, [old, record(tmp_path / "other", "b", "two")]) == {"a": "file"}


@pytest.mark.parametrize("header", [{}, {"provenance": {}}])
def test_a_checkpoint_that_says_nothing_is_not_taken_for_one_that_saw_nothing(tmp_path: Path, header: dict[str, Any]) -> None:
    save_checkpoint(tmp_path / "model.safetensors", {"w": torch.zeros(1)}, header)
    with pytest.raises(CheckpointError, match="E_SEEN_UNKNOWN"):
        seen(tmp_path, [record(tmp_path, "a", "one")])


def test_weights_without_their_hashes_are_refused(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "run", [record(tmp_path, "a", "one")])
    (model / SEEN_FILE).unlink()
    with pytest.raises(CheckpointError, match=r"is missing.*\[E_SEEN_FILE\]; copy it"):
        seen(model, [record(tmp_path, "b", "two")])


def test_hashes_of_other_weights_are_refused(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "run", [record(tmp_path, "a", "one")])
    emptied = {name: value[:0] for name, value in load_file(model / SEEN_FILE).items()}
    save_file(emptied, model / SEEN_FILE)
    with pytest.raises(CheckpointError, match="belongs to other weights"):
        seen(model, [record(tmp_path, "a", "one")])


def test_a_copy_travels_whole_or_not_at_all(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "run", [record(tmp_path, "a", "one")])
    (tmp_path / "out").mkdir()
    said = {"sha256": sha256_of(model / SEEN_FILE)}
    copy_seen({"seen": said}, model, tmp_path / "out")
    assert (tmp_path / "out" / SEEN_FILE).read_bytes() == (model / SEEN_FILE).read_bytes()
    copy_seen({}, model, tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
    with pytest.raises(CheckpointError, match="E_SEEN_FILE"):
        copy_seen({"seen": {"sha256": "0"}}, model, tmp_path / "out")

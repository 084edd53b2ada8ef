"""One name for each result, and no name twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets_builders import mask_png, png

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.preprocess_plan import (
    distinct_names,
    refuse_overwriting_sources,
    work_of_manifest,
    work_of_tree,
)
from medanomaly.errors import ConfigError, InputError


def test_a_tree_keeps_its_paths_and_changes_the_suffix(tmp_path: Path) -> None:
    for name in ("a/b.png", "a/c.JPG", "d/e.nii.gz", "f.dcm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [work.image_out for work in work_of_tree(tmp_path)] == ["a/b.png", "a/c.png", "d/e.png", "f.png"]


def test_files_that_differ_in_suffix_or_case_only_never_share_a_name() -> None:
    files = ["a/b.png", "a/b.jpg", "a/B.dcm", "a/c.png", "1.2.840.1", "1.2.840.2"]
    names = distinct_names(files, files)
    assert len({name.casefold() for name in names}) == len(files)
    assert names[3:] == ["a/c.png", "1.2.840.1.png", "1.2.840.2.png"]
    assert all(name.startswith(("a/b-", "a/B-")) and len(name) == len("a/b-.png") + 16 for name in names[:3])
    assert distinct_names(files, files) == names, "the same names in every run"
    assert all("-" in name for name in distinct_names(["b.jpg", "B.dcm"], ["b.jpg", "B.dcm"])), "one file on some file systems"


def test_masks_of_a_tree_are_told_by_folder_or_ending(tmp_path: Path) -> None:
    for name in ("masks/a.png", "images/a.png", "x/b_mask.png", "x/b.png", "x/unmasked.png"):
        png(tmp_path / name)
    assert [work.record.id for work in work_of_tree(tmp_path) if work.is_mask] == ["masks/a.png", "x/b_mask.png"]
    assert not any(work.is_mask for work in work_of_tree(tmp_path, ""))
    with pytest.raises(ConfigError, match="mask_pattern"):
        work_of_tree(tmp_path, "(")


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E_NO_IMAGES"):
        work_of_tree(tmp_path)


def test_rows_of_a_manifest_get_files_of_their_own(tmp_path: Path) -> None:
    inside, outside = png(tmp_path / "set/a/1.jpg"), png(tmp_path / "elsewhere/2.png")
    mask = mask_png(tmp_path / "set/a/1_mask.png")
    records = [
        Record(id="one", patient_id="p", image=inside, mask=mask),
        Record(id="again", patient_id="p", image=inside),
        Record(id="far", patient_id="q", image=outside),
    ]
    works = work_of_manifest(records, tmp_path / "set")
    assert works[0].mask_out == "a/1_mask.png"
    assert works[2].image_out.startswith("outside/far-")
    assert len({work.image_out for work in works}) == 3
    assert {work.image_out.split("-")[0] for work in works[:2]} == {"a/1"}


def test_a_result_never_replaces_its_source(tmp_path: Path) -> None:
    png(tmp_path / "a.png")
    works = work_of_tree(tmp_path)
    with pytest.raises(ConfigError, match="would replace its own source"):
        refuse_overwriting_sources(works, tmp_path)
    refuse_overwriting_sources(works, tmp_path / "out")

"""Manifests made from phantoms, folders and tables, and a check that refuses what must not be measured on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_builders import picture, write_labelled, write_png

from medanomaly.cli.main import main
from medanomaly.datasets.manifest import read_manifest


def data(*words: object) -> int:
    return main(["data", *(str(word) for word in words)])


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


def test_phantom_draws_the_same_set_from_the_same_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--num-patients", 6, "--images-per-patient", 1, "--image-size", 32)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert data("phantom", tmp_path / name, *options, "--seed", seed) == 0
    out = capsys.readouterr().out
    assert sum(int(line.split()[2]) for line in out.splitlines() if line.endswith("images")) == 3 * 6
    trees = [{path.name: path.read_bytes() for path in (tmp_path / name / "images").iterdir()} for name in "abc"]
    assert trees[0] == trees[1]
    assert not trees[0].keys() & trees[2].keys()


def seed_layout(root: Path) -> Path:
    """The tree the seed's commands take: training and testing, each with healthy and diseased, masks below testing."""
    index = 0
    for part, count in (("training", 6), ("testing", 2)):
        for label in ("healthy", "diseased"):
            for number in range(count):
                write_png(root / part / label / f"{label[0]}{number}-{part}.png", picture(index))
                index += 1
    lesion = np.zeros((16, 16), np.uint8)
    lesion[3:6, 3:9] = 255
    for number in range(2):
        write_png(root / "testing" / "masks" / f"d{number}-testing.png", lesion)
    return root


def test_folder_reads_the_seeds_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = seed_layout(tmp_path / "images")
    assert data("folder", root, "--val-fraction", "0.34") == 0
    assert f"wrote {root / 'manifest.csv'}" in capsys.readouterr().out
    records = read_manifest(root / "manifest.csv")
    assert len(records) == 16
    assert {(r.split, r.label) for r in records} == {(s, c) for s in ("train", "val", "test") for c in ("healthy", "diseased")}
    assert sorted(r.id for r in records if r.mask is not None) == [
        "testing/diseased/d0-testing.png",
        "testing/diseased/d1-testing.png",
    ]
    assert data("check", root / "manifest.csv", "--deep", "true") == 0


def test_folder_finds_patients_by_a_pattern(tmp_path: Path) -> None:
    for index, name in enumerate(("p1_a", "p1_b", "p2_a", "p3_a")):
        write_png(tmp_path / "training" / "healthy" / f"{name}.png", picture(index))
    assert data("folder", tmp_path, "--patient-pattern", r"/(p\d)_", "--val-fraction", "0.3") == 0
    assert {r.patient_id for r in read_manifest(tmp_path / "manifest.csv")} == {"p1", "p2", "p3"}


def test_folder_of_another_layout_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_png(tmp_path / "a" / "b.png", picture(0))
    assert data("folder", tmp_path) == 4
    assert "[E_LAYOUT]" in one_line(capsys)


@pytest.mark.parametrize("action", ["folder", "table"])
def test_a_manifest_somebody_may_have_edited_is_not_replaced_unasked(
    action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = seed_layout(tmp_path / "images")
    (root / "in.csv").write_text("image\ntraining/healthy/h0-training.png\n")
    words = ["folder", root] if action == "folder" else ["table", root / "in.csv", root / "manifest.csv"]
    (root / "manifest.csv").write_text("by hand")
    assert data(*words) == 2
    assert "[E_EXISTS]" in one_line(capsys)
    assert (root / "manifest.csv").read_text() == "by hand"
    assert data(*words, "--overwrite", "true") == 0
    assert read_manifest(root / "manifest.csv")


TABLE = "file,who,finding,part,use\n0.png,a,0,train,1\n1.png,a,1,train,1\n2.png,b,0,holdout,1\n3.png,c,1,holdout,0\n"
COLUMNS = ("--columns.image", "file", "--columns.patient", "who", "--columns.label", "finding", "--columns.split", "part")
LABELS = ("--labels", '{"0": healthy, "1": diseased}')
SPLITS = ("--splits", "{train: train, holdout: test}")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for index in range(4):
        write_png(tmp_path / f"{index}.png", picture(index))
    (tmp_path / "in.csv").write_text(TABLE)
    return tmp_path / "in.csv"


def test_table_maps_columns_labels_and_splits_and_keeps_the_rows_asked_for(table: Path) -> None:
    out = table.parent / "out.csv"
    assert data("table", table, out, *COLUMNS, *LABELS, *SPLITS, "--where", '{use: "1"}') == 0
    assert [(r.image.name, r.patient_id, r.label, r.split) for r in read_manifest(out)] == [
        ("0.png", "a", "healthy", "train"),
        ("1.png", "a", "diseased", "train"),
        ("2.png", "b", "healthy", "test"),
    ]


def test_the_options_of_table_may_stand_in_a_file(table: Path) -> None:
    options, out = table.parent / "options.yaml", table.parent / "out.csv"
    options.write_text(
        "columns:\n  image: file\n  patient: who\n  label: finding\nlabels: {'0': healthy, '1': diseased}\nsplits: {}\n"
    )
    assert data("table", table, out, "--config", options) == 0
    assert [r.label for r in read_manifest(out)] == ["healthy", "diseased", "healthy", "diseased"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("--labels", '{"0": healthy}'), "E_LABEL"),
        (("--splits", "{train: train}"), "E_SPLIT"),
        (("--splits", "{train: train, holdout: later}"), "E_SPLIT"),
        (("--where", '{use: "7"}'), "E_EMPTY"),
        (("--columns.mask", "outline"), "E_COLUMN"),
    ],
)
def test_table_refuses_what_it_cannot_translate(
    change: tuple[str, str], code: str, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = table.parent / "out.csv"
    assert data("table", table, out, *COLUMNS, *LABELS, *SPLITS, *change) == 4
    assert f"[{code}]" in one_line(capsys)
    assert not out.exists()


def test_check_refuses_a_patient_in_two_splits_and_says_who(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_labelled(tmp_path, [("a", "healthy", "train"), ("a", "healthy", "test"), ("b", "diseased", "train")])
    assert data("check", manifest) == 4
    out, err = capsys.readouterr()
    assert "[E_LEAKAGE] 1 patients in more than one split: a" in out
    assert err == f"medanomaly data: {manifest}: must not be used as it is [E_CHECK]; mend the errors above\n"


def test_check_names_a_mask_of_another_size_when_it_looks_at_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_labelled(tmp_path, [("a", "healthy", "train"), ("b", "diseased", "train")])
    write_png(tmp_path / "1-mask.png", np.zeros((8, 16), np.uint8))
    assert data("check", manifest) == 0
    assert data("check", manifest, "--deep", "true") == 4
    assert "[E_MASK_SIZE]" in capsys.readouterr().out


def test_check_warns_of_a_training_split_with_one_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_labelled(tmp_path, [("a", "healthy", "train"), ("b", "healthy", "train"), ("b", "healthy", "train")])
    assert data("check", manifest) == 0
    assert "[W_ONE_CLASS]" in capsys.readouterr().out


def test_check_writes_its_findings_as_json(tmp_path: Path) -> None:
    manifest = write_labelled(tmp_path, [("a", "healthy", "train"), ("a", "healthy", "test")])
    assert data("check", manifest, "--json-out", tmp_path / "new" / "findings.json") == 4
    found = json.loads((tmp_path / "new" / "findings.json").read_text())
    assert found["ok"] is False
    assert [finding["ids"] for finding in found["findings"] if finding["code"] == "E_LEAKAGE"] == [["a"]]


def test_check_of_a_manifest_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data("check", tmp_path / "absent.csv") == 4
    assert "[E_MISSING]" in one_line(capsys)


def test_cells_that_yaml_reads_as_numbers_are_text_and_yes_has_to_be_quoted(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = table.parent / "out.csv"
    assert data("table", table, out, *COLUMNS, "--labels", "{0: healthy, 1: diseased}", *SPLITS, "--where", "{use: 1}") == 0
    expected = out.read_text()
    assert data("table", table, out, *COLUMNS, *LABELS, *SPLITS, "--where", '{use: "1"}', "--overwrite", "true") == 0
    assert out.read_text() == expected
    capsys.readouterr()
    assert data("table", table, table.parent / "b.csv", *COLUMNS, "--labels", "{yes: diseased, no: healthy}", *SPLITS) == 2
    assert "quote yes" in capsys.readouterr().err

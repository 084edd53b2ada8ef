import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tree_chexpert import CLEAR, FLUID, HEADER, NAME, NOTHING, OBSERVATIONS, TRAIN, VALID, build, picture, write_jpeg, write_table

from medanomaly.cli.main import main
from medanomaly.datasets.manifest import Record, read_manifest
from medanomaly.datasets.public.chexpert import chexpert
from medanomaly.datasets.public.listing import Listing
from medanomaly.errors import ConfigError, InputError


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("chexpert")
    build(root)
    return root


@pytest.fixture
def tree(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(built, tmp_path / "set"))


def listed(root: Path, **options: Any) -> Listing:
    return chexpert(root, root / "out", **options)


def refused(root: Path, **options: Any) -> InputError:
    with pytest.raises(InputError) as error:
        listed(root, **options)
    return error.value


def by_id(records: list[Record]) -> dict[str, tuple[str | None, str | None]]:
    return {record.id: (record.split, record.label) for record in records}


def ids_of(listing: Listing, code: str) -> list[tuple[str, ...]]:
    return [finding.ids for finding in listing.findings if finding.code == code]


def film(part: str, patient: int, study: int = 1, view: str = "view1_frontal") -> str:
    return f"{part}/patient{patient:05d}/study{study}/{view}.jpg"


def edit(table: Path, change: Callable[[str], str]) -> None:
    table.write_text(change(table.read_text(encoding="utf-8")), encoding="utf-8")


def test_the_tree_gives_exactly_these_rows(built: Path) -> None:
    found = listed(built)
    assert {key: value for key, value in by_id(found.records).items() if key.startswith("valid")} == {
        **{film("valid", 64540 + number): ("test", "diseased" if number % 2 else "healthy") for number in range(1, 8)},
        film("valid", 64547, view="view2_frontal"): ("test", "diseased"),
    }
    training = {record.patient_id: record.label for record in found.records if record.split in ("train", "val")}
    assert training == {f"patient0000{number}": "diseased" if number % 2 else "healthy" for number in range(1, 9)} | {
        "patient00016": "healthy"
    }
    assert sum(record.split in ("train", "val") for record in found.records) == len(training)
    held_out = [record.label for record in found.records if record.split == "val"]
    assert sorted(map(str, held_out)) == ["diseased", "healthy"]
    assert [record.id for record in found.records] == sorted(record.id for record in found.records)
    assert {record.source for record in found.records} == {"CheXpert"}
    assert all(record.mask is None and not record.annotated_empty for record in found.records)
    assert all(record.image == built.resolve() / NAME / record.id for record in found.records)
    assert all(record.patient_id == record.id.split("/")[1] for record in found.records)


def test_views_and_all_observations_are_kept_as_read(built: Path) -> None:
    records = {record.id: record for record in listed(built, one_image_a_patient=False, frontal_only=False).records}
    assert records[film("train", 3)].observations == (("Lung Opacity", 1), ("Edema", -1), ("Pleural Effusion", 1))
    assert records[film("valid", 64542)].observations == tuple((name, int(name == "No Finding")) for name in OBSERVATIONS)
    assert [records[film("train", 2, view=view)].view for view in ("view1_frontal", "view2_lateral")] == ["PA", "lateral"]


def test_what_was_left_out_is_told(built: Path) -> None:
    found = listed(built)
    assert ids_of(found, "W_UNCERTAIN") == [(film("train", 11), film("train", 12))]
    assert ids_of(found, "W_LABEL_CONFLICT") == [(film("train", 17),), (film("train", 13),)]
    assert ids_of(found, "W_DUPLICATE") == [(film("train", 16),)]
    assert ids_of(found, "W_PROJECTION") == [(film("train", 14),)]
    assert {finding.code for finding in found.findings} == {"W_UNCERTAIN", "W_LABEL_CONFLICT", "W_DUPLICATE", "W_PROJECTION"}


@pytest.mark.parametrize(
    ("uncertain", "labels"), [("ignore", [None, None]), ("ones", ["diseased", None]), ("zeros", [None, "healthy"])]
)
def test_uncertain_is_what_the_option_says(built: Path, uncertain: Any, labels: list[str | None]) -> None:
    found = listed(built, uncertain=uncertain)
    assert [by_id(found.records).get(film("train", number), ("", None))[1] for number in (11, 12)] == labels
    assert ids_of(found, "W_UNCERTAIN") == [(film("train", 11), film("train", 12))]
    # Present by --uncertain ones, and No Finding: a contradiction like any other.
    assert (film("train", 12) in ids_of(found, "W_LABEL_CONFLICT")[1]) == (uncertain == "ones")


def test_another_observation_makes_other_classes(built: Path) -> None:
    found = by_id(listed(built, observation="Cardiomegaly").records)
    assert found[film("train", 10)][1] == "diseased"
    assert found[film("valid", 64548)] == ("test", "diseased")
    assert film("train", 1) not in found
    # No Finding and an effusion do not contradict each other about the heart.
    assert found[film("train", 13)][1] == "healthy"


def test_films_without_a_class_stay_blank_only_when_asked_for(built: Path) -> None:
    kept = listed(built, keep_unlabelled=True)
    assert {key for key, (_, label) in by_id(kept.records).items() if label is None} == {
        *(film("train", 10), film("train", 11), film("train", 12)),
        film("valid", 64548),
    }
    assert film("train", 13) not in by_id(kept.records)
    assert "have no label" in next(finding.message for finding in kept.findings if finding.code == "W_UNCERTAIN")


def test_lateral_films_and_projections_are_options(built: Path) -> None:
    laterals = {film("train", number, view="view2_lateral") for number in (2, 7)} | {film("valid", 64542, view="view2_lateral")}
    everything = by_id(listed(built, frontal_only=False, one_image_a_patient=False).records)
    frontal = by_id(listed(built, one_image_a_patient=False).records)
    assert everything.keys() - frontal.keys() == laterals
    posterior = listed(built, projections=("PA",), one_image_a_patient=False)
    assert {record.view for record in posterior.records} == {"PA"}
    decubitus = listed(built, projections=("AP", "PA", "LL"), one_image_a_patient=False)
    assert by_id(decubitus.records).keys() - frontal.keys() == {film("train", 14)}
    assert ids_of(decubitus, "W_PROJECTION") == []


def test_one_image_a_patient_holds_for_training_only_and_depends_on_the_seed(built: Path) -> None:
    chosen = [[record.id for record in listed(built, seed=seed).records] for seed in range(12)]
    for ids in chosen:
        training = [key.split("/")[1] for key in ids if key.startswith("train/")]
        assert len(training) == len(set(training)) == 9
        assert film("valid", 64547, view="view2_frontal") in ids
    assert {film("train", 3, study) in ids for ids in chosen for study in (1, 2)} == {True, False}
    everything = by_id(listed(built, one_image_a_patient=False).records)
    assert {film("train", 3, 1), film("train", 3, 2), film("train", 6, 1), film("train", 6, 2)} <= everything.keys()


def test_a_sample_is_so_many_of_each_class_and_leaves_the_test_films_alone(built: Path) -> None:
    whole, few = listed(built).records, listed(built, sample=3).records
    labels = [record.label for record in few if record.split in ("train", "val")]
    assert (labels.count("healthy"), labels.count("diseased")) == (3, 3)
    assert {record.id for record in few} < {record.id for record in whole}
    assert [record for record in few if record.split == "test"] == [record for record in whole if record.split == "test"]
    assert by_id(listed(built, sample=3, seed=1).records).keys() != by_id(few).keys()
    assert {record.split for record in few} == {"train", "val", "test"}


def test_no_patient_is_in_two_splits_whatever_the_seed(built: Path) -> None:
    for seed in range(50):
        records = listed(built, seed=seed, one_image_a_patient=False, val_fraction=0.4).records
        splits = {(record.patient_id, record.split) for record in records}
        assert len(splits) == len({patient for patient, _ in splits})
        assert {record.split for record in records} == {"train", "val", "test"}
    assert {record.split for record in listed(built, val_fraction=0.0).records} == {"train", "test"}


def test_rows_in_another_order_and_folders_in_another_order_give_the_same_listing(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = listed(tree, sample=3, masks=tree / "gt_segmentations_val.json")
    for name in ("train.csv", "valid.csv"):
        header, *rows = (tree / NAME / name).read_text().splitlines()
        random.Random(1).shuffle(rows)
        (tree / NAME / name).write_text("\n".join([header, *rows]) + "\n")
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path=".": real(path)[::-1])
    second = listed(tree, sample=3, masks=tree / "gt_segmentations_val.json")
    assert second.records == first.records


@pytest.mark.parametrize("name", ["CheXpert-v1.0", "CheXpert-v1.0-small", "chest"])
def test_the_folder_may_have_any_name_and_be_given_itself(tree: Path, name: str) -> None:
    expected = by_id(listed(tree).records)
    (tree / NAME).rename(tree / name)
    assert by_id(listed(tree).records) == expected
    assert by_id(listed(tree / name).records) == expected


def test_training_films_in_batch_folders_are_found(tree: Path) -> None:
    expected = by_id(listed(tree).records)
    first = tree / "CheXpert-v1.0 batch 1 (validate & csv)"
    (tree / NAME).rename(first)
    patients = sorted((first / "train").iterdir())
    for number, batch in enumerate(("batch 2 (train 1)", "batch 3 (train 2)", "batch 4 (train 3)")):
        (tree / f"CheXpert-v1.0 {batch}").mkdir()
        for patient in patients[number::3]:
            patient.rename(tree / f"CheXpert-v1.0 {batch}" / patient.name)
    (first / "train").rmdir()
    assert by_id(listed(tree).records) == expected


def test_the_folders_and_tables_of_chexlocalize_are_read(tree: Path) -> None:
    expected = {record.id: record.label for record in listed(tree).records if record.split == "test"}
    shutil.rmtree(tree / NAME / "train")
    (tree / NAME / "train.csv").unlink()
    (tree / NAME).rename(tree / "CheXpert")
    (tree / "CheXpert" / "valid").rename(tree / "CheXpert" / "val")
    (tree / "CheXpert" / "valid.csv").rename(tree / "CheXpert" / "val_labels.csv")
    found = listed(tree)
    assert {record.id: record.label for record in found.records} == expected
    assert all(record.image.is_file() for record in found.records)
    assert [finding.code for finding in found.findings] == ["W_NO_TRAIN"]
    edit(tree / "CheXpert" / "val_labels.csv", lambda text: text.replace(f"{NAME}/valid/", "val/"))
    assert listed(tree) == found


def with_test_films(tree: Path) -> None:
    """CheXlocalize's folder with test films beside the whole set; its table has neither view nor projection."""
    lines = [",".join(["Path", *OBSERVATIONS])]
    for number in (64741, 64742):
        labels = NOTHING | (FLUID if number % 2 else CLEAR)
        lines.append(
            ",".join([f"test/patient{number}/study1/view1_frontal.jpg", *(labels[o].removesuffix(".0") for o in labels)])
        )
        write_jpeg(tree / "CheXpert" / film("test", number), picture(f"patient{number}/study1/view1_frontal")[0])
    (tree / "CheXpert" / "test_labels.csv").write_text("\n".join(lines) + "\n")


def test_the_test_split_is_the_validation_films_the_test_films_or_both(tree: Path) -> None:
    assert refused(tree, test="test").code == "E_LAYOUT"
    with_test_films(tree)
    # CheXlocalize's own validation films are not taken for a second copy of the set.
    shutil.copy(tree / NAME / "valid.csv", tree / "CheXpert" / "val_labels.csv")
    new = {film("test", 64741): ("test", "diseased"), film("test", 64742): ("test", "healthy")}
    valid = {key: value for key, value in by_id(listed(tree).records).items() if value[0] == "test"}
    for option, expected in (("valid", valid), ("test", new), ("both", valid | new)):
        found = by_id(listed(tree, test=option).records)
        assert {key: value for key, value in found.items() if value[0] == "test"} == expected
    views = {record.id: record.view for record in listed(tree, test="test").records}
    assert views[film("test", 64741)] == "frontal"
    # A projection that is not known is not the wanted one.
    assert film("test", 64741) not in by_id(listed(tree, test="test", projections=("AP",)).records)


def test_all_missing_films_are_named_and_another_film_of_the_patient_takes_the_place(tree: Path) -> None:
    whole = by_id(listed(tree).records)
    (chosen,) = [key for key in whole if "patient00003" in key]
    other = film("train", 3, 2 if "study1" in chosen else 1)
    for key in (chosen, film("train", 5), film("valid", 64541)):
        (tree / NAME / key).unlink()
    found = listed(tree)
    assert ids_of(found, "W_MISSING") == [tuple(sorted((chosen, film("train", 5), film("valid", 64541))))]
    assert by_id(found.records).keys() == whole.keys() - {chosen, film("train", 5), film("valid", 64541)} | {other}


def test_a_set_without_films_is_refused(tree: Path) -> None:
    shutil.rmtree(tree / NAME / "train")
    shutil.rmtree(tree / NAME / "valid")
    error = refused(tree)
    assert (error.code, "19 files are missing" in error.message) == ("E_EMPTY", True)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda text: text.replace("Path,", "File,"), "E_COLUMN", "Path"),
        (lambda text: text.replace("Edema,", "Swelling,").replace("Fracture,", "Break,"), "E_COLUMN", "Edema, Fracture"),
        (lambda text: text.replace("Pleural Effusion", "Pleural Efusion"), "E_COLUMN", "Pleural Effusion"),
        (lambda text: text.splitlines()[0] + "\n", "E_EMPTY", "no rows"),
        (lambda text: "", "E_EMPTY", "empty"),
        (lambda text: text.replace(",90,Frontal,AP,", ",90,Frontal,AP,2.0", 1), "E_ROW", "line 8"),
        (lambda text: text.replace(",90,Frontal,AP,", ",90,Frontal,UP,", 1), "E_ROW", "line 8"),
        (lambda text: text.replace("patient00005", "p5"), "E_ROW", "line 8"),
        (lambda text: text.replace("CheXpert-v1.0/train/patient00005", "../CheXpert-v1.0/train/patient00005"), "E_ROW", "line 8"),
        (lambda text: text.replace("CheXpert-v1.0/train/patient00005", "../../../train/patient00005"), "E_TRAVERSAL", "line 8"),
        (lambda text: text.replace("train/patient00005/", "train/patient00005/../../../../../"), "E_TRAVERSAL", "line 8"),
        (lambda text: text.replace("CheXpert-v1.0/train/patient00005", "/etc/train/patient00005"), "E_TRAVERSAL", "line 8"),
        (
            lambda text: text.replace("CheXpert-v1.0/train/patient00005", "https://x.y/train/patient00005"),
            "E_TRAVERSAL",
            "line 8",
        ),
        (lambda text: text.replace("CheXpert-v1.0/train/patient00005", "C:\\train/patient00005"), "E_TRAVERSAL", "line 8"),
        (lambda text: text.replace("patient00005", "patient64541"), "E_LEAKAGE", "patient64541"),
    ],
)
def test_a_table_that_cannot_be_trusted_is_refused_by_code(
    tree: Path, change: Callable[[str], str], code: str, words: str
) -> None:
    edit(tree / NAME / "train.csv", change)
    error = refused(tree)
    assert (error.code, words in str(error)) == (code, True), str(error)


def test_all_patients_of_two_tables_are_named(tree: Path) -> None:
    edit(
        tree / NAME / "train.csv",
        lambda text: text.replace("patient00005", "patient64541").replace("patient00007", "patient64543"),
    )
    error = refused(tree)
    assert error.code == "E_LEAKAGE"
    assert "2 patients" in error.message
    assert "patient64541, patient64543" in error.message


@pytest.mark.parametrize("linked", ["train", "train/patient00005", "train/patient00005/study1", film("train", 5)])
def test_a_link_that_leaves_the_data_folder_is_refused(tree: Path, tmp_path: Path, linked: str) -> None:
    expected = by_id(listed(tree).records)
    shutil.move(tree / NAME / linked, tmp_path / "elsewhere")
    (tree / NAME / linked).symlink_to(tmp_path / "elsewhere")
    assert refused(tree).code == "E_TRAVERSAL"
    # A link that stays inside is followed.
    shutil.move(tmp_path / "elsewhere", tree / "kept")
    (tree / NAME / linked).unlink()
    (tree / NAME / linked).symlink_to(tree / "kept")
    records = listed(tree).records
    assert by_id(records) == expected
    assert any(record.image.is_relative_to(tree / "kept") for record in records)


def test_a_table_saved_by_a_spreadsheet_reads_the_same(tree: Path) -> None:
    expected = listed(tree).records
    text = (tree / NAME / "train.csv").read_text().replace(",", ";").replace("\n", "\r\n")
    (tree / NAME / "train.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    edit(tree / NAME / "valid.csv", lambda text: text.replace("Lung Opacity", "Airspace Opacity"))
    assert listed(tree).records == expected


def test_other_folders_are_refused_with_what_was_expected_and_found(tmp_path: Path, tree: Path) -> None:
    assert refused(tmp_path / "absent").code == "E_MISSING"
    (tmp_path / "file").write_text("x")
    assert refused(tmp_path / "file").code == "E_NOT_REGULAR"
    (tmp_path / "other" / "images").mkdir(parents=True)
    error = refused(tmp_path / "other")
    assert (error.code, "found: images" in error.message, "patientNNNNN" in error.fix) == ("E_LAYOUT", True, True)
    shutil.copytree(tree / NAME, tree / "CheXpert-v1.0-small")
    error = refused(tree)
    assert (error.code, "2 copies" in error.message) == ("E_LAYOUT", True)
    assert by_id(listed(tree / NAME).records) == by_id(listed(tree / "CheXpert-v1.0-small").records)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"observation": "Pleural Efusion"}, "did you mean 'Pleural Effusion'"),
        ({"observation": "pleural effusion"}, "did you mean 'Pleural Effusion'"),
        ({"observation": "No Finding"}, "choose one of"),
        ({"observation": "xyz"}, "choose one of"),
        ({"projections": ("ap",)}, "AP, PA, LL, RL"),
        ({"projections": ()}, "AP, PA, LL, RL"),
        ({"sample": -1}, "sample"),
        ({"val_fraction": 1.0}, "val_fraction"),
        ({"val_fraction": -0.1}, "val_fraction"),
        ({"val_fraction": float("nan")}, "val_fraction"),
    ],
)
def test_an_option_that_cannot_be_is_refused(built: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        listed(built, **options)


def test_no_film_is_opened_to_list_the_set(tree: Path) -> None:
    expected = by_id(listed(tree).records)
    for path in tree.rglob("*.jpg"):
        path.write_bytes(b"not an image")
    assert by_id(listed(tree).records) == expected


def test_only_chosen_films_are_looked_for(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        (f"patient{number:05d}/study1/view1_frontal", "Male", 1, "AP", FLUID if number % 2 else CLEAR) for number in range(2000)
    ]
    write_table(tree / NAME / "train.csv", "train", rows)
    asked: list[str] = []
    monkeypatch.setattr(os.path, "isfile", lambda path: asked.append(str(path)) is None)
    assert len(listed(tree, sample=20).records) == 40 + 8
    assert len([path for path in asked if path.endswith(".jpg")]) == 40 + 8


def test_the_command_writes_the_manifest_and_prints_what_was_left_out(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "manifest.csv"
    words = ["--out", str(out), "--uncertain", "zeros", "--projections", "[AP, PA]", "--sample", "4", "--masks"]
    assert main(["data", "chexpert", str(built), *words, "gt_segmentations_val.json"]) == 0
    printed = capsys.readouterr()
    assert all(f"[{code}]" in printed.err for code in ("W_UNCERTAIN", "W_LABEL_CONFLICT", "W_DUPLICATE", "W_PROJECTION"))
    written = read_manifest(out, allow_outside=True)
    assert written == listed_into(built, tmp_path)
    assert main(["data", "check", str(out), "--deep", "true", "--allow-outside", "true"]) == 0


def listed_into(root: Path, folder: Path) -> list[Record]:
    masks = root / "gt_segmentations_val.json"
    return chexpert(root, folder, uncertain="zeros", sample=4, masks=masks).records


def test_the_tree_has_the_published_columns_and_quirks() -> None:
    assert HEADER.split(",")[:5] == ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA"]
    assert len(HEADER.split(",")) == 19
    assert {"Unknown"} < {row[1] for row in TRAIN}
    assert 0 in {row[2] for row in TRAIN}
    assert {value for row in VALID for value in row[4].values()} == {"0.0", "1.0"}

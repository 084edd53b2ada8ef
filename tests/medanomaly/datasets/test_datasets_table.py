from pathlib import Path
from typing import Any

import pytest

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.table import TableColumns, table_records
from medanomaly.errors import InputError

TEXT = """file,who,finding,lesion,part,white,use
a.png,p1,0,,train,,1
b.png,p1,0,,train,4095,1
c.png,p2,1,m/c.png,train,,1
d.png, p3 ,1,,test,,0
"""
COLUMNS = TableColumns(image="file", patient="who", label="finding", mask="lesion", split="part", intensity_high="white")


def records(folder: Path, text: str = TEXT, columns: TableColumns = COLUMNS, **options: Any) -> list[Record]:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    settings: dict[str, Any] = {"labels": {"0": "healthy", "1": "diseased"}, "splits": {}, "where": {}} | options
    return table_records(path, columns, **settings)


def test_every_column_becomes_what_it_is_said_to_mean(tmp_path: Path) -> None:
    found = records(tmp_path)
    assert [record.id for record in found] == ["a.png", "b.png", "c.png", "d.png"]
    assert [record.patient_id for record in found] == ["p1", "p1", "p2", "p3"]
    assert [record.label for record in found] == ["healthy", "healthy", "diseased", "diseased"]
    assert [record.split for record in found] == ["train", "train", "train", "test"]
    assert [record.mask for record in found] == [None, None, tmp_path / "m" / "c.png", None]
    assert [record.intensity_range for record in found] == [None, (0.0, 4095.0), None, None]
    assert [record.image for record in found] == [tmp_path / record.id for record in found]


@pytest.mark.parametrize(("blank", "empty"), [("not annotated", False), ("empty", True)])
def test_a_blank_mask_is_empty_only_where_the_caller_says_so(tmp_path: Path, blank: str, empty: bool) -> None:
    columns = TableColumns(image="file", mask="lesion", blank_mask=blank)
    assert [record.annotated_empty for record in records(tmp_path, columns=columns)] == [empty, empty, False, empty]
    without = TableColumns(image="file", blank_mask=blank)
    assert not any(record.annotated_empty for record in records(tmp_path, columns=without))


def test_columns_that_are_not_named_leave_their_field_open(tmp_path: Path) -> None:
    found = records(tmp_path, columns=TableColumns(image="file"))
    assert [record.patient_id for record in found] == ["a.png", "b.png", "c.png", "d.png"]
    assert {(record.label, record.mask, record.split) for record in found} == {(None, None, None)}


def test_only_rows_that_match_are_kept_and_cells_stay_text(tmp_path: Path) -> None:
    assert [record.id for record in records(tmp_path, where={"use": "1", "finding": "0"})] == ["a.png", "b.png"]
    leading = "image,patient\n1.png,007\n2.png,NA\n"
    found = records(tmp_path, leading, TableColumns(patient="patient"))
    assert [record.patient_id for record in found] == ["007", "NA"]


def test_splits_are_translated(tmp_path: Path) -> None:
    found = records(tmp_path, splits={"train": "val", "test": "test"})
    assert [record.split for record in found] == ["val", "val", "val", "test"]


def test_a_share_of_the_training_patients_becomes_validation_whole(tmp_path: Path) -> None:
    lines = [f"t{patient}-{film}.png,p{patient},{patient % 2},train" for patient in range(20) for film in range(2)]
    text = "\n".join(["file,who,finding,part", *lines, "x.png,q1,1,test", "y.png,q2,0,"]) + "\n"
    columns = TableColumns(image="file", patient="who", label="finding", split="part")
    found = records(tmp_path, text, columns, val_fraction=0.2)
    by_split = {split: {r.patient_id for r in found if r.split == split} for split in ("train", "val", "test", None)}
    assert (len(by_split["train"]), len(by_split["val"])) == (16, 4)
    assert by_split["train"].isdisjoint(by_split["val"])
    assert (by_split["test"], by_split[None]) == ({"q1"}, {"q2"})
    assert [record.id for record in found] == [line.split(",")[0] for line in text.splitlines()[1:]]
    assert records(tmp_path, text, columns, val_fraction=0.2) == found
    assert records(tmp_path, text, columns, val_fraction=0.2, seed=1) != found


@pytest.mark.parametrize(
    ("text", "options", "code"),
    [
        ("file\na.png\n", {}, "E_COLUMN"),
        (TEXT, {"where": {"absent": "1"}}, "E_COLUMN"),
        (TEXT, {"where": {"use": "7"}}, "E_EMPTY"),
        (TEXT, {"labels": {"0": "healthy"}}, "E_LABEL"),
        (TEXT, {"splits": {"train": "train"}}, "E_SPLIT"),
        (TEXT.replace("train", "training"), {}, "E_SPLIT"),
        (TEXT.replace("4095", "bright"), {}, "E_ROW"),
        (TEXT.replace("4095", "inf"), {}, "E_ROW"),
        (TEXT.replace("c.png", "../c.png"), {}, "E_TRAVERSAL"),
        ("", {}, "E_EMPTY"),
        (TEXT.splitlines()[0] + "\n", {}, "E_EMPTY"),
        (TEXT.replace("a.png,", '"a.png,'), {}, "E_ROW"),
        (TEXT.replace("b.png", "b.png,shifted"), {}, "E_ROW"),
        (TEXT.replace("b.png,p1", "b.png"), {}, "E_ROW"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused_by_code(
    tmp_path: Path, text: str, options: dict[str, Any], code: str
) -> None:
    with pytest.raises(InputError) as refused:
        records(tmp_path, text, **options)
    assert refused.value.code == code


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E_MISSING"):
        table_records(tmp_path / "absent.csv", COLUMNS, labels={}, splits={}, where={})


def test_a_table_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"file,who\n\xff\xfe\x00,p\n")
    with pytest.raises(InputError, match="E_ENCODING"):
        table_records(tmp_path / "table.csv", COLUMNS, labels={}, splits={}, where={})

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from benchmark_builders import hand_benchmark

from medanomaly.errors import InputError
from medanomaly.evaluation.benchmark_compare import compare

OURS = [0.9, 0.8, 0.7, 0.6, 0.5]
BETTER = [0.8, 0.6, 0.4, 0.2, 0.0]
"""Differences -0.1 to -0.5: of the 32 swaps only two are as extreme, so p = 2 / 32."""
MIXED = [1.0, 0.7, 0.7, 0.6, 0.5]
"""Differences 0.1, -0.1 and three zeros: no swap is less extreme, so p = 1."""


def test_p_values_and_holm_are_those_of_the_enumeration_by_hand(tmp_path: Path) -> None:
    config, records, folders = hand_benchmark(tmp_path, OURS, BETTER, floors={"floor one": MIXED, "floor two": BETTER})
    (result,) = compare(config, records, folders)
    assert [row.name for row in result.rows] == ["ours", "theirs", "floor one", "floor two"]
    main, theirs, one, two = result.rows
    assert main.tests == {}
    for key, scale in (("dice", 1.0), ("ap", 0.5)):
        assert theirs.tests[key].p_value == two.tests[key].p_value == 2 / 32
        assert theirs.tests[key].difference == pytest.approx(-0.3 * scale)
        assert one.tests[key].p_value == 1
        assert theirs.tests[key].smallest_p == 0.0625
        # Sorted: 1/16 times 3; then 1/16 times 2, raised to the one before; then 1.
        assert (theirs.adjusted[key], two.adjusted[key], one.adjusted[key]) == pytest.approx((3 / 16, 3 / 16, 1))


def test_dice_and_ap_are_tested_and_corrected_each_by_its_own_numbers(tmp_path: Path) -> None:
    config, records, folders = hand_benchmark(tmp_path, OURS, BETTER)
    file = folders[1] / "images.csv"
    lines = [line.split(",") for line in file.read_text().splitlines()]
    aps = dict(zip((f"i{n}" for n in range(5)), OURS, strict=True))
    # As good as the main method in AP, worse in Dice.
    file.write_text(
        "\n".join(",".join([*line[:7], f"{aps[line[1]] / 2}" if line[1] in aps else line[7], *line[8:]]) for line in lines)
    )
    _, theirs = compare(config, records, folders)[0].rows
    assert (theirs.tests["dice"].p_value, theirs.tests["ap"].p_value) == (2 / 32, 1)
    assert theirs.adjusted == {"dice": 2 / 32, "ap": 1}


def test_lines_in_another_order_are_paired_by_id(tmp_path: Path) -> None:
    config, records, folders = hand_benchmark(tmp_path, OURS, BETTER)
    straight = compare(config, records, folders)[0].rows[1].tests["dice"]
    file = folders[1] / "images.csv"
    header, *lines = file.read_text().splitlines()
    file.write_text("\n".join([header, *lines[::-1]]) + "\n")
    assert compare(config, records, folders)[0].rows[1].tests["dice"] == straight


def test_healthy_images_are_not_in_a_pair(tmp_path: Path) -> None:
    config, records, folders = hand_benchmark(tmp_path, OURS, BETTER)
    for folder in folders:
        file = folder / "images.csv"
        # Annotated as empty, with something flagged: its Dice is 0 and says nothing of lesions.
        file.write_text(file.read_text().replace(",healthy,0,0.5,,", ",healthy,0,0.5,0,"))
    test = compare(config, records, folders)[0].rows[1].tests["dice"]
    assert (test.num_images, test.num_patients) == (5, 5)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Theirs,i0,p0,diseased,1,0.5,0.8,0.4,0.5,10,100,0.1\n", "", "differ in 1 images, e.g. 'i0'"),
        ("Theirs,i1,", "Theirs,i0,", "has an image twice"),
        ("Theirs,i0,p0,", "Theirs,i9,p0,", "differ in 2 images, e.g. 'i0'"),
        ("Theirs,i0,p0,", "Theirs,i0,p1,", "image 'i0' has another label, patient or lesion"),
        (",0.8,0.4,0.5,10,100", ",0.8,0.4,0.5,11,100", "image 'i0' has another label, patient or lesion"),
        ("Theirs,i0,p0,diseased", "Theirs,i0,p0,healthy", "image 'i0' has another label, patient or lesion"),
    ],
)
def test_methods_on_other_images_or_another_truth_are_not_compared(tmp_path: Path, old: str, new: str, said: str) -> None:
    config, records, folders = hand_benchmark(tmp_path, OURS, BETTER)
    file = folders[1] / "images.csv"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(InputError, match=said) as caught:
        compare(config, records, folders)
    assert caught.value.code == "E_IDS"


def test_methods_on_other_manifests_are_not_compared(tmp_path: Path) -> None:
    config, records, folders = hand_benchmark(tmp_path, OURS, BETTER)
    content = json.loads((folders[1] / "evaluation.json").read_text())
    content["facts"]["manifest_sha256"] = "another"
    (folders[1] / "evaluation.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="different manifests") as caught:
        compare(config, records, folders)
    assert caught.value.code == "E_IDS"


def test_flagging_everything_has_the_dice_of_its_area(tmp_path: Path) -> None:
    config, records, folders = hand_benchmark(tmp_path, OURS, BETTER)
    whole = compare(config, records, folders)[0].all_positive
    assert whole is not None
    assert whole.value == pytest.approx(2 * 10 / (10 + 100))


def test_a_failed_cell_is_named_and_the_rest_compared(tmp_path: Path) -> None:
    config, records, folders = hand_benchmark(tmp_path, OURS, BETTER)
    records[1] |= {"status": "failed", "message": "train: no memory"}
    (result,) = compare(config, records, folders)
    assert [row.name for row in result.rows] == ["ours"]
    assert result.failed == ("theirs, seed 0: train: no memory",)
    records[1]["status"], records[0]["status"] = "done", "failed"
    (result,) = compare(config, records, folders)
    # Without the main method nothing is tested against anything.
    assert [(row.name, row.tests) for row in result.rows] == [("theirs", {})]
    records[1]["status"] = "failed"
    assert compare(config, records, folders) == []


def test_a_method_without_a_threshold_has_no_p_for_dice_and_one_for_ap(tmp_path: Path) -> None:
    config, records, folders = hand_benchmark(tmp_path, OURS, BETTER)
    file = folders[1] / "images.csv"
    lines = [line.split(",") for line in file.read_text().splitlines()]
    file.write_text("\n".join(",".join([*line[:6], "" if line[0] == "Theirs" else line[6], *line[7:]]) for line in lines))
    tests = compare(config, records, folders)[0].rows[1].tests
    assert np.isnan(tests["dice"].p_value)
    assert tests["ap"].p_value == 2 / 32

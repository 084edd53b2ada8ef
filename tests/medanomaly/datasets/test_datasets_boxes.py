from __future__ import annotations

import pytest

from medanomaly.datasets.boxes import boxes_of, boxes_text, checked_box
from medanomaly.errors import InputError

BOX = checked_box(10.5, 20, 30.25, 41, "Pleural effusion")


@pytest.mark.parametrize("boxes", [None, (), (BOX,), (BOX, checked_box(0, 0, 1, 1))])
def test_boxes_survive_their_cell(boxes: tuple[object, ...] | None) -> None:
    assert boxes_of(boxes_text(boxes)) == boxes  # type: ignore[arg-type]


def test_a_cell_reads_as_left_upper_right_lower() -> None:
    assert boxes_of(" 1 2 3 4 nodule left ;5 6 7 8") == (checked_box(1, 2, 3, 4, "nodule left"), checked_box(5, 6, 7, 8))


@pytest.mark.parametrize("cell", ["1 2 3", "a b c d", "3 2 1 4", "1 2 3 2", "1 2 nan 4", "1 2 inf 4", "1 2 3 4; ", "none"])
def test_what_is_no_box_is_refused(cell: str) -> None:
    with pytest.raises(InputError) as refused:
        boxes_of(cell)
    assert refused.value.code == "E_BOX"

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medanomaly.errors import ConfigError, InputError
from medanomaly.views.canvas import PREDICTED, REFERENCE
from medanomaly.views.overlay import map_colours
from medanomaly.views.sheet import SheetCase, contact_sheet
from medanomaly.views.shown import to_gray8

CELL, LEFT, TOP, STRIDE = 256, 196, 104, 264


def make_case(side: int = 64, **changes: object) -> SheetCase:
    noise = np.random.default_rng(side).uniform(0, 0.4, size=(side, side)).astype(np.float32)
    anomaly_map = noise.copy()
    lesion = np.zeros((side, side), dtype=bool)
    lesion[side // 4 : side // 2, side // 4 : side // 2] = True
    anomaly_map[lesion] = 0.8
    case = SheetCase(caption="case", pixels=noise - 0.5, anomaly_map=anomaly_map, pseudo_healthy=noise - 0.6, reference=lesion)
    return dataclasses.replace(case, **changes)


def sheet_of(path: Path, *cases: SheetCase, **options: object) -> np.ndarray:
    contact_sheet(path / "sheet.png", cases, **{"threshold": 0.5, "scale_max": 1.0, "unit": "absolute difference", **options})
    with Image.open(path / "sheet.png") as image:
        return np.asarray(image)


def cell(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    return sheet[TOP + row * STRIDE :, LEFT + column * STRIDE :][:CELL, :CELL]


def enlarged(image: np.ndarray, factor: int) -> np.ndarray:
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def in_colour(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (image == colour).all(-1)


def test_columns_are_original_pseudo_healthy_and_difference_map_with_square_pixels(tmp_path):
    case = make_case()
    sheet = sheet_of(tmp_path, case)
    assert case.pseudo_healthy is not None
    np.testing.assert_array_equal(cell(sheet, 0, 0)[..., 1], enlarged(to_gray8(case.pixels), 4))
    np.testing.assert_array_equal(cell(sheet, 0, 1)[..., 1], enlarged(to_gray8(case.pseudo_healthy), 4))
    np.testing.assert_array_equal(cell(sheet, 0, 2), enlarged(map_colours(case.anomaly_map, scale_max=1.0), 4))


def test_outlines_run_around_the_prediction_and_the_reference_each_in_its_colour(tmp_path):
    reference = np.zeros((64, 64), dtype=bool)
    reference[40:50, 40:60] = True
    sheet = sheet_of(tmp_path, make_case(reference=reference))
    rows, columns = np.nonzero(in_colour(cell(sheet, 0, 3), PREDICTED))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (62, 129, 62, 129)
    rows, columns = np.nonzero(in_colour(cell(sheet, 0, 4), REFERENCE))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (158, 201, 158, 241)


def test_rows_share_one_colour_scale(tmp_path):
    weak, strong = make_case(), make_case()
    weak = dataclasses.replace(weak, anomaly_map=weak.anomaly_map / 10)
    sheet = sheet_of(tmp_path, weak, strong)
    np.testing.assert_array_equal(cell(sheet, 0, 2), enlarged(map_colours(weak.anomaly_map, scale_max=1.0), 4))
    np.testing.assert_array_equal(cell(sheet, 1, 2), enlarged(map_colours(strong.anomaly_map, scale_max=1.0), 4))


def test_the_header_holds_the_whole_colour_scale(tmp_path):
    header = sheet_of(tmp_path, make_case())[:TOP].reshape(-1, 3)
    scale = map_colours(np.linspace(0.01, 1, 64, dtype=np.float32)[None], scale_max=1.0)[0]
    assert {tuple(colour) for colour in scale.tolist()} <= {tuple(pixel) for pixel in header.tolist()}


def test_a_column_nobody_can_fill_is_left_out(tmp_path):
    full = sheet_of(tmp_path, make_case())
    bare = sheet_of(tmp_path, make_case(pseudo_healthy=None, reference=None))
    assert full.shape[1] - bare.shape[1] == 2 * STRIDE
    np.testing.assert_array_equal(cell(bare, 0, 1), cell(full, 0, 2))


def test_a_missing_annotation_is_said_and_never_shown_as_an_empty_mask(tmp_path):
    unannotated = make_case(reference=None)
    lesion_free = make_case(reference=np.zeros((64, 64), dtype=bool))
    sheet = sheet_of(tmp_path, make_case(), unannotated, lesion_free)
    np.testing.assert_array_equal(cell(sheet, 2, 4), cell(sheet, 2, 0))
    words = cell(sheet, 1, 4)
    assert not np.array_equal(words, cell(sheet, 1, 0))
    assert (words.max(axis=-1) > 100).any()


def test_one_strong_pixel_of_a_large_image_survives_shrinking(tmp_path):
    anomaly_map, reference = np.zeros((1000, 700), np.float32), np.zeros((1000, 700), dtype=bool)
    anomaly_map[501, 333], reference[501, 333] = 1.0, True
    case = SheetCase(caption="", pixels=np.full((1000, 700), -1, np.float32), anomaly_map=anomaly_map, reference=reference)
    sheet = sheet_of(tmp_path, case)
    brightest = map_colours(np.ones((1, 1), np.float32), scale_max=1.0)[0, 0]
    assert in_colour(cell(sheet, 0, 1), tuple(brightest)).sum() == 1
    assert in_colour(cell(sheet, 0, 2), PREDICTED).any()
    assert in_colour(cell(sheet, 0, 3), REFERENCE).any()


def test_shrinking_does_not_darken_the_last_incomplete_block(tmp_path):
    white = np.ones((257, 257), np.float32)
    sheet = sheet_of(tmp_path, SheetCase(caption="", pixels=white, anomaly_map=white * 0))
    shown = cell(sheet, 0, 0)
    assert (shown == 255).all(-1).sum() == (129) ** 2


def test_cases_of_different_sizes_share_a_sheet(tmp_path):
    sheet = sheet_of(tmp_path, make_case(64), make_case(100), make_case(400))
    assert sheet.shape[0] == TOP + 3 * STRIDE - 8 + 20


@pytest.mark.parametrize(
    "caption", ["costs $5 and $6_a$", "two\nlines", "", "word " * 200, "W" * 500, r"\frac{1}{0} $\nonsense$"]
)
def test_any_caption_is_drawn_inside_its_own_column_and_row(tmp_path, caption):
    plain = sheet_of(tmp_path, make_case(caption=""), make_case(caption=""))
    sheet = sheet_of(tmp_path, make_case(caption=caption), make_case(caption=""))
    changed = (sheet != plain).any(-1)
    assert changed.any() == bool(caption)
    assert not changed[:TOP].any()
    assert not changed[TOP + CELL :].any()
    assert not changed[:, LEFT:].any()


def test_a_long_title_stays_clear_of_the_colour_scale(tmp_path):
    plain, titled = (sheet_of(tmp_path, make_case(), title=title, unit="u") for title in ("", "W" * 300))
    bar_left = plain.shape[1] - 20 - 420
    changed = (plain != titled).any(-1)
    assert changed.any()
    assert not changed[:, bar_left:].any()


def test_a_sheet_without_cases_is_refused(tmp_path):
    with pytest.raises(InputError, match="at least one case"):
        sheet_of(tmp_path)


def test_more_cases_than_a_picture_can_hold_are_refused_with_advice(tmp_path):
    with pytest.raises(InputError, match="several sheets"):
        sheet_of(tmp_path, *[make_case()] * 260)


def test_cells_too_small_for_their_headings_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="192"):
        sheet_of(tmp_path, make_case(), cell_px=100)


@pytest.mark.parametrize("name", ["anomaly_map", "pseudo_healthy", "reference"])
def test_arrays_of_another_size_than_the_image_are_refused(tmp_path, name):
    with pytest.raises(InputError, match=name):
        sheet_of(tmp_path, make_case(**{name: np.zeros((64, 63), dtype=bool if name == "reference" else np.float32)}))


def test_a_negative_value_is_refused_even_where_shrinking_would_hide_it(tmp_path):
    case = make_case(600)
    case.anomaly_map[0, 0] = -1
    with pytest.raises(InputError, match="goes down to -1"):
        sheet_of(tmp_path, case)
    assert not (tmp_path / "sheet.png").exists()

import numpy as np
import pydicom
import pytest
from io_builders import ramp, write_dicom
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from medanomaly.errors import InputError
from medanomaly.io.reader import ReadOptions, read_image


def lut(first, bits, entries, vr="US"):
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 2**16, first, bits])
    item.add_new("LUTData", vr, np.asarray(entries, "<u2").tobytes() if vr == "OW" else np.asarray(entries).tolist())
    return item


STORED = np.linspace(0, 4095, 40 * 60).astype(np.uint16).reshape(40, 60)


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("rescale", [{}, {"RescaleSlope": 2, "RescaleIntercept": -1024}])
@pytest.mark.parametrize(("center", "width"), [(2000, 1500), (100.5, 1), (0, 9000)])
def test_windows_agree_with_pydicom_where_it_follows_the_standard(tmp_path, function, rescale, center, width):
    tags = {"WindowCenter": center, "WindowWidth": width, **rescale} | ({"VOILUTFunction": function} if function else {})
    path = write_dicom(tmp_path / "w.dcm", STORED, BitsStored=12, **tags)
    image = read_image(path)
    dataset = pydicom.dcmread(path)
    with np.errstate(over="ignore"):  # pydicom's SIGMOID far below the window: 1 / (1 + inf) is the right 0
        expected = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    np.testing.assert_allclose(image.pixels[0], expected, rtol=1e-5, atol=2e-3)
    low, high = (-1024, 4095 * 2 - 1024) if rescale else (0, 4095)
    assert image.value_range == (low, high)
    assert low <= image.pixels.min()
    assert image.pixels.max() <= high


def test_the_window_of_a_negative_slope_is_not_turned_over(tmp_path):
    tags = {"RescaleSlope": -1, "RescaleIntercept": 4095}
    windowed = read_image(write_dicom(tmp_path / "w.dcm", STORED, BitsStored=12, WindowCenter=2048, WindowWidth=4096, **tags))
    plain = read_image(write_dicom(tmp_path / "p.dcm", STORED, BitsStored=12, **tags))
    np.testing.assert_array_equal(plain.pixels[0], 4095 - STORED.astype(np.float32))
    np.testing.assert_allclose(windowed.pixels, plain.pixels, atol=1e-3)
    assert windowed.value_range == plain.value_range == (0, 4095)


@pytest.mark.parametrize("index", [0, 1])
def test_the_chosen_window_is_applied_and_one_too_many_is_refused(tmp_path, index):
    path = write_dicom(tmp_path / "w.dcm", STORED, BitsStored=12, WindowCenter=[500, 3000], WindowWidth=[100, 200])
    image = read_image(path, ReadOptions(window_index=index))
    edge = [500, 3000][index]
    assert image.pixels[0][edge - 200 > STORED].max() == 0
    assert image.pixels[0][edge + 200 < STORED].min() == 4095
    with pytest.raises(InputError, match="2 windows") as caught:
        read_image(path, ReadOptions(window_index=2))
    assert caught.value.code == "E_WINDOW"


def test_without_voi_the_values_are_only_rescaled(tmp_path):
    path = write_dicom(tmp_path / "w.dcm", STORED, BitsStored=12, WindowCenter=500, WindowWidth=100)
    image = read_image(path, ReadOptions(voi="none"))
    np.testing.assert_array_equal(image.pixels[0], STORED)
    assert image.value_range == (0, 4095)


@pytest.mark.parametrize(
    "tags",
    [
        {"WindowCenter": 5, "WindowWidth": 0},
        {"WindowCenter": 5, "WindowWidth": 0.5},
        {"WindowCenter": 5, "WindowWidth": -10},
        {"WindowCenter": 5, "WindowWidth": 0, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 5},
        {"WindowCenter": [5, 6], "WindowWidth": 10},
    ],
)
def test_a_window_that_cannot_be_meant_is_left_out_and_told(tmp_path, tags):
    image = read_image(write_dicom(tmp_path / "w.dcm", STORED, **tags))
    np.testing.assert_array_equal(image.pixels[0], STORED)
    assert any("not applied" in note for note in image.notes)


def test_an_unknown_voi_function_is_refused(tmp_path):
    path = write_dicom(tmp_path / "w.dcm", STORED, WindowCenter=5, WindowWidth=10, VOILUTFunction="CUBIC")
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert caught.value.code == "E_WINDOW"


@pytest.mark.parametrize(
    ("tags", "expected", "note"),
    [
        ({}, 3071, None),
        ({"RescaleSlope": 2, "RescaleIntercept": 5}, 6147, None),
        ({"RescaleSlope": 2}, 6142, "RescaleIntercept is missing and counts as 0"),
        ({"RescaleSlope": 2, "RescaleIntercept": ""}, 6142, "RescaleIntercept is missing and counts as 0"),
        ({"RescaleIntercept": 5}, 3076, "RescaleSlope is missing and counts as 1"),
        ({"RescaleSlope": -2, "RescaleIntercept": 5}, -6137, None),
        ({"RescaleSlope": "1e-2", "RescaleIntercept": "0"}, 30.71, None),
    ],
)
def test_rescale_is_applied_and_a_missing_half_of_it_is_told(tmp_path, tags, expected, note):
    image = read_image(write_dicom(tmp_path / "r.dcm", np.full((2, 2), 3071, np.uint16), BitsStored=12, **tags))
    np.testing.assert_allclose(image.pixels, expected, rtol=1e-6)
    assert image.value_range[0] <= expected <= image.value_range[1]
    assert [each for each in image.notes if "counts as" in each] == ([note] if note else [])


@pytest.mark.parametrize("value", [b"0 ", b"nan ", b"-inf", b"1e400 ", b"1\\2 "])
def test_a_slope_that_is_zero_or_not_one_finite_number_is_refused(tmp_path, value):
    path = write_dicom(tmp_path / "r.dcm", STORED, RescaleSlope="7", RescaleIntercept="0")
    content = path.read_bytes()
    element = b"\x28\x00\x53\x10DS\x02\x007 "
    assert element in content
    path.write_bytes(content.replace(element, element[:6] + len(value).to_bytes(2, "little") + value))
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert caught.value.code == "E_RESCALE"


@pytest.mark.parametrize("vr", ["US", "OW"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_voi_lut_is_looked_up_and_clamped_at_both_ends(tmp_path, vr, syntax):
    entries = np.arange(1000, 1256)
    item = lut(100, 12, entries, vr)
    stored = STORED
    if syntax == ExplicitVRBigEndian:
        stored = STORED.astype(">u2")
        if vr == "OW":
            item.LUTData = entries.astype(">u2").tobytes()
    image = read_image(write_dicom(tmp_path / "l.dcm", stored, syntax, BitsStored=12, VOILUTSequence=[item]))
    np.testing.assert_array_equal(image.pixels[0], entries[np.clip(STORED.astype(int) - 100, 0, 255)])
    assert image.value_range == (0, 4095)
    assert "VOI LUT applied" in image.notes


def test_an_8_bit_voi_lut_of_deeper_values_does_not_wrap(tmp_path):
    entries = np.arange(4096) // 16
    image = read_image(write_dicom(tmp_path / "l.dcm", STORED, BitsStored=12, VOILUTSequence=[lut(0, 8, entries)]))
    np.testing.assert_array_equal(image.pixels[0], STORED // 16)
    assert image.value_range == (0, 255)


def test_a_modality_lut_comes_before_the_window(tmp_path):
    entries = 255 - np.arange(256)
    path = write_dicom(tmp_path / "l.dcm", ramp(), ModalityLUTSequence=[lut(0, 8, entries)], WindowCenter=128, WindowWidth=256)
    image = read_image(path)
    np.testing.assert_allclose(image.pixels[0], 255 - ramp().astype(np.float32), atol=1e-3)
    assert image.value_range == (0, 255)


@pytest.mark.parametrize("entries", [np.arange(10), np.arange(256) * 2])
def test_a_lut_that_contradicts_its_descriptor_is_refused(tmp_path, entries):
    item = lut(0, 8, entries)
    item.LUTDescriptor = [256, 0, 8]
    with pytest.raises(InputError) as caught:
        read_image(write_dicom(tmp_path / "l.dcm", ramp(), VOILUTSequence=[item]))
    assert caught.value.code == "E_LUT"

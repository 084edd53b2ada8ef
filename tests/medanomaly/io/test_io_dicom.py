import io

import numpy as np
import pydicom
import pytest
from io_builders import PATIENT_NAME, dicom_dataset, ramp, write_dicom, write_encapsulated_dicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from medanomaly.errors import InputError
from medanomaly.io.reader import ReadLimits, ReadOptions, read_image, read_mask


def refused(path, **options):
    with pytest.raises(InputError) as caught:
        read_image(path, ReadOptions(**options))
    assert "Secret" not in str(caught.value)
    assert "SECRET" not in str(caught.value)
    return caught.value


def code_stream(pixels, kind):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=kind)
    return stream.getvalue()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_every_native_transfer_syntax_gives_the_stored_values(tmp_path, syntax):
    stored = ramp().astype(np.uint16) * 200
    dataset = dicom_dataset(stored, syntax)
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = stored.astype(">u2").tobytes()
    dataset.save_as(tmp_path / "native.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read_image(tmp_path / "native.dcm").pixels[0], stored)


def test_monochrome1_reads_like_the_same_picture_stored_as_monochrome2(tmp_path):
    stored = ramp().astype(np.uint16) * 10
    positive = read_image(write_dicom(tmp_path / "m2.dcm", stored, BitsStored=12))
    negative = read_image(write_dicom(tmp_path / "m1.dcm", 4095 - stored, BitsStored=12, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(negative.pixels, positive.pixels)
    assert negative.value_range == positive.value_range == (0, 4095)
    assert "MONOCHROME1 inverted" in negative.notes


def test_monochrome1_is_inverted_after_the_window(tmp_path):
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    window = {"WindowCenter": 64, "WindowWidth": 128}
    plain = read_image(write_dicom(tmp_path / "m2.dcm", stored, **window))
    inverted = read_image(write_dicom(tmp_path / "m1.dcm", stored, PhotometricInterpretation="MONOCHROME1", **window))
    np.testing.assert_allclose(inverted.pixels, 255 - plain.pixels, atol=1e-4)
    assert inverted.pixels[0, 15, 15] == 0, "the window's white turned black"


def test_garbage_above_bits_stored_is_masked_and_the_sign_is_kept(tmp_path):
    values = np.int16([[-2048, -1], [0, 2047]])
    unsigned = (np.uint16([[0, 1], [2048, 4095]])) | np.uint16(0xA000)
    signed = (values.astype(np.uint16) & np.uint16(0x0FFF)).view(np.int16)
    plain = read_image(write_dicom(tmp_path / "unsigned.dcm", unsigned, BitsStored=12))
    np.testing.assert_array_equal(plain.pixels[0], [[0, 1], [2048, 4095]])
    signed_image = read_image(write_dicom(tmp_path / "signed.dcm", signed, BitsStored=12))
    np.testing.assert_array_equal(signed_image.pixels[0], values)
    assert signed_image.value_range == (-2048, 2047)


def test_only_the_photometric_interpretation_inverts(tmp_path):
    for photometric, inverted in (("MONOCHROME1", True), ("MONOCHROME2", False)):
        for shape in ("IDENTITY", "INVERSE"):
            tags = {"PhotometricInterpretation": photometric, "PresentationLUTShape": shape}
            image = read_image(write_dicom(tmp_path / "p.dcm", ramp(), **tags))
            np.testing.assert_array_equal(image.pixels[0], 255 - ramp() if inverted else ramp())
            assert any("contradicts" in note for note in image.notes) == (not inverted and shape == "INVERSE")


def test_a_16_bit_ramp_keeps_every_value(tmp_path):
    stored = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = read_image(write_dicom(tmp_path / "ramp.dcm", stored))
    np.testing.assert_array_equal(image.pixels[0], stored)
    assert image.value_range == (0, 65535)


@pytest.mark.parametrize(
    ("kind", "syntax"), [("JPEG", JPEGBaseline8Bit), ("JPEG2000", JPEG2000Lossless)], ids=["jpeg", "jpeg2000"]
)
def test_compressed_frames_are_decoded(tmp_path, kind, syntax):
    path = write_encapsulated_dicom(tmp_path / "small.dcm", ramp(), code_stream(ramp(), kind), syntax)
    tolerance = 4 if kind == "JPEG" else 0
    np.testing.assert_allclose(read_image(path).pixels[0], ramp(), atol=tolerance)


def test_rle_is_decoded(tmp_path):
    dataset = dicom_dataset(ramp())
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(tmp_path / "rle.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read_image(tmp_path / "rle.dcm").pixels[0], ramp())


def test_a_compressed_frame_cut_short_is_refused(tmp_path):
    content = code_stream(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8), "JPEG")
    stored = np.zeros((64, 64), np.uint8)
    path = write_encapsulated_dicom(tmp_path / "cut.dcm", stored, content[: len(content) // 2], JPEGBaseline8Bit)
    assert refused(path).code == "E_TRUNCATED"
    path = write_encapsulated_dicom(tmp_path / "cut.dcm", stored, content, JPEGBaseline8Bit)
    path.write_bytes(path.read_bytes()[: -len(content) // 2])
    assert refused(path).code in ("E_TRUNCATED", "E_NO_PIXELS")


def test_a_code_stream_larger_than_its_header_is_refused_undecoded(tmp_path):
    bomb = code_stream(np.zeros((4000, 4000), np.uint8), "JPEG")
    error = refused(write_encapsulated_dicom(tmp_path / "bomb.dcm", np.zeros((48, 64), np.uint8), bomb, JPEGBaseline8Bit))
    assert error.code == "E_MALFORMED"
    assert "4000 x 4000" in str(error)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, HTJ2KLossless, MPEG2MPML, "1.2.3.4.5"])
def test_a_missing_decoder_is_named_with_what_to_install(tmp_path, syntax, monkeypatch):
    # As on a machine without plugins, whatever this one has.
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    dataset = dicom_dataset(ramp())
    dataset.PixelData = pydicom.encaps.encapsulate([bytes(100)])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(tmp_path / "codec.dcm", enforce_file_format=True, implicit_vr=False, little_endian=True)
    error = refused(tmp_path / "codec.dcm")
    assert error.code == "E_CODEC"
    assert str(syntax) in str(error)
    assert "pylibjpeg" in str(error)


def test_a_deflated_file_is_refused_before_it_is_inflated(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "bomb.dcm", np.zeros((4000, 4000), np.uint8), DeflatedExplicitVRLittleEndian)
    assert path.stat().st_size < 70_000
    monkeypatch.setattr("zlib.decompress", None)
    monkeypatch.setattr("zlib.decompressobj", None)
    assert refused(path).code == "E_LIMIT"


@pytest.mark.parametrize("rows", [20, 80])
def test_rows_that_disagree_with_the_pixel_data_are_refused(tmp_path, rows):
    error = refused(write_dicom(tmp_path / "rows.dcm", ramp(), Rows=rows))
    assert error.code == ("E_TRUNCATED" if rows > 40 else "E_MALFORMED")


def test_an_odd_number_of_bytes_may_be_padded(tmp_path):
    stored = np.arange(15, dtype=np.uint8).reshape(3, 5)
    np.testing.assert_array_equal(read_image(write_dicom(tmp_path / "odd.dcm", stored)).pixels[0], stored)


@pytest.mark.parametrize("name", ["SOPClassUID", "Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored"])
def test_a_missing_attribute_is_named(tmp_path, name):
    error = refused(write_dicom(tmp_path / "missing.dcm", ramp(), **{name: None}))
    assert error.code == "E_HEADER"
    assert name in str(error)


@pytest.mark.parametrize(
    "tags", [{"HighBit": 6}, {"BitsStored": 9}, {"SamplesPerPixel": 3}, {"Rows": 0}, {"PixelRepresentation": 2}]
)
def test_a_header_that_contradicts_itself_is_refused(tmp_path, tags):
    assert refused(write_dicom(tmp_path / "odd.dcm", ramp(), **tags)).code == "E_HEADER"


@pytest.mark.parametrize("photometric", [None, "", "MONOCHROME3"])
def test_a_missing_or_unknown_photometric_interpretation_is_an_error(tmp_path, photometric):
    assert refused(write_dicom(tmp_path / "p.dcm", ramp(), PhotometricInterpretation=photometric)).code == "E_PHOTOMETRIC"


def test_a_file_cut_inside_its_header_has_no_pixels(tmp_path):
    path = write_dicom(tmp_path / "cut.dcm", ramp())
    path.write_bytes(path.read_bytes()[:500])
    assert refused(path).code in ("E_NO_PIXELS", "E_TRUNCATED")


def test_a_pdf_object_is_named_and_refused(tmp_path):
    path = write_dicom(tmp_path / "report.dcm", ramp(), PixelData=None, SOPClassUID=EncapsulatedPDFStorage)
    error = refused(path)
    assert error.code == "E_NO_PIXELS"
    assert "Encapsulated PDF" in str(error)


@pytest.mark.parametrize("depth", [300, 2000])
def test_sequences_nested_beyond_the_stack_do_not_escape_as_recursion_errors(tmp_path, depth):
    path = write_dicom(tmp_path / "nested.dcm", ramp())
    content = path.read_bytes()
    begin = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    end = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    # After SOPInstanceUID, so that tags stay in order.
    at = content.index(b"\x10\x00\x10\x00PN")
    path.write_bytes(content[:at] + begin * depth + end * depth + content[at:])
    assert refused(path).code == "E_MALFORMED"


def test_frames_must_be_chosen_and_the_chosen_one_is_read(tmp_path):
    stored = np.stack([ramp(), 255 - ramp(), ramp() // 2])
    path = write_dicom(tmp_path / "cine.dcm", stored)
    error = refused(path)
    assert error.code == "E_MULTIFRAME"
    assert "3 frames" in str(error)
    for index in range(3):
        np.testing.assert_array_equal(read_image(path, ReadOptions(frame=index)).pixels[0], stored[index])
    assert refused(path, frame=3).code == "E_MULTIFRAME"
    assert refused(path, frame=0, limits=ReadLimits(frames=2)).code == "E_LIMIT"


@pytest.mark.parametrize("count", [0, -3, 10**6])
def test_a_number_of_frames_that_cannot_be_is_refused(tmp_path, count):
    assert refused(write_dicom(tmp_path / "frames.dcm", ramp(), NumberOfFrames=count)).code in ("E_HEADER", "E_LIMIT")


def test_the_rescale_of_an_enhanced_object_is_that_of_the_chosen_frame(tmp_path):
    def groups(slope, spacing):
        rescale, measures, item = Dataset(), Dataset(), Dataset()
        rescale.RescaleSlope, rescale.RescaleIntercept = slope, 1
        measures.PixelSpacing = [spacing, spacing]
        item.PixelValueTransformationSequence, item.PixelMeasuresSequence = [rescale], [measures]
        return item

    shared = groups(7, 0.5)
    del shared.PixelValueTransformationSequence
    per_frame = [groups(2, 1), groups(3, 1)]
    for item in per_frame:
        del item.PixelMeasuresSequence
    path = write_dicom(
        tmp_path / "enhanced.dcm",
        np.stack([ramp(), ramp()]),
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=per_frame,
    )
    for index, slope in enumerate((2, 3)):
        image = read_image(path, ReadOptions(frame=index))
        np.testing.assert_array_equal(image.pixels[0], ramp().astype(np.float32) * slope + 1)
        assert image.spacing_mm == (0.5, 0.5)


def test_true_colour_is_refused_unless_allowed(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    path = write_dicom(tmp_path / "rgb.dcm", rgb)
    assert refused(path).code == "E_COLOR"
    np.testing.assert_array_equal(read_image(path, ReadOptions(channels=3)).pixels, np.moveaxis(rgb, 2, 0))
    luma = read_image(path, ReadOptions(allow_color=True))
    np.testing.assert_allclose(luma.pixels[0], rgb @ np.array([0.299, 0.587, 0.114]), rtol=1e-5)
    assert luma.value_range == (0, 255)
    gray = write_dicom(tmp_path / "gray.dcm", np.repeat(ramp()[..., None], 3, axis=2))
    np.testing.assert_array_equal(read_image(gray).pixels[0], ramp())


def test_ybr_is_turned_into_rgb(tmp_path):
    ybr = np.full((4, 4, 3), (76, 85, 255), np.uint8)  # red
    path = write_dicom(tmp_path / "ybr.dcm", ybr, PhotometricInterpretation="YBR_FULL")
    assert refused(path).code == "E_COLOR"
    np.testing.assert_allclose(read_image(path, ReadOptions(channels=3)).pixels[:, 0, 0], [254, 0, 0], atol=1)


def test_a_palette_is_looked_up_and_its_indices_are_never_brightness(tmp_path):
    tables = {}
    for name, entries in {"Red": [0, 50, 9, 4], "Green": [0, 60, 8, 3], "Blue": [0, 70, 7, 2]}.items():
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [4, 0, 16]
        tables[f"{name}PaletteColorLookupTableData"] = np.uint16(entries).tobytes()
    indices = np.uint8([[0, 1], [2, 3]])
    path = write_dicom(tmp_path / "palette.dcm", indices, PhotometricInterpretation="PALETTE COLOR", **tables)
    assert refused(path).code == "E_COLOR"
    image = read_image(path, ReadOptions(channels=3))
    np.testing.assert_array_equal(image.pixels, [[[0, 50], [9, 4]], [[0, 60], [8, 3]], [[0, 70], [7, 2]]])
    assert image.value_range == (0, 65535)


def test_float_pixel_data_is_kept_and_nan_in_it_is_refused(tmp_path):
    values = ramp().astype(np.float32) / 7
    dataset = dicom_dataset(values, BitsStored=None, HighBit=None, PixelRepresentation=None, PixelData=None)
    for first, code in ((0.0, None), (np.nan, "E_NONFINITE")):
        values[0, 0] = first
        dataset.FloatPixelData = values.tobytes()
        dataset.save_as(tmp_path / "float.dcm", enforce_file_format=True)
        if code is None:
            image = read_image(tmp_path / "float.dcm")
            np.testing.assert_array_equal(image.pixels[0], values)
            assert image.value_range is None
        else:
            assert refused(tmp_path / "float.dcm").code == code


def test_one_bit_masks_are_read(tmp_path):
    truth = ramp() % 3 == 0
    dataset = dicom_dataset(truth.astype(np.uint8), BitsAllocated=1, BitsStored=1, HighBit=0)
    dataset.PixelData = np.packbits(truth, bitorder="little").tobytes()
    dataset.save_as(tmp_path / "mask.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.dcm", native_size=(40, 60)), truth)


def test_spacing_prefers_the_patient_and_notes_the_detector(tmp_path):
    both = read_image(write_dicom(tmp_path / "a.dcm", ramp(), PixelSpacing=[0.2, 0.3], ImagerPixelSpacing=[0.5, 0.6]))
    assert both.spacing_mm == (0.2, 0.3)
    assert not any("detector" in note for note in both.notes)
    detector = read_image(write_dicom(tmp_path / "b.dcm", ramp(), ImagerPixelSpacing=[0.5, 0.6]))
    assert detector.spacing_mm == (0.5, 0.6)
    assert any("detector" in note for note in detector.notes)
    for unusable in ([0, 1], [-1, 1], [0.5], [0.5, 0.5, 0.5], ""):
        assert read_image(write_dicom(tmp_path / "c.dcm", ramp(), PixelSpacing=unusable)).spacing_mm is None
    assert read_image(write_dicom(tmp_path / "d.dcm", ramp())).spacing_mm is None


def test_burned_in_annotation_and_padding_are_noted_and_identity_never_is(tmp_path):
    path = write_dicom(tmp_path / "x.dcm", ramp(), BurnedInAnnotation="YES", PixelPaddingValue=0, PatientComments=PATIENT_NAME)
    image = read_image(path)
    assert any("BurnedInAnnotation" in note for note in image.notes)
    assert any("PixelPaddingValue 0" in note for note in image.notes)
    np.testing.assert_array_equal(image.pixels[0], ramp())
    assert not any("secret" in note.lower() for note in image.notes)


def test_a_library_message_that_quotes_an_element_stays_out_of_ours_and_out_of_the_log(tmp_path, caplog):
    # The patient's name where a number belongs.
    path = write_dicom(tmp_path / "x.dcm", ramp(), NumberOfFrames=1)
    content = path.read_bytes()
    element = b"\x28\x00\x08\x00IS\x02\x001 "
    name = PATIENT_NAME.encode()
    assert element in content
    path.write_bytes(content.replace(element, element[:6] + len(name).to_bytes(2, "little") + name))
    caplog.clear()
    assert refused(path).code == "E_MALFORMED"
    assert caplog.text == ""
    with pytest.warns(UserWarning, match="Secret"):
        assert pydicom.dcmread(path).NumberOfFrames, "pydicom itself tells"
    assert "Secret" in caplog.text


def test_the_result_shares_no_memory_with_pydicoms_cached_array(tmp_path):
    path = write_dicom(tmp_path / "x.dcm", ramp())
    first = read_image(path)
    first.pixels[:] = -1
    np.testing.assert_array_equal(read_image(path).pixels[0], ramp())

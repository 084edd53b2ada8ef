import errno
import warnings
import zlib

import pytest

from medanomaly.errors import InputError
from medanomaly.io.faults import library_faults


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (EOFError(), "E_TRUNCATED"),
        (OSError("image file is truncated (5 bytes not processed)"), "E_TRUNCATED"),
        (OSError(errno.EIO, "Input/output error"), "E_UNREADABLE"),
        (MemoryError(), "E_LIMIT"),
        (RecursionError("maximum recursion depth exceeded"), "E_MALFORMED"),
        (SyntaxError("broken PNG file"), "E_MALFORMED"),
        (zlib.error("invalid block type"), "E_MALFORMED"),
    ],
)
def test_whatever_a_library_raises_becomes_an_input_error_with_the_path(tmp_path, fault, code):
    with pytest.raises(InputError) as caught, library_faults(tmp_path / "x.png", "PNG"):
        raise fault
    assert caught.value.code == code
    assert "x.png" in str(caught.value)
    assert caught.value.message
    assert caught.value.__cause__ is fault


def test_our_own_errors_pass_unchanged(tmp_path):
    ours = InputError("is gray", code="E_OURS")
    with pytest.raises(InputError) as caught, library_faults(tmp_path, "PNG"):
        raise ours
    assert caught.value is ours


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), SystemExit()])
def test_a_request_to_stop_is_not_an_input_error(tmp_path, fault):
    with pytest.raises(type(fault)), library_faults(tmp_path, "PNG"):
        raise fault


def test_an_unquoted_message_names_the_fault_but_not_its_text(tmp_path):
    with pytest.raises(InputError, match="ValueError") as caught, library_faults(tmp_path, "DICOM", quote=False):
        raise ValueError("could not convert 'Secret^Patient'")
    assert "Secret" not in str(caught.value)


def test_a_message_stays_on_one_printable_line(tmp_path):
    with pytest.raises(InputError) as caught, library_faults(tmp_path, "PNG"):
        raise ValueError("first\nsecond\x1b[31m é")
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


def test_warnings_inside_are_dropped_and_outside_are_as_before(tmp_path):
    with library_faults(tmp_path, "DICOM"):
        warnings.warn("Invalid value for VR PN: 'Secret^Patient'", UserWarning, stacklevel=1)
    with pytest.warns(UserWarning, match="kept"):
        warnings.warn("kept", UserWarning, stacklevel=1)

import pytest

from medanomaly.errors import InputError
from medanomaly.io.limits import ReadLimits, check_frame_count, check_shape, regular_file_size


def test_the_defaults_are_those_of_the_contract():
    assert ReadLimits() == ReadLimits(pixels=64 * 1024**2, decoded_bytes=512 * 1024**2, frames=256)


@pytest.mark.parametrize("name", ["pixels", "decoded_bytes", "frames"])
def test_a_limit_below_one_is_refused(name):
    with pytest.raises(ValueError, match=name):
        ReadLimits(**{name: 0})


@pytest.mark.parametrize(
    ("rows", "columns", "frames", "bytes_per_pixel", "code"),
    [
        (10, 10, 1, 1, None),
        (10, 11, 1, 1, "E_LIMIT"),
        (10, 10, 10, 1, None),
        (10, 10, 10, 2, "E_LIMIT"),
        (10, 10, 11, 1, "E_LIMIT"),
        (10, 10, 80, 0.125, None),
        (0, 10, 1, 1, "E_HEADER"),
        (10, -1, 1, 1, "E_HEADER"),
        (10, 10, 0, 1, "E_HEADER"),
    ],
)
def test_a_shape_is_allowed_up_to_the_limits_and_not_beyond(tmp_path, rows, columns, frames, bytes_per_pixel, code):
    limits = ReadLimits(pixels=100, decoded_bytes=1000)
    arguments = {"frames": frames, "bytes_per_pixel": bytes_per_pixel}
    if code is None:
        check_shape(tmp_path, rows, columns, limits, **arguments)
        return
    with pytest.raises(InputError) as caught:
        check_shape(tmp_path, rows, columns, limits, **arguments)
    assert caught.value.code == code


def test_the_frame_count_is_allowed_up_to_the_limit(tmp_path):
    check_frame_count(tmp_path, 5, ReadLimits(frames=5))
    with pytest.raises(InputError, match="6 frames, the limit is 5"):
        check_frame_count(tmp_path, 6, ReadLimits(frames=5))


def test_a_file_larger_than_what_may_be_decoded_is_refused_unread(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(bytes(11))
    assert regular_file_size(path, ReadLimits(decoded_bytes=11)) == 11
    with pytest.raises(InputError) as caught:
        regular_file_size(path, ReadLimits(decoded_bytes=10))
    assert caught.value.code == "E_LIMIT"


def test_a_name_no_system_call_accepts_is_an_input_error(tmp_path):
    with pytest.raises(InputError) as caught:
        regular_file_size(tmp_path / "nul\0byte", ReadLimits())
    assert caught.value.code == "E_UNREADABLE"

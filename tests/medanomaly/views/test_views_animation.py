import io

import numpy as np
import pytest
import torch
from PIL import Image

from medanomaly.errors import ConfigError, InputError
from medanomaly.views.animation import FRAME_MS, LAST_MS, WalkRecorder, WalkStep, walk_gif

SIDE = 16


def steps(count: int, *, change: float = 0.5, channels: int = 1) -> list[WalkStep]:
    draws = np.random.default_rng(0)
    made = []
    for index in range(count):
        noise = draws.normal(size=(channels, SIDE, SIDE)).astype(np.float32)
        clean = np.full((channels, SIDE, SIDE), change * index / count, np.float32)
        made.append(WalkStep(level=index + 1, is_encoding=index < count / 2, x_t=noise, x_0=clean))
    return made


def forming(x_0: np.ndarray) -> np.ndarray:
    """Against an input of zeros."""
    return np.abs(x_0).sum(axis=0)


def made(count: int = 4, *, change: float = 0.5, channels: int = 1, **options: object) -> bytes:
    return walk_gif(
        np.zeros((channels, SIDE, SIDE), np.float32),
        steps(count, change=change, channels=channels),
        final_map=np.full((SIDE, SIDE), 0.25, np.float32),
        pseudo_healthy=np.zeros((channels, SIDE, SIDE), np.float32),
        scale_max=1.0,
        unit="units",
        forming=forming,
        **options,
    )


def frames(gif: bytes) -> list[np.ndarray]:
    with Image.open(io.BytesIO(gif)) as stored:
        found = []
        for index in range(stored.n_frames):
            stored.seek(index)
            found.append(np.asarray(stored.convert("RGB")))
        return found


def test_every_level_is_a_frame_and_the_result_is_held() -> None:
    gif = made(4)
    with Image.open(io.BytesIO(gif)) as stored:
        assert stored.format == "GIF"
        durations = []
        for index in range(stored.n_frames):
            stored.seek(index)
            durations.append(stored.info["duration"])
    assert durations == [FRAME_MS] * 4 + [LAST_MS]


def test_the_map_of_all_frames_has_one_scale() -> None:
    # |x - x_0| grows evenly and the colours only get lighter: no frame is stretched to its own largest value.
    cells = [frame[70:200, -150:-50].mean() for frame in frames(made(6, change=0.8))[:-1]]
    assert cells == sorted(cells)
    assert cells[0] < 5
    faint = [frame[70:200, -150:-50].mean() for frame in frames(made(6, change=0.1))[:-1]]
    assert max(faint) < max(cells) / 2


def test_frames_are_left_out_until_the_file_is_small_enough_and_the_result_never() -> None:
    whole = made(24)
    bound = len(whole) // 3
    smaller = made(24, max_bytes=bound)
    assert len(smaller) <= bound
    assert 2 <= len(frames(smaller)) < len(frames(whole))
    np.testing.assert_array_equal(frames(smaller)[-1], frames(whole)[-1])
    with pytest.raises(ConfigError, match="E_LIMIT"):
        made(24, max_bytes=100)


def test_a_colour_image_and_four_planes_can_be_shown() -> None:
    assert len(frames(made(2, channels=3))) == len(frames(made(2, channels=4))) == 3


def test_a_walk_without_a_step_is_refused() -> None:
    with pytest.raises(InputError, match="E_EMPTY"):
        made(0)


def test_the_recorder_keeps_copies_of_the_first_image_and_knows_up_from_down() -> None:
    recorder = WalkRecorder()
    x = torch.zeros(2, 1, 4, 4)
    for level in (10, 20, 10, 0):
        x[0] = level
        recorder(level, x, x + 1)
    assert [step.is_encoding for step in recorder.steps] == [True, True, False, False]
    assert [float(step.x_t.max()) for step in recorder.steps] == [10, 20, 10, 0]
    assert [float(step.x_0.max()) for step in recorder.steps] == [11, 21, 11, 1]
    assert recorder.steps[0].x_t.shape == (1, 4, 4)

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from medanomaly.errors import ConfigError, InputError
from medanomaly.views.reverse_gif import MOST_FRAMES, PER_ROW, ReverseRecorder, reverse_gif


def recorded(num_steps: int, *, channels: int = 1, last: float = 1.0) -> ReverseRecorder:
    """A walk of images that turn from black to ``last``; x_t at level 0 is the prediction."""
    recorder = ReverseRecorder(num_steps)
    for step in range(num_steps):
        x = torch.full((5, channels, 64, 64), -1.0 if step < num_steps - 1 else last)
        recorder(num_steps - 1 - step, x * 3, x)
    return recorder


def frames(content: bytes) -> list[np.ndarray]:
    with Image.open(io.BytesIO(content)) as animation:
        found = []
        for index in range(animation.n_frames):  # type: ignore[attr-defined]
            animation.seek(index)
            found.append(np.asarray(animation.convert("RGB")))
    return found


def test_the_last_frame_holds_the_images_and_long_walks_are_thinned_but_for_their_end() -> None:
    recorder = recorded(1000)
    assert len(recorder.steps) <= MOST_FRAMES + 1
    assert recorder.steps[-1].level == 0
    found = frames(reverse_gif([("a", recorder.steps), ("b", recorder.steps)], title="toys"))
    white = [int((frame == 255).all(axis=-1).sum()) for frame in found]
    assert white[-1] == 2 * 2 * PER_ROW * 64 * 64
    assert max(white[:-1]) == 0


def test_colours_stay_colours_and_grays_gray() -> None:
    yellow = recorded(3, channels=3)
    for step in yellow.steps:
        step.x_0[:, 2] = -1
    page = frames(reverse_gif([("a", yellow.steps)], title="toys"))[-1]
    assert int((page == (255, 255, 0)).all(axis=-1).sum()) == PER_ROW * 64 * 64
    gray = frames(reverse_gif([("a", recorded(3, last=0.1).steps)], title="toys"))[-1]
    assert (gray == gray[..., :1]).all()


def test_frames_are_left_out_where_the_file_would_be_too_large() -> None:
    steps = recorded(8).steps
    for step in steps:
        step.x_t[:] = np.random.default_rng(step.level).uniform(-1, 1, step.x_t.shape)
    whole = reverse_gif([("a", steps)], title="toys")
    small = reverse_gif([("a", steps)], title="toys", max_bytes=len(whole) // 2)
    assert len(small) <= len(whole) // 2
    assert (frames(small)[-1] == frames(whole)[-1]).all()
    with pytest.raises(ConfigError, match="E_LIMIT"):
        reverse_gif([("a", steps)], title="toys", max_bytes=100)
    with pytest.raises(InputError, match="E_EMPTY"):
        reverse_gif([("a", [])], title="toys")

"""Grids of validation images during training: seen by observers, without a trace in the run."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from toys import images, tiny_config, tiny_method

from medanomaly.evaluation.training_samples import SAMPLE_STEPS, quick, sample_grids
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.types import AnomalyResult, WalkObserver


class Album:
    """Keeps the pictures it is shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, int, Tensor]] = []

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        raise AssertionError("no numbers are expected")

    def images(self, name: str, step: int, x: Tensor) -> None:
        self.shown.append((name, step, x))


class Drawing:
    """A method that draws from PyTorch's own generator, as restoring a network does."""

    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
        return AnomalyResult(anomaly_map=torch.rand(len(x), 1, 16, 16), score=torch.rand(len(x)))


def test_observers_get_one_picture_in_model_space_with_the_step() -> None:
    album = Album()
    method = tiny_method()
    show = sample_grids(lambda: method, images(4), [album])
    show(7)
    ((name, step, grid),) = album.shown
    assert (name, step) == ("samples, map 0 to 1", 7)
    assert grid.shape[:2] == (1, 3)
    assert grid.min() >= -1
    assert grid.max() <= 1
    # Three columns of four images, each 128 px and a gap of 4.
    assert grid.shape[2] == 22 + 4 * 132
    assert grid.shape[3] > 3 * 132


def test_the_generator_of_the_run_stands_where_it_stood() -> None:
    before = torch.get_rng_state()
    sample_grids(Drawing, images(2), [Album()])(0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_failure_is_told_once_and_not_raised(capsys: pytest.CaptureFixture[str]) -> None:
    album, calls = Album(), []

    def short_of_memory() -> Drawing:
        calls.append(1)
        raise MemoryError("no room")

    show = sample_grids(short_of_memory, images(2), [album])
    show(0)
    show(1)
    assert len(calls) == 1
    assert album.shown == []
    assert capsys.readouterr().err == "warning: no more sample grids (MemoryError: no room)\n"


def test_quick_settings_have_few_steps_and_one_level() -> None:
    config = tiny_config(sampler=SamplerConfig(noise_level=400, num_steps=100, noise_levels=(200, 400)))
    assert (quick(config).sampler.num_steps, quick(config).sampler.noise_levels) == (SAMPLE_STEPS, None)
    short = tiny_config(sampler=SamplerConfig(noise_level=400, num_steps=3))
    assert quick(short) == short


def test_settings_without_a_sampler_stay() -> None:
    assert quick("a method of one pass") == "a method of one pass"

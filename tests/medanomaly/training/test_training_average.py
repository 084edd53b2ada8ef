from __future__ import annotations

import pytest
import torch

from medanomaly.training.average import moving_average


def test_the_moving_average_forgets_its_start_and_keeps_the_asked_decay_later() -> None:
    update = moving_average(0.999)
    average = torch.zeros(1)
    for count in range(1, 3501):
        update([average], [torch.ones(1)], count)
    # A constant decay of 0.999 would leave e^-3.5 = 0.03 of the start.
    assert 1 - float(average) < 1e-4
    late = torch.zeros(1)
    update([late], [torch.ones(1)], 100_000)
    assert float(late) == pytest.approx(0.001, rel=1e-4)


def test_the_moving_average_of_counters_is_the_latest_count() -> None:
    average = torch.tensor(3)
    moving_average(0.9)([average], [torch.tensor(8)], torch.tensor(50))
    assert int(average) == 8

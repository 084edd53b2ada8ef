from typing import Any

import pytest

from medanomaly.errors import ConfigError
from medanomaly.training.config import TrainingConfig, learning_rate

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "settings",
    [
        {"num_steps": 0},
        {"batch_size": 0},
        {"batch_size": -1},
        {"log_every": 0},
        {"validate_every": 0},
        {"save_every": 0},
        {"num_workers": -1},
        {"warmup_steps": -1},
        {"max_skipped": -1},
        {"learning_rate": 0.0},
        {"learning_rate": -1e-3},
        {"learning_rate": NAN},
        {"learning_rate": INF},
        {"ema_decay": 1.0},
        {"ema_decay": -0.1},
        {"weight_decay": -0.1},
        {"weight_decay": NAN},
        {"grad_clip": -1.0},
        {"grad_clip": NAN},
        {"decay": "cosin"},
        {"precision": "fp16"},
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(settings: dict[str, Any]) -> None:
    [(name, value)] = settings.items()
    with pytest.raises(ConfigError, match=f"training.{name}.*{value}"):
        TrainingConfig(**settings)


def test_the_rate_rises_in_equal_steps_to_its_peak() -> None:
    config = TrainingConfig(num_steps=100, warmup_steps=4, learning_rate=1.0)
    assert [learning_rate(step, config) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


@pytest.mark.parametrize(("decay", "middle", "last"), [("cosine", 0.5, 0.0), ("linear", 0.5, 0.0), ("none", 1.0, 1.0)])
def test_the_rate_falls_as_its_decay_says(decay: Any, middle: float, last: float) -> None:
    config = TrainingConfig(num_steps=104, warmup_steps=4, learning_rate=1.0, decay=decay)
    assert learning_rate(54, config) == pytest.approx(middle)
    assert learning_rate(104, config) == pytest.approx(last)
    rates = [learning_rate(step, config) for step in range(4, 105)]
    assert rates == sorted(rates, reverse=True)


def test_without_warm_up_the_first_step_has_the_peak_rate() -> None:
    assert learning_rate(0, TrainingConfig(warmup_steps=0, learning_rate=2e-4)) == 2e-4

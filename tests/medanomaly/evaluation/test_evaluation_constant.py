from __future__ import annotations

import torch
from toys import images, tiny_method

from medanomaly.evaluation.constant import blank_where_constant
from medanomaly.types import AnomalyResult


def test_an_image_of_one_value_gets_a_map_of_zeros_and_its_neighbours_keep_theirs() -> None:
    x = torch.cat([images(1), torch.full((1, 1, 16, 16), 0.3), images(1, seed=1)])
    raw = tiny_method().localize(x)
    assert float(raw.anomaly_map[1].max()) > 0
    found = blank_where_constant(x, raw)
    assert float(found.anomaly_map[1].abs().max()) == 0
    assert float(found.score[1]) == 0
    assert found.pseudo_healthy is not None
    assert torch.equal(found.pseudo_healthy[1], x[1])
    for index in (0, 2):
        assert torch.equal(found.anomaly_map[index], raw.anomaly_map[index])
        assert found.score[index] == raw.score[index]


def test_one_constant_channel_does_not_make_an_image_constant() -> None:
    x = torch.cat([torch.zeros(1, 1, 4, 4), images(1, side=4)], dim=1)
    result = AnomalyResult(anomaly_map=torch.ones(1, 1, 4, 4), score=torch.ones(1))
    assert blank_where_constant(x, result) is result
    both = torch.cat([torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)], dim=1)
    assert float(blank_where_constant(both, result).anomaly_map.max()) == 0


def test_the_spread_of_a_constant_image_is_zero_too() -> None:
    result = AnomalyResult(anomaly_map=torch.ones(1, 1, 4, 4), score=torch.ones(1), map_std=torch.ones(1, 1, 4, 4))
    found = blank_where_constant(torch.zeros(1, 1, 4, 4), result)
    assert found.map_std is not None
    assert float(found.map_std.max()) == 0

"""A device is one that computes."""

from __future__ import annotations

import pytest
import torch

from medanomaly.cli.device import choose_device
from medanomaly.errors import ResourceError


def test_auto_is_cuda_where_there_is_one_and_else_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["", "gpu", "cpu:x", "meta", "xpu", "hpu", "cuda:-1"])
def test_a_device_that_cannot_compute_here_is_refused_by_name(name: str) -> None:
    with pytest.raises(ResourceError) as caught:
        choose_device(name)
    assert caught.value.code == "E_DEVICE"
    assert "use --device cpu" in str(caught.value)

"""Sixteen bits are used only where they leave the map alone, and never touch the weights they came from."""

from __future__ import annotations

import pytest
import torch
from toys import images, tiny_method

from medanomaly.errors import ConfigError
from medanomaly.methods import precision
from medanomaly.methods.precision import choose_precision, in_precision

X = images(2)


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_the_copy_computes_in_16_bits_and_the_original_stays_as_it_was(name: str, dtype: torch.dtype) -> None:
    method = tiny_method()
    before = {key: value.clone() for key, value in method.denoiser.state_dict().items()}
    exact = method.localize(X)
    lowered = in_precision(method, name)  # type: ignore[arg-type]
    found = lowered.localize(X)
    assert {value.dtype for value in lowered.denoiser.parameters()} == {dtype}
    assert found.anomaly_map.dtype == torch.float32
    assert not torch.equal(found.anomaly_map, exact.anomaly_map)
    torch.testing.assert_close(found.anomaly_map, exact.anomaly_map, atol=0.05, rtol=0.05)
    assert all(torch.equal(value, before[key]) for key, value in method.denoiser.state_dict().items())
    assert torch.equal(method.localize(X).anomaly_map, exact.anomaly_map)


def test_a_format_that_changes_the_map_too_much_is_refused_by_name_and_passed_over_by_auto(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method = tiny_method()
    allowed = choose_precision(method, X, "bf16", tolerance=0.5)
    assert allowed.precision == "bf16"
    assert 1e-4 < allowed.relative_l2 < 0.1
    assert f"{100 * allowed.relative_l2:.2g} %" in allowed.why
    with pytest.raises(ConfigError, match=r"bf16 changes the map of 2 images by .* more than 0\.0001 %"):
        choose_precision(method, X, "bf16", tolerance=1e-6)
    monkeypatch.setattr(precision, "faster", lambda device: "bf16")
    fallen = choose_precision(method, X, "auto", tolerance=1e-6)
    assert fallen.method is method
    assert fallen.why.startswith("fp32: bf16 changes the map")
    assert choose_precision(method, X, "auto", tolerance=0.5).precision == "bf16"


def test_where_no_format_is_faster_auto_stays_and_fp32_is_the_method_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    method = tiny_method()
    monkeypatch.setattr(precision, "faster", lambda device: None)
    assert choose_precision(method, X, "auto").why == "fp32: this device has no faster 16-bit format"
    assert choose_precision(method, X, "fp32").method is method
    with pytest.raises(ConfigError, match="fp32, bf16, fp16, auto"):
        choose_precision(method, X, "int8")  # type: ignore[arg-type]

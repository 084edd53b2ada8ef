"""Compiled blocks give the map that they gave before, in a copy; what cannot be compiled is said in one line."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from toys import images, tiny_method

from baselines.brightness import Brightness
from medanomaly.errors import ConfigError, ResourceError
from medanomaly.methods import precision
from medanomaly.methods.compiled import BLOCKS, WORTH_IMAGES, compiles, num_blocks, with_compiled_blocks
from medanomaly.methods.precision import choose_precision

X = images(2)
CPU, GPU = torch.device("cpu"), torch.device("cuda")
traced = partial(with_compiled_blocks, backend="eager")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch._dynamo.reset()


def test_the_copys_blocks_are_compiled_and_the_original_stays_as_it_was() -> None:
    method = tiny_method()
    exact = method.localize(X).anomaly_map
    made = traced(method)
    blocks = [module for module in made.denoiser.modules() if isinstance(module, BLOCKS)]
    assert len(blocks) == num_blocks(method) > 3
    assert all(block._compiled_call_impl is not None for block in blocks)
    assert all(module._compiled_call_impl is None for module in method.denoiser.modules())
    torch._dynamo.utils.counters.clear()
    torch.testing.assert_close(made.localize(X).anomaly_map, exact, atol=1e-5, rtol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2
    assert torch.equal(method.localize(X).anomaly_map, exact)


def test_what_was_chosen_says_what_compiling_did_to_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "with_compiled_blocks", traced)
    found = choose_precision(tiny_method(), X, "bf16", compiled=True, tolerance=0.5)
    assert found.facts() == {"precision": "bf16", "compiled": True}
    assert "compiling its blocks took" in found.why
    assert found.why.startswith("bf16 changes the map of 2 images by")
    assert choose_precision(tiny_method(), X, "fp32", compiled=True).facts() == {"precision": "fp32", "compiled": True}
    assert choose_precision(tiny_method(), X, "fp32").facts() == {"precision": "fp32", "compiled": False}


def test_a_compilation_that_changes_the_map_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = tiny_method()
    with torch.no_grad():
        for parameter in other.denoiser.parameters():
            parameter.mul_(0.9)
    monkeypatch.setattr(precision, "with_compiled_blocks", lambda method: other)
    with pytest.raises(ConfigError, match=r"compiling its blocks .* more than 5 %") as caught:
        choose_precision(tiny_method(), X, "fp32", compiled=True)
    assert caught.value.code == "E_PRECISION"


def test_a_machine_that_cannot_compile_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: object, inputs: object) -> object:
        raise RuntimeError("no C++ compiler\nmore of it")

    monkeypatch.setattr(precision, "with_compiled_blocks", partial(with_compiled_blocks, backend=broken))
    with pytest.raises(ResourceError, match="cannot be compiled here") as caught:
        choose_precision(tiny_method(), X, "fp32", compiled=True)
    assert caught.value.code == "E_COMPILE"
    assert "\n" not in str(caught.value)


def test_a_method_without_networks_has_nothing_to_compile() -> None:
    with pytest.raises(ConfigError, match="no blocks to compile"):
        choose_precision(Brightness(), X, "fp32", compiled=True)


def test_auto_compiles_large_jobs_on_a_gpu_alone() -> None:
    method = tiny_method()
    assert compiles("auto", method, GPU, WORTH_IMAGES)
    assert not compiles("auto", method, GPU, WORTH_IMAGES - 1)
    assert not compiles("auto", method, CPU, 10**6)
    assert not compiles("auto", Brightness(), GPU, 10**6)
    assert compiles(True, method, CPU, 1)
    assert not compiles(False, method, GPU, 10**6)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_generated_code_gives_the_same_map() -> None:
    method = tiny_method()
    made = with_compiled_blocks(method)
    torch.testing.assert_close(made.localize(X).anomaly_map, method.localize(X).anomaly_map, atol=1e-5, rtol=1e-4)

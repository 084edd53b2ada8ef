"""Networks in 16 bits, and the measurement that allows it: what lower precision does to the map, before it is used."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from medanomaly.errors import ConfigError, ResourceError
from medanomaly.methods.compiled import num_blocks, with_compiled_blocks
from medanomaly.types import AnomalyMethod

Precision = Literal["fp32", "bf16", "fp16", "auto"]
"""Of a network's weights and activations; auto = 16 bits where the device computes them faster and the map stays, else fp32."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
TOLERANCE = 0.05
"""Largest relative L2 change of the map that is let pass; that of `fast` walks is held to 4 % (docs/performance.md)."""
CHECKED_IMAGES = 4
"""Images that the change is measured on."""

Method = TypeVar("Method", bound=AnomalyMethod)


@dataclass(frozen=True, slots=True)
class Lowered:
    """What was decided."""

    method: AnomalyMethod
    precision: str
    """fp32, bf16 or fp16."""
    compiled: bool
    """Whether its networks' blocks are compiled."""
    relative_l2: float
    """Of the map against fp32's on the checked images; 0 for fp32."""
    why: str
    """One line for the person."""

    def facts(self) -> dict[str, Any]:
        """How it computes, for the run's record."""
        return {"precision": self.precision, "compiled": self.compiled}


def in_precision(method: Method, precision: Literal["bf16", "fp16"]) -> Method:
    """A copy of the method whose networks compute in 16 bits; images, walks and maps stay in float32.

    The networks' weights are rounded in the copy alone: rounding them in place could not be undone.
    """
    lowered = copy.copy(method)
    for name, value in list(vars(method).items()):
        if isinstance(value, nn.Module):
            setattr(lowered, name, rounded(value, DTYPES[precision]))
    return lowered


def rounded(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy with weights in ``dtype`` that takes and gives float32."""

    def down(_network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return cast(args, dtype), {name: cast(value, dtype) for name, value in kwargs.items()}

    def up(_network: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        return cast(output, torch.float32)

    copied = copy.deepcopy(network).to(dtype)
    copied.register_forward_pre_hook(down, with_kwargs=True)
    copied.register_forward_hook(up)
    return copied


def cast(value: Any, dtype: torch.dtype) -> Any:
    """Floating tensors of ``value``, alone or in a tuple, in ``dtype``; whatever else as it is."""
    if isinstance(value, tuple):
        return tuple(cast(one, dtype) for one in value)
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def faster(device: torch.device) -> Literal["bf16", "fp16"] | None:
    """The 16-bit format that the device computes faster than float32; None where there is none."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "bf16"
    return None


def choose_precision(
    method: AnomalyMethod, x: Tensor, precision: Precision, *, compiled: bool = False, tolerance: float = TOLERANCE
) -> Lowered:
    """The method in the precision asked for, compiled or not, if the map allows it.

    Args:
        method: in float32.
        x: (B, C, H, W) images in [-1, 1] on the method's device; the first :data:`CHECKED_IMAGES` are localized twice.
        precision: auto falls back to fp32; a format that is named is refused instead.
        compiled: also compile the networks' blocks.
        tolerance: relative L2 change of the map that is let pass.

    Raises:
        ConfigError: E_PRECISION, the named format changes the map by more; E_CONFIG, an unknown name, or nothing to compile.
        ResourceError: E_COMPILE, the blocks cannot be compiled here.
    """
    chosen = choose_rounded(method, x, precision, tolerance)
    return choose_compiled(chosen, x, tolerance) if compiled else chosen


def choose_rounded(method: AnomalyMethod, x: Tensor, precision: Precision, tolerance: float) -> Lowered:
    """The method in the precision asked for, if the map allows it; arguments as of :func:`choose_precision`."""
    if precision not in get_args(Precision):
        raise ConfigError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}", code="E_CONFIG")
    wanted = faster(x.device) if precision == "auto" else precision
    if wanted is None or wanted == "fp32":
        why = "fp32" if precision == "fp32" else "fp32: this device has no faster 16-bit format"
        return Lowered(method, "fp32", False, 0.0, why)
    lowered = in_precision(method, wanted)
    change, on_images = changed(method, lowered, x)
    said = f"{wanted} changes the map of {on_images} by {100 * change:.2g} % (relative L2)"
    if change <= tolerance:
        return Lowered(lowered, wanted, False, change, said)
    if precision == "auto":
        return Lowered(method, "fp32", False, 0.0, f"fp32: {said}, more than {100 * tolerance:.2g} %")
    raise ConfigError(f"{said}, more than {100 * tolerance:.2g} %", code="E_PRECISION", fix="use --precision fp32")


def choose_compiled(chosen: Lowered, x: Tensor, tolerance: float) -> Lowered:
    """The chosen method with its blocks compiled, if the map allows it; arguments as of :func:`choose_precision`."""
    if num_blocks(chosen.method) == 0:
        raise ConfigError("this method's networks have no blocks to compile", code="E_CONFIG", fix="leave --compile out")
    made = with_compiled_blocks(chosen.method)
    start = time.perf_counter()
    try:
        change, on_images = changed(chosen.method, made, x)
    except torch._dynamo.exc.TorchDynamoException as error:
        raise ResourceError(
            f"the network cannot be compiled here: {str(error).strip().splitlines()[0]}",
            code="E_COMPILE",
            path=str(x.device),
            fix="install a C++ compiler (on a GPU: Triton), or leave --compile out",
        ) from error
    took = time.perf_counter() - start
    said = f"{chosen.why}; compiling its blocks took {took:.0f} s and changes the map of {on_images} by {100 * change:.2g} %"
    if change > tolerance:
        raise ConfigError(f"{said}, more than {100 * tolerance:.2g} %", code="E_PRECISION", fix="leave --compile out")
    return replace(chosen, method=made, compiled=True, why=said)


def changed(method: AnomalyMethod, other: AnomalyMethod, x: Tensor) -> tuple[float, str]:
    """(relative L2 of the other's maps against the method's on the first images, how many images in words)."""
    some = x[:CHECKED_IMAGES]
    exact, found = method.localize(some).anomaly_map, other.localize(some).anomaly_map
    change = float((found - exact).norm() / exact.norm().clamp(min=torch.finfo(torch.float32).tiny))
    return change, f"{len(some)} image{'s' if len(some) != 1 else ''}"

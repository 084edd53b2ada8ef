"""Which kernel, in one line of text: ``linear 1.8mm@30``, ``given psf.npy``, ``estimated``; and kernels from files."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from deblur.kernels import MAX_SIDE, centred, check_kernel, gaussian, identity, linear_motion, random_motion
from medanomaly.datasets.csv_rows import text_of
from medanomaly.errors import ConfigError, InputError
from medanomaly.io.reader import read_image

KernelKind = Literal["linear", "random", "gaussian", "identity", "estimated", "given"]

_FORMS = "write 'linear 10@30', 'linear 1.8mm@30', 'gaussian 2', 'random 10', 'identity', 'estimated' or 'given FILE'"
_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)"


@dataclass(frozen=True, kw_only=True)
class KernelSpec:
    """Which kernel, in words that can be written down; ``str`` gives the line that :func:`parse_kernel` reads back."""

    kind: KernelKind
    """Where the kernel comes from; 'estimated' is a request to the caller, who has the image."""
    extent: float = 0.0
    """linear: length; random: side of the kernel (a whole number); gaussian: standard deviation. In ``unit``."""
    unit: Literal["px", "mm"] = "px"
    """px of the image that is deblurred, or mm on the detector."""
    angle_deg: float = 0.0
    """linear: degrees counter-clockwise from the direction of growing columns, in the plane that ``unit`` measures."""
    path: Path | None = None
    """given: the kernel's file."""

    def __post_init__(self) -> None:
        fault = ""
        if self.kind not in get_args(KernelKind):
            fault = f"kernel kind {self.kind!r} is not known"
        elif not (math.isfinite(self.extent) and math.isfinite(self.angle_deg) and self.extent >= 0):
            fault = f"a kernel of {self.extent:g} {self.unit} at {self.angle_deg:g} degrees cannot be"
        elif (self.kind == "given") != (self.path is not None):
            fault = "a file belongs to a given kernel, and to no other"
        elif self.unit not in ("px", "mm") or (self.kind == "random" and (self.unit == "mm" or self.extent % 1)):
            fault = f"a {self.kind} kernel cannot be {self.extent:g} {self.unit}"
        if fault:
            raise ConfigError(fault, code="E_KERNEL", fix=_FORMS)

    def __str__(self) -> str:
        size = f"{self.extent:.12g}{'mm' if self.unit == 'mm' else ''}"
        tails = {
            "linear": f" {size}@{self.angle_deg:.12g}",
            "random": f" {size}",
            "gaussian": f" {size}",
            "given": f" {self.path}",
        }
        return self.kind + tails.get(self.kind, "")

    def build(self, spacing_mm: tuple[float, float] | None = None, generator: torch.Generator | None = None) -> Tensor:
        """The kernel in px.

        A given kernel is centred by whole px only: interpolation would change the blur, and a shift of half a pixel does not.

        Args:
            spacing_mm: (row, column) distance between the pixels that are blurred, after any resizing; needed for mm.
            generator: needed for a random kernel.

        Raises:
            ConfigError: E_SPACING for mm without a usable spacing; E_KERNEL for 'estimated', or random without a generator.
            InputError: what :func:`read_kernel` raises.
        """
        down_mm, right_mm = self._pixel_mm(spacing_mm)
        if self.kind == "linear":
            right = self.extent * math.cos(math.radians(self.angle_deg)) / right_mm
            up = self.extent * math.sin(math.radians(self.angle_deg)) / down_mm
            return linear_motion(math.hypot(right, up), math.degrees(math.atan2(up, right)))
        if self.kind == "gaussian":
            return gaussian((self.extent / down_mm, self.extent / right_mm))
        if self.kind == "given" and self.path is not None:
            return centred(read_kernel(self.path), whole_pixels=True)
        if self.kind == "random" and generator is not None:
            return random_motion(int(self.extent), generator)
        if self.kind == "identity":
            return identity()
        need = "a generator" if self.kind == "random" else "the image it is estimated from"
        raise ConfigError(f"a kernel '{self}' needs {need}", code="E_KERNEL", fix="give it, or name another kernel")

    def _pixel_mm(self, spacing_mm: tuple[float, float] | None) -> tuple[float, float]:
        """(row, column) size of a pixel in the spec's unit."""
        if self.unit == "px":
            return 1.0, 1.0
        if spacing_mm is None or not all(math.isfinite(step) and step > 0 for step in spacing_mm):
            raise ConfigError(
                f"the kernel '{self}' is in mm and the image's pixel spacing is {spacing_mm or 'not known'}",
                code="E_SPACING",
                fix="give the kernel in px, or the spacing in the manifest",
            )
        return spacing_mm


def parse_kernel(text: str) -> KernelSpec:
    """The kernel that a line names: ``linear LENGTH[mm]@DEGREES``, ``random SIDE``, ``gaussian SIGMA[mm]``, ``given FILE``,
    ``identity`` or ``estimated``; lengths are px unless mm is written.

    Raises:
        ConfigError: E_KERNEL with the forms that are understood.
    """
    kind, _, rest = text.strip().partition(" ")
    kind, rest = kind.lower(), rest.strip()
    if kind == "given" and rest:
        return KernelSpec(kind="given", path=Path(rest))
    if kind in ("identity", "estimated") and not rest:
        return KernelSpec(kind="identity" if kind == "identity" else "estimated")
    match = re.fullmatch(rf"(linear|random|gaussian) {_NUMBER} ?(mm|px)?(?: ?@ ?{_NUMBER})?", f"{kind} {rest}".lower())
    if match is None or (match[1] == "linear") != (match[4] is not None):
        raise ConfigError(f"no kernel is called {text!r}", code="E_KERNEL", fix=_FORMS)
    named: dict[str, KernelKind] = {"linear": "linear", "random": "random", "gaussian": "gaussian"}
    unit: Literal["px", "mm"] = "mm" if match[3] == "mm" else "px"
    return KernelSpec(kind=named[match[1]], extent=float(match[2]), unit=unit, angle_deg=float(match[4] or 0))


def read_kernel(path: Path) -> Tensor:
    """Kernel from a file, divided by its sum; the origin stays at ``size // 2``.

    A CSV or text file holds one row of numbers a line, separated by commas, semicolons, tabs or spaces. Everything else is read
    as a gray image (npy, PNG, TIFF): brightness is weight.

    Raises:
        InputError: E_KERNEL for values that make no kernel or a side above 255 px; what reading the file raises.
    """
    path = Path(path)
    is_text = path.suffix.lower() in (".csv", ".txt")
    weights = _numbers(path) if is_text else torch.from_numpy(read_image(path).pixels[0]).double()
    if max(weights.shape) > MAX_SIDE:
        raise InputError(
            f"is {tuple(weights.shape)} px, kernels have at most {MAX_SIDE} a side", code="E_KERNEL", path=path, fix="crop it"
        )
    total = float(weights.sum())
    try:
        return check_kernel(weights / total if math.isfinite(total) and total > 0 else weights)
    except InputError as error:
        raise InputError(error.message, code=error.code, path=path, fix=error.fix) from error


def _numbers(path: Path) -> Tensor:
    """(rows, columns) float64 from a text of numbers."""
    text = text_of(path)
    if "," in text and (";" in text or "\t" in text):
        # "0,1;0,2": decimal commas would become four numbers without a word.
        raise InputError(
            "separates with commas as well as semicolons or tabs", code="E_KERNEL", path=path, fix="write decimals with a point"
        )
    lines = [line.strip(" \t,;") for line in text.splitlines() if line.strip()]
    try:
        rows = [[float(cell) for cell in re.split(r"\s*[,;\t]\s*|\s+", line)] for line in lines]
    except ValueError as error:
        raise InputError("holds a cell that is not a number", code="E_KERNEL", path=path, fix="write numbers only") from error
    if len({len(row) for row in rows}) != 1:
        raise InputError("holds rows of different lengths", code="E_KERNEL", path=path, fix="write one row of the kernel a line")
    return torch.tensor(rows, dtype=torch.float64)

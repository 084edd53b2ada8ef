"""What the caller wants of an image file: how many channels, which frame, whether to window, what to do with NaN."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medanomaly.errors import InputError
from medanomaly.io.limits import ReadLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How to read an image; the defaults read one gray picture and refuse whatever would need a decision."""

    channels: int | None = 1
    """Planes of the result. 1 = gray; 3 keeps a colour image and repeats a gray one; another number is read from files with just
    that many planes (arrays, NIfTI with a fourth axis). None = as many as the file holds."""
    allow_color: bool = False
    """With channels = 1: turn true colour into luma instead of refusing it. Colour whose planes are equal is gray anyway."""
    frame: int | None = None
    """0-based frame (DICOM), page (TIFF), picture (animated PNG) or slice along the third axis (NIfTI); None = the only one."""
    voi: Literal["window", "none"] = "window"
    """DICOM: apply the file's VOI LUT or window (the display range), or keep the rescaled values."""
    window_index: int = 0
    """DICOM: which of the file's windows or VOI LUTs, 0-based."""
    nan_to: float | None = None
    """Value put in place of NaN and infinity; None = such an image is refused."""
    limits: ReadLimits = field(default_factory=ReadLimits)

    def __post_init__(self) -> None:
        if self.channels is not None and self.channels < 1:
            raise ValueError(f"channels must be 1 (gray), 3 (RGB) or another number of planes, got {self.channels!r}")
        if self.voi not in ("window", "none"):
            raise ValueError(f"voi must be 'window' or 'none', got {self.voi!r}")
        if self.frame is not None and self.frame < 0:
            raise ValueError(f"frame must be 0 or more, got {self.frame}")
        if self.window_index < 0:
            raise ValueError(f"window_index must be 0 or more, got {self.window_index}")
        if self.nan_to is not None and not math.isfinite(self.nan_to):
            raise ValueError(f"nan_to must be a finite number, got {self.nan_to}")


DEFAULT_OPTIONS = ReadOptions()


def chosen_frame(path: Path, count: int, options: ReadOptions, unit: str = "frames") -> int:
    """0-based index of the frame to read; a file with several is never read as its first in silence.

    Args:
        path: the file, for the message.
        count: how many it holds, at least 1.
        options: its ``frame`` is the caller's choice.
        unit: what the format calls them, in the plural.

    Raises:
        InputError: E_MULTIFRAME, with the count, when none was chosen or the chosen one does not exist.
    """
    if options.frame is None:
        if count == 1:
            return 0
        message = f"holds {count} {unit}, and none was chosen"
    elif options.frame < count:
        return options.frame
    else:
        message = f"holds {count} {unit}, so number {options.frame} does not exist"
    raise InputError(message, code="E_MULTIFRAME", path=path, fix=f"choose a frame in 0..{count - 1}")

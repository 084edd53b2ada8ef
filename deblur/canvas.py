"""A larger torus around a picture: room for the pixels outside of it that blur mixes into its border.

A detector sees a window of a larger scene. Pretending that the picture continues periodically makes deblurring worse than doing
nothing; here the blur is periodic on the canvas, whose margins are unknown, and a mask says where y was observed (Almeida &
Figueiredo 2013, arXiv:1210.2687). The same mask leaves out collimator borders and burned-in text.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deblur.kernels import Kernels, check_kernel
from medanomaly.errors import ConfigError, InputError


@dataclass(frozen=True, eq=False, kw_only=True)
class Canvas:
    """A larger torus around a picture, wide enough that blur never joins two of its borders. Made by :meth:`around`."""

    image_size: tuple[int, int]
    """(rows, columns) of the picture."""
    size: tuple[int, int]
    """(rows, columns) of the canvas."""
    before: tuple[int, int]
    """Rows above and columns left of the picture."""
    usable: Tensor | None = None
    """(rows, columns) or (B, 1, rows, columns) bool of the picture, True = the pixel follows the blur model; None = all do."""

    @classmethod
    def around(cls, image_size: tuple[int, int], kernel: Kernels, *, multiple: int = 8, usable: Tensor | None = None) -> Canvas:
        """Canvas whose margins hold every unseen pixel that blur brings into the picture.

        Args:
            image_size: (rows, columns) of the picture.
            kernel: what it is blurred with; none may be larger than the picture.
            multiple: sides are rounded up to a multiple of this; a network of L levels needs 2 ** (L - 1).
            usable: False at pixels to leave out of the data, such as collimator borders and burned-in text.

        Raises:
            InputError: E_KERNEL, or E_MASK for a mask of another size, not bool, or without a single usable pixel.
        """
        if multiple < 1:
            raise ConfigError(f"multiple must be at least 1, got {multiple}", code="E_CONFIG", fix="use 1")
        several = [kernel] if isinstance(kernel, Tensor) else list(kernel)
        sides = [check_kernel(one, image_size).shape for one in several]
        if usable is not None and (usable.shape[-2:] != image_size or usable.ndim not in (2, 4) or usable.dtype != torch.bool):
            raise InputError(
                f"the mask of usable pixels is {usable.dtype} {tuple(usable.shape)} for an image of {image_size}",
                code="E_MASK",
                fix="give bool (rows, columns), True where the pixel is to be used",
            )
        if usable is not None and not bool(usable.flatten(-2).any(-1).all()):
            raise InputError("the mask leaves no pixel to use", code="E_MASK", fix="True means use")
        # The picture sees kernel - 1 more rows than it has; with fewer, the same unseen row would have to explain both borders.
        # An even kernel reaches one row further down than up, so the odd row out belongs below.
        need = [image_size[axis] + max(shape[axis] for shape in sides) - 1 for axis in (0, 1)]
        rows, columns = (-(-side // multiple) * multiple for side in need)
        before = ((rows - image_size[0]) // 2, (columns - image_size[1]) // 2)
        return cls(image_size=image_size, size=(rows, columns), before=before, usable=usable)

    @property
    def mask(self) -> Tensor:
        """(1 or B, 1, rows, columns) bool, True where y was observed and is usable."""
        seen = torch.ones(1, 1, *self.image_size, dtype=torch.bool) if self.usable is None else self.usable
        seen = seen.reshape(-1, 1, *self.image_size)
        top, left = self.before
        canvas = seen.new_zeros(seen.shape[0], 1, *self.size)
        canvas[..., top : top + self.image_size[0], left : left + self.image_size[1]] = seen
        return canvas

    def place(self, y: Tensor) -> Tensor:
        """The picture (B, C, H, W) on the canvas, its border values continued outwards: a start, no data."""
        if y.ndim != 4 or y.shape[-2:] != self.image_size:
            raise InputError(
                f"images are {tuple(y.shape)}, the canvas is for (B, C, {self.image_size[0]}, {self.image_size[1]})",
                code="E_SHAPE",
                fix="make a canvas for this size",
            )
        top, left = self.before
        below, right = self.size[0] - top - y.shape[-2], self.size[1] - left - y.shape[-1]
        return torch.nn.functional.pad(y, (left, right, top, below), mode="replicate")

    def crop(self, x: Tensor) -> Tensor:
        """The picture's part of (..., canvas rows, canvas columns)."""
        top, left = self.before
        return x[..., top : top + self.image_size[0], left : left + self.image_size[1]]

"""Networks as they compute when nothing is learned: the same numbers up to rounding, less work."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from monai.networks.blocks import UpSample
from torch import Tensor, nn

TAPS = ((2,), (1, 2), (0, 1), (0,))
"""By each of the four taps of the transposed kernel along one axis: the taps of the 3-tap kernel that meet there."""

Network = TypeVar("Network", bound=nn.Module)


class FoldedUpsample(nn.Module):
    """Nearest-neighbour doubling and the 3 x 3 convolution after it as one transposed convolution: 4 / 9 of the multiplications.

    Enlarged pixels repeat, so neighbouring taps of the convolution often meet the same pixel, and their weights can be added
    beforehand (as in Odena et al. 2016, "Deconvolution and checkerboard artifacts", read backwards).
    """

    def __init__(self, postconv: nn.Module, convolution: nn.Conv2d) -> None:
        super().__init__()
        # Under its old name, so that the state and the count of parameters stay what they were.
        self.postconv = postconv
        # In a tuple, so that it is not registered a second time.
        self.convolution = (convolution,)
        self.register_buffer("kernel", folded(convolution.weight.detach()), persistent=False)
        self.kernel: Tensor

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:  # noqa: ARG002 (MONAI's blocks pass it)
        """(B, C, H, W) -> (B, C', 2H, 2W)."""
        return F.conv_transpose2d(x, self.kernel, self.convolution[0].bias, stride=2, padding=1)


def folded(weight: Tensor) -> Tensor:
    """(in, out, 4, 4) kernel of the transposed convolution for a (out, in, 3, 3) convolution of the doubled image."""
    kernel = weight.new_zeros((*weight.shape[:2], 4, 4))
    for row, rows in enumerate(TAPS):
        for column, columns in enumerate(TAPS):
            for i in rows:
                for j in columns:
                    kernel[:, :, row, column] += weight[:, :, i, j]
    return kernel.transpose(0, 1).contiguous()


def for_inference(network: Network, device: torch.device) -> Network:
    """The network on the device in eval mode, channels last, upsampling folded; changed in place and not to be trained on.

    Maps move by less than 1e-5 (docs/performance.md has the speeds). Gradients with regard to the input pass.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, UpSample) and (convolution := doubled_then_convolved(child)) is not None:
                setattr(module, name, FoldedUpsample(child.postconv, convolution))
    moved: Network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved.eval()


def doubled_then_convolved(block: UpSample) -> nn.Conv2d | None:
    """The convolution of a block that is nearest-neighbour doubling and one plain 3 x 3 convolution; None for any other."""
    parts = dict(block.named_children())
    upsample, postconv = parts.get("upsample_non_trainable"), parts.get("postconv")
    if set(parts) != {"upsample_non_trainable", "postconv"} or not isinstance(upsample, nn.Upsample) or postconv is None:
        return None
    convolutions = [module for module in postconv.modules() if not list(module.children())]
    if len(convolutions) != 1 or not isinstance(convolutions[0], nn.Conv2d):
        return None
    (convolution,) = convolutions
    doubles = upsample.mode == "nearest" and upsample.size is None and tuple_of(upsample.scale_factor) == (2.0, 2.0)
    plain = (convolution.kernel_size, convolution.stride, convolution.padding, convolution.dilation, convolution.groups)
    return convolution if doubles and plain == ((3, 3), (1, 1), (1, 1), (1, 1), 1) else None


def tuple_of(factor: object) -> tuple[float, ...]:
    """A scale factor for both axes."""
    return tuple(float(one) for one in factor) if isinstance(factor, tuple | list) else (float(factor),) * 2  # type: ignore[arg-type]

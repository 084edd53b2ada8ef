"""Networks ready for inference compute what they computed before, with less."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from monai.networks.blocks import UpSample
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from toys import TINY, images, randomise, tiny_method

from medanomaly.diffusion.inference import FoldedUpsample, folded, for_inference
from medanomaly.diffusion.unet import Denoiser, NetworkConfig
from medanomaly.methods.precision import in_precision

CPU = torch.device("cpu")


def network(config: NetworkConfig = TINY) -> Denoiser:
    return randomise(Denoiser(config, image_channels=1, classes=("healthy", "diseased"))).eval()


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 4)])
def test_one_transposed_convolution_is_doubling_and_a_convolution(size: tuple[int, int]) -> None:
    draws = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(shape, generator=draws, dtype=torch.float64) for shape in ((2, 3, *size), (5, 3, 3, 3), (5,)))
    expected = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, bias, padding=1)
    found = F.conv_transpose2d(x, folded(weight), bias, stride=2, padding=1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_the_ready_network_gives_the_same_numbers_for_fewer_multiplications_and_keeps_its_state() -> None:
    plain = network(NetworkConfig(channels=(16, 16, 16), attention=(False, False, True), head_channels=16, norm_groups=8))
    ready = for_inference(copy.deepcopy(plain), CPU)
    x, t, label = images(3), torch.tensor([1, 40, 900]), torch.tensor([0, 1, 2])
    flops = []
    outputs = []
    for one in (plain, ready):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            outputs.append(one(x, t, label))
        flops.append(counter.get_total_flops())
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)
    assert sum(isinstance(module, FoldedUpsample) for module in ready.modules()) == 2
    assert flops[1] < flops[0]
    assert {name: value.shape for name, value in ready.state_dict().items()} == {
        name: value.shape for name, value in plain.state_dict().items()
    }
    assert not ready.training


def test_a_copy_in_16_bits_is_wholly_in_16_bits() -> None:
    lowered = in_precision(tiny_method(), "bf16")
    blocks = [module for module in lowered.denoiser.modules() if isinstance(module, FoldedUpsample)]
    assert blocks
    assert {block.kernel.dtype for block in blocks} == {block.convolution[0].weight.dtype for block in blocks} == {torch.bfloat16}


def test_gradients_reach_the_input_as_before() -> None:
    plain = network()
    ready = for_inference(copy.deepcopy(plain), CPU).requires_grad_(False)
    gradients = []
    for one in (plain, ready):
        x = images(2).requires_grad_()
        one(x, torch.tensor([5, 500]), torch.tensor([0, 1])).square().sum().backward()
        assert x.grad is not None
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "block",
    [
        UpSample(2, 4, 4, mode="deconv"),
        UpSample(2, 4, 4, mode="nontrainable", interp_mode="bilinear", align_corners=False),
        UpSample(2, 4, 4, mode="nontrainable", interp_mode="nearest", scale_factor=3, align_corners=None),
        UpSample(
            2, 4, 4, mode="nontrainable", interp_mode="nearest", align_corners=None, post_conv=nn.Conv2d(4, 4, 5, padding=2)
        ),
        UpSample(
            2, 4, 4, mode="nontrainable", interp_mode="nearest", align_corners=None, post_conv=nn.Conv2d(4, 4, 3, padding=1)
        ),
    ],
    ids=["transposed", "bilinear", "tripled", "five taps", "the one that folds"],
)
def test_whatever_else_enlarges_stays_as_it_is(block: nn.Module) -> None:
    x = images(1, channels=4)
    expected = block(x)
    around = for_inference(nn.Sequential(block), CPU)
    torch.testing.assert_close(around(x), expected, rtol=1e-4, atol=1e-5)

"""Gradient checkpointing keeps less, and changes no gradient, also with dropout."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from toys import TINY, images, randomise

from medanomaly.diffusion.unet import Denoiser

DEEP = replace(TINY, channels=(16, 16, 16), attention=(False, False, True))
CLASSES = ("healthy", "diseased")


def network(*, dropout: float, recompute: bool) -> Denoiser:
    denoiser = randomise(Denoiser(replace(DEEP, dropout=dropout), image_channels=1, classes=CLASSES)).train()
    denoiser.recompute = recompute
    denoiser.dropout_generator = torch.Generator().manual_seed(3)
    return denoiser


def gradients(denoiser: Denoiser) -> tuple[list[Tensor], int, Tensor]:
    """(gradients of a step, bytes of activations that were kept for it, the generator's state after it)."""
    kept: dict[int, int] = {}
    parameters = {parameter.data_ptr() for parameter in denoiser.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in parameters:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    x, levels, labels = images(2), torch.tensor([10, 900]), torch.tensor([0, 2])
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = denoiser(x, levels, labels).square().mean()
    loss.backward()
    assert denoiser.dropout_generator is not None
    found = [parameter.grad for parameter in denoiser.parameters() if parameter.grad is not None]
    return found, sum(kept.values()), denoiser.dropout_generator.get_state()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_the_same_bit_for_bit_from_a_fraction_of_what_is_kept(dropout: float) -> None:
    plain, kept, state = gradients(network(dropout=dropout, recompute=False))
    again, kept_again, state_again = gradients(network(dropout=dropout, recompute=True))
    assert len(plain) == len(again) > 20
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))
    assert torch.equal(state, state_again), "dropout draws once a step"
    assert kept_again < kept / 3


def test_nothing_of_it_stays_in_the_network_or_its_copies() -> None:
    denoiser = network(dropout=0.1, recompute=True)
    before = copy.deepcopy(denoiser.state_dict())
    gradients(denoiser)
    assert all("forward" not in vars(module) for module in denoiser.modules())
    assert denoiser.state_dict().keys() == before.keys()
    x, levels, labels = images(1), torch.tensor([10]), torch.tensor([0])
    with torch.no_grad():
        expected = copy.deepcopy(denoiser).eval()(x, levels, labels)
        denoiser.recompute = False
        torch.testing.assert_close(denoiser.eval()(x, levels, labels), expected, atol=0, rtol=0)

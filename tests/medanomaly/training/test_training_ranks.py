"""Several processes train what one would: every image gets the same draws, and the mean of their gradients is the batch's."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from rank_builders import in_ranks
from torch import Tensor, nn
from toys import TINY, samples, tiny_config

from baselines.autoencoder import AutoencoderConfig
from medanomaly.classifiers.model import ClassifierModelConfig
from medanomaly.classifiers.network import ClassifierConfig
from medanomaly.errors import ConfigError, MedanomalyError, ResourceError
from medanomaly.rng import generator
from medanomaly.training import ranks
from medanomaly.training.batches import training_batches
from medanomaly.training.config import TrainingConfig
from medanomaly.training.ranks import average_over_ranks, joined, mean_of, refuse_unlike, share_of
from medanomaly.types import Batch, Share

TRAINING = TrainingConfig(num_steps=2, batch_size=6)
SHARES = [Share(first=0, stop=2, total=6), Share(first=2, stop=4, total=6), Share(first=4, stop=6, total=6)]
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def batch_of(count: int) -> Batch:
    return Batch(x=torch.stack([sample.x for sample in samples(count)]), label=torch.arange(count) % 2)


def part(batch: Batch, share: Share) -> Batch:
    return Batch(x=share.of(batch.x), label=share.of(batch.label), share=share)


def diffusion() -> Any:
    return tiny_config(network=replace(TINY, dropout=0.3))


def autoencoder() -> Any:
    return AutoencoderConfig(classes=("healthy", "diseased"), target="healthy", channels=(8, 8, 8, 8, 8))


def classifier() -> Any:
    network = ClassifierConfig(channels=(16, 16), attention=(False, True), head_channels=16, norm_groups=8)
    return ClassifierModelConfig(classes=("healthy", "diseased"), network=network)


def network_of(recipe: Any) -> nn.Module:
    found: nn.Module = recipe.denoiser if hasattr(recipe, "denoiser") else recipe.network
    return found


def loss_of(recipe: Any, batch: Batch) -> Tensor:
    """Loss of a batch with the draws of one step."""
    draws = generator(3, "train", 1)
    if hasattr(recipe, "denoiser"):
        recipe.denoiser.dropout_generator, recipe.denoiser.dropout_share = draws, batch.share
        diffusion_loss: Tensor = recipe.loss(recipe.denoiser, batch, draws)["loss"]
        return diffusion_loss
    found = recipe.loss(recipe.network, batch, draws)
    loss: Tensor = found[0] if isinstance(found, tuple) else found
    return loss


def gradient(recipe: Any, batch: Batch) -> Tensor:
    network = network_of(recipe).train()
    network.zero_grad()
    loss_of(recipe, batch).backward()  # type: ignore[no-untyped-call]
    return torch.cat([parameter.grad.reshape(-1) for parameter in network.parameters() if parameter.grad is not None])


@pytest.mark.parametrize("make", [diffusion, autoencoder, classifier])
def test_the_mean_gradient_of_three_shares_is_the_gradient_of_the_batch(make: Any) -> None:
    recipe = make().recipe(image_channels=1, training=TRAINING, device=torch.device("cpu"))
    assert recipe.by_share
    with torch.no_grad():
        for index, parameter in enumerate(network_of(recipe).parameters()):
            # MONAI starts the last layers at zero, behind which no gradient would show.
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator(index, "test")))
    batch = batch_of(6)
    whole = gradient(recipe, batch)
    parts = torch.stack([gradient(recipe, part(batch, share)) for share in SHARES])
    assert float(whole.norm()) > 1e-3
    assert float((parts.mean(dim=0) - whole).norm() / whole.norm()) < 1e-5
    # Draws of its own would be the first rows' for every share.
    without = gradient(recipe, replace(part(batch, SHARES[1]), share=None))
    assert float((without - parts[1]).norm() / whole.norm()) > 1e-3


@pytest.mark.parametrize("augmented", [False, True])
def test_the_shares_of_a_batch_are_its_rows_in_every_step(augmented: bool) -> None:
    def batches(share: Share | None) -> list[Batch]:
        augment = (lambda x, seed: x * (1 + seed % 5)) if augmented else None
        settings = {"batch_size": 6, "seed": 5, "first_step": 2, "num_steps": 6, "flip": True, "augment": augment, "share": share}
        return list(training_batches(samples(11), ("healthy", "diseased"), **settings))  # type: ignore[arg-type]

    shares = [batches(share) for share in SHARES]
    for step, whole in enumerate(batches(None)):
        assert torch.equal(torch.cat([one[step].x for one in shares]), whole.x)
        assert torch.equal(torch.cat([one[step].label for one in shares]), whole.label)
        assert [one[step].share for one in shares] == SHARES


def test_gradients_of_several_buckets_are_averaged_and_come_back_to_their_places(tmp_path: Path) -> None:
    def act(rank: int) -> int:
        ranks.BUCKET_BYTES = 40
        with joined(os.environ, torch.device("cpu"), timeout_s=60):
            tensors = [torch.full(shape, float(rank + size)) for size, shape in enumerate([(2, 3), (50,), (), (1, 4)])]
            average_over_ranks(tensors)
            right = all(bool((tensor == size + 1).all()) for size, tensor in enumerate(tensors))
            means = mean_of({"loss": rank * 2.0, "skipped": 0.0}) == {"loss": 2.0, "skipped": 0.0}
            shares = share_of(6) == SHARES[rank]
            return 0 if right and means and shares and tensors[0].shape == (2, 3) else 1

    assert in_ranks(3, act, tmp_path) == [0, 0, 0]


def test_ranks_that_would_start_at_different_steps_and_batches_that_cannot_be_split_are_refused(tmp_path: Path) -> None:
    def act(rank: int) -> int:
        with joined(os.environ, torch.device("cpu"), timeout_s=60):
            for refused in (
                lambda: refuse_unlike(rank * 40, "run"),
                lambda: refuse_unlike(3, f"run {rank}"),
                lambda: share_of(7),
            ):
                try:
                    refused()
                    return 1
                except MedanomalyError as error:
                    print(error)
            refuse_unlike(7, "run")
        return 0

    assert in_ranks(2, act, tmp_path) == [0, 0]
    for rank in (0, 1):
        steps, settings, batch = (tmp_path / f"{rank}.txt").read_text().splitlines()
        assert "start at different steps (0, 40) [E_RANKS]" in steps
        assert "were given different settings or data [E_RANKS]" in settings
        assert batch.endswith("cannot be split evenly over 2 processes [E_RANKS]; use e.g. --training.batch-size 8")


def test_what_an_earlier_attempt_left_in_the_launchers_store_is_not_read(tmp_path: Path) -> None:
    def act(rank: int) -> int:
        port = int(os.environ["MASTER_PORT"])
        agent = dist.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False) if rank == 0 else None
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
        sums = []
        for attempt in (0, 1, 0):
            if rank == attempt:
                # The other one is first to ask where this one is to be found: once rank 1, once rank 0.
                time.sleep(1)
            with joined(os.environ, torch.device("cpu"), timeout_s=60):
                sums.append(mean_of({"loss": rank * 2.0})["loss"])
        return 0 if sums == [1.0, 1.0, 1.0] and (agent is None or agent.port == port) else 1

    assert in_ranks(2, act, tmp_path) == [0, 0]


def test_a_connection_that_never_comes_ends_the_process_with_an_error_and_not_never(tmp_path: Path) -> None:
    def act(rank: int) -> int:
        ranks.CONNECT_S = 2
        if rank:
            # It comes, and never connects.
            ranks.dist.init_process_group = lambda *_arguments, **_more: time.sleep(6)
            ranks.dist.destroy_process_group = lambda: None
        with joined(os.environ, torch.device("cpu"), timeout_s=60):
            return 0

    assert in_ranks(2, act, tmp_path) == [ResourceError.exit_code] * 2
    assert (
        "medanomaly train: rank 0 lost the other processes of this training (no connection in 2 s)"
        in (tmp_path / "0.txt").read_text()
    )


def test_half_of_a_launcher_is_refused_and_one_process_needs_none() -> None:
    with pytest.raises(ConfigError, match=r"WORLD_SIZE is 2, and RANK, LOCAL_RANK, .* is not set \[E_RANKS\]"):
        joined({"WORLD_SIZE": "2"}, torch.device("cpu"), timeout_s=5).__enter__()
    with joined({"WORLD_SIZE": "1"}, torch.device("cpu"), timeout_s=5):
        assert not dist.is_initialized()
        assert share_of(7) is None

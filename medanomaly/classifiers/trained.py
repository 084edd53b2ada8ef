"""A trained classifier, read from its checkpoint: what it says of a noisy image, and by which numbers it says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medanomaly.checkpoint import load_checkpoint, load_weights
from medanomaly.classifiers.model import ClassifierModelConfig
from medanomaly.classifiers.network import NoisyClassifier, class_index
from medanomaly.diffusion.inference import for_inference
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.errors import CheckpointError, ConfigError
from medanomaly.methods.experiment import ExperimentOf, header_read, kind_of

TABLE = {ClassifierModelConfig.kind: ClassifierModelConfig}
Levels = Tensor | int
"""(N,) int64 levels in 0..T, or one for all images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """A classifier ready to use. Every image is judged by itself, and everything is differentiable in the image."""

    network: NoisyClassifier
    """In eval mode, its weights without gradients."""
    schedule: NoiseSchedule
    experiment: ExperimentOf[ClassifierModelConfig]
    provenance: dict[str, Any]
    """Data, step, versions, licence; ``datasets.seen`` compares images with what it has seen."""

    @property
    def config(self) -> ClassifierModelConfig:
        """Classes, policies, network and schedule."""
        return self.experiment.method

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the scores."""
        return self.config.classes

    @property
    def multi_label(self) -> bool:
        """Whether an image may be of several classes."""
        return self.config.multi_label

    @property
    def noisy(self) -> bool:
        """Whether it knows noisy images."""
        return self.config.noisy

    @property
    def image_size(self) -> int:
        """Side of the square it sees, px."""
        return self.experiment.preprocess.image_size

    @property
    def channels(self) -> int:
        """Of its images."""
        return self.experiment.preprocess.channels

    @property
    def width(self) -> int:
        """Numbers an image that :meth:`features` gives."""
        return self.network.width

    def scores(self, x_t: Tensor, levels: Levels) -> Tensor:
        """(N, K) before softmax or sigmoid, of x_t (N, C, S, S)."""
        scores: Tensor = self.network(x_t, levels_of(levels, x_t)).float()
        return scores

    def probabilities(self, x_t: Tensor, levels: Levels) -> Tensor:
        """(N, K): rows that sum to 1, or with ``multi_label`` each class by itself."""
        scores = self.scores(x_t, levels)
        return scores.sigmoid() if self.multi_label else scores.softmax(dim=1)

    def log_prob(self, x_t: Tensor, levels: Levels, label: str | Sequence[str] | Tensor) -> Tensor:
        """(N,) log-probability of a class, given x_t (N, C, S, S) at its level; what guidance differentiates.

        Args:
            x_t: noisy images.
            levels: of all of them, or one each.
            label: a class by name; several names, which must all be present (``multi_label`` only; they count as independent given
                the image, so their log-probabilities are added); or (N,) int64 positions in ``classes``, one an image.

        Raises:
            ConfigError: E_CLASS, an unknown name, or several classes that exclude each other; E_CLEAN_ONLY, a noisy image for a
                classifier of clean ones.
        """
        if not self.noisy and bool(torch.as_tensor(levels).gt(0).any()):
            raise ConfigError(
                "this classifier was trained on clean images only, so it says nothing of noisy ones",
                code="E_CLEAN_ONLY",
                fix="guide by a classifier that was trained with method.noisy true",
            )
        scores = self.scores(x_t, levels)
        log_probs = F.logsigmoid(scores) if self.multi_label else F.log_softmax(scores, dim=1)
        if isinstance(label, Tensor):
            return log_probs.gather(1, label.to(log_probs.device)[:, None])[:, 0]
        names = [label] if isinstance(label, str) else list(label)
        columns = [class_index(name, self.classes) for name in names]
        if not columns or (len(columns) > 1 and not self.multi_label):
            raise ConfigError(
                f"one class must be named, got {names}: these classes exclude each other" if columns else "no class was named",
                code="E_CLASS",
                fix=f"choose one of {', '.join(self.classes)}",
            )
        return log_probs[:, columns].sum(dim=1)

    def features(self, x: Tensor) -> Tensor:
        """(N, width) numbers that the last layer reads of clean images x (N, C, S, S) in [-1, 1]."""
        return self.network.features(x, levels_of(0, x)).float()


def levels_of(levels: Levels, x_t: Tensor) -> Tensor:
    """(N,) int64 levels on the images' device."""
    if isinstance(levels, Tensor):
        return levels.to(x_t.device)
    return torch.full((len(x_t),), levels, dtype=torch.int64, device=x_t.device)


def load_classifier(path: Path, device: torch.device) -> Classifier:
    """The classifier of a checkpoint that ``medanomaly train`` wrote.

    Args:
        path: ``model.safetensors`` or its folder.
        device: where the network goes.

    Raises:
        CheckpointError: E_KIND, the checkpoint is no classifier; or what :func:`load_checkpoint` and ``load_weights`` refuse.
    """
    checkpoint = load_checkpoint(path)
    kind = kind_of(checkpoint.header)
    if kind is not None and kind not in TABLE:
        raise CheckpointError(
            f"is a {kind!a} checkpoint, not a classifier",
            code="E_KIND",
            path=path,
            fix="train one, e.g. `medanomaly train gray64-classifier`",
        )
    with header_read(path):
        experiment = ExperimentOf.from_dict(checkpoint.header["experiment"], TABLE)
        provenance = dict(checkpoint.header.get("provenance", {}))
    config = experiment.method
    network = NoisyClassifier(config.network, image_channels=experiment.preprocess.channels, classes=config.classes)
    load_weights(network, checkpoint.tensors, str(path))
    return Classifier(
        network=for_inference(network, device).requires_grad_(False),
        schedule=NoiseSchedule.from_config(config.schedule),
        experiment=experiment,
        provenance=provenance,
    )

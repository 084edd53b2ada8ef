"""An experiment: a method, how its images are prepared, and how it is trained; and a trained one, read from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from medanomaly.checkpoint import load_checkpoint
from medanomaly.config import from_dict, to_dict
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.errors import CheckpointError, ConfigError
from medanomaly.scoring.finish import MapConfig
from medanomaly.scoring.operating_point import OperatingPoint
from medanomaly.training.config import TrainingConfig
from medanomaly.types import AnomalyMethod, Recipe


class MethodConfig(Protocol):
    """A frozen dataclass that holds all settings of a method and makes it: fresh for training, or from weights."""

    kind: ClassVar[str]
    """Name in checkpoints."""
    title: ClassVar[str]
    """Name in tables."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order in which labels are numbered."""

    @property
    def target(self) -> str:
        """The class without disease, by name."""

    @property
    def trained_classes(self) -> tuple[str, ...]:
        """Classes whose images it is trained on."""

    @property
    def map(self) -> MapConfig:
        """From its raw map to the one that is compared."""

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this."""

    def recipe(self, *, image_channels: int, training: TrainingConfig, device: torch.device) -> Recipe:
        """A fresh training, its weights drawn from ``training.seed``."""

    def restore(self, weights: dict[str, Tensor], *, image_channels: int, device: torch.device, source: str) -> AnomalyMethod:
        """The method with weights as its recipe's ``weights()`` gave them; ``source`` is named in errors."""


MethodTable = Mapping[str, type[MethodConfig]]
"""Config classes by their kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Everything that decides what a training run makes."""

    name: str
    """Preset it started from."""
    method: MethodConfig
    preprocess: PreprocessConfig
    training: TrainingConfig

    def __post_init__(self) -> None:
        multiple = self.method.size_multiple
        if self.preprocess.image_size % multiple:
            raise ConfigError(
                f"preprocess.image_size must be a multiple of {multiple} for this network, got {self.preprocess.image_size}",
                code="E_CONFIG",
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON content, with the kind of the method."""
        content: dict[str, Any] = to_dict(self)
        content["method"] = {"kind": self.method.kind, **content["method"]}
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], methods: MethodTable) -> Experiment:
        """Undo of :meth:`to_dict`."""
        method = dict(content["method"])
        kind = method.pop("kind", None)
        if kind not in methods:
            raise ConfigError(f"method kind {kind!r} is unknown; known: {', '.join(methods)}", code="E_CONFIG")
        return cls(
            name=str(content["name"]),
            method=from_dict(methods[kind], method, "method"),
            preprocess=from_dict(PreprocessConfig, content["preprocess"], "preprocess"),
            training=from_dict(TrainingConfig, content["training"], "training"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedMethod:
    """A method ready to localize, with what its checkpoint says about it."""

    method: AnomalyMethod
    experiment: Experiment
    weights: dict[str, Tensor]
    operating_points: tuple[OperatingPoint, ...]
    """Chosen on the validation split of the set it was trained on."""
    provenance: dict[str, Any]
    """Data, step, versions, licence; ``train_images`` are hashes of the files it has seen."""


def load_trained(
    path: Path, methods: MethodTable, device: torch.device, *, sampler: Mapping[str, Any] | None = None
) -> TrainedMethod:
    """Read a checkpoint into a method.

    Args:
        path: ``model.safetensors`` or its folder.
        methods: config classes by kind.
        device: where the network goes.
        sampler: sampler settings that replace the checkpoint's, e.g. ``{"noise_level": 300}``.
    """
    checkpoint = load_checkpoint(path)
    try:
        content = checkpoint.header["experiment"]
        experiment = Experiment.from_dict(content, methods)
        points = tuple(OperatingPoint.from_dict(point) for point in checkpoint.header.get("operating_points", []))
    except (ConfigError, KeyError, TypeError) as error:
        raise CheckpointError(f"has an unusable header ({error})", code="E_CKPT_FORMAT", path=path) from error
    if sampler:
        method = to_dict(experiment.method)
        if "sampler" not in method:
            raise ConfigError(
                f"{experiment.method.title} has no sampler, so no {', '.join(sampler)}", code="E_CONFIG", fix="leave these out"
            )
        method["sampler"] |= dict(sampler)
        experiment = Experiment.from_dict(experiment.to_dict() | {"method": {"kind": experiment.method.kind, **method}}, methods)
    restored = experiment.method.restore(
        checkpoint.tensors, image_channels=experiment.preprocess.channels, device=device, source=str(path)
    )
    return TrainedMethod(
        method=restored,
        experiment=experiment,
        weights=checkpoint.tensors,
        operating_points=points,
        provenance=dict(checkpoint.header.get("provenance", {})),
    )

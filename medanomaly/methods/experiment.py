"""An experiment: a method, how its images are prepared, and how it is trained; and a trained one, read from a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor

from medanomaly.checkpoint import load_checkpoint
from medanomaly.config import from_dict, to_dict
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.errors import CheckpointError, ConfigError, MedanomalyError
from medanomaly.methods.speeds import sampler_of_speed
from medanomaly.scoring.finish import MapConfig
from medanomaly.scoring.operating_point import OperatingPoint
from medanomaly.training.batches import Augment
from medanomaly.training.config import TrainingConfig
from medanomaly.types import AnomalyMethod, Batch, MethodRecipe, Recipe, Sample

DIFFUSION_MODEL = "diffusion_model"
"""Kind of a model that knows what images look like and not which are healthy; named here because :func:`load_trained` refuses it."""
CLASSIFIER = "classifier"
"""Kind of a model that names images and does not change them, refused as well."""
NO_METHODS = {
    DIFFUSION_MODEL: (
        "is a diffusion model, which localizes nothing",
        "give it to `medanomaly deblur` as prior or to `medanomaly generate`; to localize, train e.g. gray64-cfg",
    ),
    CLASSIFIER: (
        "is a classifier, which localizes nothing",
        "give it to `medanomaly evaluate-classifier` or to `medanomaly generate --classifier`; to localize, train e.g. gray64-cfg",
    ),
}
"""Kind of what is trained and is no method -> what it is, and what it is for."""


class ModelConfig(Protocol):
    """A frozen dataclass that holds all settings of something that is trained on images."""

    kind: ClassVar[str]
    """Name in checkpoints."""
    title: ClassVar[str]
    """Name in tables."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order in which labels are numbered."""

    @property
    def trained_classes(self) -> tuple[str, ...]:
        """Classes whose images it is trained on; where there are no classes, all images are."""

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this."""

    def recipe(self, *, image_channels: int, training: TrainingConfig, device: torch.device) -> Recipe:
        """A fresh training, its weights drawn from ``training.seed``."""


@runtime_checkable
class MethodConfig(ModelConfig, Protocol):
    """The same of a method that localizes: it knows the class without disease, has a map, and is made from weights."""

    @property
    def target(self) -> str:
        """The class without disease, by name."""

    @property
    def map(self) -> MapConfig:
        """From its raw map to the one that is compared."""

    def recipe(self, *, image_channels: int, training: TrainingConfig, device: torch.device) -> MethodRecipe:
        """A fresh training, its weights drawn from ``training.seed``."""

    def restore(self, weights: dict[str, Tensor], *, image_channels: int, device: torch.device, source: str) -> AnomalyMethod:
        """The method with weights as its recipe's ``weights()`` gave them; ``source`` is named in errors."""


@runtime_checkable
class SupervisedConfig(ModelConfig, Protocol):
    """The same of a model that learns what is said of an image, and chooses itself what of a manifest it learns from."""

    @property
    def label_classes(self) -> tuple[str, ...]:
        """What may stand in the label column; () = it is not looked at."""

    def usable(self, records: Sequence[Record], split: str, data: Path) -> list[Record]:
        """The records of a split with anything to learn; an InputError where there is too little."""

    def batch(self, samples: Sequence[Sample]) -> Batch:
        """Training batch of samples, with its targets."""

    def augment(self) -> Augment | None:
        """How training images are varied; None = not at all."""


MethodTable = Mapping[str, type[MethodConfig]]
"""Config classes by their kind."""
Config = TypeVar("Config", bound=ModelConfig, covariant=True)


# No slots: typing notes the parameter on what an alias such as Experiment makes, and with slots Python 3.11 stumbles over that.
@dataclass(frozen=True, kw_only=True)
class ExperimentOf(Generic[Config]):
    """Everything that decides what a training run makes."""

    name: str
    """Preset it started from."""
    method: Config
    """What is trained; mostly a method that localizes (:data:`Experiment`)."""
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
    def from_dict(cls, content: Mapping[str, Any], methods: Mapping[str, type[Config]]) -> ExperimentOf[Config]:
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


Experiment: TypeAlias = ExperimentOf[MethodConfig]
"""With a method that localizes."""
ModelExperiment: TypeAlias = ExperimentOf[ModelConfig]
"""With anything that is trained."""


def localizing(experiment: ModelExperiment) -> Experiment | None:
    """The same experiment where what it trains localizes; None where it does not, so has no thresholds to choose."""
    return cast(Experiment, experiment) if isinstance(experiment.method, MethodConfig) else None


def supervising(experiment: ModelExperiment) -> SupervisedConfig | None:
    """Its config where that chooses what it learns from; None where all images of its classes are learned from."""
    return experiment.method if isinstance(experiment.method, SupervisedConfig) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedMethod:
    """A method ready to localize, with what its checkpoint says about it."""

    method: AnomalyMethod
    experiment: Experiment
    weights: dict[str, Tensor]
    operating_points: tuple[OperatingPoint, ...]
    """Chosen on the validation split of the set it was trained on, with the sampler that is here; none for another sampler."""
    provenance: dict[str, Any]
    """Data, step, versions, licence; ``train_images`` are hashes of the files it has seen."""


def kind_of(header: Mapping[str, Any]) -> str | None:
    """What a checkpoint's header says it is; None where it says nothing that can be read."""
    try:
        kind = header["experiment"]["method"]["kind"]
    except (KeyError, TypeError):
        return None
    return kind if isinstance(kind, str) else None


@contextmanager
def header_read(path: Path) -> Iterator[None]:
    """The header of a checkpoint is data: a wrong type may show anywhere in it, and is one kind of error.

    Raises:
        CheckpointError: E_CKPT_FORMAT.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"has an unusable header ({error})", code="E_CKPT_FORMAT", path=path) from error


def replacing(given: Mapping[str, Any], own: Mapping[str, Any], title: str) -> dict[str, Any]:
    """The settings to put in place of a checkpoint's: those given, below them those that a ``speed`` names.

    Raises:
        ConfigError: E_CONFIG, no such speed, or the method's sampler has none.
    """
    settings = dict(given)
    speed = settings.pop("speed", None)
    if speed is None:
        return settings
    named = sampler_of_speed(speed, settings.get("noise_level", own.get("noise_level", 1)))
    if not named.keys() <= own.keys():
        raise ConfigError(f"{title} has no speeds", code="E_CONFIG", fix="give --num-steps instead")
    return named | settings


def load_trained(
    path: Path, methods: MethodTable, device: torch.device, *, sampler: Mapping[str, Any] | None = None
) -> TrainedMethod:
    """Read a checkpoint into a method.

    Args:
        path: ``model.safetensors`` or its folder.
        methods: config classes by kind.
        device: where the network goes.
        sampler: sampler settings that replace the checkpoint's, e.g. ``{"noise_level": 300}``; ``speed`` names several of them.

    Raises:
        CheckpointError: E_KIND, the checkpoint does not localize; or what :func:`load_checkpoint` refuses.
        ConfigError: a sampler setting that cannot be; E_CALIBRATION, the stored healthy calibration is of another sampler.
    """
    checkpoint = load_checkpoint(path)
    kind = kind_of(checkpoint.header)
    if kind in NO_METHODS:
        what, use = NO_METHODS[kind]
        raise CheckpointError(what, code="E_KIND", path=path, fix=use)
    with header_read(path):
        experiment = Experiment.from_dict(checkpoint.header["experiment"], methods)
        points = tuple(OperatingPoint.from_dict(point) for point in checkpoint.header.get("operating_points", []))
        provenance = dict(checkpoint.header.get("provenance", {}))
    if sampler:
        method = to_dict(experiment.method)
        if "sampler" not in method:
            raise ConfigError(
                f"{experiment.method.title} has no sampler, so no {', '.join(sampler)}", code="E_CONFIG", fix="leave these out"
            )
        method["sampler"] |= replacing(sampler, method["sampler"], experiment.method.title)
        changed = Experiment.from_dict(experiment.to_dict() | {"method": {"kind": experiment.method.kind, **method}}, methods)
        if changed != experiment and experiment.method.map.healthy_z:
            raise ConfigError(
                f"its calibration on healthy images was made with other sampler settings than {', '.join(sampler)} here",
                code="E_CALIBRATION",
                path=path,
                fix="leave these out, or give them as --method.sampler... to its train command, which calibrates anew",
            )
        # Another sampler makes maps of another scale: the stored thresholds say nothing about them.
        points = points if changed == experiment else ()
        experiment = changed
    try:
        restored = experiment.method.restore(
            checkpoint.tensors, image_channels=experiment.preprocess.channels, device=device, source=str(path)
        )
    except (MedanomalyError, MemoryError, torch.OutOfMemoryError):
        raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        text = f"describes a network that cannot be ({' '.join(str(error).split())[:200]})"
        raise CheckpointError(text, code="E_CKPT_FORMAT", path=path) from error
    return TrainedMethod(
        method=restored,
        experiment=experiment,
        weights=checkpoint.tensors,
        operating_points=points,
        provenance=provenance,
    )

"""What `medanomaly generate` asks its model for: a class, nothing, or what the classifier after ``--classifier`` takes for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from medanomaly.classifiers.trained import load_classifier
from medanomaly.cli.evaluate import resolve_checkpoint
from medanomaly.diffusion.reverse import ReverseFn
from medanomaly.errors import ConfigError
from medanomaly.files import sha256_of
from medanomaly.generation.guides import NoisyImageClassifier, guide_to
from medanomaly.generation.labels import Label, labels_for
from medanomaly.generation.sampling import Guide
from medanomaly.methods.diffusion_model import LoadedModel

CLASS_GUIDANCE = 3.0
"""g of classifier-free guidance where a class is asked for and no classifier guides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidingClassifier:
    """A classifier and the file it came from."""

    classifier: NoisyImageClassifier
    sha256: str


def guiding_classifier(path: Path, device: torch.device) -> GuidingClassifier:
    """The classifier of a checkpoint.

    Raises:
        CheckpointError: a checkpoint that is refused, or holds no classifier (E_KIND).
    """
    weights = resolve_checkpoint(path)
    file = weights / "model.safetensors" if weights.is_dir() else weights
    return GuidingClassifier(classifier=load_classifier(weights, device), sha256=sha256_of(file))


def labels_of(
    loaded: LoadedModel, classifier: NoisyImageClassifier | None, label: str | None, count: int, *, unconditional: bool
) -> list[Label]:
    """What each image shall be: of the classifier's classes where there is one, else of the model's.

    Raises:
        ConfigError: E_CLASS, an unknown class; E_CONFIG, a class and none at once.
    """
    if unconditional:
        if label is not None or classifier is not None:
            raise ConfigError(
                "--unconditional true draws from no class", code="E_CONFIG", fix="leave --label and --classifier out"
            )
        return [()] * count
    if classifier is not None:
        return labels_for(label, count, classifier.classes, multi_label=classifier.multi_label)
    return labels_for(label, count, loaded.config.classes, multi_label=False)


def conditioned(
    loaded: LoadedModel,
    classifier: NoisyImageClassifier | None,
    *,
    guidance_scale: float | None,
    classifier_scale: float,
) -> Callable[[Label], tuple[ReverseFn, Guide | None]]:
    """The model as it is asked for images of a label.

    With a classifier the model is told no class, but where ``guidance_scale`` is given: then it must know the class too.
    """

    def model_of(label: Label) -> tuple[ReverseFn, Guide | None]:
        guide = None if classifier is None or not label else guide_to(classifier, label, classifier_scale)
        if not label or (guide is not None and guidance_scale is None):
            return loaded.reverse_fn(), guide
        if len(label) > 1:
            raise ConfigError(
                "the model itself has one class an image", code="E_CLASS", fix="leave --guidance-scale out: the classifier guides"
            )
        labels_for(label[0], 1, loaded.config.classes, multi_label=False)
        return loaded.reverse_fn(label[0], CLASS_GUIDANCE if guidance_scale is None else guidance_scale), guide

    return model_of


def guidance_of(labels: Sequence[Label], guidance_scale: float | None, *, has_guide: bool) -> float | None:
    """g as it was used; None where the model was told no class."""
    if not any(labels) or (has_guide and guidance_scale is None):
        return None
    return CLASS_GUIDANCE if guidance_scale is None else guidance_scale

"""Which features images are compared by: the word after ``--features``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from baselines.classifier_ddim import ClassifierDdim
from medanomaly.checkpoint import load_header
from medanomaly.classifiers.trained import load_classifier
from medanomaly.cli.evaluate import resolve_checkpoint
from medanomaly.cli.methods import ALL_METHODS
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.errors import ConfigError
from medanomaly.evaluation.features import Extractor, classifier_features, computed, pixel_features, stored_features
from medanomaly.files import sha256_of
from medanomaly.methods.experiment import CLASSIFIER, kind_of, load_trained

PIXELS = "pixels"
PROGRAMS = (".pt", ".pth", ".ts", ".jit", ".pt2", ".onnx", ".pkl")
"""Files that are programs, or may hold one."""
MAX_NAMED = 10
"""Classes that a classifier's name in a table lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenFeatures:
    """An extractor and how images must be prepared for it."""

    extractor: Extractor
    preprocess: PreprocessConfig | None
    """Of the classifier's training; None = any will do."""


def chosen_features(word: str, *, batch_size: int, device: torch.device) -> ChosenFeatures:
    """The extractor of "pixels", of an npz of features, or of a checkpoint that holds a classifier.

    Raises:
        ConfigError: E_FEATURES, a program, or a checkpoint without a classifier.
        CheckpointError: a checkpoint that is refused.
    """
    if word == PIXELS:
        extractor = computed("pixels averaged to 8 x 8", "", pixel_features(), batch_size=batch_size, device=device)
        return ChosenFeatures(extractor=extractor, preprocess=None)
    path = Path(word)
    if path.suffix.lower() in PROGRAMS:
        raise ConfigError(
            "is a program, and no file is run here",
            code="E_FEATURES",
            path=path,
            fix="compute its features where you trust it, save them with numpy.savez, and give that npz",
        )
    if path.suffix.lower() == ".npz":
        return ChosenFeatures(extractor=stored_features(path), preprocess=None)
    weights = resolve_checkpoint(path)
    if kind_of(load_header(weights)) == CLASSIFIER:
        return of_classifier(weights, batch_size=batch_size, device=device)
    trained = load_trained(weights, ALL_METHODS, device)
    if not isinstance(trained.method, ClassifierDdim):
        raise ConfigError(
            f"holds {trained.experiment.method.title}, which has no classifier",
            code="E_FEATURES",
            path=path,
            fix="give a classifier (`medanomaly train mnist-reader`, classifier-guided DDIM), an npz of features, or pixels",
        )
    classifier = trained.method.classifier
    last = classifier.head[-1]
    feature_fn = classifier_features(
        classifier,
        # Level 1 is the cleanest that the classifier was trained on.
        lambda x: classifier(x, torch.ones(len(x), dtype=torch.int64, device=x.device)),
        last,  # type: ignore[arg-type]
    )
    file = weights / "model.safetensors" if weights.is_dir() else weights
    name = f"classifier of {', '.join(classifier.classes)} ({trained.experiment.name})"
    return ChosenFeatures(
        extractor=computed(name, sha256_of(file), feature_fn, batch_size=batch_size, device=device),
        preprocess=trained.experiment.preprocess,
    )


def of_classifier(weights: Path, *, batch_size: int, device: torch.device) -> ChosenFeatures:
    """What the last layer of a trained classifier reads of clean images, and its probabilities where classes exclude each other.

    Probabilities of several classes an image do not sum to 1, so they make no Inception Score.
    """
    classifier = load_classifier(weights, device)
    file = weights / "model.safetensors" if weights.is_dir() else weights
    names = classifier.classes if len(classifier.classes) <= MAX_NAMED else (*classifier.classes[:MAX_NAMED], "...")
    name = (
        f"classifier {file.resolve().parent.name} ({classifier.experiment.name}) of {', '.join(names)}, {classifier.width} wide"
    )

    def feature_fn(x: Tensor) -> tuple[Tensor, Tensor | None]:
        return classifier.features(x), None if classifier.multi_label else classifier.probabilities(x, 0)

    return ChosenFeatures(
        extractor=computed(name, sha256_of(file), feature_fn, batch_size=batch_size, device=device),
        preprocess=classifier.experiment.preprocess,
    )

"""medanomaly verify-run: does a run folder hold what its run.json says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deblur.policy import Policy
from medanomaly.classifiers.model import ClassifierModelConfig
from medanomaly.cli.evaluate import resolve_checkpoint
from medanomaly.cli.methods import ALL_METHODS
from medanomaly.cli.parsing import run_function
from medanomaly.config import from_dict
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.errors import EXIT_OK, InputError
from medanomaly.evaluation.verify_run import verify_run as findings_of
from medanomaly.methods.diffusion_model import DiffusionModelConfig
from medanomaly.methods.experiment import ExperimentOf, ModelConfig

MODELS: dict[str, type[ModelConfig]] = {
    **ALL_METHODS,
    DiffusionModelConfig.kind: DiffusionModelConfig,
    ClassifierModelConfig.kind: ClassifierModelConfig,
}
"""Everything trained that a config.json may describe."""


def verify_run(folder: Path, checkpoint: Path | None = None) -> int:
    """Check a run folder against docs/run_folder.md: one line a finding; exit code 0 without any, 4 with some.

    Args:
        folder: of train, localize, evaluate, deblur, likelihood, generate, evaluate-samples or evaluate-classifier
        checkpoint: model.safetensors, its folder, or the name of shipped weights: compare it with the hash of the run
    """
    weights = None if checkpoint is None else resolve_checkpoint(checkpoint)
    if weights is not None and weights.is_dir():
        weights = weights / "model.safetensors"
    if weights is not None and not weights.is_file():
        raise InputError("no such checkpoint", code="E_MISSING", path=weights, fix="name a model.safetensors or its folder")
    found = findings_of(folder, settings_of, weights=weights)
    for finding in found:
        print(finding)
    if not found:
        print("ok")
    return InputError.exit_code if found else EXIT_OK


def settings_of(kind: str, content: Mapping[str, Any]) -> object:
    """What a run of this kind was made with: an experiment, but where no model was at work, or need not have been.

    Raises:
        ConfigError, KeyError, TypeError: the content is not of this version.
    """
    if kind == "deblur":
        from_dict(Policy, content["policy"], "policy")
        return (
            str(content["solver"]),
            str(content["kernel"]),
            content["prior"] and ExperimentOf.from_dict(content["prior"], MODELS),
        )
    if kind == "evaluate-samples":
        from_dict(PreprocessConfig, content["preprocess"], "preprocess")
        return str(content["features"]), int(content["num_resamples"])
    return ExperimentOf.from_dict(content, MODELS)


def main(arguments: Sequence[str]) -> int:
    """``medanomaly verify-run FOLDER``."""
    return run_function(verify_run, "medanomaly verify-run", "FOLDER [options]", arguments)

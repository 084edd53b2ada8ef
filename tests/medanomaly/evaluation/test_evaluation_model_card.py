"""K16: a card says what a program can know, and asks for the rest instead of leaving it out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from medanomaly.classifiers.model import ClassifierModelConfig
from medanomaly.cli.export import purpose_of
from medanomaly.config import to_dict
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.evaluation.image_table import ImageLine
from medanomaly.evaluation.model_card import (
    OPEN_QUESTIONS,
    PURPOSES,
    failures,
    intended_use,
    likeness,
    open_questions,
    reporting,
)
from medanomaly.methods.cfg_diffusion import CfgDiffusionConfig
from medanomaly.methods.diffusion_model import DiffusionModelConfig
from medanomaly.methods.experiment import ModelConfig
from medanomaly.training.config import TrainingConfig

HEADER = {
    "experiment": {"preprocess": to_dict(PreprocessConfig(image_size=64)), "training": to_dict(TrainingConfig(seed=7))},
    "provenance": {
        "data": {"manifest_sha256": "f" * 64},
        "environment": {
            "medanomaly": "0.1",
            "git_commit": "c0ffee",
            "machine": "x86_64",
            "threads": 2,
            "packages": {"torch": "2.13"},
        },
    },
}
LINE = ImageLine(
    id="Smith",
    patient_id="Smith",
    label="diseased",
    score=0.5,
    dice=0.4,
    ap=0.6,
    auroc=0.9,
    lesion_px=10,
    num_px=1000,
    flagged_fraction=0.02,
)


@pytest.mark.parametrize(
    "text",
    [
        "by patient",
        "f" * 64,
        "64 px",
        "random, from seed 7",
        "AdamW, learning rate 0.0003",
        "torch 2.13",
        "`c0ffee`",
        "threads: 2",
    ],
)
def test_what_the_header_knows_is_on_the_card(text: str) -> None:
    assert text in reporting(HEADER)


def test_what_an_older_header_does_not_know_is_said_to_be_unknown() -> None:
    text = reporting(HEADER | {"provenance": {}})
    assert text.count("not recorded") == 5
    assert "None" not in text


def test_the_worst_images_are_shown_without_their_names() -> None:
    images = [replace(LINE, dice=0.1 * index) for index in range(12)]
    text = failures([*images, replace(LINE, lesion_px=0, dice=float("nan")), replace(LINE, lesion_px=0, flagged_fraction=0.0)])
    rows = [line for line in text.splitlines() if line.startswith("| 0") or line.startswith("| 1")]
    assert [row.split("|")[1].strip() for row in rows] == [f"{0.1 * index:.3f}" for index in range(10)]
    assert "The 10 lowest of 12 images with a lesion" in text
    assert "Of 2 images without a lesion, 1 have at least one flagged pixel." in text
    assert "Smith" not in text


def test_what_was_not_measured_is_said_even_without_an_evaluation() -> None:
    assert failures([]).startswith("Not measured here:")


@pytest.mark.parametrize("word", ["Clinical role", "qualification", "Sample size", "Ethics", "Funding", "De-identification"])
def test_what_only_a_person_knows_is_asked(word: str) -> None:
    assert word in open_questions()
    assert open_questions().count("?") >= len(OPEN_QUESTIONS)


def test_the_intended_use_excludes_diagnosis() -> None:
    said = [intended_use(purpose) for purpose in PURPOSES]
    assert all("Not intended: diagnosis" in text for text in said)
    assert len(set(said)) == len(PURPOSES) == 3


@pytest.mark.parametrize(
    ("method", "purpose"),
    [
        (CfgDiffusionConfig(), "localize"),
        (DiffusionModelConfig(), "draw"),
        (ClassifierModelConfig(classes=("a", "b")), "classify"),
    ],
)
def test_a_card_says_what_its_model_is_for_and_whom_it_may_resemble(method: ModelConfig, purpose: str) -> None:
    content = {"kind": method.kind, **to_dict(method)}
    assert purpose_of(content) == purpose
    if purpose == "classify":
        assert "among those it was trained on" in likeness("classify")
    else:
        assert "may resemble training images" in likeness(purpose_of(content))

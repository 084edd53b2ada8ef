"""What a model card must say beyond method and numbers: what a program knows is filled in, the rest is asked of a person.

Items follow CLAIM (Mongan et al. 2020), TRIPOD+AI (Collins et al. 2024) and model cards (Mitchell et al. 2019, arXiv:1810.03993).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from medanomaly.evaluation.image_table import ImageLine

NUM_WORST = 10
"""Images of the failure analysis."""

OPEN_QUESTIONS = (
    "Clinical role: who would look at the maps, of whose images, and what would they decide by them?",
    "Reference standard: who labelled and outlined, with which qualification, how many of them, and how well did they agree?",
    "Selection: which images were left out and why; what became of uncertain and missing labels?",
    "Sample size: why are there as many patients as there are, and what difference could they show?",
    "De-identification: by whom and how; could burned-in text or a face be left?",
    "Ethics: which approval or waiver, and which consent, cover the images and this use of them?",
    "Funding and conflicts of interest: who paid, and who gains?",
)
"""What no file of a run can answer."""


Purpose = Literal["localize", "draw", "classify"]
"""What a model is for."""

PURPOSES: Mapping[Purpose, str] = {
    "localize": "to localize what looks unlike healthy images",
    "draw": "to draw images like those of its training set",
    "classify": "to name the class of images, noisy ones too, and to guide a generator by it",
}


def intended_use(purpose: Purpose) -> str:
    """Two sentences for the top of a card."""
    return (
        f"Intended use: research, {PURPOSES[purpose]}. Not intended: diagnosis, triage, screening, or any other decision\n"
        "about a person; images of another kind, view or source than those it was trained on."
    )


def likeness(purpose: Purpose) -> str:
    """What weights may give away of the images they were trained on (Carlini et al. 2023, arXiv:2301.13188: diffusion models do)."""
    if purpose == "classify":
        return "Whoever has the weights may be able to tell whether an image was among those it was trained on."
    made = "Samples" if purpose == "draw" else "Pseudo-healthy images and samples"
    return (
        f"{made} may resemble training images, down to features of one person. Where those are private, so are the weights and what\n"
        "they draw, until somebody has looked for near copies (`medanomaly evaluate-samples` lists nearest training images)."
    )


def reporting(header: Mapping[str, Any]) -> str:
    """A list of what the checkpoint's header knows of data, preprocessing, training and versions.

    Args:
        header: of a checkpoint: experiment, step, provenance.
    """
    experiment, provenance = header["experiment"], header["provenance"]
    preprocess, training = experiment["preprocess"], experiment["training"]
    environment = provenance.get("environment", {})
    manifest = provenance.get("data", {}).get("manifest_sha256")
    packages = ", ".join(f"{name} {version}" for name, version in environment.get("packages", {}).items())
    low, high = preprocess.get("percentiles", (0.5, 99.5))
    items = {
        "Split": f"by patient, in the manifest; its SHA-256 is {f'`{manifest}`' if manifest else 'not recorded'}",
        "Preprocessing": (
            f"padded to a square with {preprocess['pad_value']:g}, resized to {preprocess['image_size']} px with antialiasing; intensity "
            f"{preprocess['intensity']}"
            + (f", percentiles {low:g} to {high:g} where the file names no range" if low < high else "")
        ),
        "Initialization": f"random, from seed {training['seed']}; nothing pretrained",
        "Optimiser": (
            f"AdamW, learning rate {training['learning_rate']:g}, weight decay {training['weight_decay']:g}, {training['warmup_steps']} "
            f"steps of warm-up, then {training['decay']}; gradient norm at most {training['grad_clip']:g}; left-right flips "
            + ("on" if training["flip"] else "off")
        ),
        "Which weights": "the moving average after the last step: no step was chosen by a result",
        "Training seeds": f"one ({training['seed']}): how much the numbers vary between trainings is not in the intervals",
        "Software": packages or "not recorded",
        "Hardware": f"{environment.get('machine', 'not recorded')}, threads: {environment.get('threads', 'not recorded')}"
        + (f", {provenance['device']}" if provenance.get("device") else ""),
        "Code": f"medanomaly {environment.get('medanomaly', 'of unknown version')}, commit "
        + (f"`{environment['git_commit']}`" if environment.get("git_commit") else "not recorded"),
    }
    return "\n".join(f"* {name}: {value}." for name, value in items.items())


def failures(images: Sequence[ImageLine]) -> str:
    """The images with the lowest Dice without their names, and what was not tried; for a model that was not evaluated the latter only."""
    lesioned = [one for one in images if one.lesion_px > 0 and not math.isnan(one.dice)]
    worst = sorted(lesioned, key=lambda one: (one.dice, one.id))[:NUM_WORST]
    lines = []
    if worst:
        lines += [f"The {len(worst)} lowest of {len(lesioned)} images with a lesion, at the validation threshold:", ""]
        lines += ["| Dice | AP in the image | lesion, % of the image | image score |", "|---|---|---|---|"]
        for one in worst:
            area = 100 * one.lesion_px / one.num_px
            lines.append(f"| {one.dice:.3f} | {one.ap:.3f} | {area:.2f} | {one.score:.3g} |")
        lines.append("")
    alarms = [one for one in images if one.lesion_px == 0 and one.flagged_fraction > 0]
    clear = [one for one in images if one.lesion_px == 0]
    if clear:
        lines += [f"Of {len(clear)} images without a lesion, {len(alarms)} have at least one flagged pixel.", ""]
    lines.append("Not measured here: other scanners and hospitals, subgroups by sex and age, noise, other training seeds.")
    return "\n".join(lines)


def open_questions() -> str:
    """A numbered list: an item that only a person can fill is asked, never left out."""
    asked = "\n".join(f"{number}. {question}" for number, question in enumerate(OPEN_QUESTIONS, start=1))
    return f"Before any use beyond research a person must answer:\n\n{asked}"

"""What a job shall write: the words of ``--to`` and the options that go with them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medanomaly.errors import ConfigError
from medanomaly.evaluation.bulk_outputs import DICOM_KINDS, KINDS, NEED_THRESHOLD, PLAIN
from medanomaly.io.dicom_codes import DEFAULT_FINDING, finding_code

WITHHELD = "E_BURNED_IN"
"""Reason of outputs that were refused while their image was localized."""
CLASS_FINDINGS = (
    *("cardiomegaly", "edema", "hemorrhage", "mass", "neoplasm", "nodule", "pleural effusion", "pneumothorax", "tumor"),
)
"""Class names that are findings with a code; any other class, such as "diseased", is a lesion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinds:
    """The checked options, named as in :class:`medanomaly.evaluation.bulk_outputs.BulkSettings`."""

    kinds: tuple[str, ...]
    keep_patient: bool
    burned_in: bool
    finding: str
    volumes: bool

    def settings(self) -> dict[str, Any]:
        """Keyword arguments of the job's settings."""
        chosen = {"kinds": self.kinds, "keep_patient": self.keep_patient, "burned_in": self.burned_in}
        return chosen | {"finding": self.finding, "volumes": self.volumes}

    def identity(self) -> dict[str, Any]:
        """What decides the outputs, for the job's hash: nothing where they are what they were before there was a choice."""
        content: dict[str, Any] = {} if self.kinds == (PLAIN,) else {"to": self.kinds}
        content |= {"keep_patient": True} if self.keep_patient and set(self.kinds) & set(DICOM_KINDS) else {}
        content |= {"burned_in": True} if self.burned_in else {}
        return content | ({"finding": self.finding} if "seg" in self.kinds else {})


def kinds_of(
    to: str,
    *,
    keep_patient: bool,
    finding: str,
    volume: bool | None,
    frame: int | None,
    threshold: float | None,
    burned_in: str = "skip",
    diseases: Sequence[str] = (),
) -> Kinds:
    """The options of ``localize`` about its outputs, checked before anything is computed.

    Args:
        to: words divided by commas.
        keep_patient: of DICOM outputs.
        finding: name of a coded finding, or "auto": the model's one disease where that is one, else lesion.
        volume: whether NIfTI volumes are done whole; None = where ``to`` has nifti and no frame was chosen.
        frame: the frame that was chosen.
        threshold: of the job.
        burned_in: "skip" or "keep", of pictures of sources that say that text is burned into their pixels.
        diseases: the model's class names but the healthy one.

    Raises:
        ConfigError: E_CONFIG, an unknown word, kinds that need a threshold without one, or contradicting options; E_FINDING.
    """
    words = [word.strip() for word in to.split(",")]
    for word in words:
        if word not in KINDS:
            near = difflib.get_close_matches(word, KINDS, n=1, cutoff=0.4)
            advice = f"did you mean {near[0]}?" if near else f"choose of {', '.join(KINDS)}"
            raise ConfigError(f"--to has an unknown kind {word!a}", code="E_CONFIG", fix=advice)
    kinds = tuple(kind for kind in KINDS if kind in words)
    if burned_in not in ("skip", "keep"):
        raise ConfigError(f"--burned-in must be skip or keep, got {burned_in!a}", code="E_CONFIG")
    if "pr" in kinds and not keep_patient:
        raise ConfigError(
            "--to pr needs --keep-patient true: a presentation state names the UIDs of its image, or draws on nothing",
            code="E_CONFIG",
            fix="use --to seg for the mask without identity",
        )
    unmarked = [kind for kind in kinds if kind in NEED_THRESHOLD]
    if unmarked and threshold is None:
        raise ConfigError(
            f"--to {','.join(unmarked)} needs a threshold, and this checkpoint and sampler have none",
            code="E_CONFIG",
            fix="give one with --threshold, or leave them out",
        )
    if volume and ("nifti" not in kinds or frame is not None):
        raise ConfigError("--volume true needs nifti in --to, and no --frame", code="E_CONFIG", fix="use --to nifti")
    whole = "nifti" in kinds and frame is None if volume is None else volume
    if finding == "auto":
        known = [name.lower() for name in diseases if name.lower() in CLASS_FINDINGS]
        finding = known[0] if len(known) == 1 == len(diseases) else DEFAULT_FINDING
    if "seg" in kinds:
        finding_code(finding)
    return Kinds(kinds=kinds, keep_patient=keep_patient, burned_in=burned_in == "keep", finding=finding, volumes=whole)


def about_withheld(count: int) -> str:
    """A line, with its end, about pictures that were refused; "" for none."""
    if not count:
        return ""
    what = f"pictures of {count} image{'s' if count > 1 else ''} were not written"
    return f"{what}: text is burned into the pixels [{WITHHELD}]; once somebody has looked, --burned-in keep writes them\n"

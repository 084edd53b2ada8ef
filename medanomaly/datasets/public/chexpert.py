"""CheXpert: 224,316 chest radiographs of 65,240 patients (Irvin et al. 2019, arXiv:1901.07031), with the masks of CheXlocalize."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medanomaly.datasets.check import some
from medanomaly.datasets.findings import Finding
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.public.chexlocalize import with_masks
from medanomaly.datasets.public.chexpert_labels import (
    PROJECTIONS,
    Film,
    Uncertain,
    checked_observation,
    label_films,
    read_films,
)
from medanomaly.datasets.public.chexpert_layout import TREE, Layout, find_layout
from medanomaly.datasets.public.listing import Listing, Progress, silent
from medanomaly.datasets.splits import hold_out_validation
from medanomaly.errors import ConfigError, InputError
from medanomaly.rng import stable_hash

SOURCE = "CheXpert"


def chexpert(
    root: Path,
    folder: Path,
    *,
    observation: str = "Pleural Effusion",
    uncertain: Uncertain = "ignore",
    frontal_only: bool = True,
    projections: tuple[str, ...] = ("AP", "PA"),
    one_image_a_patient: bool = True,
    sample: int = 0,
    keep_unlabelled: bool = False,
    test: Literal["valid", "test", "both"] = "valid",
    masks: Path | None = None,
    resize_masks: bool = False,
    val_fraction: float = 0.1,
    seed: int = 0,
    progress: Progress[Any] = silent,
) -> Listing:
    """CheXpert, full or small, with CheXlocalize's masks: healthy = No Finding, diseased = one observation.

    No film is opened unless a mask belongs to it, and no other than a chosen one is looked for on disk, so W_MISSING names the
    films that would have been taken and are not there. In the training part the films are ranked by a hash of (seed, film) and
    taken in this order: of a patient the first that is there, of a class the first ``sample``.

    Args:
        root: folder that holds CheXpert-v1.0 or CheXpert-v1.0-small, or one of them itself
        folder: of the manifest; masks are written below it
        observation: what makes a film diseased
        uncertain: what -1 means, ignore (no class), ones (present) or zeros (absent)
        frontal_only: leave lateral films out
        projections: kept among frontal films, of AP, PA, LL and RL
        one_image_a_patient: keep one training film of each patient, chosen by a hash of the seed; test films are all kept
        sample: at most so many films of each class for train and val together, 0 = all
        keep_unlabelled: keep films that are neither healthy nor diseased, for classifiers of several observations
        test: the test split, valid.csv, test.csv or both; what is not chosen is left out
        masks: CheXlocalize's folder, one of its gt_segmentations files, or a folder of PNG masks; relative paths may start at ROOT
        resize_masks: bring masks to the size of reduced films
        val_fraction: share of the training patients that becomes val
        seed: of the choice of films and of val patients
        progress: a progress bar

    Raises:
        ConfigError: E_CONFIG, an option that cannot be.
        InputError: E_LAYOUT, E_COLUMN, E_ROW, E_TRAVERSAL, E_LEAKAGE (a patient in the training and a test table), E_EMPTY (no film
            is left), and what :func:`with_masks` refuses.
    """
    checked_observation(observation)
    wrong = [name for name in projections if name not in PROJECTIONS]
    if wrong or not projections:
        raise ConfigError(f"projections must be of {', '.join(PROJECTIONS)}, got {list(projections)}", code="E_CONFIG")
    if sample < 0:
        raise ConfigError(f"sample must be 0 (all) or more, got {sample}", code="E_CONFIG")
    if not 0 <= val_fraction < 1:
        raise ConfigError(f"val_fraction must be at least 0 and below 1, got {val_fraction}", code="E_CONFIG")
    layout = find_layout(root)
    findings: list[Finding] = []
    films: dict[str, list[Film]] = {}
    for split, parts in {"train": ("train",), "test": ("valid", "test") if test == "both" else (test,)}.items():
        films[split] = []
        for part in parts:
            if part not in layout.tables and part != "train":
                raise InputError(f"has no {part}.csv", code="E_LAYOUT", path=root, fix="choose another part with --test")
            if part in layout.tables:
                read, doubts = read_films(layout.tables[part])
                films[split] += read
                findings += doubts
    if not films["train"]:
        findings.append(Finding(code="W_NO_TRAIN", message="there is no train.csv: the manifest has test rows only"))
    refuse_leakage(films["train"], films["test"], root)

    viewed, doubts = of_views(films, projections, frontal_only=frontal_only)
    findings += doubts
    chosen: list[Record] = []
    missing: list[str] = []
    for split, choice in {
        "train": Choice(one_a_patient=one_image_a_patient, sample=sample),
        "test": Choice(one_a_patient=False, sample=0),
    }.items():
        labelled, doubts = label_films(viewed[split], observation, uncertain, keep_unlabelled=keep_unlabelled)
        findings += doubts
        records, absent = choose(labelled, layout, split, choice, seed)
        chosen += records
        missing += absent
    findings += some("W_MISSING", "films that are not there, left out", sorted(missing), "fetch them")
    if not chosen:
        raise InputError(
            f"no film is left of {len(films['train'])} training and {len(films['test'])} test rows, {len(missing)} files are missing",
            code="E_EMPTY",
            path=root,
            fix=f"loosen the options, or mend the tree; expected {TREE}",
        )
    if masks is not None:
        # A relative path may start at ROOT as well, where the whole download often lies.
        masks = masks if masks.exists() else root / masks
        chosen, doubts = with_masks(chosen, masks, observation, folder, resize=resize_masks, progress=progress)
        findings += doubts
    if any(record.split == "train" for record in chosen):
        chosen = hold_out_validation(chosen, val_fraction, seed)
    return Listing(records=sorted(chosen, key=lambda record: record.id), findings=tuple(findings))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which films of a part are taken."""

    one_a_patient: bool
    sample: int
    """Of each class; 0 = all."""


def choose(
    labelled: Sequence[tuple[Film, str | None]], layout: Layout, split: str, choice: Choice, seed: int
) -> tuple[list[Record], list[str]]:
    """Records of the chosen films, and the ids of those that would have been chosen and are not there.

    The answer does not depend on the order of the rows, and another class, seed or a missing file changes no more than it must.
    """
    ranked = sorted(labelled, key=lambda pair: (stable_hash(seed, SOURCE, pair[0].id), pair[0].id))
    records: list[Record] = []
    missing: list[str] = []
    patients: set[str] = set()
    counts: Counter[str | None] = Counter()
    for film, label in ranked:
        if (choice.one_a_patient and film.patient in patients) or (choice.sample and counts[label] >= choice.sample):
            continue
        image = layout.film(film.id)
        if image is None:
            missing.append(film.id)
            continue
        patients.add(film.patient)
        counts[label] += 1
        records.append(
            Record(
                id=film.id,
                patient_id=film.patient,
                image=image,
                label=label,
                split=split,
                observations=film.observations,
                view=film.view,
                source=SOURCE,
            )
        )
    return records, missing


def of_views(
    films: dict[str, list[Film]], projections: Sequence[str], *, frontal_only: bool
) -> tuple[dict[str, list[Film]], list[Finding]]:
    """split -> films of the wanted views; frontal films that are neither AP nor PA are reported where they are left out.

    A frontal film of unknown projection, as in tables without the column AP/PA, is kept where both AP and PA are wanted.
    """
    wanted = {*projections, *([""] if {"AP", "PA"} <= set(projections) else [])}
    kept, odd = {}, []
    for split, part in films.items():
        kept[split] = [film for film in part if (film.projection in wanted if film.is_frontal else not frontal_only)]
        odd += [film.id for film in part if film.is_frontal and film.projection in {"LL", "RL"} - wanted]
    return kept, some("W_PROJECTION", "frontal films whose column AP/PA says LL or RL, left out", odd, "add them: --projections")


def refuse_leakage(training: Sequence[Film], testing: Sequence[Film], root: Path) -> None:
    """InputError naming every patient of both the training and the test tables."""
    shared = sorted({film.patient for film in training} & {film.patient for film in testing})
    if shared:
        raise InputError(
            f"{len(shared)} patients are in the training and in the test table: {', '.join(shared)}",
            code="E_LEAKAGE",
            path=root,
            fix="use the tables as published",
        )

"""BraTS: gliomas in four MRI modalities, cut into axial slices with and without tumour.

The challenges (Menze et al. 2015, doi:10.1109/TMI.2014.2377694; Baid et al. 2021, arXiv:2107.02314) publish volumes of patients
who all have a tumour. What stands for health is a slice without tumour, as in Wolleb et al. 2022 (arXiv:2203.04306).
"""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medanomaly.datasets.findings import Finding
from medanomaly.datasets.manifest import SPLITS, Record
from medanomaly.datasets.public.brats_layout import MODALITIES, Case, find_cases, some
from medanomaly.datasets.public.brats_pictures import (
    forget_facts,
    image_path,
    keep_facts,
    kept_facts,
    made_of,
    mask_path,
    missing_slices,
    write_slices,
)
from medanomaly.datasets.public.brats_slices import Facts, read_case
from medanomaly.datasets.public.listing import Listing, Progress, silent
from medanomaly.datasets.splits import split_by_patient
from medanomaly.errors import ConfigError, InputError
from medanomaly.io.volume import DISPLAY_ORDER

HEALTHY, DISEASED = "healthy", "diseased"


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceRule:
    """Which slices are used, and as what."""

    skip_low: int
    """Slices left out at the bottom of a volume; not of slices cut beforehand."""
    skip_high: int
    """Slices left out at its top."""
    healthy_gap: int
    """A healthy slice lies further than this from every slice with tumour."""
    min_lesion_px: int
    """Fewest tumour pixels of a diseased slice."""
    min_brain: float
    """Least part, 0..1, of a slice that is brain."""

    def __post_init__(self) -> None:
        for name in ("skip_low", "skip_high", "healthy_gap"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be 0 or more slices, got {getattr(self, name)}", code="E_CONFIG")
        if self.min_lesion_px < 1:
            raise ConfigError(f"min_lesion_px must be at least 1, got {self.min_lesion_px}", code="E_CONFIG")
        if not 0 <= self.min_brain <= 1:
            raise ConfigError(f"min_brain must be in 0..1, got {self.min_brain}", code="E_CONFIG")

    def verdicts(self, facts: Facts, *, is_volume: bool) -> dict[int, str]:
        """slice number -> "healthy", "diseased", or why it is used as neither; without the slices skipped at the ends."""
        last = len(facts.numbers) - self.skip_high if is_volume else len(facts.numbers)
        tumour = [number for number, count in zip(facts.numbers, facts.lesion_px, strict=True) if count]
        verdicts = {}
        for index in range(self.skip_low if is_volume else 0, last):
            number, count = facts.numbers[index], facts.lesion_px[index]
            if facts.brain_share[index] < self.min_brain:
                verdicts[number] = f"show less brain than {self.min_brain:g} of the picture"
            elif count:
                verdicts[number] = (
                    DISEASED if count >= self.min_lesion_px else f"hold less than {self.min_lesion_px} px of tumour"
                )
            elif any(abs(number - other) <= self.healthy_gap for other in tumour):
                verdicts[number] = f"lie within {self.healthy_gap} slices of a tumour"
            else:
                verdicts[number] = HEALTHY
        return verdicts


def brats(
    root: Path,
    folder: Path,
    *,
    modalities: tuple[str, ...] = MODALITIES,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    skip_low: int = 80,
    skip_high: int = 26,
    healthy_gap: int = 0,
    min_lesion_px: int = 1,
    min_brain: float = 0.05,
    percentile: float = 99.0,
    seed: int = 0,
    progress: Progress[Any] = silent,
) -> Listing:
    """BraTS brain MRI: axial slices of several modalities with and without tumour, and masks, cut from the volumes of any year.

    Writes ``folder/images/<subject>/z081.npy``, (C, H, W) float16 in [0, 1] with a channel for each modality, and
    ``folder/masks/<subject>/z081.png`` where there is tumour. Slices are in radiological view (front at the top, the patient's
    right at the left), whatever order the header gives; the number counts from the bottom of the head. Each modality of a volume is
    divided by a percentile of its voxels above 0, 99 by default as in Kascenas et al. 2022 (MIDL), and clipped. The first 80 and
    last 26 of 155 slices are left out as in Wolleb et al. 2022 (arXiv:2203.04306). What lies there already, made of the same files
    with the same settings, is not made again.

    Args:
        root: the folder that holds the subjects, in any depth
        folder: where images and masks are written
        modalities: channels in this order, of flair, t1, t1ce, t2; overlays show the first
        fractions: of patients in train, val and test; no labelled test set is published
        skip_low: slices left out at the bottom of each volume
        skip_high: slices left out at the top of each volume
        healthy_gap: a healthy slice lies further than this many slices from every slice with tumour
        min_lesion_px: fewest tumour pixels of a diseased slice; slices with fewer are left out
        min_brain: slices with a smaller part of brain, 0..1, are left out
        percentile: of a volume's voxels above 0, 0..100, that becomes 1
        seed: of the splits
        progress: shows how far it is

    Raises:
        ConfigError: E_CONFIG, options that cannot be.
        InputError: E_MISSING, E_NOT_REGULAR, E_LAYOUT, E_EMPTY (nothing usable is left) or E_TOO_FEW (patients for the splits).
        ResourceError: a file cannot be written.
    """
    check_options(modalities, fractions, percentile)
    rule = SliceRule(
        skip_low=skip_low, skip_high=skip_high, healthy_gap=healthy_gap, min_lesion_px=min_lesion_px, min_brain=min_brain
    )
    # Links followed, as manifests do.
    folder = Path(os.path.realpath(folder))
    layout = find_cases(root, modalities)
    records: list[Record] = []
    known: dict[str, Facts] = {}
    unused: Counter[str] = Counter()
    faults: dict[str, list[tuple[str, InputError]]] = defaultdict(list)
    for case in progress(layout.cases, "slices"):
        try:
            known[case.id], verdicts = extract(case, folder, rule, modalities, percentile)
        except InputError as error:
            faults[error.code].append((case.id, error))
            continue
        unused.update(verdict for verdict in verdicts.values() if verdict not in (HEALTHY, DISEASED))
        records += records_of(case, folder, known[case.id], verdicts)
    findings = (*layout.findings, *unusable(faults), *remarks(known, records, unused))
    if not records:
        raise InputError(
            f"gives no slice of {len(layout.cases)} subjects: {'; '.join(map(str, findings)) or 'all are skipped'}",
            code="E_EMPTY",
            fix="see what was left out, and choose other options",
            path=root,
        )
    return Listing(records=split_by_patient(records, fractions, seed, healthy_class=HEALTHY), findings=findings)


def check_options(modalities: Sequence[str], fractions: Sequence[float], percentile: float) -> None:
    """ConfigError before hours of work, not after."""
    unknown = [name for name in modalities if name not in MODALITIES]
    if unknown or not modalities or len(set(modalities)) != len(modalities):
        raise ConfigError(
            f"modalities must be different ones of {', '.join(MODALITIES)}, got {', '.join(map(ascii, modalities)) or 'none'}",
            code="E_CONFIG",
        )
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise ConfigError(
            f"fractions must be three numbers >= 0 that sum to 1 (train, val, test), got {tuple(fractions)}", code="E_CONFIG"
        )
    if not 0 < percentile <= 100:
        raise ConfigError(f"percentile must be above 0 and at most 100, got {percentile}", code="E_CONFIG")


def extract(
    case: Case, folder: Path, rule: SliceRule, modalities: Sequence[str], percentile: float
) -> tuple[Facts, dict[int, str]]:
    """Facts and verdicts of a case whose wanted slices all lie in ``folder`` afterwards; the volumes are read only if some do not."""
    is_volume = case.numbers is None
    origin = made_of(case, modalities, percentile)
    facts = kept_facts(folder, case, origin)
    if facts is not None:
        verdicts = rule.verdicts(facts, is_volume=is_volume)
        missing = missing_slices(folder, case, wanted(verdicts))
        if missing:
            write_slices(folder, case, read_case(case, modalities, percentile), missing)
        return facts, verdicts
    pictures = read_case(case, modalities, percentile)
    forget_facts(folder, case)
    verdicts = rule.verdicts(pictures.facts, is_volume=is_volume)
    write_slices(folder, case, pictures, wanted(verdicts))
    keep_facts(folder, case, origin, pictures.facts)
    return pictures.facts, verdicts


def wanted(verdicts: Mapping[int, str]) -> dict[int, bool]:
    """The slices that are used -> whether they are diseased."""
    return {number: verdict == DISEASED for number, verdict in verdicts.items() if verdict in (HEALTHY, DISEASED)}


def records_of(case: Case, folder: Path, facts: Facts, verdicts: Mapping[int, str]) -> list[Record]:
    """Rows of the slices that are used; not yet split."""
    return [
        Record(
            id=f"{case.id}/z{number:03d}",
            patient_id=case.patient,
            image=image_path(folder, case, number),
            label=DISEASED if is_diseased else HEALTHY,
            mask=mask_path(folder, case, number) if is_diseased else None,
            annotated_empty=not is_diseased,
            spacing_mm=facts.spacing_mm,
            intensity_low=0.0,
            intensity_high=1.0,
            view="axial",
            source="BraTS",
        )
        for number, is_diseased in wanted(verdicts).items()
    ]


def unusable(faults: Mapping[str, Sequence[tuple[str, InputError]]]) -> list[Finding]:
    """One finding for each reason why subjects could not be read."""
    return [
        Finding(
            code="W_UNUSABLE",
            message=f"{len(pairs)} subjects left out, the first because: {pairs[0][1]}",
            ids=tuple(case for case, _ in pairs),
        )
        for _, pairs in sorted(faults.items())
    ]


def remarks(known: Mapping[str, Facts], records: Sequence[Record], unused: Mapping[str, int]) -> list[Finding]:
    """What a person should know of the subjects that could be read."""
    used = {record.id.rpartition("/")[0] for record in records}
    turned = [f"{case} ({facts.orientation})" for case, facts in known.items() if facts.orientation not in ("", DISPLAY_ORDER)]
    silent_headers = [case for case, facts in known.items() if not facts.orientation]
    treated = [case for case, facts in known.items() if facts.has_labels_3_and_4]
    return [
        *some("W_NO_SLICES", "subjects give no slice", [case for case in known if case not in used], "skip fewer slices"),
        *(Finding(code="W_LEFT_OUT", message=f"{count} slices left out, they {why}") for why, count in sorted(unused.items())),
        *some("W_ORIENTATION", f"subjects stored in another order than {DISPLAY_ORDER}, turned by their headers", turned),
        *some("W_ORIENTATION", f"subjects whose headers say no direction, taken as {DISPLAY_ORDER}", silent_headers),
        *some("W_TREATED", "subjects with labels 3 and 4: the cavity left by surgery counts as tumour", treated),
    ]

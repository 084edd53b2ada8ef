"""APTOS 2019: fundus photographs graded for diabetic retinopathy (Asia Pacific Tele-Ophthalmology Society, Kaggle)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from medanomaly.datasets.findings import Finding
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.public.aptos_tables import GRADES, graded_photographs
from medanomaly.datasets.public.duplicates import finding, without_duplicates, without_leakage
from medanomaly.datasets.public.extracted import Pixels, picture_folder, write_pictures
from medanomaly.datasets.public.fundus import find_disc, fundus_picture
from medanomaly.datasets.public.listing import Listing, Progress, silent
from medanomaly.datasets.splits import hold_out_validation, split_by_patient
from medanomaly.errors import ConfigError, InputError
from medanomaly.files import safe_name
from medanomaly.io.reader import ReadOptions, read_image
from medanomaly.rng import stable_hash


def aptos(
    root: Path,
    folder: Path,
    *,
    side: int = 512,
    colour: Literal["rgb", "green"] = "rgb",
    min_grade: int = 1,
    grades: bool = False,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    val_fraction: float = 0.1,
    seed: int = 0,
    progress: Progress[Any] = silent,
) -> Listing:
    """Manifest of APTOS 2019 fundus photographs, cut to the retina's circle; healthy = grade 0, diseased = the grades above.

    Args:
        root: the folder that holds train.csv and train_images, or train_1.csv, valid.csv, test.csv and their folders
        folder: of the manifest; the cut photographs go below it
        side: longest side of the written PNG, px; smaller photographs are not enlarged
        colour: rgb, or green for the green plane as a gray image
        min_grade: lowest grade, 1..4, that is diseased; grades between 0 and it are left out
        grades: keep the grades as classes no_dr, mild, moderate, severe, proliferative
        fractions: of the eyes in train, val and test, where no graded test table is there
        val_fraction: share of the training eyes that becomes val, where a test table but no val table is there
        seed: of these splits
        progress: shown while photographs are cut
    """
    if side < 16 or side > 4096:
        raise ConfigError(f"side must be in 16..4096 px, got {side}", code="E_CONFIG")
    if not 1 <= min_grade < len(GRADES):
        raise ConfigError(f"min_grade must be in 1..{len(GRADES) - 1}, got {min_grade}", code="E_CONFIG")
    if colour not in ("rgb", "green"):
        raise ConfigError(f"colour must be rgb or green, got {colour!r}", code="E_CONFIG")
    graded = graded_photographs(root)
    # Before grades are left out, so that a photograph with a grade in and one out of the choice counts as a conflict.
    records, leaking = without_leakage(graded.records)
    records, repeated = without_duplicates(records)
    records = [
        replace(record, label=class_of(int(record.label or 0), grades=grades))
        for record in records
        if not 0 < int(record.label or 0) < min_grade
    ]
    refuse_empty(records, [*graded.findings, *leaking, *repeated], root)
    healthy_class = class_of(0, grades=grades)
    if not graded.has_test:
        records = split_by_patient(records, fractions, seed, healthy_class=healthy_class)
    elif not graded.has_val:
        records = hold_out_validation(records, val_fraction, seed, healthy_class=healthy_class)
    target = picture_folder(folder, f"aptos-{colour}-{side}")
    names = [safe_name(record.id) for record in records]
    problems: dict[str, InputError] = {}
    uncut: list[str] = []

    def read(indices: Sequence[int]) -> Iterator[Pixels | None]:
        for index in indices:
            try:
                pixels = read_image(records[index].image, ReadOptions(channels=3)).pixels
            except InputError as error:
                problems[records[index].id] = error
                yield None
                continue
            disc = find_disc(pixels)
            uncut.extend([records[index].id] if disc is None else [])
            yield fundus_picture(pixels, disc, side, colour)

    # Of all photographs, so that another min_grade does not make the finished ones stale.
    sources = stable_hash(*sorted((record.id, record.image.stat().st_size) for record in graded.records))
    failed = write_pictures(target, names, read, {"set": "aptos", "sources": sources}, progress, "cutting photographs")
    cut = [
        replace(record, image=target / f"{name}.png") for record, name in zip(records, names, strict=True) if name not in failed
    ]
    cut, same_pixels = without_duplicates(cut)
    findings = [
        *graded.findings,
        *leaking,
        *repeated,
        *same_pixels,
        *unreadable(problems),
        *finding("W_NO_DISC", "photographs written uncut in this run: no bright disc in a dark surround was found", uncut),
    ]
    refuse_empty(cut, findings, root)
    return Listing(records=cut, findings=tuple(findings))


def class_of(grade: int, *, grades: bool) -> str:
    """The class a grade becomes."""
    if grades:
        return GRADES[grade]
    return "healthy" if grade == 0 else "diseased"


def refuse_empty(records: Sequence[Record], findings: Sequence[Finding], root: Path) -> None:
    """InputError E_EMPTY with all that was left out, where nothing is left."""
    if not records:
        why = "; ".join(map(str, findings))
        raise InputError("no photograph is left", code="E_EMPTY", path=root, fix=why or "lower --min-grade")


def unreadable(problems: dict[str, InputError]) -> list[Finding]:
    """W_UNREADABLE with every photograph that could not be read, and why the first could not."""
    first = next(iter(problems.values()), None)
    why = "" if first is None else f", the first: {first.message} [{first.code}]"
    return finding("W_UNREADABLE", f"photographs left out, not readable{why}", problems, "download them again")

"""CheXpert's tables: which films there are, what is said of each, and which class follows from it (Irvin et al. 2019, arXiv:1901.07031).

A table has a row a film, with a column for each of 14 observations: 1.0 present, 0.0 absent, -1.0 uncertain, blank not mentioned
in the report. ``train.csv`` was labelled by a program from reports; the tables of the validation and test films by radiologists,
without blanks and without -1.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medanomaly.datasets.check import some
from medanomaly.datasets.csv_rows import rows_of
from medanomaly.datasets.findings import Finding
from medanomaly.datasets.observations import Observations
from medanomaly.datasets.paths import resolve_inside
from medanomaly.errors import ConfigError, InputError

NO_FINDING = "No Finding"
OBSERVATIONS = (
    *(NO_FINDING, "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation"),
    *("Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices"),
)
OTHER_NAME = {"Lung Opacity": "Airspace Opacity"}
"""What CheXlocalize and some copies of the tables call an observation."""
PROJECTIONS = ("AP", "PA", "LL", "RL")
"""Values of the column AP/PA; a few films have LL or RL."""
VALUES = {"1.0": 1, "0.0": 0, "-1.0": -1, "1": 1, "0": 0, "-1": -1, "": None}
FILM_PATH = re.compile(r"(?:[^/\\]+/)*(train|valid|val|test)/(patient\d+)/(study\d+)/(view\d+_(frontal|lateral))\.(jpg|jpeg|png)")

Uncertain = Literal["ignore", "ones", "zeros"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """One row of a table."""

    id: str
    """``part/patientNNNNN/studyN/viewN_frontal.jpg`` with part train, valid or test, however the table's paths begin."""
    patient: str
    is_frontal: bool
    projection: str
    """Column AP/PA of a frontal film; "" where the table does not say."""
    observations: Observations
    """Those that are not blank."""

    @property
    def view(self) -> str:
        """AP, PA, LL, RL, frontal (no more is known) or lateral."""
        return (self.projection or "frontal") if self.is_frontal else "lateral"


def checked_observation(name: str) -> str:
    """The name, if a film can be diseased by it.

    Raises:
        ConfigError: E_CONFIG with the nearest known name.
    """
    choices = OBSERVATIONS[1:]
    if name in choices:
        return name
    by_fold = {choice.casefold(): choice for choice in choices}
    near = difflib.get_close_matches(name.casefold(), by_fold, n=1)
    advice = f"did you mean {by_fold[near[0]]!r}?" if near else f"choose one of {', '.join(choices)}"
    raise ConfigError(f"{name!a} is no observation that can be searched for", code="E_CONFIG", fix=advice)


def read_films(table: Path) -> tuple[list[Film], list[Finding]]:
    """Films of a table, in its order; rows that are there twice are reported.

    Equal rows count once (W_DUPLICATE); of rows that give one film different labels none counts (W_LABEL_CONFLICT). The columns
    Sex, Age and Frontal/Lateral are not used (the file's name says frontal or lateral), and AP/PA may be missing.

    Raises:
        InputError: E_COLUMN, E_EMPTY, E_ROW with the line, E_TRAVERSAL for a path that leaves the data folder, and what
            :func:`rows_of` refuses.
    """
    films: dict[str, Film] = {}
    repeated: set[str] = set()
    contradicting: set[str] = set()
    names: list[tuple[str, str]] = []
    for line, row in rows_of(table, ("Path", "AP/PA", *OBSERVATIONS), required="Path"):
        try:
            names = names or observation_columns(row)
            film = film_of(row, names, table.parent)
        except InputError as error:
            raise InputError(f"line {line}: {error.message}", code=error.code, fix=error.fix, path=table) from error
        if film.id in films:
            (repeated if films[film.id] == film else contradicting).add(film.id)
        films.setdefault(film.id, film)
    if not films:
        raise InputError("has a header but no rows", code="E_EMPTY", fix="fetch the table again", path=table)
    kept = [film for film in films.values() if film.id not in contradicting]
    return kept, [
        *some("W_DUPLICATE", f"films are twice in {table.name} and count once", sorted(repeated - contradicting), ""),
        *some("W_LABEL_CONFLICT", f"films with different rows in {table.name}, left out", sorted(contradicting), ""),
    ]


def observation_columns(row: Mapping[str, str]) -> list[tuple[str, str]]:
    """(observation, its column) of all 14.

    Raises:
        InputError: E_COLUMN with all that are missing.
    """
    pairs = [(name, name if name in row else OTHER_NAME.get(name, name)) for name in OBSERVATIONS]
    missing = [name for name, column in pairs if column not in row]
    if missing:
        raise InputError(
            f"has no column {', '.join(missing)}; columns found: {', '.join(map(ascii, row))}",
            code="E_COLUMN",
            fix="use the table as published, with all 14 observations",
        )
    return pairs


def film_of(row: Mapping[str, str], names: Sequence[tuple[str, str]], folder: Path) -> Film:
    """The film a row speaks of; ``names`` are (observation, column)."""
    path = row["Path"].strip()
    match = FILM_PATH.fullmatch(path)
    if match is None or ".." in path:
        resolve_inside(folder, path)
        raise InputError(
            f"path {path!a} does not end in train, valid or test/patientNNNNN/studyN/viewN_frontal.jpg or _lateral.jpg",
            code="E_ROW",
            fix="use the table as published",
        )
    part, patient, study, stem, side, suffix = match.groups()
    observations = []
    for name, column in names:
        cell = row[column].strip()
        if cell not in VALUES:
            raise InputError(f"{column} must be 1.0, 0.0, -1.0 or blank, got {cell!a}", code="E_ROW")
        value = VALUES[cell]
        if value is not None:
            observations.append((name, value))
    projection = row.get("AP/PA", "").strip()
    if projection and projection not in PROJECTIONS:
        raise InputError(f"AP/PA must be one of {', '.join(PROJECTIONS)} or blank, got {projection!a}", code="E_ROW")
    return Film(
        id=f"{'valid' if part == 'val' else part}/{patient}/{study}/{stem}.{suffix}",
        patient=patient,
        is_frontal=side == "frontal",
        projection=projection if side == "frontal" else "",
        observations=tuple(observations),
    )


def label_films(
    films: Sequence[Film], observation: str, uncertain: Uncertain, *, keep_unlabelled: bool
) -> tuple[list[tuple[Film, str | None]], list[Finding]]:
    """Each film with its class, None where it is neither; those that cannot be judged are reported.

    Diseased = the observation is present. Healthy = No Finding is present and the observation is not. Both at once contradict each
    other (W_LABEL_CONFLICT): the film is left out, because whichever rule were asked last would win.

    Args:
        films: of one or several tables.
        observation: what is searched for.
        uncertain: what -1 in the observation means. "ignore": no class; "ones": present; "zeros": absent. Reported (W_UNCERTAIN).
        keep_unlabelled: keep the films without a class.
    """
    labelled: list[tuple[Film, str | None]] = []
    doubtful, contradicting = [], []
    for film in films:
        said = dict(film.observations)
        value = said.get(observation)
        is_uncertain = value == -1
        if is_uncertain:
            doubtful.append(film.id)
            value = {"ignore": -1, "ones": 1, "zeros": 0}[uncertain]
        is_clear = said.get(NO_FINDING) == 1
        if is_clear and value == 1:
            contradicting.append(film.id)
            continue
        label = "diseased" if value == 1 else "healthy" if is_clear and value != -1 else None
        if label is not None or keep_unlabelled:
            labelled.append((film, label))
    left = "have no label" if keep_unlabelled else "are left out"
    meaning = {"ignore": left, "ones": "count as present", "zeros": "count as absent"}[uncertain]
    return labelled, [
        *some("W_UNCERTAIN", f"films whose {observation} is uncertain {meaning}", doubtful, "another way: --uncertain"),
        *some("W_LABEL_CONFLICT", f"films with both {NO_FINDING} and {observation}, left out", contradicting, ""),
    ]

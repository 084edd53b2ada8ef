"""Labels that a multi-label table leaves open or contradicts: the caller decides, the numbers are told, nothing wins in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from medanomaly.datasets.findings import Finding
from medanomaly.datasets.public.chexpert import chexpert
from medanomaly.datasets.public.chexpert_labels import OBSERVATIONS
from medanomaly.datasets.public.listing import Listing

EFFUSION, CLEAR = "Pleural Effusion", "No Finding"


def listing(root: Path, films: list[dict[str, str]], **options: object) -> Listing:
    """The CheXpert reader's answer to a validation table of one film a patient; unnamed observations are blank."""
    lines = [",".join(["Path", "AP/PA", *OBSERVATIONS])]
    (root / "CheXpert-v1.0-small").mkdir()
    for number, said in enumerate(films):
        path = Path("CheXpert-v1.0-small", "valid", f"patient{number:05d}", "study1", "view1_frontal.jpg")
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(b"\xff\xd8\xff")
        lines.append(",".join([path.as_posix(), "AP", *(said.get(name, "") for name in OBSERVATIONS)]))
    (root / "CheXpert-v1.0-small" / "valid.csv").write_text("\n".join(lines) + "\n")
    return chexpert(root, root, **options)  # type: ignore[arg-type]


def labels(found: Listing) -> dict[int, str | None]:
    """Patient number -> label of what is kept."""
    return {int(record.patient_id.removeprefix("patient")): record.label for record in found.records}


def the(found: Listing, code: str) -> Finding:
    (finding,) = [finding for finding in found.findings if finding.code == code]
    return finding


FILMS = [{EFFUSION: "1.0"}, {EFFUSION: "-1.0"}, {CLEAR: "1.0", EFFUSION: "-1.0"}, {CLEAR: "1.0"}, {}]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({}, {0: "diseased", 3: "healthy"}),
        ({"uncertain": "ignore"}, {0: "diseased", 3: "healthy"}),
        ({"uncertain": "ones"}, {0: "diseased", 1: "diseased", 3: "healthy"}),
        ({"uncertain": "zeros"}, {0: "diseased", 2: "healthy", 3: "healthy"}),
    ],
)
def test_an_uncertain_label_means_what_the_caller_says_and_is_counted(
    tmp_path: Path, policy: dict[str, str], expected: dict[int, str]
) -> None:
    found = listing(tmp_path, FILMS, **policy)
    assert labels(found) == expected
    assert len(the(found, "W_UNCERTAIN").ids) == 2


def test_a_film_without_a_word_on_the_disease_is_neither_healthy_nor_diseased(tmp_path: Path) -> None:
    found = listing(tmp_path, FILMS, keep_unlabelled=True)
    assert labels(found)[4] is None


def test_a_clear_film_with_a_disease_is_reported_and_left_out(tmp_path: Path) -> None:
    found = listing(tmp_path, [{EFFUSION: "1.0", CLEAR: "1.0"}, {EFFUSION: "1.0"}, {CLEAR: "1.0", EFFUSION: "0.0"}])
    assert labels(found) == {1: "diseased", 2: "healthy"}
    conflict = the(found, "W_LABEL_CONFLICT")
    assert len(conflict.ids) == 1
    assert "patient00000" in conflict.ids[0]

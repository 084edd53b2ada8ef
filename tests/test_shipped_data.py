"""The images that travel with the repository are what data/cxr/README.md says."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).resolve().parents[1] / "data" / "cxr"


def rows() -> list[dict[str, str]]:
    with open(FOLDER / "manifest.csv", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_twelve_healthy_and_twelve_diseased_patients_with_one_image_each() -> None:
    assert Counter(row["label"] for row in rows()) == {"healthy": 12, "diseased": 12}
    assert len({row["patient_id"] for row in rows()}) == 24
    assert {row["split"] for row in rows()} == {"test"}


def test_the_manifest_names_every_shipped_image_and_no_other() -> None:
    assert sorted(row["image"] for row in rows()) == sorted(f"images/{path.name}" for path in (FOLDER / "images").iterdir())


def test_every_image_is_gray_128_px_and_carries_no_metadata() -> None:
    for row in rows():
        with Image.open(FOLDER / row["image"]) as image:
            assert (image.format, image.mode, image.size, image.info) == ("PNG", "L", (128, 128), {})


def test_the_licence_and_its_attribution_travel_with_the_images() -> None:
    for text in ((FOLDER / "README.md").read_text(), (FOLDER.parents[1] / "NOTICE").read_text()):
        assert all(
            words in text for words in ("Kermany", "rscbjbr9sj", "Cell", "172:1122", "creativecommons.org/licenses/by/4.0")
        )

"""The page of a deblurring job: what it shows, that it names nobody, and that it stays bounded and whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from job_builders import PATCH, Brightener, image_of, job, scene, write_dicom, write_image

from deblur.page import MAX_PX, in_window_of, reason_of, shown, write_page
from deblur.picture import read_picture
from deblur.policy import Policy
from medanomaly.datasets.manifest import Record

EIGHT = np.rint(255 * scene(40, 52)).astype(np.uint8)


def page_of(records: list[Record], out: Path, policy: Policy, **options: object) -> str:
    _, lines = job(Brightener(), records, out, policy=policy)
    write_page(out / "report.html", records, lines, settings=[("solver", "<b>test</b>")], **options)  # type: ignore[arg-type]
    return (out / "report.html").read_text()


def test_a_page_shows_images_kernel_and_verdict_and_names_nobody(tmp_path: Path) -> None:
    record = replace(write_image(tmp_path / "in" / "a.png", EIGHT), id="Secret, Patient <script>")
    text = page_of([record], tmp_path / "out", Policy(gate=False))
    assert text.count("data:image/png;base64,") >= 4
    for words in ("linear 7@20", "applied", "difference", "row 1", "&lt;b&gt;test&lt;/b&gt;"):
        assert words in text
    assert "Secret" not in text
    assert str(tmp_path) not in text
    assert "http://" not in text
    named = tmp_path / "named.html"
    write_page(named, [record], {}, settings=[], ids=True)
    assert "Secret" not in named.read_text()


def test_refused_images_come_with_their_reasons_and_the_pictures_are_bounded(tmp_path: Path) -> None:
    records = [write_image(tmp_path / "in" / f"{index}.png", np.roll(EIGHT, index, 1)) for index in range(3)]
    text = page_of(records, tmp_path / "out", Policy(), max_cases=1)
    assert "1 of 3 images in pictures" in text
    assert "the kernel explains the picture # log units worse than the best, limit #" in text
    assert "rejected" in text


def test_an_image_that_has_gone_since_costs_only_its_pictures(tmp_path: Path) -> None:
    records = [write_image(tmp_path / "in" / f"{index}.png", EIGHT) for index in range(2)]
    _, lines = job(Brightener(), records, tmp_path / "out")
    records[0].image.unlink()
    write_page(tmp_path / "out" / "report.html", records, lines, settings=[])
    assert "1 images are no longer there" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("kind", ["8 bit", "16 bit", "DICOM", "floats"])
def test_after_is_shown_on_the_scale_of_before(kind: str, tmp_path: Path) -> None:
    field = scene(40, 52)
    makers = {
        "8 bit": lambda: write_image(tmp_path / "in" / "a.png", EIGHT),
        "16 bit": lambda: write_image(tmp_path / "in" / "a.png", np.rint(65535 * field).astype(np.uint16)),
        "DICOM": lambda: write_dicom(tmp_path / "in" / "a.dcm", np.rint(4095 * field).astype(np.uint16), WindowWidth=4000),
        "floats": lambda: write_image(tmp_path / "in" / "a.npy", (1000 * field).astype(np.float32)),
    }
    record = makers[kind]()
    job(Brightener(by=0.05), [record], tmp_path / "out")
    before = read_picture(record)
    after = in_window_of(before, read_picture(Record(id="a", patient_id="a", image=image_of(tmp_path / "out", record.id))))
    change = after - before.y[0].double().numpy()
    inside = np.zeros_like(change, dtype=bool)
    inside[PATCH] = True
    assert np.abs(change[~inside]).max() < 1e-5
    room = 1 - before.y[0].double().numpy()[inside]
    np.testing.assert_allclose(change[inside], np.minimum(0.05, room), atol=2e-4)


def test_large_pictures_are_averaged_down_and_reasons_are_counted_without_their_numbers() -> None:
    assert max(shown(np.zeros((2 * MAX_PX + 1, 30))).shape) <= MAX_PX
    assert reason_of("gradients grew 6.1 times, more than 4: ringing") == "gradients grew # times, more than # ringing"

"""A deblurring job as one self-contained HTML page: before, after, difference, kernel and verdict of a bounded number of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from deblur.kernel_spec import read_kernel
from deblur.picture import WHITE_8, WHITE_16, Picture, read_picture
from medanomaly.datasets.manifest import Record
from medanomaly.errors import MedanomalyError
from medanomaly.views.canvas import png_bytes
from medanomaly.views.report import CaseView, ReportContent, Table, write_report

MAX_PX = 512
"""Longest side of a picture on the page; larger ones are averaged over whole pixels."""
DIFFERENCE_GAIN = 4.0
"""How much stronger than the images the difference is drawn, the same for all: middle gray is no change."""
KERNEL_PX = 128
SHOWN = ("log_likelihood_ratio", "kernel_deficit", "residual_over_noise", "tenengrad_ratio", "out_of_range_share")

Image8 = npt.NDArray[np.uint8]


def write_page(
    path: Path,
    records: Sequence[Record],
    lines: Mapping[str, Mapping[str, Any]],
    *,
    settings: Sequence[tuple[str, str]],
    max_cases: int = 24,
    ids: bool = False,
) -> None:
    """Write the page of a job's folder.

    Args:
        path: file to write, in the job's folder.
        records: of the source, in the order of deblur.csv.
        lines: id -> its line of report.jsonl.
        settings: (name, value) of the job.
        max_cases: images with pictures; deblurred ones come first, then those that a gate refused, then the others.
        ids: name images by their ids; otherwise an image is its row of deblur.csv, which names nobody.
    """
    done = [record for record in records if record.id in lines]
    rows = {record.id: number for number, record in enumerate(done, start=1)}
    order = {"applied": 0, "rejected": 1}
    ranked = sorted(done, key=lambda record: (order.get(lines[record.id]["deblur"]["verdict"], 2), rows[record.id]))
    cases, unread = [], 0
    for record in ranked[:max_cases]:
        try:
            cases.append(case_of(path.parent, record, lines[record.id], record.id if ids else f"row {rows[record.id]}"))
        except MedanomalyError:
            unread += 1  # the image has gone since
    counts = Counter(lines[record.id]["deblur"]["verdict"].replace("_", " ") for record in done)
    reasons = Counter(reason_of(text) for record in done for text in lines[record.id]["deblur"]["reasons"])
    tables = [Table(title="Settings", columns=("setting", "value"), rows=[list(pair) for pair in settings])]
    if reasons:
        why = [[text, str(count)] for text, count in reasons.most_common()]
        notes = ("Sharpness is never a reason to accept a result: ringing is sharp.",)
        tables.append(Table(title="Why images stayed as they were", columns=("reason", "images"), rows=why, notes=notes))
    note = f"{len(cases)} of {len(done)} images in pictures; difference: middle gray is no change, drawn {DIFFERENCE_GAIN:g} times as"
    note += " strong."
    content = ReportContent(
        title="Deblurring",
        subtitle=note + (f" {unread} images are no longer there." if unread else ""),
        summary=[("images", str(len(done))), *((name, str(count)) for name, count in counts.most_common())],
        tables=tables,
        cases=cases,
    )
    write_report(path, content)


def case_of(out: Path, record: Record, line: Mapping[str, Any], caption: str) -> CaseView:
    """One image with its pictures.

    Raises:
        InputError: source or result cannot be read.
    """
    facts = line["deblur"]
    before = read_picture(record)
    result = read_picture(Record(id=record.id, patient_id=record.patient_id, image=out / line["record"]["image"]))
    after = in_window_of(before, result)
    pictures = {"before": shown(before.y[0].double().numpy()), "after": shown(after)}
    change = after - before.y[0].double().numpy()
    pictures["difference"] = shown(0.5 + DIFFERENCE_GAIN * change)
    pictures["kernel"] = kernel_picture(read_kernel(out / facts["kernel_file"]))
    said = [("kernel", f"{facts['kernel']} ({facts['kernel_source']})"), ("verdict", facts["verdict"].replace("_", " "))]
    if facts["confidence"] is not None:
        said.append(("confidence", f"{facts['confidence']:.2f}"))
    values = facts["values"]
    said += [(name.replace("_", " "), f"{values[name]:.3g}") for name in SHOWN if isinstance(values.get(name), int | float)]
    said += [("why", "; ".join(facts["reasons"]))] if facts["reasons"] else []
    images = {name: png_bytes(picture) for name, picture in pictures.items()}
    return CaseView(caption=caption, score=None, label=record.label, images=images, facts=said, compare=("before", "after"))


def in_window_of(before: Picture, after: Picture) -> npt.NDArray[np.float64]:
    """(H, W) the result in the source's [0, 1]."""
    values = after.y[0].double().numpy() * (after.high - after.low) + after.low
    # 8 bits became 16, each level times 257; every other file keeps its units.
    factor = WHITE_16 / WHITE_8 if (before.value_range, after.value_range) == ((0.0, WHITE_8), (0.0, WHITE_16)) else 1.0
    return np.asarray((values / factor - before.low) / (before.high - before.low), dtype=np.float64)


def shown(values: npt.NDArray[np.float64]) -> Image8:
    """(h, w) uint8 of [0, 1] values, at most ``MAX_PX`` a side."""
    factor = -(-max(values.shape) // MAX_PX)
    if factor > 1:
        small = torch.nn.functional.avg_pool2d(torch.from_numpy(values)[None, None], factor, ceil_mode=True)
        values = small[0, 0].numpy()
    return np.asarray(np.rint(255 * values.clip(0, 1)), dtype=np.uint8)


def kernel_picture(kernel: torch.Tensor) -> Image8:
    """The taps as squares, the strongest white; never smaller than it can be seen."""
    taps = kernel.numpy()
    factor = max(1, KERNEL_PX // max(taps.shape))
    gray = np.rint(255 * taps / taps.max()).astype(np.uint8)
    return np.asarray(gray.repeat(factor, 0).repeat(factor, 1), dtype=np.uint8)


def reason_of(text: str) -> str:
    """A reason without its numbers, so that equal reasons are counted together."""
    words = ["#" if any(letter.isdigit() for letter in word) else word for word in text.split()]
    return " ".join(words)

"""A folder of ``medanomaly localize`` as a section of a report: scores, a gallery, what failed and why. There is no truth in it."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medanomaly.errors import InputError
from medanomaly.evaluation.case_pictures import Scale, case_view
from medanomaly.evaluation.folder import Case
from medanomaly.evaluation.job_report import read_report
from medanomaly.evaluation.present import MAX_LISTED, channels_text
from medanomaly.evaluation.settings_table import settings_tables
from medanomaly.files import parse_json
from medanomaly.types import FloatArray
from medanomaly.views.canvas import png_bytes
from medanomaly.views.colour_scale import colour_scale
from medanomaly.views.curves import scores_figure
from medanomaly.views.overlay import map_colours
from medanomaly.views.report import CaseView, Section, Table
from medanomaly.views.sheet import strongest_in_cell

Original = Callable[[Mapping[str, Any]], FloatArray | None]
"""A line of the report -> its image as the job showed it, (C, H, W) in [-1, 1]; None where it cannot be had."""
MAX_PX = 384


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFolder:
    """What a job left behind."""

    path: Path
    run: Mapping[str, Any]
    """run.json; {} where there is none yet."""
    config: Mapping[str, Any]
    lines: tuple[tuple[int, Mapping[str, Any]], ...]
    """(line number in report.jsonl, the line) of each image, the last line of an id; in the order of the file."""


def read_job(path: Path) -> JobFolder:
    """Undo of ``localize``.

    Raises:
        InputError: E_MISSING, no report in it.
    """
    found = {line["id"]: (number, line) for number, line in enumerate(read_report(path / "report.jsonl"), start=1)}
    if not found:
        raise InputError(
            "has no report.jsonl with an image in it", code="E_MISSING", path=path, fix="run `medanomaly localize` first"
        )
    return JobFolder(
        path=path, run=read_object(path / "run.json"), config=read_object(path / "config.json"), lines=tuple(found.values())
    )


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; {} where there is none that can be read: a job may have been killed before it was written."""
    with contextlib.suppress(OSError, ValueError):
        content = parse_json(path.read_bytes())
        return content if isinstance(content, dict) else {}
    return {}


def job_section(job: JobFolder, *, original: Original, max_cases: int, ids: bool = False) -> Section:
    """One job of a report.

    Args:
        job: the folder.
        original: gives images that the folder does not keep.
        max_cases: images in pictures; the others are rows of a table.
        ids: name images as the manifest or folder does; otherwise an image is its line in report.jsonl.
    """
    done = [(number, line) for number, line in job.lines if line["status"] == "ok"]
    failed = [(number, line) for number, line in job.lines if line["status"] == "failed"]
    ranked = sorted(done, key=lambda pair: -score_of(pair[1]))
    chosen = spread_over_ranks(ranked, max_cases)
    settings = job.run.get("settings") or {}
    threshold, unit = settings.get("threshold"), str(settings.get("unit", "map units"))
    scale = Scale(threshold=threshold, scale_max=float(settings.get("scale_max") or 1.0))
    views = [view for number, line in chosen if (view := view_of(job, number, line, scale, original, ids=ids)) is not None]
    intro = f"{len(job.lines)} images: {len(done)} localized, {len(failed)} failed. Nothing is known here of what is diseased."
    if len(chosen) < len(ranked):
        num_top = (len(chosen) + 1) // 2
        intro += f" Pictures: the {num_top} highest scores, and {len(chosen) - num_top} spread evenly over the other ranks."
    intro += " No threshold, so no heatmaps." if threshold is None else f" Heatmaps and outlines (cyan): map > {threshold:.4g}."
    intro += f" All maps share one colour scale, 0 to {scale.scale_max:.3g} ({unit})."
    intro += channels_text(int((job.config.get("preprocess") or {}).get("channels", 1)))
    if any(view.compare is None for view in views):
        intro += " Some originals are not in the folder: name them with --source to compare them with the pseudo-healthy images."
    scores = [score_of(line) for _, line in done]
    return Section(
        title=f"Localized: {job.path.resolve().name}",
        intro=intro,
        tables=failure_tables(failed, ids=ids),
        figures=[("Image scores of all images", scores_figure(scores))] if scores else [],
        cases=views,
        cases_title="Cases, highest score first",
        legend=("One colour scale for all maps of this section.", colour_scale(scale.scale_max, threshold, unit=unit)),
        details=[*([score_table(ranked, ids=ids)] if ranked else []), *settings_tables(job.config)],
    )


def job_summary(job: JobFolder) -> list[tuple[str, str]]:
    """The few numbers to read first."""
    counts = Counter(line["status"] for _, line in job.lines)
    name = job.path.resolve().name
    return [(f"{name}: localized", str(counts["ok"])), (f"{name}: failed", str(counts["failed"]))]


def score_of(line: Mapping[str, Any]) -> float:
    """The image's score; 0 in a report of a version that did not write it."""
    score = line.get("score")
    return float(score) if isinstance(score, int | float) else 0.0


def spread_over_ranks(ranked: Sequence[Any], count: int) -> list[Any]:
    """Up to ``count``: the first half from the top, the other half evenly over the remaining ranks, the last one among them."""
    if len(ranked) <= count:
        return list(ranked)
    num_top = (count + 1) // 2
    rest = ranked[num_top:]
    places = np.linspace(len(rest) / max(count - num_top, 1) - 1, len(rest) - 1, count - num_top).round().astype(int)
    return [*ranked[:num_top], *(rest[place] for place in places)]


def name_of(number: int, line: Mapping[str, Any], *, ids: bool) -> str:
    """What a page calls an image."""
    return str(line["id"]) if ids else f"line {number}"


def view_of(
    job: JobFolder, number: int, line: Mapping[str, Any], scale: Scale, original: Original, *, ids: bool
) -> CaseView | None:
    """Pictures of one image from its files; None where its map is not among them, or not a plane."""
    anomaly_map = plane_of(job.path, line)
    if anomaly_map is None:
        return None
    caption = name_of(number, line, ids=ids)
    facts = (("note", str(line["message"])),) if line.get("message") else ()
    twin = picture_of(job.path, line, "pseudo_healthy/")
    pixels = original(line)
    if pixels is None:
        # What the job kept itself; jobs of before it did, and films with text in their pixels, have none.
        pixels = picture_of(job.path, line, "images/")
    if pixels is not None and pixels.shape[-2:] == anomaly_map.shape:
        fits = twin is not None and twin.shape[-2:] == anomaly_map.shape
        case = Case(
            label=None,
            score=score_of(line),
            pixels=pixels,
            pseudo_healthy=twin if fits else None,
            anomaly_map=anomaly_map,
            reference=None,
        )
        return case_view(case, caption, scale, facts=facts)
    images = {}
    for name, start in (("heatmap", "overlays/"), ("pseudo-healthy", "pseudo_healthy/")):
        if (shown := stored_picture(job.path, line, start)) is not None:
            images[name] = shown
    images["difference map"] = png_bytes(map_colours(strongest_in_cell(anomaly_map, MAX_PX), scale_max=scale.scale_max))
    return CaseView(caption=caption, score=score_of(line), label=None, images=images, facts=facts)


def output_of(folder: Path, line: Mapping[str, Any], start: str, end: str) -> Path | None:
    """The output below a subfolder; None where there is none, or it would lie outside of the folder: a report may have been edited."""
    fence = Path(os.path.realpath(folder))
    for name in line["outputs"]:
        path = Path(os.path.realpath(folder / name))
        if name.startswith(start) and name.endswith(end) and path.is_relative_to(fence) and path.is_file():
            return path
    return None


def plane_of(folder: Path, line: Mapping[str, Any]) -> FloatArray | None:
    """(H, W) map of an image; None where the job wrote none, or one of a volume."""
    path = output_of(folder, line, "maps/", ".npy")
    if path is None:
        return None
    found = np.load(path, allow_pickle=False)
    return found.astype(np.float32) if found.ndim == 2 and found.size else None


def picture_of(folder: Path, line: Mapping[str, Any], start: str) -> FloatArray | None:
    """(1 or 3, H, W) in [-1, 1] of an 8-bit PNG."""
    path = output_of(folder, line, start, ".png")
    if path is None:
        return None
    with Image.open(path) as stored:
        values = np.asarray(stored.convert("L" if stored.mode in ("L", "1") else "RGB"), dtype=np.float32) / 127.5 - 1
    return values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)


def stored_picture(folder: Path, line: Mapping[str, Any], start: str) -> bytes | None:
    """A PNG of the folder, shrunk to fit a page where it is larger."""
    path = output_of(folder, line, start, ".png")
    if path is None:
        return None
    with Image.open(path) as stored:
        shown = stored.convert("L" if stored.mode in ("L", "1") else "RGB")
        shown.thumbnail((MAX_PX, MAX_PX))
        return png_bytes(np.asarray(shown, dtype=np.uint8))


def failure_tables(failed: Sequence[tuple[int, Mapping[str, Any]]], *, ids: bool) -> list[Table]:
    """How many failed for which reason, and each of them; [] where none did."""
    if not failed:
        return []
    reasons = Counter(str(line.get("reason_code", "")) for _, line in failed)
    rows = [
        [name_of(number, line, ids=ids), str(line.get("reason_code", "")), str(line.get("message", ""))]
        for number, line in failed
    ]
    notes = [] if ids else ["A line is the image's in report.jsonl, which has its id."]
    if len(rows) > MAX_LISTED:
        notes.append(f"{len(rows) - MAX_LISTED} more in report.jsonl.")
    return [
        Table(
            title="Failures by reason",
            columns=["reason", "images"],
            rows=[[code, str(count)] for code, count in reasons.most_common()],
        ),
        Table(
            title="Failures", columns=["image", "reason", "message"], rows=rows[:MAX_LISTED], notes=notes, folded=len(rows) > 20
        ),
    ]


def score_table(ranked: Sequence[tuple[int, Mapping[str, Any]]], *, ids: bool) -> Table:
    """Every localized image by falling score."""
    rows = [
        [
            name_of(number, line, ids=ids),
            f"{score_of(line):.4g}",
            f"{float(line.get('seconds') or 0):.2f}",
            str(line.get("message", "")),
        ]
        for number, line in ranked[:MAX_LISTED]
    ]
    notes = [] if ids else ["A line is the image's in report.jsonl, which has its id."]
    if len(ranked) > MAX_LISTED:
        notes.append(f"{len(ranked) - MAX_LISTED} more in report.jsonl.")
    columns = ["image", "score", "seconds", "note"]
    return Table(title="All images", columns=columns, rows=rows, notes=notes, folded=True, sortable=True)

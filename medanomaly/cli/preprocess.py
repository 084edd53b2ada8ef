"""medanomaly preprocess: a folder tree or a manifest in, small square PNGs out, with the tree and the annotations kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from medanomaly.cli.output import make_folder
from medanomaly.cli.parsing import run_function
from medanomaly.config import to_dict
from medanomaly.datasets.copied_tables import copy_tables, table_files
from medanomaly.datasets.findings import Finding
from medanomaly.datasets.manifest import Record, read_manifest, write_manifest
from medanomaly.datasets.preprocess import ResizeConfig, Work
from medanomaly.datasets.preprocess_plan import (
    MASK_PATTERN,
    refuse_overwriting_sources,
    work_of_manifest,
    work_of_tree,
)
from medanomaly.errors import ConfigError, InputError, Preempted
from medanomaly.evaluation.bulk_preprocess import preprocess_all
from medanomaly.evaluation.job_report import Summary
from medanomaly.files import write_json
from medanomaly.training.log import environment
from medanomaly.training.preempt import stop_requested

MANIFEST, TREE_MANIFEST = "manifest.csv", "preprocessed.csv"
"""A tree's rows know no label. Their table has another name, so that `medanomaly data NAME OUT` can write manifest.csv."""
OF_THE_JOB = ("report.jsonl", "status.json", "config.json", "run.json", TREE_MANIFEST)


def preprocess(
    source: Path,
    out: Path,
    size: int = 256,
    fit: Literal["pad", "stretch", "crop"] = "pad",
    equalise: Literal["none", "clahe", "histogram"] = "none",
    bits: Literal[8, 16] = 8,
    gray: bool = False,
    frame: int | None = None,
    mask_pattern: str = MASK_PATTERN,
    workers: int | None = None,
    allow_outside: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> int:
    """Resize a data set once, before training; a rerun does what is missing or has changed.

    A manifest gives OUT/manifest.csv: splits, labels and observations kept; masks, boxes and spacing of the new images. A folder
    keeps its tree, with .png in place of each image's suffix, and its CSV, TSV and TXT tables with the paths changed likewise.

    Args:
        source: a folder of images (DICOM, PNG, JPEG, TIFF, NIfTI slices, npy), or a manifest CSV
        out: output folder
        size: rows and columns of the result, px; exact area averages when reducing, bilinear when enlarging
        fit: pad = all of the image on a black square, crop = its centred square, stretch = out of proportion
        equalise: clahe (8 x 8 tiles, clip limit 0.01) or histogram (global), after resizing and without the padding
        bits: of the PNG, 8 or 16; 16 is for gray
        gray: turn colour into luma; otherwise colour stays
        frame: which frame of files that hold several
        mask_pattern: regular expression on paths of a folder: these are masks, resized by nearest neighbour
        workers: processes; default: as many as this one may use cores
        allow_outside: a manifest may name files outside of its own folder
        overwrite: redo a folder made with other settings, or write into one that holds other files
        quiet: no progress bar
    """
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}", code="E_CONFIG")
    config = ResizeConfig(size=size, fit=fit, equalise=equalise, bits=bits, gray=gray, frame=frame)
    is_tree = source.is_dir()
    if not is_tree and source.suffix.lower() != ".csv":
        code = "E_FORMAT" if source.exists() else "E_MISSING"
        raise InputError("is neither a folder nor a manifest CSV", code=code, path=source, fix="name one of these")
    refuse_place(source, out, overwrite=overwrite)
    works = (
        work_of_tree(source, mask_pattern)
        if is_tree
        else work_of_manifest(read_manifest(source, allow_outside=allow_outside), source.parent)
    )
    refuse_overwriting_sources(works, out)
    # A tree's own manifest may name what lies elsewhere, and its boxes would not be scaled: it is given as SOURCE, or not at all.
    tables = [table for table in table_files(source) if table != Path(MANIFEST)] if is_tree else []
    refuse_taken(tables, works)
    make_folder(out)
    with (
        stop_requested() as stop,
        tqdm(total=len(works), unit="image", desc="preprocessing", disable=quiet, file=sys.stderr) as bar,
    ):
        summary, records = preprocess_all(
            works, out, config, workers=workers, overwrite=overwrite, stop=stop, watch=lambda count: bar.update(count) and None
        )
    write_json(out / "config.json", {"preprocess": to_dict(config), "mask_pattern": mask_pattern if is_tree else None})
    write_json(out / "run.json", {"environment": environment(), "source": source.name, "workers": workers})
    if summary.stopped:
        say(summary)
        raise Preempted("stopped before the end", code="E_PREEMPTED", path=out, fix="run the same command again to continue")
    for finding in write_annotations(source, out, works, records, tables):
        print(f"warning: {finding}", file=sys.stderr)
    say(summary)
    print(f"wrote {out} (report.jsonl says what happened to each image)")
    return summary.exit_code()


def write_annotations(
    source: Path, out: Path, works: Sequence[Work], records: Sequence[Record], tables: Sequence[Path]
) -> list[Finding]:
    """Write the manifest of what is there, and the tables of a tree; what a person should know of them."""
    by_id = {record.id: record for record in records}
    if not source.is_dir():
        if records:
            write_manifest(records, out / MANIFEST)
        return []
    images = [by_id[work.record.id] for work in works if work.record.id in by_id and not work.is_mask]
    if images:
        write_manifest(images, out / TREE_MANIFEST)
    new_names = {work.record.id: work.image_out for work in works}
    findings = copy_tables(source, out, new_names, tables)
    if (source / MANIFEST).is_file():
        message = f"{MANIFEST} was not copied: it describes the native images"
        advice = "give it as SOURCE to keep its masks, boxes and splits"
        findings.append(Finding(code="W_MANIFEST", message=message, fix=advice))
    return findings


def refuse_place(source: Path, out: Path, *, overwrite: bool) -> None:
    """ConfigError for a folder that must not be written into: inside of the source, around it, or somebody else's."""
    place, folder = Path(os.path.realpath(out)), Path(os.path.realpath(source if source.is_dir() else source.parent))
    is_inside = place.is_relative_to(folder) if source.is_dir() else place == folder
    if is_inside or (source.is_dir() and folder.is_relative_to(place)):
        raise ConfigError(
            "must not be the source's folder, nor lie in it or around it", code="E_CONFIG", path=out, fix="choose another folder"
        )
    is_ours = (out / "report.jsonl").is_file()
    if out.is_dir() and not is_ours and not overwrite and any(not path.name.startswith(".") for path in out.iterdir()):
        raise ConfigError(
            "holds files that are not of this job", code="E_EXISTS", path=out, fix="name another place, or use --overwrite true"
        )


def refuse_taken(tables: Sequence[Path], works: Sequence[Work]) -> None:
    """ConfigError where a copied table, or an image, would have the name of a file that the job itself writes."""
    names = {name for work in works for name in work.outputs} | {table.as_posix() for table in tables}
    taken = sorted(names & {*OF_THE_JOB, MANIFEST})
    if taken:
        raise ConfigError(f"{taken[0]!a} is a file that this job writes itself", code="E_COLLISION", fix="rename the source's")


def say(summary: Summary) -> None:
    """Print the counts of a job."""
    reasons = ", ".join(f"{code}: {count}" for code, count in sorted(summary.reasons.items()))
    text = f"{summary.ok} preprocessed, {summary.skipped} already there, {summary.failed} failed"
    print(f"{text}{f' ({reasons})' if reasons else ''}")


def main(arguments: Sequence[str]) -> int:
    """``medanomaly preprocess SOURCE OUT``."""
    return run_function(preprocess, "medanomaly preprocess", "SOURCE OUT [options]", arguments)

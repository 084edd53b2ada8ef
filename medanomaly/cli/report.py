"""medanomaly report: one HTML page from folders of evaluate, localize, train or benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medanomaly.cli.localize import records_of
from medanomaly.cli.localize_names import without_uid
from medanomaly.cli.parsing import run_function
from medanomaly.config import from_dict
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.transforms import PreprocessConfig, intensity_windows, scale_to_model
from medanomaly.errors import ConfigError, InputError, MedanomalyError
from medanomaly.evaluation.folder import read_evaluation
from medanomaly.evaluation.image_table import ImageLine, read_images
from medanomaly.evaluation.present import sections, summary
from medanomaly.evaluation.present_benchmark import benchmark_sections
from medanomaly.evaluation.present_job import JobFolder, Original, job_section, job_summary, read_job, read_object
from medanomaly.evaluation.present_training import training_section
from medanomaly.evaluation.settings_table import run_facts
from medanomaly.files import sha256_of
from medanomaly.io.dicom_burned_in import burned_in_of
from medanomaly.io.options import ReadOptions
from medanomaly.io.reader import read_image
from medanomaly.training.log import RunLog, environment
from medanomaly.types import FloatArray
from medanomaly.views.report import ReportContent, Section, write_report

MAX_CASES = 40
"""Images of a localize folder in pictures."""


def report(
    folders: list[Path],
    out: Path | None = None,
    title: str = "Anomaly localization",
    source: Path | None = None,
    max_cases: int = MAX_CASES,
    ids: bool = False,
    allow_outside: bool = False,
) -> int:
    """Write a self-contained HTML page with the tables, curves and pictures of result folders.

    Args:
        folders: written by evaluate, localize, train or benchmark, e.g. '[runs/a, runs/b]'
        out: the page; default: report.html in the first folder
        title: of the page
        source: images that were localized (a file, a folder or a manifest), to show them beside the results
        max_cases: images of a localize folder in pictures; the others are rows of a table
        ids: name images and patients as the manifest does; without it they are numbered, because ids may identify
        allow_outside: a manifest given as source may name files outside of its own folder
    """
    if max_cases < 1:
        raise ConfigError(f"max_cases must be at least 1, got {max_cases}", code="E_CONFIG")
    target = folders[0] / "report.html" if out is None else out
    records = None if source is None else by_id(records_of(source, allow_outside))
    build_report(folders, target, title=title, records=records, max_cases=max_cases, ids=ids)
    print(f"wrote {target} ({target.stat().st_size / 1e6:.1f} MB)")
    return 0


def build_report(
    folders: Sequence[Path],
    out: Path,
    *,
    title: str,
    figures: Sequence[tuple[str, bytes]] = (),
    facts: Sequence[tuple[str, str]] = (),
    records: Mapping[str, Record] | None = None,
    max_cases: int = MAX_CASES,
    ids: bool = False,
) -> None:
    """Write the page.

    Args:
        folders: of any kind, each a section or more.
        out: the page.
        title: of the page.
        figures: (caption, PNG) shown before the sections.
        facts: (name, value) for the footer.
        records: images of localize folders by id; None = only what the folders keep.
        max_cases: images of a localize folder in pictures.
        ids: name images and patients as the manifest does.
    """
    shown: list[Section] = []
    numbers: list[tuple[str, str]] = []
    provenance: list[tuple[str, str]] = []
    for path in folders:
        made, first, made_by = parts_of(path, records=records, max_cases=max_cases, ids=ids)
        shown += made
        numbers += first
        # With several folders each fact says whose it is; names only, no place on this machine.
        name = f"{path.resolve().name}: " if len(folders) > 1 else ""
        provenance += [(name + key, value) for key, value in made_by]
    versions = environment()
    page = f"medanomaly {versions['medanomaly']}, commit {versions['git_commit'] or 'unknown: not a checkout'}"
    content = ReportContent(
        title=title,
        subtitle="How unlike a healthy image each pixel is. A map is evidence to look at, not a finding.",
        summary=numbers,
        figures=figures,
        sections=shown,
        facts=[*facts, *provenance, ("this page", page)],
    )
    write_report(out, content)


Parts = tuple[list[Section], list[tuple[str, str]], list[tuple[str, str]]]
"""(sections, numbers to read first, facts for the foot of the page)."""


def parts_of(path: Path, *, records: Mapping[str, Record] | None, max_cases: int, ids: bool) -> Parts:
    """What a folder has to say, by what lies in it.

    Raises:
        InputError: E_MISSING, nothing that a page could be made of.
    """
    run = read_object(path / "run.json")
    if (path / "evaluation.json").is_file():
        folder = read_evaluation(path)
        facts = run_facts(run or folder.content["facts"] | {"data": folder.content["facts"]})
        return sections(folder, lines_of(path, folder.content["methods"][0]["name"]), ids=ids), summary(folder), facts
    if (path / "report.jsonl").is_file():
        job = read_job(path)
        made = job_section(job, original=reader(job, records), max_cases=max_cases, ids=ids)
        return [made], job_summary(job), run_facts(run)
    if (path / "log.jsonl").is_file():
        return [training_section(path, RunLog.read(path / "log.jsonl"))], [], run_facts(run)
    if (path / "benchmark.json").is_file():
        return benchmark_sections(path), [], []
    raise InputError(
        "is not an evaluation folder, nor one of localize, train or benchmark",
        code="E_MISSING",
        path=path,
        fix="run `medanomaly evaluate` first",
    )


def lines_of(path: Path, method: str) -> list[ImageLine]:
    """Lines of a method in images.csv; [] in a folder of a version that wrote others."""
    try:
        return read_images(path / "images.csv").get(method, [])
    except MedanomalyError:
        return []


def by_id(records: Sequence[Record]) -> dict[str, Record]:
    """Records by what a job may call them: their id, or the one without UIDs."""
    return {without_uid(record.id): record for record in records} | {record.id: record for record in records}


def reader(job: JobFolder, records: Mapping[str, Record] | None) -> Original:
    """Images as the job showed them, from their source: only where its bytes are those that were localized.

    A film that says that text is burned into its pixels is shown where the job was allowed to show it.
    """
    if records is None:
        return lambda _line: None
    if "preprocess" not in job.config:
        raise InputError("has no config.json", code="E_MISSING", path=job.path, fix="leave --source out")
    preprocess = from_dict(PreprocessConfig, job.config["preprocess"], "preprocess")
    settings = job.run.get("settings") or {}
    allowed = bool(settings.get("burned_in") or settings.get("keep_patient"))
    options = ReadOptions(
        channels=preprocess.channels, allow_color=True, frame=settings.get("frame"), nan_to=settings.get("nan_to")
    )

    def original(line: Mapping[str, Any]) -> FloatArray | None:
        record = records.get(line["id"])
        try:
            if record is None or sha256_of(record.image) != line["sha256_in"]:
                return None
            if not allowed and burned_in_of(record.image) == "YES":
                return None
            raw = read_image(record.image, options)
            shown: FloatArray = scale_to_model(raw.pixels, intensity_windows(raw, preprocess, record.intensity_range)).numpy()
        except (MedanomalyError, OSError):
            return None
        return shown

    return original


def main(arguments: Sequence[str]) -> int:
    """``medanomaly report FOLDER [FOLDER ...] [options]``."""
    folders = []
    rest = list(arguments)
    while rest and not rest[0].startswith("-"):
        folders.append(rest.pop(0))
    listed = [f"[{', '.join(json_text(name) for name in folders)}]"] if folders else []
    return run_function(report, "medanomaly report", "FOLDER [FOLDER ...] [options]", [*listed, *rest])


def json_text(name: str) -> str:
    """A path quoted for a list on the command line."""
    return "'" + name.replace("'", "''") + "'"

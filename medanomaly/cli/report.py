"""medanomaly report: one HTML page from one or more evaluation folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medanomaly.cli.parsing import run_function
from medanomaly.evaluation.folder import read_evaluation
from medanomaly.evaluation.present import section, summary
from medanomaly.training.log import environment
from medanomaly.views.report import ReportContent, write_report


def report(evaluations: list[Path], out: Path | None = None, title: str = "Anomaly localization") -> int:
    """Write a self-contained HTML page with the tables, curves and pictures of evaluation folders.

    Args:
        evaluations: folders written by `medanomaly evaluate`, e.g. '[runs/a, runs/b]'
        out: the page; default: report.html in the first folder
        title: of the page
    """
    target = evaluations[0] / "report.html" if out is None else out
    build_report(evaluations, target, title=title)
    print(f"wrote {target}")
    return 0


def build_report(
    evaluations: Sequence[Path],
    out: Path,
    *,
    title: str,
    figures: Sequence[tuple[str, bytes]] = (),
    facts: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the page.

    Args:
        evaluations: evaluation folders, one section each.
        out: the page.
        title: of the page.
        figures: (caption, PNG) shown before the sections.
        facts: (name, value) for the footer.
    """
    folders = [read_evaluation(path) for path in evaluations]
    versions = environment()
    content = ReportContent(
        title=title,
        subtitle="Pseudo-healthy translation by classifier-free-guidance diffusion, beside the floors that learn nothing.",
        summary=[pair for folder in folders for pair in summary(folder)],
        figures=figures,
        sections=[section(folder) for folder in folders],
        facts=[
            *facts,
            ("medanomaly", versions["medanomaly"]),
            ("commit", versions["git_commit"] or "not a checkout"),
            ("versions", ", ".join(f"{name} {version}" for name, version in versions["packages"].items())),
            *(
                (folder.content["title"], f"manifest SHA-256 {folder.content['facts']['manifest_sha256'][:16]}")
                for folder in folders
                if "manifest_sha256" in folder.content["facts"]
            ),
        ],
    )
    write_report(out, content)


def main(arguments: Sequence[str]) -> int:
    """``medanomaly report EVALUATION [EVALUATION ...] [options]``."""
    folders = []
    rest = list(arguments)
    while rest and not rest[0].startswith("-"):
        folders.append(rest.pop(0))
    listed = [f"[{', '.join(json_text(name) for name in folders)}]"] if folders else []
    return run_function(report, "medanomaly report", "EVALUATION [EVALUATION ...] [options]", [*listed, *rest])


def json_text(name: str) -> str:
    """A path quoted for a list on the command line."""
    return "'" + name.replace("'", "''") + "'"

"""A run as one HTML file that opens anywhere: no network, no server, readable without JavaScript and on paper."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from medanomaly.errors import InputError
from medanomaly.files import atomic_write

NOT_FOR_DIAGNOSIS = "Research use only. Not a medical device; not for diagnosis."
SMALL_PX, SMALL_FACTOR = 128, 3
"""Images up to this side are shown three times as large, each pixel a square."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text; the first cell of a row names it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    """Cells as they are to be read, e.g. "0.82 [0.79, 0.85]"; as many as there are columns."""
    notes: Sequence[str] = ()
    """Footers: n, conventions for empty masks, where the threshold was chosen."""
    folded: bool = False
    """Closed until somebody opens it, and then only printed: for long tables."""
    sortable: bool = False
    """A click on a column's heading sorts by it; without script the rows stay in the order given."""

    def __post_init__(self) -> None:
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise InputError(
                    f"row {index} of table {self.title!r} has {len(row)} cells for {len(self.columns)} columns",
                    code="E_MALFORMED",
                    fix="give one cell per column, '' for an empty one",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseView:
    """One image of the run with what was made of it."""

    caption: str
    """Must not identify the patient."""
    score: float | None
    """Image score, higher = worse; None = not scored."""
    label: str | None
    """Class by the reference standard; None = unknown."""
    images: Mapping[str, bytes]
    """Name -> PNG bytes, in the order they are shown."""
    facts: Sequence[tuple[str, str]] = ()
    """(name, value) shown beside the score, e.g. ("Dice", "0.83")."""
    compare: tuple[str, str] | None = None
    """Names of two images of one size, laid over each other with a slider and a flicker; without script they stand side by side."""

    def __post_init__(self) -> None:
        for name in self.compare or ():
            if name not in self.images:
                raise InputError(
                    f"{self.caption!r} has no image {name!r} to compare", code="E_MALFORMED", fix="name two of its images"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One data set, or one question: words, tables, figures, cases in this order."""

    title: str
    intro: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[tuple[str, bytes]] = ()
    """(caption, PNG bytes)."""
    cases: Sequence[CaseView] = ()
    cases_title: str = "Cases"
    legend: tuple[str, bytes] | None = None
    """(caption, PNG) of the colour bar that all cases of the section share."""
    details: Sequence[Table] = ()
    """Tables after the cases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContent:
    """Everything a report says; nothing is computed while it is written."""

    title: str
    subtitle: str = ""
    warning: str = NOT_FOR_DIAGNOSIS
    """Shown on top, and at the foot of every printed page."""
    summary: Sequence[tuple[str, str]] = ()
    """(name, value) pairs, the few numbers to read first."""
    tables: Sequence[Table] = ()
    figures: Sequence[tuple[str, bytes]] = ()
    cases: Sequence[CaseView] = ()
    sections: Sequence[Section] = ()
    """Shown after the report's own tables, figures and cases."""
    facts: Sequence[tuple[str, str]] = ()
    """Footer: versions, seed, command, commit, hashes."""


def write_report(path: Path, content: ReportContent) -> None:
    """Write the report as one self-contained HTML file (images as data URIs), whole or not at all.

    All text is escaped. Besides, the file's content security policy allows only its own style and script, by their hash,
    and no network: what slipped into a caption could neither run nor call home.

    Args:
        path: file to write, usually ``report.html`` in a run folder.
        content: what to say.

    Raises:
        InputError: an image is not a PNG.
        ResourceError: the file cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("medanomaly.views"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"data_uri": _data_uri, "shown_size": _shown_size, "is_wide": _is_wide, "score": _score_text}
    style, script = _template_text("report.css"), _template_text("report.js")
    text = environment.get_template("report.html.j2").render(
        content=content,
        sections=_sections(content),
        style=Markup(style),
        script=Markup(script),
        style_hash=_policy_hash(style),
        script_hash=_policy_hash(script),
    )
    with atomic_write(path) as stream:
        stream.write(text.encode("utf-8", "replace"))


def png_size(png: bytes) -> tuple[int, int]:
    """(width, height) in px from a PNG's header (PNG specification, section 11.2.2).

    Raises:
        InputError: the bytes do not start as a PNG does.
    """
    if len(png) < 24 or png[:8] != b"\x89PNG\r\n\x1a\n" or png[12:16] != b"IHDR":
        raise InputError("an image of the report is not a PNG", code="E_FORMAT", fix="encode it with views.canvas.png_bytes")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def shown_factor(side_px: int) -> int:
    """How many times larger than it is an image of this side is shown."""
    return SMALL_FACTOR if side_px <= SMALL_PX else 1


def _sections(content: ReportContent) -> list[Section]:
    """The report's own tables, figures and cases as an opening section, then the others; one way to show them all."""
    opening = Section(title="Overview", tables=content.tables, figures=content.figures, cases=content.cases)
    return [*([opening] if content.tables or content.figures or content.cases else []), *content.sections]


def _template_text(name: str) -> str:
    """A template file with line feeds only: browsers hash what they have parsed, where carriage returns are gone."""
    return files("medanomaly.views").joinpath("templates", name).read_text("utf-8").replace("\r\n", "\n")


def _policy_hash(text: str) -> str:
    """CSP source expression that allows exactly this inline text (W3C CSP Level 3, section 2.3.1)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data_uri(png: bytes) -> str:
    png_size(png)
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _shown_size(png: bytes) -> tuple[int, int]:
    """(width, height) in CSS px: three times the size for small images, the size itself for others."""
    width, height = png_size(png)
    factor = shown_factor(max(width, height))
    return factor * width, factor * height


def _is_wide(png: bytes) -> bool:
    """True for figures of two plots side by side, which need the page's whole width to be read."""
    width, height = png_size(png)
    return width > 2 * height


def _score_text(score: float | None) -> str:
    if score is None:
        return "not scored"
    return f"{score:.4g}" if math.isfinite(score) else "not finite"

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from medanomaly.errors import InputError
from medanomaly.views.canvas import png_bytes
from medanomaly.views.report import CaseView, ReportContent, Section, Table, png_size, write_report

ATTACK = "<script>alert('a')</script>\"><img src=x onerror=alert(1)> & '"
VOID = {"meta", "img", "input", "br", "link", "hr"}


class Page(HTMLParser):
    """What a browser would build: (tag, attributes, text) of each element; unbalanced tags are an error."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[dict[str, object]] = []
        self._open: list[dict[str, object]] = []
        self.feed(source)
        self.close()
        assert [element["tag"] for element in self._open] == []

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "text": "", **dict(attrs)}
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag):
        assert self._open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def all(self, tag: str, **attributes: str) -> list[dict[str, object]]:
        return [e for e in self.elements if e["tag"] == tag and all(e.get(k) == v for k, v in attributes.items())]


def png(width: int = 4, height: int = 3) -> bytes:
    return png_bytes(np.arange(width * height, dtype=np.uint8).reshape(height, width))


def content(words: str = "words", **changes: object) -> ReportContent:
    table = Table(title=words, columns=[words, words], rows=[[words, words]], notes=[words])
    cases = [CaseView(caption=words, score=0.123456, label=words, images={words: png()})]
    section = Section(title=words, intro=words, tables=[table], figures=[(words, png(40, 9))], cases=cases)
    fields = {"title": words, "subtitle": words, "summary": [(words, words)], "tables": [table], "figures": [(words, png())]}
    return ReportContent(**{**fields, "cases": cases, "sections": [section], "facts": [(words, words)], **changes})


def page_of(path: Path, report: ReportContent) -> tuple[Page, str]:
    write_report(path / "report.html", report)
    source = (path / "report.html").read_text("utf-8")
    return Page(source), source


def test_markup_in_any_text_is_shown_and_never_run(tmp_path):
    attacked, source = page_of(tmp_path, content(ATTACK, warning=ATTACK))
    harmless, _ = page_of(tmp_path, content("words", warning="words"))
    assert [element["tag"] for element in attacked.elements] == [element["tag"] for element in harmless.elements]
    assert [sorted(element) for element in attacked.elements] == [sorted(element) for element in harmless.elements]
    assert attacked.all("h1")[0]["text"] == ATTACK
    assert attacked.all("title")[0]["text"] == ATTACK
    assert ATTACK not in source


def test_the_file_needs_nothing_from_anywhere(tmp_path):
    page, source = page_of(tmp_path, content())
    assert page.all("img")
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in page.all("img"))
    assert not page.all("link")
    assert not any("src" in script for script in page.all("script"))
    assert all(str(link["href"]).startswith("#section-") for link in page.all("a"))
    assert not re.search(r"https?://|@import|url\(", source)


def test_the_security_policy_allows_exactly_the_files_own_style_and_script(tmp_path):
    page, source = page_of(tmp_path, content())
    policy = str(page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"])
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag in ("style", "script"):
        inline = re.findall(rf"<{tag}>(.*?)</{tag}>", source, re.DOTALL)
        assert len(inline) == 1
        digest = base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not any(name == "style" or name.startswith("on") for element in page.elements for name in element)


def test_images_come_back_byte_for_byte_in_the_given_order(tmp_path):
    images = {name: png(4 + index) for index, name in enumerate(["Original", "Zeta", "Alpha"])}
    report = ReportContent(title="t", cases=[CaseView(caption="c", score=1, label=None, images=images)])
    page, _ = page_of(tmp_path, report)
    assert [base64.b64decode(str(image["src"]).split(",")[1]) for image in page.all("img")] == list(images.values())
    assert [image["alt"] for image in page.all("img")] == ["Original of c", "Zeta of c", "Alpha of c"]


@pytest.mark.parametrize(("size", "shown"), [((64, 48), (192, 144)), ((128, 128), (384, 384)), ((129, 64), (129, 64))])
def test_small_images_are_shown_three_times_as_large(tmp_path, size, shown):
    report = ReportContent(title="t", cases=[CaseView(caption="c", score=1, label=None, images={"x": png(*size)})])
    page, source = page_of(tmp_path, report)
    (image,) = page.all("img", **{"class": "pixels"})
    assert (image["width"], image["height"]) == tuple(map(str, shown))
    assert re.search(r"\.pixels \{[^}]*image-rendering: pixelated", source)


def test_tables_name_their_rows_and_columns_for_a_screen_reader(tmp_path):
    table = Table(title="Results", columns=["Method", "Dice"], rows=[["ours", "0.6"], ["theirs", "0.5"]], notes=["n = 3"])
    page, source = page_of(tmp_path, ReportContent(title="t", tables=[table]))
    assert [cell["text"] for cell in page.all("th", scope="col")] == ["Method", "Dice"]
    assert [cell["text"] for cell in page.all("th", scope="row")] == ["ours", "theirs"]
    assert [cell["text"] for cell in page.all("td")] == ["0.6", "0.5"]
    assert page.all("caption")[0]["text"] == "Results"
    assert "n = 3" in source


def test_the_warning_is_there_unasked(tmp_path):
    page, _ = page_of(tmp_path, ReportContent(title="t"))
    assert "not for diagnosis" in str(page.all("p", **{"class": "warning"})[0]["text"])


def test_each_link_of_the_contents_leads_to_its_section(tmp_path):
    report = content(sections=[Section(title="A"), Section(title="A"), Section(title="B")])
    page, _ = page_of(tmp_path, report)
    sections = [str(section["id"]) for section in page.all("section")]
    assert len(set(sections)) == 4
    assert [link["href"] for link in page.all("a")] == [f"#{name}" for name in sections]
    assert [heading["text"] for heading in page.all("h2")][:4] == ["Overview", "A", "A", "B"]


@pytest.mark.parametrize(
    ("score", "text"), [(0.123456, "0.1235"), (0.0, "0"), (None, "not scored"), (float("nan"), "not finite")]
)
def test_scores_are_short_and_a_missing_one_is_said(tmp_path, score, text):
    report = ReportContent(title="t", cases=[CaseView(caption="c", score=score, label="healthy", images={})])
    page, _ = page_of(tmp_path, report)
    assert f"score {text}" in str(page.all("p", **{"class": "tags"})[0]["text"])


def test_the_filter_offers_each_label_once_and_stays_hidden_without_script(tmp_path):
    labels = ["effusion", "healthy", None, "effusion", ""]
    cases = [CaseView(caption=str(index), score=0, label=label, images={}) for index, label in enumerate(labels)]
    page, _ = page_of(tmp_path, ReportContent(title="t", cases=cases))
    options = {str(option["text"]): option["value"] for option in page.all("option")}
    assert list(options) == ["all labels", "", "effusion", "healthy"]
    chosen = [case["data-label"] for case in page.all("article")]
    assert chosen == [options["effusion"], options["healthy"], "", options["effusion"], "1"]
    assert "hidden" in page.all("div", **{"class": "filter"})[0]
    assert not any("hidden" in case for case in page.all("article"))


def test_the_same_content_is_the_same_file(tmp_path):
    assert page_of(tmp_path, content())[1] == page_of(tmp_path, content())[1]


def test_text_that_is_not_unicode_does_not_stop_a_report(tmp_path):
    page, _ = page_of(tmp_path, content("broken \udcff name"))
    assert page.all("h1")[0]["text"] == "broken ? name"


@pytest.mark.parametrize("image", [b"", b"GIF89a" + b"\0" * 40, png()[:20]])
def test_an_image_that_is_no_png_is_refused_and_leaves_no_file(tmp_path, image):
    report = ReportContent(title="t", figures=[("f", image)])
    with pytest.raises(InputError, match="not a PNG"):
        write_report(tmp_path / "report.html", report)
    assert list(tmp_path.iterdir()) == []


def test_a_table_with_a_cell_too_few_is_refused():
    with pytest.raises(InputError, match="row 1 of table 'T' has 1 cells for 2 columns"):
        Table(title="T", columns=["a", "b"], rows=[["1", "2"], ["3"]])


def test_a_pngs_size_is_read_from_its_header():
    assert png_size(png(300, 7)) == (300, 7)


def test_two_images_to_compare_are_marked_and_stand_side_by_side_without_script(tmp_path):
    images = {"original": png(), "pseudo-healthy": png(), "map": png()}
    case = CaseView(caption="c", score=1, label=None, images=images, compare=("original", "pseudo-healthy"))
    page, _ = page_of(tmp_path, ReportContent(title="t", cases=[case]))
    assert [figure.get("data-compare") for figure in page.all("figure")] == ["0", "1", None]
    assert len(page.all("img")) == 3


def test_an_image_to_compare_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="has no image 'twin' to compare"):
        CaseView(caption="c", score=1, label=None, images={"original": png()}, compare=("original", "twin"))


def test_facts_of_a_case_stand_beside_its_score(tmp_path):
    case = CaseView(caption="c", score=1, label="healthy", images={}, facts=[("Dice", "0.83"), (ATTACK, ATTACK)])
    page, source = page_of(tmp_path, ReportContent(title="t", cases=[case]))
    assert "Dice 0.83" in str(page.all("p", **{"class": "tags"})[0]["text"])
    assert ATTACK not in source


def test_a_long_table_is_folded_and_can_be_sorted_and_the_legend_stands_above_the_cases(tmp_path):
    table = Table(title="All", columns=["a"], rows=[["1"]], folded=True, sortable=True)
    case = CaseView(caption="c", score=1, label=None, images={})
    section = Section(title="s", cases=[case], cases_title="By score", legend=("scale", png(40, 8)), details=[table])
    page, source = page_of(tmp_path, ReportContent(title="t", sections=[section]))
    assert page.all("details")[0]["class"] == "fold"
    assert page.all("table")[0]["class"] == "sortable"
    assert page.all("h3")[0]["text"] == "By score 1"
    assert source.index('class="legend"') < source.index('class="cases"') < source.index("<details")

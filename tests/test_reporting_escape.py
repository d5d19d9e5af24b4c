"""Inert output: hostile names through every format, read back by real parsers."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from avsrobust.reporting.compare import compare, comparison_json, render_comparison
from avsrobust.reporting.escape import csv_cell, json_text, latex, latex_row, markdown, markdown_line, one_line, reveal
from avsrobust.reporting.formats import find_format, format_names
from avsrobust.reporting.model import Table
from avsrobust.reporting.naming import split_title
from avsrobust.reporting.report import report
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import FailedClip, Scores

Make = Callable[..., Scores]

HOSTILE = {
    "formula": "=cmd|' /C calc'!A1",
    "plus": "+1+1",
    "negative number": "-5",
    "at": "@SUM(1)",
    "tab": "\t=1",
    "carriage return": "\r=1",
    "blank before a formula": " \u00a0=1",
    "wide formula": "＝1+1",  # noqa: RUF001 - that it looks so is the point
    "quoted formula": "'=1",
    "html": "<img src=x onerror=alert(1)>",
    "script": "</script><script>alert(1)</script>",
    "attribute": "\" onmouseover='x' a=\"",
    "template": "{{ 7*7 }}{% raw %}",
    "entity": "&lt;b&gt; &#60; &copy",
    "link": "[click](javascript:alert(1)) ![x](http://example.org/x.png)",
    "address": "http://example.org www.example.org",
    "pipe": "a|b\\|c\\\\|d",
    "emphasis": "*a* _b_ __c__ ~~d~~ `e` $f$",
    "backticks": "```\ncode",
    "line breaks": "a\nb\r\nc\n\n# d",
    "heading": "# a",
    "rule": "---",
    "list": "- a",
    "numbered": "1. a",
    "quote": "> a",
    "latex": "\\input{/etc/passwd} $x$ 50% #1 a_b a^b ~ {}",
    "latex bracket": "[10cm]",
    "latex star": "*[x]",
    "caret notation": "^^5cinput",
    "terminal": "a\x1b[31mred\x1b]0;title\x07b",
    "c1": "a\x9b31mb\x85c",
    "nul": "a\x00b\x7f",
    "bidi": "a\u202ekcab\u2066b\u2069",
    "no width": "a\u200b\u200d\ufeff\u2060b",
    "unseen": "a\u3164\u115f\ufe0f\u2028b\u2029c",
    "tags": "a\U000e0041b",
    "surrogate": "caf\udce9",
}
# Characters that may not stand in any text that is shown: they move, hide or reverse what is around them.
NEVER = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\u3164\u115f\ufe0f\ud800-\udfff]|\U000e0041"
)


@pytest.fixture(params=HOSTILE.values(), ids=HOSTILE.keys())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def stored(name: str) -> str:
    """Return the name as a column of texts can hold it: no half of a surrogate pair, which metadata (JSON) and paths can hold."""
    return name.encode("utf-8", "replace").decode()


@pytest.fixture
def hostile(make_scores: Make, name: str) -> list[Scores]:
    """Two models on one split: every name that a file holds is the hostile one."""
    found = []
    for model in ("oracle", "visual_prior"):
        scores = make_scores(model, clips=range(2), levels=(3.0,), labels=lambda clip: (stored(name),))
        index = scores.index.assign(
            clip_id=[f"{stored(name)}{clip_id}" for clip_id in scores.index["clip_id"]],
            split=stored(name),
            condition=scores.index["condition"].replace("mixture", stored(name)),
        )
        info = replace(
            scores.info,
            model=name if model == "oracle" else "net",
            dataset=name,
            recipe=name,
            release=name,
            notes=(name,),
            muted=(f"{stored(name)}clip000",),
            failed=(FailedClip(stored(name), name, name),),
        )
        found.append(replace(scores, info=info, index=index))
    return found


@pytest.fixture(scope="module")
def tables() -> dict[str, Table]:
    """Tables made so far, by name."""
    return {}


@pytest.fixture
def table(hostile: list[Scores], name: str, tables: dict[str, Table]) -> Table:
    if name not in tables:
        tables[name] = build_table(hostile, ["avsbench", "strict"], by="category")
    return tables[name]


def test_no_format_shows_what_hides_or_moves(table: Table) -> None:
    for name in format_names():
        content = find_format(name)(table)
        if isinstance(content, str):
            assert not NEVER.search(content), name
            content.encode()


def test_csv_holds_text_that_is_no_formula_and_numbers_that_are(table: Table, name: str) -> None:
    content = str(find_format("csv")(table))
    rows = list(csv.DictReader(io.StringIO(content, newline="")))
    assert len(rows) == len(table.lines)
    models = set()
    for row, line in zip(rows, table.lines, strict=True):
        texts = {"model", "dataset", "split", "protocol", "category", "recipe", "release", "signature"}
        for column, cell in row.items():
            if column in texts:
                assert not re.match(r"\s*[=+\-@\t\r＝]", cell)  # noqa: RUF001
            elif cell:
                float(cell)
        assert float(row["mIoU"]) == line.score.miou
        assert row["seed"] == "42"
        models.add(row["model"].removeprefix("'") if name[0] in "=+-@\t\r＝' " else row["model"])  # noqa: RUF001
    assert models == {"net", reveal(name)}
    assert all(not re.match(r"\s*[=+\-@]", column) for column in rows[0])


def test_json_holds_the_names_themselves(table: Table, name: str) -> None:
    content = json.loads(str(find_format("json")(table)))
    assert {line["dataset"] for line in content["lines"]} == {name}
    assert content["diagnostics"][0]["failed"] == [{"split": stored(name), "clip_id": name, "error": name}]
    assert name in content["notes"]
    assert f"{stored(name)}@3_mIoU" in content["columns"]


def test_parquet_holds_the_names_themselves(table: Table, name: str) -> None:
    content = find_format("parquet")(table)
    assert isinstance(content, bytes)
    frame = pd.read_parquet(io.BytesIO(content))
    assert set(frame["dataset"]) == {name.replace("\udce9", r"\udce9")}
    assert set(frame["split"]) == {stored(name)}
    assert f"{stored(name)}@3_FPR" in frame.columns


def texts_of_cells(content: str) -> list[list[str]]:
    """Render Markdown; return its tables' rows as texts, and fail on anything but the report's own marks."""
    rows: list[list[str]] = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(content):
        assert token.type not in ("html_block", "fence", "code_block", "blockquote_open", "hr", "ordered_list_open")
        if token.type == "heading_open":
            assert token.tag == "h2"
        if token.type == "tr_open":
            rows.append([])
        for child in token.children or []:
            assert child.type in (
                "text",
                "text_special",
                "softbreak",
                "em_open",
                "em_close",
                "strong_open",
                "strong_close",
            ), child
        if token.type == "inline" and rows and token.level > 3:
            rows[-1].append("".join(child.content for child in token.children or []))
    return rows


def test_markdown_shows_the_name_and_nothing_of_it_is_markup(table: Table, name: str) -> None:
    content = str(find_format("md")(table))
    rows = texts_of_cells(content)
    assert len({len(row) for row in rows[:3]}) == 1
    assert sum(row[0] == one_line(name) for row in rows) >= 2
    rendered = MarkdownIt("commonmark").render(f"- {markdown_line(name)}\n")
    assert re.fullmatch(r"<ul>\n<li>[^<]*</li>\n</ul>\n", rendered)


def test_markdown_makes_no_links_of_addresses(name: str) -> None:
    assert not re.search(r"(?i)://|www\.", markdown(name))


def test_latex_has_no_special_character_of_a_name(table: Table) -> None:
    content = str(find_format("latex")(table))
    for line in content.splitlines()[1:]:
        if line.startswith("%"):
            bare = re.sub(r"\\textbackslash\{\}|\\textasciitilde\{\}|\\textasciicircum\{\}|\\[&%$#_{}]", "", line[1:])
            assert not set(bare) & set("\\&%$#_{}~^"), line
    bodies = re.findall(r"\\midrule\n(.*?)\\bottomrule", content, re.DOTALL)
    assert bodies
    for row in "\n".join(bodies).splitlines():
        if row in ("", r"\midrule"):
            continue
        assert not row.startswith(("[", "*"))
        assert row.endswith(r" \\")
        assert len(re.findall(r"(?<!\\)&", row)) in (16, 6)
        bare = re.sub(r"\\text(backslash|asciitilde|asciicircum)\{\}|\\[&%$#_{}]", "", row.removesuffix(r"\\"))
        bare = re.sub(r"\\text(it|bf)\{([^{}]*)\}", r"\2", bare).removeprefix("{}")
        assert not set(bare) & set("\\%$#_{}~^"), row


class Reader(HTMLParser):
    """Collects tags and text of a page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.rows.append(data)


def test_the_page_has_the_same_elements_whatever_the_names(table: Table, name: str, make_scores: Make) -> None:
    page = Reader(str(find_format("html")(table)))
    known = {"html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "p", "b", "section", "nav", "ul", "li",
             "a", "main", "div", "table", "caption", "thead", "tbody", "tr", "th", "td", "span", "figure", "figcaption", "svg",
             "line", "text", "rect", "path", "circle", "details", "summary", "dl", "dt", "dd", "h4", "input", "label", "output",
             "script"}  # fmt: skip
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert {tag for tag, _ in page.tags} <= known
    assert not any(attribute.startswith("on") for _, attributes in page.tags for attribute in attributes)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(identity and re.fullmatch(r"[A-Za-z0-9.-]+", identity) for identity in ids)
    assert any(text == reveal(name) for text in page.rows)


def test_warnings_on_stderr_are_single_lines_without_surprises(hostile: list[Scores]) -> None:
    rendered = report(hostile, ["avsbench"])
    assert rendered.warnings
    for warning in rendered.warnings:
        assert "\n" not in warning
        assert not NEVER.search(warning)


def test_comparisons_are_inert(hostile: list[Scores], name: str) -> None:
    comparison = compare(*hostile, samples=10)
    content = render_comparison(comparison)
    assert not NEVER.search(content)
    texts_of_cells(content)
    assert not NEVER.search(comparison_json(comparison))
    assert json.loads(comparison_json(comparison))["dataset"] == name


def test_numbers_are_no_text() -> None:
    stream = io.StringIO()
    csv.writer(stream).writerow([csv_cell(value) for value in (-0.25, 1e-7, 3, None, "-0.25")])
    assert stream.getvalue() == "-0.25,1e-07,3,,'-0.25\r\n"


@settings(deadline=None)
@given(st.text())
def test_neutralised_cells_read_back(text: str) -> None:
    cell = str(csv_cell(text))
    back = cell.removeprefix("'") if cell != reveal(text) else cell
    assert back == reveal(text)
    assert not re.match(r"\s*[=+\-@\t\r\n]", cell)


@settings(deadline=None)
@given(st.text(), st.text())
def test_neutralised_cells_of_two_texts_differ(one: str, other: str) -> None:
    assert (csv_cell(one) == csv_cell(other)) == (reveal(one) == reveal(other))


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_markdown_shows_any_text_as_itself(text: str) -> None:
    (_, inline, _) = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(f"x{markdown(text)}")
    shown = "".join(child.content for child in inline.children or [])
    assert shown == f"x{one_line(text)}"
    assert {child.type for child in inline.children or []} <= {"text", "text_special"}


@settings(deadline=None)
@given(
    st.recursive(
        st.text() | st.floats(allow_nan=False, allow_infinity=False), lambda inner: st.lists(inner, max_size=3)
    )
)
def test_json_is_ascii_where_nothing_is_seen_and_reads_back(content: object) -> None:
    text = json_text(content)
    assert not NEVER.search(text)
    assert json.loads(text) == content


@settings(deadline=None)
@given(st.text(), st.text())
def test_no_row_of_latex_gives_an_argument_to_the_rule_above(first: str, second: str) -> None:
    row = latex_row([latex(first), latex(second)])
    assert not re.match(r"\s*[\[*]", row)
    assert "\n" not in row


def test_the_release_is_named_where_there_are_two() -> None:
    assert split_title(("ms3", "object", "val")) == "ms3, object release, val"
    assert split_title(("avss", "semantic", "val")) == "avss, val"
    assert split_title(("s4", "", "val")) == "s4, val"

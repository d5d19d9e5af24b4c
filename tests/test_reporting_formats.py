"""Formats: what is written parses back to the table, names cannot break out, the page stands alone."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsrobust.errors import OptionError, ResultsError
from avsrobust.reporting.columns import CSV_COLUMNS, METRICS
from avsrobust.reporting.escape import latex as escape
from avsrobust.reporting.escape import text_table
from avsrobust.reporting.formats import find_format, format_names
from avsrobust.reporting.model import Table
from avsrobust.reporting.report import load_results, report
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import Run, Scores, write_run, write_scores

Make = Callable[..., Scores]
NASTY = 'm,"<b>&_{|}\\%$#~^\n</script>'


def blurred(target: np.ndarray, condition: str, clip: int) -> np.ndarray:
    generator = np.random.default_rng([clip, len(condition)])
    return generator.random(target.shape) * np.where(target, 1.0 if condition == "clean" else 0.6, 0.5)


@pytest.fixture
def results(make_scores: Make) -> list[Scores]:
    return [
        make_scores(blurred, model="net_one"),
        make_scores(lambda target, condition, clip: target * 0.8, model=NASTY, failed=("clip900",)),
        make_scores("oracle"),
        make_scores("empty", dataset="ms3", empty=(1,), levels=(-3.0,)),
    ]


@pytest.fixture
def table(results: list[Scores]) -> Table:
    return build_table(results, ["avsbench", "strict"])


def text(table: Table, name: str) -> str:
    content = find_format(name)(table)
    assert isinstance(content, str)
    return content


def test_csv_reads_back_to_the_same_numbers(table: Table) -> None:
    content = text(table, "csv")
    further = ("mixture@-3_mIoU", "mixture@-3_F", "mixture@-3_FPR")
    assert content.split("\n")[0] == ",".join([*CSV_COLUMNS, *further, "signature"])
    assert "\r" not in content
    rows = list(csv.DictReader(io.StringIO(content)))
    assert len(rows) == len(table.lines)
    for row, line in zip(rows, table.lines, strict=True):
        for name, value in line.cells().items():
            assert row[name] == str(value)
        for name, value in line.score.columns().items():
            assert value is not None
            assert float(row[name]) == value


def test_csv_of_an_undefined_score_is_an_empty_cell(make_scores: Make) -> None:
    content = text(build_table([make_scores("oracle", conditions=("clean",))], ["avsbench"]), "csv")
    (row,) = csv.DictReader(io.StringIO(content))
    assert [row[name] for name in METRICS if name not in ("mIoU", "F")] == [""] * 12
    assert row["mIoU"] == "1.0"


def test_csv_by_category_has_the_column_after_the_protocol(results: list[Scores]) -> None:
    content = text(build_table(results[:1], ["avsbench"], by="category"), "csv")
    frame = pd.read_csv(io.StringIO(content))
    assert list(frame.columns) == [*CSV_COLUMNS[:4], "category", *CSV_COLUMNS[4:], "signature"]
    assert frame["category"].tolist() == ["all", "cat", "dog"]
    assert frame["clips"].tolist() == [6, 3, 3]


def test_json_holds_everything_and_no_nan(table: Table) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    content = json.loads(text(table, "json"), parse_constant=refuse)
    assert content["columns"] == [*CSV_COLUMNS, "mixture@-3_mIoU", "mixture@-3_F", "mixture@-3_FPR", "signature"]
    assert set(content["protocols"]) == {"avsbench", "strict"}
    assert content["metrics"]["G_FPR"] == {"label": "G-FPR", "higher_is_better": False, "bounds": [0.0, 1.0]}
    for entry, line in zip(content["lines"], table.lines, strict=True):
        assert {name: entry[name] for name in line.cells()} == line.cells()
        assert entry["trivial"] == line.trivial.columns()
        assert [condition["clips"] for condition in entry["conditions"]] == [c.clips for c in line.score.conditions]
    found = {entry["model"]: entry for entry in content["diagnostics"]}
    assert found[NASTY]["failed"] == [{"split": "test", "clip_id": "clip900", "error": "ran out of memory"}]
    assert len(found["oracle"]["threshold_curve"]["G_mIoU"]) == 255
    assert found["empty"]["overlap"]["value"] is None
    assert content["warnings"] == list(table.warnings)


def test_parquet_holds_the_csv_trivial_scores_and_diagnostics(table: Table, tmp_path: Path) -> None:
    content = find_format("parquet")(table)
    assert isinstance(content, bytes)
    (tmp_path / "t.parquet").write_bytes(content)
    frame = pd.read_parquet(tmp_path / "t.parquet")
    assert list(frame.columns[: len(CSV_COLUMNS)]) == list(CSV_COLUMNS)
    for (_, row), line in zip(frame.iterrows(), table.lines, strict=True):
        assert {name: row[name] for name in (*CSV_COLUMNS, "signature")} == line.cells()
        assert row["trivial_G_mIoU"] == line.trivial.g_miou
        assert row["beta2"] == 0.3
    assert frame["failed_clips"].tolist().count(1) == 2
    metadata = pq.read_schema(tmp_path / "t.parquet").metadata
    assert json.loads(metadata[b"avsrobust.warnings"]) == list(table.warnings)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_markdown_shows_percent_marks_and_floors(table: Table) -> None:
    content = text(table, "md")
    blocks = content.split("## ")
    block = next(block for block in blocks if block.startswith("s4, test: protocol strict"))
    rows = [cells(line) for line in block.splitlines() if line.startswith("|")]
    assert rows[0] == ["model", "clips", "mIoU ↑", "F ↑", "G-mIoU ↑", "G-F ↑", "G-FPR ↓"]
    nasty, net, oracle, floor = rows[2:6]
    assert nasty[0] == 'm,"&lt;b&gt;&\\_{\\|}\\\\%\\$#\\~^ &lt;/script&gt;'
    line = next(line for line in table.lines if line.subject.model == "net_one" and line.protocol.name == "strict")
    expected = [f"{100 * (line.score.columns()[name] or 0):.2f}" for name in ("mIoU", "F", "G_mIoU", "G_F", "G_FPR")]
    assert [cell.strip("*") for cell in net[2:]] == expected
    assert (nasty[2], nasty[4], net[4]) == ("**100.00**", "0.00", f"**{expected[2]}**")
    assert oracle == ["_oracle_", "6", "100.00", "100.00", "100.00", "100.00", "0.00"]
    assert floor == ["_trivial score: nothing predicted_", "6", "0.00", "0.00", "0.00", "0.00", "0.00"]
    assert "| mixture -3 dB | positive |" in content
    assert re.search(r"^- .* on s4/test: 1 clip could not be scored", content, re.MULTILINE)


def test_markdown_by_category(results: list[Scores]) -> None:
    content = text(build_table(results[:1], ["avsbench"], by="category"), "md")
    after = content.split("By category (avsbench)")[1]
    assert [cells(line)[0] for line in after.splitlines() if line.startswith("|")][:4] == [
        "category",
        "--------",
        "cat",
        "dog",
    ]


def test_every_format_shows_further_conditions(table: Table) -> None:
    shown = {name: str(find_format(name)(table)) for name in format_names()}
    for name in ("md", "html", "latex"):
        assert "mixture -3 dB" in shown[name], name
    assert r"\textit{empty} & mixture -3 dB & positive & 6 & " in shown["latex"]
    for name in ("csv", "json", "parquet"):
        assert "mixture@-3_mIoU" in shown[name], name


def test_latex_escapes_and_marks(table: Table) -> None:
    content = text(table, "latex")
    assert content.count(r"\begin{tabular}") == content.count(r"\end{tabular}") == 6
    assert r"net\_one & 6 & " in content
    assert r"\textit{oracle}" in content
    assert r"\textbf{100.00}" in content
    assert (
        r"m,\"<b>\&\_\{|\}\textbackslash{}\%\$\#\textasciitilde{}\textasciicircum{} </script>".replace('\\"', '"')
        in content
    )
    for line in content.splitlines():
        if line.endswith(r"\\"):
            spans = [int(span) for span in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            assert len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) - len(spans) in (16, 7)
        elif line.startswith("%"):
            continue
        assert not re.search(r"(?<!\\)[#~^]", line)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(table: Table, tmp_path: Path) -> None:
    head, tail = r"\documentclass{article}\usepackage{booktabs}\begin{document}", r"\end{document}"
    document = "\n".join([head, text(table, "latex"), tail])
    (tmp_path / "t.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-1000:]


@settings(deadline=None)
@given(st.text())
def test_escaped_text_has_no_bare_special_character(name: str) -> None:
    escaped = escape(name)
    without = re.sub(r"\\textbackslash\{\}|\\textasciitilde\{\}|\\textasciicircum\{\}|\\[&%$#_{}]", "", escaped)
    assert not set(without) & set("\\&%$#_{}~^\n\r")


@settings(deadline=None)
@given(st.lists(st.lists(st.text(max_size=12), min_size=2, max_size=2), max_size=4))
def test_cells_cannot_break_a_markdown_table(rows: list[list[str]]) -> None:
    lines = text_table(["a", "b"], rows).split("\n")
    assert len(lines) == len(rows) + 2
    assert len({len(line) for line in lines}) == 1
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines)


class Page(HTMLParser):
    """Collects tags with attributes, checks that they nest, and the text of the page."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def page(results: list[Scores]) -> str:
    return text(build_table(results, ["avsbench", "strict"], by="category"), "html")


def test_the_page_stands_alone(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == []
    names = {tag for tag, _ in parsed.tags}
    assert not names & {"link", "img", "iframe", "object", "embed", "base", "form"}
    assert [attributes for tag, attributes in parsed.tags if tag == "script"] == [{}]
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    sha256 = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (attributes["content"] for _, attributes in parsed.tags if "http-equiv" in attributes)
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{sha256}'; style-src 'unsafe-inline'; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"innerHTML|insertAdjacent|document\.write|\beval\b|fetch|XMLHttp|import\(", script)
    for tag, attributes in parsed.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "src"):
                assert value is not None
                assert value.startswith("#")
    assert "//" not in page.replace("</", "").replace(policy, "")
    assert "@import" not in page
    assert "url(" not in page


def test_the_page_escapes_names(page: str) -> None:
    assert "<b>&_" not in page
    assert "&lt;/script&gt;" in page
    assert 'm,"<b>&_{|}\\%$#~^\n</script>' in Page(page).text


def test_the_page_is_accessible(page: str) -> None:
    parsed = Page(page)
    assert ("html", {"lang": "en"}) in parsed.tags
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in parsed.tags:
        assert set((attributes.get("aria-labelledby") or "").split()) <= set(ids)
        if tag == "th":
            assert attributes.get("scope") in ("row", "col", "colgroup", "rowgroup")
        if tag == "svg":
            assert attributes.get("role") == "img" or attributes.get("aria-hidden") == "true"
    for target in re.findall(r'href="#([^"]*)"', page):
        assert target in ids
    headings = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch("h[1-6]", tag)]
    assert headings.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))


def test_the_pages_tables_have_equally_long_rows(page: str) -> None:
    for content in re.findall(r"<table[ >].*?</table>", page, re.DOTALL):
        held, widths = 0, []
        for row in re.findall(r"<tr[^>]*>(.*?)</tr>", content, re.DOTALL):
            spans = [int(span) for span in re.findall(r'colspan="(\d+)"', row)]
            width = len(re.findall(r"<t[hd][ >]", row)) + sum(spans) - len(spans) + (held > 0)
            held = max(held - 1, 0)
            if found := re.search(r'rowspan="(\d+)"', row):
                held = int(found[1]) - 1
            widths.append(width)
        assert len(set(widths)) == 1, widths


def test_the_pages_charts_show_the_numbers(page: str, table: Table) -> None:
    charts = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    titles = {chart.findtext("title"): chart for chart in charts}
    line = next(line for line in table.lines if line.subject.model == "net_one" and line.protocol.name == "strict")
    shown = {name: f"{100 * (line.score.columns()[name] or 0):.2f}" for name in METRICS}
    title = (
        f"net_one: mIoU in percent per condition: clean {shown['mIoU']}, silence {shown['silence_mIoU']}, "
        f"noise {shown['noise_mIoU']}, off-screen {shown['offscreen_mIoU']}."
    )
    widths = [float(bar.attrib["width"]) for bar in titles[title].iter("rect")]
    scores = [line.score.columns()[name] or 0 for name in ("mIoU", "silence_mIoU", "noise_mIoU", "offscreen_mIoU")]
    assert widths == pytest.approx([score * 194 for score in scores], abs=0.06)
    curves = [chart for name, chart in titles.items() if name and "over the threshold" in name]
    # Two models on s4, without the baseline; a baseline on ms3, where there is nothing else.
    assert len(curves) == 3
    for chart in curves:
        assert [len(path.attrib["d"].split("L")) for path in chart.iter("path")] == [255] * 3


def test_provenance_comes_from_run_json(make_scores: Make, tmp_path: Path) -> None:
    write_scores(tmp_path / "a" / "scores.parquet", make_scores("oracle"))
    details = {
        "adapter": {"spec": "oracle"},
        "checkpoint": None,
        "manifest": {"path": "robust/s4", "sha256": "f" * 64},
        "device": "cpu",
        "device_name": "",
        "clips_per_s": float("nan"),
        "versions": {"torch": "2.13.0"},
    }
    write_run(tmp_path / "a" / "run.json", Run("oracle", "s4", details))
    content = report(load_results([tmp_path]), format="html").content
    assert isinstance(content, str)
    assert "<dt>manifest SHA-256</dt><dd>ffffffffffff</dd>" in content
    assert "<dt>versions</dt><dd>torch 2.13.0</dd>" in content
    assert "<dt>checkpoint</dt>" not in content
    content = report(load_results([tmp_path]), format="json").content
    assert isinstance(content, str)
    assert json.loads(content)["diagnostics"][0]["run"]["clips_per_s"] is None


def test_a_damaged_run_json_is_a_warning(make_scores: Make, tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.parquet", make_scores("oracle"))
    (tmp_path / "run.json").write_text("{")
    rendered = report(load_results([tmp_path]), format="csv")
    assert len(rendered.warnings) == 1
    assert "run.json: is damaged" in rendered.warnings[0]


@pytest.mark.parametrize("name", format_names())
def test_equal_results_give_equal_bytes_and_files_read_back(make_scores: Make, tmp_path: Path, name: str) -> None:
    for model in ("oracle", "empty"):
        write_scores(tmp_path / model / "s4-seed42" / "scores.parquet", make_scores(model))
    first = report(load_results(results_root=tmp_path), ("strict",), None, name)
    again = report(load_results([tmp_path / "oracle", tmp_path / "empty"]), ("strict",), None, name)
    assert first == again
    assert isinstance(first.content, bytes if name == "parquet" else str)
    assert first.warnings == ()


def test_results_are_found_below_a_folder_and_only_once(make_scores: Make, tmp_path: Path) -> None:
    for folder in ("b/s4", "a/s4", "a/ms3"):
        write_scores(tmp_path / folder / "scores.parquet", make_scores("oracle", model=folder))
    found = load_results([tmp_path / "b", tmp_path, tmp_path / "b" / "s4" / "scores.parquet"])
    assert [scores.info.model for scores in found] == ["a/ms3", "a/s4", "b/s4"]
    assert found[0].source == tmp_path / "a" / "ms3" / "scores.parquet"


def test_missing_results_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        ResultsError, match=r"nowhere: not found; .*run 'avsrobust evaluate --adapter visual_prior' first"
    ):
        load_results([tmp_path / "nowhere"])
    with pytest.raises(ResultsError, match=r"found no scores\.parquet in it; expected results"):
        load_results(results_root=tmp_path)


def test_an_unknown_format_is_refused_before_anything_is_computed() -> None:
    with pytest.raises(
        OptionError, match=r"--format markdwn: unknown; .*; known names: csv, html, json, latex, md, parquet"
    ):
        report([], format="markdwn")
    with pytest.raises(OptionError, match="did you mean 'latex'"):
        report([], format="latx")

"""The table for a paper: columns, marks, names, and LaTeX that compiles without an overfull box."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from avsrobust.errors import OptionError
from avsrobust.reporting.paper.latex_width import text_width
from avsrobust.reporting.paper.model import BASELINE, BEST, MODEL, SECOND, TRIVIAL, PaperTable
from avsrobust.reporting.paper.style import PRESETS, WIDTHS, Style, requested_style
from avsrobust.reporting.paper.table import paper_tables
from avsrobust.reporting.report import report, report_options
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import Scores
from avsrobust.vocabulary import CLEAN, DATASETS

Make = Callable[..., Scores]
PAGES = {
    "article": (r"\documentclass{article}", "page"),
    "two columns": (r"\documentclass[twocolumn,10pt]{article}\usepackage[margin=0.75in]{geometry}", "two-column"),
    "one of two columns": (
        r"\documentclass[twocolumn,10pt]{article}\usepackage[textwidth=16cm,columnsep=0.6cm]{geometry}",
        "column",
    ),
    "neurips": (
        r"\documentclass{article}\usepackage[textwidth=5.5in,textheight=9in]{geometry}\usepackage{times}",
        "neurips",
    ),
}


def model(clean: float, false: float) -> Callable[[np.ndarray, str, int], np.ndarray]:
    """Masks of a share of the target's rows under clean sound, and of another share under the others."""

    def predict(target: np.ndarray, condition: str, clip: int) -> np.ndarray:
        share = clean if condition == CLEAN else false
        rows = np.arange(target.shape[1])[None, :, None] < 2 + share * (3 + clip % 7)
        return target * rows * 0.9

    return predict


@pytest.fixture
def results(make_scores: Make) -> list[Scores]:
    models = {"m2f_debias": (0.9, 0.2), "avsegformer_robust": (0.8, 0.5), "tpavi": (0.6, 0.9)}
    found = [
        make_scores(model(*shares), model=name, dataset=dataset)
        for dataset in DATASETS
        for name, shares in models.items()
    ]
    return found + [make_scores("visual_prior", dataset=dataset) for dataset in DATASETS]


def one(results: list[Scores], style: Style | None = None, protocol: str = "strict") -> PaperTable:
    (table,) = paper_tables(build_table(results, [protocol]), style or Style())
    return table


def test_data_sets_stand_side_by_side_with_the_columns_in_the_order_given(results: list[Scores]) -> None:
    table = one(results, requested_style(columns=["G_FPR,mIoU"], digits=1))
    assert [group.title for group in table.groups] == ["S4", "MS3", "AVSS (binary)"]
    assert all([column.name for column in group.columns] == ["G_FPR", "mIoU"] for group in table.groups)
    assert [row.title for row in table.rows if row.kind == MODEL] == ["avsegformer_robust", "m2f_debias", "tpavi"]
    assert [row.kind for row in table.rows[3:]] == [BASELINE, TRIVIAL]
    assert all(re.fullmatch(r"\d+\.\d", cell.text or "") for row in table.rows for cells in row.cells for cell in cells)


def test_best_and_second_are_marked_among_models_where_marking_nothing_does_not_win(results: list[Scores]) -> None:
    table = one(results, requested_style(columns=["mIoU", "silence_FPR", "G_FPR", "G_mIoU"]))
    marks = {row.title: [[cell.mark for cell in cells] for cells in row.cells] for row in table.rows}
    assert marks["m2f_debias"] == [[BEST, "", "", BEST]] * 3
    assert marks["avsegformer_robust"] == [[SECOND, "", "", SECOND]] * 3
    assert marks["tpavi"] == marks["visual_prior"] == [[""] * 4] * 3
    assert not any(cell.mark for row in table.rows if row.kind != MODEL for cells in row.cells for cell in cells)


def test_equal_looking_values_share_a_mark_and_one_model_has_none(results: list[Scores]) -> None:
    same = [results[0], results[0], results[2]]
    table = one(same, requested_style(columns=["mIoU"]))
    assert [row.cells[0][0].mark for row in table.rows if row.kind == MODEL] == [BEST, BEST, SECOND]
    assert [row.title for row in table.rows[:2]] == ["m2f_debias (1)", "m2f_debias (2)"]
    assert not any(row.cells[0][0].mark for row in one(results[:1]).rows)


def test_models_of_one_data_set_leave_cells_open_and_seeds_have_rows(make_scores: Make, results: list[Scores]) -> None:
    again = make_scores(model(0.5, 0.5), model="tpavi", seed=7)
    table = one([results[0], results[2], again, results[3]], requested_style(columns=["mIoU"]))
    rows = {row.title: [cells[0].text for cells in row.cells] for row in table.rows if row.kind == MODEL}
    assert list(rows) == ["m2f_debias", "tpavi (seed 7)", "tpavi (seed 42)"]
    assert rows["tpavi (seed 7)"][1] is None


def test_incomplete_results_are_marked(make_scores: Make) -> None:
    table = one([make_scores("oracle", model="net", failed=("clip900",))])
    assert table.rows[0].is_incomplete
    assert "*: incomplete" in table.caption


def test_columns_of_levels_and_extra_scores_can_be_chosen(make_scores: Make) -> None:
    found = build_table([make_scores("oracle", levels=(-3.0,))], ["strict"], scores=["activation"])
    (table,) = paper_tables(found, requested_style(columns=["mixture@-3_mIoU", "silence_AOC"]))
    assert [(column.condition, column.higher_is_better) for column in table.groups[0].columns] == [
        ("mixture -3 dB", True),
        ("silence", True),
    ]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_columns_of_its_paper(results: list[Scores], name: str) -> None:
    options = report_options(preset=name)
    content = report(results, format="md", **options).content
    assert isinstance(content, str)
    header = content.splitlines()[0]
    wanted = {
        "avsbench_robust": ["G-mIoU ↑", "G-F ↑", "G-FPR ↓"],
        "bias_in_avs": ["mIoU ↑", "F ↑"],
    }[name]
    titles = ["S4", "MS3", "AVSS (binary)"]
    assert [cell.strip() for cell in header.split("|")[2:-1]] == [
        f"{title} {text}" for title in titles for text in wanted
    ]
    digits = r"\d+\.\d\b" if name == "bias_in_avs" else r"0\.\d{3}\b"
    assert re.search(digits, content)


def test_names_of_models_columns_and_data_sets_are_replaced(results: list[Scores]) -> None:
    renames = ["m2f_debias=Ours", "G_mIoU=Robust", "s4=Single", "visual_prior=Blind"]
    rendered = report(results, format="latex", **report_options(layout="wide", renames=renames))
    assert isinstance(rendered.content, str)
    for text in ("Ours &", r"Robust$\uparrow$", "{Single}", r"\textit{Blind} &"):
        assert text in rendered.content
    assert "m2f" not in rendered.content.split(r"\begin")[1]
    csv = report(results, format="csv", **report_options(renames=renames[:1])).content
    assert isinstance(csv, str)
    assert csv.count("Ours") == 3
    assert "m2f_debias" not in csv


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "wide", "columns": ["G_mIou"]}, "--columns: 'G_mIou' is in no result; .*did you mean 'G_mIoU'"),
        ({"columns": ["mIoU"]}, "only --layout wide has them"),
        ({"layout": "wide", "columns": ["mIoU,mIoU"]}, "--columns: found a name twice"),
        ({"layout": "wide", "digits": "many"}, "--digits: found 'many'; expected 0 to 6"),
        ({"layout": "wide", "digits": "F=1"}, "--digits: 'F' is no column of the table"),
        ({"layout": "wide", "width": "wide"}, "--width: found 'wide'; expected column, page"),
        ({"layout": "wide", "width": "nan"}, "--width: found 'nan'"),
        ({"layout": "wide", "label": "a}b"}, "--label: found 'a}b'"),
        ({"layout": "wdie"}, "--layout: found 'wdie'; .*did you mean 'wide'"),
        ({"preset": "avsbench"}, "--preset: found 'avsbench'; .*did you mean"),
        ({"renames": ["tpavi"]}, "--rename: found 'tpavi'; expected OLD=NEW"),
        ({"renames": ["tpvai=x"]}, "--rename: 'tpvai' is no model of the results; .*did you mean 'tpavi'"),
        ({"renames": ["tpavi=oracle"]}, "--rename tpavi=oracle: 'oracle' is the name of a baseline"),
        ({"renames": ["tpavi=a", "tpavi=b"]}, "--rename: 'tpavi' is renamed twice"),
        ({"layout": "wide", "renames": ["F=J"]}, "--rename: 'F' is no model, data set or column"),
    ],
)
def test_wrong_choices_are_one_line(results: list[Scores], options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        report(results, **report_options(**options))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_formats_without_the_layout_are_refused(results: list[Scores]) -> None:
    with pytest.raises(OptionError, match="--layout wide: format csv has none; expected --format md, latex, html"):
        report(results, format="csv", **report_options(layout="wide"))


def test_html_is_a_table_with_inert_names(make_scores: Make) -> None:
    nasty = "<script>alert(1)</script>\x1b"
    rendered = report([make_scores("oracle", model=nasty)], format="html", **report_options(layout="wide"))
    assert isinstance(rendered.content, str)
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append(tag)  # type: ignore[method-assign]
    parser.feed(rendered.content)
    assert set(tags) <= {"table", "caption", "thead", "tbody", "tr", "th", "td", "em", "strong", "u", "sup"}
    assert tags.count("table") == 1
    assert "\x1b" not in rendered.content


# LaTeX


def compiled(source: str, preamble: str, folder: Path) -> str:
    """The log of pdflatex on a page that holds the table."""
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex: apt-get install texlive-latex-recommended")
    (folder / "t.tex").write_text(
        f"{preamble}\n\\usepackage{{booktabs}}\n\\begin{{document}}\nText of the page.\n{source}\n\\end{{document}}\n",
        encoding="utf-8",
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "t.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=120)
    log = (folder / "t.log").read_text(encoding="utf-8", errors="replace")
    assert done.returncode == 0, log[-3000:]
    return log


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"preset": "avsbench_robust"},
        {"preset": "bias_in_avs", "reported": True},
        {"columns": ["mIoU,F,G_mIoU,G_F,G_FPR"], "reported": True},
        {
            "columns": ["mIoU,F,silence_mIoU,silence_F,silence_FPR,noise_FPR,offscreen_FPR,G_mIoU,G_F,G_FPR"],
            "digits": "1",
        },
    ],
    ids=["default", "robust", "bias", "headline", "conditions"],
)
def test_latex_fits_the_page(results: list[Scores], page: str, choices: dict[str, object], tmp_path: Path) -> None:
    preamble, width = PAGES[page]
    options = report_options(layout="wide", width=width, **choices)  # type: ignore[arg-type]
    content = report(results, format="latex", **options).content
    assert isinstance(content, str)
    assert r"\resizebox" not in content
    log = compiled(content, preamble, tmp_path)
    assert "Overfull" not in log
    assert "too large" not in log
    assert "undefined" not in log.lower()
    assert content.count(r"\begin{tabular}") == content.count(r"\toprule")


def test_latex_of_the_default_width_goes_into_every_page_and_holds_three_data_sets_side_by_side(
    results: list[Scores], tmp_path: Path
) -> None:
    content = report(results, format="latex", **report_options(layout="wide")).content
    assert isinstance(content, str)
    assert content.count(r"\begin{tabular}") == 1
    for text in (
        r"\multicolumn{3}{c}{S4}",
        r"\textbf{",
        r"\underline{",
        r"\caption{",
        r"\label{tab:avsrobust}",
        r"\toprule",
    ):
        assert text in content
    for number, (preamble, width) in enumerate(PAGES.values()):
        if width != "column":
            (tmp_path / str(number)).mkdir()
            assert "Overfull" not in compiled(content, preamble, tmp_path / str(number))


def test_means_with_their_spread_fit_the_page(make_scores: Make, tmp_path: Path) -> None:
    found = [
        make_scores(model(0.2 * seed, 0.1), model="avsegformer_robust", dataset=dataset, seed=seed)
        for dataset in DATASETS
        for seed in (1, 2, 3)
    ]
    content = report(found, format="latex", aggregate="seeds", **report_options(layout="wide")).content
    assert isinstance(content, str)
    assert r"$\pm$" in content
    assert "Overfull" not in compiled(content, r"\documentclass{article}", tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_intervals_fit_the_page_in_both_layouts(results: list[Scores], page: str, tmp_path: Path) -> None:
    preamble, width = PAGES[page]
    wide = report(results, format="latex", intervals=True, **report_options(layout="wide", width=width)).content
    full = report(results, format="latex", intervals=True).content
    assert isinstance(wide, str)
    assert isinstance(full, str)
    assert re.search(r"\\(scriptsize|tiny) \[", wide)
    tabulars = re.findall(r"^\{\\footnotesize.*?\\end\{tabular\}\}", full, flags=re.DOTALL | re.MULTILINE)
    assert len(tabulars) == 3
    # In two columns they go into a float of the paper's own over both.
    if width in ("page", "neurips"):
        wide += "\n\n".join(["", *tabulars])
    log = compiled(wide, preamble, tmp_path)
    assert "Overfull" not in log
    assert "too large" not in log


def test_a_table_that_fits_a_page_in_a_smaller_font_is_one_float_and_a_longer_one_splits_between_rows(
    make_scores: Make, tmp_path: Path
) -> None:
    def rendered(models: int) -> str:
        found = [make_scores(model(0.9, 0.2), model=f"net{number}", clips=range(2)) for number in range(models)]
        content = report(found, format="latex", **report_options(layout="wide", columns=["mIoU"])).content
        assert isinstance(content, str)
        return content

    medium, long = rendered(34), rendered(90)
    assert medium.count(r"\begin{table*}") == 1
    assert r"\normalsize" not in medium
    assert long.count(r"\begin{table*}") == long.count(r"\begin{tabular}") > 1
    assert all(f"net{number} &" in long for number in range(90))
    for number, content in enumerate((medium, long)):
        (tmp_path / str(number)).mkdir()
        log = compiled(content, r"\documentclass{article}", tmp_path / str(number))
        assert "Overfull" not in log
        assert "too large" not in log


@pytest.mark.parametrize("width", WIDTHS)
def test_long_and_hostile_names_compile_and_fit(make_scores: Make, width: str, tmp_path: Path) -> None:
    names = [
        "a_very_long_model_name_of_somebody_else/checkpoint-100000-final",
        r"[x] \input{/etc/passwd} $%&_#^~{}",
        "W" * 30,
    ]
    found = [make_scores(model(0.9, 0.2), model=name, dataset=dataset) for name in names[:2] for dataset in DATASETS]
    found.append(make_scores(model(0.5, 0.2), model=names[2][:6]))
    content = report(found, format="latex", **report_options(layout="wide", width=width)).content
    assert isinstance(content, str)
    preamble = rf"\documentclass{{article}}\usepackage[textwidth={WIDTHS[width]:g}pt]{{geometry}}"
    assert "Overfull" not in compiled(content, preamble, tmp_path)


def test_widths_are_upper_bounds_of_what_tex_measures(tmp_path: Path) -> None:
    texts = ["87.67", "m2f_debias", "G-mIoU", "AVSS (binary)", "WAVE net", "off-screen", "+12.34"]
    boxes = "".join(
        rf"\sbox{{0}}{{{text}}}\typeout{{WIDTH \the\wd0}}".replace("_", r"\_")
        for text in [*texts, *(rf"\bfseries {text}" for text in texts)]
    )
    log = compiled(boxes, r"\documentclass{article}", tmp_path)
    measured = [float(width) for width in re.findall(r"WIDTH ([\d.]+)pt", log)]
    bounds = [text_width(text, bold=bold) for bold in (False, True) for text in texts]
    assert len(measured) == len(bounds)
    for text, real, bound in zip([*texts, *texts], measured, bounds, strict=True):
        assert real <= bound <= 1.15 * real, text

"""Published numbers: the bundled file is sound, files of a user's are checked, and every format marks them as reported."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from avsrobust.errors import OptionError
from avsrobust.metrics import PROTOCOLS, SEMANTIC_PROTOCOLS
from avsrobust.reporting.report import report, report_options
from avsrobust.reporting.reported import load_reported
from avsrobust.results import Scores
from avsrobust.vocabulary import BINARY, DATASETS

Make = Callable[..., Scores]
FILE = """
sources:
  - citation: "Doe et al., <b>A Paper</b>"
    table: Table 2
    protocol: strict
    comparable: true
    reason: same clips
    lines:
      - {model: Some Net, models: [some_net], dataset: s4, values: {mIoU: 81.2, G_FPR: 0.05}}
      - {model: Elsewhere, dataset: ms3, values: {mIoU: 50}}
"""


@pytest.fixture
def options(tmp_path: Path) -> dict[str, object]:
    (tmp_path / "mine.yaml").write_text(FILE)
    return {"protocols": ["strict"], "reported_files": [tmp_path / "mine.yaml"]}


@pytest.fixture
def results(make_scores: Make) -> list[Scores]:
    return [make_scores("oracle", model="Some_Net"), make_scores("empty", model="other"), make_scores("oracle")]


def rendered(results: list[Scores], options: dict[str, object], name: str) -> str:
    content = report(results, format=name, **report_options(**options)).content  # type: ignore[arg-type]
    assert isinstance(content, str)
    return content


def test_the_bundled_numbers_are_of_known_protocols_and_as_printed() -> None:
    found = load_reported()
    for line in found:
        assert line.dataset in DATASETS
        assert line.protocol in (PROTOCOLS if line.task == BINARY else SEMANTIC_PROTOCOLS)
        assert all(0 <= value <= 1 for value in line.values.values())
    (tpavi,) = (line for line in found if (line.model, line.dataset) == ("TPAVI", "s4"))
    assert tpavi.values == {"G_mIoU": pytest.approx(0.3503), "G_F": pytest.approx(0.2148), "G_FPR": 0.186}
    (swin,) = (line for line in found if (line.dataset, line.protocol) == ("s4", "bias_in_avs"))
    assert swin.values == {"mIoU": pytest.approx(0.833), "F": pytest.approx(0.93)}


def test_json_holds_each_score_its_source_and_the_difference(results: list[Scores], options: dict[str, object]) -> None:
    found = json.loads(rendered(results, options, "json"))["reported"]
    assert [(entry["model"], entry["column"]) for entry in found] == [("Some Net", "mIoU"), ("Some Net", "G_FPR")]
    assert found[0]["source"] == "Doe et al., <b>A Paper</b>"
    assert found[0]["measured"] == [{"name": "Some_Net", "value": 1.0, "difference": pytest.approx(1 - 0.812)}]
    assert "reported" not in json.loads(rendered(results, {"protocols": ["strict"]}, "json"))


def test_csv_and_parquet_have_rows_of_their_own_and_differences(
    results: list[Scores], options: dict[str, object], tmp_path: Path
) -> None:
    rows = list(csv.DictReader(io.StringIO(rendered(results, options, "csv"))))
    by_model = {row["model"]: row for row in rows}
    assert by_model["Some Net"]["reported_by"].startswith("reported by Doe et al.")
    assert float(by_model["Some Net"]["mIoU"]) == pytest.approx(0.812)
    assert float(by_model["Some_Net"]["mIoU_difference"]) == pytest.approx(0.188)
    assert by_model["other"]["mIoU_difference"] == by_model["other"]["reported_by"] == ""
    assert list(rows[0])[-1] == "signature"
    content = report(results, format="parquet", **report_options(**options)).content  # type: ignore[arg-type]
    assert isinstance(content, bytes)
    (tmp_path / "t.parquet").write_bytes(content)
    frame = pd.read_parquet(tmp_path / "t.parquet").set_index("model")
    assert frame["mIoU_reported"].to_dict()["Some_Net"] == pytest.approx(0.812)
    assert frame["reported_by"].notna().tolist() == [False, False, False, True]


def test_tables_for_people_mark_them(results: list[Scores], options: dict[str, object]) -> None:
    content = rendered(results, options, "md")
    assert "Published numbers (strict): reported by others, not measured here" in content
    assert "| Some Net (here: Some_Net) | mIoU ↑  |    81.20 |   100.00 |     +18.80 |        yes |" in content
    assert "&lt;b&gt;A Paper" in content
    wide = rendered(results, {**options, "layout": "wide"}, "md")
    assert "Some Net†" in wide
    assert "†: as reported by others, not measured here" in wide
    assert "+18.80" in wide
    assert "Elsewhere" not in wide
    assert "not measured here" in rendered(results, options, "latex")
    assert "Some Net$^{\\dagger}$" in rendered(results, {**options, "layout": "wide"}, "latex")


def test_reported_numbers_never_win(make_scores: Make, options: dict[str, object]) -> None:
    poor = [
        make_scores(lambda target, condition, clip: target * 0.9 * (clip % 2), model="one"),
        make_scores(lambda target, condition, clip: target * 0.9 * (clip == 3), model="two"),
    ]
    content = rendered(poor, {**options, "layout": "wide", "columns": ["mIoU"]}, "md")
    (line,) = (line for line in content.splitlines() if "†" in line and line.startswith("|"))
    assert "**" not in line
    assert "<ins>" not in line


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sources:", "source:", "found no list 'sources'"),
        ("mIoU: 81.2", "mIoU: 181.2", "mIoU: found 181.2; expected a number from 0 to 100"),
        ("G_FPR: 0.05", "G_FPR: 5", "G_FPR: found 5; expected a number from 0 to 1"),
        ("mIoU: 81.2", "mIuO: 81.2", "values: found 'mIuO'; expected mIoU"),
        ("comparable: true", "comparable: maybe", "comparable: found 'maybe'"),
        ("    table: Table 2\n", "", "table: found None; expected a text"),
        ("dataset: s4", "datset: s4", "found key 'datset'; .*did you mean 'dataset'"),
        ("models: [some_net]", "models: some_net", "models: expected a list of names"),
        ("dataset: ms3", "dataset: ms3, task: both", "task: found 'both'; expected semantic or binary"),
        ("values: {mIoU: 50}", "values: {}", "values: expected scores by column"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(FILE.replace(old, new))
    with pytest.raises(OptionError, match=message) as caught:
        load_reported(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"none\.yaml: No such file"):
        load_reported(tmp_path / "none.yaml")

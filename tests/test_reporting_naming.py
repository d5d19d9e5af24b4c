"""Lines of several seeds, recipes, releases and splits are told apart in every format, and what results say is printed."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from avsrobust.errors import ResultsError
from avsrobust.metrics import concatenate
from avsrobust.reporting.columns import CSV_COLUMNS, condition_columns, level_text
from avsrobust.reporting.compare import compare, comparison_json, render_comparison
from avsrobust.reporting.formats import find_format, format_names
from avsrobust.reporting.report import report
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import Scores, read_scores, write_scores

Make = Callable[..., Scores]


def of(scores: Scores, source: str | None = None, **info: Any) -> Scores:
    """The same scores with other metadata, from a file of that name."""
    found = replace(scores, info=replace(scores.info, **info))
    return found if source is None else replace(found, source=Path(source))


def weak(target: np.ndarray, condition: str, clip: int) -> np.ndarray:
    return target * (0.8 if condition == "clean" else 0.3)


@pytest.fixture
def builds(make_scores: Make) -> list[Scores]:
    """One model on S4's test split, from six builds and one of them twice."""
    scores = make_scores(weak, model="net", clips=range(2))
    found = [
        of(scores, "a", seed=1, recipe="standard", release="object"),
        of(scores, "b", seed=2, recipe="standard", release="object"),
        of(scores, "c", seed=1, recipe="reference", release="object"),
        of(scores, "d", seed=1, recipe="standard", release="semantic"),
        of(scores, "e", seed=1, recipe="standard", release="semantic"),
        of(scores, "f", seed=1, recipe="standard", release="", dataset="avss"),
    ]
    return [*found, of(make_scores("oracle", clips=range(2)), "g", seed=1, recipe="standard", release="object")]


def rows_of(results: Sequence[Scores], **choices: Any) -> list[dict[str, str]]:
    content = report(results, ["strict"], format="csv", **choices).content
    assert isinstance(content, str)
    return list(csv.DictReader(io.StringIO(content)))


def test_csv_lines_of_several_builds_differ_in_their_keys(builds: list[Scores]) -> None:
    rows = rows_of(builds)
    keys = [
        tuple(row[name] for name in ("model", "dataset", "split", "protocol", "seed", "recipe", "release"))
        for row in rows
    ]
    assert keys == [
        ("net", "s4", "test", "strict", "1", "reference", "object"),
        ("net", "s4", "test", "strict", "1", "standard", "object"),
        ("net", "s4", "test", "strict", "2", "standard", "object"),
        ("oracle", "s4", "test", "strict", "1", "standard", "object"),
        ("net (1)", "s4", "test", "strict", "1", "standard", "semantic"),
        ("net (2)", "s4", "test", "strict", "1", "standard", "semantic"),
        ("net", "avss", "test", "strict", "1", "standard", ""),
    ]
    assert list(rows[0])[-4:] == ["seed", "recipe", "release", "signature"]


def test_parquet_and_json_say_the_build_and_the_file(builds: list[Scores]) -> None:
    table = build_table(builds, ["strict"])
    content = find_format("parquet")(table)
    assert isinstance(content, bytes)
    frame = pd.read_parquet(io.BytesIO(content))
    lines = json.loads(str(find_format("json")(table)))["lines"]
    subjects = json.loads(str(find_format("json")(table)))["diagnostics"]
    assert not frame.duplicated(["model", "dataset", "seed", "recipe", "release", "source"]).any()
    for name in ("model", "name", "seed", "recipe", "release"):
        assert frame[name].tolist() == [line[name] for line in lines] == [subject[name] for subject in subjects]
    assert frame["model"].tolist() == ["net", "net", "net", "oracle", "net", "net", "net"]
    assert frame["seed"].dtype == np.uint64


def test_headings_name_the_release_and_labels_seed_and_recipe(builds: list[Scores]) -> None:
    content = str(report(builds, ["strict"], format="md").content)
    blocks = {part.split("\n")[0]: part for part in content.split("## ")}
    first = blocks["s4, object release, test: protocol strict"]
    for label in ("net (seed 1, recipe reference)", "net (seed 1, recipe standard)", "net (seed 2, recipe standard)"):
        assert f"| {label} " in first
    assert "| _oracle (seed 1, recipe standard)_ " in first
    second = blocks["s4, semantic release, test: protocol strict"]
    assert "| net (1) " in second
    assert "| net (2) " in second
    assert "| net " in blocks["avss, test: protocol strict, binary segmentation"]


def test_every_tabular_and_every_section_of_the_page_names_its_release(builds: list[Scores]) -> None:
    content = str(report(builds, ["strict"], format="latex").content)
    for title in ("s4, object release, test", "s4, semantic release, test", "avss, test"):
        assert f"% {title}, protocol strict" in content
        assert f"\n{title} & " in content
    page = str(report(builds, ["strict"], format="html").content)
    headings = re.findall(r"<h2 id=\"([^\"]+)\">([^<]*)</h2>", page)
    assert headings[:4] == [
        ("leaderboard", "Leaderboard"),
        ("s4-object-test", "s4, object release, test"),
        ("s4-semantic-test", "s4, semantic release, test"),
        ("avss-test", "avss, test"),
    ]
    assert "net (seed 2, recipe standard)" in page


def test_no_two_lines_of_a_table_look_alike(builds: list[Scores]) -> None:
    table = build_table(builds, ["avsbench", "strict"])
    labels = [(line.subject.split_key, line.protocol.name, line.subject.name) for line in table.lines]
    assert len(set(labels)) == len(labels)


def test_one_build_needs_no_label(make_scores: Make) -> None:
    results = [of(make_scores(name), recipe="standard", release="object") for name in ("oracle", "empty")]
    assert [line.subject.name for line in build_table(results, ["strict"]).lines] == ["empty", "oracle"]


def test_two_models_on_two_builds_are_both_labelled(make_scores: Make) -> None:
    results = [make_scores(weak, model="a", seed=1), make_scores(weak, model="b", seed=2)]
    assert [line.subject.name for line in build_table(results, ["strict"]).lines] == ["a (seed 1)", "b (seed 2)"]


def test_two_releases_share_neither_marks_nor_warnings(make_scores: Make) -> None:
    a = of(make_scores(weak, model="net"), release="object", seed=1)
    b = of(make_scores(weak, model="net", clips=range(3)), release="semantic", seed=2)
    table = build_table([a, b], ["strict"])
    assert table.warnings == ()
    assert [line.subject.name for line in table.lines] == ["net", "net"]


def test_conditions_beyond_g_have_columns(make_scores: Make) -> None:
    extended = make_scores("oracle", model="net", levels=(3.0, -3.0, 0.5))
    index = extended.index.assign(condition=extended.index["condition"].replace("offscreen", "unseen"))
    rows = rows_of([make_scores("empty"), replace(extended, index=index)])
    further = [
        f"{name}_{measure}"
        for name in ("mixture@-3", "mixture@0.5", "mixture@3", "unseen")
        for measure in ("mIoU", "F", "FPR")
    ]
    assert list(rows[0]) == [*CSV_COLUMNS, *further, "signature"]
    net, empty = rows
    assert [empty[name] for name in further] == [""] * 12
    assert [net[name] for name in further[:3]] == ["1.0", "1.0", net["mixture@-3_FPR"]]
    assert (net["unseen_mIoU"], net["offscreen_mIoU"], net["G_mIoU"]) == ("0.0", "", "")
    assert list(rows_of([make_scores("empty")])[0]) == [*CSV_COLUMNS, "signature"]
    by = rows_of([extended], by="category")
    assert [row["mixture@3_mIoU"] for row in by] == ["1.0"] * 3


def test_no_condition_takes_a_column_of_another(make_scores: Make) -> None:
    table = build_table([make_scores("oracle", levels=(1.0,))], ["strict"])
    assert [entry.level for entry in table.lines[0].score.conditions if entry.condition == "mixture"] == [1.0]
    keys = [
        ("G", None),
        ("trivial", None),
        ("trivial_G", None),
        ("silence", 2.0),
        ("a@1", None),
        ("a", 1.0),
        ("clean", 3.0),
    ]
    names = condition_columns(keys)
    assert names == {
        ("G", None): "G#2",
        ("a", 1.0): "a@1",
        ("a@1", None): "a@1#2",
        ("clean", 3.0): "clean@3",
        ("trivial", None): "trivial#2",
        ("trivial_G", None): "trivial_G#2",
        ("silence", 2.0): "silence@2",
    }


@pytest.mark.parametrize("level", [-3.0, 0.0, 2.5, 1e-3, 1 / 3, 40.0, 1e20])
def test_levels_read_back_and_differ(level: float) -> None:
    stored = float(np.float32(level))
    assert np.float32(level_text(stored)) == np.float32(level)
    above = float(np.nextafter(np.float32(level), np.float32(np.inf)))
    assert level_text(above) != level_text(stored)


def joined(*parts: Scores) -> Scores:
    index = pd.concat([part.index for part in parts], ignore_index=True)
    return replace(parts[0], index=index, statistics=concatenate([part.statistics for part in parts]))


def test_several_splits_of_one_file_have_a_line_each(make_scores: Make, tmp_path: Path) -> None:
    parts = [make_scores("oracle", split=split, clips=range(n)) for split, n in (("val", 2), ("test", 3))]
    write_scores(tmp_path / "scores.parquet", joined(*parts))
    scores = read_scores(tmp_path / "scores.parquet")
    assert [(row["split"], row["clips"]) for row in rows_of([scores])] == [("test", "3"), ("val", "2")]
    assert [line.subject.name for line in build_table([scores], ["strict"]).lines] == ["oracle", "oracle"]


def test_compare_takes_the_splits_that_both_have(make_scores: Make) -> None:
    test, val, train = (make_scores(weak, split=split, model="net") for split in ("test", "val", "train"))
    comparison = compare(joined(test, val), joined(test, train), samples=20)
    assert [split.split for split in comparison.splits] == ["test"]
    assert comparison.notes[:2] == (
        "train is skipped: only B was evaluated on it",
        "val is skipped: only A was evaluated on it",
    )
    assert "- val is skipped" in render_comparison(comparison)
    elsewhere = make_scores(weak, split="val", clips=range(50, 52))
    comparison = compare(joined(test, val), joined(test, elsewhere), samples=20)
    assert comparison.notes[0] == "val is skipped: no clip of it was scored by both"
    assert [split.split for split in comparison.splits] == ["test"]


def test_compare_knows_releases_and_recipes(make_scores: Make) -> None:
    scores = make_scores(weak)
    one, other = of(scores, release="object", recipe="standard"), of(scores, release="semantic", recipe="standard")
    with pytest.raises(
        ResultsError, match=r"the second: is of the semantic release of s4, the first of the object release"
    ):
        compare(one, other)
    same = compare(one, of(one, recipe="reference"), samples=20)
    assert same.release == "object"
    assert any(note.startswith("the builds' recipes differ (standard, reference)") for note in same.notes)
    assert "s4, object release, protocol avsbench" in render_comparison(same)
    assert json.loads(comparison_json(same))["release"] == "object"
    unknown = compare(one, scores, samples=20)
    assert any("only one of the results says of which release of s4 it is" in note for note in unknown.notes)
    assert not any("release" in note for note in compare(one, one, samples=20).notes)


def test_results_without_a_frame_are_not_compared(make_scores: Make) -> None:
    with pytest.raises(ResultsError, match="the second: found no scored frame in it"):
        compare(make_scores("oracle"), make_scores("oracle", clips=()))


NOTE = "ms3: 38 of 64 test clips share their YouTube source with a train clip"


@pytest.fixture
def noted(make_scores: Make) -> list[Scores]:
    """Two models whose results say the same about the build, of which 2 of 6 clips are muted (and one that was not scored)."""
    muted = ("clip000", "clip003", "clip099")
    return [
        of(make_scores(name, dataset="ms3"), notes=(NOTE,), muted=muted, release="object")
        for name in ("oracle", "empty")
    ]


MUTED = (
    "ms3/test (object release): 2 of 6 clips scored are muted: the recording itself is silent, so that clean sound equals "
    "silence there"
)


def test_what_results_say_of_their_build_is_a_note_once(noted: list[Scores]) -> None:
    notes = build_table(noted, ["strict"]).notes
    assert notes.count(NOTE) == 1
    assert notes.count(MUTED) == 1
    fewer = of(noted[0], muted=("clip003",))
    assert "ms3/test (object release): 1 of 6 clips scored is muted" in "\n".join(
        build_table([fewer], ["strict"]).notes
    )
    assert not any("muted" in note for note in build_table([of(noted[0], muted=())], ["strict"]).notes)


@pytest.mark.parametrize("name", [name for name in format_names() if name not in ("csv", "parquet")])
def test_notes_are_in_every_format_that_has_room(noted: list[Scores], name: str) -> None:
    content = str(report(noted, ["strict"], format=name).content)
    for note in (NOTE, MUTED):
        assert {"latex": f"% {note}\n", "md": f"- {note}\n", "html": f"<li>{note}</li>", "json": f'"{note}"'}[
            name
        ] in content


def test_muted_clips_are_counted_for_programs(noted: list[Scores]) -> None:
    table = build_table([noted[0], of(noted[1], muted=())], ["strict"])
    found = {
        entry["model"]: entry["muted_clips"] for entry in json.loads(str(find_format("json")(table)))["diagnostics"]
    }
    assert found == {"oracle": 2, "empty": 0}
    content = find_format("parquet")(table)
    assert isinstance(content, bytes)
    assert pd.read_parquet(io.BytesIO(content)).set_index("model")["muted_clips"].to_dict() == found


def test_comparisons_print_what_results_say(noted: list[Scores]) -> None:
    assert compare(*noted, samples=20).notes.count(NOTE) == 1

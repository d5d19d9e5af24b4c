"""Intervals in a report: on request, in every format and layout; by video, and by the sources of borrowed sounds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avsrobust.errors import ResultsError
from avsrobust.files import sha256_of_file
from avsrobust.reporting.build_files import sound_sources
from avsrobust.reporting.clip_clusters import clip_clusters
from avsrobust.reporting.columns import CSV_COLUMNS, METRICS
from avsrobust.reporting.report import report, report_options
from avsrobust.reporting.split_results import split_result
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import Run, Scores, read_run, read_scores, write_run, write_scores

Make = Callable[..., Scores]


def noisy(target: np.ndarray, condition: str, clip: int) -> np.ndarray:
    generator = np.random.default_rng([clip, len(condition)])
    return np.where(generator.random(target.shape) < 0.3 + 0.1 * (clip % 5), target * 0.9, 0.1)


@pytest.fixture
def results(make_scores: Make) -> list[Scores]:
    return [make_scores(noisy, model="net", clips=range(20), levels=(-3.0,))]


def rendered(results: list[Scores], name: str, **choices: bool) -> str:
    content = report(results, ["strict"], format=name, **choices).content  # type: ignore[arg-type]
    assert isinstance(content, str)
    return content


def test_csv_has_both_ends_of_every_score(results: list[Scores]) -> None:
    (row,) = csv.DictReader(io.StringIO(rendered(results, "csv", intervals=True)))
    for name in (*METRICS, "mixture@-3_mIoU"):
        assert float(row[f"{name}_low"]) <= float(row[name]) <= float(row[f"{name}_high"]), name
    assert float(row["mIoU_low"]) < float(row["mIoU_high"])
    assert list(row)[: len(CSV_COLUMNS)] == list(CSV_COLUMNS)
    assert "_low" not in rendered(results, "csv")


def test_json_and_md_show_them_on_request(results: list[Scores]) -> None:
    (line,) = json.loads(rendered(results, "json", intervals=True))["lines"]
    low, high = line["intervals"]["G_mIoU"]
    assert low <= line["G_mIoU"] <= high
    assert f"{100 * line['G_mIoU']:.2f} [{100 * low:.2f}, {100 * high:.2f}]" in rendered(results, "md", intervals=True)
    assert "intervals" not in json.loads(rendered(results, "json"))["lines"][0]


def test_the_same_results_give_the_same_intervals_and_undefined_scores_none(make_scores: Make) -> None:
    scores = [make_scores(noisy, model="net", conditions=("clean", "silence"))]
    (line,) = build_table(scores, ["strict"], intervals=True).lines
    (again,) = build_table(scores, ["strict"], intervals=True).lines
    assert line.intervals == again.intervals
    assert line.interval("silence_FPR") is not None
    assert line.interval("noise_FPR") is None
    assert line.interval("G_mIoU") is None


def test_every_format_and_layout_shows_them(results: list[Scores]) -> None:
    (line,) = json.loads(rendered(results, "json", intervals=True))["lines"]
    low, high = (100 * value for value in line["intervals"]["G_mIoU"])
    text = f"[{low:.2f}, {high:.2f}]"
    for name in ("html", "latex", "md"):
        plain, shown = (rendered(results, name, intervals=given) for given in (False, True))
        assert text in shown, name
        assert text not in plain, name
        wide = report(results, format=name, intervals=True, **report_options(protocols=["strict"], layout="wide"))
        assert isinstance(wide.content, str)
        assert text in wide.content, name
        assert "95 % intervals" in wide.content.replace("\\%", "%"), name
    mixture = json.loads(rendered(results, "json", intervals=True))["lines"][0]["intervals"]["mixture@-3_mIoU"]
    for name in ("html", "latex", "md"):
        assert f"[{100 * mixture[0]:.2f}, {100 * mixture[1]:.2f}]" in rendered(results, name, intervals=True), name


def test_parts_have_intervals_of_their_own_clips(results: list[Scores], make_scores: Make) -> None:
    lines = build_table(results, ["strict"], "category", intervals=True).lines
    cats = [line for line in lines if line.category == "cat"]
    alone = build_table(
        [make_scores(noisy, model="net", clips=range(0, 20, 2), levels=(-3.0,))], ["strict"], intervals=True
    )
    assert [line.intervals for line in cats] == [alone.lines[0].intervals]
    for name in ("html", "latex", "md", "csv"):
        interval = cats[0].interval("G_F")
        assert interval is not None
        content = report(results, ["strict"], "category", name, intervals=True).content
        assert isinstance(content, str)
        wanted = f"{100 * interval.low:.2f}" if name != "csv" else f"{interval.low}"
        assert wanted in content, name


def test_unknown_sounds_are_warned_of(results: list[Scores], make_scores: Make) -> None:
    (warning,) = report(results, ["strict"], intervals=True).warnings
    assert warning.startswith("net on s4/test: intervals under borrowed sounds are by source video alone")
    own = [make_scores(noisy, model="net", conditions=("clean", "silence", "noise"))]
    assert not any("borrowed" in text for text in report(own, ["strict"], intervals=True).warnings)
    assert not any("borrowed" in text for text in report(results, ["strict"]).warnings)


def stored(folder: Path, scores: Scores, sources: dict[str, str], **columns: list[object]) -> Scores:
    """The results with a manifest of their off-screen rows beside them; `sources` by clip."""
    manifest = folder / "manifest.parquet"
    table = {
        "dataset": ["s4"] * len(sources),
        "split": ["test"] * len(sources),
        "clip_id": list(sources),
        "condition": ["offscreen"] * len(sources),
        "level": [None] * len(sources),
        "source_clip_id": list(sources.values()),
        **columns,
    }
    pq.write_table(pa.table({**table, "level": pa.array(table["level"], pa.float32())}), manifest)
    path = folder / "scores.parquet"
    write_scores(path, scores)
    details = {"manifest": {"path": str(manifest), "sha256": sha256_of_file(manifest)}}
    write_run(path.with_name("run.json"), Run(scores.info.model, scores.info.dataset, details))
    return read_scores(path, vouched=False)


def test_clips_that_share_a_sound_are_drawn_together(make_scores: Make, tmp_path: Path) -> None:
    made = make_scores(noisy, model="net", clips=range(20))
    clips = sorted(set(made.index["clip_id"]))
    few = stored(tmp_path, made, {clip: f"dog/{'abc'[n % 3] * 11}_{n}000_{n + 5}000" for n, clip in enumerate(clips)})

    def intervals(scores: Scores) -> dict[object, object]:
        rendered = report([scores], ["strict"], format="json", intervals=True)
        assert not any("borrowed" in text for text in rendered.warnings) or scores.source is None
        assert isinstance(rendered.content, str)
        return dict(json.loads(rendered.content)["lines"][0]["intervals"])

    by_sound, by_video = intervals(few), intervals(made)
    for name in ("mIoU", "silence_F", "noise_FPR"):
        assert by_sound[name] == by_video[name]
    for name in ("offscreen_mIoU", "G_mIoU", "G_FPR"):
        assert by_sound[name] != by_video[name]
    assert len(clip_clusters(split_result(few, "test"), read_run(tmp_path / "run.json").details)[0].sounds) == 1


def test_a_manifest_that_is_gone_or_draws_twice(make_scores: Make, tmp_path: Path) -> None:
    made = make_scores(noisy, model="net")
    clips = sorted(set(made.index["clip_id"]))
    sources = dict.fromkeys(clips, "dog/aaaaaaaaaaa_0_5000")
    twice = stored(tmp_path, made, sources, draw=[0] * (len(clips) - 1) + [1])
    found, reason = clip_clusters(split_result(twice, "test"), read_run(tmp_path / "run.json").details)
    assert (dict(found.sounds), reason) == ({}, None)
    (tmp_path / "manifest.parquet").write_bytes(b"another")
    (warning,) = report([twice], ["strict"], intervals=True).warnings
    assert "found no manifest" in warning
    (tmp_path / "manifest.parquet").unlink()
    assert "found no manifest" in report([twice], ["strict"], intervals=True).warnings[0]


def test_a_manifest_without_sources_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    pq.write_table(pa.table({"split": ["test"]}), path)
    with pytest.raises(ResultsError, match="has no column dataset"):
        sound_sources(path)
    path.write_bytes(b"no parquet at all")
    with pytest.raises(ResultsError, match="cannot be read as parquet"):
        sound_sources(path)

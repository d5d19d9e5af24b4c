"""Results of different builds of a split in one table are refused in words, unless they were asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import call

import avsrobust as ar
from avsrobust.errors import ResultsError
from avsrobust.reporting.same_build import require_one_build
from avsrobust.results import Run, Scores, write_run, write_scores

Make = Callable[..., Scores]
Write = Callable[..., Scores]


@pytest.fixture
def write(tmp_path: Path, make_scores: Make) -> Write:
    """Writes results into a folder of their own below ``results``, and returns them as they are read."""

    def written(folder: str, manifest: str | None = None, recipe: str = "standard", **choices: Any) -> Scores:
        scores = make_scores("visual_prior", **choices)
        scores = replace(scores, info=replace(scores.info, recipe=recipe, release="object"))
        path = tmp_path / "results" / folder / "scores.parquet"
        path.parent.mkdir(parents=True)
        write_scores(path, scores)
        details = {} if manifest is None else {"manifest": {"path": f"{folder}/manifest.parquet", "sha256": manifest}}
        write_run(path.with_name("run.json"), Run(scores.info.model, scores.info.dataset, details))
        return replace(scores, source=path)

    return written


def test_other_seeds_are_refused_with_both_ways_out(write: Write) -> None:
    results = [write("one", seed=1), write("two", seed=2), write("three", seed=2, model="net")]
    with pytest.raises(ResultsError) as refused:
        require_one_build(results)
    message = str(refused.value)
    assert message.startswith("s4/test (object release): its results are of different builds (seed), ")
    assert "seed 1, recipe standard: " in message
    assert "results/one;" in message
    assert "results/two, " in message
    assert "results/three;" in message
    assert message.endswith(
        "add --aggregate seeds for means over builds, or add --allow-different-builds to see them side by side"
    )
    assert "\n" not in message
    require_one_build(results, aggregate="seeds")


def test_another_recipe_is_no_matter_of_seeds(write: Write) -> None:
    results = [write("one"), write("two", recipe="extended"), write("three", seed=7)]
    with pytest.raises(ResultsError, match=r"\(seed and recipe\)"):
        require_one_build(results)
    with pytest.raises(ResultsError, match=r"\(recipe\).*name results of one build, or add --allow-different-builds"):
        require_one_build(results, aggregate="seeds")


def test_other_rows_of_the_same_seed_and_recipe_are_told_by_the_manifest(write: Write) -> None:
    results = [write("one", "a" * 64), write("two", "b" * 64, clips=range(4))]
    with pytest.raises(
        ResultsError, match=r"\(rows\).*6 clips, manifest aaaaaaaaaaaa: .*4 clips, manifest bbbbbbbbbbbb: "
    ):
        require_one_build(results)
    with pytest.raises(ResultsError, match=r"\(rows\)"):
        require_one_build(results, aggregate="seeds")


def test_one_manifest_under_two_paths_is_one_build(write: Write) -> None:
    require_one_build([write("one", "a" * 64), write("two", "a" * 64, model="net")])


def test_what_results_do_not_say_tells_nothing_apart(write: Write, make_scores: Make) -> None:
    require_one_build([write("one", "a" * 64), write("two"), write("three", recipe="")])
    require_one_build([make_scores("oracle"), make_scores("empty")])


def test_other_data_sets_splits_and_releases_do_not_meet(write: Write) -> None:
    one = write("one", seed=1)
    other = write("two", seed=2)
    require_one_build([one, write("ms3", seed=3, dataset="ms3"), write("val", seed=4, split="val")])
    require_one_build([one, replace(other, info=replace(other.info, release="semantic"))])


def test_many_files_are_counted(write: Write) -> None:
    results = [write("other", seed=1), *(write(f"run{number}", model=f"net{number}") for number in range(9))]
    with pytest.raises(ResultsError, match=r"run0, .*run1, .*run2 and 6 more;"):
        require_one_build(results)


def test_hostile_names_stay_on_one_line(write: Write) -> None:
    with pytest.raises(ResultsError) as refused:
        require_one_build([write("one"), write("two", recipe="a\nb")])
    assert "\n" not in str(refused.value)


def test_every_table_and_comparison_of_the_library(write: Write, tmp_path: Path) -> None:
    one, two = write("one", seed=1), write("two", seed=2)
    loaded = ar.load_results(tmp_path / "results")
    for table in (
        lambda **choices: ar.report(loaded, **choices).content,
        lambda **choices: loaded.table(**choices),
        lambda **choices: loaded.to_pandas(**choices),
        lambda **choices: ar.compare(one, two, samples=100, **choices),
        lambda **choices: ar.compare_models([one, two], samples=100, **choices),
    ):
        with pytest.raises(ResultsError, match="--allow-different-builds"):
            table()
        assert table(allow_different_builds=True) is not None
    assert len(loaded.table(aggregate="seeds")) == 1


def test_compare_offers_no_mean_over_seeds(write: Write) -> None:
    with pytest.raises(ResultsError) as refused:
        ar.compare(write("one", seed=1), write("two", seed=2))
    assert "--aggregate" not in str(refused.value)


def test_the_commands(write: Write, tmp_path: Path) -> None:
    write("one", seed=1), write("two", seed=2)

    for command in (["report", "--format", "csv"], ["compare", "results/one", "results/two", "--samples", "100"]):
        refused = call(tmp_path, *command)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "are of different builds (seed)" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        allowed = call(tmp_path, *command, "--allow-different-builds")
        assert allowed.returncode == 0, allowed.stderr
    assert len(call(tmp_path, "report", "--format", "csv", "--allow-different-builds").stdout.splitlines()) == 3
    means = call(tmp_path, "report", "--format", "csv", "--aggregate", "seeds")
    assert len(means.stdout.splitlines()) == 2
    shutil.rmtree(tmp_path / "results" / "two")
    assert call(tmp_path, "report", "--format", "csv").returncode == 0

"""Finding stored results: one of them, where one is meant."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import avsrobust as ar
from avsrobust.cli.main import STATUS_USER, invoke
from avsrobust.errors import ResultsError
from avsrobust.reporting.loading import load_each, load_result


@pytest.fixture
def results(toy_builds: Path, tmp_path: Path) -> Path:
    manifest = toy_builds / "robust/s4-seed42"
    assert invoke(["evaluate", "--adapter=empty", f"--manifest={manifest}", f"--output={tmp_path / 'results'}"]) == 0
    return tmp_path / "results"


def test_the_one_result_at_or_below_a_path(results: Path) -> None:
    places = (results, results / "empty", results / "empty/s4-seed42", results / "empty/s4-seed42/scores.parquet")
    assert {load_result(place).info.model for place in places} == {"empty"}


@pytest.mark.parametrize("name", ["run.json", "extras.parquet"])
def test_a_file_beside_the_scores_is_no_result(results: Path, name: str) -> None:
    folder = results / "empty/s4-seed42"
    (folder / name).touch()
    with pytest.raises(ResultsError, match=rf"{name}: found a file that describes results; .*name .*empty/s4-seed42$"):
        load_result(folder / name)


def test_a_folder_in_place_of_the_scores_is_named(results: Path) -> None:
    scores = results / "empty/s4-seed42/scores.parquet"
    scores.unlink()
    scores.mkdir()
    with pytest.raises(ResultsError, match=r"s4-seed42/scores.parquet: ") as raised:
        load_result(results)
    assert "scores.parquet/scores.parquet" not in str(raised.value)


def test_several_results_are_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(results / "empty", results / "again")
    with pytest.raises(
        ResultsError, match=r"holds results of 2 evaluations; expected one; name one of .*again/s4-seed42"
    ):
        load_result(results)
    capsys.readouterr()
    assert invoke(["compare", str(results / "empty")]) == STATUS_USER
    assert capsys.readouterr().err.count("\n") == 1


def test_results_below_several_paths_are_read_once_and_named_once(results: Path) -> None:
    shutil.copytree(results / "empty", results / "again")
    one, other = results / "empty", results / "again/s4-seed42"

    def folders(*paths: Path) -> list[str]:
        return [str(scores.source).split("/")[-3] for scores in load_each(paths)]

    assert folders(results) == folders(results, results) == ["again", "empty"]
    assert folders(results, one) == folders(other, one) == ["again", "empty"]
    # Another name of the same file.
    (results / "link").symlink_to(results / "empty")
    for again in (one, results / "empty/s4-seed42/scores.parquet", results / "link"):
        with pytest.raises(ResultsError, match=r"scores\.parquet: is named twice; expected different results"):
            load_each([one, again])
    (read,) = load_each([one])
    assert load_each([read, other])[0] is read
    with pytest.raises(ResultsError, match="is named twice"):
        load_each([read, one])
    with pytest.raises(ResultsError, match="is named twice"):
        ar.compare(one, read)


def test_no_result(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"found no scores\.parquet in it"):
        load_result(tmp_path)
    with pytest.raises(ResultsError, match="not found"):
        load_result(tmp_path / "nowhere")

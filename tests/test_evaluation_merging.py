"""Shards that are merged end with the bytes of one evaluation; what does not belong together is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from commands import call
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from loudness_model import LoudnessModel, PickyModel

from avsrobust.adapters.base import Adapter
from avsrobust.cli.main import invoke
from avsrobust.errors import OptionError, ResultsError
from avsrobust.evaluation.merging import MergeReport, merge_shards, results_with_shards
from avsrobust.evaluation.runner import EvaluationReport, evaluate
from avsrobust.files import TEMPORARY_SUFFIX, sha256_of_file
from avsrobust.manifest import Manifest
from avsrobust.reporting.loading import load_result, load_results, require_complete
from avsrobust.results import read_run, read_scores

AVSROBUST = str(Path(sys.executable).with_name("avsrobust"))
SPLITS = ("test", "val")


def run(build: Manifest, output: Path, adapter: Adapter | None = None, **choices: Any) -> EvaluationReport:
    usual = {"name": "model", "output": output, "splits": SPLITS, "check": False}
    return evaluate(build, adapter or LoudnessModel(readout=True), **{**usual, **choices})


def run_shards(build: Manifest, output: Path, number: int, **choices: Any) -> MergeReport:
    for index in range(1, number + 1):
        run(build, output, shard=f"{index}/{number}", **choices)
    return merge_shards(output)


def digests(output: Path) -> dict[str, str]:
    return {path.name: sha256_of_file(path) for path in sorted(output.glob("*.parquet"))}


@contextmanager
def hidden(path: Path) -> Iterator[None]:
    away = path.with_name("away")
    path.rename(away)
    try:
        yield
    finally:
        away.rename(path)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory, make_build_in: Callable[..., Manifest]) -> Manifest:
    """Three clips in test and two in val, under the standard conditions and two mixtures."""
    return make_build_in(tmp_path_factory.mktemp("shards"), clips=5, split=SPLITS, levels=(-5.0, 0.1))


@pytest.fixture(scope="module")
def whole(build: Manifest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files of one evaluation of everything, with masks."""
    output = tmp_path_factory.mktemp("whole") / "out"
    run(build, output, save_masks=True)
    found = digests(output)
    assert sorted(found) == ["extras.parquet", "masks.parquet", "readout-half.parquet", "scores.parquet"]
    return found


@settings(max_examples=6, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(st.data())
def test_shards_of_any_number_and_order_come_to_the_whole(
    build: Manifest, whole: dict[str, str], data: st.DataObject
) -> None:
    number = data.draw(st.integers(1, 7))
    order: Sequence[int] = data.draw(st.permutations(range(1, number + 1)))
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        for index in order:
            pieces = data.draw(st.sampled_from([[SPLITS], [("val",), ("test",)]]))
            for splits in pieces:
                size = data.draw(st.integers(1, 3))
                run(build, output, shard=f"{index}/{number}", splits=splits, save_masks=True, batch_size=size)
        report = merge_shards(output)
        assert digests(output) == whole
        assert (report.shards, report.clips, report.failed) == (number, 5, ())
        # Again, it is the same.
        merge_shards(output)
        assert digests(output) == whole
        # And what is there needs nothing more.
        again = run(build, output, save_masks=True)
        assert (again.reused, digests(output)) == (5, whole)


def test_the_record_tells_of_all_shards(build: Manifest, tmp_path: Path) -> None:
    run_shards(build, tmp_path / "out", 2)
    run(build, tmp_path / "one")
    details, one = (read_run(tmp_path / name / "run.json").details for name in ("out", "one"))
    assert details["shards"] == 2
    assert [entry["shard"] for entry in details["runs"]] == ["1/2", "2/2"]
    times = {"wall_time_s", "clips_per_s", "runs", "shards"}
    assert {key: value for key, value in details.items() if key not in times} == {
        key: value for key, value in one.items() if key not in times
    }


def test_tables_refuse_shards_until_they_are_merged(build: Manifest, tmp_path: Path) -> None:
    for index in (1, 2):
        run(build, tmp_path / "out", shard=f"{index}/2", splits=["test"])
    for path in (tmp_path, tmp_path / "out/shards/1-of-2"):
        with pytest.raises(ResultsError, match=r"holds shard 1/2 of an evaluation: .* 'avsrobust merge'"):
            require_complete(load_results([path]), allow_limited=True)
    with pytest.raises(ResultsError, match=r"out: holds shard 1/2 of an evaluation"):
        load_result(tmp_path / "out")
    merge_shards(tmp_path / "out")
    (scores,) = (scores for scores in load_results([tmp_path]) if not scores.info.readout)
    require_complete([scores])
    assert scores.source == tmp_path / "out/scores.parquet"
    assert load_result(tmp_path).info.shard == ""
    # Who names a shard means it.
    with pytest.raises(ResultsError, match="holds shard 2/2"):
        require_complete(load_results([tmp_path / "out/shards/2-of-2"]))


def test_a_shard_that_is_missing_or_unfinished_is_named(build: Manifest, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(ResultsError, match="found no shards"):
        merge_shards(output)
    run(build, output, shard="1/3")
    with pytest.raises(
        ResultsError, match=r"lacks 2/3, 3/3; expected all 3 shards; run 'evaluate' with --shard 2/3 too"
    ):
        merge_shards(output)
    run(build, output, shard="2/3")
    run(build, output, shard="3/3")
    for name in ("scores.parquet", "run.json"):
        with (
            hidden(output / "shards/3-of-3" / name),
            pytest.raises(
                ResultsError, match=r"shard 3/3 is not finished; run the same 'evaluate' with --shard 3/3 again"
            ),
        ):
            merge_shards(output)
    (output / "shards/3-of-3/parts").mkdir()
    with pytest.raises(ResultsError, match="shard 3/3 is not finished"):
        merge_shards(output)
    assert not (output / "scores.parquet").exists()
    (output / "shards/3-of-3/parts").rmdir()
    run(build, output, shard="1/2")
    with pytest.raises(ResultsError, match="holds shards of 2 and of 3; expected those of one division"):
        merge_shards(output)


def test_a_damaged_shard_is_named(build: Manifest, tmp_path: Path) -> None:
    run_shards(build, tmp_path / "out", 2)
    path = tmp_path / "out/shards/2-of-2/scores.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    before = digests(tmp_path / "out")
    with pytest.raises(ResultsError, match=r"2-of-2/scores.parquet: is not the file .*with --shard 2/2 again"):
        merge_shards(tmp_path / "out")
    assert digests(tmp_path / "out") == before
    run(build, tmp_path / "out", shard="2/2")
    merge_shards(tmp_path / "out")
    assert digests(tmp_path / "out") == before


def test_a_shard_under_another_name_is_refused(build: Manifest, tmp_path: Path) -> None:
    run(build, tmp_path / "out", shard="1/2")
    run(build, tmp_path / "out", shard="2/2")
    shards = tmp_path / "out/shards"
    (shards / "1-of-2").rename(shards / "x")
    (shards / "2-of-2").rename(shards / "1-of-2")
    (shards / "x").rename(shards / "2-of-2")
    with pytest.raises(ResultsError, match=r"1-of-2: holds results of 2/2; expected those of shard 1/2"):
        merge_shards(tmp_path / "out")


def test_shards_of_two_models_are_refused(build: Manifest, tmp_path: Path) -> None:
    run(build, tmp_path / "out", shard="1/2")
    run(build, tmp_path / "out", shard="2/2", options={"a": "1"})
    with pytest.raises(
        ResultsError, match=r"is of another model or build than .*different are: option a \(none there, 1 here\)"
    ):
        merge_shards(tmp_path / "out")


def test_shards_that_were_asked_for_different_things_are_refused(build: Manifest, tmp_path: Path) -> None:
    run(build, tmp_path / "out", shard="1/2", splits=["test"], save_masks=True)
    run(build, tmp_path / "out", shard="2/2", splits=["test"], conditions=["clean", "noise"])
    with pytest.raises(ResultsError, match=r"2-of-2: was not evaluated on split test under mixture, as .*1-of-2 was"):
        merge_shards(tmp_path / "out")
    run(build, tmp_path / "out", shard="2/2", splits=["test"])
    with pytest.raises(
        ResultsError, match=r"2-of-2: does not hold the masks .* with --shard 2/2 and --save-masks again"
    ):
        merge_shards(tmp_path / "out")
    run(build, tmp_path / "out", shard="2/2", splits=["test"], save_masks=True)
    merge_shards(tmp_path / "out")
    run(build, tmp_path / "one", splits=["test"], save_masks=True)
    assert digests(tmp_path / "out") == digests(tmp_path / "one")


def test_shards_without_clips_are_shards_too(build: Manifest, tmp_path: Path) -> None:
    report = run(build, tmp_path / "out", shard="3/3", splits=["val"])
    assert (report.clips, len(read_scores(report.scores).index)) == (0, 0)
    for index in (1, 2):
        run(build, tmp_path / "out", shard=f"{index}/3", splits=["val"])
    merge_shards(tmp_path / "out")
    run(build, tmp_path / "one", splits=["val"])
    assert digests(tmp_path / "out") == digests(tmp_path / "one")


@pytest.mark.parametrize("number", [2, 4])
def test_a_smoke_run_in_shards_is_marked_as_one(build: Manifest, tmp_path: Path, number: int) -> None:
    report = run_shards(build, tmp_path / "out", number, splits=["test"], limit=2)
    assert report.limited == ("test",)
    run(build, tmp_path / "one", splits=["test"], limit=2)
    assert digests(tmp_path / "out") == digests(tmp_path / "one")
    report = run_shards(build, tmp_path / "out", number, splits=["test"])
    assert report.limited == ()
    run(build, tmp_path / "one", splits=["test"])
    assert digests(tmp_path / "out") == digests(tmp_path / "one")


def test_a_shard_with_a_limit_of_its_own_is_named(
    build: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(build, tmp_path / "out", shard="1/2", splits=["test"], limit=2)
    run(build, tmp_path / "out", shard="2/2", splits=["test"])
    assert invoke(["merge", str(tmp_path / "out")]) == 0
    assert (
        "shard 1/2 with --limit: tables refuse these results; run the shards without --limit" in capsys.readouterr().err
    )
    run(build, tmp_path / "out", shard="1/2", splits=["test"])
    run(build, tmp_path / "one", splits=["test"])
    assert merge_shards(tmp_path / "out").limited_shards == ()
    assert digests(tmp_path / "out") == digests(tmp_path / "one")


def test_clips_that_failed_are_listed(build: Manifest, tmp_path: Path) -> None:
    from avsrobust.evaluation.clip_data import clips_of, load_clip

    sample = load_clip(clips_of(build.select(["val"]).rows)[1], build, build.data_root())
    PickyModel.bad = float(LoudnessModel().encode_frames(sample.frames[None])[0, 0, 0, 0])
    for index in (1, 2, 3):
        # The one clip that the second shard of val has is the one that fails.
        run(build, tmp_path / "out", PickyModel(readout=True), shard=f"{index}/3", splits=["val"])
    report = merge_shards(tmp_path / "out")
    assert [failed.error for failed in report.failed] == ["not this one"]
    run(build, tmp_path / "one", PickyModel(readout=True), splits=["val"])
    assert digests(tmp_path / "out") == digests(tmp_path / "one")
    PickyModel.bad = None
    run(build, tmp_path / "out", PickyModel(readout=True), shard="2/3", splits=["val"])
    assert merge_shards(tmp_path / "out").failed == ()
    run(build, tmp_path / "one", PickyModel(readout=True), splits=["val"])
    assert digests(tmp_path / "out") == digests(tmp_path / "one")


def test_a_merge_adds_to_results_of_other_splits(build: Manifest, whole: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(build, output, splits=["val"], save_masks=True)
    run_shards(build, output, 2, splits=["test"], save_masks=True)
    assert digests(output) == whole


def test_rows_that_the_shards_lack_are_not_lost(build: Manifest, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(build, output, splits=["test"], conditions=["clean", "noise"])
    before = digests(output)
    for index in (1, 2):
        run(build, output, shard=f"{index}/2", splits=["test"], conditions=["silence"])
    with pytest.raises(ResultsError, match=r"holds 6 rows that the shards lack, such as test/group/clip0 under clean"):
        merge_shards(output)
    assert digests(output) == before
    for index in (1, 2):
        run(build, output, shard=f"{index}/2", splits=["test"], conditions=["clean", "noise"])
    merge_shards(output)
    run(build, tmp_path / "one", splits=["test"], conditions=["clean", "noise", "silence"])
    assert digests(output) == digests(tmp_path / "one")


def test_results_of_another_model_give_way_only_when_told(
    build: Manifest, whole: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    run(build, output, options={"a": "1"})
    before = digests(output)
    for index in (1, 2):
        run(build, output, shard=f"{index}/2", save_masks=True)
    with pytest.raises(OptionError, match="holds results of another model or build"):
        merge_shards(output)
    assert digests(output) == before
    merge_shards(output, replace=True)
    assert digests(output) == whole


def test_a_folder_of_somebody_else_gets_no_shards(build: Manifest, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    with pytest.raises(OptionError, match=r"holds notes.txt, which avsrobust did not write there"):
        run(build, tmp_path / "out", shard="1/2")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]
    (tmp_path / "out/shards/1-of-1").mkdir(parents=True)
    (tmp_path / "out/shards/1-of-1/scores.parquet").write_text("mine")
    with pytest.raises(OptionError, match="which avsrobust did not write there"):
        merge_shards(tmp_path / "out")
    assert (tmp_path / "out/shards/1-of-1/scores.parquet").read_text() == "mine"


def test_what_a_shard_is_writing_is_left_alone(build: Manifest, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run_shards(build, output, 2, splits=["val"])
    writing, left = (output / place / f"x{TEMPORARY_SUFFIX}" for place in ("shards/1-of-2", "."))
    for path in (writing, left):
        path.write_text("half")
    merge_shards(output)
    assert (writing.exists(), left.exists()) == (True, False)
    run(build, output, splits=["test"])
    assert writing.exists()
    run(build, output, splits=["val"], shard="1/2")
    assert not writing.exists()


def test_shards_are_found_below_a_folder(build: Manifest, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(build, tmp_path / name, shard="1/1", splits=["val"], conditions=["noise"])
    (tmp_path / "c/shards/notes").mkdir(parents=True)
    assert results_with_shards(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    for path in (tmp_path / "a", tmp_path / "a/shards", tmp_path / "a/shards/1-of-1"):
        assert results_with_shards(path) == [tmp_path / "a"]
    with pytest.raises(ResultsError, match="found no shards in it"):
        results_with_shards(tmp_path / "c")


MODEL = """
import os, time, torch
from pathlib import Path
from avsrobust.adapters.base import Adapter

class Model(Adapter):
    def segment(self, encoded, audio):
        # Each call leaves a mark, and waits where a test holds it.
        folder = Path(os.environ["MARKS"])
        (folder / f"{os.getpid()}-{len(list(folder.iterdir()))}").touch()
        while (folder.parent / "hold").exists() and len(list(folder.iterdir())) > 18:
            time.sleep(0.01)
        grey = encoded.float().mean(dim=2) / 255
        return torch.sigmoid(8 * (grey - 0.5) + audio.mean(dim=(2, 3, 4))[..., None, None] * 20)
"""


def test_a_killed_shard_resumes(tmp_path: Path, make_build: Callable[..., Manifest]) -> None:
    build = make_build(clips=12)
    (tmp_path / "model.py").write_text(MODEL)
    marks = tmp_path / "marks"
    marks.mkdir()
    code = (
        "import sys; from avsrobust.evaluation import parts; parts.CLIPS_PER_PART = 1; from avsrobust.cli.main import run; "
        "sys.exit(run())"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MARKS": str(marks)}

    def command(*arguments: str) -> list[str]:
        chosen = ["--adapter", f"{tmp_path / 'model.py'}:Model", "--manifest", str(build.path), "--no-check"]
        return [sys.executable, "-c", code, "evaluate", *chosen, *arguments]

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command(*arguments),
            cwd=tmp_path,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    (tmp_path / "hold").touch()
    killed = start("--shard", "1/2")
    parts = tmp_path / "results/Model/s4-seed42/shards/1-of-2/parts"
    deadline = time.monotonic() + 120
    while not list(parts.glob("*.scores.parquet")) and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    finished = len(list(parts.glob("*.scores.parquet")))
    assert 1 <= finished < 6
    (tmp_path / "hold").unlink()
    assert call(tmp_path, "merge").returncode == 2
    before = len(list(marks.iterdir()))
    both = [start("--shard", shard) for shard in ("1/2", "2/2")]
    for process in both:
        _, told = process.communicate(timeout=300)
        assert process.returncode == 0, told
        assert "avsrobust merge results/Model/s4-seed42" in told
    # Of the killed shard, what was finished was not run again.
    assert len(list(marks.iterdir())) - before == (12 - finished) * 4
    refused = call(tmp_path, "report")
    assert refused.returncode == 2
    assert "holds shard 1/2 of an evaluation" in refused.stderr
    merged = subprocess.run([AVSROBUST, "merge"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (merged.returncode, merged.stdout.strip()) == (0, "results/Model/s4-seed42/scores.parquet"), merged.stderr
    assert "2 shards, 12 clips" in merged.stderr
    assert call(tmp_path, "report").returncode == 0
    one = call(tmp_path, *command("--output", "alone")[3:], MARKS=str(marks))
    assert one.returncode == 0, one.stderr
    assert digests(tmp_path / "results/Model/s4-seed42") == digests(tmp_path / "alone/Model/s4-seed42")


def test_a_merge_that_is_killed_is_finished_by_the_next(build: Manifest, whole: dict[str, str], tmp_path: Path) -> None:
    # Forks, so that each merge costs no start of Python: a child for each number it is given, killed at that renaming.
    code = (
        "import os, signal, sys; from pathlib import Path; from avsrobust.evaluation.merging import merge_shards\n"
        "rename = Path.replace\n"
        "def merge(left):\n"
        "    def counted(self, target):\n"
        "        nonlocal left\n"
        "        left -= 1\n"
        "        if not left:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return rename(self, target)\n"
        "    Path.replace = counted\n"
        "    merge_shards(sys.argv[1])\n"
        "    os._exit(0)\n"
        "for line in sys.stdin:\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        merge(int(line))\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)\n"
    )
    output = tmp_path / "out"
    merging = subprocess.Popen(
        [sys.executable, "-c", code, str(output)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert merging.stdin is not None
    assert merging.stdout is not None
    for index in (1, 2):
        run(build, output, shard=f"{index}/2", save_masks=True)
    statuses, refused = list[int](), 0
    for kill in range(1, 40, 3):
        print(kill, file=merging.stdin, flush=True)
        statuses.append(int(merging.stdout.readline()))
        if statuses[-1] == 0:
            break
        # Whatever a reader sees is whole, or refused.
        try:
            require_complete(load_results([output]))
        except ResultsError:
            refused += 1
        else:
            assert digests(output) == whole
    merging.communicate(timeout=60)
    assert statuses.count(-signal.SIGKILL) >= 3
    assert refused >= 2
    assert statuses[-1] == 0
    assert digests(output) == whole

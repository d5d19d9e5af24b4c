"""What `make bench` writes: the page has its parts, failures are named, and the papers' procedure is restated as it is."""

from __future__ import annotations

import dataclasses
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
SOUNDS = ("s0_stereo44k", "s1_mono44k")


@pytest.fixture(scope="module")
def benchmarks() -> Iterator[None]:
    """The folder of the benchmarks is where their modules are found, as for a script that is run from it."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield
    finally:
        sys.path.remove(str(FOLDER))
        # Other tests, and the models in them, have modules of such names too.
        for path in FOLDER.glob("*.py"):
            sys.modules.pop(path.stem, None)


@pytest.fixture(scope="module")
def run_all(benchmarks: None) -> ModuleType:
    return importlib.import_module("run_all")


@pytest.fixture(scope="module")
def small_probes(run_all: ModuleType) -> list[object]:
    """Probes of small sizes, measured once."""
    return list(sys.modules["probes"].measure(quick=True))


@pytest.fixture
def part(run_all: ModuleType, small_probes: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a part whose script has this text; it is the only one."""

    def make(text: str, **changes: object):
        (tmp_path / "benchmarks").mkdir(exist_ok=True)
        (tmp_path / "benchmarks/own.py").write_text(text, encoding="utf-8")
        number = sys.modules["parts"].Number(r"^ratio (\d+)")
        found = run_all.Part("own", "A title", "own.py", ("full",), ("quick",), 60.0, ratios=(("a / b", number),))
        found = dataclasses.replace(found, **changes)
        monkeypatch.setattr(run_all, "measure", lambda *, quick: small_probes)
        monkeypatch.setattr(run_all, "ROOT", tmp_path)
        monkeypatch.setattr(run_all, "RESULTS", tmp_path / "benchmarks/RESULTS.md")
        monkeypatch.setattr(run_all, "PARTS", (found,))
        return found

    return make


def test_a_rehearsal_of_a_cheap_part(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    command = [sys.executable, "benchmarks/run_all.py", "--quick", "--only", "cli_start", "--output", str(page)]
    # A machine on which tests run beside it is slow.
    done = subprocess.run([*command, "--patience", "20"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{page}\n"
    text = page.read_text(encoding="utf-8")
    assert re.findall("^## (.+)$", text, re.MULTILINE) == [
        "Machine",
        "What the machine can do at most",
        "Ratios",
        "Distance from the physical limit",
        "Output",
    ]
    assert "A rehearsal" in text
    assert "**Failed:**" not in text
    assert re.search(r"^\| cli_start \| .+ \| \d+\.\d \|$", text, re.MULTILINE)
    for fact in ("commit", "load average, before and after", "processor", "versions", "command"):
        assert re.search(rf"^\| {fact} \| .+ \|$", text, re.MULTILINE), fact
    for probe in ("reading a file, its pages dropped", "numpy copy in memory", "torch product of float64 matrices"):
        assert re.search(rf"^\| {probe}.* \| [\d.]+ (GB|GFLOP)/s \| .+ \|$", text, re.MULTILINE), probe
    assert str(ROOT) not in text


def test_the_parts_hold_together(small_probes: list[object]) -> None:
    parts = sys.modules["parts"]
    names = [part.name for part in parts.PARTS]
    assert len(set(names)) == len(names)
    assert all(0 < part.budget_s < 60 * parts.MINUTES for part in parts.PARTS)
    measured = {probe.key for probe in small_probes}
    for part in parts.PARTS:
        assert (FOLDER / part.script).is_file(), part.name
        assert {limit.probe for limit in part.limits} <= measured, part.name
        numbers = [number for _, number in part.ratios] + [limit.seconds for limit in part.limits]
        numbers += [limit.amount for limit in part.limits if isinstance(limit.amount, parts.Number)]
        assert numbers, part.name
        assert all(re.compile(number.pattern).groups == 1 for number in numbers), part.name


def test_numbers_of_the_largest_size_are_taken_from_a_table(run_all: ModuleType) -> None:
    (growth,) = (part for part in sys.modules["parts"].PARTS if part.name == "growth")
    output = (
        "| step | clips | rows | seconds | CPU seconds | peak above imports, MB | file read, MB | goal, MB |\n"
        "| plan | 100 | 400 | 0.05 | 0.02 | 2 |  | 2048 |\n| plan | 100,000 | 400,000 | 7.50 | 7.02 | 1,170 |  | 2048 |\n"
        "| load | 100,000 | 400,000 | 2.50 | 2.68 | 358 | 26.50 | 400 |\n"
        "| report | 100,000 | 2,000,000 | 9.50 | 9.00 | 300 | 60.25 | 600 |\n"
    )
    assert growth.missing(output) == []
    found = [(limit.amount_in(output), limit.seconds.found_in(output)) for limit in growth.limits]
    assert found == [(1170e6, 7.5), (26.5e6, 2.5), (60.25e6, 9.5)]


def test_growth_fails_in_words_where_a_goal_is_missed(
    benchmarks: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    growth = importlib.import_module("growth")
    found = {"rows": 400, "seconds": 9.0, "cpu_seconds": 4.0, "base_mb": 100.0, "peak_mb": 499.0}
    monkeypatch.setattr(growth, "_run", lambda step, clips, folder: dict(found))
    monkeypatch.setattr(growth, "FILES", {})
    monkeypatch.setattr(sys, "argv", ["growth.py", "--only", "load,report", "--sizes", "10,100000"])
    growth.main()
    assert "| report | 100,000 | 400 | 9.00 | 4.00 | 399 |  | 600 |" in capsys.readouterr().out
    found["peak_mb"], found["cpu_seconds"] = 701.0, 5.5
    with pytest.raises(SystemExit) as ended:
        growth.main()
    assert ended.value.code == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-6:] == [
        "load of 10 clips: took 601 MB; expected at most 400",
        "load of 10 clips: took 5.5 CPU seconds; expected at most 5",
        "load of 100,000 clips: took 601 MB; expected at most 400",
        "load of 100,000 clips: took 5.5 CPU seconds; expected at most 5",
        "report of 10 clips: took 601 MB; expected at most 600",
        "report of 100,000 clips: took 601 MB; expected at most 600",
    ]
    # Beyond the size that a goal is for there is none.
    monkeypatch.setattr(sys, "argv", ["growth.py", "--only", "report", "--sizes", "200000"])
    growth.main()


@pytest.mark.parametrize(
    "step", ["publish_all", "merge", "merge_all", "compare", "masks", "hf_dataset", "report_category"]
)
def test_growth_measures_a_step(step: str, benchmarks: None, tmp_path: Path) -> None:
    growth = importlib.import_module("growth")
    growth._run(f"prepare-{step}", 5, str(tmp_path))
    found = growth._run(step, 5, str(tmp_path))
    assert found["rows"] == (20 if step == "hf_dataset" else 5 * 20 * (2 if step == "compare" else 1))
    assert found["peak_mb"] > found["base_mb"] > 0
    assert (tmp_path / growth.FILES[step]).is_file()
    if step in ("publish_all", "merge_all"):
        assert {path.name for path in (tmp_path / "results").glob("*.parquet")} == {
            "scores.parquet",
            "masks.parquet",
            "extras.parquet",
        }


def test_a_whole_run_replaces_the_page(part, run_all: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    limit = sys.modules["parts"].Limit(
        "move it", "copy", 1e9, sys.modules["parts"].Number(r"^took (\S+) ms", 1e-3), of="a step"
    )
    part("import sys\nprint('took 2000 ms')\nprint('ratio 4')\nprint('a|b', sys.argv[1:])", limits=(limit,))
    run_all.RESULTS.write_text("an earlier one", encoding="utf-8")
    assert run_all.main([]) == 0
    assert capsys.readouterr().out == f"{run_all.RESULTS}\n"
    text = run_all.RESULTS.read_text(encoding="utf-8")
    assert "| own | a / b | 4.0 |" in text
    assert re.search(
        r"^\| own: a step \| 2 s \| move it \| numpy copy .+ \| [\d.]+ m?s \| [\d.,]+ \|$", text, re.MULTILINE
    )
    assert "a|b ['full']" in text
    assert "A rehearsal" not in text
    assert [path.name for path in run_all.RESULTS.parent.iterdir() if path.name.startswith(".")] == []


FAILURES = {
    "an error": ("raise SystemExit('it broke | here')", r"exit status 1: it broke \\| here"),
    "no such line": ("print('nothing')", r"its output has no line that matches"),
    "a ratio too low": (
        "print('ratio 2 (expected: at least 5)'); raise SystemExit(1)",
        r"below what it should reach: ratio 2 \(expected: at least 5\)",
    ),
}


@pytest.mark.parametrize(("text", "message"), FAILURES.values(), ids=FAILURES)
def test_a_part_that_fails_is_named(part, run_all: ModuleType, text: str, message: str) -> None:
    part(text)
    assert run_all.main([]) == 1
    page = run_all.RESULTS.read_text(encoding="utf-8")
    assert re.search(rf"^\*\*Failed:\*\*\n\n- own: .*{message}", page, re.MULTILINE)


def test_small_sizes_need_not_reach_the_ratio(part, run_all: ModuleType) -> None:
    found = part("print('ratio 2 (expected: at least 5)'); raise SystemExit(1)")
    assert run_all.run(found, 60.0, quick=True).failure is None


def test_a_rehearsal_leaves_the_page_alone(part, run_all: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    part("print('ratio 4')")
    run_all.RESULTS.write_text("an earlier one", encoding="utf-8")
    assert run_all.main(["--quick"]) == 0
    assert run_all.main(["--only", "own"]) == 0
    assert capsys.readouterr().out.count("# What it takes") == 2
    assert run_all.RESULTS.read_text(encoding="utf-8") == "an earlier one"


def test_a_part_beyond_its_budget_ends_with_all_its_processes(part, run_all: ModuleType) -> None:
    # The child holds the pipe open: reading it would wait for the child's end.
    child = (
        "import subprocess, sys\nprint('ratio 4', flush=True)\nsubprocess.run([sys.executable, '-c', 'while 1: pass'])"
    )
    outcome = run_all.run(part(child), 2.0, quick=False)
    assert outcome.failure == "took longer than its budget of 2 s and was stopped"


def test_a_part_for_which_no_time_is_left_is_named(part, run_all: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    part("print('ratio 4')")
    monkeypatch.setattr(run_all, "MINUTES", 0)
    assert run_all.main([]) == 1
    assert "- own: not run: the time of all parts was used up" in run_all.RESULTS.read_text(encoding="utf-8")


@pytest.mark.parametrize("sound", SOUNDS)
def test_the_papers_features_are_restated_as_they_are(benchmarks: None, sound: str, tmp_path: Path) -> None:
    restated = importlib.import_module("papers_build")
    with np.load(ROOT / "tests/golden/audio_front_ends.npz") as golden:
        samples, rate = golden[f"{sound}_int16"], int(golden[f"{sound}_rate"])
        vggish, robust = golden[f"{sound}_vggish_example0"], golden[f"{sound}_robust_part0"]
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, rate, subtype="PCM_16")
    assert np.abs(restated.vggish_features(path)[0].numpy() - vggish).max() < 1e-5
    assert np.abs(restated.librosa_features(path)[0].numpy() - robust).max() < 1e-4


def test_the_released_noise_lasts_four_times_as_long(benchmarks: None) -> None:
    restated = importlib.import_module("papers_build")
    assert [len(restated.noise(released)) for released in (True, False)] == [20_000, 5_000]

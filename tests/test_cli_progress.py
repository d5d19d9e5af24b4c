"""Progress in a log file: lines now and then, about all parts together."""

from __future__ import annotations

import threading
from threading import Condition

import pytest

from avsrobust.cli import progress
from avsrobust.cli.progress import ProgressLog, progress_bar
from avsrobust.score_info import FailedClip


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test sets."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_every_half_minute_about_all_parts(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    log = ProgressLog([100, 300])
    first, second = log.part(0, "one on s4"), log.part(1, "two on s4")
    # Sixty were there before: they cost nothing.
    first(60, 100)
    for done in range(61, 101):
        clock[0] += 1
        first(done, 100)
    second(0, 300)
    clock[0] += 20
    second(20, 300)
    assert capsys.readouterr().err.splitlines() == [
        "one on s4: 90 of 400 in all, 1 per second, 5 min left",
        "two on s4: 120 of 400 in all, 1 per second, 5 min left",
    ]


def test_work_with_lines_ends_with_one(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    log = ProgressLog([3, 2])
    for number, title in enumerate(("one on s4", "one on ms3")):
        with progress_bar(title, log.part(number, title)) as update:
            total = 3 - number
            for done in range(total + 1):
                clock[0] += 21
                update(done, total)
    assert capsys.readouterr().err.splitlines()[-1] == "one on ms3: 5 of 5 in all, done in 2 min"

    # Work that was given up is not done.
    def cut_off() -> None:
        with progress_bar("cut off") as update:
            update(0, 1)
            clock[0] += 31
            update(1, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    assert "done in" not in capsys.readouterr().err


def test_nothing_is_said_of_short_work(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("short") as update:
        update(0, 10)
        clock[0] += 29
        update(10, 10)
    assert capsys.readouterr().err == ""


def test_work_of_one_part_has_lines_too(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("overlays") as update:
        update(0, 7200)
        clock[0] += 36
        update(1, 7200)
        clock[0] += 31
        update(1, 7200)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "overlays: 1 of 7,200 in all, 0.0278 per second, 72.0 h left"
    assert len(lines) == 2


def test_without_a_rate_no_time_is_promised(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("stuck") as update:
        update(0, 10)
        clock[0] += 60
        update(0, 10)
    assert capsys.readouterr().err == "stuck: 0 of 10 in all, 0 per second\n"


def test_other_work_under_the_same_title_has_a_speed_of_its_own(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("train mine") as update:
        # Pictures are decoded, an hour long; a model is made ready; then it goes on at step 100.
        for done in range(0, 3601, 60):
            clock[0] += 60
            update(done, 3600)
        capsys.readouterr()
        clock[0] += 500
        update(100, 400)
        clock[0] += 40
        update(120, 400)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "train mine: 120 of 400 in all, 0.5 per second, 9 min left"


def test_work_that_begins_anew_is_not_counted_twice(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("toy data") as update:
        update(0, 10)
        clock[0] += 20
        update(10, 10)
        update(0, 10)
        clock[0] += 20
        update(5, 10)
    assert capsys.readouterr().err == "toy data: 5 of 10 in all, 0.25 per second, 20 s left\n"


def test_lines_come_while_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wait ends with the line that it waits for: no time is compared."""
    lines, told = list[str](), Condition()

    def take(line: object) -> None:
        with told:
            lines.append(str(line))
            told.notify_all()

    def awaited(line: str) -> bool:
        with told:
            return told.wait_for(lambda: line in lines, timeout=60)

    monkeypatch.setattr(progress, "note", take)
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    with progress_bar("train mine") as reporter:
        assert awaited("train mine: at work")
        reporter.stage("the model is made")
        assert awaited("train mine: the model is made")
        reporter(0, 2)
        reporter.stage("step 1 of 2")
        assert awaited("train mine: 0 of 2 in all, 0 per second; step 1 of 2")
        monkeypatch.setattr(progress, "_SHOWN_S", 0.0)
        assert awaited("train mine: 0 of 2 in all, 0 per second; step 1 of 2 for 0 s")
    # The thread has ended with the work.
    assert "avsrobust-progress" not in {thread.name for thread in threading.enumerate()}


def test_the_lines_of_a_thread_keep_their_distance_from_the_others(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("short") as reporter:
        reporter.stage("the model is made")
        clock[0] += 31
        reporter(3, 10)
    assert capsys.readouterr().err == "short: 3 of 10 in all, 0 per second\n"


def test_a_stage_is_shown_in_the_bar_of_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    with progress_bar("train mine") as reporter:
        reporter(1, 4)
        reporter.stage("step 2 of 4: forward\x1b[2J")
    shown = capsys.readouterr().err
    assert "train mine: step 2 of 4: forward" in shown
    assert "1/4" in shown
    assert "\x1b[2J" not in shown


def test_failures_beyond_the_first_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    progress.show_failures([], 5)
    assert capsys.readouterr().err == ""
    progress.show_failures([FailedClip("test", f"c{number}", "no sound") for number in range(23)], 5)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "  test/c0: no sound"
    assert lines[20:] == ["  ... and 3 more, in run.json", "warning: 23 of 28 clips could not be scored"]

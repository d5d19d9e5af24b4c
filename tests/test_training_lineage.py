"""Which of two states of a run goes on from the other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from avsrobust.remote.reconcile import Sides
from avsrobust.training.checkpoints import RUN_NAME, STATE_NAME
from avsrobust.training.lineage import compare
from avsrobust.training.logs import LOSSES


def side(folder: Path, losses: Sequence[str], checkpoints: Sequence[int], key: str | None = "same") -> Path:
    """The folder of a run, with these losses of steps 1, 2, .. and the last line of its log torn."""
    folder.mkdir()
    if key is not None:
        (folder / RUN_NAME).write_text(json.dumps({"recipe": key}))
    lines = ["step,loss", *(f"{step},{loss}" for step, loss in enumerate(losses, start=1))]
    (folder / LOSSES).write_text("\n".join(lines) + "\n9,")
    for step in checkpoints:
        (folder / f"checkpoints/step-{step:06d}").mkdir(parents=True)
        (folder / f"checkpoints/step-{step:06d}" / STATE_NAME).write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("here", "there", "shared", "ahead"),
    [
        # Another machine went on from the checkpoint that was there.
        (("abcd", [2]), ("abcdef", [2, 4]), [2], "there"),
        # Of another kind, so that its losses differ from there on.
        (("abcd", [2]), ("abXYZZ", [4]), [2], "there"),
        (("abcd", [2, 4]), ("abXY", [4]), [2], "there"),
        # From the beginning, where nothing was there yet.
        (("ab", []), ("XYZ", [2]), [], "there"),
        # This machine alone, killed while it put what it had.
        (("abcdef", [2, 4]), ("abcd", [2, 4]), [2], "here"),
        (("abcd", [4]), ("abcd", [4]), [2], "here"),
        # The other machine came less far.
        (("abcdef", [4, 6]), ("abcd", [2, 4]), [2], "here"),
        # Less far, on a machine of another kind.
        (("abcdef", [4, 6]), ("abXY", [2, 4]), [2], ""),
        # Begun anew, on one of another kind.
        (("abcd", [2]), ("XYZZZZ", [4, 6]), [2], ""),
    ],
)
def test_who_is_ahead(
    tmp_path: Path,
    here: tuple[str, list[int]],
    there: tuple[str, list[int]],
    shared: list[int],
    ahead: str,
) -> None:
    mine, theirs = side(tmp_path / "here", *here), side(tmp_path / "there", *there)
    names = [path.relative_to(theirs).as_posix() for path in theirs.rglob("*") if path.is_file()]
    found = compare(Sides(mine, theirs, names, [f"checkpoints/step-{step:06d}/{STATE_NAME}" for step in shared]))
    assert found.ahead == ahead, found


@pytest.mark.parametrize(
    ("keys", "ahead", "why"),
    [
        (("one", "another"), "", "a run of another recipe, data or start was put there"),
        (("one", None), "there", "the run there was deleted"),
        ((None, "one"), "there", "a run was put there"),
    ],
)
def test_runs_of_different_keys(tmp_path: Path, keys: tuple[str | None, str | None], ahead: str, why: str) -> None:
    here, there = (side(tmp_path / name, "ab", [2], key) for name, key in zip(("here", "there"), keys, strict=True))
    found = compare(Sides(here, there, [], []))
    assert (found.ahead, found.why) == (ahead, why)


def test_two_histories_are_told_in_words(tmp_path: Path) -> None:
    here, there = side(tmp_path / "here", "abcd", [2, 4]), side(tmp_path / "there", "aXcd", [2])
    found = compare(Sides(here, there, [f"checkpoints/step-000002/{STATE_NAME}"], []))
    assert found.why == (
        "two histories of this run whose losses differ from step 2 on: the one there has its last checkpoint after step 2, the "
        "one here after step 4"
    )

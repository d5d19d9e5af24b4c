"""Protocols by name: built-in, registered, and from a user's file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avsrobust.errors import OptionError
from avsrobust.metrics import (
    PROTOCOLS,
    SEMANTIC_PROTOCOLS,
    ScoredFrames,
    dataset_score,
    find_protocol,
    frame_statistics,
    protocol_names,
)

GRID = """
from avsrobust.metrics import PROTOCOLS
from dataclasses import replace

LENIENT = replace(PROTOCOLS["strict"], name="lenient", threshold=76 / 254, source="this file")
BROKEN = 3
"""


def one_clip(probability: float) -> ScoredFrames:
    target = np.zeros((1, 4, 4), dtype=np.bool_)
    target[0, :2] = True
    statistics = frame_statistics(np.where(target, np.float32(probability), np.float32(0)), target)
    return ScoredFrames(statistics, np.array([0]), np.array(["clean"]), np.array([False]))


def test_every_built_in_name_finds_the_protocols_of_that_name() -> None:
    assert set(protocol_names()) == {*PROTOCOLS, *SEMANTIC_PROTOCOLS}
    for name in protocol_names():
        found = find_protocol(name)
        assert found.name == name
        assert found.binary is PROTOCOLS.get(name)
        assert found.semantic is SEMANTIC_PROTOCOLS.get(name)


def test_a_protocol_of_a_users_file_scores(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(GRID)
    found = find_protocol(f"{tmp_path / 'mine.py'}:LENIENT")
    assert found.name == "lenient"
    assert found.semantic is None
    assert found.binary is not None
    strict = PROTOCOLS["strict"]
    frames = one_clip(probability=0.35)
    assert dataset_score(frames, found.binary).miou == 1.0
    assert dataset_score(frames, strict).miou == 0.0


def test_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(GRID)
    with pytest.raises(OptionError, match=r"mine\.py:BROKEN: is int; expected an avsrobust\.metrics\.Protocol"):
        find_protocol(f"{tmp_path / 'mine.py'}:BROKEN")
    with pytest.raises(OptionError, match=r"has no 'LENIANT'; did you mean 'LENIENT'\?"):
        find_protocol(f"{tmp_path / 'mine.py'}:LENIANT")
    with pytest.raises(OptionError, match=r"--protocol stric: unknown; .*; did you mean 'strict'\?"):
        find_protocol("stric")


def test_a_protocol_with_a_threshold_that_is_not_stored_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(GRID.replace("76 / 254", "0.3"))
    with pytest.raises(OptionError, match=r"threshold: found 0\.3, which the stored counts do not answer"):
        find_protocol(f"{tmp_path / 'mine.py'}:LENIENT")

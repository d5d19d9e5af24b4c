"""An evaluation in pieces, of whatever cut and order, ends with the bytes of one that was made at once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loudness_model import LoudnessModel, PickyModel
from torch import Tensor

from avsrobust.adapters.base import Adapter
from avsrobust.errors import AdapterError, OptionError
from avsrobust.evaluation.runner import EvaluationReport, evaluate
from avsrobust.files import sha256_of_file
from avsrobust.manifest import Manifest
from avsrobust.results import EXTRAS_NAME, MASKS_NAME, SCORES_NAME, read_run, read_scores

SPLITS = ("test", "val")
CONDITIONS = ("clean", "mixture", "noise", "offscreen", "silence")
FILES = (SCORES_NAME, MASKS_NAME, EXTRAS_NAME)


def run(build: Manifest, output: Path, adapter: Adapter | None = None, **choices: Any) -> EvaluationReport:
    usual = {"name": "model", "output": output, "splits": SPLITS, "check": False}
    return evaluate(build, adapter or LoudnessModel(), **{**usual, **choices})


def digests(output: Path) -> dict[str, str]:
    return {name: sha256_of_file(output / name) for name in FILES if (output / name).exists()}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory, make_build_in: Callable[..., Manifest]) -> Manifest:
    """Two clips in each of two splits, under the standard conditions and two mixtures."""
    return make_build_in(tmp_path_factory.mktemp("pieces"), clips=4, split=SPLITS, levels=(-5.0, 0.1))


@pytest.fixture(scope="module")
def whole(build: Manifest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files of one evaluation of everything, with masks."""
    output = tmp_path_factory.mktemp("whole") / "out"
    run(build, output, save_masks=True)
    return digests(output)


Piece = tuple[list[str], list[str], int, bool]
pieces: st.SearchStrategy[list[Piece]] = st.lists(
    st.tuples(
        st.lists(st.sampled_from(SPLITS), min_size=1, max_size=2, unique=True),
        st.lists(st.sampled_from(CONDITIONS), min_size=1, max_size=5, unique=True),
        st.integers(1, 3),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(pieces)
def test_pieces_of_any_cut_and_order_come_to_the_whole(
    build: Manifest, whole: dict[str, str], cut: list[Piece]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        rows: set[tuple[str, str]] = set()
        for splits, conditions, batch_size, save_masks in cut:
            run(build, output, splits=splits, conditions=conditions, batch_size=batch_size, save_masks=save_masks)
            rows |= {(split, condition) for split in splits for condition in conditions}
            index = read_scores(output).index
            assert set(zip(index["split"], index["condition"], strict=True)) == rows
        run(build, output, save_masks=True, batch_size=2)
        assert digests(output) == whole


@pytest.mark.parametrize("later", [["clean"], ["noise", "silence"]])
def test_two_pieces_are_what_one_is(build: Manifest, tmp_path: Path, later: list[str]) -> None:
    asked = ["clean", "noise", "silence"]
    run(build, tmp_path / "one", conditions=asked)
    run(build, tmp_path / "two", conditions=[name for name in asked if name not in later])
    run(build, tmp_path / "two", conditions=later)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    overlap = read_scores(tmp_path / "two").index
    assert overlap.loc[overlap["condition"] != "clean", "clean_union"].notna().all()


def test_only_what_is_missing_is_run(build: Manifest, tmp_path: Path) -> None:
    run(build, tmp_path / "out", splits=["test"], conditions=["clean", "noise"])
    model = LoudnessModel()
    report = run(build, tmp_path / "out", model, splits=["test"], conditions=["clean", "noise", "silence"])
    # Clean and noise once more, for the overlaps of the silence.
    assert len(model.calls) == 2 * 3
    assert (report.rows_kept, report.rows_added) == (4, 2)
    assert "4 rows were there and are kept, 2 were added" in report.notes
    model = LoudnessModel()
    report = run(build, tmp_path / "out", model, splits=["val"], conditions=["noise"])
    assert len(model.calls) == 2
    assert (report.clips, report.reused, report.rows_kept) == (2, 0, 6)
    model = LoudnessModel()
    assert run(build, tmp_path / "out", model, splits=["test"], conditions=["silence"]).reused == 2
    assert model.calls == []


def test_fewer_conditions_take_nothing_away(build: Manifest, tmp_path: Path) -> None:
    run(build, tmp_path / "out", save_masks=True)
    before = digests(tmp_path / "out")
    run(build, tmp_path / "out", splits=["val"], conditions=["silence"])
    assert digests(tmp_path / "out") == before


def test_a_selection_of_a_manifest_is_the_same_build(build: Manifest, whole: dict[str, str], tmp_path: Path) -> None:
    for split in SPLITS:
        for condition in CONDITIONS:
            run(build.select([split], [condition]), tmp_path / "out", splits=[split], save_masks=True)
    assert digests(tmp_path / "out") == whole


def test_clips_that_failed_are_listed_until_they_are_scored(build: Manifest, tmp_path: Path) -> None:
    from avsrobust.evaluation.clip_data import clips_of, load_clip

    sample = load_clip(clips_of(build.select(["val"]).rows)[1], build, build.data_root())
    PickyModel.bad = None
    run(build, tmp_path / "whole", PickyModel())
    PickyModel.bad = float(LoudnessModel().encode_frames(sample.frames[None])[0, 0, 0, 0])
    report = run(build, tmp_path / "out", PickyModel(), conditions=["noise"])
    (failed,) = report.failed
    assert (failed.split, failed.error) == ("val", "not this one")
    # Another split is added: the clip of the first stays listed.
    run(build, tmp_path / "out", PickyModel(), splits=["test"])
    assert read_scores(tmp_path / "out").info.failed == (failed,)
    assert read_run(tmp_path / "out" / "run.json").details["failed"][0]["rows"] == [["noise", None]]
    PickyModel.bad = None
    # Another condition of the clip is added: it is still without the one that failed.
    run(build, tmp_path / "out", PickyModel(), splits=["val"], conditions=["silence"])
    assert read_scores(tmp_path / "out").info.failed == (failed,)
    run(build, tmp_path / "out", PickyModel())
    assert read_scores(tmp_path / "out").info.failed == ()
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_a_clip_that_is_scored_is_listed_no_more_without_run_json(build: Manifest, tmp_path: Path) -> None:
    from avsrobust.evaluation.clip_data import clips_of, load_clip

    sample = load_clip(clips_of(build.select(["val"]).rows)[1], build, build.data_root())
    PickyModel.bad = float(LoudnessModel().encode_frames(sample.frames[None])[0, 0, 0, 0])
    assert len(run(build, tmp_path / "out", PickyModel()).failed) == 1
    PickyModel.bad = None
    # Which rows of the clip are missing is in that file alone.
    (tmp_path / "out" / "run.json").unlink()
    assert run(build, tmp_path / "out", PickyModel()).failed == ()
    assert read_scores(tmp_path / "out").info.failed == ()


def test_what_fails_in_one_split_leaves_the_other_as_it_is(build: Manifest, tmp_path: Path) -> None:
    class Tired(LoudnessModel):
        tired: ClassVar[list[bool]] = [False]

        def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
            if self.tired[0]:
                raise ValueError("no more")
            return super().segment(encoded, audio)

    run(build, tmp_path / "out", Tired(), splits=["test"])
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "out").iterdir())
    Tired.tired[0] = True
    with pytest.raises(AdapterError, match="no more"):
        run(build, tmp_path / "out", Tired(), splits=["val"])
    assert sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "out").iterdir()) == before


def test_what_an_adapter_changes_in_itself_while_it_runs_does_not_make_it_another_one(
    build: Manifest, tmp_path: Path
) -> None:
    class Counts(LoudnessModel):
        count = 0

        def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
            self.count += 1
            self.last = super().segment(encoded, audio)
            return self.last

    model = Counts()
    for split in SPLITS:
        run(build, tmp_path / "one", model, splits=[split])
        run(build, tmp_path / f"{split}", model, splits=[split])
    assert run(build, tmp_path / "one", Counts()).reused == 4
    # Changed by somebody else, between two evaluations, it is another one.
    model.count = -1
    with pytest.raises(OptionError, match=r"different are: weights in memory; setting count in memory"):
        run(build, tmp_path / "one", model)


def test_an_adapter_that_fails_its_check_leaves_nothing_behind(build: Manifest, tmp_path: Path) -> None:
    class Drifts(LoudnessModel):
        drift: ClassVar[list[float]] = [0.0]

        def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
            self.drift[0] += 0.1
            return (super().segment(encoded, audio) + self.drift[0]) % 1

    with pytest.raises(AdapterError, match="--no-check"):
        run(build, tmp_path / "out", Drifts(), check=True)
    assert not (tmp_path / "out").exists()
    # Mended, it is another model, and nothing of the first is in its way.
    assert run(build, tmp_path / "out", check=True).clips == 4


def test_every_run_is_remembered(build: Manifest, tmp_path: Path) -> None:
    for split in SPLITS:
        run(build, tmp_path / "out", splits=[split], conditions=["noise"], batch_size=2)
    details = read_run(tmp_path / "out" / "run.json").details
    assert [entry["asked"] for entry in details["runs"]] == [
        {"splits": [split], "conditions": ["noise"]} for split in SPLITS
    ]
    assert (details["clips"], details["clips_run"], details["splits"]) == (4, 2, list(SPLITS))


def test_another_model_is_told_in_what_it_differs(build: Manifest, tmp_path: Path) -> None:
    class Wide(LoudnessModel):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.width = width
            self.weight = torch.full((width,), 0.5)

    weights = tmp_path / "w.pth"
    weights.write_bytes(b"1")
    choices: dict[str, Any] = {
        "checkpoint": weights,
        "options": {"a": "1"},
        "splits": ["test"],
        "conditions": ["noise"],
    }
    run(build, tmp_path / "out", Wide(2), **choices)
    before = digests(tmp_path / "out")
    weights.write_bytes(b"2")
    with pytest.raises(
        OptionError, match=r"different are: checkpoint \(6b86b273ff34\.\. there, d4735e3a265e\.\. here\); expected"
    ):
        run(build, tmp_path / "out", Wide(2), **choices)
    weights.write_bytes(b"1")
    for change, words in (
        ({"name": "other"}, r"name \(model there, other here\)"),
        ({"options": {"a": "2"}}, r"option a \(1 there, 2 here\)"),
        ({"options": {}}, r"option a \(1 there, none here\)"),
        ({"checkpoint": None}, "checkpoint"),
    ):
        with pytest.raises(OptionError, match=f"different are: {words}") as caught:
            run(build, tmp_path / "out", Wide(2), **{**choices, **change})
        assert "--name" in str(caught.value)
        assert "--replace" in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(OptionError, match="weights in memory; setting width in memory"):
        run(build, tmp_path / "out", Wide(3), **choices)
    assert digests(tmp_path / "out") == before


def test_another_build_of_the_same_name_is_another_one(
    build: Manifest, tmp_path: Path, make_build_in: Callable[..., Manifest]
) -> None:
    run(build, tmp_path / "out", conditions=["noise"])
    other = make_build_in(tmp_path / "other", clips=2, split=SPLITS)
    with pytest.raises(OptionError, match=r"different are: manifest \("):
        run(other, tmp_path / "out")
    assert np.unique(read_scores(tmp_path / "out").index["clip_id"]).size == 4
    run(other, tmp_path / "out", replace=True)
    assert np.unique(read_scores(tmp_path / "out").index["clip_id"]).size == 2

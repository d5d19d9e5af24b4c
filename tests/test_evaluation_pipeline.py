"""The stages of an evaluation: whatever overlaps, the bytes are the same, and an error in any stage ends all of them."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter, AudioInput, Segmentation
from avsrobust.adapters.calling import AdapterCaller
from avsrobust.errors import AdapterError, MetricInputError, OptionError
from avsrobust.evaluation import batch_size, counters, parts
from avsrobust.evaluation.batch_size import batch_size_for, choose_batch_size, is_measurable
from avsrobust.evaluation.batches import load_batch
from avsrobust.evaluation.clip_data import clips_of
from avsrobust.evaluation.counting import ClipCounter
from avsrobust.evaluation.runner import EvaluationReport, evaluate
from avsrobust.evaluation.sound import SoundReader
from avsrobust.files import sha256_of_file
from avsrobust.manifest import Manifest
from avsrobust.results import EXTRAS_NAME, MASKS_NAME, SCORES_NAME, read_run, read_scores, readout_file

FILES = (SCORES_NAME, MASKS_NAME, EXTRAS_NAME, readout_file("soft"))


class Model(Adapter):
    """Answers with everything that is scored, and remembers in which threads it was called."""

    def __init__(self) -> None:
        self.threads: list[set[int]] = [set()]
        self.loudness = [torch.empty(0)]

    def encode_frames(self, frames: Tensor) -> Tensor:
        self.threads[0].add(threading.get_ident())
        return frames.float().mean(dim=2)[..., ::2, ::2] / 255

    def segment(self, encoded: Tensor, audio: Tensor) -> Tensor | Segmentation:
        self.threads[0].add(threading.get_ident())
        self.loudness[0] = audio.mean(dim=(2, 3, 4))
        found = torch.sigmoid(8 * (encoded - 0.5) + self.loudness[0][..., None, None] * 20)
        return Segmentation(found, found > 0.6, {"soft": found / 2})

    def extras(self) -> dict[str, Tensor]:
        return {"loudness": self.loudness[0]}


@pytest.fixture
def build(make_build) -> Manifest:
    return make_build(clips=9, sizes=[(24, 32), (20, 20), (24, 32)], levels=(-6.0, 6.0))


def run(build: Manifest, output: Path, adapter: Adapter | None = None, **choices: Any) -> EvaluationReport:
    return evaluate(build, adapter or Model(), **{"name": "model", "output": output, "check": False, **choices})


def digests(output: Path) -> dict[str, str]:
    return {name: sha256_of_file(output / name) for name in FILES if (output / name).exists()}


def test_neither_batches_nor_threads_nor_the_place_of_counting_change_a_byte(
    build: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(build, tmp_path / "plain", save_masks=True, batch_size=1, readers=1)
    expected = digests(tmp_path / "plain")
    assert set(expected) >= {SCORES_NAME, MASKS_NAME, EXTRAS_NAME}
    assert len(expected) == 4, sorted((tmp_path / "plain").iterdir())
    for readers, size in ((1, 4), (5, 1), (3, 3), (2, 20)):
        run(build, tmp_path / "threads", save_masks=True, batch_size=size, readers=readers, replace=True)
        assert digests(tmp_path / "threads") == expected
        for path in (tmp_path / "threads").iterdir():
            path.unlink()
    on_device = lambda group, keep, as_foreground: counters._OnDevice(  # noqa: E731
        group, torch.device("cpu"), keep, as_foreground
    )
    monkeypatch.setattr(counters, "_OnCpu", on_device)
    run(build, tmp_path / "device", save_masks=True, batch_size=4)
    assert digests(tmp_path / "device") == expected


def test_the_adapter_is_called_in_one_thread(build: Manifest, tmp_path: Path) -> None:
    adapter = Model()
    run(build, tmp_path / "out", adapter, batch_size=2, readers=4)
    assert adapter.threads[0] == {threading.get_ident()}


def test_an_error_of_ours_in_counting_is_the_clips(
    build: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = ClipCounter.add

    def fails(self: ClipCounter, position: int, *args: Any) -> None:
        if self._sample.rows[0].clip_id.endswith("3"):
            raise MetricInputError("pred: odd")
        add(self, position, *args)

    monkeypatch.setattr(ClipCounter, "add", fails)
    report = run(build, tmp_path / "out", batch_size=3)
    assert [(failed.clip_id[-1], failed.error) for failed in report.failed] == [("3", "pred: odd")]
    assert report.clips == 8
    monkeypatch.undo()
    run(build, tmp_path / "out", batch_size=3)
    run(build, tmp_path / "whole")
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


@pytest.mark.parametrize("stage", ["reading", "counting", "writing"])
def test_a_bug_in_a_stage_ends_all_and_leaves_what_is_finished(
    build: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setattr(parts, "CLIPS_PER_PART", 1)
    before = set(threading.enumerate())
    with monkeypatch.context() as patch:
        target, name = {
            "reading": (SoundReader, "read_sound"),
            "counting": (ClipCounter, "add"),
            "writing": (parts.PartStore, "_write"),
        }[stage]
        method, left = getattr(target, name), [{"reading": 30, "counting": 30, "writing": 4}[stage]]

        def fails(self: Any, *args: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise RuntimeError("a bug")
            return method(self, *args)

        patch.setattr(target, name, fails)
        with pytest.raises(RuntimeError, match="a bug"):
            run(build, tmp_path / "out", batch_size=1, readers=2)
    assert {thread for thread in threading.enumerate() if thread.is_alive()} <= before
    finished = [path for path in (tmp_path / "out" / "parts").glob("*.scores.parquet") if len(read_scores(path).index)]
    assert len(finished) >= 2
    run(build, tmp_path / "out")
    run(build, tmp_path / "whole")
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_a_disk_that_is_full_is_said(build: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, clips: Any) -> None:
        raise OptionError("parts: cannot be written (No space left on device)")

    monkeypatch.setattr(parts, "CLIPS_PER_PART", 1)
    monkeypatch.setattr(parts.PartStore, "_write", full)
    with pytest.raises(OptionError, match="No space left"):
        run(build, tmp_path / "out")


def test_outputs_that_wait_are_bounded(build: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter waits where counting is slower than it."""
    most = [0]
    take = counters._Budget.take

    def taken(self: Any, amount: int) -> None:
        take(self, amount)
        most[0] = max(most[0], self._held)

    add = ClipCounter.add

    def slow(self: ClipCounter, *args: Any) -> None:
        time.sleep(0.002)
        add(self, *args)

    monkeypatch.setattr(counters._Budget, "take", taken)
    monkeypatch.setattr(ClipCounter, "add", slow)
    monkeypatch.setattr(counters, "_MOST_WAITING", 40_000)
    run(build, tmp_path / "out", batch_size=2)
    assert 0 < most[0] <= 40_000


def test_a_model_that_fails_at_once_is_raised_even_where_reading_is_ahead(build: Manifest, tmp_path: Path) -> None:
    class Broken(Model):
        def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
            raise ValueError("no")

    with pytest.raises(AdapterError, match="segment raised ValueError: no"):
        run(build, tmp_path / "out", Broken(), readers=4)
    assert not (tmp_path / "out" / "parts").exists()


def test_on_a_cpu_a_batch_is_one_clip_unless_it_is_named(build: Manifest, tmp_path: Path) -> None:
    for named, expected in ((None, 1), (3, 3)):
        run(build, tmp_path / str(named), batch_size=named)
        assert read_run(tmp_path / str(named) / "run.json").details["batch_size"] == expected


def test_a_batch_size_leaves_memory_free() -> None:
    assert batch_size_for(100 << 30, 4 << 30, 1 << 30) == 16
    assert batch_size_for(10 << 30, 4 << 30, 1 << 30) == 2
    assert batch_size_for(1 << 30, 4 << 30, 1 << 30) == 1


def test_a_batch_size_follows_from_a_trial(build: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU here: its memory is acted, the trial itself is real elsewhere."""
    monkeypatch.setattr(batch_size, "_peak", lambda _caller, group, _keep: (3 + 2 * len(group.clips)) * 2.0**30)
    monkeypatch.setattr(batch_size, "_free_bytes", lambda _device: 30 * 2.0**30)
    caller = AdapterCaller(Model(), "model", torch.device("cpu"))
    assert not is_measurable(caller)
    root, clips = build.data_root(), clips_of(build.rows)
    sounds = SoundReader(build, root, AudioInput.log_mel())
    chosen, remarks = choose_batch_size(caller, clips, lambda batch: load_batch(batch, build, root, sounds))
    assert chosen == 7
    assert remarks == ["batches of 7 clips: each clip more takes 2.00 GiB, of 30.00 GiB that are free on cpu"]

"""Exchanging messages with a worker process: through memory and through the pipe, and ahead of the answers."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from avsrobust.adapters.base import NativeSound, Segmentation
from avsrobust.adapters.calling import AdapterCaller
from avsrobust.adapters.child_process import ChildProcess
from avsrobust.adapters.pipes import WorkerProcess
from avsrobust.adapters.shared_memory import Area
from avsrobust.adapters.worker import Worker
from avsrobust.errors import AdapterError, ClipError

CPU = torch.device("cpu")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="anonymous files are Linux's; elsewhere the pipe serves")
PROTOCOL_2 = Path(__file__).parent / "released/avsrobust_worker_protocol_2.py.txt"
PROGRAM = """
import os, sys, time
import numpy as np
import avsrobust_worker

class Model:
    audio = "native"
    def __init__(self, checkpoint, device, options):
        self.mode = options.get("mode", "")
        self.kept = []
    def encode_frames(self, frames):
        if self.mode == "encode":
            raise ValueError("no such frames")
        frames[..., 0] = 7  # our own copy
        return frames
    def segment(self, encoded, audio):
        loud = float(audio[0].samples[0, 0])
        self.kept.append(audio)  # so is this
        if loud == 3 and self.mode == "exit":
            os._exit(5)
        if loud == 3 and self.mode == "raise":
            raise ValueError("three is too many")
        if self.mode == "kept":
            loud = sum(float(sounds[0].samples[0, 0]) for sounds in self.kept)
        p = encoded[:, :, 0].astype("float32") / 255 * np.float32(loud / 8)
        return avsrobust_worker.Segmentation(p, p > 0.3, {"second": 1 - p})
    def extras(self):
        return {"calls": np.full((1, 5), float(len(self.kept)))}

avsrobust_worker.serve(Model)
"""


def worker(folder: Path, **options: str) -> Worker:
    (folder / "model.py").write_text(PROGRAM)
    return Worker.load(None, CPU, command=f"'{sys.executable}' '{folder / 'model.py'}'", timeout="60", **options)


def inputs(size: int = 40, sounds: Sequence[float] = range(8)) -> tuple[torch.Tensor, list[list[NativeSound]]]:
    frames = torch.randint(0, 256, (1, 5, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return frames, [[NativeSound(torch.full((16_000, 2), float(value)), 16_000)] for value in sounds]


def expected(frames: torch.Tensor, loud: float) -> torch.Tensor:
    shown = frames.clone()
    shown[..., 0] = 7
    return shown[:, :, 0].float() / 255 * (loud / 8)


def require_right(answer: Any, frames: torch.Tensor, loud: float) -> None:
    p = expected(frames, loud)
    assert isinstance(answer, Segmentation)
    assert torch.equal(answer.probabilities, p)
    assert answer.mask is not None
    assert torch.equal(answer.mask, p > 0.3)
    assert torch.equal(answer.readouts["second"].probabilities, 1 - p)


def process_of(adapter: Worker) -> WorkerProcess:
    process = adapter._workers[0]._process
    assert process is not None
    return process


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Count answers by the way they came: (kind, through memory)."""
    found: list[tuple[str, bool]] = []
    read = WorkerProcess._read_message

    def reading(self: WorkerProcess, request: Any, deadline: float) -> Any:
        header, arrays = read(self, request, deadline)
        found.append((header["type"], "area" in header))
        return header, arrays

    monkeypatch.setattr(WorkerProcess, "_read_message", reading)
    return found


@LINUX
def test_answers_come_through_memory_once_their_size_is_known(tmp_path: Path, ways: list[tuple[str, bool]]) -> None:
    adapter = worker(tmp_path)
    frames, sounds = inputs()
    for _ in range(3):
        encoded = adapter.encode_frames(frames)
        for loud, answer in enumerate(adapter.segment_in_turn(encoded, sounds, [()] * 8)):
            require_right(answer, frames, loud)
            # Its own, not that of a call that was sent ahead.
            assert adapter.extras()["calls"][0, 0] == sum(kind == "segmented" for kind, _ in ways)
    segmented = [shared for kind, shared in ways if kind == "segmented"]
    # What was sent before the first answer had no room for its own; all that follow had.
    assert segmented == [False] * 3 + [True] * 21


@LINUX
def test_larger_answers_get_larger_areas(tmp_path: Path, ways: list[tuple[str, bool]]) -> None:
    adapter = worker(tmp_path)
    for size in (8, 200, 8, 400):
        frames, sounds = inputs(size)
        for _ in range(2):
            require_right(adapter.segment(adapter.encode_frames(frames), sounds[5]), frames, 5)
    assert [shared for kind, shared in ways if kind == "segmented"] == [False, True] * 2 + [True] * 2 + [False, True]


def test_answers_that_are_kept_are_not_written_over(tmp_path: Path) -> None:
    adapter = worker(tmp_path)
    frames, sounds = inputs()
    encoded = adapter.encode_frames(frames)
    answers = [adapter.segment(encoded, sound) for _ in range(3) for sound in sounds]
    for number, answer in enumerate(answers):
        require_right(answer, frames, number % 8)


def test_the_models_own_inputs_stay_as_they_are(tmp_path: Path) -> None:
    adapter = worker(tmp_path, mode="kept")
    frames, sounds = inputs()
    answers = list(adapter.segment_in_turn(adapter.encode_frames(frames), sounds, [()] * 8))
    require_right(answers[-1], frames, sum(range(8)))


class OtherMachine(Area):
    """An area whose path means nothing to the worker."""

    def __init__(self, number: int, size: int) -> None:
        super().__init__(number, size)
        self.named[1] = "/proc/1/fd/4000000"


@pytest.mark.parametrize("reason", ["an older file", "another machine", "no such memory here"])
def test_without_memory_the_pipe_serves(
    tmp_path: Path, reason: str, monkeypatch: pytest.MonkeyPatch, ways: list[tuple[str, bool]]
) -> None:
    if reason == "an older file":
        shutil.copyfile(PROTOCOL_2, tmp_path / "avsrobust_worker.py")
    elif reason == "another machine":
        monkeypatch.setattr("avsrobust.adapters.shared_memory.Area", OtherMachine)
    else:
        monkeypatch.setattr("avsrobust.adapters.shared_memory.sys.platform", "darwin")
    adapter = worker(tmp_path)
    # Frames and sounds larger than any pipe, so that nothing of them can be sent ahead.
    frames, sounds = inputs(600)
    encoded = adapter.encode_frames(frames)
    for loud, answer in enumerate(adapter.segment_in_turn(encoded, sounds, [()] * 8)):
        require_right(answer, frames, loud)
    assert {shared for _, shared in ways} == {False}


def test_an_error_of_encode_frames_is_raised_where_its_clips_are_segmented(tmp_path: Path) -> None:
    adapter = worker(tmp_path, mode="encode")
    frames, sounds = inputs()
    encoded = adapter.encode_frames(frames)
    for _ in range(2):
        with pytest.raises(AdapterError, match=r"worker .*: ValueError: no such frames$"):
            adapter.segment(encoded, sounds[0])


@pytest.mark.parametrize(
    ("mode", "error", "message"),
    [
        ("raise", AdapterError, "ValueError: three is too many"),
        ("exit", ClipError, r"ended while it worked on 'segment' \(exit status 5\)"),
    ],
)
def test_a_failure_ahead_is_that_of_its_own_condition(
    tmp_path: Path, mode: str, error: type[AdapterError], message: str
) -> None:
    adapter = worker(tmp_path, mode=mode)
    frames, sounds = inputs()
    answers = adapter.segment_in_turn(adapter.encode_frames(frames), sounds, [()] * 8)
    for loud in range(3):
        require_right(next(answers), frames, loud)
    with pytest.raises(error, match=message):
        next(answers)
    require_right(adapter.segment(adapter.encode_frames(frames), sounds[1]), frames, 1)


def test_a_failure_that_nobody_waits_for_takes_no_other_clip_with_it(tmp_path: Path) -> None:
    adapter = worker(tmp_path, mode="exit")
    frames, sounds = inputs()
    turn = adapter.segment_in_turn(adapter.encode_frames(frames), sounds[1:], [()] * 7)
    # The third condition, on which the process ends, was sent ahead of this answer.
    require_right(next(turn), frames, 1)
    turn.close()
    require_right(adapter.segment(adapter.encode_frames(frames), sounds[2]), frames, 2)


def test_the_caller_asks_in_turn_and_gets_what_single_calls_give(tmp_path: Path) -> None:
    caller = AdapterCaller(worker(tmp_path), "worker", CPU)
    frames, sounds = inputs()
    assert caller.segments_in_turn
    with caller.encoded(frames) as encoded:
        together = list(encoded.segment_many(sounds, [list] * 8))
        for sound, answer in zip(sounds, together, strict=True):
            alone = encoded.segment(sound, list)
            for (name, one), (other_name, other) in zip(answer.tensors(), alone.tensors(), strict=True):
                assert name == other_name
                assert torch.equal(one, other)


class Changed(Worker):
    """Answers otherwise than the workers, so that they must not be asked past it."""

    def segment(self, encoded: Any, audio: Any, clips: Any = ()) -> Any:
        return super().segment(encoded, audio, clips).probabilities * 0


def test_a_subclass_that_answers_itself_is_asked_itself(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(PROGRAM)
    adapter = Changed.load(None, CPU, command=f"'{sys.executable}' '{tmp_path / 'model.py'}'")
    caller = AdapterCaller(adapter, "changed", CPU)
    frames, sounds = inputs()
    with caller.encoded(frames) as encoded:
        assert not any(output.masks.any() for output in encoded.segment_many(sounds[1:], [list] * 7))


HOSTILE = """
import json, os, struct, sys
def send(header):
    raw = json.dumps(header).encode()
    os.write(1, b"AVSR" + struct.pack("<I", len(raw)) + raw)
def receive():
    def read(count):
        content = b""
        while len(content) < count:
            content += os.read(0, count - len(content))
        return content
    return json.loads(read(struct.unpack("<I", read(8)[4:])[0]))
receive()
send({{"type": "ready", "version": 2, "audio": ["native", None], "arrays": [], "memory": True}})
receive()
send({{"type": "encoded", "arrays": []}})
room = receive().get("room")
send({{"type": "segmented", "arrays": [["<f4", [1]]], "area": {first}}})
room = receive().get("room")
send({{"type": "segmented", "arrays": {arrays}, "area": {second}}})
os.read(0, 1)
"""


@LINUX
@pytest.mark.parametrize(
    ("arrays", "area", "message"),
    [
        ('[["<f4", [1]]]', "room[0] + 1", "memory that it was not offered"),
        ('[["<f4", [1]]]', "None", "memory that it was not offered"),
        ('[["<f4", [1]]]', "[room[0]]", "memory that it was not offered"),
        ('[["<f4", [1 << 20]]]', "room[0]", "arrays of 4194304 bytes in 1048576 bytes"),
        ('[["<f4", [1 << 31]]]', "room[0]", "a message of 8589934592 bytes; at most"),
        ('[["<f4", [-1]]]', "room[0]", "array of dtype"),
    ],
)
def test_what_a_worker_says_of_memory_is_checked(
    tmp_path: Path, arrays: str, area: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Offered before any answer has come, so that one message is enough.
    init = WorkerProcess.__init__

    def starting(self: WorkerProcess, *arguments: Any) -> None:
        init(self, *arguments)
        self._largest_answer = 1000

    monkeypatch.setattr(WorkerProcess, "__init__", starting)
    (tmp_path / "model.py").write_text(HOSTILE.format(first="room[0]", arrays=arrays, second=area))
    adapter = Worker.load(None, CPU, command=f"'{sys.executable}' '{tmp_path / 'model.py'}'", timeout="30")
    frames, sounds = inputs()
    encoded = adapter.encode_frames(frames)
    assert adapter.segment(encoded, sounds[0]).shape == (1,)
    with pytest.raises(ClipError, match=message):
        adapter.segment(encoded, sounds[0])


def test_what_is_sent_ahead_fits_into_the_pipe(tmp_path: Path) -> None:
    adapter = worker(tmp_path)
    process = process_of(adapter)
    frames, _ = inputs()
    fields = {"handle": 0, "note": "x" * (process._child.capacity // 5)}
    array = np.ascontiguousarray(frames.numpy())
    requests = [process.send("encode", fields, [array]) for _ in range(4)]
    # The third and the fourth do not fit beside two others.
    assert [request.answer is None for request in requests] == [False, False, True, True]
    assert [process.receive(request)[0]["type"] for request in requests] == ["encoded"] * 4


def test_threads_of_a_worker_wait_asleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import os, sys; sys.exit('policy ' + os.environ['OMP_WAIT_POLICY'])"
    (tmp_path / "model.py").write_text(program)
    for policy in ("passive", "active"):
        if policy == "active":
            monkeypatch.setenv("OMP_WAIT_POLICY", policy)
        else:
            monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
        with pytest.raises(AdapterError, match=f"policy {policy}"):
            Worker.load(None, CPU, command=f"'{sys.executable}' '{tmp_path / 'model.py'}'")


def test_stderr_without_line_ends_is_read_in_pieces() -> None:
    class Pipe(io.RawIOBase):
        reads = 0
        left = 1_000_000

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any, /) -> int:
            count = min(len(buffer), self.left)
            buffer[:count] = b"e" * count
            self.reads, self.left = self.reads + 1, self.left - count
            return count

    passed: list[int] = []
    pipe = Pipe()
    ChildProcess._pass_stderr(SimpleNamespace(pass_on=lambda raw: passed.append(len(raw))), pipe)  # type: ignore[arg-type]
    assert sum(passed) == 1_000_000
    assert pipe.reads < 100

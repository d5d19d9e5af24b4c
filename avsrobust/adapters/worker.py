"""The adapter `worker`: a model in another environment, another Python or a container, behind a pipe.

Conventions
    ``--option command=...`` starts one worker process; ``workers`` of them share each batch; ``timeout`` is the limit in
    seconds for one answer, starting included. All other options go to the model. A process that fails is ended, its clip
    is an error, and the next clip starts a new one.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter, AudioInput
from avsrobust.adapters.pipes import WorkerProcess
from avsrobust.errors import AdapterError

DEFAULT_TIMEOUT_S = 300.0
# In Hz: above what any recording has, and far below what fills the memory.
_HIGHEST_RATE = 1_000_000

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class _Share:
    """A worker's share of a batch.

    Attributes:
        worker: Number of the worker.
        generation: Number of its process, counted from 1.
        handle: Handle of the encoding that the process holds.
        clips: Number of clips.
    """

    worker: int
    generation: int
    handle: int
    clips: int


class _Encoded:
    """The encoding of one batch, held by the workers and freed there when this object goes."""

    def __init__(self, shares: Sequence[_Share]) -> None:
        self.shares = tuple(shares)


class _Worker:
    """One worker that is started when needed, and again after a failure."""

    def __init__(self, command: str, hello: dict[str, Any], timeout_s: float) -> None:
        self._arguments = (command, hello, timeout_s)
        self._process: WorkerProcess | None = None
        self._handles = itertools.count()
        self.generation = 0
        self.released: list[int] = []

    def start(self) -> dict[str, Any]:
        """Start the process where none runs; return its greeting."""
        if self._process is None or not self._process.alive:
            self.generation += 1
            self.released.clear()
            self._process = None
            self._process = WorkerProcess(*self._arguments)
        return self._process.ready

    def encode(self, frames: Tensor) -> tuple[int, int]:
        """Have the model encode uint8 [B, T, 3, H, W]; return (generation, handle)."""
        self.start()
        handle = next(self._handles)
        self._request("encode", {"handle": handle}, frames)
        return self.generation, handle

    def segment(self, share: _Share, audio: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Have the model segment the clips of a share; return the masks, and further values by name."""
        if share.generation != self.generation or self._process is None or not self._process.alive:
            raise AdapterError(f"worker '{self._arguments[0]}': ended before it had segmented this clip")
        header, arrays = self._request("segment", {"handle": share.handle}, audio)
        names = [str(name) for name in header.get("extras", ())]
        if len(arrays) != 1 + len(names):
            raise AdapterError(f"worker '{self._arguments[0]}': sent {len(arrays)} arrays; expected {1 + len(names)}")
        masks, *extras = (torch.from_numpy(array) for array in arrays)
        return masks, dict(zip(names, extras, strict=True))

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()

    def _request(self, kind: str, fields: dict[str, Any], tensor: Tensor) -> tuple[dict[str, Any], list[Any]]:
        if self._process is None:
            raise AdapterError(f"worker '{self._arguments[0]}': is not running")
        released, self.released = self.released, []
        return self._process.request(kind, {**fields, "release": released}, [tensor.cpu().numpy()])


class Worker(Adapter):
    """A model behind a pipe; ``avsrobust adapters --worker-file`` prints the file that serves it."""

    def __init__(self, workers: Sequence[_Worker], audio: AudioInput) -> None:
        self._workers = tuple(workers)
        self._threads = ThreadPoolExecutor(len(self._workers))
        self.audio = audio  # type: ignore[misc]
        self._extras: dict[str, Tensor] = {}
        weakref.finalize(self, _close_all, self._workers)

    @classmethod
    def load(cls, checkpoint: Path | None, device: torch.device, **options: str) -> Worker:
        """Start the workers; each names the audio it takes.

        Args:
            checkpoint: File of weights, handed to the model as an absolute path.
            device: Device of the models; several workers on "cuda" take the GPUs in turn.
            **options: ``command`` (needed), ``workers``, ``timeout`` in seconds; all others go to the model.

        Raises:
            AdapterError: An option is missing or wrong, or a worker cannot be started; with the end of what it wrote to stderr.
        """
        command = options.pop("command", "")
        if not command:
            raise AdapterError(
                "--adapter worker: needs --option command='...', the command line that starts your worker"
            )
        count = _positive(options.pop("workers", "1"), "workers", whole=True)
        timeout_s = _positive(options.pop("timeout", str(DEFAULT_TIMEOUT_S)), "timeout", whole=False)
        path = None if checkpoint is None else str(checkpoint.resolve())
        workers = [
            _Worker(command, {"checkpoint": path, "device": name, "options": options}, timeout_s)
            for name in _devices(device, int(count))
        ]
        greetings = [worker.start() for worker in workers]
        adapter = cls(workers, _audio_input(command, greetings[0]))
        adapter.device = torch.device("cpu")
        return adapter

    def encode_frames(self, frames: Tensor) -> _Encoded:
        """Send each worker its share of the clips, uint8 [B, T, 3, H, W]."""
        parts = torch.tensor_split(frames, min(len(self._workers), len(frames)))
        answers = self._together(lambda index, part: self._workers[index].encode(part), range(len(parts)), parts)
        shares = [
            _Share(index, generation, handle, len(part))
            for index, ((generation, handle), part) in enumerate(zip(answers, parts, strict=True))
        ]
        encoded = _Encoded(shares)
        weakref.finalize(encoded, _release, self._workers, encoded.shares)
        return encoded

    def segment(self, encoded: _Encoded, audio: Tensor) -> Tensor:
        """Collect the workers' masks, in the order of the clips."""
        parts = torch.split(audio, [share.clips for share in encoded.shares])
        answers = self._together(
            lambda share, part: self._workers[share.worker].segment(share, part), encoded.shares, parts
        )
        if len(answers) == 1:
            masks, self._extras = answers[0]
            return masks
        names = answers[0][1]
        self._extras = {name: torch.cat([extras[name] for _, extras in answers]) for name in names}
        return torch.cat([masks for masks, _ in answers])

    def _together(
        self, call: Callable[[_Item, Tensor], _Answer], items: Sequence[_Item], parts: Sequence[Tensor]
    ) -> list[_Answer]:
        """Call several workers at once, or the only one without the detour through a thread."""
        if len(items) == 1:
            return [call(items[0], parts[0])]
        return list(self._threads.map(call, items, parts))

    def extras(self) -> dict[str, Tensor]:
        """Return the model's further values of its last masks, [B, T] by name."""
        return self._extras


def _close_all(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.close()


def _release(workers: Sequence[_Worker], shares: Sequence[_Share]) -> None:
    for share in shares:
        if workers[share.worker].generation == share.generation:
            workers[share.worker].released.append(share.handle)


def _devices(device: torch.device, count: int) -> list[str]:
    if device.type == "cuda" and device.index is None:
        return [f"cuda:{index % torch.cuda.device_count()}" for index in range(count)]
    return [str(device)] * count


def _positive(text: str, option: str, *, whole: bool) -> float:
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = 0
    if not value > 0:
        raise AdapterError(f"--option {option}={text}: expected a {'whole ' if whole else ''}number above 0")
    return value


def _audio_input(command: str, ready: dict[str, Any]) -> AudioInput:
    audio = ready.get("audio")
    kind, rate = audio if isinstance(audio, list) and len(audio) == 2 else (audio, None)
    if kind == "waveform" and type(rate) is int and 0 < rate <= _HIGHEST_RATE:
        return AudioInput.waveform(rate)
    if kind == "log_mel":
        return AudioInput.log_mel()
    if kind == "embedding":
        return AudioInput.embedding()
    raise AdapterError(
        f"worker '{command}': its class has audio = {str(kind if rate is None else audio)[:80]!r}; "
        "expected 'log_mel', 'embedding' or ('waveform', RATE)"
    )

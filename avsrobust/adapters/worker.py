"""The adapter `worker`: a model in another environment, another Python or a container, behind a pipe.

Conventions
    ``--option command=...`` starts one worker process; ``workers`` of them share each batch; ``timeout`` is the limit in
    seconds for one answer, starting included. All other options go to the model. A process that fails is ended, its clip
    is an error, and the next clip starts a new one.
    Clips, seeds, native sounds, masks apart and readouts pass the pipe as they pass in process; a worker file of protocol 1,
    which knows none of them, is served as before.
    Frames are sent and not waited for: an error of the model's `encode_frames` is raised where their clips are segmented. Of
    several conditions (`segment_in_turn`) the next ones are sent while the model works on one.
    Masks of floating point may be views of memory that the worker writes to (`adapters.shared_memory`), until they are dropped.
"""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, get_args

import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter, AudioInput, ClipView, NativeSound, Resampler, Segmentation
from avsrobust.adapters.pipes import Answer, WorkerProcess
from avsrobust.errors import AdapterError

DEFAULT_TIMEOUT_S = 300.0
# A process with several descriptors each; and what the system's clocks hold with room to spare.
_MOST_WORKERS = 64
_LONGEST_S = 10**9
# In Hz: above what any recording has, and far below what fills the memory.
_HIGHEST_RATE = 1_000_000

# Conditions that are sent to a worker while it works on another one.
_AHEAD = 2

_Item = TypeVar("_Item")
# The answer about one share of a batch, with further values by name.
_Segmented = tuple[Segmentation, dict[str, Tensor]]


@dataclass(frozen=True)
class _Share:
    """A worker's share of a batch.

    Attributes:
        worker: Number of the worker.
        generation: Number of its process, counted from 1.
        handle: Handle of the encoding that the process holds.
        clips: Number of clips.
        encoded: Waits until the process has encoded them; raises its error.
    """

    worker: int
    generation: int
    handle: int
    clips: int
    encoded: Callable[[], object]


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

    def encode(self, frames: Tensor, clips: Sequence[ClipView]) -> tuple[int, int, Callable[[], object]]:
        """Have the model encode uint8 [B, T, 3, H, W].

        Returns:
            Number of the process, handle of the encoding, and what waits for it and raises the error, if any.
        """
        if self._process is not None:
            # A process that ends over what nobody waits for any more must not take these clips with it.
            self._process.settle()
        self.start()
        handle = next(self._handles)
        return self.generation, handle, self._send("encode", {"handle": handle, **_clips_field(clips)}, frames)

    def segment(
        self, share: _Share, audio: Tensor | Sequence[NativeSound], clips: Sequence[ClipView]
    ) -> Callable[[], _Segmented]:
        """Have the model segment the clips of a share; return what waits for the answer."""
        if share.generation != self.generation or self._process is None or not self._process.alive:
            return self._ended(share)
        fields: dict[str, Any] = {"handle": share.handle, **_clips_field(clips)}
        if isinstance(audio, Tensor):
            sent = audio
        else:
            fields["sounds"] = [
                {
                    "sample_rate": sound.sample_rate,
                    "path": None if sound.path is None else str(sound.path),
                    "shape": list(sound.samples.shape),
                }
                for sound in audio
            ]
            flat = [sound.samples.flatten() for sound in audio]
            sent = flat[0] if len(flat) == 1 else torch.cat(flat)
        answer = self._send("segment", fields, sent)

        def segmented() -> _Segmented:
            share.encoded()
            return self._segmentation(*answer())

        return segmented

    def _ended(self, share: _Share) -> Callable[[], _Segmented]:
        """Return what raises the error of a process that ended, after the answers it had given are received."""
        if self._process is not None:
            self._process.settle()

        def segmented() -> _Segmented:
            share.encoded()
            raise AdapterError(f"worker '{self._arguments[0]}': ended before it had segmented this clip")

        return segmented

    def _segmentation(self, header: Mapping[str, Any], arrays: Sequence[Any]) -> _Segmented:
        names = [str(name) for name in header.get("extras", ())]
        parts = _parts(header.get("parts", [["", False]]))
        expected = sum(1 + has_mask for _, has_mask in parts) + len(names)
        if not parts or parts[0][0] or len(arrays) != expected:
            raise AdapterError(f"worker '{self._arguments[0]}': sent {len(arrays)} arrays; expected {expected}")
        tensors = iter([torch.from_numpy(array) for array in arrays])
        answers = {name: Segmentation(next(tensors), next(tensors) if has_mask else None) for name, has_mask in parts}
        own = answers.pop("")
        return Segmentation(own.probabilities, own.mask, answers), dict(zip(names, tensors, strict=True))

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()

    def _send(self, kind: str, fields: dict[str, Any], tensor: Tensor) -> Callable[[], Answer]:
        process = self._process
        if process is None:
            raise AdapterError(f"worker '{self._arguments[0]}': is not running")
        released, self.released = self.released, []
        request = process.send(kind, {**fields, "release": released}, [tensor.cpu().numpy()])
        return lambda: process.receive(request)


class Worker(Adapter):
    """A model behind a pipe; ``avsrobust adapters --worker-file`` prints the file that serves it."""

    def __init__(self, workers: Sequence[_Worker], audio: AudioInput) -> None:
        self._workers = tuple(workers)
        self.audio = audio  # type: ignore[misc]
        self._extras: dict[str, Tensor] = {}
        weakref.finalize(self, _close_all, self._workers)

    @classmethod
    def load(cls, checkpoint: Path | None, device: torch.device, **options: str) -> Self:
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
        count = _positive(options.pop("workers", "1"), "workers", whole=True, most=_MOST_WORKERS)
        timeout_s = _positive(options.pop("timeout", str(DEFAULT_TIMEOUT_S)), "timeout", whole=False, most=_LONGEST_S)
        path = None if checkpoint is None else str(checkpoint.resolve())
        workers = [
            _Worker(command, {"checkpoint": path, "device": name, "options": options}, timeout_s)
            for name in _devices(device, int(count))
        ]
        greetings = [worker.start() for worker in workers]
        adapter = cls(workers, _audio_input(command, greetings[0]))
        # The other side seeds its own generators, by the clips.
        adapter.needs_seed = greetings[0].get("needs_seed") is True  # type: ignore[misc]
        adapter.needs_clips = adapter.needs_seed or greetings[0].get("needs_clips") is True  # type: ignore[misc]
        adapter.device = torch.device("cpu")
        return adapter

    def encode_frames(self, frames: Tensor, clips: Sequence[ClipView] = ()) -> _Encoded:
        """Send each worker its share of the clips, uint8 [B, T, 3, H, W], and of their views."""
        parts = torch.tensor_split(frames, min(len(self._workers), len(frames)))
        views = _split(clips, [len(part) for part in parts])
        shares = [
            _Share(index, generation, handle, len(part), encoded)
            for index, part in enumerate(parts)
            for generation, handle, encoded in [self._workers[index].encode(part, views[index])]
        ]
        encoded = _Encoded(shares)
        weakref.finalize(encoded, _release, self._workers, encoded.shares)
        return encoded

    def segment(
        self, encoded: _Encoded, audio: Tensor | Sequence[NativeSound], clips: Sequence[ClipView] = ()
    ) -> Tensor | Segmentation:
        """Collect the workers' answers, in the order of the clips."""
        return self._receive(self._send(encoded, audio, clips))

    def segment_in_turn(
        self,
        encoded: _Encoded,
        audio: Sequence[Tensor | Sequence[NativeSound]],
        clips: Sequence[Sequence[ClipView]],
    ) -> Iterator[Tensor | Segmentation]:
        """Yield what `segment` returns under each of several conditions.

        Args:
            encoded: The encoding.
            audio: Audio of the clips under each condition.
            clips: Views of the clips under each condition, none for a model that takes none.
        """
        sent: deque[list[Callable[[], _Segmented]]] = deque()
        for sound, views in zip(audio, clips, strict=True):
            sent.append(self._send(encoded, sound, views))
            if len(sent) > _AHEAD:
                yield self._receive(sent.popleft())
        while sent:
            yield self._receive(sent.popleft())

    def _send(
        self, encoded: _Encoded, audio: Tensor | Sequence[NativeSound], clips: Sequence[ClipView]
    ) -> list[Callable[[], _Segmented]]:
        counts = [share.clips for share in encoded.shares]
        parts: Sequence[Any] = torch.split(audio, counts) if isinstance(audio, Tensor) else _split(audio, counts)
        return [
            self._workers[share.worker].segment(share, part, views)
            for share, part, views in zip(encoded.shares, parts, _split(clips, counts), strict=True)
        ]

    def _receive(self, waiting: Sequence[Callable[[], _Segmented]]) -> Tensor | Segmentation:
        answers = [wait() for wait in waiting]
        names = answers[0][1]
        if len(answers) == 1:
            self._extras = names
        else:
            self._extras = {name: torch.cat([extras[name] for _, extras in answers]) for name in names}
        answer = _joined([answer for answer, _ in answers])
        return answer if answer.mask is not None or answer.readouts else answer.probabilities

    def extras(self) -> dict[str, Tensor]:
        """Return the model's further values of its last masks, [B, T] by name."""
        return self._extras


def _split(items: Sequence[_Item], counts: Sequence[int]) -> list[Sequence[_Item]]:
    """Split a sequence into parts of these lengths; an empty one into empty parts."""
    ends = list(itertools.accumulate(counts))
    return [items[end - count : end] for end, count in zip(ends, counts, strict=True)]


def _joined(answers: Sequence[Segmentation]) -> Segmentation:
    """Put the answers about the parts of a batch together."""
    if len(answers) == 1:
        return answers[0]
    masks = [answer.mask for answer in answers if answer.mask is not None]
    readouts = {}
    for name in answers[0].readouts:
        of_name = [answer.readouts[name] for answer in answers if name in answer.readouts]
        if len(of_name) != len(answers):
            raise AdapterError(f"worker: the readout '{name}' came for some clips of a batch; expected it for all")
        readouts[name] = _joined([part if isinstance(part, Segmentation) else Segmentation(part) for part in of_name])
    if len(masks) not in (0, len(answers)):
        raise AdapterError("worker: a mask came for some clips of a batch; expected it for all or none")
    probabilities = torch.cat([answer.probabilities for answer in answers])
    return Segmentation(probabilities, torch.cat(masks) if masks else None, readouts)


def _clips_field(clips: Sequence[ClipView]) -> dict[str, Any]:
    """Return the field of a message's header that holds clips; none for a model that takes none."""
    if not clips:
        return {}
    return {
        "clips": [
            {**asdict(clip), "frames": [str(path) for path in clip.frames], "sound": clip.sound and str(clip.sound)}
            for clip in clips
        ]
    }


def _parts(value: object) -> list[tuple[str, bool]]:
    """Return name and presence of a mask of each part of an answer, the model's own first, with the name ""."""
    if not isinstance(value, list) or not all(isinstance(part, list) and len(part) == 2 for part in value):
        return []
    return [(str(name), has_mask is True) for name, has_mask in value]


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


def _positive(text: str, option: str, *, whole: bool, most: int) -> float:
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = 0
    if not 0 < value <= most:
        raise AdapterError(
            f"--option {option}={text}: expected a {'whole ' if whole else ''}number above 0, up to {most}"
        )
    return value


def _audio_input(command: str, ready: Mapping[str, Any]) -> AudioInput:
    audio = ready.get("audio")
    whole = [*audio, None, None][:3] if isinstance(audio, list) and len(audio) in (2, 3) else [audio, None, None]
    kind, rate, form = whole
    if kind == "waveform" and type(rate) is int and 0 < rate <= _HIGHEST_RATE:
        options = form if isinstance(form, dict) else {}
        resampler, mono = options.get("resampler", "resampy"), options.get("mono", True)
        if resampler in get_args(Resampler) and isinstance(mono, bool):
            return AudioInput.waveform(rate, resampler, mono)
    if kind in ("log_mel", "embedding", "native"):
        return AudioInput.of(kind)
    raise AdapterError(
        f"worker '{command}': its class has audio = {str(kind if rate is None else audio)[:80]!r}; "
        "expected 'log_mel', 'embedding', 'native' or ('waveform', RATE), with {'resampler': .., 'mono': ..} behind it"
    )

"""A contract test for anybody's adapter: `check_adapter` lists the promises that an adapter does not keep.

Conventions
    The adapter is run on random frames and audio, of several lengths and sizes as AVSBench has them. Outputs that should be
    equal may differ by `TOLERANCE`, because kernels round differently for other batch sizes: probabilities and the softmax of
    class logits anywhere by so much, class ids in that share of the pixels.
    Nothing is raised for an adapter that fails a check: the report names the check and the reason;
    `AdapterCheck.raise_if_failed` raises. Where a check fails that all others need (loading, a first mask), the rest is not run.

>>> from avsrobust.testing import check_adapter
>>> check_adapter("empty").passed
True
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter, AudioInput, RowView
from avsrobust.adapters.calling import AdapterCaller
from avsrobust.adapters.lookup import load_adapter
from avsrobust.audio.front_ends import BANDS, STEPS
from avsrobust.audio.vggish import EMBEDDING_SIZE
from avsrobust.errors import AdapterError, AdapterOutputError, AvsRobustError

TOLERANCE = 1e-4
# S4's and MS3's frames are square; AVSS frames vary from clip to clip.
SIZES = ((224, 224), (180, 320), (97, 131))
LENGTHS = (5, 10)
FIRST_CHECK = "it returns probabilities or class ids [B, T, h, w], or class logits [B, T, C, h, w]"


@dataclass(frozen=True)
class CheckResult:
    """One check.

    Attributes:
        name: The promise.
        passed: Whether the adapter keeps it.
        message: The reason why not.
    """

    name: str
    passed: bool
    message: str = ""

    def __str__(self) -> str:
        return f"{'passed' if self.passed else 'FAILED'}  {self.name}" + (f": {self.message}" if self.message else "")


@dataclass(frozen=True)
class AdapterCheck:
    """The report on an adapter; ``print`` it to read it.

    Attributes:
        adapter: Name of the adapter.
        results: The checks, in the order they were run.
    """

    adapter: str
    results: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(result.passed for result in self.results)

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        """The checks that failed."""
        return tuple(result for result in self.results if not result.passed)

    def raise_if_failed(self) -> None:
        """Raise an error where a check failed.

        Raises:
            AdapterError: Names every failed check.
        """
        if not self.passed:
            raise AdapterError(f"{self.adapter}: " + "; ".join(f"{f.name}: {f.message}" for f in self.failures))

    def __str__(self) -> str:
        return "\n".join([f"adapter {self.adapter}", *(f"  {result}" for result in self.results)])


def check_adapter(
    adapter: Adapter | type[Any] | str,
    *,
    checkpoint: Path | str | None = None,
    device: str | torch.device = "cpu",
    **options: str,
) -> AdapterCheck:
    """Run every check on an adapter.

    Args:
        adapter: An instance, a class, or the text one types after ``--adapter``. An instance is taken as it is.
        checkpoint: File of weights, handed to `load`.
        device: Device, handed to `load`.
        **options: Options, handed to `load`.
    """
    name = adapter if isinstance(adapter, str) else (adapter if isinstance(adapter, type) else type(adapter)).__name__
    on = torch.device(device)
    try:
        if isinstance(adapter, (str, type)):
            loaded = load_adapter(adapter, checkpoint=checkpoint, device=on, options=options)
        else:
            loaded = adapter
        audio = AudioInput.of(getattr(loaded, "audio", None))
    except AvsRobustError as error:
        return AdapterCheck(name, (CheckResult("it loads", False, str(error)),))
    subject = _Subject(loaded, name, on, audio)
    results = [CheckResult("it loads", True), _run(FIRST_CHECK, subject.check_first)]
    if results[-1].passed:
        results += [_run(check_name, check) for check_name, check in subject.checks()]
    return AdapterCheck(name, tuple(results))


@dataclass(frozen=True)
class _Input:
    """Frames, audio and rows of B random clips."""

    frames: Tensor
    audio: Tensor
    rows: tuple[RowView, ...]

    def clip(self, index: int) -> _Input:
        return _Input(self.frames[index, None], self.audio[index, None], (self.rows[index],))

    def copy(self) -> _Input:
        return _Input(self.frames.clone(), self.audio.clone(), self.rows)

    def with_sound_of(self, other: _Input) -> _Input:
        return _Input(self.frames, other.audio, self.rows)


class _ContractError(Exception):
    """A check that does not hold; the message is the reason."""


class _Subject:
    """An adapter under test."""

    def __init__(self, adapter: Adapter, name: str, device: torch.device, audio: AudioInput) -> None:
        self._caller = AdapterCaller(adapter, name, device)
        self._device = device
        self._audio = audio

    def checks(self) -> list[tuple[str, Callable[[], object]]]:
        """Return the checks that need an adapter whose first output was right."""
        return [
            *((f"it takes clips of {length} frames", self._check_length(length)) for length in LENGTHS[1:]),
            *(
                (f"it takes frames of {height}x{width}", self._check_size((height, width)))
                for height, width in SIZES[1:]
            ),
            ("two clips in a batch give what each gives alone", self._check_batch),
            ("the same input gives the same output", self._check_repeatable),
            ("segment keeps nothing from one sound to the next", self._check_sound_state),
            ("encode_frames keeps nothing from one clip to the next", self._check_frame_state),
            ("inputs stay as they are", self._check_inputs),
            ("a returned tensor is not overwritten by a later call", self._check_outputs),
        ]

    def check_first(self) -> None:
        """Run the adapter once and check its output."""
        self._answer(self._make(1))

    def _check_length(self, length: int) -> Callable[[], object]:
        return lambda: self._answer(self._make(2, num_frames=length))

    def _check_size(self, size: tuple[int, int]) -> Callable[[], object]:
        def check() -> None:
            try:
                self._answer(self._make(3, size=size))
            except AdapterOutputError:
                raise
            except AdapterError as error:
                raise _ContractError(
                    f"{error}; AVSBench's frames vary in size: resize to what the model needs inside encode_frames"
                ) from error

        return check

    def _check_batch(self) -> None:
        both = self._make(4, batch=2)
        together = self._answer(both)
        for index in range(2):
            _require_equal(together[index, None], self._answer(both.clip(index)), "the batch changes a clip's mask")

    def _check_repeatable(self) -> None:
        given = self._make(5)
        _require_equal(
            self._answer(given),
            self._answer(given),
            "is it in training mode, or does it draw random numbers? seed them",
        )

    def _check_sound_state(self) -> None:
        first, second = self._make(6), self._make(7)
        encoded = self._encode(first.copy())
        before = self._segment(encoded, first.copy())
        self._segment(encoded, first.with_sound_of(second).copy())
        after = self._segment(encoded, first.copy())
        _require_equal(before, after, "the encoding or the adapter itself is changed by segment")

    def _check_frame_state(self) -> None:
        first, second = self._make(8), self._make(9)
        before = self._answer(first)
        encoded = self._encode(first.copy())
        self._encode(second.copy())
        after = self._segment(encoded, first.copy())
        _require_equal(before, after, "encode_frames stores something that segment reads; return it instead")

    def _check_inputs(self) -> None:
        given = self._make(10)
        kept = given.copy()
        encoded = self._encode(given)
        self._segment(encoded, given)
        for noun, changed in (
            ("frames", not torch.equal(given.frames, kept.frames)),
            ("audio", not torch.equal(given.audio, kept.audio)),
        ):
            if changed:
                raise _ContractError(
                    f"{noun} are changed in place; clone them first, or use operations without a trailing _"
                )

    def _check_outputs(self) -> None:
        first, second = self._make(11), self._make(12)
        encoded = self._encode(first.copy())
        returned = self._call_segment(encoded, first.copy())
        kept = returned.clone()
        self._call_segment(encoded, first.with_sound_of(second).copy())
        if not torch.equal(returned, kept):
            raise _ContractError("segment returns a view of a buffer that it uses again; return a copy")

    def _answer(self, given: _Input) -> Tensor:
        own = given.copy()
        return self._segment(self._encode(own), own)

    def _encode(self, given: _Input) -> Any:
        return self._caller.encode(given.frames)

    def _segment(self, encoded: Any, given: _Input) -> Tensor:
        batch, num_frames = given.frames.shape[:2]
        output = self._call_segment(encoded, given)
        return self._caller.check(output, batch=batch, num_frames=num_frames)

    def _call_segment(self, encoded: Any, given: _Input) -> Any:
        return self._caller.segment_unchecked(encoded, given.audio, lambda: given.rows)

    def _make(
        self, seed: int, *, batch: int = 1, num_frames: int = LENGTHS[0], size: tuple[int, int] | None = None
    ) -> _Input:
        size = size or SIZES[0]
        generator = torch.Generator().manual_seed(seed)
        frames = torch.randint(0, 256, (batch, num_frames, 3, *size), dtype=torch.uint8, generator=generator)
        audio = self._make_sound(batch, num_frames, generator)
        target = torch.rand((batch, num_frames, *size), generator=generator) > 0.5
        rows = tuple(_row(index, seed, clip_target) for index, clip_target in enumerate(target))
        return _Input(frames.to(self._device), audio.to(self._device), rows)

    def _make_sound(self, batch: int, num_frames: int, generator: torch.Generator) -> Tensor:
        if self._audio.kind == "waveform":
            samples = num_frames * (self._audio.sample_rate or 0)
            return torch.rand((batch, samples), generator=generator) * 2 - 1
        if self._audio.kind == "embedding":
            # VGGish's embeddings come after a ReLU.
            return torch.randn((batch, num_frames, EMBEDDING_SIZE), generator=generator).clamp(min=0)
        return torch.randn((batch, num_frames, 1, STEPS, BANDS), generator=generator)


def _row(index: int, seed: int, target: Tensor) -> RowView:
    return RowView(
        dataset="avss",
        split="test",
        clip_id=f"clip{index}",
        condition="clean",
        polarity="positive",
        level=None,
        seed=seed,
        target=target,
        has_mask=torch.ones(len(target), dtype=torch.bool),
        # Any class but background will do.
        classes=target.to(torch.uint8),
    )


def _run(name: str, check: Callable[[], object]) -> CheckResult:
    try:
        check()
    except (_ContractError, AvsRobustError) as error:
        return CheckResult(name, False, str(error))
    return CheckResult(name, True)


def _require_equal(left: Tensor, right: Tensor, reason: str) -> None:
    if left.shape != right.shape:
        raise _ContractError(f"masks of shape {list(left.shape)} and {list(right.shape)}: {reason}")
    if left.is_floating_point() != right.is_floating_point():
        raise _ContractError(f"probabilities or logits here, class ids there: {reason}")
    if not left.is_floating_point():
        share = float((left != right).to(torch.float32).mean())
        if share > TOLERANCE:
            raise _ContractError(f"class ids differ in {share:.3g} of the pixels: {reason}")
        return
    if left.ndim == 5:
        left, right = left.softmax(dim=2), right.softmax(dim=2)
    difference = float((left - right).abs().max())
    if difference > TOLERANCE:
        raise _ContractError(f"masks differ by up to {difference:.3g} (at most {TOLERANCE:g} is rounding): {reason}")

"""A contract test for anybody's adapter: `check_adapter` lists the promises that an adapter does not keep.

Conventions
    The adapter is run on random frames and audio, of several lengths and sizes as AVSBench has them. Outputs that should be
    equal may differ by `TOLERANCE`, because kernels round differently for other batch sizes: probabilities and the softmax of
    class logits anywhere by so much, class ids in that share of the pixels.
    Adapters with `needs_clips` get views of random clips; ones that look up further files per clip need a build (`build`), whose
    first clip is then the one that they are asked about.
    Nothing is raised for an adapter that fails a check: the report names the check and the reason;
    `AdapterCheck.raise_if_failed` raises. Where a check fails that all others need (loading, a first mask), the rest is not run.

>>> from avsrobust.testing import check_adapter
>>> check_adapter("empty").passed
True
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from avsrobust.adapter_inputs import InputMaker, Inputs, RealClip, samples_of
from avsrobust.adapters.base import Adapter, AudioInput, Segmentation
from avsrobust.adapters.calling import AdapterCaller
from avsrobust.adapters.checked_output import CheckedOutput
from avsrobust.adapters.clip_files import OpenedFiles, without_condition
from avsrobust.adapters.lookup import load_adapter
from avsrobust.adapters.randomness import DropoutWatch
from avsrobust.errors import AdapterError, AdapterOutputError, AvsRobustError
from avsrobust.vocabulary import counted

if TYPE_CHECKING:
    from avsrobust.manifest import Manifest

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
        message: The reason why not; of a check that passed, a warning.
    """

    name: str
    passed: bool
    message: str = ""

    def __str__(self) -> str:
        state = "FAILED" if not self.passed else "WARNING" if self.message else "passed"
        return f"{state}  {self.name}" + (f": {self.message}" if self.message else "")


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

    @property
    def warnings(self) -> tuple[CheckResult, ...]:
        """The checks that passed with a warning."""
        return tuple(result for result in self.results if result.passed and result.message)

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
    build: Manifest | Path | str | None = None,
    **options: str,
) -> AdapterCheck:
    """Run every check on an adapter.

    Args:
        adapter: An instance, a class, or the text one types after ``--adapter``. An instance is taken as it is.
        checkpoint: File of weights, handed to `load`.
        device: Device, handed to `load`.
        build: A build, or its folder, whose clips adapters with `needs_clips` are asked about; None: random clips.
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
        real = None if build is None else RealClip.of(build)
    except AvsRobustError as error:
        return AdapterCheck(name, (CheckResult("it loads", False, str(error)),))
    with tempfile.TemporaryDirectory(prefix="avsrobust-") as folder:
        subject = _Subject(loaded, name, on, audio, Path(folder), real)
        results = [CheckResult("it loads", True), _run(FIRST_CHECK, subject.check_first)]
        if results[-1].passed:
            results += [_run(check_name, check) for check_name, check in subject.checks()]
    return AdapterCheck(name, tuple(results))


class _ContractError(Exception):
    """A check that does not hold; the message is the reason."""


class _Subject:
    """An adapter under test."""

    def __init__(
        self,
        adapter: Adapter,
        name: str,
        device: torch.device,
        audio: AudioInput,
        folder: Path,
        real: RealClip | None,
    ) -> None:
        self._caller = AdapterCaller(adapter, name, device)
        self._audio = audio
        # Files are there for this clip and its number of frames alone.
        self._real = real if self._caller.needs_clips else None
        self._length = LENGTHS[0] if self._real is None else self._real.clean.num_frames
        self._inputs = InputMaker(audio, device, folder, looks_up=self._caller.needs_clips, real=self._real)

    def checks(self) -> list[tuple[str, Callable[[], object]]]:
        """Return the checks that need an adapter whose first output was right."""
        return [
            *(
                (f"it takes clips of {counted(length, 'frame')}", self._check_length(length))
                for length in LENGTHS[1:]
                if self._real is None
            ),
            *(
                (f"it takes frames of {height}x{width}", self._check_size((height, width)))
                for height, width in SIZES[1:]
            ),
            *(
                []
                if self._caller.needs_seed
                else [("two clips in a batch give what each gives alone", self._check_batch)]
            ),
            ("the same input gives the same output", self._check_repeatable),
            ("segment keeps nothing from one sound to the next", self._check_sound_state),
            *self._optional_checks(),
            ("encode_frames keeps nothing from one clip to the next", self._check_frame_state),
            ("inputs stay as they are", self._check_inputs),
            ("a returned tensor is not overwritten by a later call", self._check_outputs),
            *([("no dropout is left on", self._check_dropout)] if self._caller.needs_seed else []),
            *(
                [("files looked up per clip are looked up per condition", self._check_lookups)]
                if self._caller.needs_clips
                else []
            ),
        ]

    def _optional_checks(self) -> list[tuple[str, Callable[[], object]]]:
        # Native sounds and seeds are for `segment` alone.
        apart = self._caller.needs_seed or self._audio.kind == "native"
        if apart or not self._caller.segments_many:
            return []
        return [("segment_many gives what segment gives for each sound", self._check_many)]

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
            _require_equal(together, self._answer(both.clip(index)), "the batch changes a clip's mask", clip=index)

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

    def _check_many(self) -> None:
        first = self._make(13)
        sounds = [first, first.with_sound_of(self._make(14)), first.with_sound_of(self._make(15))]
        encoded = self._encode(first.copy())
        alone = [self._segment(encoded, given.copy()) for given in sounds]
        audio = torch.stack([given.audio.clone() for given in sounds if isinstance(given.audio, Tensor)])
        rows = [lambda: first.rows] * len(sounds)
        clips = [lambda given=given: given.clips for given in sounds]
        batch, num_frames = first.frames.shape[:2]
        answers = self._caller.iterate_many(encoded, audio, rows, clips)
        together = [self._caller.check_answer(answer, batch=batch, num_frames=num_frames) for answer in answers]
        if len(together) != len(sounds):
            raise _ContractError(
                f"segment_many returned {counted(len(together), 'mask')} for {counted(len(sounds), 'sound')}; return one of each"
            )
        for one, other in zip(alone, together, strict=True):
            _require_equal(
                one, other, "segment_many returns other masks; expected the same, in the order of the sounds"
            )

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
            ("audio", not all(map(torch.equal, samples_of(given.audio), samples_of(kept.audio)))),
        ):
            if changed:
                raise _ContractError(
                    f"{noun} are changed in place; clone them first, or use operations without a trailing _"
                )

    def _check_outputs(self) -> None:
        first, second = self._make(11), self._make(12)
        encoded = self._encode(first.copy())
        returned = list(_returned(self._call_segment(encoded, first.copy())))
        kept = [tensor.clone() for tensor in returned]
        self._call_segment(encoded, first.with_sound_of(second).copy())
        if not all(map(torch.equal, returned, kept)):
            raise _ContractError("segment returns a view of a buffer that it uses again; return a copy")

    def _check_dropout(self) -> None:
        from avsrobust.evaluation.consistency import dropout_left_on

        with DropoutWatch() as watch:
            self._answer(self._make(13))
        if cause := dropout_left_on(self._caller.adapter, watch):
            raise _ContractError(cause)

    def _check_lookups(self) -> str:
        """Return a warning where a file is looked up by the clip alone under a negative."""
        given = self._make(14)
        negative = self._real.negative if self._real else replace(given.clips[0], condition="silence", seed=15)
        given = replace(given, clips=(negative,))
        with OpenedFiles() as encoding:
            encoded = self._encode(given.copy())
        with OpenedFiles() as segmenting:
            self._segment(encoded, given.copy())
        for opened, clip in ((encoding, given.pictures()[0]), (segmenting, negative)):
            if found := without_condition(opened.paths, clip):
                return (
                    f"{found[0]} is read under '{negative.condition}', and is the same under clean sound: where it was made "
                    "with the clean sound, it gives the answer away; look it up per condition "
                    "(avsrobust.adapters.clip_files.ClipFiles)"
                )
        return ""

    def _make(
        self, seed: int, *, batch: int = 1, num_frames: int | None = None, size: tuple[int, int] | None = None
    ) -> Inputs:
        return self._inputs.make(seed, batch=batch, num_frames=num_frames or self._length, size=size or SIZES[0])

    def _answer(self, given: Inputs) -> CheckedOutput:
        own = given.copy()
        return self._segment(self._encode(own), own)

    def _encode(self, given: Inputs) -> Any:
        return self._caller.encode(given.frames, given.pictures)

    def _segment(self, encoded: Any, given: Inputs) -> CheckedOutput:
        batch, num_frames = given.frames.shape[:2]
        output = self._call_segment(encoded, given)
        return self._caller.check_answer(output, batch=batch, num_frames=num_frames)

    def _call_segment(self, encoded: Any, given: Inputs) -> Any:
        return self._caller.segment_unchecked(encoded, given.audio, lambda: given.rows, lambda: given.clips)


def _run(name: str, check: Callable[[], object]) -> CheckResult:
    try:
        warning = check()
    except (_ContractError, AvsRobustError) as error:
        return CheckResult(name, False, str(error))
    return CheckResult(name, True, warning if isinstance(warning, str) else "")


def _returned(answer: Any) -> Iterator[Tensor]:
    """Yield the tensors of an unchecked answer."""
    if not isinstance(answer, Segmentation):
        yield answer
        return
    yield answer.probabilities
    if answer.mask is not None:
        yield answer.mask
    for readout in answer.readouts.values():
        yield from _returned(readout)


def _require_equal(left: CheckedOutput, right: CheckedOutput, reason: str, *, clip: int | None = None) -> None:
    """Compare two outputs part by part; `clip` is the clip of the left one that the right one is about."""
    parts: Sequence[tuple[str, Tensor]] = list(left.tensors())
    others = dict(right.tensors())
    if [name for name, _ in parts] != list(others):
        raise _ContractError(f"masks and readouts {[name for name, _ in parts]} and {list(others)}: {reason}")
    for name, tensor in parts:
        _require_same(tensor if clip is None else tensor[clip, None], others[name], reason)


def _require_same(left: Tensor, right: Tensor, reason: str) -> None:
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

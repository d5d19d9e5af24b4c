"""Calling an adapter: the one place where a model's code runs on a clip, and where its output is checked.

Conventions
    `avsrobust evaluate`, validation in training, the contract test (`avsrobust.testing`) and `adapters.serve` all call here.
    Every call runs under `torch.no_grad` and in the adapter's own surroundings (`adapters.surroundings`): prints go to stderr.
    Whatever the adapter raises, `quit()` included, becomes an `AdapterError` of one line that begins with the adapter's name.
    `AdapterCaller.encoded` encodes B clips once and hands out an `EncodedClips`, whose `segment` is called once per condition;
    `segment_many` takes several conditions at once where the adapter has such a method, and calls `segment` where it has none;
    `segment_in_turn`, which `worker` has, is asked for them one by one and may send the next before the last is answered.
    An adapter with `needs_seed` is called for one clip at a time, with seeded generators (`adapters.randomness`).
    Each call gets tensors of its own, and outputs are copied at once: an adapter that works in place or returns a view of its
    own buffer harms no other call, except by changing its own encoding or the frames, which is refused.
    Shapes are those of `adapters.base`; checks of outputs are those of `adapters.checked_output`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter, ClipView, NativeSound, RowView
from avsrobust.adapters.checked_output import CheckedOutput, check_answer
from avsrobust.adapters.encodings import EncodingGuard, changed_in_place
from avsrobust.adapters.outputs import check_extras, copied, is_classes, same_bytes
from avsrobust.adapters.randomness import seeded
from avsrobust.adapters.surroundings import surroundings
from avsrobust.errors import AdapterError, AdapterOutputError, AvsRobustError, is_out_of_memory, text_of
from avsrobust.plugins import bounded_line, described, place_of
from avsrobust.vocabulary import counted

# Makes the views of B rows; called only for an adapter that needs them, since each view copies the clip's target.
RowViews = Callable[[], Sequence[RowView]]
# Makes the views of B clips, without targets; called only for an adapter that needs them.
ClipViews = Callable[[], Sequence[ClipView]]
# Audio of B clips in the adapter's form: a tensor [B, ...], or the clips' native sounds.
Audio = Tensor | Sequence[NativeSound]
# Messages of torch.autograd where a graph is missing.
_NEEDS_GRADIENTS = (
    "does not require grad",
    "does not have a grad_fn",
    "Inference tensors cannot be saved for backward",
    "computes gradients outside",
)
_MISSING = object()


class AdapterCaller:
    """Calls one adapter.

    Attributes:
        adapter: The adapter.
        name: Name of the adapter in messages.
        device: Device that frames and audio are moved to.
        returns_classes: Whether the adapter has returned classes so far; None: it has returned nothing yet.
        readouts: Names of the readouts that it has returned; None: it has returned nothing yet.
        needs_clips: Whether it takes views of the clips.
        needs_seed: Whether it draws random numbers, and so is called for one clip at a time.
    """

    def __init__(
        self, adapter: Adapter, name: str, device: torch.device, *, returns_classes: bool | None = None
    ) -> None:
        self.adapter = adapter
        self.name = name
        self.device = device
        self.returns_classes = returns_classes
        self.readouts: tuple[str, ...] | None = None
        self.needs_clips = bool(getattr(adapter, "needs_clips", False))
        self.needs_seed = bool(getattr(adapter, "needs_seed", False))

    def batch_size(self, requested: int) -> int:
        """Return how many clips the adapter may be called for at a time: one where it draws random numbers."""
        return 1 if self.needs_seed else requested

    @contextmanager
    def encoded(
        self, frames: Tensor, clips: ClipViews | None = None, *, compare_contents: bool = False
    ) -> Iterator[EncodedClips]:
        """Encode the frames of B clips, and watch the encoding until the block ends.

        Args:
            frames: uint8 [B, T, 3, H, W]; moved to the device.
            clips: Makes the views of the B clips' pictures, for adapters with `needs_clips` or `needs_seed`.
            compare_contents: Compare the encoding's contents too, which finds changes that tensors do not count.

        Raises:
            AdapterError: `encode_frames` fails.
        """
        frames = _on_device(frames, self.device)
        encoding = self.encode(frames, clips)
        with EncodingGuard(encoding, self.name, content=compare_contents) as guard:
            yield EncodedClips(self, frames, encoding, guard)

    def encode(self, frames: Tensor, clips: ClipViews | None = None) -> Any:
        """Return the adapter's encoding of frames, uint8 [B, T, 3, H, W], without watching it.

        Args:
            frames: The frames, on the device.
            clips: Makes the views of the B clips' pictures.

        Raises:
            AdapterError: `encode_frames` fails.
        """
        views = self._views(clips, len(frames))
        more = (views,) if self.needs_clips else ()
        return self._call("encode_frames", lambda: self.adapter.encode_frames(frames, *more), views)

    def segment_unchecked(self, encoding: Any, audio: Audio, rows: RowViews, clips: ClipViews | None = None) -> Any:
        """Return the adapter's own answer, whatever it is.

        Args:
            encoding: Encoding of B clips, from `encode`.
            audio: Audio of the clips under one condition, [B, ...], on the adapter's device, or B native sounds.
            rows: Makes the B rows' views.
            clips: Makes the views of the B clips.

        Raises:
            AdapterError: `segment` (or `segment_rows`) fails.
        """
        views = self._views(clips, len(audio))
        if getattr(self.adapter, "needs_rows", False):
            targets = list(rows())
            return self._call(
                "segment_rows",
                lambda: self.adapter.segment_rows(encoding, audio, targets),
                views,
            )
        more = (views,) if self.needs_clips else ()
        return self._call("segment", lambda: self.adapter.segment(encoding, audio, *more), views)

    def check_answer(
        self,
        returned: object,
        *,
        batch: int,
        num_frames: int,
        num_classes: int | None = None,
        earlier: CheckedOutput | None = None,
    ) -> CheckedOutput:
        """Check an answer of the adapter, as `adapters.checked_output.check_answer` does.

        Raises:
            AdapterOutputError: A part has a wrong type, shape, device or range.
        """
        return check_answer(
            returned,
            adapter=self.name,
            batch=batch,
            num_frames=num_frames,
            device=self.device,
            num_classes=num_classes,
            earlier=earlier,
        )

    def check(self, masks: object, *, batch: int, num_frames: int, num_classes: int | None = None) -> Tensor:
        """Return the masks of an answer, checked as in `check_answer`."""
        return self.check_answer(masks, batch=batch, num_frames=num_frames, num_classes=num_classes).masks

    @property
    def segments_many(self) -> bool:
        """Whether the adapter's `segment_many` answers as its `segment` does: it is defined in the same class, or below it."""
        return self._stands_in("segment_many")

    @property
    def segments_in_turn(self) -> bool:
        """Whether the adapter's `segment_in_turn` answers as its `segment` does."""
        return self._stands_in("segment_in_turn")

    def _stands_in(self, method: str) -> bool:
        own = getattr(self.adapter, "__dict__", {})
        for members in (own, *(vars(defining) for defining in type(self.adapter).__mro__)):
            if method in members:
                return True
            if members.keys() & {"segment", "segment_rows"}:
                return False
        return False

    def iterate_in_turn(
        self, encoding: Any, audio: Sequence[Audio], clips: Sequence[ClipViews | None]
    ) -> Iterator[Any]:
        """Yield the adapter's own answers of `segment_in_turn`, one per condition.

        Args:
            encoding: Encoding of B clips, from `encode`.
            audio: Audio of the clips under each condition.
            clips: Make the views of the B clips under each condition.

        Raises:
            AdapterError: `segment_in_turn` fails.
        """
        adapter: Any = self.adapter
        views = [self._views(maker, len(sound)) for sound, maker in zip(audio, clips, strict=True)]
        answers = self._call("segment_in_turn", lambda: iter(adapter.segment_in_turn(encoding, audio, views)))
        for _ in audio:
            yield self._call("segment_in_turn", lambda: next(answers))

    def iterate_many(
        self, encoding: Any, audio: Tensor, rows: Sequence[RowViews], clips: Sequence[ClipViews | None]
    ) -> Iterator[Any]:
        """Yield the adapter's own answers of `segment_many`, one per condition; no number of them is checked.

        Args:
            encoding: Encoding of B clips, from `encode`.
            audio: Audio of the clips under K conditions, [K, B, ...], on the adapter's device.
            rows: Make the views of each condition's B rows.
            clips: Make the views of the B clips under each condition.

        Raises:
            AdapterError: `segment_many` fails.
        """
        adapter: Any = self.adapter
        views: list[Any] = []
        if getattr(adapter, "needs_rows", False):
            views = [list(row()) for row in rows]
        elif self.needs_clips:
            views = [self._views(maker, audio.shape[1]) for maker in clips]
        answers = self._call("segment_many", lambda: iter(adapter.segment_many(encoding, audio, views)))
        while (answer := self._call("segment_many", lambda: next(answers, _MISSING))) is not _MISSING:
            yield answer

    def extras_unchecked(self) -> Any:
        """Return the further values of the last segmentation; an empty dict for an adapter without `extras`.

        Raises:
            AdapterError: `extras` fails.
        """
        extras = getattr(self.adapter, "extras", None)
        if getattr(extras, "__func__", None) is Adapter.extras or not callable(extras):
            return {}
        return self._call("extras", extras)

    def require_same_kind(self, masks: Tensor) -> None:
        """Raise `AdapterOutputError` where checked masks are classes and earlier ones were not, or the other way round."""
        found = is_classes(masks)
        if self.returns_classes not in (None, found):
            kinds = ("probabilities", "classes")
            raise AdapterOutputError(
                f"{self.name}: returned {kinds[found]} after {kinds[not found]}; expected the same kind for every clip"
            )
        self.returns_classes = found

    def require_same_readouts(self, names: Sequence[str]) -> None:
        """Raise `AdapterOutputError` where the names of an answer's readouts are not those of earlier answers."""
        found = tuple(sorted(names))
        if self.readouts not in (None, found):
            before, now = (", ".join(entry) or "none" for entry in (self.readouts or (), found))
            raise AdapterOutputError(
                f"{self.name}: returned the readouts {now} after {before}; expected the same for every clip and condition"
            )
        self.readouts = found

    def _views(self, clips: ClipViews | None, batch: int) -> list[ClipView]:
        if not (self.needs_clips or self.needs_seed):
            return []
        if clips is None:
            raise AdapterError(f"{self.name}: needs views of the clips (needs_clips), which nothing here can make")
        if self.needs_seed and batch != 1:
            raise AdapterError(
                f"{self.name}: draws random numbers (needs_seed), so it is called for one clip at a time"
            )
        return list(clips())

    def _call(self, method: str, function: Callable[[], Any], views: Sequence[ClipView] = ()) -> Any:
        try:
            with (
                surroundings(self.adapter),
                torch.no_grad(),
                seeded(views[0].seed) if self.needs_seed and views else nullcontext(),
            ):
                return function()
        except (AvsRobustError, KeyboardInterrupt):
            raise
        # A model may raise anything, and research code calls quit().
        except BaseException as error:
            where = "".join(f" ({Path(file).name}, line {line})" for file, line in place_of(error))
            raise AdapterError(f"{self.name}: {method} raised {described(error)}{where}{_advice(error)}") from error


class EncodedClips:
    """The encoding of B clips, to be segmented under one condition after the other; made by `AdapterCaller.encoded`."""

    def __init__(self, caller: AdapterCaller, frames: Tensor, encoding: Any, guard: EncodingGuard) -> None:
        self._caller = caller
        self._frames = frames
        self._untouched = copied(frames, torch.uint8)
        self._encoding = encoding
        self._guard = guard
        self._earlier: CheckedOutput | None = None

    def segment(
        self, audio: Audio, rows: RowViews, clips: ClipViews | None = None, *, num_classes: int | None = None
    ) -> CheckedOutput:
        """Segment the clips under one condition.

        Args:
            audio: Audio of the clips, [B, ...], moved to the device; or B native sounds, which are not.
            rows: Makes the B rows' views, for adapters with `needs_rows`.
            clips: Makes the views of the B clips, for adapters with `needs_clips` or `needs_seed`.
            num_classes: Number of classes that logits must have; None: any, from 2.

        Raises:
            AdapterError: The adapter fails.
            EncodingChangedError: `segment` changes its encoding or the frames.
            AdapterOutputError: The output is malformed, or of another kind than earlier ones.
        """
        caller = self._caller
        given = _on_device(audio, caller.device) if isinstance(audio, Tensor) else audio
        return self._checked(caller.segment_unchecked(self._encoding, given, rows, clips), num_classes)

    def segment_many(
        self,
        audio: Sequence[Audio],
        rows: Sequence[RowViews],
        clips: Sequence[ClipViews] | None = None,
        *,
        num_classes: int | None = None,
    ) -> Iterator[CheckedOutput]:
        """Yield the outputs under several conditions, in order: by one call of `segment_many`, or by one of `segment` each.

        Args:
            audio: Audio of the clips under each condition, as in `segment`.
            rows: Make the views of each condition's B rows, for adapters with `needs_rows`.
            clips: Make the views of the B clips under each condition, for adapters with `needs_clips` or `needs_seed`; ones that
                draw random numbers are called once per condition.
            num_classes: As in `segment`.

        Raises:
            AdapterError: As `segment` does; or `segment_many` returns another number of outputs.
        """
        caller = self._caller
        tensors = [sound for sound in audio if isinstance(sound, Tensor)]
        makers: Sequence[ClipViews | None] = [None] * len(audio) if clips is None else clips
        if caller.segments_in_turn:
            for returned in caller.iterate_in_turn(self._encoding, audio, makers):
                yield self._checked(returned, num_classes)
            return
        apart = caller.needs_seed or len(tensors) < len(audio) or len(audio) == 1
        if apart or not caller.segments_many:
            for sound, views, maker in zip(audio, rows, makers, strict=True):
                yield self.segment(sound, views, maker, num_classes=num_classes)
            return
        count = 0
        # They are stacked on the device, so that pinned memory need not be copied.
        stacked = torch.stack([_on_device(sound, caller.device) for sound in tensors])
        for returned in caller.iterate_many(self._encoding, stacked, rows, makers):
            count += 1
            if count > len(audio):
                break
            yield self._checked(returned, num_classes)
        if count != len(audio):
            found = f"more than {len(audio)}" if count > len(audio) else str(count)
            raise AdapterOutputError(
                f"{caller.name}: segment_many returned {found} outputs for {counted(len(audio), 'condition')}; expected "
                "one of each"
            )

    def _checked(self, returned: Any, num_classes: int | None) -> CheckedOutput:
        caller, (batch, num_frames) = self._caller, self._frames.shape[:2]
        self._guard.check()
        if not _same_frames(self._frames, self._untouched):
            raise changed_in_place(caller.name)
        output = self._earlier = caller.check_answer(
            returned, batch=batch, num_frames=num_frames, num_classes=num_classes, earlier=self._earlier
        )
        caller.require_same_kind(output.masks)
        caller.require_same_readouts(list(output.readouts))
        extras = check_extras(caller.extras_unchecked(), adapter=caller.name, batch=batch, num_frames=num_frames)
        return CheckedOutput(output.masks, extras, output.mask, output.readouts)


def _on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; to a GPU without waiting, where its memory is pinned."""
    return tensor.to(device, non_blocking=device.type == "cuda")


def _same_frames(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors of frames, uint8 of one shape, are equal."""
    # torch compares single bytes, slowly.
    return same_bytes(one, other) or torch.equal(one, other)


def message_of(error: BaseException) -> str:
    """Return an exception's message in one line of bounded length."""
    return bounded_line(text_of(error))


def _advice(error: BaseException) -> str:
    """Return a remedy for an exception that the way adapters are run may cause, "" where none is known."""
    text = text_of(error)
    if any(sign in text for sign in _NEEDS_GRADIENTS):
        return "; adapters run under torch.no_grad(): put what needs gradients in a block 'with torch.enable_grad():'"
    if is_out_of_memory(error):
        return "; memory is used up: take a smaller --batch-size, or close other programs that hold it"
    if isinstance(error, ValueError) and "read-only" in text:
        return "; what encode_frames returned is used again for the next condition: copy it before it is changed"
    return ""

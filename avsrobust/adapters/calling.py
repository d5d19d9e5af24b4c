"""Calling an adapter: the one place where a model's code runs on a clip, and where its output is checked.

Conventions
    `avsrobust evaluate`, validation in training, the contract test (`avsrobust.testing`) and `adapters.serve` all call here.
    Every call runs under `torch.no_grad` and in the adapter's own surroundings (`adapters.surroundings`): prints go to stderr.
    Whatever the adapter raises, `quit()` included, becomes an `AdapterError` of one line that begins with the adapter's name.
    `AdapterCaller.encoded` encodes B clips once and hands out an `EncodedClips`, whose `segment` is called once per condition;
    `segment_many` takes several conditions at once where the adapter has such a method, and calls `segment` where it has none.
    Each call gets tensors of its own, and outputs are copied at once: an adapter that works in place or returns a view of its
    own buffer harms no other call, except by changing its own encoding or the frames, which is refused.
    Shapes are those of `adapters.base`; checks of outputs are those of `adapters.outputs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter, RowView
from avsrobust.adapters.encodings import EncodingGuard, changed_in_place
from avsrobust.adapters.outputs import ExtraValues, check_extras, check_output, is_classes
from avsrobust.adapters.surroundings import surroundings
from avsrobust.errors import AdapterError, AdapterOutputError, AvsRobustError

# Makes the views of B rows; called only for an adapter that needs them, since each view copies the clip's target.
RowViews = Callable[[], Sequence[RowView]]
# Messages of torch.autograd where a graph is missing.
_NEEDS_GRADIENTS = (
    "does not require grad",
    "does not have a grad_fn",
    "Inference tensors cannot be saved for backward",
    "computes gradients outside",
)
_LONGEST_MESSAGE = 400
_MISSING = object()


@dataclass(frozen=True)
class CheckedOutput:
    """Output of an adapter for B clips under one condition, checked and copied.

    Attributes:
        masks: Probabilities, float32 [B, T, h, w] in [0, 1]; class logits, float32 [B, T, C, h, w]; or class ids, uint8
            [B, T, h, w].
        extras: Further values by name, float64 [B, T].
    """

    masks: Tensor
    extras: ExtraValues

    @property
    def is_classes(self) -> bool:
        """Whether the masks are class logits or class ids, and not probabilities."""
        return is_classes(self.masks)


class AdapterCaller:
    """Calls one adapter.

    Attributes:
        adapter: The adapter.
        name: Name of the adapter in messages.
        device: Device that frames and audio are moved to.
        returns_classes: Whether the adapter has returned classes so far; None: it has returned nothing yet.
    """

    def __init__(
        self, adapter: Adapter, name: str, device: torch.device, *, returns_classes: bool | None = None
    ) -> None:
        self.adapter = adapter
        self.name = name
        self.device = device
        self.returns_classes = returns_classes

    @contextmanager
    def encoded(self, frames: Tensor, *, compare_contents: bool = False) -> Iterator[EncodedClips]:
        """Encode the frames of B clips, and watch the encoding until the block ends.

        Args:
            frames: uint8 [B, T, 3, H, W]; moved to the device.
            compare_contents: Compare the encoding's contents too, which finds changes that tensors do not count.

        Raises:
            AdapterError: `encode_frames` fails.
        """
        frames = frames.to(self.device)
        encoding = self.encode(frames)
        with EncodingGuard(encoding, self.name, content=compare_contents) as guard:
            yield EncodedClips(self, frames, encoding, guard)

    def encode(self, frames: Tensor) -> Any:
        """Return the adapter's encoding of frames, uint8 [B, T, 3, H, W], without watching it.

        Raises:
            AdapterError: `encode_frames` fails.
        """
        return self._call("encode_frames", lambda: self.adapter.encode_frames(frames))

    def segment_unchecked(self, encoding: Any, audio: Tensor, rows: RowViews) -> Any:
        """Return the adapter's own answer, whatever it is.

        Args:
            encoding: What `encode` returned for B clips.
            audio: Audio of the clips under one condition, [B, ...], on the adapter's device.
            rows: Makes the B rows' views.

        Raises:
            AdapterError: `segment` (or `segment_rows`) fails.
        """
        if not getattr(self.adapter, "needs_rows", False):
            return self._call("segment", lambda: self.adapter.segment(encoding, audio))
        views = list(rows())
        return self._call("segment_rows", lambda: self.adapter.segment_rows(encoding, audio, views))

    @property
    def segments_many(self) -> bool:
        """Whether the adapter's `segment_many` answers as its `segment` does: it is defined in the same class, or below it."""
        own = getattr(self.adapter, "__dict__", {})
        for members in (own, *(vars(defining) for defining in type(self.adapter).__mro__)):
            if "segment_many" in members:
                return True
            if members.keys() & {"segment", "segment_rows"}:
                return False
        return False

    def iterate_many(self, encoding: Any, audio: Tensor, rows: Sequence[RowViews]) -> Iterator[Any]:
        """Yield the adapter's own answers of `segment_many`, one per condition; no number of them is checked.

        Args:
            encoding: What `encode` returned for B clips.
            audio: Audio of the clips under K conditions, [K, B, ...], on the adapter's device.
            rows: Make the views of each condition's B rows.

        Raises:
            AdapterError: `segment_many` fails.
        """
        adapter: Any = self.adapter
        views = [list(row()) for row in rows] if getattr(adapter, "needs_rows", False) else []
        answers = self._call("segment_many", lambda: iter(adapter.segment_many(encoding, audio, views)))
        while (answer := self._call("segment_many", lambda: next(answers, _MISSING))) is not _MISSING:
            yield answer

    def check(self, masks: object, *, batch: int, num_frames: int, num_classes: int | None = None) -> Tensor:
        """Return masks as `adapters.outputs.check_output` does.

        Raises:
            AdapterOutputError: The masks have a wrong type, shape, device or range.
        """
        return check_output(
            masks,
            adapter=self.name,
            batch=batch,
            num_frames=num_frames,
            device=self.device,
            num_classes=num_classes,
        )

    def extras_unchecked(self) -> Any:
        """Return the further values of the last segmentation; an empty dict for an adapter without `extras`.

        Raises:
            AdapterError: `extras` fails.
        """
        extras = getattr(self.adapter, "extras", None)
        return self._call("extras", extras) if callable(extras) else {}

    def require_same_kind(self, masks: Tensor) -> None:
        """Raise `AdapterOutputError` where checked masks are classes and earlier ones were not, or the other way round."""
        found = is_classes(masks)
        if self.returns_classes not in (None, found):
            kinds = ("probabilities", "classes")
            raise AdapterOutputError(
                f"{self.name}: returned {kinds[found]} after {kinds[not found]}; expected the same kind for every clip"
            )
        self.returns_classes = found

    def _call(self, method: str, function: Callable[[], Any]) -> Any:
        try:
            with surroundings(type(self.adapter)), torch.no_grad():
                return function()
        except AvsRobustError:
            raise
        # A model may raise anything, and research code calls quit().
        except (Exception, SystemExit) as error:
            raise AdapterError(
                f"{self.name}: {method} raised {type(error).__name__}: {message_of(error)}{_advice(error)}"
            ) from error


class EncodedClips:
    """The encoding of B clips, to be segmented under one condition after the other; made by `AdapterCaller.encoded`."""

    def __init__(self, caller: AdapterCaller, frames: Tensor, encoding: Any, guard: EncodingGuard) -> None:
        self._caller = caller
        self._frames = frames
        self._untouched = frames.clone()
        self._encoding = encoding
        self._guard = guard

    def segment(self, audio: Tensor, rows: RowViews, *, num_classes: int | None = None) -> CheckedOutput:
        """Segment the clips under one condition.

        Args:
            audio: Audio of the clips, [B, ...]; moved to the device.
            rows: Makes the B rows' views, for adapters with `needs_rows`.
            num_classes: Number of classes that logits must have; None: any, from 2.

        Raises:
            AdapterError: The adapter fails.
            EncodingChangedError: `segment` changes its encoding or the frames.
            AdapterOutputError: The output is malformed, or of another kind than earlier ones.
        """
        return self._checked(
            self._caller.segment_unchecked(self._encoding, audio.to(self._caller.device), rows), num_classes
        )

    def segment_many(
        self, audio: Sequence[Tensor], rows: Sequence[RowViews], *, num_classes: int | None = None
    ) -> Iterator[CheckedOutput]:
        """Yield the outputs under several conditions, in order: by one call of `segment_many`, or by one of `segment` each.

        Args:
            audio: Audio of the clips under each condition, [B, ...]; moved to the device.
            rows: Make the views of each condition's B rows, for adapters with `needs_rows`.
            num_classes: As in `segment`.

        Raises:
            AdapterError: As `segment` does; or `segment_many` returns another number of outputs.
        """
        caller = self._caller
        if len(audio) == 1 or not caller.segments_many:
            for sound, views in zip(audio, rows, strict=True):
                yield self.segment(sound, views, num_classes=num_classes)
            return
        count = 0
        for returned in caller.iterate_many(self._encoding, torch.stack(list(audio)).to(caller.device), rows):
            count += 1
            if count > len(audio):
                break
            yield self._checked(returned, num_classes)
        if count != len(audio):
            found = f"more than {len(audio)}" if count > len(audio) else str(count)
            raise AdapterOutputError(
                f"{caller.name}: segment_many returned {found} outputs for {len(audio)} conditions; expected one of each"
            )

    def _checked(self, returned: Any, num_classes: int | None) -> CheckedOutput:
        caller, (batch, num_frames) = self._caller, self._frames.shape[:2]
        self._guard.check()
        if not torch.equal(self._frames, self._untouched):
            raise changed_in_place(caller.name)
        masks = caller.check(returned, batch=batch, num_frames=num_frames, num_classes=num_classes)
        caller.require_same_kind(masks)
        extras = check_extras(caller.extras_unchecked(), adapter=caller.name, batch=batch, num_frames=num_frames)
        return CheckedOutput(masks, extras)


def message_of(error: BaseException) -> str:
    """Return an exception's message in one line of bounded length."""
    return " ".join(str(error).split())[:_LONGEST_MESSAGE]


def _advice(error: BaseException) -> str:
    """Return a remedy for an exception that the way adapters are run may cause, "" where none is known."""
    text = str(error)
    if any(sign in text for sign in _NEEDS_GRADIENTS):
        return "; adapters run under torch.no_grad(): put what needs gradients in a block 'with torch.enable_grad():'"
    if isinstance(error, ValueError) and "read-only" in text:
        return "; what encode_frames returned is used again for the next condition: copy it before it is changed"
    return ""

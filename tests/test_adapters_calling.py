"""The one way to call an adapter, as evaluation, validation, the contract test and served workers use it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter, RowView
from avsrobust.adapters.baselines import VisualPrior
from avsrobust.adapters.calling import AdapterCaller
from avsrobust.adapters.encodings import EncodingChangedError
from avsrobust.errors import AdapterError, AdapterOutputError, ClipError

CPU = torch.device("cpu")
FRAMES = torch.full((2, 5, 3, 4, 6), 51, dtype=torch.uint8)
AUDIO = torch.full((2, 5, 1, 96, 64), 0.5)


class Model(Adapter):
    def encode_frames(self, frames: Tensor) -> Any:
        assert not torch.is_grad_enabled()
        return {"grey": frames.float().mean(2) / 255}

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.level = audio.mean((2, 3, 4))
        return encoded["grey"] * self.level[..., None, None]

    def extras(self) -> dict[str, Tensor]:
        return {"level": self.level}


def no_rows() -> list[RowView]:
    raise AssertionError("views are made for adapters with needs_rows alone")


def caller(adapter: Adapter) -> AdapterCaller:
    return AdapterCaller(adapter, "model", CPU)


def test_an_encoding_serves_several_conditions() -> None:
    with caller(Model()).encoded(FRAMES) as clips:
        loud, quiet = clips.segment(AUDIO, no_rows), clips.segment(AUDIO / 2, no_rows)
    assert torch.allclose(loud.masks, torch.full((2, 5, 4, 6), 0.1))
    assert torch.allclose(quiet.masks, torch.full((2, 5, 4, 6), 0.05))
    assert not loud.is_classes
    assert loud.extras["level"].tolist() == [[0.5] * 5] * 2


def test_rows_are_made_for_those_who_need_them() -> None:
    target = torch.rand(5, 4, 6) > 0.5
    view = RowView("s4", "test", "a", "clean", "positive", None, 1, target, torch.ones(5, dtype=torch.bool))
    with caller(VisualPrior()).encoded(FRAMES[:1]) as clips:
        assert torch.equal(clips.segment(AUDIO[:1], lambda: [view]).masks[0], target.float())


def test_the_kind_of_output_must_stay() -> None:
    class Mixed(Model):
        def segment(self, encoded: Any, audio: Tensor) -> Tensor:
            masks = super().segment(encoded, audio)
            return masks if audio.mean() > 0.4 else masks.to(torch.uint8)

    called = caller(Mixed())
    with called.encoded(FRAMES) as clips:
        clips.segment(AUDIO, no_rows)
        assert called.returns_classes is False
        with pytest.raises(AdapterOutputError, match="model: returned classes after probabilities"):
            clips.segment(AUDIO / 2, no_rows)
    known = AdapterCaller(Model(), "model", CPU, returns_classes=True)
    with known.encoded(FRAMES) as clips, pytest.raises(AdapterOutputError, match="probabilities after classes"):
        clips.segment(AUDIO, no_rows)


@pytest.mark.parametrize("error", [RuntimeError("two\nlines"), SystemExit("two\nlines")])
def test_whatever_is_raised_is_one_line_with_the_name(error: BaseException) -> None:
    class Raises(Model):
        def segment(self, encoded: Any, audio: Tensor) -> Tensor:
            raise error

    with (
        caller(Raises()).encoded(FRAMES) as clips,
        pytest.raises(
            AdapterError,
            match=rf"^model: segment raised {type(error).__name__}: two lines \(test_adapters_calling\.py, line \d+\)$",
        ),
    ):
        clips.segment(AUDIO, no_rows)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (AssertionError(), r"raised AssertionError \(test_"),
        (MemoryError(), r"raised MemoryError \(.*memory is used up: take a smaller --batch-size"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: 4 bytes"),
            "memory is used up: take a smaller --batch-size",
        ),
    ],
)
def test_errors_without_a_message_and_of_memory_are_explained(error: BaseException, message: str) -> None:
    class Raises(Model):
        def segment(self, encoded: Any, audio: Tensor) -> Tensor:
            raise error

    with caller(Raises()).encoded(FRAMES) as clips, pytest.raises(AdapterError, match=message):
        clips.segment(AUDIO, no_rows)


def test_extras_must_be_dense() -> None:
    class Sparse(Model):
        def extras(self) -> dict[str, Tensor]:
            return {"confidence": torch.ones(FRAMES.shape[:2]).to_sparse()}

    with caller(Sparse()).encoded(FRAMES) as clips, pytest.raises(AdapterOutputError, match="layout sparse_coo"):
        clips.segment(AUDIO, no_rows)


def test_our_own_errors_and_interrupts_pass() -> None:
    for error in (ClipError("a clip"), KeyboardInterrupt()):

        class Raises(Model):
            def encode_frames(self, frames: Tensor, error: BaseException = error) -> Any:
                raise error

        with pytest.raises(type(error)), caller(Raises()).encoded(FRAMES):
            pass


def test_changed_encodings_are_refused_here_and_left_to_the_contract_test_elsewhere() -> None:
    class Spoils(Model):
        def segment(self, encoded: Any, audio: Tensor) -> Tensor:
            masks = super().segment(encoded, audio)
            encoded["grey"].mul_(0.5)
            return masks

    called = caller(Spoils())
    with called.encoded(FRAMES) as clips, pytest.raises(EncodingChangedError, match=r"in place \(\['grey'\]\)"):
        clips.segment(AUDIO, no_rows)
    masks = called.segment_unchecked(called.encode(FRAMES), AUDIO, no_rows)
    assert called.check(masks, batch=2, num_frames=5).shape == (2, 5, 4, 6)


def test_adapters_need_no_extras_and_extras_are_copies() -> None:
    class Plain:
        def encode_frames(self, frames: Tensor) -> Any:
            return frames

        def segment(self, encoded: Any, audio: Tensor) -> Tensor:
            return torch.zeros(2, 5, 3, 3)

    with AdapterCaller(Plain(), "plain", CPU).encoded(FRAMES) as clips:  # type: ignore[arg-type]
        assert clips.segment(AUDIO, no_rows).extras == {}

    class Reuses(Model):
        values = torch.zeros(2, 5, dtype=torch.float64)

        def extras(self) -> dict[str, Tensor]:
            return {"values": self.values.add_(1)}

    with caller(Reuses()).encoded(FRAMES) as clips:
        first, second = clips.segment(AUDIO, no_rows), clips.segment(AUDIO, no_rows)
    assert (first.extras["values"].max(), second.extras["values"].max()) == (1, 2)


# Several conditions at once


class Many(Model):
    calls = 0

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        return super().segment(encoded, audio)

    def segment_many(self, encoded: Any, audio: Tensor, rows: Any) -> Any:
        assert list(rows) == []
        self.calls += 1
        return (self.segment(encoded, one) for one in audio)


class OnlyOne(Many):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        return 1 - super().segment(encoded, audio)


def test_an_output_that_is_the_last_one_again_is_copied_once() -> None:
    class Deaf(Model):
        held = torch.zeros(2, 5, 4, 6)

        def segment(self, encoded: Any, audio: Tensor) -> Tensor:
            super().segment(encoded, audio)
            # One tensor for all answers, as research code keeps it; deaf to all but silence.
            return self.held.fill_(0.75 if audio.any() else 0.25)

    model = Deaf()
    with caller(model).encoded(FRAMES) as clips:
        loud, quiet, silent, again = (clips.segment(AUDIO * gain, no_rows) for gain in (1, 0.5, 0, 1))
    model.held.zero_()
    assert loud.masks is quiet.masks
    assert [float(output.masks.mean()) for output in (loud, quiet, silent, again)] == [0.75, 0.75, 0.25, 0.75]
    assert loud.extras["level"].max() > quiet.extras["level"].max() > silent.extras["level"].max()


def test_several_conditions_are_what_each_is_alone() -> None:
    sounds, views = [AUDIO, AUDIO / 2, AUDIO / 4], [no_rows] * 3
    model = Many()
    with caller(model).encoded(FRAMES) as clips:
        alone = [clips.segment(sound, no_rows) for sound in sounds]
        together = list(clips.segment_many(sounds, views))
    assert model.calls == 1
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.masks, other.masks)
        # The further values are those of the output that was yielded last.
        assert one.extras["level"].tolist() == other.extras["level"].tolist()


@pytest.mark.parametrize("adapter", [Model, OnlyOne])
def test_one_call_each_where_the_adapter_has_nothing_else_or_changes_segment_in_a_subclass(
    adapter: type[Model],
) -> None:
    model = adapter()
    with caller(model).encoded(FRAMES) as clips:
        alone = clips.segment(AUDIO / 2, no_rows)
        together = list(clips.segment_many([AUDIO, AUDIO / 2], [no_rows] * 2))
    assert torch.equal(together[1].masks, alone.masks)
    assert getattr(model, "calls", 0) == 0


@pytest.mark.parametrize(("count", "found"), [(1, "1"), (3, "more than 2")])
def test_another_number_of_outputs_is_refused(count: int, found: str) -> None:
    class Wrong(Many):
        def segment_many(self, encoded: Any, audio: Tensor, rows: Any) -> Any:
            return [self.segment(encoded, audio[0])] * count

    with (
        caller(Wrong()).encoded(FRAMES) as clips,
        pytest.raises(AdapterOutputError, match=rf"^model: segment_many returned {found} outputs for 2 conditions"),
    ):
        list(clips.segment_many([AUDIO, AUDIO / 2], [no_rows] * 2))


def test_an_error_while_several_conditions_are_yielded_is_one_line() -> None:
    class Breaks(Many):
        def segment_many(self, encoded: Any, audio: Tensor, rows: Any) -> Any:
            yield self.segment(encoded, audio[0])
            raise ValueError("two\nlines")

    with (
        caller(Breaks()).encoded(FRAMES) as clips,
        pytest.raises(
            AdapterError,
            match=r"^model: segment_many raised ValueError: two lines \(test_adapters_calling\.py, line \d+\)$",
        ),
    ):
        list(clips.segment_many([AUDIO, AUDIO / 2], [no_rows] * 2))

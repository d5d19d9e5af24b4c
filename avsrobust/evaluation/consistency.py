"""The check that an adapter returns the same masks for the same clip and audio, whatever was run before.

Conventions
    The first clips of an evaluation are run twice, with fresh encodings: first as they will be scored, then in the reverse order
    of clips and conditions, in batches of the same clips, so that every kernel sees the same shapes. The second run must repeat
    the masks of the first. Where it does not, further calls on one row find the likely cause: an encoding that is changed
    in place, state that is kept from call to call, layers in training mode, random numbers.
    Probabilities may differ by `TOLERANCE` and class ids in that share of the pixels: kernels that are chosen anew (cuDNN's
    autotuner, TF32) differ by less than a thousandth; dropout, state and in-place changes by far more.
    Where batches have several clips, one row of each is run again with its clip alone: kernels may round otherwise for another
    batch size, and the model may amplify that here and there (`BATCH_TOLERANCE`), but not in `BATCH_SHARE` of the values.
    An adapter with `needs_seed` repeats its masks even where dropout is left on, since its generators are seeded: layers in
    training mode and calls of dropout functions are refused for it whatever the masks are.
    States of torch's, numpy's and Python's generators are put back, so that the evaluation does not depend on the check.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from avsrobust.adapters.calling import AdapterCaller
from avsrobust.adapters.checked_output import CheckedOutput
from avsrobust.adapters.encodings import EncodingChangedError
from avsrobust.adapters.outputs import ExtraValues, copied
from avsrobust.adapters.randomness import DropoutWatch, generators_kept, seed_generators
from avsrobust.errors import AdapterError, ClipError
from avsrobust.evaluation.batches import ClipGroup, LoadedClip, load_batch, of_one_shape, plan_batches
from avsrobust.evaluation.clip_data import ClipRows
from avsrobust.evaluation.scoring import OutputCallback, segment_batch
from avsrobust.evaluation.sound import SoundReader
from avsrobust.vocabulary import BACKGROUND

MOST_CLIPS = 2
TOLERANCE = 1e-3
BATCH_TOLERANCE = 0.05
BATCH_SHARE = 0.02
# Of larger outputs every n-th value is compared.
_MOST_VALUES = 1 << 20
_SEED = 20261127
_SKIP = "--no-check skips this comparison"
_Key = tuple[int, int]


@dataclass(frozen=True)
class _Answer:
    """The compared part of an output.

    Attributes:
        probability: Probability of the foreground, float32, flat; every n-th value of large outputs.
        ids: Class ids of the same pixels, or None.
        extras: Further values by name, float64 [B, T].
        parts: Masks of its own, and the same of readouts, by name.
    """

    probability: npt.NDArray[np.float32]
    ids: npt.NDArray[np.integer] | None
    extras: ExtraValues
    parts: Mapping[str, _Answer] = field(default_factory=dict)

    @classmethod
    def of(cls, answer: CheckedOutput) -> _Answer:
        """Reduce a checked output."""
        parts = {name: cls.of(readout) for name, readout in answer.readouts.items()}
        if answer.mask is not None:
            parts["mask "] = cls._of_tensor(copied(answer.mask, torch.uint8), True, {})
        return replace(cls._of_tensor(answer.masks, answer.is_classes, answer.extras), parts=parts)

    @classmethod
    def _of_tensor(cls, output: Tensor, is_classes: bool, extras: ExtraValues) -> _Answer:
        """Reduce masks, [B, T, h, w] or [B, T, C, h, w]."""
        if not is_classes:
            return cls(_sample(output), None, extras)
        if output.ndim == 4:
            ids = _sample(output)
            return cls((ids != BACKGROUND).astype(np.float32), ids, extras)
        # Frame by frame, as the softmax of a whole clip of 71 classes would need gigabytes.
        frames = output.flatten(0, 1)
        probability = torch.stack([1.0 - logits.softmax(dim=0)[BACKGROUND] for logits in frames])
        return cls(_sample(probability), _sample(torch.stack([logits.argmax(dim=0) for logits in frames])), extras)

    def difference(self, other: _Answer) -> float:
        """Return the largest difference to another answer, infinity for other shapes or kinds."""
        if self.probability.shape != other.probability.shape or self.extras.keys() != other.extras.keys():
            return float("inf")
        if (self.ids is None) != (other.ids is None) or self.parts.keys() != other.parts.keys():
            return float("inf")
        if self.ids is not None and other.ids is not None:
            found = float((self.ids != other.ids).mean())
        else:
            found = float(np.abs(self.probability - other.probability).max())
        for name, values in self.extras.items():
            scale = max(1.0, float(np.abs(values).max(initial=0.0)))
            found = max(found, float(np.abs(values - other.extras[name]).max(initial=0.0)) / scale)
        return max([found, *(part.difference(other.parts[name]) for name, part in self.parts.items())])

    def share_apart(self, other: _Answer) -> float:
        """Return the share of values that differ by over `BATCH_TOLERANCE`, or of ids that differ; 1 for other shapes."""
        if self.probability.shape != other.probability.shape or (self.ids is None) != (other.ids is None):
            return 1.0
        if self.ids is not None and other.ids is not None:
            return float((self.ids != other.ids).mean())
        return float((np.abs(self.probability - other.probability) > BATCH_TOLERANCE).mean())


def check_consistency(
    caller: AdapterCaller,
    clips: Sequence[ClipRows],
    data_root: Path,
    sounds: SoundReader,
    batch_size: int,
) -> None:
    """Run the first clips twice and compare.

    Clips that cannot be read, and ones on which the adapter fails the first time, are left to the evaluation.

    Args:
        caller: Caller of the adapter.
        clips: Clips of the evaluation, of which the first `MOST_CLIPS` are run.
        data_root: Folder of the data set.
        sounds: Reader of the rows' audio.
        batch_size: Most clips in a batch.

    Raises:
        AdapterError: The masks differ; the message names the likely cause.
    """
    first = list(clips[:MOST_CLIPS])
    batches: list[list[LoadedClip]] = []
    for planned in plan_batches(first, sounds.build, data_root, min(batch_size, MOST_CLIPS)):
        loaded = load_batch(planned, sounds.build, data_root, sounds)
        batches += of_one_shape([clip for clip in loaded if isinstance(clip, LoadedClip)])
    with generators_kept():
        _Comparison(caller).run(batches)


class _Comparison:
    """Runs batches in two orders and explains the difference."""

    def __init__(self, caller: AdapterCaller) -> None:
        self._caller = caller
        self._adapter = caller.adapter
        self._name = caller.name

    def run(self, batches: Sequence[Sequence[LoadedClip]]) -> None:
        """Raise `AdapterError` where the second run does not repeat the first."""
        statistics = _running_statistics(self._adapter)
        watch = DropoutWatch() if self._caller.needs_seed else None
        first: dict[_Key, _Answer] = {}
        for number, batch in enumerate(batches):
            answers: dict[_Key, _Answer] = {}
            try:
                # The contents too: changes that bypass the count of changes are found here or nowhere.
                with watch or nullcontext():
                    segment_batch(
                        self._caller,
                        ClipGroup.of(batch),
                        range(len(batch[0].sample.rows)),
                        _keep(answers, number),
                        compare_contents=True,
                    )
            except EncodingChangedError:
                raise
            except AdapterError:
                continue
            first |= answers
        if watch is not None and (cause := dropout_left_on(self._adapter, watch)):
            raise AdapterError(f"{self._name}: {cause}; {_SKIP}")
        for number in reversed(range(len(batches))):
            segmented = [position for key, position in reversed(first) if key == number]
            self._compare(batches[number], number, segmented, first)
        for layer, versions in _running_statistics(self._adapter).items():
            if versions != statistics.get(layer):
                raise AdapterError(
                    f"{self._name}: {layer} is in training mode: masks depend on the other clips of a batch, and its running "
                    f"statistics change while it segments; call .eval() in load; {_SKIP}"
                )

        for number, batch in enumerate(batches):
            segmented = [position for key, position in first if key == number]
            if segmented and len(batch) > 1:
                self._compare_alone(batch, segmented[0])

    def _compare(
        self, batch: Sequence[LoadedClip], number: int, positions: Sequence[int], first: Mapping[_Key, _Answer]
    ) -> None:
        if not positions:
            return
        second: dict[_Key, _Answer] = {}
        try:
            segment_batch(self._caller, ClipGroup.of(batch), positions, _keep(second, number))
        except ClipError:
            # A worker that ended, say: the evaluation lists such clips.
            return
        except AdapterError as error:
            raise AdapterError(
                f"{error} (in a second run of {batch[0].sample.rows[0].clip_id}, after a first one that succeeded: "
                f"it keeps state from one call to the next; {_SKIP})"
            ) from error
        for key, answer in second.items():
            difference = first[key].difference(answer)
            # NaN is a difference too.
            if not difference <= TOLERANCE:
                raise AdapterError(self._explain(batch, key[1], difference))

    def _compare_alone(self, batch: Sequence[LoadedClip], position: int) -> None:
        """Raise `AdapterError` where a clip's masks differ without the rest of the batch."""
        try:
            together = self._output(batch, position)
            alone = [self._output([clip], position) for clip in batch]
        except AdapterError:
            # The evaluation meets it again where it matters: it may have no batches of one clip.
            return
        for index, (clip, own) in enumerate(zip(batch, alone, strict=True)):
            share = _Answer.of(CheckedOutput(together.masks[index : index + 1], {})).share_apart(
                _Answer.of(CheckedOutput(own.masks, {}))
            )
            if share > BATCH_SHARE:
                row = clip.sample.rows[position]
                raise AdapterError(
                    f"{self._name}: {share:.0%} of the mask of {row.split}/{row.clip_id} under {row.condition} is another when "
                    "the clip is segmented alone: masks depend on the other clips of a batch, or on the place in it; compute "
                    f"and draw nothing across the first axis, or take --batch-size 1; {_SKIP}"
                )

    def _output(self, batch: Sequence[LoadedClip], position: int) -> CheckedOutput:
        outputs: list[CheckedOutput] = []
        segment_batch(self._caller, ClipGroup.of(batch), [position], lambda _position, output: outputs.append(output))
        return outputs[0]

    def _explain(self, batch: Sequence[LoadedClip], position: int, difference: float) -> str:
        row = batch[0].sample.rows[position]
        found = f"{self._name}: the masks of {row.split}/{row.clip_id} under {row.condition} differ by up to {difference:.3g}"
        layer = training_layer(self._adapter)
        repeated = self._repeat(batch, position, seeded=False)
        if repeated > TOLERANCE and layer:
            return f"{found} from run to run, and {layer} is in training mode; call .eval() in load; {_SKIP}"
        if repeated > TOLERANCE and self._repeat(batch, position, seeded=True) <= TOLERANCE:
            return (
                f"{found} from run to run, but not when torch, numpy and random are seeded: segment draws random numbers "
                f"(dropout of functions is on by default: training=False); seed them in segment; {_SKIP}"
            )
        if repeated > TOLERANCE:
            return (
                f"{found} from run to run: it keeps state from one call to the next, or draws random numbers (dropout: call "
                f".eval() in load); start every segment from what encode_frames returned, seed what is drawn; {_SKIP}"
            )
        return (
            f"{found} where other clips and conditions were run before: it keeps state from one call to the next; return what "
            f"segment needs from encode_frames and reset everything else; {_SKIP}"
        )

    def _repeat(self, batch: Sequence[LoadedClip], position: int, *, seeded: bool) -> float:
        """Return by how much the masks of one row differ between runs that follow each other."""
        answers: list[_Answer] = []
        # The first one follows calls on other rows.
        for _ in range(3):
            if seeded:
                seed_generators(_SEED)
            answer: dict[_Key, _Answer] = {}
            segment_batch(self._caller, ClipGroup.of(batch), [position], _keep(answer, 0))
            answers += answer.values()
        return answers[1].difference(answers[2])


def dropout_left_on(adapter: object, watch: DropoutWatch) -> str:
    """Return how an adapter drops values while it segments, and the remedy; "" where it does not.

    Args:
        adapter: The adapter.
        watch: Has watched its calls.
    """
    if layer := training_layer(adapter):
        return f"{layer} is in training mode; call .eval() in load"
    if watch.found:
        return f"it calls {watch.found} while it segments; pass training=False, or call .eval() in load"
    return ""


def training_layer(adapter: object) -> str:
    """Return the path of a layer of the adapter that is in training mode and acts otherwise there, "" for none."""
    layers = _training_layers(adapter)
    return next((path for path, layer in layers if _acts_in_training(layer)), "")


def _running_statistics(adapter: object) -> dict[str, list[int]]:
    """Return how often the statistics of each batch normalisation in training mode were changed so far."""
    return {
        path: [buffer._version for buffer in layer.buffers() if not buffer.is_inference()]
        for path, layer in _training_layers(adapter)
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
    }


def _training_layers(adapter: object) -> Iterator[tuple[str, nn.Module]]:
    for path, module in _modules(adapter):
        for name, layer in module.named_modules():
            if layer.training:
                yield ".".join(filter(None, (path, name))) or type(layer).__name__, layer


def _acts_in_training(layer: nn.Module) -> bool:
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return True
    rates = (getattr(layer, name, None) for name in ("p", "dropout", "drop_prob"))
    return any(isinstance(rate, float) and rate > 0 for rate in rates)


def _modules(adapter: object) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that an adapter is or holds, also in lists, dicts and objects of its own."""
    seen: set[int] = set()
    waiting: list[tuple[str, object, int]] = [("", adapter, 0)]
    while waiting:
        path, value, depth = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module):
            yield path, value
        elif depth < 4:
            if isinstance(value, dict):
                parts: Iterable[tuple[object, object]] = list(value.items())
            elif isinstance(value, list | tuple):
                parts = list(enumerate(value))
            else:
                parts = list(getattr(value, "__dict__", {}).items()) if not isinstance(value, type) else []
            waiting += [(f"{path}.{name}".lstrip("."), part, depth + 1) for name, part in parts]


def _keep(answers: dict[_Key, _Answer], number: int) -> OutputCallback:
    def take(position: int, output: CheckedOutput) -> None:
        answers[number, position] = _Answer.of(output)

    return take


def _sample(values: Tensor) -> npt.NDArray[Any]:
    flat = values.reshape(-1)
    return flat[:: max(1, -(-flat.numel() // _MOST_VALUES))].cpu().numpy().copy()

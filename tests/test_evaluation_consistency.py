"""Adapters whose masks depend on what was run before, and ones that only look so."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from avsrobust.adapters.base import Adapter
from avsrobust.adapters.baselines import Oracle
from avsrobust.adapters.predictions import Predictions
from avsrobust.adapters.worker import Worker
from avsrobust.errors import AdapterError
from avsrobust.evaluation.consistency import training_layer
from avsrobust.evaluation.runner import evaluate
from avsrobust.files import sha256_of_file
from avsrobust.manifest import Manifest

CPU = torch.device("cpu")


class Pure(Adapter):
    """Depends on its frames and its sound alone."""

    def encode_frames(self, frames: Tensor) -> Any:
        return frames.float().mean(dim=2) / 255

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        return (encoded * 0.8 + self.level(audio)).clamp(0, 1)

    @staticmethod
    def level(audio: Tensor) -> Tensor:
        return 0.5 * (30 * audio.mean(dim=(2, 3, 4)))[..., None, None].tanh().abs()


class InPlace(Pure):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        encoded += self.level(audio)
        return encoded.clamp(0, 1)


class InPlaceOnAView(Pure):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        encoded[:, 2:].add_(self.level(audio)[:, 2:])
        return encoded.clamp(0, 1)


@dataclass
class Pyramid:
    levels: list[dict[str, Tensor]]


class InPlaceDeepInside(Pure):
    def encode_frames(self, frames: Tensor) -> Any:
        return (Pyramid([{"fine": super().encode_frames(frames)}]), "text")

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        fine = encoded[0].levels[0]["fine"]
        fine.mul_(0.9)
        return (fine + self.level(audio)).clamp(0, 1)


class InPlaceBehindTheCount(Pure):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        encoded.data.add_(self.level(audio))
        return encoded.clamp(0, 1)


class InPlaceUnderInferenceMode(Pure):
    @torch.inference_mode()
    def encode_frames(self, frames: Tensor) -> Any:
        return super().encode_frames(frames)

    @torch.inference_mode()
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        encoded += self.level(audio)
        return encoded.clamp(0, 1)


class InPlaceInNumpy(Pure):
    def encode_frames(self, frames: Tensor) -> Any:
        return {"features": super().encode_frames(frames).numpy().copy()}

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        encoded["features"] += self.level(audio).numpy()
        return torch.from_numpy(encoded["features"].copy()).clamp(0, 1)


class InPlaceInSharedMemory(InPlaceInNumpy):
    """Arrays that show a tensor's memory cannot be made read-only and writeable again."""

    def encode_frames(self, frames: Tensor) -> Any:
        return {"features": Pure.encode_frames(self, frames).numpy()}


class KeepsTheLastSound(Pure):
    last = 0.0

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        answer = (super().segment(encoded, audio) + 0.2 * self.last).clamp(0, 1)
        self.last = float(self.level(audio).max())
        return answer


class KeepsTheLastClip(Pure):
    last: Tensor | None = None
    present: Tensor | None = None

    def encode_frames(self, frames: Tensor) -> Any:
        self.last, self.present = self.present, super().encode_frames(frames)
        return self.present

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        before = encoded if self.last is None else self.last
        return (super().segment(encoded, audio) * 0.5 + 0.5 * before).clamp(0, 1)


class Counts(Pure):
    calls = 0

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        self.calls += 1
        return (super().segment(encoded, audio) * 0.5 + self.calls / 100).clamp(0, 1)


class Layers(Pure):
    def __init__(self, *layers: nn.Module) -> None:
        self.parts = {"head": nn.Sequential(*layers)}

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        return self.parts["head"](super().segment(encoded, audio)).clamp(0, 1)


class Draws(Pure):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        noise = torch.rand_like(encoded) + float(np.random.random())  # noqa: NPY002
        return (super().segment(encoded, audio) * 0.5 + 0.2 * noise).clamp(0, 1)


class DrawsFromItsOwn(Pure):
    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(1)

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        noise = torch.rand(encoded.shape, generator=self.generator)
        return (super().segment(encoded, audio) * 0.5 + 0.2 * noise).clamp(0, 1)


class MixesTheBatch(Pure):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        answer = super().segment(encoded, audio)
        return (answer + answer.flip(0)) / 2


class CountsTheBatch(Pure):
    """Of class ids: the second clip has others than the first."""

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        first = torch.arange(len(encoded))[:, None, None, None]
        return ((super().segment(encoded, audio) > 0.2) * (1 + first)).to(torch.int64)


class RoundsOtherwise(Pure):
    """As kernels do that are chosen by the size of the batch, amplified by the model in a few pixels."""

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        answer = super().segment(encoded, audio) * (1 - 0.002 * len(encoded))
        answer[..., 0, 0] = float(len(encoded) > 1)
        return answer


class DrawsSeeded(Draws):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        noise = torch.rand(encoded.shape, generator=torch.Generator().manual_seed(3))
        return (Pure.segment(self, encoded, audio) * 0.5 + 0.2 * noise).clamp(0, 1)


class CachesInItsEncoding(Pure):
    def encode_frames(self, frames: Tensor) -> Any:
        return {"frames": super().encode_frames(frames)}

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        encoded.setdefault("halved", encoded["frames"] / 2)
        return (encoded["halved"] + self.level(audio)).clamp(0, 1)


class UsesItsBufferAgain(Pure):
    def __init__(self) -> None:
        self.buffer = np.zeros((1, 5, 24, 32), np.float32)

    def encode_frames(self, frames: Tensor) -> Any:
        self.buffer[:] = super().encode_frames(frames).numpy()
        return self.buffer

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        return super().segment(torch.tensor(encoded), audio)


class FailsWhenRunAgain(Pure):
    def __init__(self) -> None:
        self.seen: set[float] = set()

    def encode_frames(self, frames: Tensor) -> Any:
        if float(frames.float().mean()) in self.seen:
            raise RuntimeError("seen before")
        self.seen.add(float(frames.float().mean()))
        return super().encode_frames(frames)


IN_PLACE = "segment changes the encoded frames in place"
WRONG: list[tuple[Callable[[], Adapter], str]] = [
    (InPlace, rf"{IN_PLACE}, .*write e = e \+ x instead of e \+= x"),
    (InPlaceOnAView, IN_PLACE),
    (InPlaceDeepInside, rf"{IN_PLACE} \(\[0\]\.levels\[0\]\['fine'\]\)"),
    (InPlaceBehindTheCount, IN_PLACE),
    (InPlaceUnderInferenceMode, IN_PLACE),
    (
        InPlaceInNumpy,
        r"segment raised ValueError: .*read-only.*; what encode_frames returned is used again for the next condition: copy it",
    ),
    (InPlaceInSharedMemory, rf"{IN_PLACE} \(\['features'\]\)"),
    (KeepsTheLastSound, "under .* differ by up to .* where other clips and conditions were run before: it keeps state"),
    (KeepsTheLastClip, "the masks of test/group/clip1 .*where other clips .* were run before: it keeps state"),
    (Counts, "from run to run: it keeps state"),
    (lambda: Layers(nn.Dropout(0.3)), r"parts\.head\.0 is in training mode; call \.eval\(\) in load; --no-check skips"),
    (lambda: Layers(nn.BatchNorm2d(5)), r"parts\.head\.0 is in training mode: masks depend on the other clips"),
    (Draws, "not when torch, numpy and random are seeded: segment draws random numbers"),
    (DrawsFromItsOwn, "from run to run: it keeps state .*or draws random numbers"),
    (FailsWhenRunAgain, r"RuntimeError: seen before \(.*\) \(in a second run of group/clip1, .*keeps state"),
]


def name_of(case: Any) -> str:
    return getattr(case, "__name__", "layers") if callable(case) else ""


@pytest.mark.parametrize(("make", "message"), WRONG, ids=name_of)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_masks_that_depend_on_earlier_calls_are_an_error_that_says_why(
    tiny_build: Manifest, tmp_path: Path, make: Callable[[], Adapter], message: str, batch_size: int
) -> None:
    if make is KeepsTheLastClip and batch_size == 2:
        pytest.skip("the clips of one batch come together both times")
    message = message.replace("clip1, ", "clip[01], ")
    with pytest.raises(AdapterError, match=message) as caught:
        evaluate(tiny_build, make(), name="model", output=tmp_path / "out", batch_size=batch_size)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "scores.parquet").exists()


@pytest.mark.parametrize("make", [MixesTheBatch, CountsTheBatch, DrawsSeeded])
def test_masks_that_depend_on_the_batch_are_refused_in_batches_alone(
    tiny_build: Manifest, tmp_path: Path, make: Callable[[], Adapter]
) -> None:
    message = (
        r"% of the mask of test/group/clip[01] under \w+ is another when the clip is segmented alone.*--batch-size 1"
    )
    with pytest.raises(AdapterError, match=message):
        evaluate(tiny_build, make(), name="model", output=tmp_path / "out", batch_size=2)
    evaluate(tiny_build, make(), name="model", output=tmp_path / "out", batch_size=1)


def test_other_rounding_in_a_batch_is_no_fault(tiny_build: Manifest, tmp_path: Path) -> None:
    evaluate(tiny_build, RoundsOtherwise(), name="model", output=tmp_path / "out", batch_size=2)


@pytest.mark.parametrize(
    "make",
    [
        Pure,
        Oracle,
        DrawsSeeded,
        CachesInItsEncoding,
        UsesItsBufferAgain,
        lambda: eval_layers(),
    ],
    ids=name_of,
)
def test_adapters_that_repeat_their_masks_score_as_without_the_check(
    tiny_build: Manifest, tmp_path: Path, make: Callable[[], Adapter]
) -> None:
    digests = {
        sha256_of_file(evaluate(tiny_build, make(), name="model", output=tmp_path / str(check), check=check).scores)
        for check in (True, False)
    }
    assert len(digests) == 1


def eval_layers() -> Adapter:
    adapter = Layers(nn.Dropout(0.3), nn.BatchNorm2d(5))
    adapter.parts["head"].eval()
    return adapter


@pytest.mark.parametrize("make", [KeepsTheLastSound, Draws, Counts, lambda: Layers(nn.Dropout(0.3))], ids=name_of)
def test_the_check_can_be_skipped(tiny_build: Manifest, tmp_path: Path, make: Callable[[], Adapter]) -> None:
    report = evaluate(tiny_build, make(), name="model", output=tmp_path, check=False)
    assert report.failed == ()


def test_a_change_in_place_that_begins_later_costs_its_clips(
    make_build: Callable[..., Manifest], tmp_path: Path
) -> None:
    build = make_build(clips=5)

    class Late(Pure):
        encoded = 0

        def encode_frames(self, frames: Tensor) -> Any:
            self.encoded += 1
            return super().encode_frames(frames)

        def segment(self, encoded: Any, audio: Tensor) -> Tensor:
            if self.encoded > 7:
                encoded.mul_(0.5)
            return super().segment(encoded, audio)

    report = evaluate(build, Late(), name="model", output=tmp_path / "out")
    assert [failure.clip_id for failure in report.failed] == ["group/clip3", "group/clip4"]
    assert all(IN_PLACE in failure.error for failure in report.failed)


def test_the_check_leaves_random_generators_as_they_were(tiny_build: Manifest, tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with pytest.raises(AdapterError, match="draws random numbers"):
        evaluate(tiny_build, Draws(), name="model", output=tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_stored_predictions_pass(tiny_build: Manifest, tmp_path: Path) -> None:
    saved = evaluate(tiny_build, Pure(), name="model", output=tmp_path / "a", save_masks=True)
    predictions = Predictions.load(None, CPU, masks=str(saved.masks))
    assert evaluate(tiny_build, predictions, name="model", output=tmp_path / "b").failed == ()


WORKER = """
import numpy as np, avsrobust_worker

class Model:
    audio = "log_mel"
    def __init__(self, checkpoint, device, options):
        self.kind = options.get("kind")
    def encode_frames(self, frames):
        return frames.astype("float32").mean(2) / 255
    def segment(self, encoded, audio):
        sound = 0.3 * np.abs(np.tanh(30 * audio.mean((2, 3, 4))))[..., None, None]
        if self.kind == "in place":
            encoded += sound
            return encoded.clip(0, 1)
        noise = np.random.random(encoded.shape) * 0.2 if self.kind == "draws" else 0
        return (encoded * 0.5 + sound + noise).clip(0, 1).astype("float32")

avsrobust_worker.serve(Model)
"""


def test_workers_are_checked_too(tiny_build: Manifest, tmp_path: Path) -> None:
    (tmp_path / "w.py").write_text(WORKER)

    def run(kind: str) -> Any:
        worker = Worker.load(None, CPU, command=f"'{sys.executable}' '{tmp_path / 'w.py'}'", kind=kind)
        return evaluate(tiny_build, worker, name="model", output=tmp_path / kind)

    assert run("pure").failed == ()
    with pytest.raises(AdapterError, match="where other clips and conditions were run before: it keeps state"):
        run("in place")
    with pytest.raises(AdapterError, match=r"from run to run: it keeps state .*or draws random numbers"):
        run("draws")


def test_an_adapter_that_needs_gradients_is_told_how(tiny_build: Manifest, tmp_path: Path) -> None:
    class Saliency(Pure):
        enabled = False

        def segment(self, encoded: Any, audio: Tensor) -> Tensor:
            with torch.set_grad_enabled(self.enabled):
                leaf = encoded.clone().requires_grad_()
                (gradient,) = torch.autograd.grad((leaf * audio.mean()).square().sum(), leaf)
                return gradient.abs().clamp(0, 1)

    with pytest.raises(AdapterError, match=r"does not require grad.*block 'with torch\.enable_grad\(\):'"):
        evaluate(tiny_build, Saliency(), name="model", output=tmp_path / "a")
    adapter = Saliency()
    adapter.enabled = True
    assert evaluate(tiny_build, adapter, name="model", output=tmp_path / "b").failed == ()


def test_layers_in_training_mode_are_found_wherever_they_are() -> None:
    class Holder:
        def __init__(self, network: nn.Module) -> None:
            self.models = [{"network": network}]
            self.loop = self

    quiet = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0))
    assert training_layer(Holder(quiet)) == ""
    assert training_layer(Holder(nn.Sequential(quiet, nn.Dropout(0.1)))) == "models.0.network.1"
    assert training_layer(Holder(nn.Sequential(nn.Dropout(0.1)).eval())) == ""
    assert training_layer(nn.TransformerEncoderLayer(8, 2)).endswith("self_attn")

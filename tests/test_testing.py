from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avsrobust import testing
from avsrobust.adapters.base import Adapter, AudioInput
from avsrobust.errors import AdapterError
from avsrobust.testing import AdapterCheck, check_adapter


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller pictures than AVSBench's, for speed."""
    monkeypatch.setattr(testing, "SIZES", ((32, 32), (24, 40), (17, 23)))


class Good(Adapter):
    """Does everything right, at a size of its own."""

    def encode_frames(self, frames: Tensor) -> Any:
        return torch.nn.functional.adaptive_avg_pool2d(frames.float().mean(dim=2) / 255, 8)

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        loudness = audio.flatten(2).mean(dim=2) if audio.ndim > 2 else audio.reshape(*encoded.shape[:2], -1).mean(dim=2)
        return torch.sigmoid(50 * (encoded - 0.5) + 20 * loudness[..., None, None])


class Waveforms(Good):
    audio = AudioInput.waveform(16000)


class Embeddings(Good):
    audio = "embedding"  # type: ignore[assignment]


class ClassLogits(Good):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        foreground = 20 * super().segment(encoded, audio)
        return torch.stack([torch.zeros_like(foreground), foreground - 9, -foreground], dim=2)


class ClassIds(ClassLogits):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        return super().segment(encoded, audio).argmax(dim=2)


class BatchClasses(ClassIds):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        return (super().segment(encoded, audio) + len(audio)) % 3


class NowAndThenClasses(ClassIds):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        answer = super().segment(encoded, audio)
        return answer if len(audio) == 1 else answer.float() / 3


class WrongShape(Good):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        return super().segment(encoded, audio)[:, 0]


class Logits(Good):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        return super().segment(encoded, audio) * 8 - 4


class NotANumber(Good):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        return super().segment(encoded, audio) / 0 * 0


class Booleans(Good):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        return super().segment(encoded, audio) > 0.5


class Elsewhere(Good):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        return super().segment(encoded, audio).to("meta")


class FiveFrames(Good):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        return super().segment(encoded, audio)[:, :5]


class OneSize(Good):
    def encode_frames(self, frames: Tensor) -> Any:
        if frames.shape[-1] != 32:
            raise RuntimeError("size mismatch")
        return super().encode_frames(frames)


class BatchNorm(Good):
    def encode_frames(self, frames: Tensor) -> Any:
        encoded = super().encode_frames(frames)
        return encoded - encoded.mean() + torch.rand(()) * 0 + 0.5 * len(frames) - 0.5


class MeanOfTheBatch(Good):
    def encode_frames(self, frames: Tensor) -> Any:
        encoded = super().encode_frames(frames)
        return (encoded - encoded.mean() + 0.5).clamp(0, 1)


class Random(Good):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        return torch.rand(encoded.shape)


class RemembersSound(Good):
    before: Tensor | None = None

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        answer = super().segment(encoded, audio)
        mixed = answer if self.before is None or self.before.shape != answer.shape else (answer + self.before) / 2
        self.before = answer
        return mixed


class SpoilsEncoding(Good):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        answer = super().segment(encoded, audio)
        encoded.mul_(0.5)
        return answer


class RemembersFrames(Good):
    def encode_frames(self, frames: Tensor) -> Any:
        self.features = super().encode_frames(frames)

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        return super().segment(self.features, audio)


class SpoilsFrames(Good):
    def encode_frames(self, frames: Tensor) -> Any:
        return super().encode_frames(frames.clamp_(max=100))


class SpoilsAudio(Good):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        return super().segment(encoded, audio.sub_(audio.mean()))


class Reuses(Good):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        answer = super().segment(encoded, audio)
        if getattr(self, "buffer", torch.zeros(0)).shape != answer.shape:
            self.buffer = torch.zeros_like(answer)
        return self.buffer.copy_(answer)


class Quits(Good):
    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        raise SystemExit(0)


def test_pictures_have_avsbenchs_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    names = [result.name for result in check_adapter(Good).results]
    assert "it takes frames of 180x320" in names


@pytest.mark.parametrize(
    "adapter", [Good, Good(), Waveforms, Embeddings, ClassLogits, ClassIds, "oracle", "visual_prior", "empty"]
)
def test_good_adapters_pass(adapter: Any) -> None:
    report = check_adapter(adapter)
    assert report.passed, report
    assert len(report.results) == 11
    report.raise_if_failed()


@pytest.mark.parametrize(
    ("adapter", "check", "message"),
    [
        (WrongShape, "it returns probabilities", r"returned shape \[1, 8, 8\]"),
        (Logits, "it returns probabilities", "are they logits"),
        (NotANumber, "it returns probabilities", "returned NaN"),
        (Booleans, "it returns probabilities", "returned dtype bool"),
        (Elsewhere, "it returns probabilities", "returned a tensor on meta"),
        (Quits, "it returns probabilities", "segment raised SystemExit"),
        (FiveFrames, "clips of 10 frames", r"returned shape \[1, 5, 8, 8\]; expected probabilities \[B=1, T=10"),
        (OneSize, "frames of 24x40", "encode_frames raised RuntimeError: size mismatch .*; .*resize .* inside"),
        (BatchNorm, "two clips in a batch", "the batch changes a clip's mask"),
        (MeanOfTheBatch, "two clips in a batch", "the batch changes a clip's mask"),
        (BatchClasses, "two clips in a batch", "class ids differ in 1 of the pixels: the batch changes a clip's mask"),
        (NowAndThenClasses, "two clips in a batch", "probabilities or logits here, class ids there"),
        (Random, "the same input gives the same output", "training mode, or does it draw random numbers"),
        (RemembersSound, "from one sound to the next", "changed by segment"),
        (SpoilsEncoding, "from one sound to the next", "the encoding or the adapter itself is changed"),
        (RemembersFrames, "from one clip to the next", "encode_frames stores something"),
        (SpoilsFrames, "inputs stay", "frames are changed in place"),
        (SpoilsAudio, "inputs stay", "audio are changed in place"),
        (Reuses, "not overwritten", "returns a view of a buffer that it uses again"),
    ],
)
def test_each_broken_rule_is_found_and_explained(adapter: type[Adapter], check: str, message: str) -> None:
    report = check_adapter(adapter)
    assert not report.passed
    failure = next(result for result in report.failures if check in result.name)
    with pytest.raises(AdapterError, match=message):
        raise AdapterError(failure.message)
    with pytest.raises(AdapterError, match=f"{adapter.__name__}: .*{check}"):
        report.raise_if_failed()
    assert f"FAILED  {failure.name}" in str(report)


def test_baselines_pass_in_classes_too() -> None:
    for name in ("oracle", "visual_prior", "empty"):
        assert check_adapter(name, task="semantic").passed


def test_one_broken_rule_is_one_failure() -> None:
    for adapter in (FiveFrames, OneSize, SpoilsFrames, Reuses, SpoilsEncoding):
        expected = 2 if adapter is OneSize else 1
        assert len(check_adapter(adapter).failures) == expected, adapter


def test_what_cannot_be_loaded_is_explained(tmp_path: Path) -> None:
    for report, message in (
        (check_adapter("orcale"), "did you mean 'oracle'"),
        (check_adapter(Good, size="3"), "Good takes no options"),
        (check_adapter(Good, checkpoint=tmp_path / "none"), "not found; expected the weights of Good"),
        (check_adapter("predictions"), "found no --option masks"),
    ):
        assert isinstance(report, AdapterCheck)
        assert [result.name for result in report.failures] == ["it loads"]
        assert message in report.failures[0].message


def test_files_and_options_are_handed_to_load(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "import torch\n"
        "class Model:\n"
        "    audio = 'log_mel'\n"
        "    @classmethod\n"
        "    def load(cls, checkpoint, device, value):\n"
        "        model = cls(); model.value = float(value); return model\n"
        "    def encode_frames(self, frames): return frames.shape[:2]\n"
        "    def segment(self, encoded, audio): return torch.full((*encoded, 4, 4), self.value)\n"
    )
    assert check_adapter(f"{tmp_path}/model.py:Model", value="0.5").passed
    assert not check_adapter(f"{tmp_path}/model.py:Model", value="1.5").passed


def test_several_sounds_at_once_are_compared_with_each_alone() -> None:
    class Many(Good):
        def segment(self, encoded: Any, audio: Tensor) -> Tensor:
            return super().segment(encoded, audio)

        def segment_many(self, encoded: Any, audio: Tensor, rows: Any) -> Any:
            return [self.segment(encoded, one) for one in audio]

    class Reversed(Many):
        def segment_many(self, encoded: Any, audio: Tensor, rows: Any) -> Any:
            return super().segment_many(encoded, audio, rows)[::-1]

    class TooFew(Many):
        def segment_many(self, encoded: Any, audio: Tensor, rows: Any) -> Any:
            return super().segment_many(encoded, audio, rows)[1:]

    name = "segment_many gives what segment gives for each sound"
    passed = check_adapter(Many)
    assert passed.passed, str(passed)
    assert name in str(passed)
    for adapter, message in ((Reversed, "segment_many returns other masks"), (TooFew, "segment_many returned 2 masks")):
        (failure,) = check_adapter(adapter).failures
        assert failure.name == name
        assert message in failure.message

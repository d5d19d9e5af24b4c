"""Evaluating models that return classes: what is stored, and that the runner's promises hold for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from avsrobust.adapters.base import Adapter
from avsrobust.adapters.baselines import Oracle, VisualPrior
from avsrobust.adapters.predictions import Predictions
from avsrobust.adapters.resizing import resize_classes
from avsrobust.errors import AdapterError, AdapterOutputError
from avsrobust.evaluation import parts
from avsrobust.evaluation.clip_data import clips_of, load_clip
from avsrobust.evaluation.runner import EvaluationReport, evaluate
from avsrobust.files import sha256_of_file
from avsrobust.manifest import Manifest
from avsrobust.metrics.semantic.counts import ClassStatistics, class_statistics
from avsrobust.results import SCORES_NAME, Scores, read_run, read_scores

CPU = torch.device("cpu")
SIZES = [(24, 32), (20, 20), (24, 32), (20, 20)]


class Classes(Adapter):
    """Logits of 71 classes that depend on frames and sound, at a quarter of the frames' size."""

    def __init__(self) -> None:
        self.encoded: list[int] = []

    def encode_frames(self, frames: Tensor) -> Tensor:
        self.encoded.append(len(frames))
        return frames.float()[..., ::4, ::4] / 255

    def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
        loudness = audio.mean(dim=(2, 3, 4))[..., None, None]
        logits = torch.zeros(*encoded.shape[:2], 71, *encoded.shape[-2:])
        for place, class_id in enumerate((0, 21, 70)):
            logits[:, :, class_id] = 8 * encoded[:, :, place] + 50 * loudness * place
        return logits


class Ids(Classes):
    def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
        return super().segment(encoded, audio).argmax(dim=2)


class Foreground(Classes):
    def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
        return 1 - super().segment(encoded, audio).softmax(dim=2)[:, :, 0]


def run(build: Manifest, adapter: Any, output: Path, **choices: Any) -> EvaluationReport:
    return evaluate(build, adapter, **{"name": "model", "output": output, "check": False, **choices})


def classes_of(scores: Scores) -> ClassStatistics:
    assert scores.classes is not None
    return scores.classes


@pytest.fixture
def avss(make_build: Callable[..., Manifest]) -> Manifest:
    return make_build(clips=4, dataset="avss", sizes=SIZES)


def test_classes_are_the_models_against_the_mask_files(avss: Manifest, tmp_path: Path) -> None:
    report = run(avss, Classes(), tmp_path / "out")
    assert (report.clips, report.failed) == (4, ())
    scores = read_scores(report.scores)
    found = classes_of(scores)
    features, model = np.load(avss.folder / "features.npy"), Classes()
    for clip in clips_of(avss.rows):
        sample = load_clip(clip, avss, avss.data_root())
        assert sample.classes is not None
        for row in clip:
            audio = torch.from_numpy(features[row.log_mel_row])[None]
            logits = model.segment(model.encode_frames(sample.frames[None]), audio)[0]
            resized = torch.nn.functional.interpolate(logits, sample.target.shape[-2:], mode="bilinear")
            expected = class_statistics(resized.argmax(dim=1).numpy(), sample.classes.numpy())
            keys = (scores.index["clip_id"] == row.clip_id) & (scores.index["condition"] == row.condition)
            places = np.flatnonzero(keys)
            for name in ("intersection", "predicted", "target"):
                for class_id in (0, 21, 70, 1):
                    assert np.array_equal(found.of_class(name, class_id)[places], expected.of_class(name, class_id))
            foreground = 1 - resized.softmax(dim=1)[:, 0].numpy()
            assert np.array_equal(
                scores.statistics.tp_050[places], ((foreground > 0.5) & sample.target.numpy()).sum(axis=(1, 2))
            )
    assert read_run(tmp_path / "out" / "run.json").details["classes"] is True


def test_the_rest_is_what_the_foreground_alone_would_score(make_build: Callable[..., Manifest], tmp_path: Path) -> None:
    # At the masks' own size: the softmax of resized logits is not the resized softmax.
    build = make_build(clips=2, dataset="avss", size=(8, 8))
    for row in build.rows:
        for mask in row.masks:
            Image.fromarray(np.eye(2, dtype=np.uint8) * 21).save(build.data_root() / str(mask))
    build = make_build_again(build)
    classes = read_scores(run(build, Classes(), tmp_path / "a").scores)
    binary = read_scores(run(build, Foreground(), tmp_path / "b").scores)
    assert binary.classes is None
    for name in ("pixels", "target_pixels", "tp_050", "fp_050", "tp_040", "fp_040", "inside", "outside"):
        assert np.array_equal(getattr(classes.statistics, name), getattr(binary.statistics, name))
    assert classes.index.equals(binary.index)


def make_build_again(build: Manifest) -> Manifest:
    """The same manifest, for data that a test has changed."""
    from avsrobust.manifest import ManifestInfo, data_files, fingerprint, load_manifest, write_manifest

    prints = {"test": fingerprint(build.data_root(), data_files(build.rows), named_by="test")}
    write_manifest(build.path, build.rows, ManifestInfo("avss", 42, {"name": "standard"}, prints))
    return load_manifest(build.path)


@pytest.mark.parametrize("adapter", [Classes, Ids])
@pytest.mark.parametrize("batch_size", [2, 5])
def test_batch_size_changes_no_byte(avss: Manifest, tmp_path: Path, adapter: type[Classes], batch_size: int) -> None:
    alone = run(avss, adapter(), tmp_path / "one")
    model = adapter()
    together = run(avss, model, tmp_path / "many", batch_size=batch_size)
    assert max(model.encoded) == 2
    assert sha256_of_file(alone.scores) == sha256_of_file(together.scores)


@pytest.mark.parametrize("clips_per_part", [1, 2, 16])
def test_an_interrupted_evaluation_continues(
    avss: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clips_per_part: int
) -> None:
    monkeypatch.setattr(parts, "CLIPS_PER_PART", clips_per_part)
    whole = run(avss, Classes(), tmp_path / "whole")
    encode, calls = Classes.encode_frames, iter(range(99))

    def interrupt(self: Classes, frames: Tensor) -> Tensor:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return encode(self, frames)

    monkeypatch.setattr(Classes, "encode_frames", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(avss, Classes(), tmp_path / "out")
    monkeypatch.setattr(Classes, "encode_frames", encode)
    model = Classes()
    report = run(avss, model, tmp_path / "out")
    assert (report.reused, model.encoded) == (2, [1, 1])
    assert sha256_of_file(report.scores) == sha256_of_file(whole.scores)
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == ["run.json", SCORES_NAME]


def test_a_model_must_not_change_its_kind_of_answer(avss: Manifest, tmp_path: Path) -> None:
    class Changes(Classes):
        def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
            logits = super().segment(encoded, audio)
            return logits if len(self.encoded) != 2 else logits.sigmoid()[:, :, 0]

    report = run(avss, Changes(), tmp_path / "out")
    assert [(clip.clip_id, clip.error) for clip in report.failed] == [
        ("group/clip1", "model: returned probabilities after classes; expected the same kind for every clip")
    ]
    assert classes_of(read_scores(report.scores)).num_frames == 3 * 4 * 5


def test_a_wrong_number_of_classes_is_refused_on_avss_alone(
    avss: Manifest, make_build: Callable[..., Manifest], tmp_path: Path
) -> None:
    class Few(Classes):
        def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
            return super().segment(encoded, audio)[:, :, :24]

    with pytest.raises(AdapterOutputError, match=r"expected .* class logits of C=71"):
        run(avss, Few(), tmp_path / "avss")
    scores = read_scores(run(make_build(clips=1, dataset="ms3"), Few(), tmp_path / "ms3").scores)
    assert scores.classes is None
    assert scores.statistics.tp_050.sum() > 0


def test_only_frames_with_a_mask_are_counted(make_build: Callable[..., Manifest], tmp_path: Path) -> None:
    report = run(make_build(clips=2, dataset="avss", masked=(0, 3)), Classes(), tmp_path / "out")
    scores = read_scores(report.scores)
    assert classes_of(scores).num_frames == len(scores.index) == 2 * 4 * 2


def test_baselines_in_classes_score_as_they_must(avss: Manifest, tmp_path: Path) -> None:
    oracle = read_scores(run(avss, Oracle.load(None, CPU, task="semantic"), tmp_path / "oracle").scores)
    visual_only = read_scores(run(avss, VisualPrior.load(None, CPU, task="semantic"), tmp_path / "prior").scores)
    binary = read_scores(run(avss, Oracle(), tmp_path / "binary").scores)
    loudness = (oracle.index["polarity"] == "positive").to_numpy()
    found = classes_of(oracle)
    assert np.array_equal(found.of_class("intersection", 21), found.of_class("target", 21) * loudness)
    assert np.array_equal(classes_of(visual_only).intersection, classes_of(visual_only).target)
    assert np.array_equal(oracle.statistics.inside, binary.statistics.inside)
    assert binary.classes is None


def test_baselines_in_classes_need_classes(tiny_build: Manifest, tmp_path: Path) -> None:
    with pytest.raises(
        AdapterError, match="--option task=semantic: s4 has no classes to answer in; leave the option out"
    ):
        run(tiny_build, Oracle.load(None, CPU, task="semantic"), tmp_path / "out")


def test_predictions_of_class_ids_repeat_the_model_that_made_them(avss: Manifest, tmp_path: Path) -> None:
    features, model = np.load(avss.folder / "features.npy"), Ids()
    for clip in clips_of(avss.rows):
        sample = load_clip(clip, avss, avss.data_root())
        for row in clip:
            audio = torch.from_numpy(features[row.log_mel_row])[None]
            ids = model.segment(model.encode_frames(sample.frames[None]), audio)[0].to(torch.uint8)
            folder = tmp_path / "masks" / row.condition / row.clip_id
            folder.mkdir(parents=True)
            for frame, picture in enumerate(resize_classes(ids, 40, 30)[0]):
                Image.fromarray(picture.numpy()).save(folder / f"{frame}.png")
    stored = Predictions.load(None, CPU, masks=str(tmp_path / "masks"), task="semantic")
    found = classes_of(read_scores(run(avss, stored, tmp_path / "stored", batch_size=2).scores))
    assert set(found.class_id.tolist()) == {0, 21, 70}
    sample = load_clip(clips_of(avss.rows)[0], avss, avss.data_root())
    picture = torch.from_numpy(np.asarray(Image.open(tmp_path / "masks/clean/group/clip0/0.png")).copy())
    expected = resize_classes(picture[None], *sample.target.shape[-2:])[0].numpy()
    assert sample.classes is not None
    assert found.intersection[found.frame == 0].sum() == (expected[0] == sample.classes[0].numpy()).sum()

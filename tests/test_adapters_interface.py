"""Clips, native sound, masks apart, readouts, seeds and sizes: in process and through `worker`, from a build to the report."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from avsrobust.adapters.base import Adapter, AudioInput, ClipView, NativeSound, RowView, Segmentation
from avsrobust.adapters.lookup import load_adapter
from avsrobust.errors import AdapterError, OptionError
from avsrobust.evaluation import parts
from avsrobust.evaluation.runner import evaluate
from avsrobust.evaluation.score_size import ScoreSize
from avsrobust.evaluation.sound import SoundReader
from avsrobust.files import sha256_of_file
from avsrobust.manifest import Manifest
from avsrobust.reporting.loading import load_result, load_results, load_runs
from avsrobust.reporting.report import report
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import read_run, read_scores

CPU = torch.device("cpu")
PYTHON = f"'{sys.executable}'"
RELEASED = Path(__file__).parent / "released"
READOUTS = ("readout-second.parquet", "readout-third.parquet")


def run(build: Manifest, adapter: Any, output: Path, **choices: Any) -> Path:
    evaluate(build, adapter, **{"name": "model", "output": output, **choices})
    return output


class Looking(Adapter):
    """Answers by clip and sound, keeps what it was given, and returns a mask apart and two readouts."""

    audio = AudioInput.native()
    needs_clips = True

    def __init__(self, interrupt_after: int = 10**6) -> None:
        self.seen: list[tuple[ClipView, NativeSound]] = []
        self.pictures: list[ClipView] = []
        self._left = [interrupt_after]

    def encode_frames(self, frames: Tensor, clips: Sequence[ClipView] = ()) -> Tensor:
        self._left[0] -= 1
        if self._left[0] < 0:
            raise KeyboardInterrupt
        self.pictures += clips
        return frames[:, :, 0].float() / 255

    def segment(self, encoded: Tensor, audio: Any, clips: Sequence[ClipView] = ()) -> Segmentation:
        self.seen += zip(clips, audio, strict=True)
        shift = torch.tensor(
            [(clip.seed % 7) / 20 + float(sound.samples[0, 0]) / 10 for clip, sound in zip(clips, audio, strict=True)]
        )
        probabilities = (encoded * 0.5 + shift[:, None, None, None]).clamp(0, 1)
        third = Segmentation(probabilities, probabilities > 0.2)
        return Segmentation(probabilities, probabilities > 0.3, {"second": 1 - probabilities, "third": third})


# The same as `Looking`, for numpy alone.
WORKER = """
import avsrobust_worker
import numpy as np

class Looking:
    audio = "native"
    needs_clips = True

    def __init__(self, checkpoint, device, options):
        pass

    def encode_frames(self, frames, clips):
        assert all(clip.condition == "" and clip.sound is None and len(clip.frames) == len(frames[0]) for clip in clips)
        return frames[:, :, 0].astype(np.float32) / np.float32(255)

    def segment(self, encoded, audio, clips):
        shift = [(c.seed % 7) / 20 + float(s.samples[0, 0]) / 10 for c, s in zip(clips, audio)]
        p = np.clip(encoded * np.float32(0.5) + np.float32(shift)[:, None, None, None], 0, 1)
        third = avsrobust_worker.Segmentation(p, p > 0.2)
        return avsrobust_worker.Segmentation(p, p > 0.3, {"second": 1 - p, "third": third})

avsrobust_worker.serve(Looking)
"""


def test_clips_show_files_and_seed_and_nothing_of_the_answer(tiny_build: Manifest, tmp_path: Path) -> None:
    model = Looking()
    run(tiny_build, model, tmp_path / "out", check=False)
    rows = {(row.clip_id, row.condition): row for row in tiny_build.rows}
    assert len(model.seen) == len(rows)
    for clip, sound in model.seen:
        row = rows[clip.clip_id, clip.condition]
        assert (clip.dataset, clip.split, clip.level, clip.draw, clip.seed) == ("s4", "test", None, 0, row.seed)
        assert (clip.num_frames, clip.sample_rate) == (row.num_frames, row.sample_rate)
        assert all(path.is_absolute() and path.is_file() for path in (*clip.frames, clip.sound or Path("/no")))
        assert sound.path == clip.sound
        assert len(sound.samples) == row.sample_rate * 5
        with sound.file() as path:
            assert path == clip.sound
        assert not {"labels", "target", "polarity", "masks", "has_mask", "classes"} & set(vars(clip))
    assert {(clip.condition, clip.level, clip.sound) for clip in model.pictures} == {("", None, None)}
    assert len({clip.seed for clip in model.pictures}) == len(model.pictures) == 4


def test_masks_apart_and_readouts_are_lines_of_one_run(tiny_build: Manifest, tmp_path: Path) -> None:
    output = run(tiny_build, Looking(), tmp_path / "out")
    scores, second, third = (read_scores(output / name) for name in ("scores.parquet", *READOUTS))
    assert [entry.info.model for entry in (scores, second, third)] == ["model", "model [second]", "model [third]"]
    # F comes of the probabilities, IoU of the mask.
    assert np.array_equal(scores.statistics.inside, third.statistics.inside)
    masks = [entry.statistics.tp_050 + entry.statistics.fp_050 for entry in (scores, third)]
    assert (masks[0] < masks[1]).any()
    assert (masks[0] <= masks[1]).all()
    above = scores.statistics.inside[:, 127:].sum(1) + scores.statistics.outside[:, 127:].sum(1)
    assert (masks[0] != above).any()
    assert np.array_equal(scores.statistics.tp_050, scores.statistics.tp_040)
    assert read_run(output / "run.json").details["readouts"] == ["second", "third"]
    results = load_results([output])
    assert {entry.info.model for entry in results} == {"model", "model [second]", "model [third]"}
    assert load_result(output).info.model == "model"
    table = report(results, ["strict"], None, "csv").content
    assert all(name in str(table) for name in ("model [second]", "model [third]"))


def test_readouts_survive_interruption_pieces_and_batches(
    make_build: Callable[..., Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = make_build(clips=5)
    whole = run(build, Looking(), tmp_path / "whole", batch_size=2, check=False)
    monkeypatch.setattr(parts, "CLIPS_PER_PART", 2)
    with pytest.raises(KeyboardInterrupt):
        run(build, Looking(interrupt_after=3), tmp_path / "resumed", check=False)
    resumed = run(build, Looking(), tmp_path / "resumed", check=False)
    pieces = run(build, Looking(), tmp_path / "pieces", check=False, conditions=["clean", "silence"])
    run(build, Looking(), tmp_path / "pieces", check=False)
    for name in ("scores.parquet", *READOUTS):
        assert len({sha256_of_file(folder / name) for folder in (whole, resumed, pieces)}) == 1
    (pieces / READOUTS[0]).unlink()
    run(build, Looking(), tmp_path / "pieces", check=False)
    assert sha256_of_file(pieces / READOUTS[0]) == sha256_of_file(whole / READOUTS[0])
    run(build, Adapter_without(), pieces, check=False, replace=True)
    assert not [name for name in READOUTS if (pieces / name).exists()]


def Adapter_without() -> Adapter:  # noqa: N802
    class Plain(Adapter):
        def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
            return encoded[:, :, 0].float() / 255

    return Plain()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda p: Segmentation(p, p), "a mask of dtype float32; expected bool"),
        (lambda p: Segmentation(p, p[0] > 0.5), "a mask of shape"),
        (lambda p: Segmentation(p, None, {"a/b": p}), "a readout of the name 'a/b'"),
        (
            lambda p: Segmentation(p, None, {"a": Segmentation(p, None, {"b": p})}),
            "readout 'a' has readouts of its own",
        ),
        (lambda p: Segmentation(p, None, {"a": p + 9}), "are they logits"),
        (lambda p: Segmentation(p, None, [p]), "returned list; expected a dict"),
    ],
)
def test_malformed_answers_are_refused(
    tiny_build: Manifest, tmp_path: Path, answer: Callable[[Tensor], Segmentation], message: str
) -> None:
    class Model(Adapter):
        def segment(self, encoded: Tensor, audio: Tensor) -> Segmentation:
            return answer(encoded[:, :, 0].float() / 255)

    with pytest.raises(AdapterError, match=message):
        run(tiny_build, Model(), tmp_path / "out", check=False)


def test_readouts_that_come_and_go_are_refused(tiny_build: Manifest, tmp_path: Path) -> None:
    class Model(Adapter):
        def segment(self, encoded: Tensor, audio: Tensor) -> Segmentation:
            p = encoded[:, :, 0].float() / 255
            return Segmentation(p, None, {"a": p} if audio.mean() > 0 else {})

    with pytest.raises(AdapterError, match="returned the readouts"):
        run(tiny_build, Model(), tmp_path / "out", check=False)


def test_a_worker_gives_the_same_results(tiny_build: Manifest, tmp_path: Path) -> None:
    here = run(tiny_build, Looking(), tmp_path / "here", batch_size=2)
    (tmp_path / "my worker.py").write_text(WORKER)
    command = f"{PYTHON} '{tmp_path / 'my worker.py'}'"
    served = f"{PYTHON} -m avsrobust.adapters.serve '{Path(__file__)}:Looking'"
    for number, line in enumerate((command, served)):
        options = {"command": line, "workers": str(number + 1)}
        there = load_adapter("worker", checkpoint=None, device=CPU, options=options)
        output = run(tiny_build, there, tmp_path / str(number), batch_size=2)
        for name in ("scores.parquet", *READOUTS):
            ours, theirs = read_scores(here / name), read_scores(output / name)
            assert np.array_equal(ours.statistics.inside, theirs.statistics.inside)
            assert np.array_equal(ours.statistics.fp_050, theirs.statistics.fp_050)


OLD_MODEL = """
import avsrobust_worker

class Model:
    audio = "log_mel"
    def __init__(self, checkpoint, device, options):
        assert avsrobust_worker.PROTOCOL_VERSION == VERSION
    def encode_frames(self, frames):
        return frames[:, :, 0] / 255
    def segment(self, encoded, audio):
        return encoded
    def extras(self):
        return {}

avsrobust_worker.serve(Model)
"""


@pytest.mark.parametrize(("version", "copied"), [(1, True), (2, True), (2, False)])
def test_worker_files_of_earlier_releases_keep_running(
    tiny_build: Manifest, tmp_path: Path, version: int, copied: bool
) -> None:
    if copied:
        # Python takes the copy next to the program, as in an environment that was set up long ago.
        released = RELEASED / f"avsrobust_worker_protocol_{version}.py.txt"
        shutil.copyfile(released, tmp_path / "avsrobust_worker.py")
    (tmp_path / "old.py").write_text(OLD_MODEL.replace("== VERSION", f"== {version}"))
    options = {"command": f"{PYTHON} '{tmp_path / 'old.py'}'"}
    there = load_adapter("worker", checkpoint=None, device=CPU, options=options)
    output = run(tiny_build, there, tmp_path / "out")
    here = run(tiny_build, Adapter_without(), tmp_path / "here")
    assert np.array_equal(
        read_scores(output / "scores.parquet").statistics.inside, read_scores(here / "scores.parquet").statistics.inside
    )


class Drawing(Adapter):
    """Draws from every generator; scores are the same whatever was run before."""

    needs_seed = True

    def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
        assert len(audio) == 1
        noise = torch.rand(encoded[:, :, 0].shape) + float(np.random.rand()) + random.random()  # noqa: NPY002
        return noise / 3


def test_models_that_sample_are_seeded_by_the_row(tiny_build: Manifest, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    one = run(tiny_build, Drawing(), tmp_path / "one")
    two = run(tiny_build, Drawing(), tmp_path / "two", batch_size=3, conditions=["noise"])
    run(tiny_build, Drawing(), tmp_path / "two", batch_size=2)
    assert sha256_of_file(one / "scores.parquet") == sha256_of_file(two / "scores.parquet")
    assert torch.equal(state, torch.get_rng_state())
    statistics = read_scores(one / "scores.parquet").statistics
    assert len({row.tobytes() for row in statistics.outside}) == len(statistics)
    served = {"command": f"{PYTHON} -m avsrobust.adapters.serve '{Path(__file__)}:Drawing'"}
    there = load_adapter("worker", checkpoint=None, device=CPU, options=served)
    three = run(tiny_build, there, tmp_path / "three")
    assert np.array_equal(read_scores(three / "scores.parquet").statistics.outside, statistics.outside)


class Functional(Drawing):
    def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
        return functional.dropout(encoded[:, :, 0].float() / 255, 0.1).clamp(0, 1)


class Layer(Drawing):
    def __init__(self) -> None:
        self.drop = torch.nn.Dropout(0.2)

    def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
        return encoded[:, :, 0].float() / 255


@pytest.mark.parametrize(
    ("model", "message"), [(Functional, "it calls dropout with p=0.1"), (Layer, "drop is in training mode")]
)
def test_a_seed_hides_no_dropout(tiny_build: Manifest, tmp_path: Path, model: type[Adapter], message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        run(tiny_build, model(), tmp_path / "out")


def test_a_size_of_scores_is_part_of_the_model_and_of_the_signature(tiny_build: Manifest, tmp_path: Path) -> None:
    oracle = load_adapter("oracle", checkpoint=None, device=CPU, options={})
    sizes: dict[str, set[int]] = {}
    for size in ("8", "16:bilinear", "frame"):
        output = run(tiny_build, oracle, tmp_path / size.replace(":", ""), score_size=size, name="oracle")
        scores = read_scores(output / "scores.parquet")
        sizes[scores.info.score_size] = set(scores.statistics.pixels.tolist())
        # A perfect model stays one: its target is resized before it sees it.
        clean = (scores.index["condition"] == "clean").to_numpy()
        assert np.array_equal(scores.statistics.tp_050[clean], scores.statistics.target_pixels[clean])
        assert not scores.statistics.fp_050.any()
    assert sizes == {"8:nearest": {64}, "16:bilinear": {256}, "frame:nearest": {24 * 32}}
    with pytest.raises(OptionError, match=r"size of the scored masks \(8:nearest there, none here\)"):
        run(tiny_build, oracle, tmp_path / "8", name="oracle")
    results = load_results([tmp_path / "8", tmp_path / "16bilinear"])
    table = build_table(results, ["strict"], runs=load_runs(results)[0])
    assert [line.signature.split(";")[-2] for line in table.lines] == ["size:16/bilinear", "size:8/nearest"]
    text = str(report(results, ["strict"], None, "md").content)
    assert "masks at 8 (nearest)" in text
    assert "masks at 16 (bilinear)" in text


@pytest.mark.parametrize("value", ["0", "224:cubic", "big", "99999", "-5"])
def test_other_sizes_are_refused(value: str) -> None:
    with pytest.raises(OptionError, match="--score-size"):
        ScoreSize.of(value)


class Cheating(Adapter):
    needs_rows = True

    def segment_rows(self, encoded: Any, audio: Any, rows: Sequence[RowView]) -> Tensor:
        return torch.stack([row.target.float() for row in rows])


def test_whoever_sees_targets_is_marked_as_a_baseline(tiny_build: Manifest, tmp_path: Path) -> None:
    for name, model in (("cheating", Cheating()), ("looking", Looking())):
        run(tiny_build, model, tmp_path / name, name=name)
    masks = run(tiny_build, Cheating(), tmp_path / "saved", name="saved", save_masks=True) / "masks.parquet"
    stored = load_adapter("predictions", checkpoint=None, device=CPU, options={"masks": str(masks)})
    run(tiny_build, stored, tmp_path / "stored", name="stored")
    results = load_results([tmp_path / name for name in ("cheating", "looking", "stored")])
    table = build_table(results, ["strict"], runs=load_runs(results)[0])
    marked = {subject.model: subject.is_baseline for subject in table.subjects}
    assert marked["cheating"]
    assert not marked["looking"]
    assert not marked["stored"]
    assert [line.subject.model for line in table.lines][-1] == "cheating"


@pytest.mark.parametrize(("resampler", "mono"), [("torchaudio", True), ("soxr", True), ("resampy", False)])
def test_waveforms_of_every_form(tiny_build: Manifest, resampler: Any, mono: bool) -> None:
    form = AudioInput.waveform(16_000, resampler, mono)
    root = tiny_build.data_root()
    plain = SoundReader(tiny_build, root, AudioInput.waveform(16_000)).read(tiny_build.rows[0])
    sound = SoundReader(tiny_build, root, form).read(tiny_build.rows[0])
    native = SoundReader(tiny_build, root, AudioInput.native()).read_sound(tiny_build.rows[0])
    assert sound.shape == ((80_000,) if mono else (2, 80_000))
    if mono:
        assert 1e-6 < float((sound - plain).abs().max()) < 0.5
    else:
        assert torch.equal(sound[0], plain)
        assert torch.equal(sound[1], plain)
    assert isinstance(native, NativeSound)
    assert native.samples.shape[1] == 1
    with pytest.raises(AdapterError, match="audio: found the resampler 'sox'"):
        AudioInput.of(AudioInput.waveform(16_000, "sox"))  # type: ignore[arg-type]


def test_sound_without_a_file_gets_a_temporary_one() -> None:
    samples = torch.linspace(-1, 1, 4000)[:, None]
    with NativeSound(samples, 8000).file() as path:
        import soundfile

        stored, rate = soundfile.read(path, always_2d=True)
        assert rate == 8000
        assert np.abs(stored - samples.numpy()).max() <= 2 / 32768
    assert not path.exists()

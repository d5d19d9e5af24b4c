from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor

from avsrobust.adapters.base import Adapter, AudioInput
from avsrobust.adapters.baselines import Empty, Oracle, VisualPrior
from avsrobust.adapters.predictions import Predictions
from avsrobust.errors import AdapterError, AdapterOutputError, ClipError, ManifestError, OptionError
from avsrobust.evaluation import parts, scorer
from avsrobust.evaluation.clip_data import clips_of, load_clip
from avsrobust.evaluation.runner import EvaluationReport, evaluate
from avsrobust.files import sha256_of_file
from avsrobust.manifest import Manifest
from avsrobust.metrics.binary.counts import frame_statistics
from avsrobust.results import SCORES_NAME, read_run, read_scores


class Model(Adapter):
    """A small model whose answer depends on frames and sound, at a quarter of the frames' size."""

    def __init__(self) -> None:
        self.encoded: list[int] = []
        self.segmented: list[int] = []

    def encode_frames(self, frames: Tensor) -> Tensor:
        self.encoded.append(len(frames))
        return frames.float().mean(dim=2)[..., ::4, ::4] / 255

    def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
        self.segmented.append(len(audio))
        return torch.sigmoid(8 * (encoded - 0.5) + audio.mean(dim=(2, 3, 4))[..., None, None] * 20)


def run(build: Manifest, adapter: Any, output: Path, **choices: Any) -> EvaluationReport:
    return evaluate(build, adapter, **{"name": "model", "output": output, "check": False, **choices})


def digest(report: EvaluationReport) -> str:
    return sha256_of_file(report.scores)


def frame_table(report: EvaluationReport) -> pd.DataFrame:
    scores = read_scores(report.scores)
    table = scores.index.copy()
    for name in ("pixels", "target_pixels", "tp_050", "fp_050", "tp_040", "fp_040"):
        table[name] = getattr(scores.statistics, name)
    return table


def checksums(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): sha256_of_file(path) for path in files}


def assert_same_scores(one: EvaluationReport, other: EvaluationReport) -> None:
    """Compare all but the metadata, which say whose scores they are."""
    tables = [pq.read_table(report.scores).replace_schema_metadata(None) for report in (one, other)]
    assert tables[0].equals(tables[1])


def names_in(folder: Path) -> list[str]:
    """The files of a results folder, the marker and the lock aside."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".avsrobust."))


def test_scores_are_the_models_masks_against_the_mask_files(tiny_build: Manifest, tmp_path: Path) -> None:
    report = run(tiny_build, Model(), tmp_path / "out")
    scores = read_scores(report.scores)
    assert (report.clips, report.reused, report.failed) == (4, 0, ())
    assert len(scores.index) == 4 * 4 * 5
    features = np.load(tiny_build.folder / "features.npy")
    model = Model()
    for clip in clips_of(tiny_build.rows):
        sample = load_clip(clip, tiny_build, tiny_build.data_root())
        clean = None
        for row in clip:
            audio = torch.from_numpy(features[row.log_mel_row])[None]
            small = model.segment(model.encode_frames(sample.frames[None]), audio)[0]
            probability = torch.nn.functional.interpolate(small[:, None], (24, 32), mode="bilinear")[:, 0].numpy()
            expected = frame_statistics(probability, sample.target.numpy())
            chosen = (
                (scores.index["clip_id"] == row.clip_id) & (scores.index["condition"] == row.condition)
            ).to_numpy()
            for name in ("pixels", "target_pixels", "tp_050", "fp_050", "tp_040", "fp_040", "inside", "outside"):
                assert np.array_equal(getattr(scores.statistics, name)[chosen], getattr(expected, name)), name
            masks = probability > 0.5
            clean = masks if row.condition == "clean" else clean
            found = scores.index[chosen][["clean_intersection", "clean_union"]]
            if row.condition == "clean":
                assert found.isna().all().all()
            else:
                assert found["clean_intersection"].tolist() == (masks & clean).sum(axis=(1, 2)).tolist()
                assert found["clean_union"].tolist() == (masks | clean).sum(axis=(1, 2)).tolist()


def test_baselines_score_as_they_must(tiny_build: Manifest, tmp_path: Path) -> None:
    tables = {
        adapter.__name__: frame_table(run(tiny_build, adapter(), tmp_path / adapter.__name__))
        for adapter in (Oracle, VisualPrior, Empty)
    }
    positive = tables["Oracle"]["polarity"] == "positive"
    assert (tables["Oracle"]["tp_050"] == tables["Oracle"]["target_pixels"] * positive).all()
    assert (tables["VisualPrior"]["tp_050"] == tables["VisualPrior"]["target_pixels"]).all()
    assert (tables["Empty"]["tp_050"] == 0).all()
    assert all((table["fp_050"] == 0).all() for table in tables.values())
    negative = tables["VisualPrior"][~positive]
    assert (negative["clean_intersection"] == negative["clean_union"]).all()


def test_frames_are_encoded_once_per_clip_and_conditions_never_mix(tiny_build: Manifest, tmp_path: Path) -> None:
    model = Model()
    run(tiny_build, model, tmp_path / "out", batch_size=3)
    assert model.encoded == [3, 1]
    assert model.segmented == [3] * 4 + [1] * 4


@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_batch_size_changes_no_byte(make_build, tmp_path: Path, batch_size: int) -> None:
    build = make_build(clips=5, sizes=[(24, 32), (20, 20), (24, 32), (20, 20), (24, 32)], levels=(-5.0, 0.0))
    alone = run(build, Model(), tmp_path / "one", save_masks=True)
    model = Model()
    together = run(build, model, tmp_path / "many", batch_size=batch_size, save_masks=True)
    assert max(model.encoded) > 1
    assert digest(alone) == digest(together)
    assert sha256_of_file(alone.masks) == sha256_of_file(together.masks)


def test_clips_with_other_conditions_are_batched_apart(make_build, tmp_path: Path) -> None:
    build = make_build(clips=3)
    rows = tuple(row for row in build.rows if (row.clip_id, row.condition) != ("group/clip1", "offscreen"))
    model = Model()
    report = run(type(build)(build.path, build.info, rows), model, tmp_path / "out", batch_size=3)
    assert model.encoded == [2, 1]
    assert report.clips == 3


@pytest.mark.parametrize("dataset", ["s4", "ms3", "avss"])
def test_every_data_set_is_scored(make_build, tmp_path: Path, dataset: str) -> None:
    build = make_build(clips=2, dataset=dataset)
    table = frame_table(run(build, Oracle(), tmp_path / "out"))
    assert (table["target_pixels"] > 0).all()
    assert (table.loc[table["condition"] == "clean", "tp_050"] > 0).all()


def test_only_frames_with_a_mask_are_scored(make_build, tmp_path: Path) -> None:
    report = run(make_build(clips=2, masked=(0, 3)), Model(), tmp_path / "out")
    assert set(read_scores(report.scores).index["frame"]) == {0, 3}


def test_clips_without_any_mask_are_listed(make_build, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"none of 2 clips could be scored; .*no frame has a mask"):
        run(make_build(clips=2, masked=()), Model(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_models_take_waveforms(tiny_build: Manifest, tmp_path: Path) -> None:
    class Waveforms(Adapter):
        audio = AudioInput.waveform(8000)
        shapes: tuple[list[int], ...] = ()

        def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
            self.shapes += (list(audio.shape),)
            return torch.zeros(*encoded.shape[:2], 2, 2)

    model = Waveforms()
    run(tiny_build, model, tmp_path / "out", batch_size=4)
    assert model.shapes == ([4, 40000],) * 4


def test_duck_typed_adapters_run(tiny_build: Manifest, tmp_path: Path) -> None:
    class Duck:
        audio = "log_mel"

        def encode_frames(self, frames: Tensor) -> tuple[int, ...]:
            return tuple(frames.shape)

        def segment(self, encoded: tuple[int, ...], audio: Tensor) -> Tensor:
            return torch.ones(*encoded[:2], 1, 1)

    table = frame_table(run(tiny_build, Duck(), tmp_path / "out"))
    assert (table["tp_050"] + table["fp_050"] == table["pixels"]).all()


def test_a_view_that_is_overwritten_later_does_no_harm(tiny_build: Manifest, tmp_path: Path) -> None:
    class Reuses(Model):
        buffer = torch.zeros(1, 5, 6, 8)

        def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
            return self.buffer.copy_(super().segment(encoded, audio))

    expected = run(tiny_build, Model(), tmp_path / "copy")
    assert_same_scores(run(tiny_build, Reuses(), tmp_path / "view"), expected)


def test_changed_sounds_do_not_leak(tiny_build: Manifest, tmp_path: Path) -> None:
    class Spoils(Model):
        def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
            answer = super().segment(encoded, audio.clone())
            audio.zero_()
            return answer

    expected = run(tiny_build, Model(), tmp_path / "clean")
    assert_same_scores(run(tiny_build, Spoils(), tmp_path / "spoilt"), expected)


def test_changed_frames_are_refused(tiny_build: Manifest, tmp_path: Path) -> None:
    class Spoils(Adapter):
        def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
            return encoded.div_(2, rounding_mode="floor").float().mean(dim=2) / 255

    with pytest.raises(AdapterOutputError, match="segment changes the encoded frames in place"):
        run(tiny_build, Spoils(), tmp_path / "out")


class Fails(Model):
    """Fails in its own way on some calls of `segment`, counted over all clips and conditions."""

    def __init__(self, calls: set[int], failure: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._calls = calls
        self._failure = failure

    def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
        answer = super().segment(encoded, audio)
        return self._failure(answer) if len(self.segmented) in self._calls else answer


def raise_error(_answer: Tensor) -> Tensor:
    raise ValueError("out of\nluck")


def leave(_answer: Tensor) -> Tensor:
    raise SystemExit(0)


def only_this_clip(_answer: Tensor) -> Tensor:
    raise ClipError("no prediction of this one")


FAILURES = [
    (raise_error, "model: segment raised ValueError: out of luck"),
    (leave, "model: segment raised SystemExit: it called exit, with the status 0 "),
    (lambda answer: answer * float("nan"), "returned NaN"),
    (lambda answer: answer[:, :3], r"returned shape \[1, 3, 6, 8\]"),
    (lambda answer: answer * 4, "returned values from"),
]


@pytest.mark.parametrize(("failure", "message"), FAILURES)
def test_an_adapter_that_fails_at_once_is_an_error_and_leaves_nothing(
    tiny_build: Manifest, tmp_path: Path, failure: Callable[[Tensor], Tensor], message: str
) -> None:
    with pytest.raises(AdapterError, match=message) as caught:
        run(tiny_build, Fails({1}, failure), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("failure", "message"), FAILURES)
def test_an_adapter_that_fails_later_costs_one_clip(
    tiny_build: Manifest, tmp_path: Path, failure: Callable[[Tensor], Tensor], message: str
) -> None:
    report = run(tiny_build, Fails({7}, failure), tmp_path / "out")
    assert [(clip.split, clip.clip_id) for clip in report.failed] == [("test", "group/clip1")]
    scores = read_scores(report.scores)
    with pytest.raises(AdapterError, match=message):
        raise AdapterError(scores.info.failed[0].error)
    assert set(scores.index["clip_id"]) == {"group/clip0", "group/clip2", "group/clip3"}
    assert read_run(tmp_path / "out" / "run.json").details["failed"][0]["clip_id"] == "group/clip1"


def test_a_bad_clip_takes_no_other_of_its_batch_with_it(tiny_build: Manifest, tmp_path: Path) -> None:
    class Picky(Model):
        def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
            if (encoded[:, 0, 0, 0] == self.bad).any():
                raise ValueError("not this one")
            return super().segment(encoded, audio)

    sample = load_clip(clips_of(tiny_build.rows)[2], tiny_build, tiny_build.data_root())
    model = Picky()
    model.bad = float(model.encode_frames(sample.frames[None])[0, 0, 0, 0])
    report = run(tiny_build, model, tmp_path / "out", batch_size=4)
    assert [clip.clip_id for clip in report.failed] == ["group/clip2"]
    assert report.clips == 3


def test_a_clip_error_on_the_first_clip_is_listed_and_the_rest_goes_on(tiny_build: Manifest, tmp_path: Path) -> None:
    report = run(tiny_build, Fails({1}, only_this_clip), tmp_path / "out")
    assert [clip.error for clip in report.failed] == ["no prediction of this one"]
    assert report.clips == 3


def test_where_every_clip_fails_there_are_no_results(tiny_build: Manifest, tmp_path: Path) -> None:
    with pytest.raises(
        AdapterError, match=r"none of 4 clips could be scored; the first one, test/group/clip0: no pred"
    ):
        run(tiny_build, Fails(set(range(99)), only_this_clip), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_that_cannot_be_read_cost_their_clip(make_build, tmp_path: Path) -> None:
    build = make_build(clips=3)
    frame = build.data_root() / build.rows[0].frames[2]
    frame.write_bytes(b"\0" * frame.stat().st_size)
    sizes = build.data_root() / clips_of(build.rows)[1][0].frames[1]
    written = sizes.stat().st_size
    Image.new("RGB", (5, 5)).save(sizes)
    sizes.write_bytes(sizes.read_bytes() + bytes(written - sizes.stat().st_size))
    report = run(build, Model(), tmp_path / "out", batch_size=2)
    assert [clip.clip_id for clip in report.failed] == ["group/clip0", "group/clip1"]
    assert (
        "2.png: found nothing but zeros where it begins; expected a whole PNG or JPEG picture" in report.failed[0].error
    )
    assert "found frames of the sizes 32x24, 5x5" in report.failed[1].error
    assert report.clips == 1


def test_data_of_another_root_are_refused(make_build, tmp_path: Path) -> None:
    build = make_build(clips=1)
    (build.data_root() / build.rows[0].frames[0]).unlink()
    with pytest.raises(ManifestError, match=r"0\.png: not found"):
        run(build, Model(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_selections_are_checked(tiny_build: Manifest, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"has no rows of split 'tets'; it has test; did you mean 'test'"):
        run(tiny_build, Model(), tmp_path, splits=["tets"])
    with pytest.raises(OptionError, match=r"has no rows of condition 'silent'; it has clean"):
        run(tiny_build, Model(), tmp_path, conditions=["silent"])


def test_without_clean_sound_there_is_nothing_to_compare_with(tiny_build: Manifest, tmp_path: Path) -> None:
    report = run(tiny_build, Model(), tmp_path / "out", conditions=["noise", "silence"])
    table = read_scores(report.scores).index
    assert set(table["condition"]) == {"noise", "silence"}
    assert table[["clean_intersection", "clean_union"]].isna().all().all()


def test_an_unwritable_output_is_named(tiny_build: Manifest, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match=r"file.*cannot be made a folder"):
        run(tiny_build, Model(), tmp_path / "file" / "out")


class Interrupts(Model):
    def __init__(self, after: int, by: type[BaseException]) -> None:
        super().__init__()
        self._after = after
        self._by = by

    def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
        if len(self.segmented) == self._after:
            raise self._by
        return super().segment(encoded, audio)


@pytest.fixture
def same_model_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let adapters of different classes pass for one model, as the same one run again does."""
    real = scorer.make_model_key

    def key(*arguments: Any, **choices: Any) -> dict[str, Any]:
        return {**real(*arguments, **choices), "class": "Model", "states": {}}

    monkeypatch.setattr(scorer, "make_model_key", key)


@pytest.mark.usefixtures("same_model_key")
@pytest.mark.parametrize("clips_per_part", [1, 2, 16])
def test_an_interrupted_evaluation_continues(
    tiny_build: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clips_per_part: int
) -> None:
    monkeypatch.setattr(parts, "CLIPS_PER_PART", clips_per_part)
    whole = run(tiny_build, Model(), tmp_path / "whole", save_masks=True)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_build, Interrupts(9, KeyboardInterrupt), tmp_path / "out", save_masks=True)
    assert names_in(tmp_path / "out") == ["parts"]
    model = Model()
    report = run(tiny_build, model, tmp_path / "out", save_masks=True)
    assert report.reused == 2
    assert len(model.encoded) == 2
    assert digest(report) == digest(whole)
    assert sha256_of_file(report.masks) == sha256_of_file(whole.masks)
    assert names_in(tmp_path / "out") == ["masks.parquet", "run.json", SCORES_NAME]


@pytest.mark.usefixtures("same_model_key")
@pytest.mark.parametrize("damage", ["scores", "masks"])
def test_damaged_parts_are_made_again(tiny_build: Manifest, tmp_path: Path, damage: str) -> None:
    whole = run(tiny_build, Model(), tmp_path / "whole", save_masks=True)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_build, Interrupts(9, KeyboardInterrupt), tmp_path / "out", save_masks=True)
    (tmp_path / "out" / "parts" / f"000000.{damage}.parquet").write_bytes(b"PAR1")
    report = run(tiny_build, Model(), tmp_path / "out", save_masks=True)
    assert report.reused == 0
    assert digest(report) == digest(whole)


def test_parts_of_another_model_are_kept_unless_it_is_replaced(tiny_build: Manifest, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tiny_build, Interrupts(9, KeyboardInterrupt), tmp_path / "out")
    before = checksums(tmp_path / "out")
    with pytest.raises(OptionError, match=r"out: holds an unfinished evaluation of another model .*adapter class"):
        run(tiny_build, Model(), tmp_path / "out")
    assert checksums(tmp_path / "out") == before
    report = run(tiny_build, Model(), tmp_path / "out", replace=True)
    assert report.reused == 0
    assert "parts of another evaluation in this folder were discarded" in report.notes


def test_a_finished_evaluation_is_not_run_again(tiny_build: Manifest, tmp_path: Path) -> None:
    first = run(tiny_build, Model(), tmp_path / "out")
    before = digest(first)
    model = Model()
    again = run(tiny_build, model, tmp_path / "out", batch_size=2)
    assert model.encoded == []
    assert (again.clips, again.reused, digest(again)) == (4, 4, before)
    assert again.notes == ("already evaluated; nothing was run again",)


def test_masks_are_not_lost_by_asking_without_them(tiny_build: Manifest, tmp_path: Path) -> None:
    masks = run(tiny_build, Model(), tmp_path / "out", save_masks=True).masks
    model = Model()
    report = run(tiny_build, model, tmp_path / "out")
    assert model.encoded == []
    assert report.masks == masks
    assert masks.exists()


def test_masks_asked_for_later_are_made(tiny_build: Manifest, tmp_path: Path) -> None:
    run(tiny_build, Model(), tmp_path / "out")
    model = Model()
    report = run(tiny_build, model, tmp_path / "out", save_masks=True)
    assert len(model.encoded) == 4
    assert report.masks.exists()


@pytest.mark.usefixtures("same_model_key")
def test_failed_clips_are_tried_again(tiny_build: Manifest, tmp_path: Path) -> None:
    whole = run(tiny_build, Model(), tmp_path / "whole", save_masks=True)
    failing = run(tiny_build, Fails({7}, raise_error), tmp_path / "out", save_masks=True)
    assert len(failing.failed) == 1
    model = Model()
    report = run(tiny_build, model, tmp_path / "out", save_masks=True)
    assert (report.clips, report.reused, report.failed) == (4, 3, ())
    assert len(model.encoded) == 1
    assert digest(report) == digest(whole)
    assert sha256_of_file(report.masks) == sha256_of_file(whole.masks)


def test_results_of_another_model_are_replaced_on_demand_only_and_at_the_end(
    tiny_build: Manifest, tmp_path: Path
) -> None:
    before = digest(run(tiny_build, Model(), tmp_path / "out", save_masks=True))
    with pytest.raises(OptionError, match=r"out: holds results of another model .*--name .*--replace"):
        run(tiny_build, Empty(), tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        run(tiny_build, Interrupts(9, KeyboardInterrupt), tmp_path / "out", replace=True)
    assert digest(run(tiny_build, Model(), tmp_path / "out")) == before
    report = run(tiny_build, Empty(), tmp_path / "out", replace=True)
    assert digest(report) != before
    assert not (tmp_path / "out" / "masks.parquet").exists()
    assert digest(report) == digest(run(tiny_build, Empty(), tmp_path / "new"))


def test_scores_that_are_not_the_runs_own_do_not_count_as_finished(tiny_build: Manifest, tmp_path: Path) -> None:
    report = run(tiny_build, Model(), tmp_path / "out")
    other = run(tiny_build, Empty(), tmp_path / "other")
    report.scores.write_bytes(other.scores.read_bytes())
    model = Model()
    run(tiny_build, model, tmp_path / "out")
    assert len(model.encoded) == 4


def test_predictions_repeat_the_model_that_saved_them(make_build, tmp_path: Path) -> None:
    build = make_build(clips=3, sizes=[(24, 32), (20, 20), (24, 32)], levels=(-5.0,), masked=(0, 1, 4))
    model = run(build, Model(), tmp_path / "model", save_masks=True)
    table = pq.read_table(model.masks)
    assert table.num_rows == 3 * 5 * 5
    stored = Predictions.load(None, torch.device("cpu"), masks=str(model.masks))
    report = run(build, stored, tmp_path / "stored", batch_size=2)
    columns = [
        "clip_id",
        "condition",
        "frame",
        "tp_050",
        "fp_050",
        "target_pixels",
        "clean_intersection",
        "clean_union",
    ]
    pd.testing.assert_frame_equal(frame_table(model)[columns], frame_table(report)[columns])


def test_a_missing_prediction_fails_its_clip(tiny_build: Manifest, tmp_path: Path) -> None:
    for row in tiny_build.rows:
        for frame in range(5):
            path = tmp_path / "masks" / row.condition / row.clip_id / f"{frame}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 6), 200).save(path)
    (tmp_path / "masks/noise/group/clip0/3.png").unlink()
    stored = Predictions.load(None, torch.device("cpu"), masks=str(tmp_path / "masks"))
    report = run(tiny_build, stored, tmp_path / "out", batch_size=4)
    assert [clip.clip_id for clip in report.failed] == ["group/clip0"]
    assert "masks/noise/group/clip0/3.png: not found" in report.failed[0].error
    assert report.clips == 3


def test_the_run_is_described(tiny_build: Manifest, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"weights")
    done: list[tuple[int, int]] = []
    report = run(
        tiny_build,
        Model(),
        tmp_path / "out",
        spec="tests:Model",
        checkpoint=tmp_path / "weights.pth",
        options={"size": "3"},
        progress=lambda finished, total: done.append((finished, total)),
    )
    content = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (content["model"], content["dataset"], content["splits"]) == ("model", "s4", ["test"])
    assert content["conditions"] == ["clean", "noise", "offscreen", "silence"]
    assert content["adapter"]["spec"] == "tests:Model"
    assert content["adapter"]["file"] == __file__
    assert content["checkpoint"]["sha256"] == sha256_of_file(tmp_path / "weights.pth")
    assert content["manifest"]["sha256"] == sha256_of_file(tiny_build.path)
    assert content["options"] == {"size": "3"}
    assert (content["clips"], content["frames"], content["frames_with_empty_target"]) == (4, 20, 0)
    assert content["versions"]["torch"] == torch.__version__
    assert content["clips_per_s"] > 0
    assert content["scores_sha256"] == digest(report)
    assert done == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    info = read_scores(report.scores).info
    assert (info.model, info.dataset, info.seed) == ("model", "s4", 42)


def test_a_missing_checkpoint_is_named(tiny_build: Manifest, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"--checkpoint .*none\.pth: cannot be read"):
        run(tiny_build, Model(), tmp_path / "out", checkpoint=tmp_path / "none.pth")

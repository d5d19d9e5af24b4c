"""The gallery's media: worst clips first, the same bytes again, every kind of picture and sound, bounded; overlays as files."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import avsrobust
from avsrobust.adapters.lookup import load_adapter
from avsrobust.cli.main import invoke
from avsrobust.errors import OptionError, ResultsError
from avsrobust.evaluation.runner import evaluate
from avsrobust.gallery.builds import find_manifest
from avsrobust.gallery.collect import _link, make_gallery
from avsrobust.gallery.flac import RATE, encode_flac
from avsrobust.gallery.overlays import write_overlays
from avsrobust.gallery.pictures import COLUMNS, LONGER_SIDE, Mosaic, overlay, spectrogram_picture
from avsrobust.gallery.ranking import rank_clips, row_scores, worst_clips
from avsrobust.manifest import load_manifest
from avsrobust.reporting.loading import load_results
from avsrobust.reporting.media import ClipRanks, Gallery
from avsrobust.reporting.report import report
from avsrobust.results import read_run


@pytest.fixture(scope="module")
def results(toy_builds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two baselines on the toy, with masks."""
    folder = tmp_path_factory.mktemp("gallery") / "results"
    for name in ("oracle", "visual_prior"):
        _evaluate(toy_builds / "robust/s4-seed42", name, folder / name / "s4-seed42", save_masks=True)
    return folder


def _evaluate(build: Path, name: str, output: Path, *, save_masks: bool) -> None:
    adapter = load_adapter(name, checkpoint=None, device=torch.device("cpu"), options={})
    evaluate(load_manifest(build), adapter, name=name, output=output, save_masks=save_masks, check=False)


def test_sounds_are_the_same_bytes_again() -> None:
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, RATE).astype(np.float32)
    content = encode_flac(samples)
    assert content == encode_flac(samples)
    decoded, rate = soundfile.read(io.BytesIO(content))
    assert (rate, len(decoded)) == (RATE, RATE)
    # Nothing is lost but what 16 bits cannot hold.
    assert np.abs(decoded - samples).max() <= 2**-15


@pytest.mark.parametrize(("num_frames", "size"), [(5, (640, 480)), (10, (480, 640)), (3, (80, 40)), (1, (4000, 1))])
def test_mosaics_hold_every_frame(num_frames: int, size: tuple[int, int]) -> None:
    mosaic = Mosaic.of(num_frames, *size)
    assert max(mosaic.cell) <= LONGER_SIDE
    frames = np.zeros((num_frames, size[1], size[0], 3), np.uint8)
    frames[-1] = 255
    picture = np.asarray(Image.open(io.BytesIO(mosaic.frames(frames).content)).convert("L"))
    assert picture.shape == mosaic.size[::-1]
    left, top = (num_frames - 1) % COLUMNS * mosaic.cell[0], (num_frames - 1) // COLUMNS * mosaic.cell[1]
    assert picture[top : top + mosaic.cell[1], left : left + mosaic.cell[0]].mean() > 200
    masks = [np.full((7, 9), frame == 0) for frame in range(num_frames)]
    mask = np.asarray(Image.open(io.BytesIO(mosaic.prediction(masks).content)).convert("RGBA"))
    assert (mask[: mosaic.cell[1], : mosaic.cell[0], 3] > 0).all()
    assert mask[..., 3].astype(bool).sum() == mosaic.cell[0] * mosaic.cell[1]
    outline = np.asarray(Image.open(io.BytesIO(mosaic.target(masks).content)).convert("RGBA"))
    assert outline[0, 0, 3] == 255


def test_spectrograms_show_high_above_low() -> None:
    log_mel = np.full((5, 1, 96, 64), np.log(0.01), np.float32)
    log_mel[..., -8:] = 4
    picture = np.asarray(Image.open(io.BytesIO(spectrogram_picture(log_mel).content)).convert("L"))
    assert picture.shape == (64, 320)
    assert picture[:6].mean() > 200
    assert picture[16:].mean() < 10


def test_overlays_tint_and_outline() -> None:
    frame = np.full((20, 30, 3), 100, np.uint8)
    predicted = np.zeros((10, 15), np.bool_)
    predicted[:5, :5] = True
    true = np.zeros((20, 30), np.bool_)
    true[10:, 20:] = True
    picture = np.asarray(Image.open(io.BytesIO(overlay(frame, predicted, true))))
    assert picture[2, 2, 0] > 150 > 100 > picture[2, 2, 1]
    assert (picture[10, 25] == 255).all()
    assert (picture[5, 25] == 100).all()
    assert (np.asarray(Image.open(io.BytesIO(overlay(frame, predicted, None))))[10:, 20:] == 100).all()


def test_ranks_are_those_of_the_baselines(results: Path) -> None:
    for name, change, largest in (("visual_prior", 0.0, True), ("oracle", 1.0, False)):
        (scores,) = load_results([results / name])
        rows = row_scores(scores)
        ranks = rank_clips(name, rows)
        assert len(ranks) == len({key[:2] for key in rows}) > 1
        for found in ranks.values():
            assert found.clean_iou == pytest.approx(1)
            assert found.change == pytest.approx(change)
            assert (found.largest or 0) > 0 if largest else found.largest == 0


def test_the_worst_of_every_order_and_model_come_first() -> None:
    def model(values: list[tuple[float | None, float | None, float | None]]) -> dict[tuple[str, str], ClipRanks]:
        return {("test", clip): ClipRanks("m", *found) for clip, found in zip("abcd", values, strict=True)}

    one = model([(0.1, 0.9, 0.9), (0.9, 0.8, 0.8), (0.2, 0.1, 0.7), (0.3, 0.7, 0.0)])
    other = model([(0.9, None, None), (0.1, None, None), (0.1, None, None), (0.1, None, None)])
    assert worst_clips([one, other], 1) == [("test", "b")]
    assert worst_clips([one, other], 4) == [("test", clip) for clip in "bacd"]
    assert worst_clips([], 4) == []


def test_a_gallery_has_every_condition_of_every_model(results: Path, tmp_path: Path) -> None:
    gallery = make_gallery(load_results([results]), 2, relative_to=tmp_path)
    assert gallery.notes == ()
    assert len(gallery.clips) == 2
    for clip in gallery.clips:
        assert [row.condition for row in clip.rows] == ["clean", "silence", "noise", "offscreen"]
        assert len(clip.pictures) == len(clip.targets) == 1
        assert [row.negative for row in clip.rows] == [False, True, True, True]
        assert clip.rows[3].origin.startswith("sound of ")
        for row in clip.rows:
            assert len(row.masks) == 2
            assert row.duration_s == pytest.approx(5, abs=0.01)
            assert all((tmp_path / link).exists() for _, link in row.links)
        # White noise takes 160 kB, and no silence; ten such clips of each of two splits are below the bound of a page.
        assert clip.num_bytes < 500_000
    assert gallery == make_gallery(load_results([results]), 2, relative_to=tmp_path)


def test_media_are_bounded_and_it_is_said(results: Path) -> None:
    gallery = make_gallery(load_results([results]), 3, most_bytes=450_000)
    assert len(gallery.clips) == 1
    assert gallery.notes == ("The gallery shows 1 of 3 clips of test: more would be too large.",)


def test_results_without_masks_are_said_or_refused(results: Path, toy_builds: Path, tmp_path: Path) -> None:
    _evaluate(toy_builds / "robust/s4-seed42", "empty", tmp_path / "empty", save_masks=False)
    with pytest.raises(OptionError, match=r"--gallery: found no results with masks; .* --save-masks"):
        make_gallery(load_results([tmp_path / "empty"]), 2)
    gallery = make_gallery(load_results([tmp_path / "empty", results / "oracle"]), 1)
    assert gallery.notes == (
        "The gallery lacks empty on s4: its masks were not stored (evaluate --save-masks adds them, report --rerun makes "
        "them).",
    )


def test_a_build_that_is_gone_is_refused(toy_builds: Path, tmp_path: Path) -> None:
    build = tmp_path / "robust/s4-seed42"
    shutil.copytree(toy_builds / "robust/s4-seed42", build, symlinks=True)
    _evaluate(build, "oracle", tmp_path / "results", save_masks=True)
    shutil.rmtree(build)
    with pytest.raises(ResultsError, match=r"found no manifest .*s4-seed42.* build and evaluate again"):
        make_gallery(load_results([tmp_path / "results"]), 2)


def test_a_changed_file_is_a_note(toy_builds: Path, tmp_path: Path) -> None:
    build = tmp_path / "robust/s4-seed42"
    shutil.copytree(toy_builds / "robust/s4-seed42", build, symlinks=True)
    _evaluate(build, "oracle", tmp_path / "results", save_masks=True)
    for sound in (build / "audio").rglob("*.wav"):
        sound.write_bytes(sound.read_bytes()[:-2] + b"zz")
    gallery = make_gallery(load_results([tmp_path / "results"]), 2)
    assert gallery.clips == ()
    assert len(gallery.notes) == 2
    assert all("sha256" in note for note in gallery.notes)


def test_the_build_is_the_one_that_lies_there_now(
    toy_builds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process a relative path names another folder's build, and the same folder another build."""
    seen = []
    for folder, seed in (("one", 1), ("two", 2), ("two", 3)):
        work = tmp_path / folder
        work.mkdir(exist_ok=True)
        monkeypatch.chdir(work)
        for earlier in ("b", "results"):
            shutil.rmtree(work / earlier, ignore_errors=True)
        avsrobust.build("s4", data_root=toy_builds, seed=seed, splits=["test"], output="b")
        _evaluate(Path("b"), "oracle", Path("results"), save_masks=True)
        seen.append(find_manifest(Path("results"), read_run(Path("results/run.json"))).info.seed)
        assert make_gallery(load_results(None), 1).notes == ()
    assert seen == [1, 2, 3]


def test_composed_pictures_and_made_sounds(toy_builds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(
        "kind: build\nname: tiles\ndescription: Tiles.\nfront_end: vggish\nstore_audio: false\nconditions:\n"
        "  clean: {}\n  silence: {}\n  noise: {}\n  offscreen: {}\n"
        "  distractor: {levels: [1.0]}\n  mixture: {levels: [0]}\n",
        encoding="utf-8",
    )
    build = ["build", "--dataset", "s4", "--split", "test", "--data-root", str(toy_builds), "--recipe", "recipe.yaml"]
    assert invoke(build) in (0, 1)
    assert invoke(["evaluate", "--adapter", "oracle", "--save-masks"]) == 0
    gallery = make_gallery(load_results(None), 1)
    assert gallery.notes == ()
    (clip,) = gallery.clips
    assert "distractor" in {row.condition for row in clip.rows}
    assert len(clip.pictures) > 1
    pictures = {row.condition: row.picture for row in clip.rows}
    assert pictures["distractor"] != pictures["clean"] == pictures["mixture"]
    assert all(row.duration_s == pytest.approx(5, abs=0.01) for row in clip.rows)


def test_overlays_are_written_for_every_frame(results: Path, toy_builds: Path, tmp_path: Path) -> None:
    written = write_overlays(results / "oracle", tmp_path / "overlays", conditions=["clean"])
    rows = [row for row in load_manifest(toy_builds / "robust/s4-seed42").rows if row.split == "test"]
    clips = {row.clip_id for row in rows}
    files = sorted(path for path in (tmp_path / "overlays").rglob("*.png"))
    assert written.skipped == ()
    assert written.pictures == len(files) == 5 * len(clips)
    clip = sorted(clips)[0]
    assert (tmp_path / f"overlays/test/{clip}/clean_0.png") in files
    before = {path: path.read_bytes() for path in files}
    write_overlays(results / "oracle", tmp_path / "overlays", conditions=["clean"], clips=[clip])
    assert before == {path: path.read_bytes() for path in files}


def test_the_command_masks(results: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["masks", str(results / "oracle/s4-seed42"), "--overlay"]
    assert invoke([*arguments, str(tmp_path / "out"), "--condition", "noise"]) == 0
    assert capfd.readouterr().out.strip() == str(tmp_path / "out")
    assert invoke([*arguments, str(tmp_path / "out"), "--condition", "nois"]) == 2
    assert "did you mean 'noise'" in capfd.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    assert invoke([*arguments, str(tmp_path / "mine")]) == 2
    assert "letter.txt" in capfd.readouterr().err
    assert invoke(["masks", str(tmp_path), "--overlay", str(tmp_path / "no")]) == 2
    assert "avsrobust evaluate" in capfd.readouterr().err


def test_the_option_gallery(results: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert invoke(["report", str(results), "--gallery", "1"]) == 2
    assert "--format html" in capfd.readouterr().err
    output = tmp_path / "report.html"
    assert invoke(["report", str(results), "--format", "html", "--gallery", "1", "--output", str(output)]) == 0
    page = output.read_text(encoding="utf-8")
    assert page.count("<audio ") == 4
    link = page.partition('<p class="links"><a href="')[2].partition('"')[0]
    assert (tmp_path / link).is_file()
    assert json.dumps(os.fspath(tmp_path)) not in page


def test_the_gallery_from_python(results: Path) -> None:
    rendered = avsrobust.report(results, format="html", gallery=1)
    assert str(rendered.content).count("<audio ") == 4
    for refused in ({"format": "md"}, {"format": "html", "layout": "wide"}):
        with pytest.raises(
            OptionError, match=r"--gallery: found --format .*; expected --format html in the full layout"
        ):
            avsrobust.report(results, gallery=1, **refused)  # type: ignore[arg-type]


def test_names_in_the_gallery_are_text(results: Path, tmp_path: Path) -> None:
    hostile = '"><script>alert(1)</script><b a=\u202e\x1b[31m'
    loaded = load_results([results])
    gallery = make_gallery(loaded, 1, relative_to=tmp_path)

    def named(name: str) -> Gallery:
        (clip,) = gallery.clips
        rows = tuple(replace(row, title=name, origin=name, links=((name, "a"),)) for row in clip.rows)
        return Gallery((replace(clip, clip_id=name, labels=(name,), rows=rows),), (name,))

    pages = [str(report(loaded, format="html", gallery=named(name)).content) for name in ("plain", hostile)]
    tags = [re.findall(r"<[a-z][a-z0-9]*", page) for page in pages]
    assert tags[0] == tags[1]
    assert "\x1b" not in pages[1]
    assert "\u202e" not in pages[1]


def test_links_have_no_scheme(tmp_path: Path) -> None:
    assert _link(tmp_path / "javascript:alert(1) #?.wav", tmp_path) == "javascript%3Aalert%281%29%20%23%3F.wav"

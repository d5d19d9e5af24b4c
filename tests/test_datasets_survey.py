"""The survey of a data set's contents: conclusions, summary, and the same for every order."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from avsrobust.building.build import build
from avsrobust.building.dry_run import survey_sample
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.contents import read_contents
from avsrobust.datasets.dataset import DataSet
from avsrobust.datasets.masks import read_mask
from avsrobust.datasets.read import read_dataset
from avsrobust.datasets.survey import ContentSurvey, survey_contents, survey_lines
from avsrobust.errors import DataSetError
from avsrobust.manifest import load_manifest
from avsrobust.vocabulary import ABOVE_HALF, NON_ZERO

RECIPE = load_recipe("standard")


@pytest.fixture
def root(tmp_path: Path, toy_in: Callable[..., Path]) -> Path:
    """Twelve toy clips of S4, for a test to change."""
    return toy_in(tmp_path / "data", s4=12, seed=3)


def survey(dataset: DataSet) -> ContentSurvey:
    return survey_contents(dataset.clips, [read_contents(dataset.root, clip) for clip in dataset.clips])


def change_masks(root: Path, dataset: DataSet, change, clips: slice = slice(None)) -> None:
    for clip in dataset.clips[clips]:
        for mask in clip.masks:
            if mask is not None:
                Image.fromarray(change(np.asarray(Image.open(root / mask)))).save(root / mask)


def soften(mask: np.ndarray) -> np.ndarray:
    """A mask with grey edges, whose half is where it was."""
    return np.where(mask > 0, 200, 20).astype(np.uint8) + (np.arange(mask.size).reshape(mask.shape) % 3).astype(
        np.uint8
    )


def test_an_ordinary_data_set(root: Path) -> None:
    dataset = read_dataset("s4", root)
    found = survey(dataset)
    assert (found.findings, found.muted, set(found.rules.values())) == ((), frozenset(), {NON_ZERO})
    lines = survey_lines(found.summary, "s4")
    assert lines[0].startswith("contents: looked at all 12 clips (60 frames, ")
    assert "masks in Single-source/s4_data/gt_masks/test: " in "\n".join(lines)
    assert "values 0, 255" in lines[1]
    assert json.loads(json.dumps(found.summary)) == found.summary
    assert len(survey_lines(found.summary, "s4", brief=True)) == 1
    assert survey_lines({}, "s4") == []


def test_the_order_of_clips_does_not_matter(root: Path) -> None:
    dataset = read_dataset("s4", root)
    change_masks(root, dataset, soften, slice(3))
    contents = [read_contents(dataset.root, clip) for clip in dataset.clips]
    clips = list(dataset.clips)
    expected = survey_contents(clips, contents)
    random.Random(0).shuffle(clips)
    random.Random(1).shuffle(contents)
    assert survey_contents(clips, contents) == expected


def test_grey_masks_are_named_and_split_at_half_by_everything_that_reads_the_build(root: Path, tmp_path: Path) -> None:
    dataset = read_dataset("s4", root)
    before = {mask: read_mask(root / mask, "s4") for clip in dataset.clips for mask in clip.masks if mask is not None}
    change_masks(root, dataset, soften)
    report = build(read_dataset("s4", root), RECIPE, 42, tmp_path / "b")
    assert any(line.startswith("grey masks in Single-source/s4_data/gt_masks/test: ") for line in report.survey)
    rows = load_manifest(tmp_path / "b").rows
    assert {row.foreground for row in rows} == {ABOVE_HALF}
    for row in rows:
        for mask in row.masks:
            if mask is not None:
                np.testing.assert_array_equal(read_mask(root / mask, "s4", (), row.foreground), before[mask])


@pytest.mark.parametrize("foreground", [1, 3, 128, 255])
def test_sharp_masks_keep_every_pixel_whatever_their_value(root: Path, foreground: int) -> None:
    dataset = read_dataset("s4", root)
    change_masks(root, dataset, lambda mask: (mask > 0).astype(np.uint8) * np.uint8(foreground))
    assert set(survey(dataset).rules.values()) == {NON_ZERO}


def odd_lines(root: Path, change, clips: slice = slice(None)) -> list[str]:
    dataset = read_dataset("s4", root)
    change_masks(root, dataset, change, clips)
    return survey_lines(survey(dataset).summary, "s4", brief=True)[1:]


def test_masks_that_mark_the_whole_picture_are_named(root: Path) -> None:
    [line] = odd_lines(root, lambda mask: np.where(mask > 0, 2, 1).astype(np.uint8), slice(1))
    assert re.fullmatch(
        r"masks in .*: \d, of 1 clip \(.*\), mark the whole picture: none of their pixels is 0 \(first: .*\)", line
    )


def test_masks_with_foreground_and_background_swapped_are_named(root: Path) -> None:
    lines = odd_lines(root, lambda mask: np.where(mask > 0, 0, 255).astype(np.uint8))
    assert len(lines) == 3
    assert all("mark all four corners of the picture; are foreground and background swapped?" in line for line in lines)


def test_folders_of_empty_masks_are_named(root: Path) -> None:
    lines = odd_lines(root, np.zeros_like)
    assert len(lines) == 3
    assert all(re.search(r": all \d+ are empty, so no object", line) for line in lines)


def test_soft_masks_are_judged_by_their_half(root: Path) -> None:
    [*lines] = odd_lines(root, soften)
    assert not [line for line in lines if "whole" in line or "corners" in line]


def test_0_and_1_beside_0_and_255_is_named_and_both_count(root: Path) -> None:
    dataset = read_dataset("s4", root)
    change_masks(root, dataset, lambda mask: (mask > 0).astype(np.uint8), slice(0, None, 2))
    found = survey(dataset)
    assert set(found.rules.values()) == {NON_ZERO}
    assert "of 0 and 255: any pixel that is not 0 is foreground in both" in "\n".join(survey_lines(found.summary, "s4"))


def test_class_ids_in_a_binary_data_set_are_named(root: Path) -> None:
    dataset = read_dataset("s4", root)
    change_masks(root, dataset, lambda mask: np.where(mask > 0, 12 + np.arange(mask.shape[1]) % 2, 0).astype(np.uint8))
    found = survey(dataset)
    assert set(found.rules.values()) == {NON_ZERO}
    assert "(class ids or objects?): any pixel that is not 0 is foreground" in "\n".join(
        survey_lines(found.summary, "s4")
    )


def test_255_beside_class_ids_is_a_finding(root: Path) -> None:
    dataset = read_dataset("s4", root)
    change_masks(
        root, dataset, lambda mask: np.where(mask > 0, 12, np.where(np.arange(224) < 3, 255, 0)).astype(np.uint8)
    )
    findings = survey(dataset).findings
    assert findings
    assert "found a mask with the values 0, 12, 255; expected one value beside 0" in str(findings[0])
    with pytest.raises(DataSetError, match=r"found \d+ problems in s4"):
        build(dataset, RECIPE, 42, root / "b")


def mute(root: Path, dataset: DataSet, count: int) -> set[str]:
    for clip in dataset.clips[:count]:
        samples, rate = soundfile.read(root / clip.audio)
        soundfile.write(root / clip.audio, np.zeros_like(samples), rate)
    return {clip.clip_id for clip in dataset.clips[:count]}


def test_muted_clips_are_counted_and_lend_their_sound_to_nobody(root: Path, tmp_path: Path) -> None:
    muted = mute(root, read_dataset("s4", root), 4)
    report = build(read_dataset("s4", root), RECIPE, 42, tmp_path / "b", on_error="skip")
    manifest = load_manifest(tmp_path / "b")
    assert set(report.muted) == set(manifest.info.muted) == muted
    assert list(manifest.info.muted) == sorted(muted)
    assert manifest.info.survey["sounds"]["silent"] == {"count": 4, "first": sorted(muted)}
    assert not muted & {row.source_clip_id for row in manifest.rows}
    assert any(line.startswith("muted: 4 clips (") for line in report.survey)


def test_contents_that_cannot_be_read_are_left_out_where_that_is_wanted(root: Path, tmp_path: Path) -> None:
    dataset = read_dataset("s4", root)
    clip = dataset.clips[0]
    path = root / clip.frames[2]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataSetError, match="found 1 problem in s4") as caught:
        build(dataset, RECIPE, 42, tmp_path / "b")
    assert caught.value.findings[0].startswith(
        f"{clip.frames[2]}: found a damaged picture (wrong checksum in its chunk IDAT)"
    )
    assert not (tmp_path / "b").exists()
    for _ in range(2):
        report = build(read_dataset("s4", root), RECIPE, 42, tmp_path / "b", on_error="skip")
        assert [entry.clip_id for entry in report.skipped if entry.condition is None] == [clip.clip_id]


def test_a_dry_run_looks_at_as_much_as_its_time_allows(root: Path) -> None:
    dataset = read_dataset("s4", root)
    whole = survey_sample(dataset, threads=2)
    assert whole == survey(dataset)
    part = survey_sample(dataset, limit_s=0.0, threads=1)
    assert part.summary["looked_at"] < part.summary["clips"] == 12
    assert survey_lines(part.summary, "s4")[0].startswith(
        f"contents: looked at {part.summary['looked_at']} of 12 clips"
    )
    assert survey_sample(dataset, limit_s=0.0, threads=1) == part

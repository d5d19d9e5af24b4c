from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avsrobust.errors import AvsRobustError, DataSetError, ManifestError
from avsrobust.evaluation.clip_data import check_data, clips_of, load_clip, picture_sizes
from avsrobust.manifest import Manifest


def test_clips_are_sorted_with_clean_first(tiny_build: Manifest) -> None:
    clips = clips_of(reversed(tiny_build.rows))
    assert [clip[0].clip_id for clip in clips] == [f"group/clip{index}" for index in range(4)]
    assert [row.condition for row in clips[0]] == ["clean", "noise", "offscreen", "silence"]


def test_a_clip_is_its_files(tiny_build: Manifest) -> None:
    root = tiny_build.data_root()
    clip = clips_of(tiny_build.rows)[0]
    sample = load_clip(clip, tiny_build, root)
    assert sample.frames.shape == (5, 3, 24, 32)
    assert sample.frames.dtype == torch.uint8
    stored = np.asarray(Image.open(root / clip[0].frames[3]))
    assert np.array_equal(sample.frames[3].permute(1, 2, 0).numpy(), stored)
    assert sample.target.dtype == torch.bool
    assert np.array_equal(sample.target[2].numpy(), np.asarray(Image.open(root / clip[0].masks[2])) > 0)
    assert sample.has_mask.all()


def test_classes_of_avss_are_foreground(make_build) -> None:
    build = make_build(clips=1, dataset="avss")
    sample = load_clip(clips_of(build.rows)[0], build, build.data_root())
    stored = np.asarray(Image.open(build.data_root() / build.rows[0].masks[0]))
    assert set(np.unique(stored)) == {0, 21}
    assert np.array_equal(sample.target[0].numpy(), stored == 21)


def test_frames_without_a_mask_are_known(make_build) -> None:
    build = make_build(clips=1, masked=(0,))
    sample = load_clip(clips_of(build.rows)[0], build, build.data_root())
    assert sample.has_mask.tolist() == [True, False, False, False, False]
    assert not sample.target[1:].any()


def test_a_row_view_is_the_receivers_own(tiny_build: Manifest) -> None:
    sample = load_clip(clips_of(tiny_build.rows)[0], tiny_build, tiny_build.data_root())
    view = sample.view(1)
    assert (view.condition, view.polarity, view.seed) == ("noise", "negative", sample.rows[1].seed)
    view.target.fill_(False)
    assert sample.target.any()


def test_masks_may_have_another_size_than_frames(make_build) -> None:
    build = make_build(clips=1)
    row = build.rows[0]
    for mask in row.masks:
        Image.fromarray(np.full((12, 16), 255, np.uint8)).save(build.data_root() / mask)
    assert load_clip((row,), build, build.data_root()).target.shape == (5, 12, 16)
    assert picture_sizes((row,), build, build.data_root()) == ((32, 24), (16, 12))


@pytest.mark.parametrize("kind", ["frames", "masks"])
def test_pictures_of_one_clip_share_a_size(make_build, kind: str) -> None:
    build = make_build(clips=1)
    row = build.rows[0]
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(build.data_root() / getattr(row, kind)[3])
    with pytest.raises(DataSetError, match=rf"test/group/clip0: found {kind} of the sizes 32x24, 7x5"):
        load_clip((row,), build, build.data_root())


def test_a_broken_picture_is_an_error_only_when_read(make_build) -> None:
    build = make_build(clips=1)
    row = build.rows[0]
    (build.data_root() / row.frames[0]).write_bytes(b"")
    assert picture_sizes((row,), build, build.data_root()) == (None, (32, 24))
    with pytest.raises(DataSetError, match=r"0\.png: found an empty file"):
        load_clip((row,), build, build.data_root())


def test_paths_cannot_leave_the_data_root(tiny_build: Manifest) -> None:
    row = replace(tiny_build.rows[0], frames=("../x.png",) * 5)
    with pytest.raises(AvsRobustError, match="not a path inside"):
        load_clip((row,), tiny_build, tiny_build.data_root())


def test_data_are_checked_for_whole_manifests_and_selections(make_build) -> None:
    build = make_build(clips=2)
    root = build.data_root()
    check_data(build, root, ["test"])
    check_data(build.select(conditions=["silence"]), root, ["test"])
    frame = root / build.rows[0].frames[0]
    frame.write_bytes(frame.read_bytes() + b"x")
    for manifest in (build, build.select(conditions=["silence"])):
        with pytest.raises(ManifestError, match="the files of split 'test' are not those"):
            check_data(manifest, root, ["test"])
    (root / build.rows[0].frames[0]).unlink()
    with pytest.raises(ManifestError, match=r"0\.png: not found"):
        check_data(build, Path(root), ["test"])

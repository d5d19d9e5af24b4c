"""Made pictures: named by what they are, the same bytes every time, sizes and contents of tiles."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from avsrobust.conditions.pictures import ComposedFrame, ComposedMask, EmptyMask, Grid, MaskTile, mask_tile
from avsrobust.errors import AvsRobustError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for index, (width, height) in enumerate([(64, 48), (64, 48), (80, 40), (41, 63)]):
        value = 40 * (index + 1)
        Image.new("RGB", (width, height), (value, 0, 0)).save(tmp_path / f"f{index}.png")
        mask = np.zeros((height, width), np.uint8)
        mask[:, : width // 2] = 255
        Image.fromarray(mask).save(tmp_path / f"m{index}.png")
        Image.fromarray((mask // 255) * (index + 3)).save(tmp_path / f"c{index}.png")
    return tmp_path


def opened(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 500), st.integers(1, 500), st.sampled_from([2, 4]))
def test_tiles_are_half_as_wide_and_high(width: int, height: int, count: int) -> None:
    grid = Grid.of((width, height), count)
    assert grid.columns * grid.rows == count
    assert grid.tile == (max(1, width // 2), max(1, height // 2))


@pytest.mark.parametrize("count", [2, 4])
def test_frames_lie_row_by_row(data: Path, count: int) -> None:
    picture = ComposedFrame(Grid.of((64, 48), count), tuple(f"f{index}.png" for index in range(count)))
    content = picture.content(data)
    assert content[:2] == b"\xff\xd8"
    assert content == picture.content(data)
    array = opened(content)
    assert array.shape == (24 * count // 2, 64, 3)
    for index in range(count):
        top, left = 24 * (index // 2), 32 * (index % 2)
        tile = array[top + 2 : top + 22, left + 2 : left + 30, 0]
        assert np.abs(tile.astype(int) - 40 * (index + 1)).max() <= 3


def test_masks_keep_their_values_and_lie_where_the_frames_do(data: Path) -> None:
    grid = Grid.of((64, 48), 4)
    binary = ComposedMask(grid, (None, MaskTile("m1.png", "s4", ("dog_barking",), "non-zero"), None, None))
    array = opened(binary.content(data))
    assert array.shape == (48, 64)
    assert set(np.unique(array)) == {0, 255}
    assert (array[:24, 32:48] == 255).all()
    array = array.copy()
    array[:24, 32:48] = 0
    assert not array.any()
    labels = ("car",)
    classes = ComposedMask(grid, tuple(MaskTile(f"c{index}.png", "avss", labels, "non-zero") for index in range(4)))
    assert set(np.unique(opened(classes.content(data)))) == {0, 3, 4, 5, 6}


def test_an_empty_mask(data: Path) -> None:
    array = opened(EmptyMask(7, 5).content(data))
    assert array.shape == (5, 7)
    assert not array.any()


def test_equal_definitions_are_one_file_and_others_are_not() -> None:
    grid = Grid.of((64, 48), 2)
    first = ComposedFrame(grid, ("f0.png", "f1.png"))
    assert first.path == ComposedFrame(Grid.of((65, 49), 2), ("f0.png", "f1.png")).path
    others = [
        ComposedFrame(grid, ("f1.png", "f0.png")),
        ComposedFrame(Grid.of((66, 48), 2), ("f0.png", "f1.png")),
        ComposedMask(grid, (None, None)),
        EmptyMask(64, 48),
        EmptyMask(48, 64),
    ]
    paths = [picture.path for picture in (first, *others)]
    assert len(set(paths)) == len(paths)
    assert all(path.startswith("pictures/") for path in paths)
    assert {Path(path).suffix for path in paths} == {".jpg", ".png"}
    assert first.named == f"build:{first.path}"
    assert all(picture.expected_bytes > 0 for picture in (first, *others))


def test_a_picture_that_leaves_the_data_root_or_is_not_there(data: Path) -> None:
    grid = Grid.of((64, 48), 2)
    for tile, message in (("../f0.png", "leaves"), ("none.png", "none.png")):
        with pytest.raises(AvsRobustError, match=message):
            ComposedFrame(grid, (tile, "f0.png")).content(data)


def test_the_mask_of_a_clips_frame(planned_clip: Callable) -> None:
    clip = planned_clip("a", "dog_barking", masked=[0])
    assert mask_tile(clip, 0) == MaskTile(clip.masks[0] or "", "s4", ("dog_barking",), "non-zero")
    assert mask_tile(clip, 1) is None

"""Values of binary masks, and which pixels they make foreground."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from avsrobust.datasets.mask_values import (
    MaskValues,
    foreground,
    foreground_rule,
    is_graded,
    level_list,
    level_set,
    may_ignore,
    measure,
)
from avsrobust.vocabulary import ABOVE_HALF, NON_ZERO

SHAPE = np.zeros((16, 16), bool)
SHAPE[4:12, 3:9] = True


def grey(*values: int) -> Image.Image:
    return Image.fromarray(np.array([values], np.uint8))


def jpeg(mask: np.ndarray, mode: str = "L") -> Image.Image:
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).convert(mode).save(stream, "JPEG", quality=75)
    return Image.open(stream)


@given(levels=arrays.arrays(np.uint8, (3, 5)))
def test_a_set_of_levels_holds_what_occurs(levels: np.ndarray) -> None:
    assert level_list(level_set(levels)) == sorted(set(levels.ravel().tolist()))


@pytest.mark.parametrize(
    ("values", "soft"),
    [
        ((0,), False), ((1,), False), ((255,), False), ((0, 1), False), ((0, 255), False), ((0, 17), False),
        ((0, 128), False), ((17,), True), ((16, 235), True), ((0, 1, 2), True), ((0, 127, 255), True), ((1, 255), True),
    ],
)  # fmt: skip
def test_soft_is_more_than_black_and_one_other_level(values: tuple[int, ...], soft: bool) -> None:
    assert measure(grey(*values)) == MaskValues(sum(1 << value for value in values), soft, "L")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "I;16"])
def test_grey_values_split_at_half_in_every_mode(mode: str) -> None:
    values = np.array([[0, 1, 127, 128, 255]], np.uint8)
    if mode == "I;16":
        picture = Image.fromarray(np.array([[0, 1, 32767, 32768, 65535]], np.uint16))
    elif mode == "P":
        picture = Image.fromarray(values)
        picture.putpalette([channel for value in range(256) for channel in (value,) * 3])
    else:
        picture = Image.fromarray(values).convert(mode)
    assert picture.mode == mode
    assert measure(picture).is_soft
    assert foreground(picture, ABOVE_HALF).tolist() == [[False, False, False, True, True]]
    assert foreground(picture, NON_ZERO).tolist() == [[False, True, True, True, True]]


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_mask_saved_as_jpeg_is_soft_and_splits_into_what_it_was(mode: str) -> None:
    picture = jpeg(SHAPE, mode)
    assert measure(picture).is_soft
    np.testing.assert_array_equal(foreground(picture, ABOVE_HALF), SHAPE)


def test_colours_of_objects_are_no_grey_values() -> None:
    colours = Image.fromarray(np.array([[[0, 0, 0], [64, 0, 0], [0, 128, 0], [255, 0, 255]]], np.uint8))
    palette = colours.quantize(4)
    for picture in (colours, palette):
        assert not measure(picture).is_soft
        assert foreground(picture).tolist() == [[False, True, True, True]]


def test_a_mask_of_one_bit(tmp_path) -> None:
    picture = Image.fromarray(SHAPE)
    assert picture.mode == "1"
    assert measure(picture) == MaskValues(0b11, False, "1")
    np.testing.assert_array_equal(foreground(picture), SHAPE)


def test_alpha_is_named() -> None:
    assert measure(Image.fromarray(np.zeros((2, 2, 4), np.uint8))).has_alpha
    assert not measure(grey(0)).has_alpha


def masks(*levels: tuple[int, ...]) -> list[MaskValues]:
    return [measure(grey(*values)) for values in levels]


@pytest.mark.parametrize(
    ("folder", "clip", "rule"),
    [
        ([(0, 255)], [(0, 255)], NON_ZERO),
        ([(0, 1)], [(0, 1)], NON_ZERO),
        ([(0, 1), (0, 255)], [(0, 1)], NON_ZERO),
        ([(0, 100, 255)], [(0, 100, 255)], ABOVE_HALF),
        ([(0, 100, 255), (0, 1)], [(0, 1)], NON_ZERO),
        # Faint traces in a folder of grey masks are no objects; numbers of objects are.
        ([(0, 100, 255), (0, 3, 5)], [(0, 3, 5)], ABOVE_HALF),
        ([(0, 3, 5)], [(0, 3, 5)], NON_ZERO),
        # Black is 16 and white 235 in video.
        ([(16,), (16, 235)], [(16,), (16,)], ABOVE_HALF),
    ],
)
def test_the_rule_of_a_clip(folder: list[tuple[int, ...]], clip: list[tuple[int, ...]], rule: str) -> None:
    assert foreground_rule(masks(*clip), is_graded(masks(*folder))) == rule


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ([(0, 12, 255)], True),
        ([(0, 1, 255)], True),
        ([(0, 12, 255), (0, 100, 255)], False),
        ([(0, 1), (0, 255)], False),
        ([(0, 12, 13)], False),
        ([], False),
    ],
)
def test_255_beside_numbers_of_classes_may_mean_ignore(folder: list[tuple[int, ...]], expected: bool) -> None:
    assert may_ignore(masks(*folder)) == expected


@given(values=st.sets(st.integers(0, 255), min_size=1, max_size=6))
def test_without_grey_values_above_half_nothing_is_lost(values: set[int]) -> None:
    picture = grey(*sorted(values))
    rule = foreground_rule([measure(picture)], is_graded([measure(picture)]))
    if rule == NON_ZERO:
        np.testing.assert_array_equal(foreground(picture, rule), np.asarray(picture) != 0)
    else:
        assert foreground(picture, rule).any()

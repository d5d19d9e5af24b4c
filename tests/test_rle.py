"""Run lengths of files: decoded whole or refused, whatever they claim."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from avsrobust.limits import ENVIRONMENT, PICTURE_PIXELS
from avsrobust.rle import decode_entry, decode_mask, decode_runs, encode_masks


def coco_string(values: list[int]) -> str:
    """COCO's string of a list of runs, after maskApi.c's rleToString: written slowly and apart from the reader."""
    text = ""
    for index, run in enumerate(values):
        value = run - values[index - 2] if index > 2 else run
        more = True
        while more:
            unit = value & 31
            value >>= 5
            more = value != -1 if unit & 16 else value != 0
            text += chr((unit | 32 if more else unit) + 48)
    return text


def runs_of(mask: np.ndarray) -> list[int]:
    runs, last = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != last:
            runs.append(0)
            last = pixel
        runs[-1] += 1
    return runs


@given(arrays(np.bool_, st.tuples(st.integers(1, 30), st.integers(1, 30))))
def test_strings_and_lists_decode_alike(mask: np.ndarray) -> None:
    runs = runs_of(mask)
    assert coco_string(runs) == encode_masks(mask[None])[0]
    size = list(mask.shape)
    for counts in (runs, tuple(runs), coco_string(runs), coco_string(runs).encode()):
        assert np.array_equal(decode_entry(size, counts), mask)


@pytest.mark.parametrize(
    "runs",
    [
        # Their sums are 4 x 5 modulo 2^64, 2^32 or with signs: none may be taken for it.
        [1 << 63, 1 << 63, 20],
        [20 + (1 << 64)],
        [(1 << 64) - 1, 21],
        [1 << 62] * 4 + [20],
        [20 + (1 << 32)],
        [30, -10],
        [True] * 20,
        [20.0],
        ["20"],
        [None],
        [],
        [21],
        [19],
    ],
)
def test_runs_that_do_not_fill_the_mask_are_refused(runs: list[object]) -> None:
    with pytest.raises(ValueError, match=r"do not fill 4 x 5|is none of 4 x 5"):
        decode_runs(runs, 4, 5)


@given(st.lists(st.integers(0, (1 << 34) - 1), min_size=1, max_size=12))
def test_strings_of_large_runs_are_refused_and_never_wrap(runs: list[int]) -> None:
    if sum(runs) == 20 and max(runs) <= 20:
        return
    with pytest.raises(ValueError, match=r"do not fill 4 x 5|no COCO"):
        decode_mask(coco_string(runs), 4, 5)


def test_sums_that_wrap_to_the_right_number_are_refused() -> None:
    # Runs that rise and fall in steps of 2^31, as the string's differences allow: they add up to 2^64, and 20 more.
    up = np.arange(1, (1 << 16) + 1)
    steps = np.repeat(np.concatenate([up, up[-2::-1]]), 2).tolist()
    runs = [step << 31 for step in steps] + [0, 20]
    assert sum(runs) == (1 << 64) + 20
    with pytest.raises(ValueError, match="do not fill 4 x 5"):
        decode_mask(coco_string(runs), 4, 5)


@pytest.mark.parametrize("size", [(0, 5), (-4, -5), (1 << 40, 1 << 40), (1 << 32, 1 << 32), (9000, 9000)])
def test_sizes_are_bounded(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="is not one of a mask"):
        decode_runs([0], *size)
    with pytest.raises(ValueError, match="is not one of a mask"):
        decode_mask("0", np.int32(size[0] & 0x7FFFFFFF), 1 << 40)


def test_the_limit_can_be_raised_and_stays_below_what_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, "1000000")
    assert PICTURE_PIXELS.current > 1 << 34
    with pytest.raises(ValueError, match="is not one of a mask"):
        decode_mask("0", 1 << 17, 1 << 18)


@pytest.mark.parametrize(
    ("size", "counts", "message"),
    [
        (None, "0", "its size is None"),
        ([4], [20], "its size is"),
        ([4, 5.0], [20], "its size is"),
        ([True, 5], [5], "its size is"),
        ([4, 5], None, "its counts are None"),
        ([4, 5], {"a": 1}, "its counts are a dict"),
        ([4, 5], [1 << 70000], "an integer beyond 64 bits"),
    ],
)
def test_entries_of_another_kind_are_refused(size: object, counts: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_entry(size, counts)


@given(st.one_of(st.text(max_size=20), st.binary(max_size=20), st.lists(st.integers(), max_size=8)))
def test_anything_is_decoded_whole_or_refused(counts: object) -> None:
    try:
        mask = decode_entry([3, 4], counts)
    except ValueError:
        return
    assert mask.shape == (3, 4)

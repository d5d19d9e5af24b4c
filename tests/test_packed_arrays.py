"""Packed pieces of a column: equal to what was given, in a fraction of its bytes."""

from __future__ import annotations

import gc
import pickle
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsrobust import packed_arrays
from avsrobust.manifest import load_manifest, write_manifest
from avsrobust.packed_arrays import PackedArrays

ROWS = 20_000


def paths(number: int) -> pa.Array:
    return pa.array([f"Multi-sources/ms3_data/visual_frames/clip {index // 5}/{index}.png" for index in range(number)])


@settings(deadline=None)
@given(
    values=st.lists(st.sampled_from([None, "a", "b/é", "", *(f"folder/{index}" for index in range(200))]), max_size=40),
    rows=st.integers(1, 50),
    large=st.sampled_from([0, 100, 1 << 16]),
)
def test_pieces_hold_what_was_given(values: list[str | None], rows: int, large: int) -> None:
    array = pa.array(values, pa.string()).dictionary_encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_arrays, "_LARGE", large)
        packed = PackedArrays([array.slice(len(array) // 2)])
        packed.append_pieces(array, rows)
        for found in (packed, pickle.loads(pickle.dumps(packed))):
            assert [len(piece) for piece in found] == list(found.sizes)
            by_number = [found[number] for number in range(len(found))]
            for pieces in (list(found), by_number, found[:], [*found[:-1], found[-1]] if len(found) else []):
                assert all(pa.types.is_dictionary(piece.type) for piece in pieces)
                assert [value for piece in pieces for value in piece.to_pylist()] == [
                    *values[len(values) // 2 :],
                    *values,
                ]


def test_a_piece_knows_its_own_texts_alone() -> None:
    packed = PackedArrays()
    packed.append_pieces(paths(10_000).dictionary_encode(), 1000)
    assert list(packed.sizes) == [1000] * 10
    assert {len(piece.dictionary) for piece in packed} == {1000}


def test_numbers_and_few_texts_stay_as_they_are() -> None:
    numbers, texts = pa.array([1, None, 3], pa.uint64()), pa.array(["a", "b", "a"]).dictionary_encode()
    packed = PackedArrays([numbers, texts])
    assert packed[0] is numbers
    assert packed[1].type == pa.dictionary(pa.int8(), pa.string())
    assert packed[1].to_pylist() == ["a", "b", "a"]
    with pytest.raises(IndexError):
        packed[2]


def test_many_texts_take_a_sixth() -> None:
    array = paths(16_384).dictionary_encode()
    before = pa.total_allocated_bytes()
    packed = PackedArrays([array])
    assert pa.total_allocated_bytes() - before + len(pickle.dumps(packed)) < array.nbytes / 6


def test_a_loaded_manifest_takes_few_bytes_a_row(toy_builds: Path, tmp_path: Path) -> None:
    example = load_manifest(toy_builds / "robust/s4-seed42")
    first, generator = example.rows[0], np.random.default_rng(0)
    rows = (
        replace(
            first,
            clip_id=f"clip_{number // 4:07d}",
            condition=f"c{number % 4}",
            audio=f"sounds/{number:06d}.wav",
            audio_sha256=generator.bytes(32).hex(),
            frames=tuple(
                f"Single-source/s4_data/visual_frames/test/dog/clip_{number // 4:07d}/{at}.png" for at in range(5)
            ),
            masks=tuple(f"Single-source/s4_data/gt_masks/test/dog/clip_{number // 4:07d}/{at}.png" for at in range(5)),
        )
        for number in range(ROWS)
    )
    write_manifest(tmp_path / "manifest.parquet", rows, example.info)
    # What is imported once is none of it.
    load_manifest(tmp_path)
    gc.collect()
    tracemalloc.start()
    try:
        before = pa.total_allocated_bytes() + tracemalloc.get_traced_memory()[0]
        manifest = load_manifest(tmp_path)
        gc.collect()
        held = pa.total_allocated_bytes() + tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(manifest.rows) == ROWS
    # As columns of arrow's 470; the checksums alone are 32.
    assert held < 130 * ROWS

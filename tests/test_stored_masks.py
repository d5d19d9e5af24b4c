from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from avsrobust import stored_masks
from avsrobust.errors import AdapterError
from avsrobust.files import sha256_of_file
from avsrobust.manifest import Manifest
from avsrobust.row_keys import key_of
from avsrobust.stored_masks import (
    StoredMasks,
    decode_mask,
    encode_masks,
    masks_table,
    merge_masks,
    write_masks,
)


@given(arrays(np.bool_, st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40))))
def test_masks_come_back_and_pycocotools_reads_them_alike(masks: np.ndarray) -> None:
    height, width = masks.shape[1:]
    for mask, counts in zip(masks, encode_masks(masks), strict=True):
        assert np.array_equal(decode_mask(counts, height, width), mask)
        assert np.array_equal(coco.decode({"size": [height, width], "counts": counts.encode()}), mask)


@given(st.text(max_size=12), st.integers(-2, 8), st.integers(-2, 8))
def test_any_string_is_decoded_whole_or_refused(counts: str, height: int, width: int) -> None:
    try:
        mask = decode_mask(counts, height, width)
    except ValueError:
        return
    assert mask.shape == (height, width)


@pytest.mark.parametrize(
    ("counts", "size", "message"),
    [
        ("52207", (40, 50), "do not fill 40 x 50"),
        ("52207", (2, 2), "do not fill 2 x 2"),
        ("", (4, 5), "no COCO run-length"),
        ("d", (4, 5), "no COCO run-length"),
        ("o" * 20 + "0", (4, 5), "no COCO run-length"),
        ("d0", (1 << 20, 1 << 20), "is not one of a mask"),
        ("d0", (-4, -5), "is not one of a mask"),
    ],
)
def test_broken_encodings_are_refused(counts: str, size: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_mask(counts, *size)


def random_masks(build: Manifest) -> dict[int, np.ndarray]:
    generator = np.random.default_rng(1)
    return {index: generator.random((5, 6, 7)) > 0.5 for index in range(len(build.rows))}


def store(path: Path, build: Manifest, masks: dict[int, np.ndarray]) -> None:
    write_masks(path, (masks_table(build.rows[index], masks[index]) for index in masks))


def test_rows_are_found_by_clip_condition_and_level(make_build, tmp_path: Path) -> None:
    build = make_build(clips=2, conditions=("clean",), levels=(-5.0, 0.1))
    masks = random_masks(build)
    store(tmp_path / "masks.parquet", build, masks)
    stored = StoredMasks(tmp_path / "masks.parquet")
    for index, row in enumerate(build.rows):
        found = stored.read(row.split, row.clip_id, row.condition, row.level)
        assert np.array_equal(np.stack([found[frame] for frame in range(5)]), masks[index])
    assert stored.read("test", "group/clip0", "mixture", 3.0) == {}
    assert stored.read("test", "other", "clean", None) == {}


def test_merging_is_independent_of_how_clips_lie_in_the_sources(tiny_build, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(stored_masks, "CLIPS_PER_GROUP", 3)
    masks = random_masks(tiny_build)
    clips = sorted({(row.split, row.clip_id) for row in tiny_build.rows})
    by_clip = [[i for i, row in enumerate(tiny_build.rows) if row.clip_id == clip_id] for _, clip_id in clips]
    splits = {
        "one": [by_clip[0] + by_clip[1] + by_clip[2] + by_clip[3]],
        "two": [by_clip[3][::-1] + by_clip[1], by_clip[0] + by_clip[2]],
    }
    digests = set()
    for name, sources in splits.items():
        paths = [tmp_path / f"{name}{number}.parquet" for number in range(len(sources))]
        for path, indices in zip(paths, sources, strict=True):
            store(path, tiny_build, {index: masks[index] for index in indices})
        merge_masks(tmp_path / f"{name}.parquet", paths, clips)
        digests.add(sha256_of_file(tmp_path / f"{name}.parquet"))
    assert len(digests) == 1
    table = pq.read_table(tmp_path / "one.parquet")
    assert table.num_rows == 4 * 4 * 5
    assert pq.ParquetFile(tmp_path / "one.parquet").num_row_groups == 2
    keys = [tuple(entry[name] for name in ("clip_id", "condition", "frame")) for entry in table.to_pylist()]
    assert keys == sorted(keys)


@pytest.mark.parametrize("most", [1, 2, 100])
def test_few_files_are_open_while_many_are_merged(most: int, tiny_build, tmp_path: Path, monkeypatch) -> None:
    masks = random_masks(tiny_build)
    for index, mask in masks.items():
        store(tmp_path / f"{index:03d}.parquet", tiny_build, {index: mask})
    sources = sorted(tmp_path.glob("*.parquet"))
    store(tmp_path / "all", tiny_build, masks)
    merge_masks(tmp_path / "expected", [tmp_path / "all"])
    open_now, most_open = set[int](), [0]
    opened, closed = StoredMasks.__init__, StoredMasks.close

    def opening(self: StoredMasks, path: Path) -> None:
        opened(self, path)
        open_now.add(id(self))
        most_open.append(len(open_now))

    def closing(self: StoredMasks) -> None:
        closed(self)
        open_now.discard(id(self))

    monkeypatch.setattr(StoredMasks, "__init__", opening)
    monkeypatch.setattr(StoredMasks, "close", closing)
    monkeypatch.setattr(stored_masks, "_MOST_OPEN", most)
    merge_masks(tmp_path / "found", sources)
    assert (len(open_now), max(most_open)) == (0, min(most, len(sources)))
    assert (tmp_path / "found").read_bytes() == (tmp_path / "expected").read_bytes()


def test_rows_are_those_of_all_masks(make_build, tmp_path: Path) -> None:
    build = make_build(clips=2, conditions=("clean", "noise"), levels=(-5.0, 0.1))
    store(tmp_path / "m", build, random_masks(build))
    assert stored_masks.rows_of_masks(tmp_path / "m") == {key_of(row) for row in build.rows}


def test_files_of_other_programs_need_neither_split_nor_level_nor_text(tmp_path: Path) -> None:
    mask = np.eye(4, dtype=bool)
    table = pa.table(
        {
            "frame": [0],
            "clip_id": ["a"],
            "condition": ["clean"],
            "size": [[4, 4]],
            "counts": [encode_masks(mask[None])[0].encode()],
        }
    )
    pq.write_table(table, tmp_path / "other.parquet")
    found = StoredMasks(tmp_path / "other.parquet").read("test", "a", "clean", None)
    assert np.array_equal(found[0], mask)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": [None]}, "has not a size"),
        ({"size": [None]}, "has not a size"),
        ({"size": [[4]]}, "has not a size"),
        ({"counts": ["zz"]}, "do not fill|no COCO"),
    ],
)
def test_broken_entries_are_refused(tmp_path: Path, changes: dict[str, list[object]], message: str) -> None:
    columns = {"clip_id": ["a"], "condition": ["clean"], "frame": [0], "size": [[4, 4]], "counts": ["`0"], **changes}
    pq.write_table(pa.table(columns), tmp_path / "broken.parquet")
    with pytest.raises(ValueError, match=message):
        StoredMasks(tmp_path / "broken.parquet").read("test", "a", "clean", None)


def test_a_frame_stored_twice_is_refused(tiny_build, tmp_path: Path) -> None:
    masks = random_masks(tiny_build)
    write_masks(tmp_path / "m.parquet", [masks_table(tiny_build.rows[0], masks[0])] * 2)
    row = tiny_build.rows[0]
    with pytest.raises(ValueError, match="frame 0 is there twice"):
        StoredMasks(tmp_path / "m.parquet").read(row.split, row.clip_id, row.condition, None)


def test_files_that_hold_no_masks_are_named(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"none\.parquet: not found"):
        StoredMasks(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("x")
    with pytest.raises(AdapterError, match=r"text\.parquet: cannot be read as parquet"):
        StoredMasks(tmp_path / "text.parquet")
    pq.write_table(pa.table({"clip_id": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(AdapterError, match="has no column condition, frame, size, counts"):
        StoredMasks(tmp_path / "other.parquet")

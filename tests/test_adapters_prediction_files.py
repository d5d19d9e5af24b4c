"""Predictions as other people's programs store them: names, ways of counting, modes, scales, class ids, hostile files."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from avsrobust.adapters import prediction_layout, prediction_values
from avsrobust.adapters.base import RowView
from avsrobust.adapters.predictions import Predictions
from avsrobust.datasets.masks import palette
from avsrobust.errors import AdapterError, ClipError
from avsrobust.limits import Limit
from avsrobust.rle import encode_masks

CPU = torch.device("cpu")
SIZE = (4, 6)


def view(
    clip_id: str = "dog/abc_1",
    *,
    condition: str = "clean",
    dataset: str = "s4",
    masked: object = range(5),
    frames: int = 5,
) -> RowView:
    has_mask = torch.tensor([frame in masked for frame in range(frames)])  # type: ignore[operator]
    target = torch.zeros(frames, *SIZE, dtype=torch.bool)
    return RowView(dataset, "test", clip_id, condition, "positive", None, 1, target, has_mask)


def load(path: Path, **options: str) -> Predictions:
    return Predictions.load(None, CPU, masks=str(path), **options)


def answer(path: Path, row: RowView | None = None, **options: str) -> np.ndarray:
    return load(path, **options).segment_rows(None, torch.zeros(1), [row or view()])[0].numpy()


def masks(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((5, *SIZE)) > 0.5


def write(path: Path, picture: np.ndarray | Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path)


def write_clip(folder: Path, values: np.ndarray, name: str = "{k}", first: int = 0) -> None:
    for k, value in enumerate(values.astype(np.uint8) * 255 if values.dtype == np.bool_ else values, start=first):
        write(folder / f"{name.format(k=k)}.png", value)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    "name",
    [
        "dog/abc_1/abc_1_{k}",
        "dog/abc_1/{k}",
        "dog/abc_1/abc_1.mp4_{k}",
        "dog/abc_1/{k:05d}",
        "abc_1/abc_1_{k}",
        "abc_1/{k}",
        "dog/abc_1_{k}",
        "abc_1_{k}",
        "test/dog/abc_1/abc_1_{k}",
        "v1s/abc_1/{k}",
    ],
)
def test_names_of_the_fields_programs(tmp_path: Path, name: str, first: int) -> None:
    stored = masks()
    write_clip(tmp_path / "clean", stored, name, first)
    write_clip(tmp_path / "silence", stored & False, name, first)
    assert np.array_equal(answer(tmp_path) > 0.5, stored)
    assert answer(tmp_path, view(condition="silence")).max() == 0


@pytest.mark.parametrize("place", ["vid_0", "v1m/vid_0", "test/vid_0", "anything/vid_0"])
def test_clips_known_by_a_bare_name_are_found_in_any_folder(tmp_path: Path, place: str) -> None:
    write_clip(tmp_path / "clean" / place, masks(), "vid_0_{k}")
    write_clip(tmp_path / "noise" / place, ~masks(), "vid_0_{k}")
    assert np.array_equal(answer(tmp_path, view("vid_0", dataset="ms3")) > 0.5, masks())


def test_clean_masks_alone_need_no_folder_of_the_condition(tmp_path: Path) -> None:
    write_clip(tmp_path / "dog" / "abc_1", masks(), "abc_1_{k}")
    assert np.array_equal(answer(tmp_path) > 0.5, masks())
    with pytest.raises(ClipError, match=r"silence/dog/abc_1/0\.png: not found; .*has dog; known: DIR/<condition>"):
        answer(tmp_path, view(condition="silence"))


def test_more_frames_than_the_clip_has_are_padding(tmp_path: Path) -> None:
    # AVSBench's AVSS test pads clips of five frames to ten, and saves all ten.
    write_clip(tmp_path / "clean/abc_1", np.concatenate([masks(), masks()]), "abc_1_{k}")
    assert np.array_equal(answer(tmp_path) > 0.5, masks())


def test_the_way_of_counting_is_one_for_all_clips_of_a_condition(tmp_path: Path) -> None:
    write_clip(tmp_path / "clean/dog/abc_1", masks(), "{k}", 0)
    write_clip(tmp_path / "clean/dog/other", masks(), "{k}", 1)
    answer(tmp_path)
    with pytest.raises(ClipError, match=r"clean/dog/other: clip dog/other under clean: .*counted from 1 .*from 0"):
        answer(tmp_path, view("dog/other"))


def test_frames_that_fit_both_ways_of_counting_are_refused(tmp_path: Path) -> None:
    for k in (1, 2, 3):
        write(tmp_path / f"clean/dog/abc_1/{k}.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(ClipError, match=r"no frame 0 in any clip, and frames 1, 2, 3 here.*may be counted"):
        answer(tmp_path, view(masked=(1, 2)))
    with pytest.raises(ClipError, match=r"clean/dog/abc_1/4\.png: not found; .*of frame 3 .*counted from 1"):
        answer(tmp_path, view(masked=(0, 1, 2, 3)))


def test_only_frame_one_of_a_training_clip(tmp_path: Path) -> None:
    write(tmp_path / "clean/dog/abc_1/abc_1_1.png", np.full(SIZE, 255, np.uint8))
    assert answer(tmp_path, view(masked=(0,)))[0].min() == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("clean/dog/abc_1/0.png", "clean/abc_1/0.png"), "found next to .*expected one of the two"),
        (("clean/dog/abc_1/1.png", "clean/dog/abc_1/01.png"), r"holds 01\.png and 1\.png for frame 1"),
        (("clean/dog/abc_1/1.png", "clean/dog/abc_1/abc_1_1.png"), r"holds 1\.png and abc_1_1\.png for frame 1"),
    ],
)
def test_a_frame_stored_twice_is_refused(tmp_path: Path, files: tuple[str, str], message: str) -> None:
    for file in files:
        write(tmp_path / file, np.zeros(SIZE, np.uint8))
    with pytest.raises(ClipError, match=message):
        answer(tmp_path)


def test_one_folder_is_not_taken_for_two_clips(tmp_path: Path) -> None:
    write_clip(tmp_path / "clean/abc_1", masks(), "abc_1_{k}")
    adapter = load(tmp_path)
    adapter.segment_rows(None, torch.zeros(1), [view("dog/abc_1")])
    with pytest.raises(ClipError, match=r"clean/abc_1: fits clip cat/abc_1 and clip dog/abc_1"):
        adapter.segment_rows(None, torch.zeros(1), [view("cat/abc_1")])


def test_an_unknown_layout_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    write(tmp_path / "clean/abc_1-mask-of-frame-3.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(
        AdapterError, match=r"files such as 'clean/abc_1-mask-of-frame-3\.png'.*<name>/<name>_<k>\.png"
    ) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def modes() -> dict[str, Callable[[np.ndarray], Image.Image]]:
    def coloured(values: np.ndarray, colours: list[int]) -> Image.Image:
        picture = Image.fromarray((values > 0).astype(np.uint8))
        picture.putpalette(colours)
        return picture

    return {
        "P of greys": lambda values: Image.fromarray(values).convert("P"),
        "P of black and red": lambda values: coloured(values, [0, 0, 0, 128, 0, 0]),
        "P of white and black": lambda values: coloured(255 - values, [255, 255, 255, 0, 0, 0]),
        "L": Image.fromarray,
        "1": lambda values: Image.fromarray(values).convert("1"),
        "RGB": lambda values: Image.fromarray(values).convert("RGB"),
        "RGBA": lambda values: Image.fromarray(values).convert("RGBA"),
        "LA": lambda values: Image.fromarray(values).convert("LA"),
        "I;16 of 0/65535": lambda values: Image.fromarray(values.astype(np.uint16) * 257),
        "I;16 of 0/255": lambda values: Image.fromarray(values.astype(np.uint16)),
        "L of 0/1": lambda values: Image.fromarray(values // 255),
        "RGB of 0/1": lambda values: Image.fromarray(values // 255).convert("RGB"),
        "I;16 of 0/1": lambda values: Image.fromarray((values // 255).astype(np.uint16)),
    }


@pytest.mark.parametrize("mode", modes())
def test_binary_masks_in_every_mode(tmp_path: Path, mode: str) -> None:
    for frame, mask in enumerate(masks()):
        picture = modes()[mode](mask.astype(np.uint8) * 255)
        assert mode.startswith(picture.mode)
        write(tmp_path / f"clean/dog/abc_1/{frame}.png", picture)
        write(tmp_path / f"silence/dog/abc_1/{frame}.png", modes()["L"](np.zeros(SIZE, np.uint8)))
    found = answer(tmp_path)
    assert np.array_equal(found, masks().astype(np.float32))
    assert answer(tmp_path, view(condition="silence")).max() == 0


def test_a_mask_of_nothing_but_foreground_in_a_palette_of_colours(tmp_path: Path) -> None:
    for frame in range(5):
        write(tmp_path / f"clean/dog/abc_1/{frame}.png", modes()["P of black and red"](np.full(SIZE, 255, np.uint8)))
    assert answer(tmp_path).min() == 1


def test_greys_are_split_at_half(tmp_path: Path) -> None:
    values = np.array([0, 1, 126, 127, 128, 255], np.uint8)
    write_clip(tmp_path / "clean/dog/abc_1", np.broadcast_to(values, (5, *SIZE)))
    assert (answer(tmp_path)[0, 0] > 0.5).tolist() == [False, False, False, False, True, True]


def test_the_scale_is_that_of_the_whole_folder(tmp_path: Path) -> None:
    faint = np.zeros((5, *SIZE), np.uint8)
    faint[:, 0] = 1
    write_clip(tmp_path / "silence/dog/abc_1", faint)
    assert answer(tmp_path, view(condition="silence")).max() == 1
    write_clip(tmp_path / "clean/dog/abc_1", np.random.default_rng(0).integers(0, 256, (5, *SIZE), dtype=np.uint8))
    assert answer(tmp_path, view(condition="silence")).max() == pytest.approx(1 / 255)


def test_binary_masks_on_two_scales_are_refused(tmp_path: Path) -> None:
    write_clip(tmp_path / "clean/dog/abc_1", masks())
    write_clip(tmp_path / "silence/dog/abc_1", masks().astype(np.uint8))
    with pytest.raises(
        AdapterError, match=r"several scales \(0 and 1 in .*silence.*0 and 255 in .*clean.*expected one scale"
    ):
        load(tmp_path)


def test_a_folder_of_empty_masks_is_fine(tmp_path: Path) -> None:
    write_clip(tmp_path / "clean/dog/abc_1", masks() & False)
    assert answer(tmp_path).max() == 0


@pytest.mark.parametrize("dataset", ["avss", "s4"])
@pytest.mark.parametrize("kind", ["L", "P", "npz", "npy"])
def test_class_ids_without_the_option_are_refused_by_its_name(tmp_path: Path, dataset: str, kind: str) -> None:
    ids = np.where(masks(), 21, 0).astype(np.uint8)
    ids[0, 0, 0] = 70
    clip = tmp_path / "clean/v2/abc_1"
    clip.mkdir(parents=True)
    if kind == "npz":
        np.savez(clip.with_name("abc_1.npz"), masks=ids.astype(np.int64))
    elif kind == "npy":
        np.save(clip.with_name("abc_1.npy"), ids)
    else:
        for frame, value in enumerate(ids):
            picture = Image.fromarray(value)
            if kind == "P":
                picture.putpalette(palette().ravel().tolist())
            write(clip / f"{frame}.png", picture)
    with pytest.raises(AdapterError, match=r"masks=.*: holds only the values 0, 21, 70 .*--option task=semantic"):
        answer(tmp_path, view("v2/abc_1", dataset=dataset))
    assert np.array_equal(answer(tmp_path, view("v2/abc_1", dataset=dataset), task="semantic"), ids)


def test_class_ids_with_255_for_ignore_are_refused_where_there_are_classes(tmp_path: Path) -> None:
    ids = np.where(masks(), 21, 0).astype(np.uint8)
    ids[:, 0] = 255
    write_clip(tmp_path / "clean/v2/abc_1", ids)
    with pytest.raises(AdapterError, match=r"holds only the values 0, 21, 255 .*--option task=semantic"):
        answer(tmp_path, view("v2/abc_1", dataset="avss"))


def test_binary_masks_and_probabilities_of_avss_are_no_class_ids(tmp_path: Path) -> None:
    write_clip(tmp_path / "a/clean/v2/abc_1", masks())
    write_clip(tmp_path / "b/clean/v2/abc_1", masks().astype(np.uint8))
    # Probabilities that stay low have many values.
    write_clip(tmp_path / "c/clean/v2/abc_1", np.arange(5 * 24, dtype=np.uint8).reshape(5, *SIZE) % 60)
    for folder in "abc":
        assert answer(tmp_path / folder, view("v2/abc_1", dataset="avss")).max() > 0


def test_class_ids_as_avsbench_colours_them(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 71, (5, *SIZE))
    for frame, value in enumerate(ids):
        write(tmp_path / f"clean/abc_1/abc_1_{frame}.png", palette()[value])
    assert np.array_equal(answer(tmp_path, view("v2/abc_1", dataset="avss"), task="semantic"), ids)
    with pytest.raises(ClipError, match=r"_0\.png: found a picture of mode RGB with colours; .*--option task=semantic"):
        answer(tmp_path, view("v2/abc_1", dataset="avss"))
    write(tmp_path / "clean/abc_1/abc_1_2.png", np.full((*SIZE, 3), 3, np.uint8))
    with pytest.raises(ClipError, match=r"_2\.png: found the colour \[3, 3, 3\], which is no class's"):
        answer(tmp_path, view("v2/abc_1", dataset="avss"), task="semantic")


def test_class_ids_that_count_from_one_are_pointed_out(tmp_path: Path) -> None:
    write_clip(tmp_path / "clean/abc_1", np.where(masks(), 22, 1).astype(np.uint8))
    with pytest.raises(AdapterError, match=r"no pixel of 5 files has class 0 .*subtract 1"):
        load(tmp_path, task="semantic")


@pytest.mark.parametrize(
    "kind", ["float32", "float16", "bool", "uint8 of 0/255", "int64 of 0/1", "int32 of 0/255", "uint16 of 0/65535"]
)
@pytest.mark.parametrize("place", ["clip.npz", "clip.npy", "frame.npy", "frame with channel"])
def test_arrays(tmp_path: Path, kind: str, place: str) -> None:
    dtype, _, scale = kind.partition(" of 0/")
    stored = (masks() * int(scale or 1)).astype(dtype)
    clip = tmp_path / "clean/dog/abc_1"
    clip.mkdir(parents=True)
    if place == "clip.npz":
        np.savez_compressed(clip.with_name("abc_1.npz"), masks=stored)
    elif place == "clip.npy":
        np.save(clip.with_name("abc_1.npy"), stored[:, None])
    else:
        for frame, value in enumerate(stored):
            np.save(clip / f"abc_1_{frame}.npy", value[None] if place == "frame with channel" else value)
    assert np.array_equal(answer(tmp_path), masks().astype(np.float32))


def entries(compressed: bool) -> list[dict[str, object]]:
    strings = encode_masks(masks())
    return [
        {"size": list(SIZE), "counts": counts if compressed else runs_of(mask)}
        for mask, counts in zip(masks(), strings, strict=True)
    ]


def runs_of(mask: np.ndarray) -> list[int]:
    runs, last = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != last:
            runs.append(0)
            last = pixel
        runs[-1] += 1
    return runs


def json_forms(compressed: bool) -> dict[str, object]:
    made = entries(compressed)
    index = [{"clip_id": "dog/abc_1", "condition": "clean", "frame": frame} for frame in range(5)]
    flat = [{**where, **entry} for where, entry in zip(index, made, strict=True)]
    return {
        "list": flat,
        "annotations": {
            "annotations": [{**where, "segmentation": entry} for where, entry in zip(index, made, strict=True)]
        },
        "split and level": [{**entry, "split": "test", "level": None} for entry in flat],
        "from 1": [{**entry, "frame": frame + 1} for frame, entry in enumerate(flat)],
        "nested lists": {"clean": {"dog/abc_1": made}},
        "nested objects": {"clean": {"abc_1": {str(frame): entry for frame, entry in enumerate(made)}}},
        "nested, from 1": {"clean": {"abc_1": {str(frame + 1): entry for frame, entry in enumerate(made)}}},
    }


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("form", json_forms(True))
def test_run_lengths_in_json(tmp_path: Path, form: str, compressed: bool) -> None:
    path = tmp_path / "masks.json"
    path.write_text(json.dumps(json_forms(compressed)[form]))
    assert np.array_equal(answer(path) > 0.5, masks())
    with pytest.raises(ClipError, match=r"masks\.json: has no mask of clip dog/abc_1 under noise; expected a list of"):
        answer(path, view(condition="noise"))


@pytest.mark.parametrize("wrap", [lambda made: made, lambda made: {"masks": made}, lambda made: dict(enumerate(made))])
def test_run_lengths_of_one_clip_in_json(tmp_path: Path, wrap: Callable[[object], object]) -> None:
    (tmp_path / "clean/dog").mkdir(parents=True)
    (tmp_path / "clean/dog/abc_1.json").write_text(json.dumps(wrap(entries(compressed=False))))
    assert np.array_equal(answer(tmp_path) > 0.5, masks())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("3", "neither a list nor an object"),
        ("[3]", "entry 0 is no object"),
        ('[{"clip_id": "a"}]', "entry 0 has not a clip_id, a condition and a frame"),
        ('{"clean": 3}', "no object of clips under 'clean'"),
        ('{"clean": {"a": 3}}', "neither a list nor an object"),
        ('{"clean": {"a": {"x": {}}}}', "'x' is no number of a frame"),
        ('{"clean": {"a": {"1": {}, "01": {}}}}', "holds frame 1 twice"),
        ('{"clean": {}, "clean": {}}', "has a key twice"),
        ('[{"clip_id": "a", "condition": "b", "frame": 0}, {"clip_id": "a", "condition": "b", "frame": 0}]', "twice"),
    ],
)
def test_other_json_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "masks.json").write_text(content)
    with pytest.raises(AdapterError, match=rf"masks\.json: .*{message}"):
        load(tmp_path / "masks.json")


def test_entries_that_cannot_be_decoded_fail_their_clip(tmp_path: Path) -> None:
    made = entries(compressed=False)
    made[3]["counts"] = [1 << 63, 1 << 63, 24]
    (tmp_path / "masks.json").write_text(json.dumps({"clean": {"dog/abc_1": made}}))
    with pytest.raises(
        ClipError, match=r"masks\.json: clip dog/abc_1 under clean: the run an integer|is none of 4 x 6"
    ):
        answer(tmp_path / "masks.json")


@pytest.mark.parametrize("counts", ["text", "bytes", "list", "large list"])
def test_run_lengths_in_parquet(tmp_path: Path, counts: str) -> None:
    strings = encode_masks(masks())
    column = {
        "text": pa.array(strings),
        "bytes": pa.array([text.encode() for text in strings]),
        "list": pa.array([runs_of(mask) for mask in masks()], pa.list_(pa.int32())),
        "large list": pa.array([runs_of(mask) for mask in masks()], pa.large_list(pa.uint64())),
    }[counts]
    table = pa.table(
        {
            "clip_id": ["dog/abc_1"] * 5,
            "condition": ["clean"] * 5,
            "frame": range(1, 6),
            "size": [list(SIZE)] * 5,
            "counts": column,
        }
    )
    pq.write_table(table, tmp_path / "masks.parquet")
    assert np.array_equal(answer(tmp_path / "masks.parquet") > 0.5, masks())


def test_run_lengths_that_wrap_in_parquet_fail_their_clip(tmp_path: Path) -> None:
    # As COCO strings, the runs 2^34 - 1 and so on; as lists, sums of 2^64 + 24.
    for number, counts in enumerate((["oooooo?" * 40] * 5, [[1 << 63, 1 << 63, 24]] * 5)):
        column = pa.array(counts) if number == 0 else pa.array(counts, pa.list_(pa.uint64()))
        table = pa.table(
            {
                "clip_id": ["dog/abc_1"] * 5,
                "condition": ["clean"] * 5,
                "frame": range(5),
                "size": [list(SIZE)] * 5,
                "counts": column,
            }
        )
        pq.write_table(table, tmp_path / "masks.parquet")
        with pytest.raises(
            ClipError, match=r"masks\.parquet: clip dog/abc_1 under clean: frame 0 has not .*runs? .* 4 x 6"
        ):
            answer(tmp_path / "masks.parquet")


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("clip_id", pa.array([3]), "column clip_id is of type int64; expected text"),
        ("frame", pa.array([0.5]), "column frame is of type double; expected integers"),
        ("frame", pa.array([-1]), "found frame -1"),
        ("size", pa.array(["4x6"]), "column size is of type string; expected lists"),
        ("counts", pa.array([3.5]), "column counts is of type double"),
        ("level", pa.array(["loud"]), "column level is of type string; expected numbers"),
        ("clip_id", pa.array([None], pa.string()), "rows without"),
    ],
)
def test_columns_of_another_type_are_named(tmp_path: Path, name: str, column: pa.Array, message: str) -> None:
    columns = {
        "clip_id": pa.array(["a"]),
        "condition": pa.array(["clean"]),
        "frame": pa.array([0]),
        "size": pa.array([[4, 6]]),
        "counts": pa.array(["0"]),
        name: column,
    }
    pq.write_table(pa.table(columns), tmp_path / "m.parquet")
    with pytest.raises(AdapterError, match=rf"m\.parquet: .*{message}"):
        load(tmp_path / "m.parquet")


def test_parquet_that_stands_for_far_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    rows = 400_000
    text = "x" * 100_000
    table = pa.table(
        {
            "clip_id": pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text])),
            "condition": pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["clean"])),
            "frame": np.zeros(rows, np.int32),
            "size": pa.FixedSizeListArray.from_arrays(pa.array(np.full(2 * rows, 4, np.int32)), 2),
            "counts": pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text])),
        }
    )
    # As text, each of clip_id and counts would be 40 GB.
    pq.write_table(table, tmp_path / "m.parquet")
    assert (tmp_path / "m.parquet").stat().st_size < 2_000_000
    adapter = load(tmp_path / "m.parquet")
    with pytest.raises(ClipError, match=r"holds 400,000 masks; expected one per frame"):
        adapter.segment_rows(None, torch.zeros(1), [view(text)])


def test_small_files_of_large_arrays_are_refused_before_memory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_values, "MASK_BYTES", Limit(1 << 20, "bytes", "a test"))
    (tmp_path / "clean/dog").mkdir(parents=True)
    path = tmp_path / "clean/dog/abc_1.npz"
    np.savez_compressed(path, masks=np.zeros((5, 2000, 1000), np.uint8))
    assert path.stat().st_size < 20_000
    with pytest.raises(ClipError, match=r"abc_1\.npz: unpacked: found 10,000,\d+ bytes; expected at most 1,048,576"):
        answer(tmp_path)


def test_pictures_of_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    write(tmp_path / "clean/dog/abc_1/0.png", Image.new("1", (13_000, 13_000)))
    with pytest.raises(ClipError, match=r"0\.png: found 169,000,000 pixels; expected at most"):
        answer(tmp_path, view(masked=(0,)))


@pytest.mark.parametrize("mode", ["L", "1", "RGB"])
def test_pictures_whose_data_end_early_are_refused(mode: str, tmp_path: Path) -> None:
    write_clip(tmp_path / "clean/dog/abc_1", masks())
    path = tmp_path / "clean/dog/abc_1/3.png"
    for kept, is_whole in ((SIZE[0], True), (SIZE[0] - 1, False), (1, False)):
        picture = np.zeros(SIZE, np.uint8)
        picture[0] = 255
        stream = io.BytesIO()
        Image.fromarray(picture).convert(mode).save(stream, "PNG")
        content = stream.getvalue()
        start = content.index(b"IDAT")
        length = int.from_bytes(content[start - 4 : start], "big")
        rows = zlib.decompress(content[start + 4 : start + 4 + length])
        data = zlib.compress(rows[: len(rows) // SIZE[0] * kept])
        chunk = struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data))
        path.write_bytes(content[: start - 4] + chunk + content[start + 8 + length :])
        if is_whole:
            answer(tmp_path)
        else:
            with pytest.raises(
                ClipError, match=r"3\.png: found a damaged picture \(fewer rows of pixels .*write it again"
            ):
                answer(tmp_path)


def test_whatever_is_no_regular_file_fails_its_clip(tmp_path: Path) -> None:
    write_clip(tmp_path / "clean/dog/abc_1", masks())
    for name, clip in (
        ("clean/dog/pipe/0.png", "dog/pipe"),
        ("clean/dog/array.npz", "dog/array"),
        ("clean/dog/text.json", "dog/text"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        os.mkfifo(tmp_path / name)
        with pytest.raises(ClipError, match=rf"{Path(name).name}: cannot be read.* \(is a pipe, not a regular file"):
            answer(tmp_path, view(clip, masked=(0,)))
    answer(tmp_path)


def test_a_folder_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "clean/dog/abc_1", masks())
    monkeypatch.setattr(prediction_layout, "FILES", Limit(3, "files", "a test"))
    with pytest.raises(AdapterError, match=r"masks=.*: found \d files; expected at most 3 \(a test\)"):
        load(tmp_path)


def test_a_mask_of_many_pixels_is_bounded_for_the_whole_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "clean/dog/abc_1", masks())
    monkeypatch.setattr(prediction_values, "MASK_BYTES", Limit(100, "bytes", "a test"))
    monkeypatch.setattr("avsrobust.adapters.predictions.MASK_BYTES", Limit(100, "bytes", "a test"))
    with pytest.raises(ClipError, match=r"found 480 bytes; expected at most 100"):
        answer(tmp_path)

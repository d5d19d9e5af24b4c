from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avsrobust.adapters.base import RowView
from avsrobust.adapters.predictions import Predictions
from avsrobust.errors import AdapterError, ClipError
from avsrobust.manifest import Manifest
from avsrobust.stored_masks import masks_table, write_masks
from avsrobust.testing import check_adapter

CPU = torch.device("cpu")


def view(
    clip_id: str = "group/a", *, level: float | None = None, masked: int = 5, size: tuple[int, int] = (4, 6)
) -> RowView:
    has_mask = torch.arange(5) < masked
    target = torch.zeros(5, *size, dtype=torch.bool)
    return RowView("s4", "test", clip_id, "clean", "positive", level, 1, target, has_mask)


def answer(folder: Path, row: RowView) -> np.ndarray:
    adapter = Predictions.load(None, CPU, masks=str(folder))
    return adapter.segment_rows(None, torch.zeros(1), [row])[0].numpy()


def write_pngs(folder: Path, values: np.ndarray, place: str = "clean/group/a", mode: str | None = None) -> None:
    (folder / place).mkdir(parents=True, exist_ok=True)
    for frame, value in enumerate(values):
        picture = Image.fromarray(value)
        (picture if mode is None else picture.convert(mode)).save(folder / place / f"{frame}.png")


def random_bytes() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 4, 6), dtype=np.uint8)


def test_grayscale_png_is_probability_times_255(tmp_path: Path) -> None:
    values = random_bytes()
    write_pngs(tmp_path, values)
    assert np.array_equal(answer(tmp_path, view()), values.astype(np.float32) / np.float32(255))


def test_one_bit_png_is_zero_and_one(tmp_path: Path) -> None:
    values = (random_bytes() > 100).astype(np.uint8) * 255
    write_pngs(tmp_path, values, mode="1")
    assert np.array_equal(answer(tmp_path, view()), values > 0)


def test_levels_have_folders_of_their_own(tmp_path: Path) -> None:
    values = random_bytes()
    write_pngs(tmp_path, values, "clean/-2.5/group/a")
    assert answer(tmp_path, view(level=-2.5)).max() > 0
    with pytest.raises(ClipError, match=r"clean/-5/group/a/0\.png: not found"):
        answer(tmp_path, view(level=-5.0))


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (np.array([0, 128, 255], np.uint8), [0, 128 / 255, 1]),
        (np.array([0, 1, 1], np.bool_), [0, 1, 1]),
        (np.array([0, 0.25, 1], np.float64), [0, 0.25, 1]),
        (np.array([0, 0.25, 1], np.float16), [0, 0.25, 1]),
    ],
)
def test_archives_of_every_dtype(tmp_path: Path, stored: np.ndarray, expected: list[float]) -> None:
    masks = np.broadcast_to(stored, (5, 4, 3))
    (tmp_path / "clean/group").mkdir(parents=True)
    np.savez(tmp_path / "clean/group/a.npz", masks=masks)
    found = answer(tmp_path, view(size=(4, 3)))
    assert found == pytest.approx(np.broadcast_to(np.array(expected), (5, 4, 3)), abs=1e-7)


def test_other_sizes_are_resized_as_a_models_output_is(tmp_path: Path) -> None:
    write_pngs(tmp_path, random_bytes())
    small = torch.from_numpy(random_bytes().astype(np.float32) / np.float32(255))
    expected = torch.nn.functional.interpolate(small[:, None], (9, 11), mode="bilinear", align_corners=False)[:, 0]
    assert np.array_equal(answer(tmp_path, view(size=(9, 11))), expected.numpy())


def test_frames_without_a_mask_need_no_prediction(tmp_path: Path) -> None:
    write_pngs(tmp_path, random_bytes()[:1])
    found = answer(tmp_path, view(masked=1))
    assert found[0].max() > 0
    assert found[1:].max() == 0


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        ({"masks": np.zeros((4, 4, 6))}, r"shape \[4, 4, 6\]; expected \[T=5, h, w\]"),
        ({"masks": np.zeros((5, 4))}, r"shape \[5, 4\]"),
        ({"masks": np.zeros((5, 4, 6), np.complex64)}, "cannot be read .*values of type complex64"),
        ({"masks": np.full((5, 4, 6), -1, np.int8)}, "found integers from -1 to -1; expected 0 to"),
        ({"masks": np.full((5, 4, 6), np.nan)}, "from nan to nan; expected probabilities"),
        ({"masks": np.full((5, 4, 6), 2.0)}, "from 2 to 2; expected probabilities"),
        ({"mask": np.zeros((5, 4, 6))}, "expected an NPZ file with the array 'masks'"),
        ({"masks": np.array([{}] * 5)}, "cannot be read .*values of type object; expected plain numbers"),
    ],
)
def test_bad_archives_fail_the_clip(tmp_path: Path, archive: dict[str, np.ndarray], message: str) -> None:
    (tmp_path / "clean/group").mkdir(parents=True)
    np.savez(tmp_path / "clean/group/a.npz", **archive)
    with pytest.raises(ClipError, match=rf"a\.npz: .*{message}"):
        answer(tmp_path, view())


def test_truncated_archive_fails_the_clip(tmp_path: Path) -> None:
    (tmp_path / "clean/group").mkdir(parents=True)
    path = tmp_path / "clean/group/a.npz"
    np.savez(path, masks=np.zeros((5, 4, 6)))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ClipError, match=r"a\.npz: cannot be read"):
        answer(tmp_path, view())


def test_bad_pictures_fail_the_clip(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=r"clean/group/a/0\.png: not found; .*or in .*clean/group/a\.npz"):
        answer(tmp_path, view())
    write_pngs(tmp_path, np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8))
    with pytest.raises(ClipError, match=r"0\.png: found a picture of mode RGB with colours; expected grey"):
        answer(tmp_path, view())
    (tmp_path / "clean/group/a/0.png").write_bytes(b"")
    with pytest.raises(ClipError, match=r"0\.png: cannot be read as PNG"):
        answer(tmp_path, view())
    write_pngs(tmp_path, random_bytes())
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(tmp_path / "clean/group/a/2.png")
    with pytest.raises(ClipError, match=r"masks of the sizes \[\(3, 3\), \(4, 6\)\]; expected one size"):
        answer(tmp_path, view())


def test_folder_and_archive_for_one_clip_are_ambiguous(tmp_path: Path) -> None:
    write_pngs(tmp_path, random_bytes())
    np.savez(tmp_path / "clean/group/a.npz", masks=np.zeros((5, 4, 6)))
    with pytest.raises(ClipError, match="found next to a folder of the same name"):
        answer(tmp_path, view())


def test_clip_ids_cannot_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="not a path inside"):
        answer(tmp_path, view("../../etc"))


def test_masks_of_zeros_and_ones_are_pointed_out_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pngs(tmp_path, np.ones((5, 4, 6), np.uint8))
    answer(tmp_path, view())
    assert caplog.text.count("holds only the values 0 and 1") == 1


def test_parquet_needs_every_frame_that_is_scored(tiny_build: Manifest, tmp_path: Path) -> None:
    row = next(row for row in tiny_build.rows if row.condition == "clean")
    masks = np.random.default_rng(0).random((3, 4, 6)) > 0.5
    write_masks(tmp_path / "masks.parquet", [masks_table(row, masks)])
    found = answer(tmp_path / "masks.parquet", view(row.clip_id, masked=3))
    assert np.array_equal(found[:3] > 0.5, masks)
    assert found[3:].max() == 0
    with pytest.raises(ClipError, match=rf"has no mask of clip {row.clip_id} under clean, frame 3"):
        answer(tmp_path / "masks.parquet", view(row.clip_id))


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="found no --option masks"):
        Predictions.load(None, CPU)
    with pytest.raises(AdapterError, match="--option mask: predictions takes only --option masks"):
        Predictions.load(None, CPU, mask="x")
    with pytest.raises(AdapterError, match="--checkpoint x: predictions takes only"):
        Predictions.load(Path("x"), CPU, masks="x")
    with pytest.raises(AdapterError, match="found no such folder"):
        Predictions.load(None, CPU, masks=str(tmp_path / "none"))
    with pytest.raises(AdapterError, match=r"none\.parquet: not found"):
        Predictions.load(None, CPU, masks=str(tmp_path / "none.parquet"))


def class_answer(folder: Path, row: RowView) -> np.ndarray:
    return (
        Predictions.load(None, CPU, masks=str(folder), task="semantic")
        .segment_rows(None, torch.zeros(1), [row])[0]
        .numpy()
    )


def test_class_ids_as_pictures(tmp_path: Path) -> None:
    values = random_bytes() % 71
    write_pngs(tmp_path, values)
    found = class_answer(tmp_path, view())
    assert found.dtype == np.uint8
    assert np.array_equal(found, values)
    larger = class_answer(tmp_path, view(size=(8, 12)))
    assert np.array_equal(larger, values.repeat(2, axis=1).repeat(2, axis=2))


def test_class_ids_as_a_palettes_indices(tmp_path: Path) -> None:
    values = random_bytes() % 71
    (tmp_path / "clean/group/a").mkdir(parents=True)
    for frame, value in enumerate(values):
        picture = Image.fromarray(value)
        picture.putpalette([channel for index in range(256) for channel in (255 - index, index, 0)])
        picture.save(tmp_path / f"clean/group/a/{frame}.png")
    assert np.array_equal(class_answer(tmp_path, view()), values)


def test_class_ids_in_archives(tmp_path: Path) -> None:
    values = (random_bytes() % 71).astype(np.int64)
    (tmp_path / "clean/group").mkdir(parents=True)
    np.savez(tmp_path / "clean/group/a.npz", masks=values)
    assert np.array_equal(class_answer(tmp_path, view()), values)
    np.savez(tmp_path / "clean/group/a.npz", masks=values / 70)
    with pytest.raises(ClipError, match=r"a\.npz: found 'masks' of dtype float64; expected class ids"):
        class_answer(tmp_path, view())


def test_what_are_no_class_ids_fails_the_clip(tmp_path: Path) -> None:
    write_pngs(tmp_path, random_bytes() | 128)
    with pytest.raises(
        ClipError, match=r"0\.png: found pixels from .*; expected class ids 0\.\.70; for binary masks leave"
    ):
        class_answer(tmp_path, view())
    write_pngs(tmp_path, random_bytes(), mode="1")
    with pytest.raises(ClipError, match=r"0\.png: found a picture of mode 1; expected class ids"):
        class_answer(tmp_path, view())
    with pytest.raises(AdapterError, match=r"task=semantic: .*m\.parquet holds binary masks; expected a folder"):
        Predictions.load(None, CPU, masks=str(tmp_path / "m.parquet"), task="semantic")


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    # The names that the contract test gives its random clips, of up to ten frames.
    for clip in ("clip0", "clip1"):
        folder = tmp_path / "clean" / clip
        folder.mkdir(parents=True)
        for frame in range(10):
            picture = np.zeros((60, 80), np.uint8)
            picture[frame : frame + 30, 5 : 40 + 10 * int(clip[-1])] = 255
            Image.fromarray(picture).save(folder / f"{frame}.png")
    check_adapter("predictions", masks=str(tmp_path)).raise_if_failed()

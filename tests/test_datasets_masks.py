from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from avsrobust.datasets.masks import decode_rgb_mask, palette, read_binary_mask, read_class_mask, read_frame, read_mask
from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.errors import DataSetError, OptionError

SHAPE = np.array([[0, 0, 1], [0, 1, 1]], dtype=bool)
BABY, DOG, ACCORDION = (AVSS_CLASSES.index(name) for name in ("baby", "dog", "accordion"))


def as_mode(mode: str) -> Image.Image:
    """The shape of SHAPE as a picture of a mode, with small and large foreground values."""
    grey = SHAPE.astype(np.uint8) * np.array([[1], [255]], dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray(SHAPE.astype(np.uint16) * 256)
    if mode == "P":
        # Index 0 is white, index 1 black: the colour says what is foreground, not the index.
        picture = Image.new("P", (3, 2))
        picture.putdata([int(not value) for value in SHAPE.ravel()])
        picture.putpalette([255, 255, 255, 0, 0, 0])
        return picture
    if mode == "RGB":
        blue = np.zeros((2, 3, 3), np.uint8)
        blue[..., 2] = grey
        return Image.fromarray(blue)
    if mode in ("RGBA", "LA"):
        picture = Image.fromarray(grey).convert(mode)
        picture.putalpha(Image.fromarray((~SHAPE).astype(np.uint8) * 255))
        return picture
    return Image.fromarray(grey).point(lambda value: 255 * (value > 0), mode) if mode == "1" else Image.fromarray(grey)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
@pytest.mark.parametrize("dataset", ["s4", "ms3"])
def test_any_pixel_that_is_not_black_is_foreground_in_every_mode(tmp_path: Path, mode: str, dataset: str) -> None:
    path = tmp_path / "1.png"
    as_mode(mode).save(path)
    assert Image.open(path).mode == mode
    mask = read_mask(path, dataset)
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, SHAPE)


def test_a_class_mask_read_as_s4_is_foreground_where_its_id_is_not_0(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1, 70]], np.uint8)).save(tmp_path / "0.png")
    assert read_binary_mask(tmp_path / "0.png").tolist() == [[False, True, True]]


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "I;16"])
def test_class_ids_are_the_pixels(tmp_path: Path, mode: str) -> None:
    ids = np.array([[0, 17, 70]], np.uint8)
    picture = Image.fromarray(ids)
    if mode == "P":
        picture = Image.new("P", (3, 1))
        picture.putdata([0, 17, 70])
        picture.putpalette(palette().ravel().tolist())
    elif mode == "I;16":
        picture = Image.fromarray(ids.astype(np.uint16))
    elif mode != "L":
        picture = picture.convert(mode)
    picture.save(tmp_path / "0.png")
    mask = read_mask(tmp_path / "0.png", "avss")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, ids)


def test_class_ids_above_70_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 71]], np.uint8)).save(tmp_path / "0.png")
    with pytest.raises(DataSetError, match=r"0.png: found the value 71; expected class ids 0..70"):
        read_class_mask(tmp_path / "0.png")


def test_a_coloured_picture_in_place_of_class_ids_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), (0, 0, 128)).save(tmp_path / "0.png")
    with pytest.raises(DataSetError, match=r"0.png: found a picture of mode RGB; expected one channel of class ids"):
        read_class_mask(tmp_path / "0.png")


def test_the_palette_is_avsbenchs() -> None:
    colours = palette()
    assert colours.shape == (71, 3)
    assert len({tuple(colour) for colour in colours.tolist()}) == 71
    # AVSBench#24: its own palette says [0, 0, 128] for baby.
    known = {0: [0, 0, 0], 1: [128, 0, 0], 2: [0, 128, 0], BABY: [0, 0, 128], 8: [64, 0, 0], 70: [32, 128, 128]}
    for index, colour in known.items():
        assert colours[index].tolist() == colour


@given(data=st.data())
def test_either_order_is_decoded_and_named(data: st.DataObject) -> None:
    allowed = data.draw(st.sets(st.integers(1, 70), max_size=4))
    ids = data.draw(arrays.arrays(np.uint8, (3, 4), elements=st.sampled_from(sorted({0, *allowed}))))
    reversed_ids = [index_of_colour(palette()[index][::-1]) for index in sorted(set(ids.ravel().tolist()))]
    both_fit = set(reversed_ids) <= {0, *allowed}
    same = reversed_ids == sorted(set(ids.ravel().tolist()))
    for order in ("rgb", "bgr"):
        rgb = palette()[ids] if order == "rgb" else palette()[ids][..., ::-1]
        if both_fit and not same:
            with pytest.raises(DataSetError, match="all of them the clip's categories; expected only one to fit"):
                decode_rgb_mask(rgb, allowed)
        else:
            decoded, found = decode_rgb_mask(rgb, allowed)
            assert (decoded.dtype, found) == (np.uint8, "either" if same else order)
            np.testing.assert_array_equal(decoded, ids)


def index_of_colour(colour: NDArray[np.uint8]) -> int:
    """The class of a colour, -1 where it has none, bit by bit and not by lookup."""
    index = sum(((int(colour[bit % 3]) >> (7 - bit // 3)) & 1) << bit for bit in range(9))
    return index if index <= 70 else -1


def rgb_mask(folder: Path, ids: list[list[int]], order: str = "bgr") -> Path:
    path = folder / "labels_rgb/0.png"
    path.parent.mkdir(exist_ok=True)
    colours: NDArray[np.uint8] = palette()[np.array(ids)]
    Image.fromarray(np.ascontiguousarray(colours if order == "rgb" else colours[..., ::-1])).save(path)
    return path


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_labels_rgb_files_are_decoded_with_the_clips_labels(tmp_path: Path, order: str) -> None:
    path = rgb_mask(tmp_path, [[0, BABY], [DOG, 0]], order)
    assert read_mask(path, "avss", ("dog", "baby")).tolist() == [[0, BABY], [DOG, 0]]
    assert read_mask(path, "ms3").tolist() == [[False, True], [True, False]]


def test_a_black_mask_fits_either_order(tmp_path: Path) -> None:
    assert decode_rgb_mask(np.zeros((2, 2, 3), np.uint8), {BABY})[1] == "either"


def test_colours_of_other_categories_than_the_clips_are_a_contradiction(tmp_path: Path) -> None:
    path = rgb_mask(tmp_path, [[0, BABY]])
    with pytest.raises(DataSetError, match=r"labels_rgb/0.png: found colours .*accordion.*baby.*; expected only .*dog"):
        read_mask(path, "avss", ("dog",))
    with pytest.raises(
        DataSetError, match=r"labels_rgb/0.png: found colours .*expected only the clip's categories, background;"
    ):
        read_mask(path, "avss")


def test_colours_that_fit_both_ways_but_differ_are_never_guessed(tmp_path: Path) -> None:
    path = rgb_mask(tmp_path, [[0, BABY]])
    with pytest.raises(DataSetError, match=r"mean background, accordion in one order .* background, baby in the other"):
        read_mask(path, "avss", ("baby", "accordion"))


def test_a_colour_of_no_class_is_named(tmp_path: Path) -> None:
    path = rgb_mask(tmp_path, [[0, 0]])
    Image.new("RGB", (2, 2), (1, 2, 3)).save(path)
    with pytest.raises(DataSetError, match=r"found the colour \[1, 2, 3\], which is no class's"):
        read_mask(path, "avss", ("baby",))


def test_frames_are_rgb_with_channels_first(tmp_path: Path) -> None:
    pixels = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    Image.fromarray(pixels).save(tmp_path / "1.png")
    frame = read_frame(tmp_path / "1.png")
    assert (frame.shape, frame.dtype, frame.flags.c_contiguous) == ((3, 2, 4), np.uint8, True)
    np.testing.assert_array_equal(frame, pixels.transpose(2, 0, 1))
    Image.fromarray(pixels[..., 0]).save(tmp_path / "2.png")
    np.testing.assert_array_equal(read_frame(tmp_path / "2.png"), np.stack([pixels[..., 0]] * 3))


@pytest.mark.parametrize("read", [read_frame, read_binary_mask, read_class_mask])
def test_broken_pictures_are_one_line_that_names_the_file(tmp_path: Path, read: object) -> None:
    assert callable(read)
    path = tmp_path / "1.png"
    with pytest.raises(DataSetError, match=r"1.png: found no file"):
        read(path)
    path.write_bytes(b"")
    with pytest.raises(DataSetError, match=r"1.png: found an empty file") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_an_unknown_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="found 'v1s'; expected s4, ms3 or avss"):
        read_mask(tmp_path / "1.png", "v1s")

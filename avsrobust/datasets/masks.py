"""Decode frames and masks.

Conventions
    Frames are uint8 [3, H, W], RGB. Masks of S4, MS3 and plug-in data sets are bool [H, W]: any pixel that is not black is
    foreground, in every picture mode (alpha is ignored), but for masks of grey values, which split at half (`mask_values`).
    AVSS masks are class ids, uint8 [H, W], 0..70, 0 is background (`taxonomy.AVSS_CLASSES`). A labels_semantic mask of
    AVSBench-semantic, read as S4 or MS3, is foreground where its id is not 0, by the same rule.
    The palette of labels_rgb: for class j, bits 0, 3, 6 of j are bits 7, 6, 5 of R, bits 1, 4 those of G, bits 2, 5 those of B
    (AVSBench, avs_scripts/avss/color_dataloader.py `get_v2_pallete`). The released files appear to hold the channels in
    reverse (OpenNLPLab/AVSBench#24), so the order is decided by which of the two yields the clip's own categories.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avsrobust.datasets.avss import RGB_MASKS
from avsrobust.datasets.mask_values import HIGHEST, foreground, foreground_of_levels
from avsrobust.datasets.pictures import ContentCheck, decode_content, read_checked
from avsrobust.datasets.plain_png import GREY, RGB, plain_pixels
from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.errors import DataSetError, OptionError
from avsrobust.manifest_checks import is_dataset_name
from avsrobust.vocabulary import CLASS_DATASET, NON_ZERO

ORDERS = ("rgb", "bgr")
EITHER_ORDER = "either"
_INTEGER_MODES = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B")
_CLASSES_SHOWN = 8
# The usual reasons of two values that are too high.
_HINTS = {
    len(AVSS_CLASSES): " (ids counted from 1, as label2idx.json does?)",
    HIGHEST: " (255 means 'ignore' in other data sets; AVSBench has no such pixels)",
}


def read_frame(path: Path, check: ContentCheck | None = None) -> NDArray[np.uint8]:
    """Read a frame.

    Args:
        path: Its file.
        check: Called with the file's bytes before they are decoded.

    Returns:
        uint8 [3, H, W], RGB.

    Raises:
        DataSetError: The picture cannot be decoded.
    """
    return np.ascontiguousarray(read_pixels(path, check).transpose(2, 0, 1))


def read_pixels(path: Path, check: ContentCheck | None = None) -> NDArray[np.uint8]:
    """Read a frame as `read_frame` does, uint8 [H, W, 3], RGB: as decoders have it."""
    content = read_checked(path, check)
    plain = _plain(content, RGB, check)
    return np.asarray(decode_content(path, content, "RGB"), dtype=np.uint8) if plain is None else plain


def read_mask(
    path: Path | str,
    dataset: str,
    labels: Iterable[str] = (),
    rule: str = NON_ZERO,
    check: ContentCheck | None = None,
) -> NDArray[np.uint8] | NDArray[np.bool_]:
    """Read a mask.

    Args:
        path: Its file.
        dataset: Name of the data set: avss has class ids, every other one binary masks.
        labels: The clip's categories; only labels_rgb masks of avss need them.
        rule: Rule for the foreground of binary masks (`avsrobust.vocabulary.FOREGROUND_RULES`).
        check: Called with the file's bytes before they are decoded.

    Returns:
        Class ids, uint8 [H, W], of avss; bool [H, W] of every other data set.

    Raises:
        DataSetError: The picture cannot be decoded, or its values are impossible.
        OptionError: The name cannot be a data set's.
    """
    if dataset == CLASS_DATASET:
        return read_class_mask(Path(path), labels, check)
    if is_dataset_name(dataset):
        return read_binary_mask(Path(path), rule, check)
    raise OptionError(f"dataset: found '{dataset}'; expected s4, ms3 or avss, or the name of a plug-in's data set")


def read_binary_mask(path: Path, rule: str = NON_ZERO, check: ContentCheck | None = None) -> NDArray[np.bool_]:
    """Read a mask's foreground.

    Args:
        path: Its file.
        rule: Rule for the foreground (`avsrobust.vocabulary.FOREGROUND_RULES`).
        check: Called with the file's bytes before they are decoded.

    Returns:
        bool [H, W].

    Raises:
        DataSetError: The picture cannot be decoded.
    """
    content = read_checked(path, check)
    plain = _plain(content, GREY, check)
    return foreground(decode_content(path, content), rule) if plain is None else foreground_of_levels(plain, rule)


def read_class_mask(path: Path, labels: Iterable[str] = (), check: ContentCheck | None = None) -> NDArray[np.uint8]:
    """Read a mask's class ids, from labels_semantic (the pixels) or labels_rgb (the palette).

    Args:
        path: Its file.
        labels: The clip's categories, needed for labels_rgb.
        check: Called with the file's bytes before they are decoded.

    Returns:
        uint8 [H, W], 0..70.

    Raises:
        DataSetError: The picture cannot be decoded, has ids above 70, or colours that do not fit the labels.
    """
    content = read_checked(path, check)
    plain = None if path.parent.name == RGB_MASKS else _plain(content, GREY, check)
    return class_mask(path, decode_content(path, content), labels) if plain is None else _class_ids(path, plain)


def _plain(content: bytes, colour: int, check: ContentCheck | None) -> NDArray[np.uint8] | None:
    """Return the pixels of a plain PNG whose bytes are known to be those that were built from; None: Pillow is to decode it."""
    return None if check is None else plain_pixels(content, colour)


def class_mask(path: Path, picture: Image.Image, labels: Iterable[str] = ()) -> NDArray[np.uint8]:
    """Return the class ids of a decoded mask, as `read_class_mask`; the folder of `path` tells which of the two forms it has."""
    if path.parent.name == RGB_MASKS:
        allowed = {AVSS_CLASSES.index(label) for label in labels if label in AVSS_CLASSES}
        try:
            return decode_rgb_mask(np.asarray(picture.convert("RGB")), allowed)[0]
        except _PaletteError as error:
            raise DataSetError(f"{path}: {error}") from error
    pixels = np.asarray(picture)
    if picture.mode not in _INTEGER_MODES:
        channels = pixels if picture.mode == "RGB" else pixels[..., :-1]
        if picture.mode not in ("LA", "RGB", "RGBA") or (channels != channels[..., :1]).any():
            raise DataSetError(
                f"{path}: found a picture of mode {picture.mode}; expected one channel of class ids 0..70; "
                "take labels_semantic as it was released"
            )
        pixels = channels[..., 0]
    return _class_ids(path, pixels)


def _class_ids(path: Path, pixels: NDArray[Any]) -> NDArray[np.uint8]:
    highest = int(pixels.max())
    if highest >= len(AVSS_CLASSES):
        raise DataSetError(
            f"{path}: found the value {highest}; expected class ids 0..{len(AVSS_CLASSES) - 1}{_HINTS.get(highest, '')}; "
            "take labels_semantic as it was released"
        )
    return pixels.astype(np.uint8)


def palette() -> NDArray[np.uint8]:
    """Return the colours of the 71 classes, uint8 [71, 3], RGB (see the module's conventions)."""
    colours = np.zeros((len(AVSS_CLASSES), 3), dtype=np.uint8)
    for index in range(len(AVSS_CLASSES)):
        for bit in range(8):
            colours[index, bit % 3] |= ((index >> bit) & 1) << (7 - bit // 3)
    return colours


def decode_rgb_mask(rgb: NDArray[np.uint8], allowed_classes: Collection[int]) -> tuple[NDArray[np.uint8], str]:
    """Decode a labels_rgb picture.

    Args:
        rgb: The picture as read, uint8 [H, W, 3].
        allowed_classes: Ids of the clip's categories; background is allowed as well.

    Returns:
        The class ids, uint8 [H, W], and the order of the channels: ``rgb``, ``bgr`` (the palette's R is the last channel), or
        ``either`` where both orders give the same ids.

    Raises:
        DataSetError: A colour is not in the palette, neither order yields allowed classes only, or both do, but differ.
    """
    colours, inverse = np.unique(rgb.reshape(-1, 3), axis=0, return_inverse=True)
    readings = {order: _ids_of_colours(colours if order == "rgb" else colours[:, ::-1]) for order in ORDERS}
    allowed = {0, *allowed_classes}
    fitting = [order for order, ids in readings.items() if set(ids) <= allowed]
    if not fitting:
        raise _PaletteError(_misfit(colours, readings, allowed))
    if len(fitting) == 2 and readings["rgb"] != readings["bgr"]:
        raise _PaletteError(
            f"found colours that mean {_names(readings['rgb'])} in one order of the channels and "
            f"{_names(readings['bgr'])} in the other, all of them the clip's categories; expected only one to fit; "
            "add labels_semantic"
        )
    ids = np.array(readings[fitting[0]], dtype=np.uint8)[inverse.reshape(rgb.shape[:2])]
    return ids, EITHER_ORDER if len(fitting) == 2 else fitting[0]


class _PaletteError(DataSetError):
    """A palette problem, before the file's name is put in front of it."""


def _ids_of_colours(colours: NDArray[np.uint8]) -> list[int]:
    """Return the class id of each colour [K, 3], -1 for a colour that is not in the palette."""
    known = {tuple(colour): index for index, colour in enumerate(palette().tolist())}
    return [known.get(tuple(colour), -1) for colour in colours.tolist()]


def _misfit(colours: NDArray[np.uint8], readings: dict[str, list[int]], allowed: Collection[int]) -> str:
    strange = [colour for colour, *ids in zip(colours.tolist(), *readings.values(), strict=True) if set(ids) == {-1}]
    if strange:
        return f"found the colour {strange[0]}, which is no class's; expected AVSBench's palette; add labels_semantic"
    return (
        f"found colours that mean {_names(readings['rgb'])} (channels as they are) or {_names(readings['bgr'])} (reversed); "
        f"expected only the clip's categories, {_names(allowed)}; correct a_obj or add labels_semantic"
    )


def _names(ids: Iterable[int]) -> str:
    names = [AVSS_CLASSES[index] if index >= 0 else "no class" for index in sorted(set(ids))]
    return ", ".join(names[:_CLASSES_SHOWN]) + (", ..." if len(names) > _CLASSES_SHOWN else "")

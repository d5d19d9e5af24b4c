"""Contents of a clip's files: every kind of thing that can be in them, one at a time."""

from __future__ import annotations

import hashlib
import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from avsrobust.checksums import FileSum
from avsrobust.clips import Clip, SoundHeader
from avsrobust.datasets.contents import ClipContents, read_contents
from avsrobust.datasets.mask_values import level_list
from avsrobust.datasets.sound_contents import (
    CANCELLED,
    CLIPPED,
    CONSTANT,
    LONGER,
    NEARLY_SILENT,
    SHORTER,
    SILENT,
    STREAMED,
    UNDECLARED,
)
from avsrobust.datasets.taxonomy import AVSS_CLASSES

RATE = 8000
FRAMES = 2
DOG, CAT = AVSS_CLASSES.index("dog"), AVSS_CLASSES.index("cat")


def picture(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def noise(level: float = 0.3, seconds: float = FRAMES, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, level, (round(seconds * RATE), channels)).clip(-0.9, 0.9)


def write_clip(
    root: Path,
    *,
    dataset: str = "s4",
    labels: tuple[str, ...] = ("dog",),
    masks: list[np.ndarray] | None = None,
    folder: str = "masks/test/a",
    sound: np.ndarray | None = None,
    subtype: str = "PCM_16",
) -> Clip:
    """Write the files of a clip of two frames."""
    masks = masks if masks is not None else [np.eye(4, dtype=np.uint8) * 255] * FRAMES
    files = {f"frames/{number}.jpg": picture(np.zeros((4, 4, 3), np.uint8), "JPEG") for number in range(FRAMES)}
    files |= {f"{folder}/{number}.png": picture(mask) for number, mask in enumerate(masks)}
    for relative, content in files.items():
        (root / relative).parent.mkdir(parents=True, exist_ok=True)
        (root / relative).write_bytes(content)
    soundfile.write(root / "a.wav", noise() if sound is None else sound, RATE, subtype=subtype)
    return Clip(
        dataset=dataset,
        split="test",
        clip_id="a",
        labels=labels,
        broad=("animal",),
        frames=tuple(f"frames/{number}.jpg" for number in range(FRAMES)),
        masks=tuple(f"{folder}/{number}.png" for number in range(FRAMES)),
        audio="a.wav",
        sound=SoundHeader(RATE, FRAMES * RATE, 1, subtype),
    )


def test_every_file_has_its_size_and_checksum(tmp_path: Path) -> None:
    clip = write_clip(tmp_path)
    contents = read_contents(tmp_path, clip)
    expected = []
    for relative in (*clip.frames, *clip.masks, clip.audio):
        content = (tmp_path / str(relative)).read_bytes()
        expected.append(FileSum(f"data:{relative}", len(content), hashlib.sha256(content).hexdigest()))
    assert contents.files == tuple(expected)
    assert (contents.findings, contents.sound_kinds, contents.is_muted) == ((), (), False)


SOUNDS = {
    "loud": (noise(), ()),
    "as loud as can pass": (noise(1.3e-4), ()),
    "zeros": (np.zeros((FRAMES * RATE, 1)), (SILENT,)),
    "zeros in stereo": (np.zeros((FRAMES * RATE, 2)), (SILENT,)),
    "dither": (noise(2e-5), (NEARLY_SILENT,)),
    "dither on an offset": (noise(2e-5) + 0.25, (NEARLY_SILENT,)),
    "constant": (np.full((FRAMES * RATE, 1), 0.5), (CONSTANT,)),
    "channels of opposite phase": (np.hstack([noise(), -noise()]), (CANCELLED,)),
    "opposite phase but for dither": (np.hstack([noise(), -noise() + noise(2e-5, seed=1)]), (CANCELLED,)),
    "one channel a little quieter": (np.hstack([noise(), -0.9 * noise()]), ()),
    "one channel only": (np.hstack([noise(), np.zeros((FRAMES * RATE, 1))]), ()),
    "clipped": (noise(3.0).clip(-0.1, 0.1) * 11, (CLIPPED,)),
    "touches full scale": (np.vstack([noise()[:-5], np.ones((5, 1))]), ()),
    "longer": (noise(seconds=FRAMES + 1), (LONGER,)),
    "a packet longer": (noise(seconds=FRAMES + 0.4), ()),
    "shorter": (noise(seconds=FRAMES - 1), (SHORTER,)),
    "loud behind the clip's end only": (
        np.vstack([np.zeros((FRAMES * RATE, 1)), noise(seconds=1)]),
        (SILENT, LONGER),
    ),
}


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
@pytest.mark.parametrize("kind", SOUNDS)
def test_kinds_of_sounds(kind: str, subtype: str, tmp_path: Path) -> None:
    samples, expected = SOUNDS[kind]
    contents = read_contents(tmp_path, write_clip(tmp_path, sound=samples, subtype=subtype))
    assert contents.sound_kinds == expected
    assert contents.is_muted == bool({SILENT, NEARLY_SILENT, CONSTANT, CANCELLED} & set(expected))
    assert contents.findings == ()


def test_a_click_in_silence_can_be_heard(tmp_path: Path) -> None:
    samples = np.zeros((FRAMES * RATE, 1))
    samples[7777:7781] = 0.5
    assert read_contents(tmp_path, write_clip(tmp_path, sound=samples)).sound_kinds == ()


def test_a_made_up_size_is_a_remark(tmp_path: Path) -> None:
    clip = write_clip(tmp_path)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[40:44] = (0x7FFFF000).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    contents = read_contents(tmp_path, clip)
    assert (contents.sound_kinds, contents.findings) == ((STREAMED,), ())


def test_more_than_the_header_declares_is_a_remark(tmp_path: Path) -> None:
    clip = write_clip(tmp_path)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[40:44] = (2 * RATE).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    contents = read_contents(tmp_path, clip)
    assert (contents.sound_kinds, contents.findings) == ((SHORTER, UNDECLARED), ())


def hidden_masks() -> dict[str, Image.Image]:
    shape = np.eye(4, dtype=np.uint8)
    black = Image.fromarray(shape)
    black.putpalette([0, 0, 0] * 256)
    clear = np.dstack([np.full((4, 4, 3), 255, np.uint8), shape * 255])
    return {"palette": black, "alpha": Image.fromarray(clear), "grey alpha": Image.fromarray(clear).convert("LA")}


@pytest.mark.parametrize("kind", ["palette", "alpha", "grey alpha"])
def test_a_mask_whose_colours_do_not_show_its_shape_is_a_finding(kind: str, tmp_path: Path) -> None:
    clip = write_clip(tmp_path)
    hidden_masks()[kind].save(tmp_path / clip.masks[0])
    message = finding(read_contents(tmp_path, clip))
    assert message.startswith(f"{clip.masks[0]}: found ")
    assert ("palette" if kind == "palette" else "alpha channel") in message
    assert "expected a mask whose background is black" in message


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "RGB", "1", "L"])
@pytest.mark.parametrize("level", [0, 255])
def test_empty_and_full_masks_of_every_mode_are_no_finding(mode: str, level: int, tmp_path: Path) -> None:
    clip = write_clip(tmp_path)
    Image.new("L", (4, 4), level).convert(mode).save(tmp_path / clip.masks[0])
    assert read_contents(tmp_path, clip).findings == ()


def finding(contents: ClipContents) -> str:
    [only] = contents.findings
    assert only.clip_id == "a"
    return str(only)


@pytest.mark.parametrize("which", [0, 2, 4])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "found no file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "truncated|damaged"),
        (lambda path: path.write_bytes(b""), r"empty file \(0 bytes\)"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "is a pipe, not a regular file"),
        (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "is a device, not a regular file"),
    ],
    ids=["gone", "cut", "empty", "pipe", "device"],
)
def test_damage_is_a_finding_that_names_the_file(tmp_path: Path, which: int, damage, message: str) -> None:
    clip = write_clip(tmp_path)
    relative = [*clip.frames, *clip.masks, clip.audio][which]
    damage(tmp_path / str(relative))
    found = read_contents(tmp_path, clip)
    assert finding(found).startswith(f"{relative}: found ")
    assert re.search(message, finding(found))


def class_masks(*ids: int) -> list[np.ndarray]:
    return [np.array([ids], np.uint8)] * FRAMES


@pytest.mark.parametrize("labels", [("dog",), ("dog", "cat"), ()])
def test_classes_among_the_labels_are_in_order(tmp_path: Path, labels: tuple[str, ...]) -> None:
    clip = write_clip(tmp_path, dataset="avss", labels=labels, masks=class_masks(0, DOG), folder="v2/a/labels_semantic")
    contents = read_contents(tmp_path, clip)
    assert contents.findings == ()
    assert [level_list(values.levels) for _, values in contents.masks] == [[0, DOG]] * FRAMES


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (
            (0, CAT),
            rf"0.png: found the classes cat \({CAT}\) \(and 1 more masks of the clip\), which are none of the clip's labels; "
            "expected only dog and background",
        ),
        ((1, DOG + 1), "ids counted from 1"),
        ((0, DOG, 255), r"found the value 255; expected class ids 0\.\.70 \(255 means 'ignore' in other data sets"),
        ((1, 71), r"found the value 71; expected class ids 0\.\.70 \(ids counted from 1"),
    ],
)
def test_classes_that_contradict_the_labels_are_findings(tmp_path: Path, ids: tuple[int, ...], message: str) -> None:
    clip = write_clip(tmp_path, dataset="avss", masks=class_masks(*ids), folder="v2/a/labels_semantic")
    contents = read_contents(tmp_path, clip)
    assert contents.findings
    assert re.search(message, str(contents.findings[0]))


def test_class_masks_read_as_s4_are_not_taken_for_grey(tmp_path: Path) -> None:
    clip = write_clip(tmp_path, masks=class_masks(0, 12, 45), folder="v1s/a/labels_semantic")
    assert [values.is_soft for _, values in read_contents(tmp_path, clip).masks] == [False, False]
    clip = write_clip(tmp_path, masks=class_masks(0, 12, 255), folder="v1s/a/labels_semantic")
    assert "found the value 255" in str(read_contents(tmp_path, clip).findings[0])

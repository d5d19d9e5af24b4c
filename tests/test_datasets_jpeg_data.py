from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from avsrobust.datasets.jpeg_data import EOI, SOS, lacks_blocks, segments
from avsrobust.datasets.masks import read_binary_mask, read_frame
from avsrobust.datasets.pictures import check_structure, decode_content, read_header
from avsrobust.errors import DataSetError

END = b"\xff\xd9"
WIDTH, HEIGHT = 60, 48


def encoded(mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT), **options: object) -> bytes:
    """A JPEG of noise, whose last pixels are far from mid-grey."""
    pixels = np.random.default_rng(0).integers(0, 100, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, "JPEG", **{"quality": 90, **options})
    return stream.getvalue()


SEQUENTIAL = {
    f"{mode} {name}": encoded(mode, **options)
    for mode in ("RGB", "L", "CMYK")
    for name, options in {
        "4:4:4": {"subsampling": 0},
        "4:2:0": {"subsampling": 2},
        "optimised": {"optimize": True},
        "restarts": {"restart_marker_rows": 1},
        "many restarts": {"restart_marker_blocks": 1},
    }.items()
}
PROGRESSIVE = {mode: encoded(mode, progressive=True) for mode in ("RGB", "L")}


def cut(content: bytes, at: int) -> bytes:
    """The first bytes, with an end; not in the middle of a stuffed byte or a marker."""
    while content[at - 1] == 0xFF:
        at -= 1
    return content[:at] + END


def scans(content: bytes) -> list[int]:
    """Where each scan's data begin."""
    return [
        position + int.from_bytes(content[position : position + 2], "big")
        for marker, position in segments(content)
        if marker == SOS
    ]


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(list(SEQUENTIAL)), share=st.floats(0, 0.8))
def test_a_scan_that_breaks_off_before_an_end_is_refused(kind: str, share: float) -> None:
    content = SEQUENTIAL[kind]
    (start,) = scans(content)
    damaged = cut(content, start + int(share * (len(content) - 2 - start)))
    check_structure(Path("a.jpg"), damaged)
    with pytest.raises(
        DataSetError, match=r"^a.jpg: found a damaged picture .*; expected .*; copy or extract it again"
    ):
        decode_content(Path("a.jpg"), damaged)


@pytest.mark.parametrize("mode", PROGRESSIVE)
def test_a_progressive_picture_without_its_last_scans_is_refused(mode: str) -> None:
    content = PROGRESSIVE[mode]
    starts = scans(content)
    assert len(starts) > 3
    for number, start in enumerate(starts[1:]):
        if number + 2 == len(starts):
            # The last scan begins: from here on what is cut is fine detail.
            continue
        with pytest.raises(DataSetError, match=r"a.jpg: found a damaged picture"):
            decode_content(Path("a.jpg"), cut(content, start))


@pytest.mark.parametrize("padding", [b"", b"\0" * 3000, END, encoded()])
@pytest.mark.parametrize("content", [*SEQUENTIAL.values(), *PROGRESSIVE.values()])
def test_whole_pictures_are_taken_with_anything_behind_their_end(content: bytes, padding: bytes) -> None:
    assert decode_content(Path("a.jpg"), content + padding).size == (WIDTH, HEIGHT)


@pytest.mark.parametrize(
    "options",
    [{}, {"subsampling": 2}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 100}, {"quality": 5}],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_whole_pictures_that_end_in_mid_grey_are_taken(mode: str, options: dict[str, object]) -> None:
    for size in ((WIDTH, HEIGHT), (16, 16), (1, 1), (17, 33)):
        grey = Image.new("RGB", size, (128, 128, 128))
        half = grey.copy()
        half.paste((250, 3, 90), (0, 0, size[0], size[1] // 2))
        for picture in (grey, half):
            stream = io.BytesIO()
            picture.convert(mode).save(stream, "JPEG", **options)
            decode_content(Path("a.jpg"), stream.getvalue())


def test_frames_and_masks_are_checked_and_the_header_alone_is_not_enough(tmp_path: Path) -> None:
    content = encoded()
    path = tmp_path / "a.jpg"
    path.write_bytes(cut(content, (len(content) + scans(content)[0]) // 2))
    assert read_header(path).size == f"{WIDTH}x{HEIGHT}"
    for read in (read_frame, read_binary_mask):
        with pytest.raises(DataSetError, match="its data end early"):
            read(path)


def test_segments_end_with_the_end_and_miss_it_where_it_is_not() -> None:
    content = encoded()
    markers = [marker for marker, _ in segments(content + END)]
    assert markers[-1] == EOI
    assert markers.count(EOI) == 1
    for broken in (content[:-2], content[:30], b"\xff\xd8", b"\xff\xd8\xff\xdb\x00\x01"):
        with pytest.raises(EOFError):
            list(segments(broken))


def test_other_formats_are_no_concern() -> None:
    picture = Image.new("RGB", (4, 4), (128, 128, 128))
    assert not lacks_blocks(b"\x89PNG\r\n\x1a\n", picture)
    # A frame header that is cut, as no decoder takes it: no error of ours.
    assert not lacks_blocks(b"\xff\xd8\xff\xda\x00\x02", picture)

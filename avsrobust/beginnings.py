"""The kind of a file by its first bytes, where its name says another: for messages.

Conventions
    A picture saved in another format, a web page in place of a download, a pointer of Git LFS: whoever reads "found a file that
    is no PNG" has still to find out which. Nothing here decides whether a file is accepted.
"""

from __future__ import annotations

from dataclasses import dataclass

LENGTH = 64


@dataclass(frozen=True)
class Beginning:
    """A kind of file: its noun with the article, and the remedy, None where that depends on what was expected."""

    noun: str
    remedy: str | None = None


_LFS_POINTER = Beginning("a pointer of Git LFS, not the file itself", "fetch it with 'git lfs pull'")
_WEB_PAGE = Beginning("a web page", "download it again, in a browser if a log-in or a confirmation is needed")
_EMPTIED = Beginning("nothing but zeros where it begins", "copy or extract it again: its copy was interrupted")
_MACOS = Beginning("a companion file of macOS", "take the file without '._' in front of its name")
# (offset, bytes there, kind)
_MARKS = (
    (0, b"\x89PNG\r\n\x1a\n", Beginning("a PNG picture")),
    (0, b"\xff\xd8\xff", Beginning("a JPEG picture")),
    (8, b"WEBP", Beginning("a WebP picture")),
    (8, b"AVI ", Beginning("an AVI video")),
    (0, b"RF64", Beginning("a wav file of the kind RF64")),
    (0, b"BW64", Beginning("a wav file of the kind BW64")),
    (0, b"RIFX", Beginning("a big-endian wav file, RIFX")),
    (8, b"WAVE", Beginning("a wav file")),
    (0, b"GIF8", Beginning("a GIF picture")),
    (0, b"II*\0", Beginning("a TIFF picture")),
    (0, b"MM\0*", Beginning("a TIFF picture")),
    (0, b"\0\0\0\x0cjP", Beginning("a JPEG 2000 picture")),
    (4, b"ftypavif", Beginning("an AVIF picture")),
    (4, b"ftyphei", Beginning("a HEIC picture")),
    (4, b"ftyp", Beginning("an MP4 or M4A file")),
    (0, b"\x1aE\xdf\xa3", Beginning("a Matroska or WebM file")),
    (0, b"fLaC", Beginning("a FLAC file")),
    (0, b"OggS", Beginning("an Ogg file")),
    (0, b"ID3", Beginning("an MP3 file, or one with an ID3 tag in front")),
    (0, b"\xff\xfb", Beginning("an MP3 file")),
    (0, b"\xff\xf3", Beginning("an MP3 file")),
    (0, b"FORM", Beginning("an AIFF file")),
    (0, b"BM", Beginning("a BMP picture")),
    (0, b"\x93NUMPY", Beginning("a numpy array")),
    (0, b"PK\x03\x04", Beginning("a zip archive or a spreadsheet")),
    (0, b"\x1f\x8b", Beginning("a gzip archive")),
    (0, b"%PDF", Beginning("a PDF document")),
    (0, b"\x00\x05\x16\x07", _MACOS),
    (0, b"version https://git-lfs", _LFS_POINTER),
)


def is_lfs_pointer(beginning: bytes) -> bool:
    """Return whether a file that begins so is a pointer of Git LFS."""
    return recognise(beginning) is _LFS_POINTER


def is_web_page(beginning: bytes) -> bool:
    """Return whether a file that begins so is a web page."""
    return recognise(beginning) is _WEB_PAGE


def recognise(beginning: bytes) -> Beginning | None:
    """Return the kind of a file whose first `LENGTH` bytes (or all it has) are these; None for any other.

    >>> recognise(b"GIF89a").noun
    'a GIF picture'
    >>> recognise(b"hello") is None
    True
    """
    for offset, mark, found in _MARKS:
        if beginning.startswith(mark, offset):
            return found
    if beginning.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return _WEB_PAGE
    return _EMPTIED if len(beginning) >= LENGTH and not any(beginning[:LENGTH]) else None

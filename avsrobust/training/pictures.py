"""Resized frames and masks on disk: decoded once per build and size, mapped by every process that reads samples.

Conventions
    A folder of ours (`PICTURES_KIND`) holds a cache per build, split, size and content: a folder named by its key, with ``.npy``
    arrays and ``cache.json``, the key in full and each array's SHA-256, which are compared whenever a cache is opened. It appears
    under its name whole or not at all. Its key covers the manifest's bytes: a build that is made anew gets another cache.
    Content "pictures": frames uint8 [M, 3, S, S] and masks uint8 [M, S, S] of M seconds, in the order of the samples. Content
    "presence": uint8 [M], 1 where a mask resized to S x S has any foreground, for models that look at no picture.
    M is bounded by bytes and by the free space of the disk; later pictures are decoded as they are asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from avsrobust.arrays import map_npy
from avsrobust.callbacks import MessageCallback, ProgressCallback
from avsrobust.datasets.masks import read_frame, read_mask
from avsrobust.errors import DataSetError, OptionError
from avsrobust.files import TEMPORARY_SUFFIX, flush_files, read_regular, remove_temporaries, sha256_of_file, write_text
from avsrobust.folders import hold_output_dir
from avsrobust.limits import METADATA_BYTES
from avsrobust.processes import map_in_processes
from avsrobust.textfiles import parse_json
from avsrobust.vocabulary import counted

PICTURES_KIND = "pictures"
PICTURES_FORMAT = 1
Content = Literal["pictures", "presence"]
# Given ranges of numbers of pictures, yields each once their files are here.
Arriving = Callable[[Sequence[range]], Iterator[range]]

_RECORD = "cache.json"
# Pictures per call of a worker, and below which number of them no worker is worth its start.
_CHUNK, _FEW = 64, 512
# Chunks per process for whose files decoding waits, where these come from other machines.
_CHUNKS_AWAITED = 4
# Share of a disk's free space that a cache may take.
_SHARE_OF_DISK = 0.5
_NAME_LENGTH = 24


@dataclass(frozen=True)
class Picture:
    """The files of one second of a clip, and how its mask is read.

    Attributes:
        frame: File of the frame.
        mask: File of the mask, or None.
        dataset: Data set of the clip.
        labels: Labels of the clip.
        foreground: The row's rule for the foreground of masks.
    """

    frame: Path
    mask: Path | None
    dataset: str
    labels: tuple[str, ...]
    foreground: str

    def read(self, content: Content, size: int) -> tuple[Tensor, ...]:
        """Return the content: frame and mask, uint8 [3, S, S] and [S, S], or whether the mask has any foreground, uint8 [].

        Frames are resized bilinearly with antialiasing, masks to the nearest pixel. Without a mask it is empty.

        Raises:
            DataSetError: A file cannot be read.
        """
        square = (size, size)
        mask = torch.zeros(square, dtype=torch.uint8)
        if self.mask is not None:
            values = np.asarray(read_mask(self.mask, self.dataset, self.labels, self.foreground)).astype(np.uint8)
            mask = F.interpolate(torch.from_numpy(values)[None, None], size=square, mode="nearest-exact")[0, 0]
        if content == "presence":
            return ((mask != 0).any().to(torch.uint8),)
        frame = torch.from_numpy(read_frame(self.frame)).unsqueeze(0)
        return F.interpolate(frame, size=square, mode="bilinear", align_corners=False, antialias=True)[0], mask


@dataclass(frozen=True)
class PictureCache:
    """An open cache; it is pickled by the paths of its arrays, and mapped anew where it is unpickled.

    Attributes:
        folder: Its folder.
        content: "pictures" or "presence".
        count: Number M of pictures.
    """

    folder: Path
    content: Content
    count: int

    def __post_init__(self) -> None:
        # Plain arrays over the maps: numpy's own class for maps takes its time for every index.
        arrays = tuple(
            np.asarray(map_npy(self.folder / f"{name}.npy", DataSetError, "delete its folder"))
            for name in _arrays(self.content, 0)
        )
        object.__setattr__(self, "_maps", arrays)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder, self.content, self.count)

    @property
    def nbytes(self) -> int:
        """Size of its arrays in bytes."""
        maps: tuple[NDArray[np.uint8], ...] = self._maps  # type: ignore[attr-defined]
        return sum(part.nbytes for part in maps)

    def views(self, number: int) -> tuple[NDArray[np.uint8], ...]:
        """Return the entries of picture `number`, below `count`, as `Picture.read` does; they are maps of the file."""
        maps: tuple[NDArray[np.uint8], ...] = self._maps  # type: ignore[attr-defined]
        return tuple(part[number, ...] for part in maps)

    def read(self, number: int) -> tuple[Tensor, ...]:
        """Return the entries of picture `number` as tensors of the caller's own."""
        return tuple(torch.from_numpy(np.array(view)) for view in self.views(number))


def open_cache(
    root: Path,
    key: dict[str, Any],
    content: Content,
    size: int,
    pictures: Sequence[Picture],
    most_bytes: int,
    *,
    progress: ProgressCallback | None = None,
    on_message: MessageCallback = lambda _line: None,
    arriving: Arriving | None = None,
) -> PictureCache | None:
    """Return the cache of some pictures below `root`, filled by all cores unless it is there; None where none of them fits.

    Args:
        root: Folder of the caches; made, or one of ours.
        key: Everything that the pictures depend on, plain JSON types.
        content: The kept content of each, "pictures" or "presence".
        size: Side S of the resized pictures.
        pictures: The pictures, in the order of their numbers.
        most_bytes: Bound of the cache's size in bytes.
        progress: Called with (pictures decoded, pictures in total).
        on_message: Called with a line before pictures are decoded.
        arriving: Brings the pictures' files; None: they are here.

    Raises:
        OptionError: `root` is not ours, in use by another process for long, or cannot be written.
        DataSetError: A picture cannot be read.
    """
    each = sum(int(np.prod(shape, dtype=np.int64)) for shape in _arrays(content, size).values())
    with hold_output_dir(root, PICTURES_KIND, PICTURES_FORMAT, "avsrobust train (pictures)", wait=True):
        whole = {"format": PICTURES_FORMAT, "content": content, "size": size, **key}
        folder = root / hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:_NAME_LENGTH]
        found = _opened(folder, whole, content)
        if found is not None and found.count >= min(len(pictures), most_bytes // each):
            return found
        _clear(root, folder)
        free = int(shutil.disk_usage(root).free * _SHARE_OF_DISK)
        count = min(len(pictures), most_bytes // each, free // each)
        if count == 0:
            return None
        on_message(
            f"decodes {count:,} of {counted(len(pictures), 'picture')} once, into {folder} ({count * each / 2**20:,.1f} MiB)"
        )
        _fill(folder, whole, content, size, pictures[:count], progress, arriving)
        return PictureCache(folder, content, count)


def _arrays(content: Content, size: int) -> dict[str, tuple[int, ...]]:
    """Return the arrays of a content, and the shape of an entry of each."""
    return {"presence": ()} if content == "presence" else {"frames": (3, size, size), "masks": (size, size)}


def _opened(folder: Path, key: dict[str, Any], content: Content) -> PictureCache | None:
    """Return the cache in a folder, or None where it is absent, of another key, or damaged."""
    try:
        record = parse_json(read_regular(folder / _RECORD, METADATA_BYTES, OptionError))
        names = _arrays(content, 0)
        if record["key"] != key or set(record["sha256"]) != set(names):
            return None
        if any(sha256_of_file(folder / f"{name}.npy") != record["sha256"][name] for name in names):
            return None
        return PictureCache(folder, content, int(record["count"]))
    except (OSError, ValueError, KeyError, TypeError, OptionError, DataSetError):
        return None


def _clear(root: Path, folder: Path) -> None:
    """Remove a cache that cannot be used, and what killed processes left; the holder of the folder alone does this."""
    remove_temporaries(root)
    for left in (folder, *root.glob(f".*{TEMPORARY_SUFFIX}")):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)


def _fill(
    folder: Path,
    key: dict[str, Any],
    content: Content,
    size: int,
    pictures: Sequence[Picture],
    progress: ProgressCallback | None,
    arriving: Arriving | None,
) -> None:
    count = len(pictures)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    shapes = _arrays(content, size)
    try:
        temporary.mkdir()
        paths = [temporary / f"{name}.npy" for name in shapes]
        for path, shape in zip(paths, shapes.values(), strict=True):
            np.lib.format.open_memmap(path, "w+", np.uint8, (count, *shape)).flush()
            _reserve(path)
        done = 0
        for decoded in _decoded(pictures, paths, content, size, arriving):
            done += decoded
            if progress is not None:
                progress(done, count)
        sums = {path.stem: sha256_of_file(path) for path in paths}
        record = {"key": key, "count": count, "sha256": sums}
        write_text(temporary / _RECORD, json.dumps(record, indent=2, sort_keys=True) + "\n")
        flush_files(paths)
        temporary.replace(folder)
    except OSError as error:
        raise OptionError(
            f"{folder}: cannot be written ({error.strerror or error}); choose another folder with --cache"
        ) from error
    finally:
        with suppress(OSError):
            if temporary.is_dir():
                shutil.rmtree(temporary)


def _reserve(path: Path) -> None:
    """Take the file's space on the disk now: a map of a file that outgrows a full disk would end the process."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)


def _decoded(
    pictures: Sequence[Picture], paths: Sequence[Path], content: Content, size: int, arriving: Arriving | None
) -> Iterator[int]:
    """Decode pictures on all cores; yield the number of pictures of each chunk as it is done."""
    from joblib import cpu_count

    decode = partial(_decode_chunk, paths=paths, content=content, size=size)
    processes = cpu_count()
    parts = [range(len(pictures))]
    if arriving is not None:
        step = _CHUNK * processes * _CHUNKS_AWAITED
        parts = [parts[0][start : start + step] for start in range(0, len(pictures), step)]
    for part in parts if arriving is None else arriving(parts):
        chunks = [(start, pictures[start : min(start + _CHUNK, part.stop)]) for start in part[::_CHUNK]]
        if len(pictures) < _FEW:
            yield from map(decode, chunks)
        else:
            yield from map_in_processes(decode, chunks, processes)


def _decode_chunk(chunk: tuple[int, Sequence[Picture]], *, paths: Sequence[Path], content: Content, size: int) -> int:
    start, pictures = chunk
    entries = zip(*(picture.read(content, size) for picture in pictures), strict=True)
    for path, parts in zip(paths, entries, strict=True):
        kept = np.lib.format.open_memmap(path, "r+")
        kept[start : start + len(pictures)] = torch.stack(list(parts)).numpy()
        kept.flush()
    return len(pictures)

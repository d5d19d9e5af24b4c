"""Look at every file of a clip once: is it there, is it whole, do the sizes fit?

Conventions
    Only headers and ends of files are read (`pictures.read_header`, `avsrobust.audio.io.check_sound`), no pixels.
    An entry becomes a `Clip`, or one finding per problem; all problems are collected. ``no file``, ``no folder`` and
    ``nothing of this clip`` mean missing; everything else means present, but broken or of the wrong kind.
    A sound may be shorter than the frames last: clips cut from the end of their source are.
    Results do not depend on the number of workers.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path, PurePosixPath

from avsrobust.clips import Clip, DeclaredClip, SoundHeader
from avsrobust.datasets.dataset import Finding
from avsrobust.datasets.pictures import PictureHeader, read_header
from avsrobust.errors import AudioError, AvsRobustError, DataSetError


@dataclass(frozen=True)
class Checked:
    """The outcome for one entry: its clip, or None and the reasons. `sizes` and `mask_modes` are what was seen."""

    clip: Clip | None
    findings: tuple[Finding, ...]
    sizes: frozenset[str] = frozenset()
    mask_modes: frozenset[str] = frozenset()


def check_entries(root: Path, entries: Sequence[DeclaredClip], workers: int = 1) -> list[Checked]:
    """Check the entries' files below `root` with that many threads; the outcomes are in the order of the entries."""
    check = partial(check_entry, root)
    if workers <= 1:
        return [check(entry) for entry in entries]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(check, entries))


def check_entry(root: Path, entry: DeclaredClip) -> Checked:
    """Check one entry's files."""
    try:
        return _check(root, entry)
    except OSError as error:
        found = f"a place that cannot be looked at ({error.strerror or error})"
        return Checked(None, (Finding(_folder(entry.frames), found, "the clip's files", entry.clip_id),))


def _check(root: Path, entry: DeclaredClip) -> Checked:
    masks = [mask for mask in entry.masks if mask is not None]
    in_frames, in_masks = _names_in(root / _folder(entry.frames)), _names_in(root / _folder(masks))
    if in_frames is None and in_masks is None and not (root / entry.audio).exists():
        expected = f"{len(entry.frames)} frames, their masks and a sound"
        finding = Finding(_folder(entry.frames), "nothing of this clip (missing)", expected, entry.clip_id)
        return Checked(None, (finding,))
    findings: list[Finding] = []
    frame_headers = _check_pictures(root, entry, entry.frames, in_frames, "frame", findings)
    findings += _surplus_frames(entry, in_frames or frozenset())
    mask_headers = _check_pictures(root, entry, masks, in_masks, "mask", findings)
    findings += _size_problems(entry, frame_headers, mask_headers)
    sound = _check_sound(root, entry, findings)
    sizes = frozenset(header.size for header in frame_headers.values())
    modes = frozenset(header.mode for header in mask_headers.values())
    if findings or sound is None:
        return Checked(None, tuple(findings), sizes, modes)
    return Checked(_clip(entry, sound, frame_headers.values()), (), sizes, modes)


def _clip(declared: DeclaredClip, sound: SoundHeader, pictures: Iterable[PictureHeader]) -> Clip:
    first = next(iter(pictures), None)
    shared = {entry.name: getattr(declared, entry.name) for entry in fields(DeclaredClip)}
    return Clip(**shared, sound=sound, picture_size=None if first is None else (first.width, first.height))


def _folder(paths: Sequence[str]) -> str:
    """Return the folder in which all these files are to lie."""
    return str(PurePosixPath(paths[0]).parent)


def _names_in(folder: Path) -> frozenset[str] | None:
    """Return the names in a folder, or None where there is no folder. Other `OSError` are the caller's."""
    try:
        return frozenset(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return None


def _check_pictures(
    root: Path,
    entry: DeclaredClip,
    paths: Sequence[str],
    names: frozenset[str] | None,
    what: str,
    findings: list[Finding],
) -> dict[str, PictureHeader]:
    """Return the headers of the pictures that are whole; add a finding for each of the others.

    `names` are the names in the pictures' folder (`_names_in`).
    """
    headers: dict[str, PictureHeader] = {}
    if names is None:
        findings.append(Finding(_folder(paths), "no folder", f"{len(paths)} {what}s in it", entry.clip_id))
        return headers
    for number, path in enumerate(paths, start=1):
        if path.rpartition("/")[2] not in names:
            findings.append(Finding(path, "no file", f"{what} {number} of {len(paths)}", entry.clip_id))
            continue
        try:
            headers[path] = read_header(root / path)
        except DataSetError as error:
            findings.append(as_finding(root, path, error, entry.clip_id))
    return headers


def _surplus_frames(entry: DeclaredClip, names: Iterable[str]) -> Iterable[Finding]:
    """More frames than expected mean another data set, or another sampling, than the masks belong to."""
    first = PurePosixPath(entry.frames[0])
    prefix = first.stem.rstrip(string.digits)
    count = sum(
        name.startswith(prefix) and name.endswith(first.suffix) and name[len(prefix) : -len(first.suffix)].isdigit()
        for name in names
    )
    if count > len(entry.frames):
        yield Finding(_folder(entry.frames), f"{count} frames", f"{len(entry.frames)}", entry.clip_id)


def _size_problems(
    entry: DeclaredClip, frames: dict[str, PictureHeader], masks: dict[str, PictureHeader]
) -> Iterable[Finding]:
    sizes = list(dict.fromkeys(header.size for header in frames.values()))
    if len(sizes) > 1:
        yield Finding(
            _folder(entry.frames), f"frames of the sizes {', '.join(sizes)}", "one size in a clip", entry.clip_id
        )
    for frame, mask in zip(entry.frames, entry.masks, strict=True):
        if mask in masks and frame in frames and masks[mask].size != frames[frame].size:
            expected = f"its frame's size, {frames[frame].size}"
            yield Finding(mask, f"a mask of {masks[mask].size} pixels", expected, entry.clip_id)


def _check_sound(root: Path, entry: DeclaredClip, findings: list[Finding]) -> SoundHeader | None:
    from avsrobust.audio.io import check_sound

    try:
        if (root / entry.audio).exists():
            return check_sound(root / entry.audio)
        findings.append(Finding(entry.audio, "no file", "the clip's sound, a wav file", entry.clip_id))
    except AudioError as error:
        findings.append(as_finding(root, entry.audio, error, entry.clip_id))
    return None


def as_finding(root: Path, path: str, error: AvsRobustError, clip_id: str) -> Finding:
    """Return an error about the file ``root / path`` of a clip as a finding.

    Its message, ``PATH: found X; expected Y; advice``, is taken apart; one of another form is kept whole.
    """
    text = str(error).removeprefix(f"{root / path}: ")
    found, _, expected = text.partition("; expected ")
    return Finding(path, found.removeprefix("found "), expected or "a file that can be read", clip_id)

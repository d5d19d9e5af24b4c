"""Look at every file of a clip once: is it there, is it whole, do the sizes fit?

Conventions
    Only headers and ends of files are read (`pictures.read_header`, `avsrobust.audio.io.check_sound`), no pixels.
    An entry becomes a `Clip`, or one finding per problem; all problems are collected. ``no file``, ``no folder`` and
    ``nothing of this clip`` mean missing; everything else means present, but broken or of the wrong kind.
    A sound may be shorter than the frames last: clips cut from the end of their source are.
    Results do not depend on the number of workers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from avsrobust.datasets.clips import Clip, Finding, SoundHeader
from avsrobust.datasets.entries import Entry
from avsrobust.datasets.pictures import PictureHeader, read_header
from avsrobust.errors import AvsRobustError


@dataclass(frozen=True)
class Checked:
    """The outcome for one entry: its clip, or None and the reasons. `sizes` and `mask_modes` are what was seen."""

    clip: Clip | None
    findings: tuple[Finding, ...]
    sizes: frozenset[str] = frozenset()
    mask_modes: frozenset[str] = frozenset()


def check_entries(root: Path, entries: Sequence[Entry], workers: int = 1) -> list[Checked]:
    """Check the entries' files below `root` with that many threads; the outcomes are in the order of the entries."""
    check = partial(check_entry, root)
    if workers <= 1:
        return [check(entry) for entry in entries]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(check, entries))


def check_entry(root: Path, entry: Entry) -> Checked:
    """Check one entry's files."""
    try:
        return _check(root, entry)
    except OSError as error:
        found = f"a place that cannot be looked at ({error.strerror or error})"
        return Checked(None, (Finding(_frame_folder(entry), found, "the clip's files", entry.clip_id),))


def _check(root: Path, entry: Entry) -> Checked:
    if _nothing_there(root, entry):
        expected = f"{len(entry.frames)} frames, their masks and a sound"
        return Checked(
            None, (Finding(_frame_folder(entry), "nothing of this clip (missing)", expected, entry.clip_id),)
        )
    findings: list[Finding] = []
    frames = _check_pictures(root, entry, entry.frames, "frame", findings)
    findings += _surplus_frames(root, entry)
    masks = _check_pictures(root, entry, [mask for mask in entry.masks if mask is not None], "mask", findings)
    findings += _size_problems(entry, frames, masks)
    sound = _check_sound(root, entry, findings)
    sizes = frozenset(header.size for header in frames.values())
    modes = frozenset(header.mode for header in masks.values())
    if findings or sound is None:
        return Checked(None, tuple(findings), sizes, modes)
    return Checked(_clip(entry, sound), (), sizes, modes)


def _clip(entry: Entry, sound: SoundHeader) -> Clip:
    return Clip(
        dataset=entry.dataset,
        split=entry.split,
        clip_id=entry.clip_id,
        labels=entry.labels,
        broad=entry.broad,
        frames=entry.frames,
        masks=entry.masks,
        audio=entry.audio,
        sound=sound,
    )


def _frame_folder(entry: Entry) -> str:
    return str(PurePosixPath(entry.frames[0]).parent)


def _nothing_there(root: Path, entry: Entry) -> bool:
    folders = {PurePosixPath(path).parent for path in (*entry.frames, *entry.masks) if path is not None}
    return not (root / entry.audio).exists() and not any((root / folder).exists() for folder in folders)


def _check_pictures(
    root: Path, entry: Entry, paths: Sequence[str], what: str, findings: list[Finding]
) -> dict[str, PictureHeader]:
    """Return the headers of the pictures that are whole; add a finding for each of the others."""
    headers: dict[str, PictureHeader] = {}
    folder = PurePosixPath(paths[0]).parent
    if not (root / folder).is_dir():
        findings.append(Finding(str(folder), "no folder", f"{len(paths)} {what}s in it", entry.clip_id))
        return headers
    for number, path in enumerate(paths, start=1):
        try:
            if (root / path).exists():
                headers[path] = read_header(root / path)
            else:
                findings.append(Finding(path, "no file", f"{what} {number} of {len(paths)}", entry.clip_id))
        except (AvsRobustError, OSError) as error:
            findings.append(_as_finding(root, path, error, entry))
    return headers


def _surplus_frames(root: Path, entry: Entry) -> Iterable[Finding]:
    """More frames than expected mean another data set, or another sampling, than the masks belong to."""
    first = PurePosixPath(entry.frames[0])
    pattern = re.compile(re.escape(re.sub(r"\d+$", "", first.stem)) + r"\d+" + re.escape(first.suffix))
    folder = root / first.parent
    if not folder.is_dir():
        return
    count = sum(1 for path in folder.iterdir() if pattern.fullmatch(path.name))
    if count > len(entry.frames):
        yield Finding(_frame_folder(entry), f"{count} frames", f"{len(entry.frames)}", entry.clip_id)


def _size_problems(
    entry: Entry, frames: dict[str, PictureHeader], masks: dict[str, PictureHeader]
) -> Iterable[Finding]:
    sizes = list(dict.fromkeys(header.size for header in frames.values()))
    if len(sizes) > 1:
        yield Finding(
            _frame_folder(entry), f"frames of the sizes {', '.join(sizes)}", "one size in a clip", entry.clip_id
        )
    for frame, mask in zip(entry.frames, entry.masks, strict=True):
        if mask in masks and frame in frames and masks[mask].size != frames[frame].size:
            expected = f"its frame's size, {frames[frame].size}"
            yield Finding(mask, f"a mask of {masks[mask].size} pixels", expected, entry.clip_id)


def _check_sound(root: Path, entry: Entry, findings: list[Finding]) -> SoundHeader | None:
    from avsrobust.audio.io import check_sound

    try:
        if not (root / entry.audio).exists():
            findings.append(Finding(entry.audio, "no file", "the clip's sound, a wav file", entry.clip_id))
            return None
        return check_sound(root / entry.audio)
    except (AvsRobustError, OSError) as error:
        findings.append(_as_finding(root, entry.audio, error, entry))
        return None


def _as_finding(root: Path, path: str, error: Exception, entry: Entry) -> Finding:
    """Take an error's message, ``PATH: found X; expected Y; advice``, apart."""
    text = str(error).removeprefix(f"{root / path}: ")
    found, _, expected = text.partition("; expected ")
    return Finding(path, found.removeprefix("found "), expected or "a file that can be read", entry.clip_id)

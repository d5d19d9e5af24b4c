"""Checks of a clip's files: each is there, whole, and of a fitting size.

Conventions
    Only headers and ends of files are read (`pictures.read_header`, `avsrobust.audio.io.check_sound`), no pixels.
    A declared clip becomes a `Clip`, or one finding per problem; all problems are collected. ``no file``, ``no folder`` and
    ``nothing of this clip`` mean missing; everything else means present, but broken or of the wrong kind.
    A sound may be shorter than the frames last: clips cut from the end of their source are.
    Whoever needs the contents of the sounds too has them read whole here, so that each is opened once (`sound_contents`).
    Results do not depend on the number of workers.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path, PurePosixPath

from avsrobust.callbacks import ProgressCallback
from avsrobust.clips import Clip, DeclaredClip, SoundContents, SoundHeader
from avsrobust.datasets.dataset import Finding
from avsrobust.datasets.pictures import PictureHeader, read_header
from avsrobust.datasets.sound_contents import SHORTEST_S, read_whole
from avsrobust.errors import AudioError, AvsRobustError, DataSetError, did_you_mean
from avsrobust.vocabulary import counted

_TOLD_AT_ONCE = 16


@dataclass(frozen=True)
class CheckedClip:
    """Outcome of the checks of one declared clip.

    Attributes:
        clip: The clip; None where there are findings.
        findings: All problems of its files.
        sizes: Sizes of its frames, as texts.
        mask_modes: Pillow's modes of its masks.
    """

    clip: Clip | None
    findings: tuple[Finding, ...]
    sizes: frozenset[str] = frozenset()
    mask_modes: frozenset[str] = frozenset()


def check_clips(
    root: Path,
    clips: Sequence[DeclaredClip],
    workers: int = 1,
    *,
    whole_sounds: bool = False,
    progress: ProgressCallback | None = None,
) -> list[CheckedClip]:
    """Check the files of clips.

    Args:
        root: The data root.
        clips: The clips, as their table declares them.
        workers: Threads.
        whole_sounds: Read the recordings whole, and note their contents (`Clip.sound_contents`).
        progress: Called with (clips checked, clips in total), once for `_TOLD_AT_ONCE` clips and at the end.

    Returns:
        An outcome for each clip, in their order.
    """
    check = partial(check_clip, root, whole_sounds=whole_sounds)
    with ThreadPoolExecutor(workers) if workers > 1 else nullcontext() as pool:
        checked: list[CheckedClip] = []
        for outcome in map(check, clips) if pool is None else pool.map(check, clips):
            checked.append(outcome)
            if progress is not None and (len(checked) % _TOLD_AT_ONCE == 0 or len(checked) == len(clips)):
                progress(len(checked), len(clips))
    return checked


def check_clip(root: Path, clip: DeclaredClip, *, whole_sounds: bool = False) -> CheckedClip:
    """Check the files of one clip below the data root `root`; `whole_sounds` as for `check_clips`."""
    try:
        return _check(root, clip, whole_sounds)
    except OSError as error:
        found = f"a place that cannot be looked at ({error.strerror or error})"
        return CheckedClip(None, (Finding(_folder(clip.frames), found, "the clip's files", clip.clip_id),))


def _check(root: Path, clip: DeclaredClip, whole_sounds: bool) -> CheckedClip:
    masks = [mask for mask in clip.masks if mask is not None]
    in_frames, in_masks = _names_in(root / _folder(clip.frames)), _names_in(root / _folder(masks))
    if in_frames is None and in_masks is None and not (root / clip.audio).exists():
        expected = f"{len(clip.frames)} frames, their masks and a sound"
        finding = Finding(_folder(clip.frames), "nothing of this clip (missing)", expected, clip.clip_id)
        return CheckedClip(None, (finding,))
    findings: list[Finding] = []
    frame_headers = _check_pictures(root, clip, clip.frames, in_frames, "frame", findings)
    findings += _surplus_frames(clip, in_frames or frozenset())
    mask_headers = _check_pictures(root, clip, masks, in_masks, "mask", findings)
    findings += _size_problems(clip, frame_headers, mask_headers)
    sound = _check_sound(root, clip, findings, whole_sounds)
    sizes = frozenset(header.size for header in frame_headers.values())
    modes = frozenset(header.mode for header in mask_headers.values())
    if findings or sound is None:
        return CheckedClip(None, tuple(findings), sizes, modes)
    return CheckedClip(_clip(clip, *sound, frame_headers.values()), (), sizes, modes)


def _clip(
    declared: DeclaredClip, sound: SoundHeader, contents: SoundContents | None, pictures: Iterable[PictureHeader]
) -> Clip:
    first = next(iter(pictures), None)
    shared = {entry.name: getattr(declared, entry.name) for entry in fields(DeclaredClip)}
    size = None if first is None else (first.width, first.height)
    return Clip(**shared, sound=sound, picture_size=size, sound_contents=contents)


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
    clip: DeclaredClip,
    paths: Sequence[str],
    names: frozenset[str] | None,
    noun: str,
    findings: list[Finding],
) -> dict[str, PictureHeader]:
    """Return the headers of the pictures that are whole; add a finding for each of the others.

    `names` are the names in the pictures' folder (`_names_in`).
    """
    headers: dict[str, PictureHeader] = {}
    others = (names or frozenset()) - {path.rpartition("/")[2] for path in paths}
    if names is None:
        findings.append(Finding(_folder(paths), "no folder", f"{len(paths)} {noun}s in it", clip.clip_id))
        return headers
    for number, path in enumerate(paths, start=1):
        if path.rpartition("/")[2] not in names:
            hint = did_you_mean(path.rpartition("/")[2], others)
            findings.append(Finding(path, "no file", f"{noun} {number} of {len(paths)}{hint}", clip.clip_id))
            continue
        try:
            headers[path] = read_header(root / path)
        except DataSetError as error:
            findings.append(as_finding(root, path, error, clip.clip_id))
    return headers


def _surplus_frames(clip: DeclaredClip, names: Iterable[str]) -> Iterable[Finding]:
    """More frames than expected mean another data set, or another sampling, than the masks belong to."""
    first = PurePosixPath(clip.frames[0])
    prefix = first.stem.rstrip(string.digits)
    count = sum(
        name.startswith(prefix) and name.endswith(first.suffix) and name[len(prefix) : -len(first.suffix)].isdigit()
        for name in names
    )
    if count > len(clip.frames):
        yield Finding(_folder(clip.frames), f"{count} frames", f"{len(clip.frames)}", clip.clip_id)


def _size_problems(
    clip: DeclaredClip, frames: dict[str, PictureHeader], masks: dict[str, PictureHeader]
) -> Iterable[Finding]:
    sizes = list(dict.fromkeys(header.size for header in frames.values()))
    if len(sizes) > 1:
        yield Finding(
            _folder(clip.frames), f"frames of the sizes {', '.join(sizes)}", "one size in a clip", clip.clip_id
        )
    for frame, mask in zip(clip.frames, clip.masks, strict=True):
        if mask in masks and frame in frames and masks[mask].size != frames[frame].size:
            expected = f"its frame's size, {frames[frame].size}"
            yield Finding(mask, f"a mask of {masks[mask].size} pixels", expected, clip.clip_id)


def _check_sound(
    root: Path, clip: DeclaredClip, findings: list[Finding], whole: bool
) -> tuple[SoundHeader, SoundContents | None] | None:
    from avsrobust.audio.io import check_sound

    path = root / clip.audio
    try:
        if path.exists():
            sound = read_whole(path, clip.num_frames) if whole else (check_sound(path), None)
            findings += _too_short(clip, sound[0])
            return sound
        findings.append(Finding(clip.audio, "no file", "the clip's sound, a wav file", clip.clip_id))
    except AudioError as error:
        findings.append(as_finding(root, clip.audio, error, clip.clip_id))
    return None


def _too_short(clip: DeclaredClip, header: SoundHeader) -> Iterable[Finding]:
    if header.duration_s < SHORTEST_S:
        found = f"{counted(header.num_samples, 'sample')} at {header.sample_rate} Hz"
        yield Finding(clip.audio, found, f"a recording of at least {SHORTEST_S:g} s", clip.clip_id)


def as_finding(root: Path, path: str, error: AvsRobustError, clip_id: str) -> Finding:
    """Return an error about the file ``root / path`` of a clip as a finding.

    Its message, ``PATH: found X; expected Y; advice``, is taken apart; one of another form is kept whole.
    """
    text = str(error).removeprefix(f"{root / path}: ")
    found, _, expected = text.partition("; expected ")
    noun = found.removeprefix("found ") if found.startswith("found ") else f"a file that {found}"
    return Finding(path, noun, expected or "a file that can be read", clip_id)

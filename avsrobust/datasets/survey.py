"""Survey of contents: the files of all clips of a data set summed up, and the conclusions that building draws from it.

Conventions
    Masks are grouped by folder and split, as the rule for binary masks holds for such a group (`mask_values`).
    The summary holds plain JSON types, depends on the clips and their files alone (neither on workers nor on where the data lies)
    and stands in the manifest. Lists of ids are sorted and cut to the first `MOST_NAMED`; counts are complete.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from avsrobust.checksums import FileSum
from avsrobust.clips import Clip
from avsrobust.datasets.contents import ClipContents
from avsrobust.datasets.dataset import Finding
from avsrobust.datasets.mask_values import (
    HIGHEST,
    MaskValues,
    foreground_rule,
    is_graded,
    level_list,
    marks_all,
    marks_corners,
    may_ignore,
)
from avsrobust.datasets.sound_contents import (
    CANCELLED,
    CLIPPED,
    CONSTANT,
    LONGER,
    MUTED_KINDS,
    NEARLY_SILENT,
    QUIETEST_DB,
    SHORTER,
    SILENT,
    SOUND_KINDS,
    STREAMED,
    UNDECLARED,
)
from avsrobust.vocabulary import ABOVE_HALF, CLASS_DATASET, NON_ZERO, counted

MOST_NAMED = 20
_NAMED_IN_LINE = 3
_VALUES_IN_LINE = 8


@dataclass(frozen=True)
class ContentSurvey:
    """Conclusions from the contents of clips.

    Attributes:
        findings: Faults, in the order of the clips.
        rules: Rule by which a clip's binary masks are read, by clip id.
        muted: Ids of clips whose sound is silent or nearly so.
        files: Entries of ``checksums.parquet``.
        summary: Counts for the manifest and `survey_lines`, plain JSON types.
    """

    findings: tuple[Finding, ...]
    rules: Mapping[str, str]
    muted: frozenset[str]
    files: tuple[FileSum, ...]
    summary: dict[str, Any]

    def applied_to(self, clips: Iterable[Clip]) -> tuple[Clip, ...]:
        """Return the clips with `is_muted` and `foreground` set."""
        return tuple(
            replace(clip, is_muted=clip.clip_id in self.muted, foreground=self.rules.get(clip.clip_id, NON_ZERO))
            for clip in clips
        )


def survey_contents(clips: Sequence[Clip], contents: Iterable[ClipContents]) -> ContentSurvey:
    """Sum up the contents of clips.

    Args:
        clips: All clips.
        contents: Contents of some or all of them.
    """
    seen = {entry.clip_id: entry for entry in contents}
    looked_at = [clip for clip in sorted(clips, key=lambda clip: (clip.split, clip.clip_id)) if clip.clip_id in seen]
    groups = _groups(looked_at, seen)
    graded = {name: is_graded(values for _, _, values in masks) for name, masks in groups.items()}
    rules = {
        clip.clip_id: foreground_rule(
            (values for _, values in seen[clip.clip_id].masks), graded.get(_group_of(clip), False)
        )
        for clip in looked_at
    }
    ambiguous = defaultdict(list)
    for masks in groups.values():
        for clip_id, finding in _ambiguous(masks):
            ambiguous[clip_id].append(finding)
    return ContentSurvey(
        findings=tuple(
            finding
            for clip in looked_at
            for finding in (*seen[clip.clip_id].findings, *ambiguous.get(clip.clip_id, ()))
        ),
        rules=rules,
        muted=frozenset(clip.clip_id for clip in looked_at if seen[clip.clip_id].is_muted),
        files=tuple(file for clip in looked_at for file in seen[clip.clip_id].files),
        summary={
            "clips": len(clips),
            "looked_at": len(looked_at),
            "frames": sum(clip.num_frames for clip in looked_at),
            "masks": sum(len(masks) for masks in groups.values()),
            "bytes": sum(file.num_bytes for clip in looked_at for file in seen[clip.clip_id].files),
            "mask_folders": {name: _mask_summary(masks, rules) for name, masks in sorted(groups.items())},
            "unlabelled_with_masks": _named(
                clip.clip_id
                for clip in looked_at
                if not clip.labels and any(values.levels > 1 for _, values in seen[clip.clip_id].masks)
            ),
            "sounds": _sound_summary(looked_at, seen),
        },
    )


def _sound_summary(clips: Iterable[Clip], seen: Mapping[str, ClipContents]) -> dict[str, Any]:
    """Return the clips of each kind of sound; kinds that came later only where there are any, so that builds keep their bytes."""
    named = {
        kind: _named(clip.clip_id for clip in clips if kind in seen[clip.clip_id].sound_kinds) for kind in SOUND_KINDS
    }
    return {kind: clips for kind, clips in named.items() if kind not in _LATER_KINDS or clips["count"]}


_Masks = list[tuple[str, str, MaskValues]]


def _groups(clips: Iterable[Clip], seen: Mapping[str, ClipContents]) -> dict[str, _Masks]:
    """Return the masks of each folder as (clip id, path, values)."""
    groups: dict[str, _Masks] = defaultdict(list)
    for clip in clips:
        groups[_group_of(clip)] += [(clip.clip_id, path, values) for path, values in seen[clip.clip_id].masks]
    return {name: masks for name, masks in groups.items() if masks}


def _group_of(clip: Clip) -> str:
    """Return folder and split of a clip's masks, without the clip's own folder."""
    first = next((mask for mask in clip.masks if mask is not None), "")
    folder = first.rpartition("/")[0]
    if folder.endswith(f"/{clip.clip_id}"):
        folder = folder.removesuffix(f"/{clip.clip_id}")
    else:
        # AVSBench-semantic: {label}/{uid}/labels_semantic.
        folder = folder.replace(f"/{clip.clip_id}/", f"/{clip.clip_id.partition('/')[0]}/*/")
    return folder if clip.split in folder.split("/") else f"{folder} ({clip.split})"


def _ambiguous(masks: _Masks) -> Iterable[tuple[str, Finding]]:
    """Yield the masks of a folder that hold class ids and 255, where nothing in the folder says that these are grey values."""
    if not may_ignore(values for _, _, values in masks):
        return
    for clip_id, path, values in masks:
        if values.is_soft and values.levels >> HIGHEST:
            yield (
                clip_id,
                Finding(
                    path,
                    f"a mask with the values {_ranges(level_list(values.levels))}",
                    f"one value beside 0, or grey values (here {HIGHEST} may mean pixels to ignore)",
                    clip_id,
                ),
            )


def _mask_summary(masks: _Masks, rules: Mapping[str, str]) -> dict[str, Any]:
    """Return counts about the masks of one folder."""
    union = 0
    for _, _, values in masks:
        union |= values.levels
    halved = [(clip_id, path) for clip_id, path, values in masks if values.is_soft and rules[clip_id] == ABOVE_HALF]
    return {
        "masks": len(masks),
        "modes": dict(sorted(Counter(values.mode for _, _, values in masks).items())),
        "alpha": sum(values.has_alpha for _, _, values in masks),
        "values": level_list(union),
        "only_0": sum(values.levels == 1 for _, _, values in masks),
        "only_0_and_1": sum(values.levels in (0b10, 0b11) for _, _, values in masks),
        "only_0_and_255": sum(values.levels in (1 << HIGHEST, 1 << HIGHEST | 1) for _, _, values in masks),
        "grey": len(halved),
        "grey_clips": _named({clip_id for clip_id, _ in halved}),
        "grey_first": halved[0][1] if halved else None,
        **_odd_masks(masks, rules),
    }


def _odd_masks(masks: _Masks, rules: Mapping[str, str]) -> dict[str, Any]:
    """Return entries about masks that may not be meant so, none where there is none: builds without them keep their bytes.

    The survey knows no rule for class masks, of which `corner` is not measured: they mark no corner.
    """
    whole = [(clip_id, path) for clip_id, path, values in masks if marks_all(values, rules[clip_id])]
    parts = [(clip_id, values) for clip_id, _, values in masks if values.levels != 1]
    corners = sum(marks_corners(values, rules[clip_id]) for clip_id, values in parts) - len(whole)
    found: dict[str, Any] = {}
    if whole:
        clips = _named({clip_id for clip_id, _ in whole})
        found |= {"whole": len(whole), "whole_clips": clips, "whole_first": whole[0][1]}
    # More often than not: objects seen from near touch all four corners now and then.
    if 2 * corners > len(parts) - len(whole):
        found["corners"] = corners
    return found


def _named(ids: Iterable[str]) -> dict[str, Any]:
    ordered = sorted(ids)
    return {"count": len(ordered), "first": ordered[:MOST_NAMED]}


def survey_lines(summary: Mapping[str, Any], dataset: str, *, brief: bool = False) -> list[str]:
    """Return a summary as lines for people; none for an empty one.

    Args:
        summary: `ContentSurvey.summary`, or the manifest's `survey`.
        dataset: Name of the data set.
        brief: Leave the values of every folder's masks out.
    """
    if "looked_at" not in summary:
        return []
    extent = "all" if summary["looked_at"] == summary["clips"] else f"{summary['looked_at']:,} of"
    lines = [
        f"contents: looked at {extent} {counted(summary['clips'], 'clip')} ({counted(summary['frames'], 'frame')}, "
        f"{counted(summary['masks'], 'mask')}, {counted(summary['looked_at'], 'sound')}, {summary['bytes'] / 1e6:,.0f} MB)"
    ]
    if not brief:
        lines += [_mask_line(name, folder, dataset) for name, folder in summary["mask_folders"].items()]
    lines += [_grey_line(name, folder) for name, folder in summary["mask_folders"].items() if folder["grey"]]
    lines += [line for name, folder in summary["mask_folders"].items() for line in _odd_lines(name, folder)]
    unlabelled = summary["unlabelled_with_masks"]
    if unlabelled["count"]:
        lines.append(f"masks of clips without a label on screen hold objects: {_count_line(unlabelled)}")
    sounds = {kind: named for kind, named in summary["sounds"].items() if named["count"]}
    muted = {kind: sounds[kind] for kind in MUTED_KINDS if kind in sounds}
    if muted:
        kinds = ", ".join(f"{named['count']} {_MUTED_WORDS[kind]}" for kind, named in muted.items())
        names = sorted(name for named in muted.values() for name in named["first"])
        total = sum(named["count"] for named in muted.values())
        lines.append(
            f"muted: {_count_line({'count': total, 'first': names})}, {kinds}; there clean rows equal silence, and none of them "
            "is a source of off-screen sounds"
        )
    lines += [f"sounds {_SOUND_WORDS[kind]}: {_count_line(sounds[kind])}" for kind in _SOUND_WORDS if kind in sounds]
    return lines


_LATER_KINDS = (CANCELLED, UNDECLARED)
_MUTED_WORDS = {
    SILENT: "digitally silent",
    NEARLY_SILENT: f"nearly silent (below {QUIETEST_DB:g} dB of full scale)",
    CONSTANT: "digitally constant",
    CANCELLED: "silent in mono (their channels cancel each other out, and front ends read the mean of both)",
}
_SOUND_WORDS = {
    CLIPPED: "clipped (0.1 % of the samples or more at full scale)",
    LONGER: "longer than the clip (cut)",
    SHORTER: "shorter than the clip (the last second is repeated)",
    STREAMED: "with a stream's made-up size in the header (read to the end of the file)",
    UNDECLARED: "with more in the file than the header declares (read as far as declared)",
}


def _count_line(named: Mapping[str, Any]) -> str:
    names = list(named["first"])[:_NAMED_IN_LINE]
    more = f" and {named['count'] - len(names)} more" if named["count"] > len(names) else ""
    return f"{counted(named['count'], 'clip')} ({', '.join(names)}{more})"


def _mask_line(name: str, folder: Mapping[str, Any], dataset: str) -> str:
    noun = "class ids" if dataset == CLASS_DATASET else "values"
    parts = [f"masks in {name}: {folder['masks']:,}, {noun} {_ranges(folder['values'])}"]
    if folder["only_0"]:
        parts.append(f"{folder['only_0']:,} empty")
    if dataset != CLASS_DATASET:
        ones, whites = folder["only_0_and_1"], folder["only_0_and_255"]
        if ones and whites:
            parts.append(
                f"{ones:,} of 0 and 1, {whites:,} of 0 and {HIGHEST}: any pixel that is not 0 is foreground in both"
            )
        others = [value for value in folder["values"] if value not in (0, 1, HIGHEST)]
        if others and not folder["grey"]:
            parts.append("not only 0 and 1 or 255 (class ids or objects?): any pixel that is not 0 is foreground")
    if folder["alpha"]:
        parts.append(f"{folder['alpha']:,} with an alpha channel, which is ignored")
    return "; ".join(parts)


def _grey_line(name: str, folder: Mapping[str, Any]) -> str:
    return (
        f"grey masks in {name}: {folder['grey']:,} of {_count_line(folder['grey_clips'])} hold grey values (first: "
        f"{folder['grey_first']}); their foreground is above half, as AVSBench's own loader splits them"
    )


def _odd_lines(name: str, folder: Mapping[str, Any]) -> Iterable[str]:
    """Yield remarks about masks that may not be meant as they are."""
    if folder["masks"] == folder["only_0"]:
        yield f"masks in {name}: all {folder['masks']:,} are empty, so no object can be found there"
    if "whole" in folder:
        yield (
            f"masks in {name}: {folder['whole']:,}, of {_count_line(folder['whole_clips'])}, mark the whole picture: none of "
            f"their pixels is 0 (first: {folder['whole_first']})"
        )
    if "corners" in folder:
        yield (
            f"masks in {name}: {folder['corners']:,} of {folder['masks']:,} mark all four corners of the picture; are "
            "foreground and background swapped?"
        )


def _ranges(values: Sequence[int]) -> str:
    """Return whole numbers in order, neighbours as ranges.

    >>> _ranges([0, 1, 2, 5, 255])
    '0..2, 5, 255'
    """
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    shown = [f"{run[0]}..{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(shown[:_VALUES_IN_LINE]) + (", .." if len(shown) > _VALUES_IN_LINE else "")

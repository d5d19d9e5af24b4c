"""Read a data set: find its tree below the data root, list its clips, check their files, report everything together.

Conventions
    What concerns the data set as a whole raises `DataSetError`; what concerns a clip is a finding, and the clip is left out.
    Whoever calls decides whether findings are fatal (``--on-error``). A finding without a `clip_id` concerns all clips.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from avsrobust.caveats import OVERLAP, overlap_caveat, release_caveat
from avsrobust.clips import Clip
from avsrobust.datasets import avss, ms3, s4
from avsrobust.datasets.checks import Checked, check_entries
from avsrobust.datasets.dataset import DataSet
from avsrobust.datasets.entries import DeclaredDataSet
from avsrobust.datasets.releases import check_release
from avsrobust.datasets.trees import Survey, survey
from avsrobust.errors import DataSetError, OptionError, did_you_mean
from avsrobust.vocabulary import ALIASES, DATASETS, SPLITS

_READERS: Mapping[str, Callable[[Survey, Collection[str], str | None], DeclaredDataSet]] = {
    "s4": s4.list_clips,
    "ms3": ms3.list_clips,
    "avss": avss.list_clips,
}
_SIZES_SHOWN = 4


def canonical_name(name: str) -> str:
    """Return a data set's name in our spelling: s4, ms3 or avss. Raises `OptionError` for an unknown name.

    >>> canonical_name("v1m"), canonical_name("S4")
    ('ms3', 's4')
    """
    folded = name.strip().casefold()
    canonical = ALIASES.get(folded, folded)
    if canonical not in DATASETS:
        known = (*DATASETS, *ALIASES)
        raise OptionError(
            f"--dataset: found '{name}'; expected {', '.join(DATASETS)} (or {', '.join(ALIASES)}, their names in "
            f"AVSBench-semantic){did_you_mean(folded, known)}"
        )
    return canonical


def read_dataset(
    name: str,
    data_root: Path | str,
    *,
    splits: Sequence[str] | None = None,
    release: str | None = None,
    workers: int = 1,
) -> DataSet:
    """Read the data set `name` below `data_root`: the clips of these splits (None: all) whose files are in order.

    `release` is the form of s4 and ms3 to read, "object" or "semantic"; None reads the object release, else the semantic one.
    `workers` threads check files; the result does not depend on them.
    Raises `OptionError` for an unknown data set or release, and `DataSetError` for a root that is no folder, a tree of another
    kind, a table that cannot be read or lacks a column, an unknown split, and a split without clips.
    """
    name, data_root = canonical_name(name), Path(data_root)
    _require_known(splits)
    check_release(name, release)
    listing = _READERS[name](survey(data_root), SPLITS if splits is None else splits, release)
    _require_clips(listing, data_root, splits)
    entries = sorted(listing.entries, key=lambda entry: (entry.split, entry.clip_id))
    outcomes = check_entries(data_root, entries, workers)
    clips = tuple(outcome.clip for outcome in outcomes if outcome.clip is not None)
    findings = [*listing.findings, *(finding for outcome in outcomes for finding in outcome.findings)]
    return DataSet(
        name=name,
        root=data_root,
        layout=listing.layout,
        clips=clips,
        findings=tuple(findings),
        notes=(_counts(clips), *listing.notes, *_caveats(name, listing), *_seen(clips, outcomes)),
        off_screen_obstacle=listing.off_screen_obstacle,
        release=listing.release,
        facts={OVERLAP: listing.overlap},
    )


def _require_known(splits: Sequence[str] | None) -> None:
    for split in splits or ():
        if split not in SPLITS:
            raise DataSetError(
                f"--split: found '{split}'; expected {', '.join(SPLITS[:-1])} or {SPLITS[-1]}{did_you_mean(split, SPLITS)}"
            )


def _require_clips(listing: DeclaredDataSet, data_root: Path, splits: Sequence[str] | None) -> None:
    if splits is not None and not splits:
        raise DataSetError(f"--split: found no split; expected one or more of {', '.join(SPLITS)}")
    for split in splits or ():
        if not listing.rows_per_split.get(split):
            rows = listing.rows_per_split
            found = ", ".join(f"{rows[known]} in {known}" for known in SPLITS if rows.get(known))
            raise DataSetError(
                f"--split {split}: found no clip of this split in {data_root} ({listing.layout}; clips: {found or 'none'}); "
                "expected one at least; name another split or complete the table"
            )


def _caveats(name: str, listing: DeclaredDataSet) -> tuple[str, ...]:
    """Return what belongs beside every table of results on this data; results take it from the manifest again."""
    sentences = (release_caveat(name, listing.release), overlap_caveat(name, listing.overlap))
    return tuple(sentence for sentence in sentences if sentence)


def _counts(clips: Sequence[Clip]) -> str:
    counts = Counter(clip.split for clip in clips)
    return "clips in order: " + (", ".join(f"{split} {counts[split]}" for split in SPLITS if counts[split]) or "none")


def _seen(clips: Sequence[Clip], outcomes: Sequence[Checked]) -> tuple[str, ...]:
    """Describe what nobody has documented about the released files: picture sizes, mask modes, sounds."""
    if not clips:
        return ()
    sizes = Counter(size for outcome in outcomes for size in outcome.sizes)
    modes = Counter(mode for outcome in outcomes for mode in outcome.mask_modes)
    sounds = Counter(f"{clip.sound.sample_rate} Hz with {clip.sound.channels} channel(s)" for clip in clips)
    short = sum(clip.sound.duration_s < clip.num_frames for clip in clips)
    notes = [f"frames: {_shares(sizes)}", f"masks: mode {_shares(modes)}", f"sounds: {_shares(sounds)}"]
    if short:
        notes.append(f"{short} clips have a sound shorter than their frames last")
    return tuple(notes)


def _shares(counts: Counter[str]) -> str:
    """Return the commonest values with their number of clips; ties in order of the alphabet."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{value} ({count} clips)" for value, count in ordered[:_SIZES_SHOWN])
    return shown + (f", {len(ordered) - _SIZES_SHOWN} others" if len(ordered) > _SIZES_SHOWN else "")

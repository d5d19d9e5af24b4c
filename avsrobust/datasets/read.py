"""Read a data set: find its tree below the data root, list its clips, check their files, report everything together.

Conventions
    A fault of the data set as a whole raises `DataSetError`; a fault of a clip is a finding, and the clip is skipped.
    The caller decides whether findings are fatal (``--on-error``). A finding without a `clip_id` concerns all clips.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from avsrobust.callbacks import ProgressCallback
from avsrobust.caveats import OVERLAP, overlap_caveat, release_caveat
from avsrobust.clips import Clip
from avsrobust.datasets.checks import CheckedClip, check_clips
from avsrobust.datasets.clip_rows import printable
from avsrobust.datasets.dataset import DataSet
from avsrobust.datasets.registry import find_dataset
from avsrobust.datasets.spec import DataSetSpec, DeclaredDataSet, checked_declaration
from avsrobust.errors import DataSetError, did_you_mean
from avsrobust.folders import same_folder
from avsrobust.plugins import one_line
from avsrobust.vocabulary import DATASETS, SPLITS

_ALIKE_SHOWN = 3
_SIZES_SHOWN = 4
_SPLITS_SHOWN = 5


def read_dataset(
    name: str | type[DataSetSpec],
    data_root: Path | str,
    *,
    splits: Sequence[str] | None = None,
    release: str | None = None,
    workers: int = 1,
    progress: ProgressCallback | None = None,
) -> DataSet:
    """Read a data set below a data root.

    Args:
        name: "s4", "ms3", "avss", or a data set of a plug-in: its registered name, ``package.module:Class``, ``file.py:Class``,
            or its class.
        data_root: Folder that the data sets lie in.
        splits: Splits to read; None: all.
        release: The form to read, of s4 and ms3 "object" or "semantic"; None: the object release, else the semantic one.
        workers: Threads that check files. The result does not depend on them.
        progress: Called with (clips checked, clips in total).

    Returns:
        The clips whose files are in order, findings about all others, and notes.

    Raises:
        OptionError: The data set or the release is unknown.
        DataSetError: The root is no folder or holds no such tree, a table cannot be read or lacks a column, a split is unknown or
            has no clips.
    """
    return list_dataset(name, data_root, splits=splits, release=release).checked(workers, progress=progress)


def list_dataset(
    name: str | type[DataSetSpec],
    data_root: Path | str,
    *,
    splits: Sequence[str] | None = None,
    release: str | None = None,
) -> ListedDataSet:
    """Find a data set below a data root and list its clips; their files are looked at later (`ListedDataSet.checked`).

    Arguments and errors are those of `read_dataset`.
    """
    spec, data_root = find_dataset(name), Path(data_root)
    _require_known(splits)
    spec.check_release(release)
    declared = _declare(spec, data_root, SPLITS if splits is None else splits, release)
    _require_clips(declared, data_root, splits)
    return ListedDataSet(spec, data_root, declared)


@dataclass(frozen=True)
class ListedDataSet:
    """A data set by its tables alone, below the data root `root`."""

    spec: DataSetSpec
    root: Path
    declared: DeclaredDataSet

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.spec.name

    @property
    def release(self) -> str:
        """The form in which it was published (`DataSet.release`)."""
        return self.declared.release

    def checked(
        self,
        workers: int = 1,
        *,
        whole_sounds: bool = False,
        without: Collection[str] = frozenset(),
        progress: ProgressCallback | None = None,
    ) -> DataSet:
        """Return the data set after looking at its files.

        Args:
            workers: Threads that check files. The result does not depend on them.
            whole_sounds: Read the recordings whole, for a build that needs their contents (`Clip.sound_contents`).
            without: Ids of clips that are left out: their files are not looked at.
            progress: Called with (clips looked at, clips in total).
        """
        declared = self.declared
        wanted = (clip for clip in declared.clips if clip.clip_id not in without)
        ordered = sorted(wanted, key=lambda clip: (clip.split, clip.clip_id))
        outcomes = check_clips(self.root, ordered, workers, whole_sounds=whole_sounds, progress=progress)
        clips = tuple(outcome.clip for outcome in outcomes if outcome.clip is not None)
        findings = [*declared.findings, *(finding for outcome in outcomes for finding in outcome.findings)]
        return DataSet(
            name=self.name,
            root=self.root,
            layout=declared.layout,
            clips=clips,
            findings=tuple(findings),
            notes=(_counts(clips), *declared.notes, *_caveats(self.name, declared), *_seen(clips, outcomes)),
            off_screen_obstacle=declared.off_screen_obstacle,
            release=self.release,
            facts={OVERLAP: declared.overlap},
            spec=type(self.spec),
        )


def _declare(spec: DataSetSpec, data_root: Path, splits: Collection[str], release: str | None) -> DeclaredDataSet:
    """Return the declared clips; whatever the code of a plug-in raises becomes one line."""
    if spec.name in DATASETS:
        return checked_declaration(spec, spec.declare(data_root, splits, release), splits)
    with one_line(f"data set {spec.name}: declare()", DataSetError):
        return checked_declaration(spec, spec.declare(data_root, splits, release), splits)


def _require_known(splits: Sequence[str] | None) -> None:
    if isinstance(splits, str):
        raise DataSetError(f"splits: found the text '{splits}'; expected a list of names, such as ['{SPLITS[-1]}']")
    for split in splits or ():
        if split not in SPLITS:
            hint = (
                "; name several as --split val --split test" if "," in str(split) else did_you_mean(str(split), SPLITS)
            )
            raise DataSetError(f"--split: found '{split}'; expected {', '.join(SPLITS[:-1])} or {SPLITS[-1]}{hint}")


def _require_clips(declared: DeclaredDataSet, data_root: Path, splits: Sequence[str] | None) -> None:
    if splits is not None and not splits:
        raise DataSetError(f"--split: found no split; expected one or more of {', '.join(SPLITS)}")
    for split in splits or ():
        if not declared.count_rows().get(split):
            rows = declared.count_rows()
            others = sorted(set(rows) - set(SPLITS))[:_SPLITS_SHOWN]
            named = [(known, known) for known in SPLITS] + [(other, f"'{printable(other)}'") for other in others]
            found = ", ".join(f"{rows[key]} in {name}" for key, name in named if rows.get(key))
            raise DataSetError(
                f"--split {split}: found no clip of this split in {data_root} ({declared.layout}; clips: {found or 'none'}); "
                "expected one at least; name another split or complete the table"
            )


def _caveats(name: str, declared: DeclaredDataSet) -> tuple[str, ...]:
    """Return the sentences that belong next to every table of results on this data."""
    sentences = (release_caveat(name, declared.release), overlap_caveat(name, declared.overlap))
    return tuple(sentence for sentence in sentences if sentence)


def _counts(clips: Sequence[Clip]) -> str:
    counts = Counter(clip.split for clip in clips)
    return "clips in order: " + (", ".join(f"{split} {counts[split]}" for split in SPLITS if counts[split]) or "none")


def _seen(clips: Sequence[Clip], outcomes: Sequence[CheckedClip]) -> tuple[str, ...]:
    """Return notes about facts that nobody has documented: picture sizes, mask modes, sounds."""
    if not clips:
        return ()
    sizes = Counter(size for outcome in outcomes for size in outcome.sizes)
    modes = Counter(mode for outcome in outcomes for mode in outcome.mask_modes)
    sounds = Counter(f"{clip.sound.sample_rate} Hz with {clip.sound.channels} channel(s)" for clip in clips)
    short = sum(clip.sound.duration_s < clip.num_frames for clip in clips)
    notes = [f"frames: {_shares(sizes)}", f"masks: mode {_shares(modes)}", f"sounds: {_shares(sounds)}"]
    if short:
        notes.append(f"{short} clips have a sound shorter than their frames last")
    notes += _alike(clip.clip_id for clip in clips)
    return tuple(notes)


def _alike(clip_ids: Iterable[str]) -> list[str]:
    """Return a note about ids that name one file on some disks, if there are any: a build has files of those names."""
    spellings: dict[str, list[str]] = {}
    for clip_id in clip_ids:
        spellings.setdefault(same_folder(clip_id), []).append(clip_id)
    alike = [" and ".join(sorted(ids)) for ids in spellings.values() if len(ids) > 1]
    if not alike:
        return []
    more = f", and {len(alike) - _ALIKE_SHOWN} others" if len(alike) > _ALIKE_SHOWN else ""
    return [
        f"clips differ only in upper and lower case, or in forms of Unicode: {', '.join(alike[:_ALIKE_SHOWN])}{more}; their "
        "files fall together on disks that make no difference (macOS, Windows): build on another"
    ]


def _shares(counts: Counter[str]) -> str:
    """Return the commonest values with their number of clips; ties in order of the alphabet."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{value} ({count} clips)" for value, count in ordered[:_SIZES_SHOWN])
    return shown + (f", {len(ordered) - _SIZES_SHOWN} others" if len(ordered) > _SIZES_SHOWN else "")

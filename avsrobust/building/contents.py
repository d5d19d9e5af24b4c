"""Contents of the data set's files, as a build needs them: surveyed now, or taken from the finished build in its folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from avsrobust.building.engine import Engine
from avsrobust.building.identity import finished_manifest
from avsrobust.building.lenders import Lenders, key_of
from avsrobust.building.render import look_at_clips, look_tasks
from avsrobust.callbacks import ProgressCallback
from avsrobust.checksums import FileSum, read_checksums
from avsrobust.clips import Clip
from avsrobust.datasets.contents import ClipContents
from avsrobust.datasets.survey import survey_contents
from avsrobust.errors import ManifestError
from avsrobust.manifest import Manifest, ManifestInfo
from avsrobust.seal import is_intact


@dataclass(frozen=True)
class Checked:
    """Contents of the data set's files.

    `files`: their checksums, by the manifest's paths. `bad`: what is wrong with clips that cannot be used, by their ids.
    `muted` and `rules`: clips in which nothing can be heard, and the rules by which binary masks are read. `summary`: the
    survey for the manifest. `lenders`: those whose sounds can be lent.
    """

    files: Mapping[str, FileSum]
    bad: Mapping[str, Sequence[str]]
    muted: frozenset[str]
    rules: Mapping[str, str]
    summary: dict[str, Any]
    lenders: Lenders = field(default_factory=Lenders)

    def applied_to(self, clips: Sequence[Clip]) -> tuple[Clip, ...]:
        """Return the clips with `is_muted` and `foreground` set."""
        return tuple(
            replace(
                clip,
                is_muted=clip.clip_id in self.muted,
                foreground=self.rules.get(clip.clip_id, clip.foreground),
            )
            for clip in clips
        )


@dataclass(frozen=True)
class Finished(Checked):
    """The same, from the manifest and the checksums of a finished build."""

    manifest: Manifest = field(kw_only=True)

    def would_be(self, info: ManifestInfo, files: Mapping[str, FileSum]) -> bool:
        """Return whether this build would be written again with these metadata, remarks aside, and checksums."""
        there = self.manifest.info
        same = replace(info, checksums_sha256=there.checksums_sha256, notes=there.notes, survey=there.survey)
        return files == self.files and same == there


class ProgressCounter:
    """Work done and in total, reported to a `ProgressCallback`."""

    def __init__(self, progress: ProgressCallback | None) -> None:
        self._progress = progress
        self._done = 0
        self._total = 0
        self._foreseen = 0

    def foresee(self, count: int) -> None:
        """Name work that follows and is not in the total yet; 0 once it is. Otherwise its first part looks like all."""
        self._foreseen = count

    def expect(self, count: int) -> None:
        """Add to the total."""
        self._total += count

    def advance(self, count: int) -> None:
        """Add to the work done, and call the callback."""
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total + self._foreseen)


def look_at_files(
    data: Path, clips: Sequence[Clip], lenders: Lenders, engine: Engine, counter: ProgressCounter
) -> Checked:
    """Look at the contents of all files of these clips, and at the sounds of lending ones."""
    counter.expect(len(clips))
    contents: list[ClipContents] = []
    for seen in engine.map(look_at_clips, look_tasks(data, clips)):
        contents += seen
        counter.advance(len(seen))
    survey = survey_contents(clips, contents)
    bad: dict[str, list[str]] = {}
    for finding in survey.findings:
        bad.setdefault(finding.clip_id or finding.path, []).append(str(finding))
    files = {entry.path: entry for entry in survey.files}
    lending, of_lenders = look_at_lenders(data, lenders, engine, counter)
    return Checked({**of_lenders, **files}, bad, survey.muted, survey.rules, survey.summary, lending)


def look_at_lenders(
    data: Path, lenders: Lenders, engine: Engine, counter: ProgressCounter
) -> tuple[Lenders, Mapping[str, FileSum]]:
    """Look at the sounds of lending clips; return those that can lend theirs, and the checksums of the files."""
    clips = [replace(clip, clip_id=key_of(clip)) for clip in lenders.clips]
    counter.expect(len(clips))
    contents: list[ClipContents] = []
    for seen in engine.map(look_at_clips, look_tasks(data, clips, sounds_only=True)):
        contents += seen
        counter.advance(len(seen))
    bad = {entry.clip_id for entry in contents if entry.findings}
    muted = {entry.clip_id for entry in contents if entry.is_muted}
    return lenders.without(bad, muted), {file.path: file for entry in contents for file in entry.files}


def finished_build(output: Path, clip_ids: Collection[str]) -> Finished | None:
    """Return what a finished build knows about these clips, None where there is none, or one that is damaged."""
    manifest = finished_manifest(output)
    if manifest is None or not is_intact(output):
        return None
    try:
        files = read_checksums(output, manifest.info.checksums_sha256)
    except ManifestError:
        return None
    bad: dict[str, list[str]] = {}
    for entry in manifest.info.skipped:
        if entry.condition is None and entry.clip_id in clip_ids:
            bad.setdefault(entry.clip_id, []).append(entry.reason)
    rules = {row.clip_id: row.foreground for row in manifest.rows}
    return Finished(files, bad, frozenset(manifest.info.muted), rules, manifest.info.survey, manifest=manifest)

"""Build a robust benchmark from a data set and a recipe.

Conventions
    Everything is checked before anything is written: findings of the reader, options, the output folder, every sound.
    Then sounds are made, then log-mels, then the export, and the manifest last: as long as there is none, no evaluation
    finds the build. The same command continues an interrupted build, and makes again what was deleted from a finished one.
    One process at a time holds the folder. Every file's bytes depend on data, recipe, seed and, the manifest's, the version
    that began the build alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from avsrobust.build.engine import Engine, check_engine, open_engine
from avsrobust.build.export import check_export, export_tasks, write_exports
from avsrobust.build.identity import (
    BUILD_KIND,
    Identity,
    begun_by,
    check_output,
    claim_output,
    finished_manifest,
)
from avsrobust.build.layout import Layout, lay_out
from avsrobust.build.listing import read_listing
from avsrobust.build.plan import Plan, plan
from avsrobust.build.render import (
    Roots,
    ShardTask,
    inspect_sounds,
    inspect_tasks,
    make_shard,
    make_sounds,
    make_tasks,
    shard_is_there,
    sound_is_there,
)
from avsrobust.conditions.recipe import Recipe
from avsrobust.conditions.reference import Listing
from avsrobust.conditions.seeds import check_seed
from avsrobust.conditions.sounds import sound_of
from avsrobust.datasets.clips import DataSet
from avsrobust.errors import DataSetError, OptionError, did_you_mean
from avsrobust.files import remove_temporaries
from avsrobust.folders import hold_output_dir
from avsrobust.manifest import (
    BUILD_FORMAT,
    MANIFEST_NAME,
    Manifest,
    ManifestInfo,
    Row,
    Skipped,
    data_files,
    fingerprint,
    remember_data_root,
    same_rows,
    write_manifest,
)

FAIL, SKIP = "fail", "skip"
ON_ERROR = (FAIL, SKIP)
# (done, total): sounds looked at or made, log-mels and exported files, all phases together.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class BuildReport:
    """What a build came to: the manifest, its rows, files made now and found there, what was left out, remarks."""

    manifest: Path
    rows: int
    rendered: int
    reused: int
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


def build(
    dataset: DataSet,
    recipe: Recipe,
    seed: int,
    output: Path,
    *,
    workers: int = 1,
    engine: str = "local",
    scheduler: str | None = None,
    on_error: str = FAIL,
    export: str | None = None,
    wait: bool = False,
    progress: Progress | None = None,
) -> BuildReport:
    """Make the build of `dataset` under `recipe` in the folder `output`, or complete it. One process at a time holds the folder.

    `on_error`: "fail" refuses a data set with any finding, "skip" leaves the clips out and lists them. `workers`, `engine`
    and `scheduler`: see `avsrobust.build.engine`. `export`: see `avsrobust.build.export`. `wait`: until another process gives
    the folder up.
    Raises `OptionError` for an option or output folder that cannot be used, `DataSetError` with all findings for a data set
    that cannot, `RecipeError` where the recipe does not fit the data set. Nothing is written before these are ruled out.
    """
    check_seed(seed)
    check_engine(engine, workers, scheduler)
    if on_error not in ON_ERROR:
        raise OptionError(f"--on-error {on_error}: expected {' or '.join(ON_ERROR)}{did_you_mean(on_error, ON_ERROR)}")
    if export is not None:
        check_export(export, dataset.name)
    if on_error == FAIL:
        _refuse(dataset, [str(finding) for finding in dataset.findings])
    roots = Roots(output.absolute(), dataset.root.resolve())
    job = _Job(dataset, recipe, seed, output, roots, read_listing(dataset, recipe), export)
    job.plan_without(())
    identity = Identity.of(dataset, recipe, seed)
    with (
        hold_output_dir(output, BUILD_KIND, BUILD_FORMAT, "avsrobust build", wait=wait),
        open_engine(engine, workers, scheduler) as workforce,
    ):
        return _build(job, identity, on_error, workforce, _Meter(progress))


def _build(job: _Job, identity: Identity, on_error: str, workforce: Engine, meter: _Meter) -> BuildReport:
    """Make or complete the build in its folder, which is ours and locked."""
    output = job.output
    check_output(output, identity)
    remove_temporaries(output)
    finished = finished_manifest(output)
    checked = _recall(job, finished) if finished else _inspect(job, workforce, meter)
    if on_error == FAIL:
        _refuse(job.dataset, list(checked.bad.values()))
    planned = job.plan_without(checked.bad)
    layout = lay_out(planned)
    identity = identity.completed(layout, checked.checksums)
    check_output(output, identity)
    claim_output(output, identity)
    made = _make(job, layout, checked, workforce, meter)
    info = replace(job.info(planned, layout, checked.bad), version=begun_by(output))
    # Once more: workers of a killed build may have lived a little longer than it.
    remove_temporaries(output)
    manifest = output / MANIFEST_NAME
    # A finished manifest stays as it is, to the byte: results name its checksum.
    if finished is None or finished.info != info or not same_rows(finished.rows, made.rows):
        write_manifest(manifest, made.rows, info)
    remember_data_root(output, job.roots.data)
    return BuildReport(manifest, len(made.rows), made.rendered, made.reused, info.skipped, info.notes)


@dataclass(frozen=True)
class _Job:
    """What is asked for; `output` is the folder as the user names it."""

    dataset: DataSet
    recipe: Recipe
    seed: int
    output: Path
    roots: Roots
    listing: Listing | None
    export: str | None

    def plan_without(self, bad: Collection[str]) -> Plan:
        """Return the plan for the clips that can be used; raise `DataSetError` where it is empty."""
        clips = tuple(clip for clip in self.dataset.clips if clip.clip_id not in bad)
        planned = plan(clips, self.recipe, self.seed, self.dataset.off_screen_obstacle, self.listing)
        if not planned.rows:
            raise DataSetError(
                f"{self.dataset.root}: found no clip of {self.dataset.name} that can be used; expected at least one; "
                "correct the data set, or check --split and --data-root",
                [str(finding) for finding in self.dataset.findings],
            )
        return planned

    def info(self, planned: Plan, layout: Layout, bad: Mapping[str, str]) -> ManifestInfo:
        """Return the manifest's metadata; left out are clips by the reader, undecodable ones, and rows by the plan."""
        found = (Skipped(finding.clip_id or finding.path, None, str(finding)) for finding in self.dataset.findings)
        undecoded = (Skipped(clip_id, None, reason) for clip_id, reason in sorted(bad.items()))
        splits = sorted({row.split for row in layout.rows})
        files = {split: data_files(row for row in layout.rows if row.split == split) for split in splits}
        return ManifestInfo(
            dataset=self.dataset.name,
            seed=self.seed,
            recipe=self.recipe.as_dict(),
            fingerprints={
                split: fingerprint(self.roots.data, files[split], named_by="the data set's tables") for split in splits
            },
            skipped=tuple(
                replace(entry, clip_id=self.portable(entry.clip_id), reason=self.portable(entry.reason))
                for entry in (*found, *undecoded, *planned.left_out)
            ),
            notes=tuple(self.portable(note) for note in (*self.dataset.notes, *planned.notes)),
            release=self.dataset.release,
            survey=dict(self.dataset.facts),
        )

    def portable(self, text: str) -> str:
        """Return `text` without the place of the data: the manifest's bytes must not depend on it."""
        for root in sorted({str(self.dataset.root), str(self.roots.data)}, key=len, reverse=True):
            text = re.sub(rf"(?<![\w./-]){re.escape(root)}/", "", text)
        return text


@dataclass(frozen=True)
class _Checked:
    """Outcome of looking at the data set's sounds: checksums by the manifest's `audio`, and clips that cannot be used."""

    checksums: Mapping[str, str]
    bad: Mapping[str, str]


@dataclass(frozen=True)
class _Made:
    """Finished rows, and how many files were made for them or were there."""

    rows: tuple[Row, ...]
    rendered: int
    reused: int


class _Meter:
    """Counts for the progress callback."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._done = 0
        self._total = 0

    def expect(self, count: int) -> None:
        self._total += count

    def advance(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)


def _refuse(dataset: DataSet, findings: Sequence[str]) -> None:
    if findings:
        raise DataSetError(
            f"{dataset.root}: found {len(findings)} problems in {dataset.name}; expected none; "
            "correct them, or leave such clips out with --on-error skip",
            findings,
        )


def _inspect(job: _Job, engine: Engine, meter: _Meter) -> _Checked:
    """Decode every sound of the data set."""
    clips = {sound_of(clip).audio: clip for clip in job.dataset.clips}
    meter.expect(len(clips))
    checksums: dict[str, str] = {}
    bad: dict[str, str] = {}
    for results in engine.map(inspect_sounds, inspect_tasks(job.roots, sorted(clips))):
        for result in results:
            if result.problem is None:
                checksums[result.audio] = result.sha256
            else:
                bad[clips[result.audio].clip_id] = result.problem
        meter.advance(len(results))
    return _Checked(checksums, bad)


def _recall(job: _Job, finished: Manifest) -> _Checked:
    """Take checksums and undecodable clips from the manifest of the finished build."""
    accepted = {clip.clip_id for clip in job.dataset.clips}
    bad = {entry.clip_id: entry.reason for entry in finished.info.skipped if entry.condition is None}
    return _Checked(
        {row.audio: row.audio_sha256 for row in finished.rows},
        {clip_id: reason for clip_id, reason in bad.items() if clip_id in accepted},
    )


def _make(job: _Job, layout: Layout, checked: _Checked, engine: Engine, meter: _Meter) -> _Made:
    """Make the files that are missing, sounds before what is computed from them."""
    roots = job.roots
    sounds = [
        sound for sound in layout.sounds if sound.audio not in checked.checksums or not sound_is_there(roots, sound)
    ]
    shards = [shard for shard in layout.shards if not shard_is_there(roots, shard)]
    meter.expect(len(sounds) + sum(len(shard.sounds) for shard in shards))
    checksums = dict(checked.checksums)
    rendered = len(shards)
    for made in engine.map(make_sounds, make_tasks(roots, sounds)):
        checksums.update((entry.audio, entry.sha256) for entry in made)
        rendered += sum(entry.now for entry in made)
        meter.advance(len(made))
    for count in engine.map(make_shard, [ShardTask(roots, shard) for shard in shards]):
        meter.advance(count)
    if job.export is not None:
        tasks = export_tasks(roots, layout.rows)
        meter.expect(sum(len(task.files) for task in tasks))
        for count in engine.map(write_exports, tasks):
            meter.advance(count)
    rows = tuple(replace(row, audio_sha256=checksums[row.audio]) for row in layout.rows)
    return _Made(rows, rendered, len(layout.sounds) + len(layout.shards) - rendered)

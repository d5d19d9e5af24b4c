"""Build a robust benchmark from a data set and a recipe.

Conventions
    Everything is checked before anything is written: findings of the reader, options, the output folder, contents of every file.
    Then sounds are made, then log-mels, then the export; checksums, seal and the manifest last, when all the rest is flushed to
    disk: as long as there is no manifest, no evaluation finds the build.
    The same command continues an interrupted build, and makes again what was deleted from a finished one, or changed. A file
    is taken over only where the journal, or the checksums of a finished build, vouch for its bytes.
    One process at a time holds the folder. Every file's bytes depend on data, recipe, seed and, the manifest's, the version
    that began the build alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avsrobust.building.contents import (
    Checked,
    Finished,
    ProgressCounter,
    finished_build,
    look_at_files,
    look_at_lenders,
)
from avsrobust.building.engine import Engine, check_engine, open_engine
from avsrobust.building.export import check_export, export_tasks, write_exports
from avsrobust.building.identity import (
    BUILD_KIND,
    Identity,
    begun_by,
    check_output,
    write_identity,
)
from avsrobust.building.journal import read_journal, remove_journal
from avsrobust.building.layout import Layout, lay_out
from avsrobust.building.lenders import Lenders, read_lenders
from avsrobust.building.listing import read_listing
from avsrobust.building.log_mels import make_shards
from avsrobust.building.plan import Plan, count_sources, plan
from avsrobust.building.render import (
    Roots,
    check_files,
    check_tasks,
    make_pictures,
    make_sounds,
    make_tasks,
    picture_tasks,
)
from avsrobust.building.trial import try_plugins
from avsrobust.callbacks import ProgressCallback
from avsrobust.caveats import SOURCES
from avsrobust.checksums import FileSum, read_checksums, write_checksums
from avsrobust.condition_facts import BASIC_FACTS
from avsrobust.conditions.recipe import Recipe
from avsrobust.conditions.reference import ReleasedListing
from avsrobust.conditions.seeds import check_seed
from avsrobust.conditions.sounds import MadeSound
from avsrobust.datasets.dataset import DataSet
from avsrobust.datasets.survey import survey_lines
from avsrobust.errors import DataSetError, ManifestError, OptionError, did_you_mean
from avsrobust.files import flush_folders, remove_temporaries
from avsrobust.folders import hold_output_dir
from avsrobust.locks import require_held
from avsrobust.manifest import (
    BUILD_FORMAT,
    DATA_PREFIX,
    MADE_PREFIX,
    MANIFEST_NAME,
    ManifestInfo,
    Row,
    Skipped,
    data_files,
    fingerprint,
    made_sha256,
    remember_data_root,
    write_manifest,
)
from avsrobust.vocabulary import counted

FAIL, SKIP = "fail", "skip"
ON_ERROR = (FAIL, SKIP)


@dataclass(frozen=True)
class BuildReport:
    """Outcome of a build: the manifest, its rows, files made now and found there, skipped clips and rows, remarks.

    `survey` says, in lines for people, what the data set's files hold; `muted` are the clips in which nothing can be heard.
    """

    manifest: Path
    rows: int
    rendered: int
    reused: int
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    survey: tuple[str, ...] = ()
    muted: tuple[str, ...] = ()


def build(
    dataset: DataSet,
    recipe: Recipe,
    seed: int,
    output: Path | str,
    *,
    workers: int = 1,
    engine: str = "local",
    scheduler: str | None = None,
    on_error: str = FAIL,
    export: str | None = None,
    wait: bool = False,
    progress: ProgressCallback | None = None,
) -> BuildReport:
    """Make the build of `dataset` under `recipe` in the folder `output`, or complete it. One process at a time holds the folder.

    `on_error`: "fail" refuses a data set with any finding, "skip" leaves the clips out and lists them. `workers`, `engine`
    and `scheduler`: see `avsrobust.building.engine`. `export`: see `avsrobust.building.export`. `wait`: until another process
    gives the folder up.
    Raises `OptionError` for an option or output folder that cannot be used, `DataSetError` with all findings for a data set
    that cannot, `RecipeError` where the recipe does not fit the data set. Nothing is written before these are ruled out.
    """
    output = Path(output)
    check_options(dataset.name, seed, workers, engine, scheduler, on_error, export)
    if on_error == FAIL:
        _refuse(dataset, [str(finding) for finding in dataset.findings])
    recipe.require_current()
    roots = Roots(output.absolute(), dataset.root.resolve())
    job = _Job(
        dataset,
        recipe,
        seed,
        output,
        roots,
        read_listing(dataset, recipe),
        export,
        read_lenders(dataset, recipe, workers, whole_sounds=True),
    )
    planned = job.plan_without(())
    try_plugins(planned, recipe, roots)
    counter = ProgressCounter(progress)
    # About as many files are made, and log-mels computed, as there are rows; how many is known after the survey.
    counter.foresee(len(planned.rows))
    del planned
    identity = Identity.of(dataset, recipe, seed)
    with (
        hold_output_dir(output, BUILD_KIND, BUILD_FORMAT, "avsrobust build", wait=wait),
        open_engine(engine, workers, scheduler) as workforce,
    ):
        return _build(job, identity, on_error, workforce, counter)


def check_options(
    dataset: str,
    seed: int,
    workers: int = 1,
    engine: str = "local",
    scheduler: str | None = None,
    on_error: str = FAIL,
    export: str | None = None,
) -> None:
    """Raise `OptionError` for an option of `build` that cannot be used; `dataset` is the data set's name."""
    check_seed(seed)
    check_engine(engine, workers, scheduler)
    if on_error not in ON_ERROR:
        raise OptionError(f"--on-error {on_error}: expected {' or '.join(ON_ERROR)}{did_you_mean(on_error, ON_ERROR)}")
    if export is not None:
        check_export(export, dataset)


def _build(job: _Job, identity: Identity, on_error: str, workforce: Engine, counter: ProgressCounter) -> BuildReport:
    """Make or complete the build in its folder, which is ours and locked."""
    output = job.output
    check_output(output, identity)
    remove_temporaries(output)
    finished = finished_build(output, {clip.clip_id for clip in job.dataset.clips})
    checked = finished or look_at_files(job.roots.data, job.dataset.clips, job.lenders, workforce, counter)
    if finished is not None:
        lenders, files = look_at_lenders(job.roots.data, job.lenders, workforce, counter)
        checked = replace(finished, lenders=lenders, files={**files, **finished.files})
    if on_error == FAIL:
        _refuse(job.dataset, [reason for reasons in checked.bad.values() for reason in reasons])
    job = replace(
        job, dataset=replace(job.dataset, clips=checked.applied_to(job.dataset.clips)), lenders=checked.lenders
    )
    planned = job.plan_without(checked.bad)
    layout = lay_out(planned)
    identity = identity.completed(layout, {path: entry.sha256 for path, entry in checked.files.items()})
    check_output(output, identity)
    write_identity(output, identity)
    made = _make(job, layout, checked, workforce, counter)
    # Once more: workers of a killed build may have lived a little longer than it.
    remove_temporaries(output)
    manifest = output / MANIFEST_NAME
    # A finished manifest stays as it is, to the byte: results name its checksum.
    info = replace(job.info(planned, layout, checked), version=begun_by(output))
    if not (isinstance(checked, Finished) and made.rendered == 0 and checked.would_be(info, made.files)):
        # What vouches for other files comes after them, and the manifest after everything.
        require_held(output)
        flush_folders(output)
        info = replace(info, checksums_sha256=write_checksums(output, made.files.values()))
        write_manifest(manifest, made.rows(), info)
    remove_journal(output)
    remember_data_root(output, job.roots.data)
    survey = tuple(survey_lines(info.survey, info.dataset, brief=True))
    return BuildReport(
        manifest, len(made.drafts), made.rendered, made.reused, info.skipped, info.notes, survey, info.muted
    )


@dataclass(frozen=True)
class _Job:
    """A requested build; `output` is the folder as the user names it."""

    dataset: DataSet
    recipe: Recipe
    seed: int
    output: Path
    roots: Roots
    listing: ReleasedListing | None
    export: str | None
    lenders: Lenders

    def plan_without(self, bad: Collection[str]) -> Plan:
        """Return the plan for the clips that can be used; raise `DataSetError` where it is empty."""
        clips = tuple(clip for clip in self.dataset.clips if clip.clip_id not in bad)
        planned = plan(
            clips,
            self.recipe,
            self.seed,
            self.dataset.off_screen_obstacle,
            self.listing,
            self.lenders.clips,
            self.lenders.recordings,
        )
        if not planned.rows:
            raise DataSetError(
                f"{self.dataset.root}: found no clip of {self.dataset.name} that can be used; expected at least one; "
                "correct the data set, or check --split and --data-root",
                [str(finding) for finding in self.dataset.findings],
            )
        return planned

    def info(self, planned: Plan, layout: Layout, checked: Checked) -> ManifestInfo:
        """Return the manifest's metadata; skipped are clips by the reader, those with bad contents, and rows by the plan."""
        found = (Skipped(finding.clip_id or finding.path, None, str(finding)) for finding in self.dataset.findings)
        undecoded = (
            Skipped(clip_id, None, reason) for clip_id, reasons in sorted(checked.bad.items()) for reason in reasons
        )
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
                for entry in (*found, *undecoded, *planned.skipped)
            ),
            notes=tuple(self.portable(note) for note in (*self.dataset.notes, *self.lenders.notes, *planned.notes)),
            release=self.dataset.release,
            muted=tuple(sorted({clip.clip_id for clip in planned.rows.clips() if clip.is_muted})),
            survey={**checked.summary, **self.dataset.facts, SOURCES: count_sources(planned.rows)},
            conditions=_facts(self.recipe),
        )

    def portable(self, text: str) -> str:
        """Return `text` without the place of the data: the manifest's bytes must not depend on it."""
        for root in sorted({str(self.dataset.root), str(self.roots.data)}, key=len, reverse=True):
            text = re.sub(rf"(?<![\w./-]){re.escape(root)}/", "", text)
        return text


@dataclass(frozen=True)
class _Made:
    """Rows, the checksums of all files they name, and how many files were made for them or were there."""

    drafts: Sequence[Row]
    sums: Mapping[str, str]
    files: Mapping[str, FileSum]
    rendered: int
    reused: int

    def rows(self) -> Iterator[Row]:
        """Yield the rows, with the checksums of their sounds."""
        for row in self.drafts:
            is_made = row.audio.startswith(MADE_PREFIX)
            yield replace(row, audio_sha256=made_sha256(row, self.sums) if is_made else self.sums[row.audio])


def _refuse(dataset: DataSet, findings: Sequence[str]) -> None:
    if findings:
        raise DataSetError(
            f"{dataset.root}: found {counted(len(findings), 'problem')} in {dataset.name}; expected none; "
            "correct them, or leave such clips out with --on-error skip",
            findings,
        )


def _vouched_for(output: Path) -> dict[str, FileSum]:
    """Return the files of a build, finished or not, that something written after them vouches for."""
    try:
        finished = read_checksums(output)
    except ManifestError:
        finished = {}
    return {
        path: entry for path, entry in {**finished, **read_journal(output)}.items() if not path.startswith(DATA_PREFIX)
    }


def _make(job: _Job, layout: Layout, checked: Checked, engine: Engine, counter: ProgressCounter) -> _Made:
    """Make the files that are missing, sounds before what is computed from them."""
    roots = job.roots
    known = _vouched_for(roots.output)
    sounds_wanted = _with_recordings(layout, job.lenders)
    wanted = [
        *(sound.audio for sound in sounds_wanted),
        *(picture.path for picture in layout.pictures),
        *(shard.path for shard in layout.shards),
    ]
    candidates = [known[path] for path in wanted if path in known]
    counter.foresee(0)
    counter.expect(len(candidates))
    good: dict[str, FileSum] = {}
    tasks = check_tasks(roots.output, candidates)
    for task, entries in zip(tasks, engine.map(check_files, tasks), strict=True):
        good.update((entry.path, entry) for entry in entries)
        counter.advance(len(task.files))
    sounds = [sound for sound in sounds_wanted if sound.audio not in good]
    pictures = [picture for picture in layout.pictures if picture.path not in good]
    shards = [shard for shard in layout.shards if shard.path not in good]
    counter.expect(len(sounds) + len(pictures) + sum(len(shard.sounds) for shard in shards))
    made: dict[str, FileSum] = {}
    for entries in engine.map(make_sounds, make_tasks(roots, sounds)):
        made.update((entry.path, entry) for entry in entries)
        counter.advance(len(entries))
    for entries in engine.map(make_pictures, picture_tasks(roots, pictures)):
        made.update((entry.path, entry) for entry in entries)
        counter.advance(len(entries))
    for shard, entry in make_shards(engine, roots, shards):
        made[entry.path] = entry
        counter.advance(len(shard.sounds))
    if job.export is not None:
        exports = export_tasks(roots, layout.rows)
        counter.expect(sum(len(export.files) for export in exports))
        for count in engine.map(write_exports, exports):
            counter.advance(count)
    data = {DATA_PREFIX + path for path in data_files(layout.rows)}
    files = {**{path: entry for path, entry in checked.files.items() if path in data}, **good, **made}
    sums = {path: entry.sha256 for path, entry in files.items()}
    return _Made(layout.rows, sums, files, len(made), len(good))


def _with_recordings(layout: Layout, lenders: Lenders) -> list[MadeSound]:
    """Return all sounds to make: those of rows, and the recordings that other sounds are made from."""
    needed = layout.needed_sounds
    recordings = [sound for path, sound in sorted(lenders.sounds.items()) if path in needed]
    return [*recordings, *layout.sounds]


def _facts(recipe: Recipe) -> dict[str, Any]:
    """Return what the manifest says about conditions, but for those of the first release, which every reader knows."""
    return {entry.name: entry.facts for entry in recipe.entries if entry.facts != BASIC_FACTS.get(entry.name)}

"""Turning stored results into tables and comparisons (`avsrobust.api`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from avsrobust.callbacks import MessageCallback
from avsrobust.plain_arguments import with_plain_arguments
from avsrobust.remote import naming_addresses

if TYPE_CHECKING:
    import pandas as pd

    from avsrobust.exporting.frames import ScoreTable
    from avsrobust.reporting.compare import Comparison, Comparisons
    from avsrobust.reporting.media import Gallery
    from avsrobust.reporting.report import Rendered
    from avsrobust.results import Scores

AnyPath = Path | str


@naming_addresses()
@with_plain_arguments
def report(
    results: AnyPath | Sequence[AnyPath] | Results | None = None,
    *,
    protocols: Sequence[str] | None = None,
    by: str | None = None,
    format: str = "md",  # noqa: A002 - the option's name
    task: str | None = None,
    negatives: Sequence[str] | None = None,
    scores: Sequence[str] = (),
    layout: str = "full",
    preset: str | None = None,
    columns: Sequence[str] = (),
    digits: str | int | None = None,
    width: str | float | None = None,
    caption: str | None = None,
    label: str | None = None,
    renames: Mapping[str, str] | None = None,
    reported: bool = False,
    reported_files: Sequence[AnyPath] = (),
    intervals: bool = False,
    aggregate: str | None = None,
    common_clips: bool = False,
    compare: bool = False,
    gallery: int | None = None,
    rerun: bool = False,
    data_root: AnyPath | None = None,
    allow_limited: bool = False,
    allow_different_builds: bool = False,
    relative_to: Path | None = None,
    on_message: MessageCallback = lambda _message: None,
) -> Rendered:
    """Turn results into one table.

    Args:
        results: Results, or their paths or folders (default: everything under ``results``).
        protocols: Names of protocols, or "all" (default: avsbench, or those of the preset).
        by: None, or a breakdown for a line per part as well: "category", "train_source" or "avs_v3".
        format: Name of a report format.
        task: "semantic", "binary", or None: semantic where available.
        negatives: Negative conditions that the G scores average over (default: silence, noise, offscreen).
        scores: Groups of extra scores: "levels", "iiou", "activation", "overlap", "threshold", "natural", or "all".
        layout: "full", or "wide": the table for a paper, data sets side by side (md, latex, html).
        preset: The columns, digits and protocols of a paper, in the wide layout: "avsbench_robust" or "bias_in_avs".
        columns: Wide: columns of each data set, in order (default: mIoU, G_mIoU, G_FPR).
        digits: Wide: decimals of all columns, or of some, as "1,G_FPR=3".
        width: Wide: width of the LaTeX table, "page", "column", "neurips", "two-column", or points.
        caption: Wide: caption (default: how to read the table).
        label: Wide: LaTeX label (default: "tab:avsrobust").
        renames: Names to show, by those of models; wide: of columns and data sets too.
        reported: Show published scores next to the measured ones.
        reported_files: Files of further published scores.
        intervals: Whether to show 95 % intervals.
        aggregate: "seeds": one line, with mean and spread, for all results of a model that differ in seeds alone.
        common_clips: Whether to score every split on the clips alone that all its models were scored on.
        compare: Format html: compare all pairs of models, as `compare_models` does.
        gallery: Format html: show so many of the worst clips of each split, from stored masks (`evaluate`'s `save_masks`).
        rerun: With `gallery`: run models on the clips shown where their masks are not stored; named readouts too.
        data_root: Folder that the data set of the gallery lies in now, where it has moved.
        allow_limited: Take results of smoke runs (`evaluate`'s `limit`) too.
        allow_different_builds: Take results of different builds of a split too, whose negatives are others.
        relative_to: With `gallery`: folder of the page, to which its links are relative; None: the working folder.
        on_message: With `rerun`: called with a line for people before a model runs.

    Returns:
        The rendered table and its warnings.

    Raises:
        OptionError: A protocol, breakdown, format, task, negative, group of scores, column or name is unknown, or another option
            cannot be used.
        ResultsError: There are no results, or they cannot be read.
    """
    from avsrobust.reporting.loading import require_complete
    from avsrobust.reporting.report import ReportRequest, render_report, report_options
    from avsrobust.reporting.same_build import require_one_build

    request = ReportRequest(
        by=by,
        format=format,
        task=task,
        negatives=negatives,
        scores=scores,
        intervals=intervals,
        aggregate=aggregate,
        common_clips=common_clips,
        compare=compare,
        gallery=gallery,
        rerun=rerun,
        **report_options(
            protocols=protocols or (),
            layout=layout,
            preset=preset,
            columns=columns,
            digits=digits,
            width=width,
            caption=caption,
            label=label,
            renames=renames or {},
            reported=reported,
            reported_files=reported_files,
        ),
    )
    request.checked_format()
    found = _from_here(results) if isinstance(results, Results) else load_results(results)
    require_complete(found.scores, allow_limited=allow_limited)
    if not allow_different_builds:
        require_one_build(found.scores, aggregate=aggregate)
    media = None
    if gallery is not None:
        media = make_gallery(
            found.scores, gallery, data_root=data_root, relative_to=relative_to, rerun=rerun, on_message=on_message
        )
    return render_report(found.scores, request, media)


@naming_addresses()
@with_plain_arguments
def make_gallery(
    results: Sequence[Scores],
    number: int,
    *,
    data_root: AnyPath | None = None,
    relative_to: Path | None = None,
    rerun: bool = False,
    on_message: MessageCallback = lambda _message: None,
) -> Gallery:
    """Return the media of the worst clips of some results, for `reporting.report.report`.

    Args:
        results: Stored results.
        number: Clips to show of each split and build.
        data_root: Folder of the data set; None: the one that each build remembers.
        relative_to: Folder of the page, to which the links are relative; None: the working folder.
        rerun: Run models on these clips where their masks are not stored; named readouts too.
        on_message: Called with a line for people before a model runs.

    Raises:
        OptionError: No results hold masks, and none are to be made.
        ResultsError: A build is not there any more, or a model is another one now.
        AdapterError: An adapter or its checkpoint is not there, or fails.
        ManifestError: A build's data is not there any more.
    """
    from avsrobust.gallery.collect import make_gallery as collect

    results = [scores.from_here() for scores in results]
    if not rerun:
        return collect(results, number, data_root=data_root, relative_to=relative_to)
    from avsrobust.clip_reruns import ClipReruns

    with TemporaryDirectory(prefix="avsrobust-") as folder:
        reruns = ClipReruns(Path(folder), data_root, on_message=on_message)
        return collect(results, number, data_root=data_root, relative_to=relative_to, rerun=reruns)


@naming_addresses()
@with_plain_arguments
def compare(
    a: AnyPath | Scores,
    b: AnyPath | Scores,
    *,
    protocol: str = "avsbench",
    samples: int = 10_000,
    seed: int = 0,
    task: str | None = None,
    negatives: Sequence[str] | None = None,
    changed: int = 0,
    allow_limited: bool = False,
    allow_different_builds: bool = False,
) -> Comparison:
    """Compare two models on the clips both were scored on, by a paired bootstrap over clips.

    Args:
        a: Results of one model, or their folder.
        b: Results of the other model, or their folder.
        protocol: Name of the protocol.
        samples: Number of resamples.
        seed: Seed of the resamples.
        task: "semantic", "binary", or None: the finest that both have.
        negatives: The negative conditions that the G scores average over; None: silence, noise and offscreen.
        changed: How many of the clips that changed most to list of each split.
        allow_limited: Take results of smoke runs (`evaluate`'s `limit`) too.
        allow_different_builds: Take results of different builds of a split too, whose negatives are others.

    Returns:
        The differences a - b with intervals and p, by split.

    Raises:
        OptionError: The protocol or task is unknown.
        ResultsError: The results cannot be read or compared.
    """
    from avsrobust.reporting.compare import check_comparison
    from avsrobust.reporting.compare import compare as compare_scores
    from avsrobust.reporting.loading import load_result, require_complete, require_distinct
    from avsrobust.reporting.same_build import require_one_build

    check_comparison(protocol, samples, task, changed)
    one, other = (load_result(side) if isinstance(side, Path | str) else side.from_here() for side in (a, b))
    require_distinct([one.source, other.source])
    require_complete([one, other], allow_limited=allow_limited)
    if not allow_different_builds:
        require_one_build([one, other], can_aggregate=False)
    return compare_scores(one, other, protocol, samples, seed, task, negatives, changed)


@naming_addresses()
@with_plain_arguments
def compare_models(
    results: Sequence[AnyPath | Scores],
    *,
    reference: str | None = None,
    protocol: str = "avsbench",
    samples: int = 10_000,
    seed: int = 0,
    task: str | None = None,
    negatives: Sequence[str] | None = None,
    changed: int = 0,
    common_clips: bool = False,
    allow_limited: bool = False,
    allow_different_builds: bool = False,
) -> Comparisons:
    """Compare any number of models, on each data set by itself, with p corrected for several comparisons.

    Args:
        results: Results of models, or folders of them.
        reference: The model that all others are compared with; None: all pairs are compared.
        protocol: Name of the protocol.
        samples: Number of resamples.
        seed: Seed of the resamples.
        task: "semantic", "binary", or None: the finest that both of a pair have.
        negatives: The negative conditions that the G scores average over; None: silence, noise and offscreen.
        changed: How many of the clips that changed most to list of each split and pair.
        common_clips: Compare on the clips that all models of a data set were scored on.
        allow_limited: Take results of smoke runs (`evaluate`'s `limit`) too.
        allow_different_builds: Take results of different builds of a split too, whose negatives are others.

    Returns:
        The comparison of each pair.

    Raises:
        OptionError: An option's value is unknown.
        ResultsError: The results cannot be read or compared.
    """
    from avsrobust.reporting.compare import check_comparison
    from avsrobust.reporting.compare import compare_models as compare_scores
    from avsrobust.reporting.loading import load_each, require_complete
    from avsrobust.reporting.same_build import require_one_build

    check_comparison(protocol, samples, task, changed)
    loaded = load_each(results)
    require_complete(loaded, allow_limited=allow_limited)
    if not allow_different_builds:
        require_one_build(loaded, can_aggregate=False)
    return compare_scores(loaded, reference, protocol, samples, seed, task, negatives, changed, common_clips)


@dataclass(frozen=True)
class Results:
    """Stored results of models on builds.

    Attributes:
        scores: The statistics per frame of each model on each build.
    """

    scores: tuple[Scores, ...]

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Scores]:
        return iter(self.scores)

    def __repr__(self) -> str:
        names = ", ".join(f"{entry.info.model} on {entry.info.dataset}" for entry in self.scores)
        return f"Results({names})"

    def to_pandas(
        self,
        protocols: Sequence[str] = ("avsbench",),
        task: str | None = None,
        *,
        allow_different_builds: bool = False,
    ) -> pd.DataFrame:
        """Return the report's table: a row per model, data set, split and protocol; undefined scores are NaN."""
        import io

        import pandas as pd

        found = report(
            self, protocols=protocols, task=task, format="csv", allow_different_builds=allow_different_builds
        )
        return pd.read_csv(io.StringIO(str(found.content)))

    def table(
        self,
        protocols: Sequence[str] = ("avsbench",),
        task: str | None = None,
        *,
        by: str | None = None,
        negatives: Sequence[str] | None = None,
        intervals: bool = False,
        aggregate: str | None = None,
        allow_different_builds: bool = False,
    ) -> ScoreTable:
        """Return the report's table as a data frame that a notebook shows in percent, with the best scores marked.

        Args:
            protocols: Protocols of the scores.
            task: "semantic", "binary", or None: semantic where available.
            by: A breakdown for a row per part as well, such as "category".
            negatives: Negative conditions that G averages over (default: silence, noise, offscreen).
            intervals: Add 95 % intervals, in columns that end in ``_low`` and ``_high``.
            aggregate: "seeds": one row for a model's results of several seeds.
            allow_different_builds: Take results of different builds of a split too, whose negatives are others.

        Returns:
            A row per line of the report, with the csv's columns; fractions, NaN is undefined.

        Raises:
            OptionError: An argument is unknown.
            ResultsError: There are no results, or they cannot be true.
        """
        from avsrobust.exporting.frames import score_table
        from avsrobust.reporting.same_build import require_one_build

        scores = _from_here(self).scores
        if not allow_different_builds:
            require_one_build(scores, aggregate=aggregate)
        return score_table(
            scores, protocols, task, by=by, negatives=negatives, intervals=intervals, aggregate=aggregate
        )

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _from_here(results: Results) -> Results:
    return Results(tuple(scores.from_here() for scores in results.scores))


@naming_addresses()
@with_plain_arguments
def load_results(paths: AnyPath | Sequence[AnyPath] | None = None) -> Results:
    """Read stored results.

    Args:
        paths: Folders, searched through, or files ``scores.parquet`` (default: everything under ``results``).

    Raises:
        ResultsError: There are none, or one cannot be read.
    """
    from avsrobust.reporting.loading import load_results as load

    listed = [paths] if isinstance(paths, Path | str) else paths
    return Results(tuple(load(None if not listed else list(listed))))

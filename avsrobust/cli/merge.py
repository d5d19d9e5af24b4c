"""`avsrobust merge`: put the shards of evaluations together."""

from __future__ import annotations

from pathlib import Path

import click

from avsrobust.cli.main import STATUS_INCOMPLETE
from avsrobust.cli.options import ANYWHERE, wait_option
from avsrobust.cli.progress import note, print_result, progress_bar, show_failures
from avsrobust.defaults import RESULTS_ROOT
from avsrobust.vocabulary import counted


@click.command(short_help="Put the shards of evaluations together.")
@click.argument("results", nargs=-1, type=ANYWHERE)
@click.option("--replace", is_flag=True, help="Let results that are in the folder already give way to the shards.")
@wait_option
def merge(results: tuple[Path | str, ...], replace: bool, wait: bool) -> int:
    """Put the shards of evaluations together (evaluate --shard i/n): the results are those of one process.

    RESULTS are results folders, or folders above them, here or at s3://..; without any, everything under 'results'. The
    shards stay.
    """
    from avsrobust.evaluation.merging import merge_shards, results_with_shards

    folders = [folder for path in results or (RESULTS_ROOT,) for folder in results_with_shards(path)]
    complete = True
    for folder in dict.fromkeys(folders):
        with progress_bar(f"merging {folder}"):
            report = merge_shards(folder, replace=replace, wait=wait)
        show_failures(report.failed, report.clips)
        if report.limited:
            some = report.limited_shards if len(report.limited_shards) < report.shards else ()
            which = f"{'shards' if some[1:] else 'shard'} {', '.join(some)} with --limit" if some else "a smoke run"
            note(
                f"{which}: tables refuse these results; run the shards without --limit, and merge again, for all clips"
            )
        note(f"{counted(report.shards, 'shard')}, {counted(report.clips, 'clip')}")
        print_result(report.scores)
        complete &= not report.failed
    return 0 if complete else STATUS_INCOMPLETE

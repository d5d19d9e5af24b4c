"""`avsrobust evaluate`: run models over builds and store sufficient statistics per frame."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from avsrobust.cli.main import STATUS_INCOMPLETE
from avsrobust.cli.options import ANYWHERE, complete_adapter, complete_dataset, key_values, wait_option
from avsrobust.cli.progress import ProgressLog, note, print_result, progress_bar, show_failures
from avsrobust.defaults import RESULTS_ROOT
from avsrobust.errors import OptionError

if TYPE_CHECKING:
    from avsrobust.evaluation.runner import EvaluationReport
    from avsrobust.evaluation.shards import Shard
    from avsrobust.manifest import Manifest


@click.command()
@click.option(
    "--adapter",
    "adapters",
    required=True,
    multiple=True,
    shell_complete=complete_adapter,
    metavar="NAME|MODULE:CLASS|FILE.py:CLASS",
    help="The model; repeat for several. 'avsrobust adapters' lists the names.",
)
@click.option("--dataset", shell_complete=complete_dataset, help="Only builds of this data set.")
@click.option(
    "--manifest",
    "manifests",
    multiple=True,
    type=ANYWHERE,
    metavar="FILE|URL",
    help="Manifest or build folder, here or at s3://.. [default: every build under 'robust'].",
)
@click.option(
    "--data-root",
    type=ANYWHERE,
    metavar="DIR|URL",
    help="Folder the data sets lie in, here or at s3://.. [default: $AVSROBUST_DATA, else 'data'].",
)
@click.option("--checkpoint", type=ANYWHERE, metavar="FILE|URL", help="Weights of the model.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Where the model runs.")
@click.option("--split", "splits", multiple=True, default=("test",), show_default=True, help="Split; repeatable.")
@click.option("--condition", "conditions", multiple=True, help="Only these conditions; repeatable.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Clips at a time [default: on a GPU what its memory holds, else 1; 8 where no frame is looked at].",
)
@click.option(
    "--readers",
    type=click.IntRange(min=1, max=64),
    metavar="N",
    help="Threads that read clips [default: by the cores].",
)
@click.option("--option", "pairs", multiple=True, metavar="KEY=VALUE", help="Handed to the adapter; repeatable.")
@click.option("--save-masks", is_flag=True, help="Also keep the masks, as COCO RLE in parquet.")
@click.option(
    "--score-size",
    metavar="N|frame[:MODE]",
    help="Size of scored masks; MODE nearest or bilinear for the annotated ones [default: their own size].",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="A smoke run: the first N clips of each build. Tables refuse such results.",
)
@click.option(
    "--shard",
    metavar="i/n",
    help="Only the i-th of n parts of the clips; 'avsrobust merge' puts the parts together.",
)
@click.option(
    "--engine",
    default="local",
    show_default=True,
    metavar="local|dask",
    help="Where the model runs: in this process, or in the workers of a dask cluster, each with a model of its own.",
)
@click.option("--scheduler", metavar="ADDRESS", help="Address of a running dask scheduler, for --engine dask.")
@click.option("--no-check", is_flag=True, help="Do not first run a few clips twice to find models that keep state.")
@click.option("--name", help="What tables call the model [default: the adapter's name].")
@click.option(
    "--output",
    type=ANYWHERE,
    metavar="DIR|URL",
    help="Root of the results, here or at s3://..: they lie in DIR/<model>/<build> [default: results].",
)
@click.option("--replace", is_flag=True, help="Let results of another model in the same folder give way to these.")
@wait_option
def evaluate(
    adapters: tuple[str, ...],
    dataset: str | None,
    manifests: tuple[Path | str, ...],
    data_root: Path | str | None,
    checkpoint: Path | str | None,
    device: str,
    splits: tuple[str, ...],
    conditions: tuple[str, ...],
    batch_size: int | None,
    readers: int | None,
    pairs: tuple[str, ...],
    save_masks: bool,
    score_size: str | None,
    limit: int | None,
    shard: str | None,
    engine: str,
    scheduler: str | None,
    no_check: bool,
    name: str | None,
    output: Path | str | None,
    replace: bool,
    wait: bool,
) -> int:
    """Run models over builds; store what every score needs.

    The same model again adds what is missing (splits, conditions, masks, clips that failed) and keeps the rest.
    """
    from avsrobust.evaluation_setup import EvaluationOptions, set_up

    if name is not None and len(adapters) > 1:
        raise OptionError(
            f"--name {name}: given for {len(adapters)} adapters; evaluate them one at a time to name them"
        )
    options = EvaluationOptions(
        manifests=manifests,
        dataset=dataset,
        data_root=data_root,
        output=output or RESULTS_ROOT,
        checkpoint=checkpoint,
        options=key_values(pairs),
        device=device,
        splits=splits,
        conditions=conditions,
        batch_size=batch_size,
        readers=readers,
        save_masks=save_masks,
        score_size=score_size,
        limit=limit,
        shard=shard,
        engine=engine,
        scheduler=scheduler,
        check=not no_check,
        replace=replace,
        wait=wait,
    )
    with progress_bar("evaluate") as progress:
        progress.stage("builds and options are read")
        setup = set_up(options, dict.fromkeys(adapters), name)
    complete = True
    clips = [_count(manifest, splits, conditions, limit, setup.shard) for manifest in setup.builds]
    log, number, done = ProgressLog(clips * len(setup.models)), 0, list[Path]()
    with setup.connect() as client:
        for spec, model in setup.models.items():
            with progress_bar(model) as progress:
                progress.stage("the model is loaded")
                adapter = setup.load(spec, client)
            for manifest, folder in zip(setup.builds, setup.folders[spec], strict=True):
                title = f"{model} on {manifest.info.dataset}"
                with progress_bar(title, log.part(number, title)) as progress:
                    report = setup.evaluate(adapter, spec, manifest, folder, progress)
                done.append(report.scores.parent)
                complete &= _print_report(report)
                number += 1
    if setup.shard is None:
        _print_scores(done)
    else:
        named = " ".join(str(folder) for of_model in setup.folders.values() for folder in of_model)
        note(f"shard {setup.shard} is done; when all {setup.shard.of} are: avsrobust merge {named}")
    return 0 if complete else STATUS_INCOMPLETE


def _count(
    manifest: Manifest, splits: tuple[str, ...], conditions: tuple[str, ...], limit: int | None, shard: Shard | None
) -> int:
    """Return the number of clips that are evaluated on a build."""
    rows = manifest.select(splits, conditions or None).rows
    clips = len({(row.split, row.clip_id) for row in rows})
    clips = clips if limit is None else min(clips, limit)
    # For the line of progress: shards differ by a clip or so.
    return clips if shard is None else -(-clips // shard.of)


def _print_scores(folders: list[Path]) -> None:
    """Print the table of the scores to stderr: for a terminal, or as Markdown."""
    from avsrobust.errors import AvsRobustError
    from avsrobust.reporting.loading import load_results
    from avsrobust.reporting.report import report as render

    try:
        with progress_bar("the table of scores"):
            results = load_results(folders)
            content = "\n".join(_first_tables(str(render(results).content)))
    # The results stand all the same; the command report names the cause too.
    except AvsRobustError as error:
        note(f"no table: {error}")
        return
    if any(scores.info.limited for scores in results):
        note("a smoke run (--limit): these scores are of a part of the clips, and no result")
    if sys.stderr.isatty():
        from rich.console import Console

        from avsrobust.cli.tables import print_markdown

        print_markdown(content, Console(stderr=True, highlight=False))
    else:
        for line in content.splitlines():
            note(line)


def _first_tables(text: str) -> Iterator[str]:
    """Yield the table of scores of each data set and split, with its heading, from a report in Markdown."""
    wanted = False
    for line in text.splitlines():
        if line.startswith("#"):
            wanted, in_table = ": protocol " in line, False
            if wanted:
                yield line
        elif wanted and line.startswith("|"):
            in_table = True
            yield line
        elif wanted and in_table:
            wanted = False


def _print_report(report: EvaluationReport) -> bool:
    for message in report.notes:
        note(message)
    show_failures(report.failed, report.clips)
    print_result(report.scores)
    return not report.failed

"""`avsrobust verify`: is everything a manifest names there and unchanged?"""

from __future__ import annotations

from pathlib import Path

import click

from avsrobust.cli.main import STATUS_INCOMPLETE
from avsrobust.cli.options import ANYWHERE, data_root_option
from avsrobust.cli.progress import note, print_result, progress_bar
from avsrobust.vocabulary import counted


@click.command(short_help="Check every file that a manifest names.")
@click.argument("manifest", type=ANYWHERE)
@data_root_option
@click.option("--quick", is_flag=True, help="Compare sizes of sounds, pictures and arrays only, not their bytes.")
def verify(manifest: Path | str, data_root: Path | str | None, quick: bool) -> int:
    """Check every file that MANIFEST, here or at s3://.., names: presence, checksums, shapes, seeds."""
    from avsrobust.building.verify import verify as verify_manifest

    with progress_bar(f"verifying {manifest}") as progress:
        report = verify_manifest(manifest, data_root, quick=quick, progress=progress)
    for problem in report.problems:
        print_result(problem)
    for line in report.notes:
        note(line)
    verdict = counted(len(report.problems), "problem") if report.problems else "all in order"
    skipped = "; bytes of sounds, pictures and log-mels were not compared (--quick)" if quick else ""
    print_result(f"{manifest}: {counted(report.rows, 'row')}, {verdict}{skipped}")
    return STATUS_INCOMPLETE if report.problems else 0

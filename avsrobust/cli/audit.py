"""`avsrobust audit`: can negatives be separated from clean audio by feature statistics alone?"""

from __future__ import annotations

from pathlib import Path

import click

from avsrobust.cli.main import STATUS_INCOMPLETE
from avsrobust.cli.options import ANYWHERE, data_root_option
from avsrobust.cli.progress import progress_bar


@click.command(short_help="Check whether features alone give negatives away.")
@click.argument("manifest", type=ANYWHERE)
@data_root_option
def audit(manifest: Path | str, data_root: Path | str | None) -> int:
    """Check whether negatives can be separated from clean audio by feature statistics alone."""
    from avsrobust.audit import audit as audit_manifest
    from avsrobust.audit import render_audit
    from avsrobust.manifest import load_manifest

    with progress_bar(f"auditing {manifest}") as progress:
        progress.stage("the manifest is read")
        build = load_manifest(manifest)
        report = audit_manifest(build, data_root, progress=progress, on_stage=progress.stage)
    click.echo(render_audit(report), nl=False)
    return STATUS_INCOMPLETE if report.failed else 0

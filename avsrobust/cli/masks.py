"""`avsrobust masks`: stored masks as pictures."""

from __future__ import annotations

from pathlib import Path

import click

from avsrobust.cli.main import STATUS_INCOMPLETE
from avsrobust.cli.options import ANYWHERE, HERE, data_root_option
from avsrobust.cli.progress import print_result, progress_bar, warn


@click.command(short_help="Write stored masks over the frames.")
@click.argument("result", type=ANYWHERE)
@click.option(
    "--overlay",
    required=True,
    type=HERE,
    metavar="DIR",
    help="Write a PNG per frame to DIR: the predicted mask as a tint, the true mask as an outline.",
)
@click.option("--condition", "conditions", multiple=True, help="Only these conditions; repeatable.")
@click.option("--clip", "clips", multiple=True, metavar="ID", help="Only these clips; repeatable.")
@data_root_option
def masks(
    result: Path | str, overlay: Path, conditions: tuple[str, ...], clips: tuple[str, ...], data_root: Path | str | None
) -> int:
    """Write the masks of RESULT, stored by 'evaluate --save-masks', over the frames."""
    from avsrobust.gallery.overlays import write_overlays

    with progress_bar("overlays") as progress:
        written = write_overlays(result, overlay, conditions, clips, data_root=data_root, progress=progress)
    for message in written.skipped:
        warn(message)
    print_result(written.folder)
    return STATUS_INCOMPLETE if written.skipped else 0

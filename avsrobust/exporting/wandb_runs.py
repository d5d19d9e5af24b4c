"""Runs for Weights & Biases, offline: nothing is sent before the user runs ``wandb sync``.

Conventions
    ``OUTPUT/wandb/offline-run-<time>-<id>/``; the id is the first half of the run's key, which tells whether it is there
    already, and ``avsrobust.json`` in the folder that it is whole. Scores are the run's summary, parameters its configuration.
    No code, git state, console output, host name, user or installed package is recorded, and W&B's reports of its own errors
    are switched off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avsrobust.errors import OptionError
from avsrobust.exporting.runs import ResultRun
from avsrobust.exporting.trackers import Target, Written
from avsrobust.files import make_folder, write_text
from avsrobust.plugins import one_line

_ID_LENGTH = 32
_WHOLE_NAME = "avsrobust.json"


def write_runs(runs: Sequence[ResultRun], target: Target) -> list[Written]:
    """Write runs; return their folders.

    Raises:
        OptionError: The folder cannot be used.
    """
    root = Path(target.output).absolute()
    make_folder(root)
    with _environment(root), one_line(f"--output {target.output}: W&B", OptionError):
        return [_write(run, target, root) for run in runs]


@contextmanager
def _environment(root: Path) -> Iterator[None]:
    """Keep what W&B writes below `root`, and what it would send unsent, for the block."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
    for name in kept:
        del os.environ[name]
    hidden = root / "wandb"
    os.environ |= {
        "WANDB_MODE": "offline",
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_CACHE_DIR": str(hidden / "cache"),
        "WANDB_CONFIG_DIR": str(hidden / "config"),
        "WANDB_DATA_DIR": str(hidden / "data"),
    }
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            del os.environ[name]
        os.environ |= kept


def _write(run: ResultRun, target: Target, root: Path) -> Written:
    import wandb

    run_id = run.key[:_ID_LENGTH]
    for there in sorted(root.glob(f"wandb/offline-run-*-{run_id}")):
        shown = str(Path(target.output, "wandb", there.name))
        if not (there / _WHOLE_NAME).is_file():
            raise OptionError(f"{shown}: was interrupted; expected a whole run, or none; delete it and export again")
        return Written(shown, is_new=False)
    settings = wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        host="",
        mode="offline",
        root_dir=str(root),
        silent=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    with wandb.init(
        project=target.project,
        name=run.name,
        id=run_id,
        config=dict(run.parameters),
        settings=settings,
        reinit="create_new",
    ) as opened:
        opened.summary.update(dict(run.scores))
        if target.artifacts:
            _attach(opened, run)
        folder = Path(opened.settings.sync_dir)
    write_text(folder / _WHOLE_NAME, json.dumps({"key": run.key}) + "\n")
    return Written(str(Path(target.output, "wandb", folder.name)))


def _attach(opened: Any, run: ResultRun) -> None:
    import wandb

    artifact = wandb.Artifact(f"results-{run.key[:_ID_LENGTH]}", type="results")
    for path in run.files:
        artifact.add_file(str(path))
    with artifact.new_file("table.md", encoding="utf-8") as stream:
        stream.write(run.table)
    opened.log_artifact(artifact)

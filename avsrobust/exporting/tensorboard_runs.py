"""Runs for TensorBoard: a folder of event files per result, with the scores as scalars and the parameters as hyperparameters.

Conventions
    ``OUTPUT/<model>/<build>/``. A run's folder appears whole or not at all, and holds the run's key in ``avsrobust.json``, which
    TensorBoard passes over. The dashboard HParams compares parameters and scores of runs; the table stands under Text.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avsrobust.errors import OptionError
from avsrobust.exporting.runs import ResultRun
from avsrobust.exporting.trackers import Target, Written
from avsrobust.files import open_regular, write_text
from avsrobust.folders import new_folder
from avsrobust.textfiles import parse_json

_KEY_NAME = "avsrobust.json"
_MOST_BYTES = 4096


def write_runs(runs: Sequence[ResultRun], target: Target) -> list[Written]:
    """Write runs; return their folders.

    Raises:
        OptionError: There is something else in the place of a run, or it cannot be written.
    """
    folders = [Path(target.output).joinpath(*run.folder) for run in runs]
    found = [_is_written(run, folder) for run, folder in zip(runs, folders, strict=True)]
    for run, folder, is_written in zip(runs, folders, found, strict=True):
        if not is_written:
            with new_folder(folder) as temporary:
                _write(run, temporary)
                write_text(temporary / _KEY_NAME, json.dumps({"key": run.key}) + "\n")
    return [Written(str(folder), not is_written) for folder, is_written in zip(folders, found, strict=True)]


def _is_written(run: ResultRun, folder: Path) -> bool:
    """Whether a folder holds this run. Raises `OptionError` where it holds anything else."""
    if not os.path.lexists(folder):
        return False
    try:
        with open_regular(folder / _KEY_NAME) as stream:
            content = parse_json(stream.read(_MOST_BYTES))
    except (OSError, ValueError):
        content = None
    if content != {"key": run.key}:
        raise OptionError(
            f"{folder}: is there already and is not this run; expected nothing; delete it, or choose another --output"
        )
    return True


def _write(run: ResultRun, folder: Path) -> None:
    from torch.utils.tensorboard import summary
    from torch.utils.tensorboard.writer import SummaryWriter

    with SummaryWriter(log_dir=str(folder)) as writer:
        hparams: Any = summary.hparams
        for part in hparams(dict(run.parameters), dict(run.scores)):
            writer.file_writer.add_summary(part)
        for name, value in run.scores.items():
            # Otherwise float32: 0.1 would read 0.10000000149.
            writer.add_scalar(name, value, global_step=0, double_precision=True)
        writer.add_text("table", run.table, global_step=0)

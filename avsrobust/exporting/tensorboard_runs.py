"""Runs for TensorBoard: a folder of event files per result, with the scores as scalars and the parameters as hyperparameters.

Conventions
    ``OUTPUT/<model>/<build>/``. A run's folder appears whole or not at all. The dashboard HParams compares parameters and scores of
    runs; the table stands under Text.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from avsrobust.errors import OptionError
from avsrobust.exporting.runs import ResultRun
from avsrobust.exporting.trackers import Target
from avsrobust.files import TEMPORARY_SUFFIX, flush_files, make_folder


def write_runs(runs: Sequence[ResultRun], target: Target) -> list[str]:
    """Write runs; return their folders.

    Raises:
        OptionError: A run's folder is there already, or cannot be written.
    """
    root = Path(target.output)
    folders = [root.joinpath(*run.folder) for run in runs]
    for folder in folders:
        _require_free(folder)
    for run, folder in zip(runs, folders, strict=True):
        make_folder(folder.parent)
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
        try:
            _write(run, temporary)
            flush_files(path for path in temporary.iterdir())
            _require_free(folder)
            temporary.rename(folder)
        except OSError as error:
            raise OptionError(
                f"{folder}: cannot be written ({error.strerror or error}); choose another --output"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return [str(folder) for folder in folders]


def _require_free(folder: Path) -> None:
    if os.path.lexists(folder):
        raise OptionError(f"{folder}: is there already; expected a new run; delete it, or choose another --output")


def _write(run: ResultRun, folder: Path) -> None:
    from torch.utils.tensorboard.summary import hparams
    from torch.utils.tensorboard.writer import SummaryWriter

    with SummaryWriter(log_dir=str(folder)) as writer:
        for summary in hparams(dict(run.parameters), dict(run.scores)):
            writer.file_writer.add_summary(summary)
        for name, value in run.scores.items():
            # Made doubles by the writer; a float32 of 0.1 would read 0.10000000149.
            writer.add_scalar(name, value, global_step=0, double_precision=True)
        writer.add_text("table", run.table, global_step=0)

"""Logs of a run: losses of every step, scores of every validation, and the list of parameters; as csv and for TensorBoard.

Conventions
    csv files hold no times, so that a run that was interrupted and continued ends with the same file as one that was not:
    lines beyond the checkpoint are cut off when the run goes on. Numbers are at full precision.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from avsrobust.files import write_text

LOSSES = "log.csv"
VALIDATION = "validation.csv"
PARAMETERS = "parameters.csv"


class _CsvLog:
    """A csv file of the columns ``step`` and `columns`, flushed line by line; lines after `first_step` are cut off."""

    def __init__(self, path: Path, columns: Sequence[str], first_step: int) -> None:
        self.columns = ("step", *columns)
        kept = [row for row in _read(path, self.columns) if int(row["step"]) <= first_step]
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
        write_text(path, text.getvalue())
        self._stream = path.open("a", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._stream, self.columns, lineterminator="\n")

    def add(self, step: int, values: Mapping[str, float | str | None]) -> None:
        """Append a line and flush the file."""
        self._writer.writerow({"step": step, **{key: "" if value is None else value for key, value in values.items()}})
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


class RunLog:
    """All logs of a run.

    Args:
        output: The run's folder.
        losses: Names of the losses.
        first_step: Steps done already; later lines of existing files are cut off.
    """

    def __init__(self, output: Path, losses: Sequence[str], first_step: int) -> None:
        self._losses = _CsvLog(output / LOSSES, ("loss", *losses, "lr", "gradient_norm"), first_step)
        self._validation = _CsvLog(output / VALIDATION, VALIDATION_COLUMNS, first_step)
        self._board: Any = _tensorboard(output / "tensorboard", first_step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._losses.close()
        self._validation.close()
        if self._board is not None:
            self._board.close()

    def losses(self, step: int, values: Mapping[str, float]) -> None:
        """Log the losses of a step, with learning rate and gradient norm."""
        self._losses.add(step, values)
        self._show("train", step, values)

    def validation(self, step: int, dataset: str, values: Mapping[str, float | None]) -> None:
        """Log the scores of one data set (`VALIDATION_COLUMNS`)."""
        self._validation.add(step, {"dataset": dataset, **values})
        self._show(f"validation/{dataset}", step, {key: value for key, value in values.items() if value is not None})

    def flush(self) -> None:
        """Write everything to the files."""
        if self._board is not None:
            self._board.flush()

    def _show(self, group: str, step: int, values: Mapping[str, float]) -> None:
        if self._board is not None:
            for key, value in values.items():
                self._board.add_scalar(f"{group}/{key}", value, step)


VALIDATION_COLUMNS = ("dataset", "clips", "mIoU", "silence_mIoU", "noise_mIoU", "offscreen_mIoU", "G_mIoU", "G_FPR")


def write_parameters(path: Path, parameters: Mapping[str, tuple[Sequence[int], bool]]) -> None:
    """Write the list of parameters; `parameters` maps a name to the shape and whether the parameter is trained."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("name", "shape", "trained"))
    for name, (shape, trained) in parameters.items():
        writer.writerow((name, "x".join(map(str, shape)), "yes" if trained else "no"))
    write_text(path, text.getvalue())


def _read(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    # A line without its end is one that a killed process was writing.
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(whole))
    return list(reader) if tuple(reader.fieldnames or ()) == tuple(columns) else []


def _tensorboard(folder: Path, first_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        # The csv files hold the same numbers; tensorboard comes with the extra "train".
        return None
    # Events that a killed run logged beyond its checkpoint are hidden.
    return SummaryWriter(str(folder), purge_step=first_step + 1)

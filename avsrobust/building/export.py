"""Export: the trees that released data loaders read.

Source: jiali-home/AVSBench-Robust, training_evaluation/code/AVSegFormer, dataloader/{s4,ms3}_dataset.py and config/{s4,ms3}/;
of avss cyh-0/CAVP, dataset/avss/visual/visual_dataset.py, and GeWu-Lab/Stepping-Stones, avs/dataset.py and avss/dataset.py.

Conventions
    Below ``avsbench/`` in the build's folder: silent.wav and silent.pkl, and in Single-source/s4_data/ or
    Multi-sources/ms3_data/ the folders audio_wav_noise, audio_log_mel_noise, audio_wav_misaligned and
    audio_log_mel_misaligned, each {split}/[{category}/]{name}.wav or .pkl.
    A .pkl unpickles to a plain torch tensor, float32 [5, 1, 96, 64], the same log-mel the manifest names. The wavs are copies:
    those loaders know no reference to another clip's file. Of
    several draws of off-screen sounds the first is exported.
    AVSS: a tree per negative in AVSBench-semantic's layout, AVSBench_semantic_noise/, .._misaligned/ and .._silent/, each
    {v1s, v1m, v2}/{uid}/audio.wav. Its loaders read sounds by these names and make log-mels themselves; the other files of the
    release (frames, labels, metadata.csv) are the user's to link into it.
    Equal tensors give equal bytes, which torch's own pickles do not (they hold addresses).
"""

from __future__ import annotations

import io
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsrobust.arrays import map_npy
from avsrobust.audio.io import wav_bytes
from avsrobust.audio.made import log_mel_of_row, render_row
from avsrobust.building.render import Roots
from avsrobust.datasets.taxonomy import BACKGROUND
from avsrobust.errors import ManifestError, OptionError, did_you_mean
from avsrobust.files import flush_files, put_bytes
from avsrobust.manifest import MADE_PREFIX, Row

AVSBENCH = "avsbench"
EXPORTS = (AVSBENCH,)
_TREES = {"s4": "Single-source/s4_data", "ms3": "Multi-sources/ms3_data", "avss": "AVSBench_semantic"}
_FOLDERS = {"noise": "noise", "offscreen": "misaligned"}
_SILENT = "silent"
# Clips of AVSS differ in length, so that each has a silence of its own.
_SEMANTIC_FOLDERS = {**_FOLDERS, "silence": _SILENT}
_ROWS_AT_ONCE = 64
# Pythons back to 3.4 read it.
_PROTOCOL = 4


@dataclass(frozen=True)
class ExportFile:
    """A row whose sound and log-mel are exported, and their names in the export, without endings; None where no log-mel is."""

    row: Row
    wav: str
    pickle: str | None


@dataclass(frozen=True)
class ExportTask:
    """Files to write."""

    roots: Roots
    files: tuple[ExportFile, ...]


def check_export(export: str, dataset: str) -> None:
    """Raise `OptionError` for an unknown export, or a data set the released loaders do not read."""
    if export not in EXPORTS:
        raise OptionError(f"--export {export}: expected {', '.join(EXPORTS)}{did_you_mean(export, EXPORTS)}")
    if dataset not in _TREES:
        raise OptionError(
            f"--export {export}: no released loader reads {dataset}; expected s4, ms3 or avss; leave the option out"
        )


def export_tasks(roots: Roots, rows: Sequence[Row]) -> list[ExportTask]:
    """Return the tasks that write the export of these rows, all of one data set."""
    semantic = any(row.dataset == "avss" for row in rows)
    exported = _SEMANTIC_FOLDERS if semantic else _FOLDERS
    files = [_file(row) for row in rows if row.condition in exported and row.draw == 0]
    silent = None if semantic else _silent(rows)
    if silent is not None:
        files.append(silent)
    return [
        ExportTask(roots, tuple(files[start : start + _ROWS_AT_ONCE])) for start in range(0, len(files), _ROWS_AT_ONCE)
    ]


def write_exports(task: ExportTask) -> int:
    """Write the files that are not there yet with these bytes, and flush them to disk; return the number of sounds."""
    written: list[Path] = []
    for entry in task.files:
        contents = {f"{entry.wav}.wav": _sound(task.roots, entry.row)}
        if entry.pickle is not None:
            contents[f"{entry.pickle}.pkl"] = pickled_tensor(_log_mel(task.roots, entry.row))
        written += [path for name, content in contents.items() if put_bytes(path := task.roots.output / name, content)]
    flush_files(written)
    return len(task.files)


def _sound(roots: Roots, row: Row) -> bytes:
    """Return the wav file of a row's sound."""
    if row.audio.startswith(MADE_PREFIX):
        rendered, sample_rate = render_row(row, roots.read)
        return wav_bytes(Path(row.audio), rendered.samples, sample_rate)
    return roots.sound_path(row.audio).read_bytes()


def _log_mel(roots: Roots, row: Row) -> NDArray[np.float32]:
    """Return the log-mel that the manifest names for a row."""
    if row.audio.startswith(MADE_PREFIX):
        return log_mel_of_row(row, roots.read)
    return np.array(map_npy(roots.output / row.log_mel, ManifestError)[row.log_mel_row])


def pickled_tensor(array: np.ndarray[Any, np.dtype[np.float32]]) -> bytes:
    """Return a pickle that any torch since 1.6 reads as a plain tensor of the same shape, dtype and values."""
    import torch

    buffer = io.BytesIO()
    torch.save(torch.from_numpy(array), buffer)
    return pickle.dumps(_SavedTensor(buffer.getvalue()), protocol=_PROTOCOL)


class _SavedTensor:
    """Pickles as a call of torch's own unpickling function on the bytes of `torch.save`, which hold no addresses."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        from torch.storage import _load_from_bytes

        return _load_from_bytes, (self._content,)


def _file(row: Row) -> ExportFile:
    if row.dataset == "avss":
        tree = f"{AVSBENCH}/{_TREES[row.dataset]}_{_SEMANTIC_FOLDERS[row.condition]}"
        return ExportFile(row, f"{tree}/{row.clip_id}/audio", None)
    # The loaders' tables know clips by name, and S4's also by category; names are the last part of our ids. In the semantic
    # release's form a clip may have no label.
    name = row.clip_id.rpartition("/")[2]
    category = row.labels[0] if row.labels else BACKGROUND
    place = f"{row.split}/{category}/{name}" if row.dataset == "s4" else f"{row.split}/{name}"
    tree = f"{AVSBENCH}/{_TREES[row.dataset]}"
    folder = _FOLDERS[row.condition]
    return ExportFile(row, f"{tree}/audio_wav_{folder}/{place}", f"{tree}/audio_log_mel_{folder}/{place}")


def _silent(rows: Sequence[Row]) -> ExportFile | None:
    """Return the one silence of the export: that of most rows, of the first by name where several are as frequent."""
    silences = {(row.audio, row.log_mel, row.log_mel_row): row for row in rows if row.condition == "silence"}
    counts = Counter((row.audio, row.log_mel, row.log_mel_row) for row in rows if row.condition == "silence")
    if not counts:
        return None
    commonest = min(counts, key=lambda entry: (-counts[entry], entry))
    return ExportFile(silences[commonest], f"{AVSBENCH}/{_SILENT}", f"{AVSBENCH}/{_SILENT}")

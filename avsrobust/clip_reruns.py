"""Masks of a few clips, made again: the model that results are of is loaded as ``run.json`` says, and runs on these clips alone.

Conventions
    The model has to be the same: its key (`evaluation.model_key`) is compared with that of the results before it runs. Where the
    adapter, its checkpoint or the data cannot be found, or are others now, an error says which.
    Paths of ``run.json`` that are relative are looked for in the working folder and in those above the results, as manifests are.
    A readout's masks come from a run of their own, in which the adapter answers with that readout.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avsrobust.adapters.base import Segmentation
from avsrobust.adapters.lookup import load_adapter
from avsrobust.callbacks import MessageCallback
from avsrobust.errors import AdapterError, AvsRobustError, ResultsError
from avsrobust.evaluation.model_key import differences, make_model_key
from avsrobust.evaluation.runner import evaluate
from avsrobust.evaluation.score_size import ScoreSize
from avsrobust.evaluation_targets import find_device, local_data_root
from avsrobust.remote import is_remote
from avsrobust.remote.inputs import named_copy
from avsrobust.results import MASKS_NAME, Run, Scores, section
from avsrobust.row_keys import ClipKey, key_of, rows_in
from avsrobust.vocabulary import counted

if TYPE_CHECKING:
    import torch

    from avsrobust.manifest import Manifest


@dataclasses.dataclass
class ClipReruns:
    """Runs models again on single clips; what it makes lies in a folder of the caller's.

    Attributes:
        folder: The folder, empty at first.
        data_root: Folder of the data set; None: the one that each build remembers.
        device: Device of the models; None: the kind that each was run on, where there is one, else the CPU.
        on_message: Called with a line for people before each run.
    """

    folder: Path
    data_root: Path | str | None = None
    device: torch.device | None = None
    on_message: MessageCallback = lambda _message: None
    _runs: int = 0

    def __call__(self, scores: Scores, run: Run, manifest: Manifest, clips: Collection[ClipKey]) -> Path:
        """Return a file of the masks of some clips, in every row that was scored.

        Args:
            scores: The results.
            run: Their ``run.json``.
            manifest: The build that they were scored on.
            clips: The clips.

        Raises:
            ResultsError: ``run.json`` does not say how the model was loaded, or the model is another one now.
            AdapterError: The adapter or its checkpoint is not there, or fails on a clip.
            ManifestError: The data is not there.
        """
        where = Path(str(scores.source)).parent
        try:
            return self._run(where, scores, run, manifest, frozenset(clips))
        except AvsRobustError as error:
            raise type(error)(f"{where}: cannot be run again: {error}") from error

    def _run(self, where: Path, scores: Scores, run: Run, manifest: Manifest, clips: frozenset[ClipKey]) -> Path:
        details = run.details
        device = self.device or _device(details.get("device"))
        checkpoint = _checkpoint(where, details)
        options = {str(name): str(value) for name, value in section(details, "options").items()}
        size = details.get("score_size") or ""
        adapter = load_adapter(_spec(where, details), checkpoint=checkpoint, device=device, options=options)
        key = make_model_key(
            manifest,
            adapter,
            name=run.model,
            checkpoint=checkpoint,
            options=options,
            device=device,
            output=where,
            score_size=size,
        )
        changed = differences(details.get("identity"), key)
        if changed:
            raise ResultsError(
                f"it is another model now: {', '.join(changed)}; evaluate it again with --save-masks, or bring the old one back"
            )
        if scores.info.readout:
            _answer_with(adapter, scores.info.readout)
        scored = rows_in(scores)
        rows = tuple(row for row in manifest.rows if (row.split, row.clip_id) in clips and key_of(row) in scored)
        self._runs += 1
        output = self.folder / str(self._runs)
        self.on_message(f"run again: {scores.info.model} on {counted(len(clips), 'clip')} of {scores.info.dataset}")
        report = evaluate(
            dataclasses.replace(manifest, rows=rows),
            adapter,
            name=run.model,
            output=output,
            splits=sorted({row.split for row in rows}),
            data_root=local_data_root(self.data_root, [dataclasses.replace(manifest, rows=rows)]),
            device=device,
            save_masks=True,
            checkpoint=checkpoint,
            options=options,
            check=False,
            score_size=ScoreSize.of(size) if size else None,
        )
        if report.failed:
            failure = report.failed[0]
            raise AdapterError(f"{failure.split}/{failure.clip_id}: {failure.error}")
        return output / MASKS_NAME


def _spec(where: Path, details: Mapping[str, Any]) -> str:
    """The text that named the adapter; a file is looked for where it was, and by its absolute path."""
    entry = section(details, "adapter")
    spec, file = entry.get("spec"), entry.get("file")
    if not isinstance(spec, str) or not spec:
        raise ResultsError("its run.json names no adapter; evaluate again with --save-masks")
    name, colon, target = spec.rpartition(":")
    if not (colon and name.endswith(".py")):
        return spec
    found = _found(where, name)
    if found is None and isinstance(file, str) and Path(file).is_file():
        found = Path(file)
    if found is None:
        raise AdapterError(f"found no file {name} of its adapter; run again in the folder of the evaluation")
    return f"{found}:{target}"


def _checkpoint(where: Path, details: Mapping[str, Any]) -> Path | None:
    """The file of weights, by its path; whether it is the same one is the model key's to say."""
    if details.get("checkpoint") is None:
        return None
    path = section(details, "checkpoint").get("path")
    found = _found(where, path) if isinstance(path, str) and path else None
    if found is None:
        raise AdapterError(
            f"found no checkpoint {path}, in this folder or above the results; bring it back, or evaluate again with --save-masks"
        )
    return found


def _found(where: Path, path: str) -> Path | None:
    """A path of ``run.json``, in the working folder or above the results, or the copy of a URL."""
    if is_remote(path):
        return named_copy(path, where)
    for folder in (Path(), *where.absolute().parents):
        try:
            if (folder / path).exists():
                return folder / path
        except (OSError, ValueError):
            continue
    return None


def _device(name: object) -> torch.device:
    """The device of a run where this machine has one of its kind, else the CPU."""
    import torch

    wants_gpu = isinstance(name, str) and name.startswith("cuda") and torch.cuda.is_available()
    return find_device("cuda" if wants_gpu else "cpu")


def _answer_with(adapter: object, readout: str) -> None:
    """Let an adapter answer with one of its readouts."""
    for name in ("segment", "segment_rows"):
        method = getattr(adapter, name, None)
        if callable(method):
            setattr(adapter, name, partial(_readout_of, method, readout))


def _readout_of(method: Callable[..., Any], readout: str, *arguments: Any) -> Any:
    answer = method(*arguments)
    if not isinstance(answer, Segmentation) or readout not in answer.readouts:
        raise AdapterError(f"it gives no readout '{readout}' any more")
    return answer.readouts[readout]

"""``run.json``: the provenance of results.

Conventions
    Times in seconds. `runs` has an entry per evaluation that added something to the folder; the last one is repeated at the top
    level. `clips_per_s` counts the clips that were run then. `frames` are scored frames of all clips, each counted once;
    `frames_with_empty_target` are those whose mask file marks nothing. Files of remote folders are named by their URLs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avsrobust.evaluation.scorer import AdapterFacts
from avsrobust.evaluation.stored_scores import Content
from avsrobust.manifest import Manifest
from avsrobust.remote import address_of
from avsrobust.results import SCORES_NAME, Run, ScoreInfo, readout_of
from avsrobust.row_keys import ClipKey, RowKey


@dataclass(frozen=True)
class Effort:
    """One evaluation that added to the results.

    Attributes:
        splits: Splits requested.
        conditions: Conditions requested.
        adapter: The adapter.
        batch_size: Most clips in a batch.
        clips: Number of clips that were run.
        wall_time_s: Duration in seconds.
        shard: The part of the clips that it was about, "2/4"; "": all.
    """

    splits: Sequence[str]
    conditions: Sequence[str]
    adapter: AdapterFacts
    batch_size: int
    clips: int
    wall_time_s: float
    shard: str = ""

    def details(self) -> dict[str, Any]:
        """Return the entry of ``run.json``, in plain JSON types."""
        return {
            "device": self.adapter.device,
            "device_name": self.adapter.device_name,
            "batch_size": self.batch_size,
            "wall_time_s": round(self.wall_time_s, 3),
            "clips_run": self.clips,
            "clips_per_s": round(self.clips / self.wall_time_s, 3),
            "versions": dict(self.adapter.versions),
            "asked": {"splits": sorted(self.splits), "conditions": sorted(self.conditions)},
            **({"shard": self.shard} if self.shard else {}),
        }


def run_details(
    model_key: Mapping[str, Any],
    content: Content,
    info: ScoreInfo,
    *,
    spec: str,
    manifest: Manifest,
    data_root: Path,
    adapter: AdapterFacts,
    checkpoint: Path | None,
    failed_rows: Mapping[ClipKey, tuple[str, frozenset[RowKey] | None]],
    files: Mapping[str, Mapping[str, Any]],
    extras: Sequence[str],
    effort: Effort,
    earlier: Sequence[Any],
) -> dict[str, Any]:
    """Return the content of ``run.json`` except model and data set.

    Args:
        model_key: Key of the model.
        content: Content of the folder's scores.
        info: Their metadata.
        spec: Text that named the adapter.
        manifest: The build.
        data_root: Folder of the data set.
        adapter: The adapter.
        checkpoint: File of weights, or None.
        failed_rows: Error and rows of each clip that lacks rows.
        files: Entry of each file of the folder.
        extras: Names of the further values.
        effort: This evaluation.
        earlier: Entries of `runs` so far.
    """
    file = adapter.file
    last = effort.details()
    return {
        **{key: value for key, value in last.items() if key != "asked"},
        "identity": dict(model_key),
        "evaluation": info.evaluation,
        "adapter": {"spec": spec, "class": model_key["class"], "file": file and str(file)},
        "checkpoint": checkpoint and {"path": address_of(checkpoint), "sha256": model_key["checkpoint_sha256"]},
        "manifest": {"path": address_of(manifest.path), "sha256": model_key["manifest_sha256"]},
        "data_root": address_of(data_root),
        "options": model_key["options"],
        "score_size": info.score_size,
        "sees_targets": adapter.sees_targets,
        **content_details(content, failed_rows, files, extras),
        "runs": [*earlier, last],
    }


def content_details(
    content: Content,
    failed_rows: Mapping[ClipKey, tuple[str, frozenset[RowKey] | None]],
    files: Mapping[str, Mapping[str, Any]],
    extras: Sequence[str],
) -> dict[str, Any]:
    """Return the entries of ``run.json`` about the content of a folder, evaluated or merged; arguments as `run_details`."""
    return {
        "splits": content.splits,
        "conditions": content.conditions,
        "files": {name: dict(entry) for name, entry in sorted(files.items())},
        "scores_sha256": files[SCORES_NAME]["sha256"],
        "extras": list(extras),
        "readouts": sorted(filter(None, map(readout_of, files))),
        "classes": content.has_classes,
        "clips": content.clips,
        "failed": [
            {"split": split, "clip_id": clip_id, "error": error, **({} if rows is None else {"rows": _pairs(rows)})}
            for (split, clip_id), (error, rows) in sorted(failed_rows.items())
        ],
        "frames": content.frames,
        "frames_with_empty_target": content.frames_with_empty_target,
    }


def requested_pairs(run: Run) -> set[tuple[str, str]]:
    """Return the (split, condition) pairs requested of the evaluations in a ``run.json``."""
    found = set[tuple[str, str]]()
    runs = run.details.get("runs")
    for entry in runs if isinstance(runs, list) else []:
        asked = entry.get("asked") if isinstance(entry, Mapping) else None
        if isinstance(asked, Mapping):
            splits, conditions = (asked.get(name) or () for name in ("splits", "conditions"))
            found |= {(str(split), str(condition)) for split in splits for condition in conditions}
    return found


def _pairs(rows: frozenset[RowKey]) -> list[list[Any]]:
    return [
        [condition, None if math.isinf(level) else level, *([draw] if draw else [])]
        for _, _, condition, level, draw in sorted(rows)
    ]

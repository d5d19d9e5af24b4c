"""``run.json``: how results came about, and finding finished results again.

Conventions
    Times in seconds. `clips_per_s` counts the clips of this run only, whatever was reused. `frames` are scored frames of
    all clips, each counted once; `frames_with_empty_target` are those where the mask file marks nothing.
    ``run.json`` is written last and names the checksum of ``scores.parquet``: results are finished where the two agree.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avsrobust import __version__
from avsrobust.errors import AdapterError, ResultsError
from avsrobust.evaluation.extras import EXTRAS_NAME, clips_with_extras
from avsrobust.evaluation.identity import source_file
from avsrobust.evaluation.parts import clips_in
from avsrobust.evaluation.stored_masks import MASKS_NAME, StoredMasks
from avsrobust.files import sha256_of_file
from avsrobust.manifest import Manifest
from avsrobust.results import RUN_NAME, SCORES_NAME, Scores, read_run, read_scores


@dataclass(frozen=True)
class FinishedRun:
    """Results of the same evaluation that are there already; `masks` and `extras` are their files, where wanted or made."""

    scores: Scores
    masks: Path | None
    extras: Path | None


def find_finished(output: Path, identity: Mapping[str, Any], *, save_masks: bool) -> FinishedRun | None:
    """Return the finished results in `output` where they are whole and of the evaluation `identity`, else None."""
    masks = output / MASKS_NAME if save_masks else None
    try:
        details = read_run(output / RUN_NAME).details
        if details.get("identity") != dict(identity):
            return None
        if details.get("scores_sha256") != sha256_of_file(output / SCORES_NAME):
            return None
        scores = read_scores(output / SCORES_NAME)
        if masks is not None and not clips_in(scores) <= set(StoredMasks(masks).clips):
            return None
        extras = output / EXTRAS_NAME if details.get("extras") else None
        if extras is not None and not clips_in(scores) <= clips_with_extras(extras):
            return None
    except (OSError, ResultsError, AdapterError):
        return None
    return FinishedRun(scores, masks, extras)


def run_details(
    identity: Mapping[str, Any],
    *,
    manifest: Manifest,
    data_root: Path,
    adapter: object,
    checkpoint: Path | None,
    device: torch.device,
    scores: Scores,
    scores_path: Path,
    extras: Sequence[str],
    batch_size: int,
    wall_time_s: float,
    reused: int,
) -> dict[str, Any]:
    """Return what ``run.json`` says beside model and data set."""
    file = source_file(adapter)
    num_clips = len(clips_in(scores))
    index = scores.index.drop_duplicates(["split", "clip_id", "frame"]).index.to_numpy()
    return {
        "identity": dict(identity),
        "adapter": {"spec": identity["adapter"], "class": identity["adapter_class"], "file": file and str(file)},
        "checkpoint": checkpoint and {"path": str(checkpoint), "sha256": identity["checkpoint_sha256"]},
        "manifest": {"path": str(manifest.path), "sha256": identity["manifest_sha256"]},
        "data_root": str(data_root),
        "options": identity["options"],
        "splits": sorted(set(scores.index["split"])),
        "conditions": sorted(set(scores.index["condition"])),
        "scores_sha256": sha256_of_file(scores_path),
        "extras": list(extras),
        "classes": scores.classes is not None,
        "clips": num_clips,
        "failed": [{"split": f.split, "clip_id": f.clip_id, "error": f.error} for f in scores.info.failed],
        "frames": len(index),
        "frames_with_empty_target": int((scores.statistics.target_pixels[index] == 0).sum()),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "batch_size": batch_size,
        "wall_time_s": round(wall_time_s, 3),
        "clips_per_s": round((num_clips - reused) / wall_time_s, 3),
        "reused_clips": reused,
        "versions": {
            "avsrobust": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }

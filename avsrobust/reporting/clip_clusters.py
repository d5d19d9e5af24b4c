"""Which clips of a result are no independent samples: by source video, and under borrowed sounds by the sound's source.

Conventions
    Videos follow from the clips' names, sounds from the manifest that ``run.json`` names. Where it is not there any more, clips
    are clustered by video alone, and that is said: intervals under borrowed sounds are then too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from avsrobust.datasets.overlap import source_of_clip
from avsrobust.errors import ResultsError
from avsrobust.metrics.dataset_score import ConditionKey, conditions_of
from avsrobust.metrics.resampling import Clusters, cluster_numbers
from avsrobust.reporting.build_files import manifest_file, sound_sources
from avsrobust.reporting.escape import one_line
from avsrobust.reporting.split_results import SplitResult
from avsrobust.vocabulary import CLEAN, NEGATIVES

# Conditions whose sounds are the clip's own, or made.
_WITHOUT_SOURCE = frozenset({CLEAN, *NEGATIVES} - {"offscreen"})


def clip_clusters(result: SplitResult, details: Mapping[str, Any]) -> tuple[Clusters, str | None]:
    """Return the clusters of a result's clips.

    Args:
        result: The result.
        details: Details of its ``run.json``; empty: there is none.

    Returns:
        The clusters, and why the sources of sounds are not known; None where they are, or no condition can have any.
    """
    video = cluster_numbers([source_of_clip(result.dataset, clip_id) for clip_id in result.clip_ids])
    conditions: list[ConditionKey] = [(name, level) for name, level, _ in conditions_of(result.frames.rows)]
    if all(name in _WITHOUT_SOURCE for name, _ in conditions):
        return Clusters(video), None
    if result.source is None:
        return Clusters(video), "the results are in memory alone, so that their manifest is not known"
    try:
        sources = sound_sources(manifest_file(Path(result.source).parent, details)).get(result.split, {})
    except ResultsError as error:
        return Clusters(video), one_line(str(error))
    found = {key: _numbers(sources[key], result.clip_ids) for key in conditions if key in sources}
    return Clusters(video, found), None


def _numbers(sources: Mapping[str, str], clip_ids: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The cluster of each clip by its sound; -1: it has none."""
    numbers = cluster_numbers([sources.get(clip_id, "") for clip_id in clip_ids])
    without = np.array([clip_id not in sources for clip_id in clip_ids], dtype=np.bool_)
    return np.where(without, -1, numbers)

"""The number of clips that an adapter is called with at a time, where the user names none.

Conventions
    On a GPU the first clips are run as a trial, one of them and then a few: memory grows in a straight line with the clips, and
    a share of what is free may be used. More than `MOST` clips make no model faster, and the first batch waits for its clips.
    Elsewhere it is one: a batch keeps no more of a CPU busy. No score depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from avsrobust.adapters.calling import AdapterCaller
from avsrobust.adapters.randomness import generators_kept
from avsrobust.errors import AvsRobustError
from avsrobust.evaluation.batches import Batch, ClipGroup, LoadedClip
from avsrobust.evaluation.clip_data import ClipRows
from avsrobust.evaluation.counters import Counters
from avsrobust.evaluation.scoring import segment_batch
from avsrobust.results import FailedClip
from avsrobust.vocabulary import counted

MOST = 16
_TRIAL = 3
# Clips that are tried until one can be read.
_MOST_READ = 8
# Clips differ in size, and memory is lost between blocks.
_USABLE = 0.6


def choose_batch_size(
    caller: AdapterCaller,
    clips: Sequence[ClipRows],
    load: Callable[[Batch], list[LoadedClip | FailedClip]],
    *,
    keep_masks: bool = False,
) -> tuple[int, list[str]]:
    """Return a batch size, and remarks for people on how it was chosen.

    Args:
        caller: Caller of the adapter.
        clips: Clips of the evaluation.
        load: Reads clips.
        keep_masks: Masks are kept.
    """
    read = (found for clip in clips[:_MOST_READ] for found in load((clip,)))
    first = next((found for found in read if isinstance(found, LoadedClip)), None)
    if first is None or len(clips) == 1:
        return 1, []
    try:
        with generators_kept():
            peaks = {count: _peak(caller, ClipGroup.of([first] * count), keep_masks) for count in (1, _TRIAL)}
    # The evaluation meets the same error, and says of which clip.
    except AvsRobustError:
        return 1, []
    per_clip = max((peaks[_TRIAL] - peaks[1]) / (_TRIAL - 1), 1.0)
    fixed = max(peaks[1] - per_clip, 0.0)
    free = _free_bytes(caller.device)
    chosen = batch_size_for(free, fixed, per_clip)
    taken, there = (f"{value / 2**30:.2f} GiB" for value in (per_clip, free))
    return chosen, [
        f"batches of {counted(chosen, 'clip')}: each clip more takes {taken}, of {there} that are free on {caller.device}"
    ]


def is_measurable(caller: AdapterCaller) -> bool:
    """Return whether the memory that an adapter takes can be measured: it runs on a GPU, in this process, and takes batches."""
    own = getattr(caller.adapter, "device", caller.device)
    return caller.device.type == "cuda" == torch.device(own).type and not caller.needs_seed


def batch_size_for(free: float, fixed: float, per_clip: float) -> int:
    """Return how many clips fit.

    Args:
        free: Free memory.
        fixed: Memory that any batch takes.
        per_clip: Memory that a clip takes besides.

    >>> batch_size_for(100, 10, 5), batch_size_for(100, 99, 5), batch_size_for(1e6, 0, 1)
    (10, 1, 16)
    """
    return max(1, min(MOST, int((free * _USABLE - fixed) / per_clip)))


def _peak(caller: AdapterCaller, group: ClipGroup, keep_masks: bool) -> float:
    """Return the bytes on the device that a group takes at most."""
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(caller.device)
    torch.cuda.reset_peak_memory_stats(caller.device)
    with Counters(1, keep_masks=keep_masks, as_foreground=False) as counters, counters.group(group) as counter:
        segment_batch(caller, group, range(len(group.clips[0].sample.rows)), counter.add)
        counter.finish().result()
    return float(torch.cuda.max_memory_allocated(caller.device) - before)


def _free_bytes(device: torch.device) -> float:
    free, _ = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return float(free + held)

"""Looking at the contents of a data set for a limited time, for ``--dry-run``: nothing is written.

Conventions
    Clips are taken in an order that follows from a hash of their ids, so that those of any limited time are an even sample of
    all, the same ones every time. Threads, not processes: nothing is left behind when the user interrupts.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from avsrobust.clips import Clip
from avsrobust.datasets.contents import ClipContents, read_contents
from avsrobust.datasets.dataset import DataSet
from avsrobust.datasets.survey import ContentSurvey, survey_contents
from avsrobust.processes import usable_cores

LIMIT_S = 60.0


def survey_sample(
    dataset: DataSet,
    *,
    limit_s: float = LIMIT_S,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ContentSurvey:
    """Look at the files of as many clips as `limit_s` seconds allow, one at least, and sum them up.

    `threads`: None for one per processor. `progress` is called with (clips done, clips in all).
    """
    clips = sorted(dataset.clips, key=_order)
    deadline = time.monotonic() + limit_s
    contents = _look_until(deadline, dataset.root.resolve(), clips, threads or usable_cores(), progress)
    return survey_contents(dataset.clips, contents)


def _look_until(
    deadline: float, root: Path, clips: Sequence[Clip], threads: int, progress: Callable[[int, int], None] | None
) -> list[ClipContents]:
    contents: list[ClipContents] = []
    running: deque[Future[ClipContents]] = deque()
    waiting = deque(clips)
    with ThreadPoolExecutor(threads) as pool:
        while running or (waiting and (not contents or time.monotonic() < deadline)):
            while waiting and len(running) <= 2 * threads and (not contents or time.monotonic() < deadline):
                running.append(pool.submit(read_contents, root, waiting.popleft()))
            contents.append(running.popleft().result())
            if progress is not None:
                progress(len(contents), len(clips))
    return contents


def _order(clip: Clip) -> bytes:
    return hashlib.sha256(f"{clip.split}/{clip.clip_id}".encode("utf-8", "backslashreplace")).digest()

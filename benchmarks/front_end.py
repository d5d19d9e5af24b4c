"""How much faster is VGGish's whole front end than the resampling alone that the reference spends its time on?

    python benchmarks/front_end.py

One 5 s clip at 44.1 kHz, on one thread, after a first call of each (numba compiles, tables are built). Both are timed in turns
in one run, several calls in a row, as a build makes them. Printed: medians per call and their ratio; the target is 20.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import resampy

from avsrobust.audio.features import vggish_log_mel

ROUNDS, CALLS = 15, 5


def main() -> None:
    clip = np.random.default_rng(0).integers(-32768, 32768, 5 * 44100) / 32768

    def reference() -> object:
        return resampy.resample(clip, 44100, 16000, filter="kaiser_best")

    def ours() -> object:
        return vggish_log_mel(clip, 44100, num_frames=5)

    calls = {"resampy.resample alone": reference, "vggish_log_mel, all of it": ours}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            times[name].append(seconds(call))
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    for name, median in medians.items():
        print(f"{name:28}{median * 1e3:9.2f} ms")
    slow, fast = medians.values()
    print(f"{'ratio':28}{slow / fast:9.1f}")


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS


if __name__ == "__main__":
    main()

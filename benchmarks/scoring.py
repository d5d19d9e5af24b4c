"""How much faster one pass over the pixels is than the papers' 255: ratios, all measured in one run.

    python benchmarks/scoring.py [--clips 740]

One 5-frame 224x224 clip: `frame_statistics`, then all four protocols; against 255 passes over the pixels that only count,
without any F computed from the counts: in the papers' form (float32 masks, frame by frame) in numpy and in torch, as plain
numpy on the whole clip, and in the quickest form found, which no paper uses. One data set: all four protocols from the
statistics of CLIPS clips x 4 conditions x 5 frames. Maps are smooth blobs with noise; "binary" has two values only.
Best of several repeats, the ways interleaved, so that a busy machine slows all of them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from avsrobust.metrics import PROTOCOLS, ScoredFrames, clip_scores, dataset_score, frame_statistics, take
from avsrobust.metrics.binary.thresholds import thresholds

FRAMES, SIDE = 5, 224
CONDITIONS = ("clean", "silence", "noise", "offscreen")
REPEATS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=740, help="clips of the data set (740: S4 test)")
    clips = parser.parse_args().clips
    pred, target = make_clip(np.random.default_rng(0))
    binary = (pred > 0.5).astype(np.float32)
    ways: dict[str, Callable[[], object]] = {
        "one pass, all 4 protocols": lambda: score_clip(pred, target),
        "one pass, all 4 protocols (binary map)": lambda: score_clip(binary, target),
        "255 passes, numpy, papers' form (float32)": lambda: sweep_float(pred, target),
        "255 passes, numpy, whole clip (bool)": lambda: sweep_bool(pred, target),
        "255 passes, numpy, count_nonzero per frame": lambda: sweep_count(pred, target),
        **torch_ways(pred, target),
    }
    times = best_times(ways)
    base = times["one pass, all 4 protocols"]
    print(f"one clip, {FRAMES} frames of {SIDE} x {SIDE}")
    for name, seconds in times.items():
        print(f"  {name:<46}{seconds * 1e3:9.2f} ms   ratio {seconds / base:7.1f}")
    seconds = best_times({"": lambda: score_dataset(pred, target, clips)})[""]
    print(
        f"data set, {clips} clips x {len(CONDITIONS)} conditions x {FRAMES} frames: all 4 protocols in {seconds:.2f} s"
    )


def make_clip(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    row, column = np.mgrid[:SIDE, :SIDE]
    distance = np.stack([(row - 100 - 5 * frame) ** 2 + (column - 110) ** 2 for frame in range(FRAMES)])
    logits = 4 - distance / 900 + 0.8 * generator.standard_normal(distance.shape)
    return (1 / (1 + np.exp(-logits))).astype(np.float32), distance < 50**2


def score_clip(pred: np.ndarray, target: np.ndarray) -> object:
    frames = ScoredFrames(
        frame_statistics(pred, target), np.zeros(FRAMES, int), np.full(FRAMES, "clean"), np.zeros(FRAMES, bool)
    )
    return [clip_scores(frames, protocol) for protocol in PROTOCOLS.values()]


def score_dataset(pred: np.ndarray, target: np.ndarray, clips: int) -> object:
    rows = clips * len(CONDITIONS)
    condition = np.tile(np.repeat(CONDITIONS, FRAMES), clips)
    frames = ScoredFrames(
        take(frame_statistics(pred, target), np.tile(np.arange(FRAMES), rows)),
        np.repeat(np.arange(clips), FRAMES * len(CONDITIONS)),
        condition,
        condition != "clean",
    )
    return [dataset_score(frames, protocol) for protocol in PROTOCOLS.values()]


def sweep_float(pred: np.ndarray, target: np.ndarray) -> object:
    counts = []
    for frame, mask in zip(pred, target.astype(np.float32), strict=True):
        for threshold in thresholds():
            activated = (frame >= threshold).astype(np.float32)
            counts.append(((activated * mask).sum(), activated.sum(), mask.sum()))
    return counts


def sweep_bool(pred: np.ndarray, target: np.ndarray) -> object:
    counts = []
    for threshold in thresholds():
        activated = pred >= threshold
        counts.append(((activated & target).sum(axis=(1, 2)), activated.sum(axis=(1, 2))))
    return counts


def sweep_count(pred: np.ndarray, target: np.ndarray) -> object:
    counts = []
    for frame, mask in zip(pred, target, strict=True):
        for threshold in thresholds():
            activated = frame >= threshold
            counts.append((np.count_nonzero(activated & mask), np.count_nonzero(activated)))
    return counts


def torch_ways(pred: np.ndarray, target: np.ndarray) -> dict[str, Callable[[], object]]:
    import torch

    torch.set_num_threads(1)
    frames, masks = torch.from_numpy(pred), torch.from_numpy(target).float()
    table = torch.linspace(0, 1 - 1e-10, len(thresholds()))

    def sweep() -> object:
        counts = []
        for frame, mask in zip(frames, masks, strict=True):
            for threshold in table:
                activated = (frame >= threshold).float()
                counts.append(((activated * mask).sum(), activated.sum(), mask.sum()))
        return counts

    return {"255 passes, torch, papers' form (1 thread)": sweep}


def best_times(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    times = dict.fromkeys(ways, float("inf"))
    for _ in range(REPEATS):
        for name, way in ways.items():
            # Short ways run often enough per turn for the clock and the caches; the first call of a turn warms up.
            for _ in range(10 if times[name] < 0.005 else 1):
                start = time.perf_counter()
                way()
                times[name] = min(times[name], time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main()

"""What a model behind a pipe costs: evaluating through `worker` against the same model in process, as ratios of one run.

    python benchmarks/worker_overhead.py [--clips 40] [--model-ms 50] [--rounds 5] [--plain] [--threads N]

The model waits, as for a GPU, 10 ms for pictures and 10 ms for each of the 4 sounds, and answers with masks of full size. It
takes views of the clips and native sound, and returns a mask apart and two readouts; with ``--plain`` it takes log-mels and
returns probabilities alone. Two ratios: whole evaluations on the toy (reading and scoring included), and the calls of the model
alone, one after the other, where all that the pipe costs is seen. Each evaluation has a fixed part (two clips are run twice to
see that they repeat, files are opened and published), which an evaluation of the first clip alone shows. Besides, the CPU time
of an evaluation per clip, of this process and of the worker; starting the worker is in none of them.
What the model computes beside its waiting may wake threads of torch, which spin: on a busy machine that costs the model in
process far more than the one in a worker, whose threads sleep. ``--threads 1`` takes that out of both.
On a busy machine a time says little, so times are compared in pairs: both ways one right after the other, which goes first
alternating, after a pair that is not counted. The ratio is the median over the pairs, its range is that of the middle half, and
the times are medians too. The calls are paired clip by clip.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from avsrobust import load_manifest
from avsrobust.adapters.base import ClipView, NativeSound
from avsrobust.adapters.lookup import load_adapter
from avsrobust.adapters.worker import Worker
from avsrobust.evaluation.clip_views import ClipViewer
from avsrobust.evaluation.runner import evaluate
from avsrobust.toy.write import write_toy

AVSROBUST = str(Path(sys.executable).with_name("avsrobust"))
SOUNDS = 4
# Of a toy's clips, about so many are in its test split.
TEST_SHARE = 0.25
MODEL = """
import time
import torch

class Model:
    audio = "log_mel"

    @classmethod
    def load(cls, checkpoint, device, wait="0.01"):
        model = cls()
        model.wait = float(wait)
        return model

    def encode_frames(self, frames):
        time.sleep(self.wait)
        return frames[:, :, 0].float() / 255

    def segment(self, encoded, audio):
        time.sleep(self.wait)
        return encoded * torch.sigmoid(audio.mean((2, 3, 4)))[..., None, None]
"""

RICH = """
import time
import torch
from avsrobust.adapters.base import AudioInput, Segmentation

class Model:
    audio = AudioInput.native()
    needs_clips = True

    @classmethod
    def load(cls, checkpoint, device, wait="0.01"):
        model = cls()
        model.wait = float(wait)
        return model

    def encode_frames(self, frames, clips):
        time.sleep(self.wait)
        return frames[:, :, 0].float() / 255

    def segment(self, encoded, audio, clips):
        time.sleep(self.wait)
        loud = torch.stack([sound.samples.mean().sigmoid() for sound in audio])[:, None, None, None]
        p = encoded * loud
        return Segmentation(p, p > 0.4, {"second": 1 - p, "third": Segmentation(p, p > 0.3)})
"""


@dataclass(frozen=True)
class Paired:
    """What two ways took: medians of seconds, and of their ratio with the quartiles over the pairs."""

    first_s: float
    second_s: float
    ratio: float
    low: float
    high: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=40, help="clips of the test split, about")
    parser.add_argument("--model-ms", type=float, default=50, help="what the model itself takes per clip")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of evaluations; of calls, so many for each clip")
    parser.add_argument("--plain", action="store_true", help="log-mels in, probabilities out, as protocol 1 sends them")
    parser.add_argument(
        "--threads", type=int, help="threads of torch, here and in the worker [default: torch's own choice]"
    )
    choices = parser.parse_args()
    if choices.rounds < 2 or choices.clips < 1:
        parser.error("--rounds must be 2 or more, --clips 1 or more")
    if choices.threads is not None:
        torch.set_num_threads(choices.threads)
        # The worker's, which starts with our environment.
        os.environ["OMP_NUM_THREADS"] = str(choices.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_toy(folder / "data", "s4", clips=round(choices.clips / TEST_SHARE), seed=0)
        command = [AVSROBUST, "build", "--dataset", "s4", "--split", "test"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        (folder / "model.py").write_text(MODEL if choices.plain else RICH)
        measure(folder, choices.model_ms / 1000 / (1 + SOUNDS), choices.rounds, rich=not choices.plain)


def measure(folder: Path, wait: float, rounds: int, *, rich: bool) -> None:
    """Print the ratios for a model that waits `wait` seconds per call; a rich one takes clips and native sounds."""
    spec, options = f"{folder / 'model.py'}:Model", {"wait": str(wait)}
    serve = {"command": f"'{sys.executable}' -m avsrobust.adapters.serve '{spec}'", **options}
    adapters = {
        name: load_adapter(what, checkpoint=None, device=torch.device("cpu"), options=given)
        for name, what, given in (("in process", spec, options), ("worker", "worker", serve))
    }
    build = load_manifest(folder / "robust/s4-seed42")
    clips = len({row.clip_id for row in build.rows})
    frames = torch.randint(0, 256, (1, 5, 3, 224, 224), dtype=torch.uint8)
    sound: object = torch.randn(1, 5, 1, 96, 64)
    more: tuple[list[ClipView], ...] = ()
    if rich:
        viewer = ClipViewer(build, build.data_root())
        more = ([viewer.of_row(build.rows[0])],)
        sound = [NativeSound(torch.randn(5 * 44_100, 2), 44_100)]
    numbers = iter(range(10**6))

    def evaluation(name: str, limit: int | None = None) -> Callable[[], object]:
        return lambda: evaluate(build, adapters[name], name=name, output=folder / str(next(numbers)), limit=limit)

    def start(name: str) -> Callable[[], object]:
        return evaluation(name, 1)

    def calls(name: str) -> Callable[[], object]:
        def one_clip() -> None:
            encoded = adapters[name].encode_frames(frames, *more)
            for _ in range(SOUNDS):
                adapters[name].segment(encoded, sound, *more)

        return one_clip

    print(
        f"model of {wait * (1 + SOUNDS) * 1e3:.0f} ms per clip, {clips} clips of 5 frames of 224 x 224, 4 sounds each; "
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {torch.get_num_threads()} threads of torch"
    )
    for what, ways, pairs, parts in (
        ("evaluation", evaluation, rounds, clips),
        ("calls of the model", calls, rounds * clips, 1),
        ("first clip alone", start, rounds, 1),
    ):
        found = paired_times(ways("in process"), ways("worker"), pairs)
        print(
            f"  {what:<20} in process {found.first_s / parts * 1e3:.1f}, worker {found.second_s / parts * 1e3:.1f} ms per clip; "
            f"ratio {found.ratio:.2f} ({found.low:.2f} to {found.high:.2f} in the middle half of {pairs} pairs)"
        )
    worker = adapters["worker"]
    assert isinstance(worker, Worker)
    for name in adapters:
        before = cpu_seconds(worker)
        evaluation(name)()
        ours, theirs = (after - started for after, started in zip(cpu_seconds(worker), before, strict=True))
        print(
            f"  CPU time per clip, {name}: {ours / clips * 1e3:.1f} ms here, {theirs / clips * 1e3:.1f} ms of the worker"
        )


def cpu_seconds(worker: Worker) -> tuple[float, float]:
    """Return the CPU time of this process and of the worker's; NaN for the worker's where the system does not tell."""
    process = worker._workers[0]._process
    status = Path(f"/proc/{process.pid if process else 0}/stat")
    if not status.exists():
        return time.process_time(), float("nan")
    # After the name in parentheses, user and system time are the 12th and 13th entries (proc(5)).
    entries = status.read_text().rsplit(")", 1)[1].split()
    return time.process_time(), (int(entries[11]) + int(entries[12])) / os.sysconf("SC_CLK_TCK")


def paired_times(first: Callable[[], object], second: Callable[[], object], pairs: int) -> Paired:
    """Time both ways one right after the other, `pairs` times, and once before that does not count."""
    times: list[tuple[float, float]] = []
    for number in range(pairs + 1):
        # What runs second finds warmer caches.
        order = (first, second) if number % 2 else (second, first)
        taken = {way: seconds_of(way) for way in order}
        times.append((taken[first], taken[second]))
    counted = times[1:]
    low, ratio, high = statistics.quantiles([b / a for a, b in counted], n=4, method="inclusive")
    return Paired(statistics.median(a for a, _ in counted), statistics.median(b for _, b in counted), ratio, low, high)


def seconds_of(way: Callable[[], object]) -> float:
    """Return how long one call takes."""
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

"""What a model behind a pipe costs: evaluating through `worker` against the same model in process, as ratios of one run.

    python benchmarks/worker_overhead.py [--clips 12] [--model-ms 50]

The model waits, as for a GPU, 10 ms for pictures and 10 ms for each of the 4 sounds, and answers with masks of full size. Two
ratios: whole evaluations on the toy (reading and scoring included), and the calls of the model alone, where all that the pipe
costs is seen. The two ways are interleaved, and the best of several rounds counts, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from avsrobust import load_manifest
from avsrobust.adapters.lookup import load_adapter
from avsrobust.evaluation.runner import evaluate
from avsrobust.toy.write import write_toy

AVSROBUST = str(Path(sys.executable).with_name("avsrobust"))
ROUNDS = 5
SOUNDS = 4
TEST_SHARE = 0.15
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=12, help="clips of the test split")
    parser.add_argument("--model-ms", type=float, default=50, help="what the model itself takes per clip")
    choices = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_toy(folder / "data", "s4", clips=round(choices.clips / TEST_SHARE), seed=0)
        command = [AVSROBUST, "build", "--dataset", "s4", "--split", "test"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        (folder / "model.py").write_text(MODEL)
        measure(folder, choices.model_ms / 1000 / (1 + SOUNDS))


def measure(folder: Path, wait: float) -> None:
    """Print the ratios for a model that waits `wait` seconds per call."""
    spec, options = f"{folder / 'model.py'}:Model", {"wait": str(wait)}
    serve = {"command": f"'{sys.executable}' -m avsrobust.adapters.serve '{spec}'", **options}
    adapters = {
        name: load_adapter(what, checkpoint=None, device=torch.device("cpu"), options=given)
        for name, what, given in (("in process", spec, options), ("worker", "worker", serve))
    }
    build = load_manifest(folder / "robust/s4-seed42")
    clips = len({row.clip_id for row in build.rows})
    frames = torch.randint(0, 256, (1, 5, 3, 224, 224), dtype=torch.uint8)
    sound = torch.randn(1, 5, 1, 96, 64)
    numbers = iter(range(10**6))

    def evaluation(name: str) -> Callable[[], object]:
        return lambda: evaluate(build, adapters[name], name=name, output=folder / str(next(numbers)))

    def calls(name: str) -> Callable[[], object]:
        def one_clip() -> None:
            encoded = adapters[name].encode_frames(frames)
            for _ in range(SOUNDS):
                adapters[name].segment(encoded, sound)

        return lambda: [one_clip() for _ in range(clips)]

    print(
        f"model of {wait * (1 + SOUNDS) * 1e3:.0f} ms per clip, {clips} clips of 5 frames of 224 x 224, 4 sounds each"
    )
    for what, ways in (("evaluation", evaluation), ("calls of the model", calls)):
        times = best_times({name: ways(name) for name in adapters})
        ratio = times["worker"] / times["in process"]
        told = ", ".join(f"{name} {seconds / clips * 1e3:.1f} ms per clip" for name, seconds in times.items())
        print(f"  {what:<20} {told}; ratio {ratio:.2f}")


def best_times(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the best of several times of each way, in seconds, the ways interleaved."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


if __name__ == "__main__":
    main()

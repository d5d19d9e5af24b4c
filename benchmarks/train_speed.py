"""Steps per second of `avsrobust train`, plain, as a CUDA graph, and compiled; and how far the losses of the ways are apart.

Each way trains the same recipe from the same seed for some steps, in this process, on its toy. Rates are by the clock, over the
steps after the first ones (which capture, compile, and start the reading processes), reading included, without validation.
Expected: losses that differ by rounding alone. Steps amplify it, so that the first twenty are compared, to 2 % of the first loss.

    python benchmarks/train_speed.py --device cuda --workers 4 [--recipe NAME] [--init FILE] [--way plain]... [--steps N]
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from avsrobust.toy.build import toy_build
from avsrobust.training.data import TrainingBuild
from avsrobust.training.engine import TrainOptions, train
from avsrobust.training.recipe import TrainRecipe, load_train_recipe

WAYS = {"plain": {}, "graph": {"cuda_graph": True}, "compiled": {"compiled": True}}
# Steps before the rate is measured, and steps whose losses are compared.
_WARM_UP, _COMPARED, _APART = 20, 20, 0.02


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="m2f_toy")
    parser.add_argument("--init", type=Path, help="weights to start from")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--steps", type=int, default=220)
    parser.add_argument("--clips", type=int, help="clips of each toy [default: the recipe's]")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the toys, which are made if missing")
    parser.add_argument("--way", action="append", choices=list(WAYS), help="[default: plain, and on a GPU graph]")
    arguments = parser.parse_args()
    ways = arguments.way or ["plain", *(["graph"] if arguments.device == "cuda" else [])]
    recipe = load_train_recipe(arguments.recipe)
    # Validation and checkpoint come after the last step.
    run = replace(recipe.run, steps=arguments.steps, validate_every=10**6, checkpoint_every=10**6, validate_clips=1)
    recipe = replace(recipe, run=run)
    toy = recipe.data.toy
    if toy is None:
        raise SystemExit(f"{arguments.recipe}: has no toy; name one that has")
    builds = []
    for dataset, clips in toy.clips.items():
        manifest = toy_build(dataset, arguments.clips or clips, toy.seed, on_message=print, root=arguments.data)
        builds.append(TrainingBuild(manifest, manifest.data_root(None)))
    losses: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="avsrobust-speed-") as folder:
        for way in ways:
            torch.compiler.reset()
            options = TrainOptions(
                Path(folder) / way,
                start=arguments.init,
                device=arguments.device,
                workers=arguments.workers,
                pictures=Path(folder) / "pictures",
                **WAYS[way],
            )
            losses[way] = measured(way, recipe, builds, options)
    first = losses[ways[0]]
    good = True
    for way in ways[1:]:
        apart = max(abs(one - other) for one, other in zip(first, losses[way], strict=True)) / first[0]
        good &= apart <= _APART
        print(
            f"{way} against {ways[0]}: losses of {len(first)} steps at most {apart:.2%} apart (expected: {_APART:.0%})"
        )
    return 0 if good else 1


def measured(way: str, recipe: TrainRecipe, builds: list[TrainingBuild], options: TrainOptions) -> list[float]:
    """Train, print the rate, and return the first losses."""
    steps, times = recipe.run.steps, dict[int, float]()

    def progress(done: int, total: int) -> None:
        # Pictures that are decoded have another total.
        if total == steps:
            times[done] = time.perf_counter()

    start = time.perf_counter()
    train(recipe, builds, options, where=recipe.name, progress=progress, on_message=lambda line: print(f"  {line}"))
    # The last step is followed by a validation, before it is told.
    first, last = min(_WARM_UP, steps - 2), steps - 1
    rate = (last - first) / (times[last] - times[first])
    print(
        f"{recipe.name}, {way}: {rate:.2f} steps/s, {rate * recipe.run.batch_size:.1f} samples/s; first {first} steps after "
        f"{times[first] - start:.1f} s",
        flush=True,
    )
    with (options.output / "log.csv").open(encoding="utf-8", newline="") as stream:
        return [float(row["loss"]) for row in csv.DictReader(stream)][:_COMPARED]


if __name__ == "__main__":
    sys.exit(main())

"""Clips per second of `evaluate`: without a model against another checkout, and at the published size against the model alone.

Without a model (the baseline visual_prior) all time goes to reading and scoring. The baseline looks at no frame, so that none is
decoded; "with frames" it is asked as a model is that does, and all are. Each call is a process of its own, set up as the command
of its checkout is (`avsrobust.cli.main.let_threads_sleep`), the checkouts in turn, so that a busy machine slows both; the median
of each counts, the lowest and the highest are shown, and both must write the same bytes. Expected: 3 times as many clips/s as
commit f508d87, which decodes all frames.
With frames it takes imagecodecs (extra ``pictures``) to be twice as fast.
With a model (random weights, four conditions, debiased) the rate is that of the loop over the clips, from the first one read to
the last one counted, without start, consistency check and checksums of weights; the model alone is one batch in memory, without
reading and scoring.

    python benchmarks/pipeline.py --base ../other-checkout --clips 240
    python benchmarks/pipeline.py --device cuda --bfloat16 --build evaluation/build --model-only
    python benchmarks/pipeline.py --toy --clips 60 --rounds 1
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SPLITS = ("train", "val", "test")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, help="a build of s4 to evaluate on; made where it is not given")
    parser.add_argument("--clips", type=int, default=240, help="clips of the build that is made")
    parser.add_argument("--base", type=Path, help="another checkout of the project to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--compile", action="store_true", help="the network's parts through torch.compile")
    parser.add_argument("--toy", action="store_true", help="a small model instead of the published size")
    parser.add_argument("--batch-size", type=int, help="clips at a time [default: what evaluate chooses]")
    parser.add_argument("--readers", type=int)
    parser.add_argument("--without-model-only", action="store_true")
    parser.add_argument("--model-only", action="store_true")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--with-frames", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        print(
            json.dumps(
                without_model(arguments.child, arguments.build, arguments.batch_size, frames=arguments.with_frames)
            )
        )
        return 0
    sys.path.insert(0, str(ROOT))
    from avsrobust.cli.main import let_threads_sleep

    let_threads_sleep()
    with tempfile.TemporaryDirectory(prefix="avsrobust-pipeline-") as folder:
        build = arguments.build or make_build(Path(folder), arguments.clips)
        if not arguments.without_model_only:
            with_model(arguments, build, Path(folder))
        if not arguments.model_only:
            compare(arguments, build.resolve(), Path(folder))
    return 0


def make_build(folder: Path, clips: int) -> Path:
    from avsrobust.toy.build import toy_build

    manifest = toy_build("s4", clips, 0, on_message=print, workers=os.cpu_count() or 1, root=folder)
    return manifest.folder


def compare(arguments: argparse.Namespace, build: Path, folder: Path) -> None:
    """Print the rate without a model of this checkout, with and without frames, and of the other one."""
    sides = {"this checkout": ROOT, "with frames": ROOT}
    sides |= {"the other": arguments.base.resolve()} if arguments.base else {}
    found: dict[str, list[dict[str, object]]] = {name: [] for name in sides}
    for number in range(arguments.rounds):
        for name, checkout in sides.items():
            command = [
                sys.executable,
                __file__,
                "--child",
                str(folder / f"{number}-{name}"),
                "--build",
                str(build),
            ]
            command += ["--with-frames"] if name == "with frames" else []
            command += [] if arguments.batch_size is None else ["--batch-size", str(arguments.batch_size)]
            environment = {**os.environ, "PYTHONPATH": f"{checkout}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
            run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if run.returncode:
                raise SystemExit(f"{name}: {run.stderr[-2000:]}")
            found[name].append(json.loads(run.stdout.splitlines()[-1]))
    rates, cpu = {}, {}
    for name, runs in found.items():
        each_rate = sorted(float(str(each["clips_per_s"])) for each in runs)
        rates[name] = statistics.median(each_rate)
        cpu[name] = statistics.median(float(str(each["cpu_ms"])) for each in runs)
        print(
            f"without a model, {name}: {rates[name]:.1f} clips/s ({each_rate[0]:.1f} to {each_rate[-1]:.1f}), "
            f"{cpu[name]:.1f} ms of a core per clip"
        )
    if arguments.base:
        for name, title in (("this checkout", "without a model"), ("with frames", "without a model, with frames")):
            ratio, of_cpu = rates[name] / rates["the other"], cpu["the other"] / cpu[name]
            print(f"{title}: ratio {ratio:.2f}, of a core's time {of_cpu:.2f}")
    if len({each["sha256"] for runs in found.values() for each in runs}) != 1:
        raise SystemExit("the results differ")


def without_model(output: Path, build: Path, batch_size: int | None, *, frames: bool) -> dict[str, object]:
    """Evaluate the baseline; return clips per second, milliseconds of a core per clip, and the checksum of the scores."""
    from avsrobust.cli import main as cli

    # Earlier commits have none.
    getattr(cli, "let_threads_sleep", lambda: None)()

    import torch

    from avsrobust.adapters.baselines import VisualPrior
    from avsrobust.evaluation.runner import evaluate
    from avsrobust.manifest import load_manifest

    if frames:
        from avsrobust.evaluation import scorer

        # The same adapter, so that the results are the same bytes.
        scorer.looks_at_frames = lambda _adapter: True
    manifest = load_manifest(build / "manifest.parquet")
    adapter = VisualPrior.load(None, torch.device("cpu"))
    size = {} if batch_size is None else {"batch_size": batch_size}
    before, start = os.times(), time.perf_counter()
    report = evaluate(manifest, adapter, name="visual_prior", output=output, splits=SPLITS, check=False, **size)
    seconds, after = time.perf_counter() - start, os.times()
    return {
        "clips_per_s": report.clips / seconds,
        "cpu_ms": (after.user + after.system - before.user - before.system) / report.clips * 1e3,
        "sha256": hashlib.sha256(report.scores.read_bytes()).hexdigest(),
    }


def with_model(arguments: argparse.Namespace, build: Path, folder: Path) -> None:
    """Print the rate of the model end to end, and alone."""
    import torch
    from m2f_throughput import Setting, _adapter

    from avsrobust.evaluation.runner import evaluate
    from avsrobust.manifest import load_manifest

    manifest = load_manifest(build / "manifest.parquet")
    device = torch.device(arguments.device)
    adapter = _adapter(arguments.toy, Setting(device, arguments.bfloat16, 1, arguments.compile))
    rates = []
    for number in range(arguments.rounds):
        times: list[tuple[int, float]] = []
        report = evaluate(
            manifest,
            adapter,
            name="m2f",
            output=folder / f"model-{number}",
            splits=SPLITS,
            device=device,
            # Every size is compiled anew: no trial with others.
            batch_size=arguments.batch_size or (16 if arguments.compile else None),
            readers=arguments.readers,
            check=False,
            progress=lambda done, _, times=times: times.append((done, time.perf_counter())),
        )
        rates.append((times[-1][0] - times[0][0]) / (times[-1][1] - times[0][1]))
        run = json.loads((folder / f"model-{number}" / "run.json").read_text(encoding="utf-8"))
        print(f"evaluate, whole call: {report.clips / run['wall_time_s']:.2f} clips/s, batches of {run['batch_size']}")
    alone = model_alone(adapter, manifest, device, run["batch_size"], arguments.rounds)
    print(f"evaluate, the loop over the clips: {max(rates):.2f} clips/s")
    print(f"the model alone: {alone:.2f} clips/s; ratio {max(rates) / alone:.1%}")
    if device.type == "cuda":
        print(f"most memory in use: {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB")


def model_alone(adapter: object, manifest: object, device: object, batch_size: int, rounds: int) -> float:
    """Return clips per second of one batch in memory under all its conditions; nothing is read, checked or counted."""
    import torch

    from avsrobust.adapters.base import AudioInput
    from avsrobust.adapters.calling import AdapterCaller
    from avsrobust.evaluation.batches import ClipGroup, load_batch
    from avsrobust.evaluation.clip_data import clips_of
    from avsrobust.evaluation.sound import SoundReader

    root = manifest.data_root(None)
    sounds = SoundReader(manifest, root, AudioInput.of(adapter.audio))
    clips = clips_of(manifest.select(SPLITS, None).rows)[:batch_size]
    group = ClipGroup.of(load_batch(tuple(clips), manifest, root, sounds))
    caller = AdapterCaller(adapter, "m2f", device)
    frames = group.pictures[0].to(device)
    audio = torch.stack(list(group.sounds)).to(device)
    views = [[clip.viewer.of_row(clip.sample.rows[row]) for clip in group.clips] for row in range(len(audio))]

    def call() -> None:
        with torch.no_grad():
            encoded = adapter.encode_frames(frames, views[0])
            if caller.segments_many:
                for _ in adapter.segment_many(encoded, audio, views):
                    pass
            else:
                for sound, rows in zip(audio, views, strict=True):
                    adapter.segment(encoded, sound, rows)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    call()
    times = []
    for _ in range(max(3, 3 * rounds)):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return len(group.clips) / statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())

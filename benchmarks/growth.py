"""How time and memory grow with the number of clips, from the plan to the report, each step in a process of its own.

    python benchmarks/growth.py [--million] [--only plan,load,select,publish,...] [--sizes 100,1000,10000] [--prepared FOLDER]

Tables are made up (S4's categories, five frames a clip, the standard recipe's four conditions), and there is no picture or sound
on disk, but for `evaluate`, which runs `visual_prior` on all splits of a toy, of at most 1,000 clips. `select` is what
evaluating does but for pictures, sounds and model: the manifest, its files, the plan, each batch of clips in turn. `publish` is
the end of `evaluate`: an evaluation that finds all its clips scored, in parts of made-up counts, and has nothing left to do but
put them together; `publish_all` has masks and further values too. `merge` puts two shards together, `merge_all` two with masks
and further values; `compare` compares two models. `verify` is what verifying does but for the bytes of pictures and sounds: its
checks of rows, and its list of files.
`again`, `report_category`, `report_page`, `masks` and `hf_dataset` are run where they are asked for: an evaluation of what is
evaluated already, the report by category and as a page, `avsrobust masks` of one clip, and `avsrobust export hf` but for files.
A step's memory is the peak of its process (`VmHWM`) above that of a process that only imports what the step imports.
Seconds are those of the clock, CPU seconds those of all the process's threads: on a busy machine the first say little.
Prints a markdown table. Where a step of at most 100,000 clips takes more memory or CPU seconds than its goal (`GOALS`), the last
lines say so, and the exit status is 1. ``--million`` adds a plan of 1,000,000 clips. ``--prepared`` keeps what a step reads in
a folder, for the next time: making it up takes minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

SIZES = (100, 1_000, 10_000, 100_000)
MILLION = 1_000_000
FRAMES, SIDE = 5, 224
CONDITIONS = ("clean", "noise", "offscreen", "silence")
STEPS = ("plan", "load", "select", "publish", "publish_all", "merge", "verify", "report", "compare", "evaluate")
MORE_STEPS = ("merge_all", "again", "report_category", "report_page", "masks", "hf_dataset")
# Most MB above the imports, and most CPU seconds (None: any), of each step at up to so many clips.
GOALS = {
    **{step: (100_000, 600.0, None) for step in (*STEPS, *MORE_STEPS) if step not in ("plan", "load")},
    "load": (100_000, 400.0, 5.0),
    "plan": (MILLION, 2048.0, 60.0),
}
SHARDS = 2
# Different frames in made-up results.
TEMPLATES = 64
EVALUATE_AT_MOST = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--million", action="store_true", help="plan 1,000,000 clips too")
    parser.add_argument("--only", default=",".join(STEPS), help="steps, separated by commas")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of clips, separated by commas")
    parser.add_argument("--prepared", type=Path, help="a folder that keeps what steps read")
    parser.add_argument("--child", nargs=3, metavar=("STEP", "CLIPS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        step, clips, folder = options.child
        _child(step, int(clips), Path(folder))
        return
    sizes = [int(size) for size in options.sizes.split(",")]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; {_versions()}\n")
    print("| step | clips | rows | seconds | CPU seconds | peak above imports, MB | file read, MB | goal, MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    missed: list[str] = []
    for step in options.only.split(","):
        wanted = [size for size in sizes if step != "evaluate" or size <= EVALUATE_AT_MOST]
        for clips in [*wanted, *([MILLION] if options.million and step == "plan" else [])]:
            with tempfile.TemporaryDirectory(dir=options.prepared) as folder:
                if step in PREPARE:
                    _prepare(step, clips, Path(folder), options.prepared)
                found = _run(step, clips, folder)
                read = Path(folder) / FILES[step] if step in FILES else None
                size = f"{read.stat().st_size / 1e6:.2f}" if read else ""
            memory = found["peak_mb"] - found["base_mb"]
            times = f"{found['seconds']:.2f} | {found['cpu_seconds']:.2f}"
            goal, failures = _against_goal(step, clips, memory, found["cpu_seconds"])
            missed += failures
            print(f"| {step} | {clips:,} | {found['rows']:,} | {times} | {memory:.0f} | {size} | {goal} |", flush=True)
    if missed:
        print("\n" + "\n".join(missed))
        sys.exit(1)


def _prepare(step: str, clips: int, folder: Path, kept: Path | None) -> None:
    """Make what a step reads; `kept`: a folder that has it already, or will have it for the next time."""
    if kept is None:
        _run(f"prepare-{step}", clips, str(folder))
        return
    name = PREPARE[step].__name__.removeprefix("_prepare_")
    ready = kept / f"{name}-{clips}"
    if not ready.exists():
        with tempfile.TemporaryDirectory(dir=kept) as begun:
            _run(f"prepare-{step}", clips, begun)
            shutil.copytree(begun, ready, copy_function=os.link)
    # Files of ours are replaced, and never written to.
    shutil.copytree(ready, folder, copy_function=os.link, dirs_exist_ok=True)


def _against_goal(step: str, clips: int, memory: float, cpu_seconds: float) -> tuple[str, list[str]]:
    """Return a step's goal for memory, "" where it has none at this size, and a sentence for each goal that it misses."""
    most_clips, most_memory, most_seconds = GOALS[step]
    if clips > most_clips:
        return "", []
    missed = []
    if memory > most_memory:
        missed.append(f"{step} of {clips:,} clips: took {memory:.0f} MB; expected at most {most_memory:.0f}")
    if most_seconds is not None and cpu_seconds > most_seconds:
        missed.append(
            f"{step} of {clips:,} clips: took {cpu_seconds:.1f} CPU seconds; expected at most {most_seconds:g}"
        )
    return f"{most_memory:.0f}", missed


def _versions() -> str:
    import pyarrow as pa

    from avsrobust import __version__

    return (
        f"Python {platform.python_version()}, numpy {np.__version__}, pyarrow {pa.__version__}, avsrobust {__version__}"
    )


def _run(step: str, clips: int, folder: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", step, str(clips), folder]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _child(step: str, clips: int, folder: Path) -> None:
    if step.startswith("prepare-"):
        PREPARE[step.removeprefix("prepare-")](clips, folder)
        print("{}")
        return
    work = WORK[step](clips, folder)
    base = _peak_mb()
    started, cpu_started = time.perf_counter(), time.process_time()
    rows = work()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    found = {"rows": rows, "seconds": seconds, "cpu_seconds": cpu_seconds, "base_mb": base, "peak_mb": _peak_mb()}
    print(json.dumps(found))


def _peak_mb() -> float:
    """Return the most memory that this process had, in MiB."""
    # A process begins with its parent's ru_maxrss, which VmHWM does not know. Both are in kB on Linux.
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(encoding="ascii"), re.MULTILINE)
        if found is not None:
            return int(found[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _clips(number: int) -> list[object]:
    from avsrobust.clips import Clip, SoundHeader
    from avsrobust.datasets.taxonomy import S4_SUPERCATEGORY

    categories = sorted(S4_SUPERCATEGORY.items())
    sound = SoundHeader(16_000, 80_000, 1, "PCM_16")
    found: list[object] = []
    for index in range(number):
        category, broad = categories[index % len(categories)]
        name = f"clip_{index:07d}"
        folder = f"Single-source/s4_data/visual_frames/test/{category}/{name}"
        masks = f"Single-source/s4_data/gt_masks/test/{category}/{name}"
        found.append(
            Clip(
                "s4",
                "test",
                name,
                (category,),
                (broad,),
                tuple(f"{folder}/{name}_{frame}.png" for frame in range(1, FRAMES + 1)),
                tuple(f"{masks}/{name}_{frame}.png" for frame in range(1, FRAMES + 1)),
                f"Single-source/s4_data/audio_wav/test/{category}/{name}.wav",
                sound,
            )
        )
    return found


def _plan(clips: int, folder: Path) -> Callable[[], int]:
    """Plan and lay out; the table of clips is not counted."""
    from avsrobust.building.layout import lay_out
    from avsrobust.building.plan import plan
    from avsrobust.conditions.recipe import load_recipe

    recipe, table = load_recipe("standard"), _clips(clips)
    return lambda: len(lay_out(plan(table, recipe, 0)).rows)


def _prepare_load(clips: int, folder: Path) -> None:
    import dataclasses

    from avsrobust.building.layout import lay_out
    from avsrobust.building.plan import plan
    from avsrobust.conditions.recipe import load_recipe
    from avsrobust.manifest import MANIFEST_NAME, ManifestInfo, write_manifest

    recipe = load_recipe("standard")
    rows = lay_out(plan(_clips(clips), recipe, 0)).rows
    sums = (f"{index:064x}" for index in range(len(rows)))
    rows = [dataclasses.replace(row, audio_sha256=next(sums)) for row in rows]
    write_manifest(folder / MANIFEST_NAME, rows, ManifestInfo("s4", 0, {"name": "growth"}, {"test": "0"}))


def _load(clips: int, folder: Path) -> Callable[[], int]:
    from avsrobust.manifest import load_manifest

    return lambda: len(load_manifest(folder).rows)


def _select(clips: int, folder: Path) -> Callable[[], int]:
    from avsrobust.evaluation.batches import each_batch
    from avsrobust.evaluation.clip_table import ClipTable
    from avsrobust.evaluation.existing_results import ExistingResults
    from avsrobust.evaluation.parts import PartStore
    from avsrobust.evaluation.planning import plan_evaluation
    from avsrobust.manifest import data_files, load_manifest
    from avsrobust.results import ScoreInfo

    def work() -> int:
        manifest = load_manifest(folder)
        sorted(data_files(manifest.rows))
        store = PartStore(folder / "results", {}, ScoreInfo("growth", "s4", 0), keep_masks=False)
        wanted = ClipTable(manifest.select(["test"]).rows)
        plan = plan_evaluation(manifest, wanted, ExistingResults(), store, save_masks=False)
        return sum(len(clip) for batch in each_batch(plan.clips, manifest, folder, 1) for clip in batch)

    return work


def _verify(clips: int, folder: Path) -> Callable[[], int]:
    from avsrobust.building.verify import check_rows, used_files_by_kind
    from avsrobust.manifest import load_manifest

    def work() -> int:
        manifest = load_manifest(folder, consistent=False)
        sum(1 for _ in check_rows(manifest))
        sum(1 for _ in used_files_by_kind(manifest.rows))
        return len(manifest.rows)

    return work


@cache
def _templates() -> object:
    from avsrobust.metrics import frame_statistics

    generator = np.random.default_rng(0)
    row, column = np.mgrid[:SIDE, :SIDE]
    middle = generator.integers(40, SIDE - 40, (TEMPLATES, 2))
    distance = np.stack([(row - y) ** 2 + (column - x) ** 2 for y, x in middle])
    logits = 4 - distance / 900 + 0.8 * generator.standard_normal(distance.shape)
    return frame_statistics((1 / (1 + np.exp(-logits))).astype(np.float32), distance < 50**2)


def _made_up(clips: Sequence[int], model: str, shift: int = 0) -> object:
    """Return the scores of clips by number, whose histograms are not in memory: 100,000 clips would have 8 GB of them."""
    import dataclasses

    import pandas as pd

    from avsrobust.metrics import take
    from avsrobust.metrics.binary.histograms import JoinedHistograms
    from avsrobust.results import ScoreInfo, Scores

    number = len(clips) * len(CONDITIONS) * FRAMES
    position = np.arange(number)
    clip, condition = position // (len(CONDITIONS) * FRAMES), position // FRAMES % len(CONDITIONS)
    ids = np.array([f"clip_{index:07d}" for index in clips], dtype=object)
    clean = condition == CONDITIONS.index("clean")
    labels = np.empty(number, dtype=object)
    labels[:] = [("dog_barking",)] * number
    index = pd.DataFrame(
        {
            "split": np.full(number, "test", dtype=object),
            "clip_id": ids[clip],
            "labels": labels,
            "condition": np.array(CONDITIONS, dtype=object)[condition],
            "polarity": np.where(clean, "positive", "negative").astype(object),
            "level": np.full(number, np.nan, dtype=np.float32),
            "frame": (position % FRAMES).astype(np.int32),
            "clean_intersection": np.where(clean, np.nan, 100.0),
            "clean_union": np.where(clean, np.nan, 200.0),
        }
    )
    templates = _templates()
    away = {name: JoinedHistograms([getattr(templates, name)]) for name in ("inside", "outside")}
    numbers = np.asarray(clips, dtype=np.int64)[clip] * len(CONDITIONS) * FRAMES + position % (len(CONDITIONS) * FRAMES)
    statistics = take(dataclasses.replace(templates, **away), (numbers + shift) * 7 % TEMPLATES)
    return Scores(ScoreInfo(model, "s4", 0), index, statistics)


def _prepare_report(clips: int, folder: Path) -> None:
    from avsrobust.results import SCORES_NAME, write_scores

    write_scores(folder / SCORES_NAME, _made_up(range(clips), "growth"))


def _prepare_compare(clips: int, folder: Path) -> None:
    from avsrobust.results import SCORES_NAME, write_scores

    for shift, model in enumerate(("one", "other")):
        (folder / model).mkdir()
        write_scores(folder / model / SCORES_NAME, _made_up(range(clips), model, shift))


def _compare(clips: int, folder: Path) -> Callable[[], int]:
    from avsrobust.reporting.compare import compare
    from avsrobust.results import read_scores

    def work() -> int:
        compare(read_scores(folder / "one"), read_scores(folder / "other"))
        return 2 * clips * len(CONDITIONS) * FRAMES

    return work


def _prepare_publish(clips: int, folder: Path) -> None:
    """Write a manifest, and the parts of an evaluation that was interrupted when its last clip was scored."""
    _prepare_load(clips, folder)
    _write_parts(range(clips), folder, folder / "results")


def _prepare_publish_all(clips: int, folder: Path) -> None:
    _prepare_load(clips, folder)
    _write_parts(range(clips), folder, folder / "results", masks_and_extras=True)


def _write_parts(clips: Sequence[int], folder: Path, output: Path, *, masks_and_extras: bool = False) -> None:
    """Write the parts of an evaluation of some clips, by number, of the build in `folder`."""
    import dataclasses

    import pyarrow as pa
    import torch

    from avsrobust.evaluation.model_key import evaluation_sha256
    from avsrobust.evaluation.parts import CLIPS_PER_PART, PartStore
    from avsrobust.evaluation.scorer import LocalScorer
    from avsrobust.folders import hold_output_dir
    from avsrobust.manifest import load_manifest
    from avsrobust.mask_overlaps import OVERLAPS_FIELD
    from avsrobust.results import RESULTS_KIND, SCORES_FORMAT, ScoreInfo, write_scores

    manifest = load_manifest(folder)
    scorer = LocalScorer(manifest, _adapter(), name="visual_prior", data_root=folder, device=torch.device("cpu"))
    with hold_output_dir(output, RESULTS_KIND, SCORES_FORMAT, "benchmark"):
        key = scorer.facts(output).model_key
        info = ScoreInfo("visual_prior", "s4", 0, evaluation=evaluation_sha256(key))
        PartStore(output, key, info, keep_masks=False).begin()
        # As many pairs of negatives as each has before it.
        pairs = [[(other, 7) for other in CONDITIONS[1:position]] for position in range(len(CONDITIONS))]
        of_clip = [
            None if not position else pairs[position] for position in range(len(CONDITIONS)) for _ in range(FRAMES)
        ]
        entries = [
            None if found is None else [{"other": name, "intersection": both} for name, both in found]
            for found in of_clip
        ]
        overlaps = pa.array(entries * CLIPS_PER_PART, type=OVERLAPS_FIELD.type)
        for number, first in enumerate(range(0, len(clips), CLIPS_PER_PART)):
            chosen = clips[first : first + CLIPS_PER_PART]
            scores = _made_up(chosen, "visual_prior")
            part = output / "parts" / f"{number:06d}"
            if masks_and_extras:
                _write_masks_and_extras(chosen, part, info.evaluation)
            write_scores(
                part.with_name(f"{part.name}.scores.parquet"),
                dataclasses.replace(scores, info=info, overlaps=overlaps[: len(scores.index)]),
            )


def _write_masks_and_extras(clips: Sequence[int], part: Path, evaluation: str) -> None:
    import pyarrow as pa

    from avsrobust.evaluation.extras import write_extras
    from avsrobust.rle import encode_masks
    from avsrobust.stored_masks import WITH_DRAWS, write_masks

    row, column = np.mgrid[:SIDE, :SIDE]
    rows = [(f"clip_{clip:07d}", condition) for clip in clips for condition in CONDITIONS]
    entries = [
        {"split": "test", "clip_id": clip, "condition": condition, "level": None, "draw": 0, "frame": frame}
        for clip, condition in rows
        for frame in range(FRAMES)
    ]
    circles = encode_masks(np.stack([(row - 90) ** 2 + (column - at) ** 2 < 50**2 for at in (80, 100, 120)]))
    masks = [{**entry, "size": [SIDE, SIDE], "counts": circles[at % 3]} for at, entry in enumerate(entries)]
    write_masks(
        part.with_name(f"{part.name}.masks.parquet"), [pa.Table.from_pylist(masks, schema=WITH_DRAWS)], evaluation
    )
    values = [{**entry, "name": name, "value": at / 7} for at, entry in enumerate(entries) for name in ("one", "other")]
    write_extras(part.with_name(f"{part.name}.extras.parquet"), values, evaluation)


def _publish(clips: int, folder: Path) -> Callable[[], int]:
    import torch  # noqa: F401

    from avsrobust.evaluation import runner  # noqa: F401

    adapter = _adapter()
    return lambda: _evaluated(folder, adapter)


def _evaluated(folder: Path, adapter: object, shard: str | None = None) -> int:
    """Evaluate the build in a folder, whose clips are all scored, and return the number of frames."""
    from avsrobust.evaluation import runner
    from avsrobust.manifest import load_manifest

    # There are no pictures and sounds.
    runner.check_data = lambda *_: None
    report = runner.evaluate(
        load_manifest(folder),
        adapter,
        name="visual_prior",
        output=folder / "results",
        data_root=folder,
        splits=["test"],
        check=False,
        shard=shard,
    )
    return FRAMES * len(CONDITIONS) * report.clips


def _prepare_merge_all(clips: int, folder: Path) -> None:
    _prepare_merge(clips, folder, masks_and_extras=True)


def _prepare_merge(clips: int, folder: Path, *, masks_and_extras: bool = False) -> None:
    from avsrobust.evaluation.shards import Shard
    from avsrobust.folders import ensure_output_dir
    from avsrobust.results import RESULTS_KIND, SCORES_FORMAT

    _prepare_load(clips, folder)
    ensure_output_dir(folder / "results", RESULTS_KIND, SCORES_FORMAT)
    for number in range(1, SHARDS + 1):
        shard = Shard(SHARDS, number)
        mine = range(clips)[number - 1 :: SHARDS]
        _write_parts(mine, folder, shard.folder(folder / "results"), masks_and_extras=masks_and_extras)
        _evaluated(folder, _adapter(), str(shard))


def _merge(clips: int, folder: Path) -> Callable[[], int]:
    from avsrobust.evaluation.merging import merge_shards

    return lambda: FRAMES * len(CONDITIONS) * merge_shards(folder / "results").clips


def _prepare_done(clips: int, folder: Path) -> None:
    """Evaluate, with masks and further values."""
    _prepare_publish_all(clips, folder)
    _evaluated(folder, _adapter())


def _report(clips: int, folder: Path, **options: str) -> Callable[[], int]:
    from avsrobust.reporting.report import load_results, report

    def work() -> int:
        results = load_results([folder])
        report(results, ("avsbench", "strict"), **options)
        return sum(len(scores.index) for scores in results)

    return work


def _report_category(clips: int, folder: Path) -> Callable[[], int]:
    return _report(clips, folder, by="category")


def _report_page(clips: int, folder: Path) -> Callable[[], int]:
    return _report(clips, folder, format="html")


def _masks(clips: int, folder: Path) -> Callable[[], int]:
    """Read the masks of a clip; there are no pictures to lay them over."""
    from avsrobust.gallery import overlays
    from avsrobust.manifest import load_manifest

    def work() -> int:
        # It may have been prepared elsewhere.
        overlays.find_manifest = lambda *_: load_manifest(folder)
        overlays._write_row = lambda _build, masks, row, _folder: len(
            masks.read(row.split, row.clip_id, row.condition, row.level, row.draw)
        )
        overlays.write_overlays(folder / "results", folder / "overlays", clips=["clip_0000003"], data_root=folder)
        return FRAMES * len(CONDITIONS) * clips

    return work


def _hf_dataset(clips: int, folder: Path) -> Callable[[], int]:
    from avsrobust.exporting import hf_dataset
    from avsrobust.manifest import load_manifest

    def work() -> int:
        hf_dataset._Media._file = lambda _self, entry, _limit: {"bytes": None, "path": f"/{entry}"}
        hf_dataset._Media.sound = lambda _self, row: {"bytes": None, "path": f"{row.condition}.wav"}
        return sum(hf_dataset.export_hf(load_manifest(folder), folder / "hf", data_root=folder).rows.values())

    return work


def _prepare_evaluate(clips: int, folder: Path) -> None:
    from avsrobust.building.build import build
    from avsrobust.conditions.recipe import load_recipe
    from avsrobust.datasets.read import read_dataset
    from avsrobust.toy.write import write_toy

    write_toy(folder, "s4", clips=clips)
    build(read_dataset("s4", folder), load_recipe("standard"), 0, folder / "build")


def _adapter() -> object:
    import torch

    from avsrobust.adapters.lookup import load_adapter

    return load_adapter("visual_prior", checkpoint=None, device=torch.device("cpu"), options={})


def _evaluate(clips: int, folder: Path) -> Callable[[], int]:
    from avsrobust.evaluation.runner import evaluate
    from avsrobust.manifest import load_manifest

    adapter = _adapter()

    def work() -> int:
        manifest = load_manifest(folder / "build")
        splits = manifest.distinct("split")
        output = folder / "results"
        return evaluate(
            manifest, adapter, name="visual_prior", output=output, data_root=folder, splits=splits, check=False
        ).rows_added

    return work


# What a step reads, of the folder that was prepared for it.
FILES = {
    **dict.fromkeys(("load", "select", "verify"), "manifest.parquet"),
    **dict.fromkeys(("publish", "publish_all", "merge", "merge_all", "again"), "results/scores.parquet"),
    **dict.fromkeys(("report", "report_category", "report_page"), "scores.parquet"),
    "masks": "results/masks.parquet",
    "hf_dataset": "manifest.parquet",
    "compare": "one/scores.parquet",
}
PREPARE = {
    **dict.fromkeys(("load", "select", "verify", "hf_dataset"), _prepare_load),
    **dict.fromkeys(("report", "report_category", "report_page"), _prepare_report),
    **dict.fromkeys(("again", "masks"), _prepare_done),
    "publish": _prepare_publish,
    "publish_all": _prepare_publish_all,
    "merge": _prepare_merge,
    "merge_all": _prepare_merge_all,
    "compare": _prepare_compare,
    "evaluate": _prepare_evaluate,
}
WORK = {
    "plan": _plan,
    "load": _load,
    "select": _select,
    "publish": _publish,
    "publish_all": _publish,
    "merge": _merge,
    "merge_all": _merge,
    "again": _publish,
    "masks": _masks,
    "hf_dataset": _hf_dataset,
    "report_category": _report_category,
    "report_page": _report_page,
    "verify": _verify,
    "report": _report,
    "compare": _compare,
    "evaluate": _evaluate,
}


if __name__ == "__main__":
    main()

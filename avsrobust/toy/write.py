"""`write_toy`: a procedural data set in AVSBench's own layouts.

Conventions
    The same seed gives the same bytes; a clip depends on (seed, part, index) alone, so more clips leave the earlier ones as
    they were. The parts are shared: AVSS's v1s are the first clips of S4, its v1m the first of MS3, as in AVSBench. Into one
    data root the three data sets may be written in any order, with the same result: metadata.csv lists the clips of MS3
    (that is where their categories stand), and where AVSS is there too, they are all in its v1m.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from avsrobust.building.engine import open_engine
from avsrobust.callbacks import ProgressCallback
from avsrobust.conditions.seeds import check_seed
from avsrobust.datasets.taxonomy import AVSS_CLASSES, S4_CATEGORY
from avsrobust.errors import OptionError, did_you_mean
from avsrobust.files import remove_temporaries, write_text
from avsrobust.folders import hold_any_dir
from avsrobust.toy.records import TREES, Record, acquire_trees
from avsrobust.toy.rendering import Rendered, render
from avsrobust.toy.scenes import Scene, plan_scene
from avsrobust.toy.trees import (
    SUBSETS,
    clip_name,
    clip_uid,
    write_ms3_clip,
    write_s4_clip,
    write_semantic_clip,
)
from avsrobust.vocabulary import DATASETS

DEFAULT_CLIPS = 60
DEFAULT_SEED = 0
# Below this number of clips no worker is worth its start.
_MANY = 200

# In which part the clips of AVSS lie, over and over: 40 % v1s, 20 % v1m, 40 % v2.
_AVSS_PARTS = ("open", "single", "multi", "open", "single")

Job = tuple[Scene, Callable[[Path, Rendered], None], Path]


def write_toy(
    out: Path | str,
    dataset: str,
    *,
    clips: int = DEFAULT_CLIPS,
    seed: int = DEFAULT_SEED,
    wait: bool = False,
    workers: int = 1,
    progress: ProgressCallback | None = None,
) -> Path:
    """Write the toy of a data set. A run that was interrupted is completed by the same call.

    Args:
        out: The data root; one process at a time writes below it.
        dataset: ``s4``, ``ms3`` or ``avss``.
        clips: Number of clips, at least 1.
        seed: Seed of everything that is drawn.
        wait: Wait until another process is done with `out`; otherwise it is an error.
        workers: Processes that write clips, where there are many.
        progress: Called with (clips done, clips in total).

    Returns:
        The data root.

    Raises:
        OptionError: An argument is unusable, the folder cannot be written, or it holds another data set where this one would
            go.
    """
    if dataset not in DATASETS:
        raise OptionError(f"--dataset: found '{dataset}'; expected s4, ms3 or avss{did_you_mean(dataset, DATASETS)}")
    if clips < 1:
        raise OptionError(f"--clips: found {clips}; expected at least 1")
    check_seed(seed)
    out = Path(out)
    with hold_any_dir(out, "avsrobust toy", wait=wait):
        _write(out, Record(dataset, clips, seed), workers, progress)
    return out


def _write(out: Path, wanted: Record, workers: int, progress: ProgressCallback | None) -> None:
    dataset = wanted.dataset
    records = acquire_trees(out, wanted)
    remove_temporaries(out / TREES[dataset])
    jobs = list(_jobs(out, dataset, records))
    with open_engine("local", workers if len(jobs) >= _MANY else 1) as engine:
        for done, _ in enumerate(engine.map(_write_clip, jobs)):
            if progress is not None:
                progress(done, len(jobs))
    _write_tables(out, dataset, records)
    if progress is not None:
        progress(len(jobs), len(jobs))


def _write_clip(job: Job) -> None:
    scene, write_clip, folder = job
    write_clip(folder, render(scene))


def semantic_counts(records: Mapping[str, Record]) -> dict[str, int]:
    """Return how many clips of each part metadata.csv lists; with AVSS there, they are all in its folders."""
    own = _avss_counts(records["avss"].clips) if "avss" in records else dict.fromkeys(SUBSETS, 0)
    return {**own, "multi": max(own["multi"], records["ms3"].clips if "ms3" in records else 0)}


def _avss_counts(clips: int) -> dict[str, int]:
    parts = [_AVSS_PARTS[index % len(_AVSS_PARTS)] for index in range(clips)]
    return {part: parts.count(part) for part in SUBSETS}


def _jobs(out: Path, dataset: str, records: Mapping[str, Record]) -> Iterator[Job]:
    """Yield what is to be written for `dataset`, its part in the semantic release included."""
    seed, clips = records[dataset].seed, records[dataset].clips
    release = out / TREES["avss"]
    if dataset == "s4":
        for scene in _scenes("single", seed, range(clips)):
            yield scene, write_s4_clip, out / TREES["s4"] / "s4_data"
    elif dataset == "ms3":
        for scene in _scenes("multi", seed, range(clips)):
            yield scene, write_ms3_clip, out / TREES["ms3"] / "ms3_data"
        if "avss" in records:
            missing = range(_avss_counts(records["avss"].clips)["multi"], clips)
            for scene in _scenes("multi", seed, missing):
                yield scene, write_semantic_clip, release
    else:
        for part, count in semantic_counts(records).items():
            for scene in _scenes(part, seed, range(count)):
                yield scene, write_semantic_clip, release


def _scenes(part: str, seed: int, indices: range) -> Iterator[Scene]:
    return (plan_scene(part, seed, index) for index in indices)


def _write_tables(out: Path, dataset: str, records: Mapping[str, Record]) -> None:
    """Write the csv files; they come last, for a tree without them is plainly unfinished."""
    record = records[dataset]
    if dataset == "s4":
        scenes = _scenes("single", record.seed, range(record.clips))
        rows = ((clip_name(s), s.start_s, S4_CATEGORY[s.labels[0]], s.split) for s in scenes)
        _write_csv(out / TREES["s4"] / "s4_meta_data.csv", "name,start_time,category,split", rows)
        return
    if dataset == "ms3":
        scenes = _scenes("multi", record.seed, range(record.clips))
        pairs = ((clip_name(s), s.split) for s in scenes)
        _write_csv(out / TREES["ms3"] / "ms3_meta_data.csv", "video_id,split", pairs)
    else:
        numbers = {name: number for number, name in enumerate(AVSS_CLASSES, start=1)}
        write_text(out / TREES["avss"] / "label2idx.json", json.dumps(numbers))
    scenes = (s for part, count in semantic_counts(records).items() for s in _scenes(part, record.seed, range(count)))
    _write_csv(
        out / TREES["avss"] / "metadata.csv",
        "vid,uid,s_min,s_sec,a_obj,split,label",
        (_semantic_row(s) for s in scenes),
    )


def _semantic_row(scene: Scene) -> tuple[object, ...]:
    minutes, rest = divmod(scene.start_s, 60)
    labels = "_".join(scene.labels)
    return (clip_name(scene), clip_uid(scene), minutes, rest, labels, scene.split, SUBSETS[scene.part])


def _write_csv(path: Path, header: str, rows: Iterable[tuple[object, ...]]) -> None:
    # Names, numbers and categories hold neither comma nor quote, so that a plain join is csv.
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    write_text(path, "\n".join(lines) + "\n")

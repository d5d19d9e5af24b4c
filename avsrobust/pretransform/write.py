"""Class files for every row of a manifest.

Conventions
    ``OUTPUT/CONDITION/CLIP.pth``, where CONDITION has its level behind it (``mixture-5dB``) and CLIP is the clip's id: per
    frame an int64 tensor of query indices, in a list. They come from the row's own sound, under a negative condition from
    the negative one; a clip's labels are never looked at.
    Beside them lie ``clusters.safetensors`` (`avsrobust.pretransform.layout`) and ``classes.json``, the class map.
    A sound that several rows share (silence; another clip's own sound) is heard once. Clusters and classes are fitted on the
    clean sounds of the split train, unless other splits are named.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from avsrobust.conditions.seeds import check_seed
from avsrobust.errors import ManifestError, OptionError, did_you_mean
from avsrobust.evaluation.sound import SoundReader
from avsrobust.files import remove_temporaries, resolve_inside, write_bytes, write_text
from avsrobust.folders import hold_output_dir
from avsrobust.manifest import Manifest, Row
from avsrobust.pretransform.base import Encoder, Heard
from avsrobust.pretransform.clusters import fit_clusters
from avsrobust.pretransform.encoders import load_encoder, names_classes
from avsrobust.pretransform.layout import QueryLayout, class_map_of, read_class_map, read_layout, require_room
from avsrobust.vocabulary import CLEAN

CLASSES_KIND = "classes"
# The format of class files: as `manifest.BUILD_FORMAT`.
CLASSES_FORMAT = 1
CLUSTERS_NAME = "clusters.safetensors"
CLASSES_NAME = "classes.json"
DEFAULT_QUERIES = 100
# Leaves 70 of 100 queries to classes: as many as AVSBench-semantic's foreground has.
DEFAULT_CLUSTERS = 30
# The threshold in the folder name of the published files (README of bias_in_AVS).
DEFAULT_THRESHOLD = 0.4
DEFAULT_SEED = 42
Progress = Callable[[int, int], None]
_Key = tuple[str, int, int]


@dataclass(frozen=True)
class Choices:
    """What a user asks for; None leaves it to the default, or to `clusters_from`, which settles all below it.

    `classes`: whether the encoder's classes are used. `class_map`: file of label: query. `fit_splits`: where clusters and
    classes are fitted. Paths may be given as text.
    """

    encoder: str
    checkpoint: Path | None = None
    queries: int = DEFAULT_QUERIES
    clusters_from: Path | None = None
    clusters: int | None = None
    classes: bool | None = None
    class_threshold: float | None = None
    class_map: Path | None = None
    fit_splits: tuple[str, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("checkpoint", "clusters_from", "class_map"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))


@dataclass(frozen=True)
class PretransformReport:
    """What was written: `files` class files below `folder`; `sounds` different ones were heard; `skipped` found no query."""

    folder: Path
    files: int
    sounds: int
    layout: QueryLayout
    skipped: tuple[str, ...] = ()


def pretransform(
    manifest: Manifest,
    output: Path | str,
    choices: Choices,
    *,
    data_root: Path | str | None = None,
    device: torch.device | None = None,
    wait: bool = False,
    progress: Progress | None = None,
) -> PretransformReport:
    """Write the class files of every row of `manifest` below `output`; the same input gives the same bytes.

    One process at a time holds the folder; `wait`: until another one gives it up.
    Raises `OptionError` for choices that do not fit together or the data, `AdapterError` for weights, `AudioError` and
    `ManifestError` for sounds that cannot be read.
    """
    output = Path(output)
    root = None if data_root is None else Path(data_root)
    stored = _stored_layout(choices)
    classes = names_classes(choices.encoder, choices.classes) if stored is None else bool(stored.labels)
    fit_rows = () if stored is not None else _fit_rows(manifest, choices.fit_splits or ("train",))
    # The data set's names for what there is to hear; which clip has which is not asked.
    names = sorted({label for row in fit_rows for label in row.labels}) if stored is None else stored.labels
    place = device or torch.device("cpu")
    encoder = load_encoder(choices.encoder, choices.checkpoint, place, classes=classes, vocabulary=names)
    ears = _Ears(manifest, root, encoder, progress, [*fit_rows, *manifest.rows])
    if stored is not None:
        _require_same_encoder(choices, stored, encoder)
    with hold_output_dir(output, CLASSES_KIND, CLASSES_FORMAT, "avsrobust pretransform", wait=wait):
        if stored is not None:
            layout, skipped = stored, tuple[str, ...]()
        else:
            plan = _plan(choices, encoder)
            layout, skipped = _fit(plan, encoder, [ears.hear(row) for row in fit_rows], fit_rows)
        _begin(output, layout)
        for row in manifest.rows:
            _write(output, row, layout.indices(ears.hear(row)), manifest.path)
    return PretransformReport(output, len(manifest.rows), ears.sounds, layout, skipped)


def condition_folder(row: Row) -> str:
    """Return the folder of a row's class file: its condition, and its level in dB where it has one."""
    return row.condition if row.level is None else f"{row.condition}{row.level:+g}dB"


class _Ears:
    """Hears the sounds of rows, each different one once; `planned` are all the rows that will be asked for."""

    def __init__(
        self,
        manifest: Manifest,
        data_root: Path | None,
        encoder: Encoder,
        progress: Progress | None,
        planned: Sequence[Row],
    ) -> None:
        self._reader = SoundReader(manifest, manifest.data_root(data_root), encoder.audio)
        self._encoder = encoder
        self._progress, self._done, self._steps = progress, 0, len(planned)
        self._uses = Counter(map(self._key, planned))
        self._heard: dict[_Key, Heard] = {}
        self.sounds = len(self._uses)

    def hear(self, row: Row) -> Heard:
        key = self._key(row)
        found = self._heard[key] if key in self._heard else self._encode(row)
        self._uses[key] -= 1
        # Only what will be asked for again is kept: a large build has tens of thousands of sounds.
        if self._uses[key] > 0:
            self._heard[key] = found
        else:
            self._heard.pop(key, None)
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._steps)
        return found

    def _key(self, row: Row) -> _Key:
        if self._encoder.audio.kind == "waveform":
            return row.audio_sha256, 0, row.num_frames
        return row.log_mel, row.log_mel_row, row.num_frames

    def _encode(self, row: Row) -> Heard:
        found = self._encoder.encode(self._reader.read(row))
        if not (np.isfinite(found.embeddings).all() and np.isfinite(found.scores).all()):
            raise OptionError(
                f"--checkpoint: the encoder answers with NaN or infinity to {row.clip_id} under {row.condition}; expected "
                "numbers; name other weights"
            )
        return found


def _stored_layout(choices: Choices) -> QueryLayout | None:
    if choices.clusters_from is None:
        return None
    settled = {
        "--clusters": choices.clusters,
        "--classes": choices.classes,
        "--class-threshold": choices.class_threshold,
        "--class-map": choices.class_map,
        "--fit-split": choices.fit_splits or None,
        "--seed": choices.seed,
    }
    given = [name for name, value in settled.items() if value is not None]
    if given:
        raise OptionError(
            f"{given[0]}: has no part beside --clusters-from {choices.clusters_from}, which settles it; leave one out"
        )
    layout = read_layout(choices.clusters_from)
    if choices.encoder != layout.encoder:
        raise OptionError(
            f"--encoder {choices.encoder}: --clusters-from {choices.clusters_from} holds clusters of {layout.encoder}; "
            f"take --encoder {layout.encoder}, or fit new ones"
        )
    require_room(layout.highest_query, choices.queries, f"--clusters-from {choices.clusters_from}")
    return layout


def _fit_rows(manifest: Manifest, splits: Sequence[str]) -> tuple[Row, ...]:
    there = sorted({row.split for row in manifest.rows if row.condition == CLEAN})
    if not there:
        raise ManifestError(
            f"{manifest.path}: has no clean sound to fit clusters on; build it with condition clean, or name --clusters-from"
        )
    for split in splits:
        if split not in there:
            raise OptionError(
                f"--fit-split {split}: {manifest.path} has clean sounds of {', '.join(there)} only"
                f"{did_you_mean(split, there)}; name one of them, or --clusters-from"
            )
    return tuple(row for row in manifest.rows if row.condition == CLEAN and row.split in splits)


def _require_same_encoder(choices: Choices, stored: QueryLayout, encoder: Encoder) -> None:
    if encoder.identity != stored.identity or encoder.labels != stored.labels:
        raise OptionError(
            f"--checkpoint {choices.checkpoint}: is not the one that --clusters-from {choices.clusters_from} was fitted with "
            f"(SHA-256 {(encoder.identity or '')[:12]}.. here, {(stored.identity or '')[:12]}.. there); name that one"
        )


@dataclass(frozen=True)
class _Plan:
    """What is known before the first sound is heard; `class_map` is the user's."""

    encoder: str
    queries: int
    clusters: int
    threshold: float
    class_map: dict[str, int] | None
    seed: int


def _plan(choices: Choices, encoder: Encoder) -> _Plan:
    clusters = DEFAULT_CLUSTERS if choices.clusters is None else choices.clusters
    threshold = DEFAULT_THRESHOLD if choices.class_threshold is None else choices.class_threshold
    seed = DEFAULT_SEED if choices.seed is None else choices.seed
    check_seed(seed)
    _check_numbers(choices, clusters, threshold, encoder)
    class_map = None
    if choices.class_map is not None:
        class_map = read_class_map(choices.class_map, encoder.labels, choices.queries)
        highest = max(class_map.values()) + clusters
        require_room(highest, choices.queries, f"--class-map {choices.class_map}")
    return _Plan(choices.encoder, choices.queries, clusters, threshold, class_map, seed)


def _fit(
    plan: _Plan, encoder: Encoder, sounds: Sequence[Heard], rows: Sequence[Row]
) -> tuple[QueryLayout, tuple[str, ...]]:
    class_map = plan.class_map
    skipped: tuple[str, ...] = ()
    if class_map is None:
        active = np.sum([(sound.scores > plan.threshold).sum(axis=0) for sound in sounds], axis=0)
        counts = dict(zip(encoder.labels, active.tolist(), strict=True))
        class_map, skipped = class_map_of(counts, plan.queries - plan.clusters)
    centers = fit_clusters(np.concatenate([sound.embeddings for sound in sounds]), plan.clusters, plan.seed)
    fitted_on = {
        "dataset": rows[0].dataset,
        "splits": sorted({row.split for row in rows}),
        "clips": len(rows),
        "seed": plan.seed,
    }
    layout = QueryLayout(plan.encoder, encoder.identity, encoder.labels, class_map, plan.threshold, centers, fitted_on)
    return layout, skipped


def _check_numbers(choices: Choices, clusters: int, threshold: float, encoder: Encoder) -> None:
    if clusters < 1:
        raise OptionError(f"--clusters {clusters}: expected at least 1; every frame has one cluster")
    if clusters > choices.queries - bool(encoder.labels and choices.class_map is None):
        room = " and one class" if encoder.labels else ""
        raise OptionError(
            f"--clusters {clusters}: found {choices.queries} queries (--queries); expected room for the clusters{room}; "
            "take fewer clusters" + (", or --no-classes" if encoder.labels else "")
        )
    if not 0 < threshold < 1:
        raise OptionError(
            f"--class-threshold {threshold:g}: expected a number between 0 and 1, such as {DEFAULT_THRESHOLD}"
        )
    if not encoder.labels:
        for option, value in (("--class-threshold", choices.class_threshold), ("--class-map", choices.class_map)):
            if value is not None:
                raise OptionError(f"{option} {value}: has no part without classes; leave it out, or take --classes")


def _begin(output: Path, layout: QueryLayout) -> None:
    """Make the folder ready; class files of another layout must not be mixed with these."""
    remove_temporaries(output)
    path = output / CLUSTERS_NAME
    if path.exists() and path.read_bytes() != layout.to_bytes():
        raise OptionError(
            f"--output {output}: holds class files of other clusters or classes; expected an empty folder or the same ones; "
            f"name another folder, remove it, or take --clusters-from {path}"
        )
    layout.write(path)
    write_text(output / CLASSES_NAME, json.dumps(dict(layout.class_map), indent=1, ensure_ascii=False) + "\n")


def _write(output: Path, row: Row, indices: Sequence[Sequence[int]], manifest: Path) -> None:
    path = resolve_inside(output, f"{condition_folder(row)}/{row.clip_id}.pth", named_by=manifest)
    stream = io.BytesIO()
    torch.save([torch.tensor(frame, dtype=torch.int64) for frame in indices], stream)
    write_bytes(path, stream.getvalue())

"""Class files for every row of a manifest.

Conventions
    ``OUTPUT/CONDITION/CLIP.pth``, where CONDITION is followed by its level (``mixture-5dB``) and CLIP is the clip's id: per
    frame an int64 tensor of query indices, in a list. They come from the row's own audio, under a negative condition from
    the negative audio; a clip's labels are never used.
    Next to them lie ``clusters.safetensors`` (`avsrobust.pretransform.layout`) and ``classes.json``, the class map.
    Audio that several rows share (silence; another clip's own audio) is encoded once. Clusters and classes are fitted on the
    clean sounds of the split train, unless other splits are named.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from avsrobust.callbacks import ProgressCallback
from avsrobust.errors import ManifestError, OptionError, did_you_mean
from avsrobust.evaluation.sound import SoundReader
from avsrobust.files import remove_temporaries, resolve_inside, write_bytes, write_text
from avsrobust.folders import hold_output_dir
from avsrobust.manifest import Manifest, Row
from avsrobust.pretransform.base import Encoder, Encoding
from avsrobust.pretransform.choices import (
    DEFAULT_CLUSTERS,
    DEFAULT_SEED,
    DEFAULT_THRESHOLD,
    Choices,
    check_choices,
    names_classes,
)
from avsrobust.pretransform.clusters import fit_clusters
from avsrobust.pretransform.encoders import load_encoder
from avsrobust.pretransform.layout import QueryLayout, class_map_of, read_class_map, read_layout, require_room
from avsrobust.remote.inputs import local_data_root
from avsrobust.vocabulary import CLEAN

CLASSES_KIND = "classes"
# The format of class files: as `manifest.BUILD_FORMAT`.
CLASSES_FORMAT = 1
CLUSTERS_NAME = "clusters.safetensors"
CLASSES_NAME = "classes.json"
_Key = tuple[str, int, int]


@dataclass(frozen=True)
class PretransformReport:
    """Outcome of a pretransform.

    Attributes:
        folder: Folder of the class files.
        files: Number of class files.
        sounds: Number of different sounds that were encoded.
        layout: Queries of classes and clusters.
        skipped: Classes that got no query.
    """

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
    progress: ProgressCallback | None = None,
) -> PretransformReport:
    """Write the class files of every row of a manifest; the same input gives the same bytes.

    Args:
        manifest: The manifest.
        output: Folder of the class files; one process at a time holds it.
        choices: The user's choices.
        data_root: Folder of the data set; None: the one that the build remembers.
        device: Device of the encoder; None: the CPU.
        wait: Whether to wait while another process holds the folder.
        progress: Called with (sounds done, sounds in total).

    Raises:
        OptionError: Choices do not fit together or the data.
        AdapterError: Weights cannot be read.
        AudioError, ManifestError: Sounds cannot be read.
    """
    output = Path(output)
    check_choices(choices)
    root = local_data_root(data_root, [manifest])
    stored = _stored_layout(choices)
    classes = names_classes(choices.encoder, choices.classes) if stored is None else bool(stored.labels)
    fit_rows = () if stored is not None else _fit_rows(manifest, choices.fit_splits or ("train",))
    # Names of the data set's categories; which clip has which is not used.
    names = sorted({label for row in fit_rows for label in row.labels}) if stored is None else stored.labels
    encoder = load_encoder(
        choices.encoder, choices.checkpoint, device or torch.device("cpu"), classes=classes, vocabulary=names
    )
    encodings = _Encodings(manifest, root, encoder, progress, [*fit_rows, *manifest.rows])
    if stored is not None:
        _require_same_encoder(choices, stored, encoder)
    with hold_output_dir(output, CLASSES_KIND, CLASSES_FORMAT, "avsrobust pretransform", wait=wait):
        if stored is not None:
            layout, skipped = stored, tuple[str, ...]()
        else:
            plan = _plan(choices, encoder)
            layout, skipped = _fit(plan, encoder, [encodings.of(row) for row in fit_rows], fit_rows)
        _begin(output, layout)
        for row in manifest.rows:
            _write(output, row, layout.indices(encodings.of(row)), manifest.path)
    return PretransformReport(output, len(manifest.rows), encodings.sounds, layout, skipped)


def condition_folder(row: Row) -> str:
    """Return the folder of a row's class file: its condition, and its level in dB where it has one."""
    return row.condition if row.level is None else f"{row.condition}{row.level:+g}dB"


class _Encodings:
    """The encodings of rows, each different sound encoded once; `planned` are all rows that will be requested."""

    def __init__(
        self,
        manifest: Manifest,
        data_root: Path | None,
        encoder: Encoder,
        progress: ProgressCallback | None,
        planned: Sequence[Row],
    ) -> None:
        self._reader = SoundReader(manifest, manifest.data_root(data_root), encoder.audio)
        self._encoder = encoder
        self._progress, self._done, self._steps = progress, 0, len(planned)
        self._uses = Counter(map(self._key, planned))
        self._kept: dict[_Key, Encoding] = {}
        self.sounds = len(self._uses)

    def of(self, row: Row) -> Encoding:
        key = self._key(row)
        found = self._kept[key] if key in self._kept else self._encode(row)
        self._uses[key] -= 1
        # Only encodings that will be requested again are kept: a large build has tens of thousands of sounds.
        if self._uses[key] > 0:
            self._kept[key] = found
        else:
            self._kept.pop(key, None)
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._steps)
        return found

    def _key(self, row: Row) -> _Key:
        if self._encoder.audio.kind == "waveform":
            return row.audio_sha256, 0, row.num_frames
        return row.log_mel, row.log_mel_row, row.num_frames

    def _encode(self, row: Row) -> Encoding:
        found = self._encoder.encode(self._reader.read(row))
        if not (np.isfinite(found.embeddings).all() and np.isfinite(found.scores).all()):
            raise OptionError(
                f"--checkpoint: the encoder returns NaN or infinity for {row.clip_id} under {row.condition}; expected "
                "numbers; name other weights"
            )
        return found


def _stored_layout(choices: Choices) -> QueryLayout | None:
    if choices.clusters_from is None:
        return None
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
    if encoder.checksum != stored.checksum or encoder.labels != stored.labels:
        raise OptionError(
            f"--checkpoint {choices.checkpoint}: is not the one that --clusters-from {choices.clusters_from} was fitted with "
            f"(SHA-256 {(encoder.checksum or '')[:12]}.. here, {(stored.checksum or '')[:12]}.. there); name that one"
        )


@dataclass(frozen=True)
class _Plan:
    """Choices that are settled before the first sound is encoded; `class_map` is the user's."""

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
    class_map = None
    if choices.class_map is not None:
        class_map = read_class_map(choices.class_map, encoder.labels, choices.queries)
        highest = max(class_map.values()) + clusters
        require_room(highest, choices.queries, f"--class-map {choices.class_map}")
    return _Plan(choices.encoder, choices.queries, clusters, threshold, class_map, seed)


def _fit(
    plan: _Plan, encoder: Encoder, sounds: Sequence[Encoding], rows: Sequence[Row]
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
    layout = QueryLayout(plan.encoder, encoder.checksum, encoder.labels, class_map, plan.threshold, centers, fitted_on)
    return layout, skipped


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

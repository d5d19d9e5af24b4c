"""`make_gallery`: stored results in, the media of their worst clips out.

Conventions
    Clips are chosen per split and build, from the models that are no baselines where there are any; the masks of all of them are
    shown. These are masks that ``evaluate --save-masks`` stored. The caller may hand in a function that makes others (`Rerun`),
    those of named readouts among them, which are not stored. No model is run here.
    Whatever cannot be shown is said in the gallery's notes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from avsrobust.audio.front_ends import log_mel_of
from avsrobust.audio.resample import resample
from avsrobust.errors import AvsRobustError, OptionError, ResultsError
from avsrobust.gallery.builds import Build, find_manifest
from avsrobust.gallery.flac import RATE, encode_flac
from avsrobust.gallery.pictures import Mosaic, spectrogram_picture
from avsrobust.gallery.ranking import RowScores, rank_clips, row_scores, worst_clips
from avsrobust.manifest import Manifest, Row
from avsrobust.processes import usable_cores
from avsrobust.remote import address_of
from avsrobust.remote.inputs import with_file
from avsrobust.reporting.columns import condition_title
from avsrobust.reporting.escape import one_line
from avsrobust.reporting.media import ClipRanks, Gallery, GalleryClip, GalleryRow, Medium, PredictedMask
from avsrobust.reporting.split_results import SplitKey
from avsrobust.results import MASKS_NAME, RUN_NAME, Run, Scores, is_baseline, read_run
from avsrobust.row_keys import ClipKey, RowKey, key_of
from avsrobust.stored_masks import StoredMasks
from avsrobust.vocabulary import NEGATIVE, counted

# Bytes of all media: as text in a page they are a third more, and the page stays below 15 MB.
MOST_BYTES = 10_000_000
_LOWEST_SECONDS = 0.1
_MOST_THREADS = 4


# Makes the masks of some clips, in every row that was scored, and returns their file; raises `AvsRobustError` where it cannot.
Rerun = Callable[[Scores, Run, Manifest, Collection[ClipKey]], Path]


@dataclass(frozen=True)
class _Model:
    """One model's results on one build, and its masks; None: they are still to be made."""

    scores: Scores
    folder: Path
    run: Run
    masks: StoredMasks | None

    @property
    def source(self) -> str:
        """The file of the scores, as `Subject.source` names it."""
        return address_of(str(self.scores.source))

    @property
    def is_baseline(self) -> bool:
        """Whether the masks are known without any model."""
        return is_baseline(self.scores.info.model, self.run.details)

    @cached_property
    def rows(self) -> dict[RowKey, RowScores]:
        """The scores of every row."""
        return row_scores(self.scores)


def make_gallery(
    results: Sequence[Scores],
    number: int,
    *,
    data_root: Path | str | None = None,
    relative_to: Path | None = None,
    most_bytes: int = MOST_BYTES,
    rerun: Rerun | None = None,
) -> Gallery:
    """Return the media of the worst clips of some results.

    Args:
        results: Stored results (`reporting.loading.load_results`).
        number: Clips to show of each split and build.
        data_root: Folder of the data set; None: the one that the build remembers.
        relative_to: Folder of the page, to which the links are relative; None: the working folder.
        most_bytes: Bytes of all media.
        rerun: Makes the masks of the chosen clips where none are stored; None: results without masks are left out.

    Raises:
        OptionError: No results hold masks, and there is no `rerun`.
        ResultsError: A build is not there any more.
        ManifestError: A build's data is not there any more.
    """
    found = [(scores, _model(scores, rerun)) for scores in results if scores.source is not None]
    models = [model for _, model in found if model is not None]
    if not models:
        raise OptionError(
            "--gallery: found no results with masks; expected some made by 'avsrobust evaluate --save-masks'; run it again with "
            "--save-masks, which adds them, or run the models on the clips that are shown, with --rerun"
        )
    notes = [_lacks(scores) for scores, model in found if model is None]
    folder = (relative_to or Path()).resolve()
    groups = list(_groups(models, data_root))
    clips: list[GalleryClip] = []
    for build, split, members in groups:
        shown, said = _clips(build, split, members, number, most_bytes // len(groups), folder, rerun)
        clips += shown
        notes += said
    return Gallery(tuple(clips), tuple(notes))


def _lacks(scores: Scores) -> str:
    ways = (
        "report --rerun makes them"
        if scores.info.readout
        else "evaluate --save-masks adds them, report --rerun makes them"
    )
    name = f"{one_line(scores.info.model)} on {one_line(scores.info.dataset)}"
    return f"The gallery lacks {name}: its masks were not stored ({ways})."


def _model(scores: Scores, rerun: Rerun | None) -> _Model | None:
    folder = Path(str(scores.source)).parent
    has_masks = not scores.info.readout and with_file(folder / MASKS_NAME).is_file()
    if not has_masks and rerun is None:
        return None
    return _Model(scores, folder, read_run(folder / RUN_NAME), StoredMasks(folder / MASKS_NAME) if has_masks else None)


def _groups(models: Sequence[_Model], data_root: Path | str | None) -> Iterator[tuple[Build, str, list[_Model]]]:
    """Yield each build and split, and the models that were scored on it."""
    manifests = [find_manifest(model.folder, model.run) for model in models]
    for path in dict.fromkeys(manifest.path.resolve() for manifest in manifests):
        members = [model for model, manifest in zip(models, manifests, strict=True) if manifest.path.resolve() == path]
        manifest = next(manifest for manifest in manifests if manifest.path.resolve() == path)
        build = Build(manifest, data_root)
        for split in sorted({split for model in members for split, *_ in model.rows}):
            yield build, split, [model for model in members if any(key[0] == split for key in model.rows)]


def _clips(
    build: Build,
    split: str,
    models: Sequence[_Model],
    number: int,
    most_bytes: int,
    folder: Path,
    rerun: Rerun | None,
) -> tuple[list[GalleryClip], list[str]]:
    """The worst clips of one split, and notes."""
    chosen = [model for model in models if not model.is_baseline] or list(models)
    ranks = {
        model.source: rank_clips(model.source, {key: entry for key, entry in model.rows.items() if key[0] == split})
        for model in models
    }
    shown: list[GalleryClip] = []
    notes: list[str] = []
    used = 0
    worst = worst_clips([ranks[model.source] for model in chosen], number)
    models = [_with_masks(model, build, worst, rerun) for model in models]
    for clip in worst:
        try:
            made = _clip(build, clip, models, tuple(of[clip] for of in ranks.values() if clip in of), folder)
        except (AvsRobustError, ValueError) as error:
            notes.append(f"The gallery lacks clip {one_line(clip[1])}: {one_line(str(error))}.")
            continue
        used += made.num_bytes
        if used > most_bytes:
            notes.append(
                f"The gallery shows {len(shown)} of {counted(len(worst), 'clip')} of {one_line(split)}: more would be too large."
            )
            break
        shown.append(made)
    return shown, notes


def _with_masks(model: _Model, build: Build, clips: Sequence[ClipKey], rerun: Rerun | None) -> _Model:
    """The model with masks of these clips, made now where none are stored."""
    if model.masks is not None or rerun is None:
        return model
    scored = {key[:2] for key in model.rows}
    path = rerun(model.scores, model.run, build.manifest, [clip for clip in clips if clip in scored])
    return replace(model, masks=StoredMasks(path))


def _clip(
    build: Build, clip: ClipKey, models: Sequence[_Model], ranks: tuple[ClipRanks, ...], folder: Path
) -> GalleryClip:
    """One clip with its media."""
    scored = {key for model in models for key in model.rows}
    rows = [row for row in build.rows(clip) if key_of(row) in scored]
    if not rows:
        raise OptionError("the build does not hold it")
    pictures: dict[object, Medium] = {}
    targets: dict[object, Medium] = {}
    shown: list[GalleryRow] = []
    frames = build.frames(rows[0])
    mosaic = Mosaic.of(len(frames), frames.shape[2], frames.shape[1])
    # Making a sound needs the interpreter's lock for a part of the time only.
    with ThreadPoolExecutor(min(_MOST_THREADS, usable_cores())) as pool:
        sounds = list(pool.map(lambda row: _sound(build, row), rows))
    for row, (sound, spectrogram, duration_s) in zip(rows, sounds, strict=True):
        if row.frames not in pictures:
            pictures[row.frames] = mosaic.frames(frames if row is rows[0] else build.frames(row))
        if row.masks not in targets:
            targets[row.masks] = mosaic.target(_filled(build.masks(row)))
        shown.append(
            GalleryRow(
                condition=row.condition,
                level=row.level,
                title=_title(build, row),
                negative=row.polarity == NEGATIVE,
                origin=_origin(row),
                sound=sound,
                duration_s=duration_s,
                spectrogram=spectrogram,
                picture=list(pictures).index(row.frames),
                target=list(targets).index(row.masks),
                masks=tuple(entry for model in models if (entry := _predicted(model, row, mosaic)) is not None),
                links=tuple((name, _link(path, folder)) for name, path in build.files(row)),
            )
        )
    info = build.manifest.info
    split_key: SplitKey = (info.dataset, info.release, clip[0])
    return GalleryClip(
        split_key=split_key,
        clip_id=clip[1],
        labels=rows[0].labels,
        size=mosaic.size,
        columns=mosaic.columns,
        num_frames=mosaic.num_frames,
        pictures=tuple(pictures.values()),
        targets=tuple(targets.values()),
        rows=tuple(shown),
        ranks=ranks,
    )


def _filled(masks: Sequence[npt.NDArray[np.bool_] | None]) -> list[npt.NDArray[np.bool_]]:
    return [np.zeros((1, 1), np.bool_) if mask is None else mask for mask in masks]


def _predicted(model: _Model, row: Row, mosaic: Mosaic) -> PredictedMask | None:
    """The masks of a model in a row; None where it was not scored in it."""
    scores = model.rows.get(key_of(row))
    if scores is None or model.masks is None:
        return None
    found = model.masks.read(row.split, row.clip_id, row.condition, row.level, row.draw)
    if not found:
        raise ResultsError(f"{model.masks.path} has no masks of it under {row.condition}")
    masks = [found.get(frame) for frame in range(mosaic.num_frames)]
    return PredictedMask(model.source, mosaic.prediction(_filled(masks)), scores.iou, scores.area, scores.overlap)


def _sound(build: Build, row: Row) -> tuple[Medium, Medium, float]:
    """A row's sound, its spectrogram, and its duration in seconds."""
    samples, rate = build.sound(row)
    log_mel = log_mel_of("vggish", samples, rate, row.num_frames, of=row.clip_id)
    played = resample(samples, rate, RATE, "soxr").clip(-1, 1).astype(np.float32)
    if played.size < _LOWEST_SECONDS * RATE:
        raise OptionError(f"its sound has {played.size} samples")
    return Medium("audio/flac", encode_flac(played)), spectrogram_picture(log_mel), played.size / RATE


def _title(build: Build, row: Row) -> str:
    facts = build.manifest.facts(row.condition)
    unit = facts.get("level_unit") if facts is not None else None
    draw = f" (draw {row.draw})" if row.draw else ""
    return condition_title(row.condition, row.level, unit if isinstance(unit, str) else None) + draw


def _origin(row: Row) -> str:
    if row.source_clip_id is None:
        return ""
    labels = f" ({', '.join(row.source_labels)})" if row.source_labels else ""
    return f"sound of {row.source_clip_id}{labels}"


def _link(path: Path, folder: Path) -> str:
    """A file's URL as a page in a folder refers to it; a colon in a name cannot make it one of another scheme."""
    return quote(Path(os.path.relpath(path.resolve(), folder)).as_posix(), safe="/", errors="surrogateescape")

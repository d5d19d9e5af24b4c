"""Where a build's files lie: which sounds, log-mel shards and pictures a plan needs.

Conventions
    Made sounds lie under ``audio/``. Log-mels lie in ``log_mel/<split or shared>/T<frames>/<number>.npy``, float32
    [n, T, 1, 96, 64], n <= 64: the distinct sounds of a split, sorted by name, so that a row's place follows from the plan
    alone. A sound that several rows share is there once per (number of frames, front end). Sounds without a file have no
    log-mel either: both are made when they are read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from avsrobust.audio.definitions import to_text
from avsrobust.audio.front_ends import BANDS, STEPS
from avsrobust.building.plan import Plan, PlannedRow
from avsrobust.conditions.pictures import MadePicture
from avsrobust.conditions.sounds import MadeSound, is_unstored
from avsrobust.errors import RecipeError
from avsrobust.files import is_safe_relative
from avsrobust.manifest import BUILD_PREFIX, CLIP_COLUMNS, DATA_PREFIX, MADE_PREFIX, Row, sound_files

SHARD_SOUNDS = 64
_FLOAT32 = 4
_SOUNDS = "audio/"


@dataclass(frozen=True)
class Shard:
    """One array file: its path in the build's folder, frames per sound, and its sounds as (audio, front end)."""

    path: str
    num_frames: int
    sounds: tuple[tuple[str, str], ...]

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Shape of the array, [n, T, 1, 96, 64]."""
        return (len(self.sounds), self.num_frames, 1, STEPS, BANDS)

    @property
    def num_bytes(self) -> int:
        """Bytes of the array's values."""
        return len(self.sounds) * self.num_frames * STEPS * BANDS * _FLOAT32


@dataclass(frozen=True)
class Layout:
    """All files of a build beside the manifest, and the rows that point to them.

    Attributes:
        sounds: Those to make, each once, sorted by path.
        shards: Log-mel arrays.
        pictures: Those to make, each once, sorted by path.
        rows: They lack nothing but their checksum, which is empty.
    """

    sounds: tuple[MadeSound, ...]
    shards: tuple[Shard, ...]
    pictures: tuple[MadePicture, ...]
    rows: tuple[Row, ...]

    @property
    def needed_sounds(self) -> set[str]:
        """Names of all sound files that rows are, or that their sounds are made from."""
        named = {name for row in self.rows for name in sound_files(row)}
        return named | {name for sound in self.sounds for name in sound.files}

    @property
    def num_log_mels(self) -> int:
        """Number of log-mels in all shards."""
        return sum(len(shard.sounds) for shard in self.shards)


def lay_out(plan: Plan) -> Layout:
    """Return the files that `plan` needs and where each row finds its own."""
    stored = [row for row in plan.rows if not is_unstored(row.sound)]
    made = {row.sound.audio: row.sound for row in stored if isinstance(row.sound, MadeSound)}
    pictures = {entry.path: entry for row in plan.rows if row.picture is not None for entry in row.picture.made}
    shards = tuple(_shards(stored))
    positions = {
        (audio, front_end, shard.num_frames): (shard.path, index)
        for shard in shards
        for index, (audio, front_end) in enumerate(shard.sounds)
    }
    rows = (
        _draft(row, MADE_PREFIX + row.front_end, 0)
        if is_unstored(row.sound)
        else _draft(row, *positions[row.sound.audio, row.front_end, row.clip.num_frames])
        for row in plan.rows
    )
    return Layout(
        sounds=tuple(made[audio] for audio in sorted(made)),
        shards=shards,
        pictures=tuple(pictures[path] for path in sorted(pictures)),
        rows=tuple(rows),
    )


def check_paths(rows: Iterable[PlannedRow]) -> None:
    """Check the files that a plug-in's rows name. Raises `RecipeError` for one that would lie elsewhere than it may."""
    for row in rows:
        sound, picture = row.sound, row.picture
        named = [sound.audio.removeprefix(MADE_PREFIX).removeprefix(DATA_PREFIX)]
        if isinstance(sound, MadeSound):
            named = [sound.audio.removeprefix(MADE_PREFIX)]
        if picture is not None:
            pictures = (*picture.frames, *picture.masks, *(picture.annotated or ()))
            named += [name.removeprefix(BUILD_PREFIX) for name in pictures if name is not None]
        unsafe = [name for name in named if not is_safe_relative(name)]
        if isinstance(sound, MadeSound) and not named[0].startswith(_SOUNDS):
            unsafe.append(named[0])
        if unsafe:
            raise RecipeError(
                f"condition {row.condition}, clip {row.clip.clip_id}: names {unsafe[0]!r:.200}; "
                f"expected a path inside its root, of a made sound one below {_SOUNDS}"
            )
        lengths = {len(row.clip.frames)} | ({len(picture.frames), len(picture.masks)} if picture else set())
        if len(lengths) > 1:
            raise RecipeError(
                f"condition {row.condition}, clip {row.clip.clip_id}: found {sorted(lengths)} frames and masks; "
                f"expected {row.clip.num_frames}, as many as the clip has"
            )


def _shards(rows: Iterable[PlannedRow]) -> Iterable[Shard]:
    groups: dict[tuple[str, int], set[tuple[str, str]]] = {}
    for row in rows:
        groups.setdefault((row.sound.home, row.clip.num_frames), set()).add((row.sound.audio, row.front_end))
    for (home, num_frames), members in sorted(groups.items()):
        ordered = sorted(members)
        for number, start in enumerate(range(0, len(ordered), SHARD_SOUNDS)):
            path = f"log_mel/{home}/T{num_frames}/{number:05d}.npy"
            yield Shard(path, num_frames, tuple(ordered[start : start + SHARD_SOUNDS]))


def _draft(row: PlannedRow, log_mel: str, log_mel_row: int) -> Row:
    clip, source, picture = row.clip, row.source, row.picture
    columns = {name: getattr(clip, name) for name in CLIP_COLUMNS}
    if picture is not None:
        columns |= {name: getattr(picture, name) for name in ("frames", "masks", "annotated", "tiles")}
    definition = row.sound.definition if is_unstored(row.sound) else None
    return Row(
        **columns,
        condition=row.condition,
        polarity=row.polarity,
        level=row.level,
        draw=row.draw,
        source_clip_id=None if source is None else source.clip_id,
        source_labels=None if source is None else source.labels,
        source_dataset=None if source is None or source.dataset == clip.dataset else source.dataset,
        seed=row.seed,
        audio=row.sound.audio,
        audio_sha256="",
        log_mel=log_mel,
        log_mel_row=log_mel_row,
        sample_rate=row.sound.sample_rate,
        duration_s=row.sound.duration_s,
        sound=None if definition is None else to_text(definition),
    )

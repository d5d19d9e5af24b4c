"""The layout of a build's folder: the sounds, log-mel shards and pictures that a plan needs, and their paths.

Conventions
    Made sounds lie under ``audio/``. Log-mels lie in ``log_mel/<split or shared>/T<frames>/<number>.npy``, float32
    [n, T, 1, 96, 64], n <= 64: the distinct sounds of a split, sorted by name, so that a row's place follows from the plan
    alone. A sound that several rows share is there once per (number of frames, front end). Sounds without a file have no
    log-mel either: both are made when they are read.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from avsrobust.audio.definitions import to_text
from avsrobust.audio.front_ends import BANDS, STEPS
from avsrobust.building.plan import Plan, PlannedRow, without_cycles
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
    def home(self) -> str:
        """The split whose sounds it has, or "shared"."""
        return self.path.split("/")[1]

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
        rows: They lack nothing but their checksum, which is empty; each is made when it is asked for.
    """

    sounds: tuple[MadeSound, ...]
    shards: tuple[Shard, ...]
    pictures: tuple[MadePicture, ...]
    rows: Sequence[Row]

    @property
    def needed_sounds(self) -> set[str]:
        """Names of all sound files that rows are, or that their sounds are made from."""
        named = {name for row in self.rows for name in sound_files(row)}
        return named | {name for sound in self.sounds for name in sound.files}

    @property
    def num_log_mels(self) -> int:
        """Number of log-mels in all shards."""
        return sum(len(shard.sounds) for shard in self.shards)


class DraftRows(Sequence[Row]):
    """The rows of a plan, made one by one: a plan of a million clips has four million.

    Args:
        planned: The rows as they are planned.
        shards: The log-mel arrays that they point to.
    """

    def __init__(self, planned: Sequence[PlannedRow], shards: Sequence[Shard]) -> None:
        self._planned = planned
        self._shards: dict[tuple[str, int], list[Shard]] = {}
        for shard in shards:
            self._shards.setdefault((shard.home, shard.num_frames), []).append(shard)

    def __len__(self) -> int:
        return len(self._planned)

    def __iter__(self) -> Iterator[Row]:
        return map(self._draft, self._planned)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Row, ...]: ...
    def __getitem__(self, index: int | slice) -> Row | tuple[Row, ...]:
        """Return a row, or those of a slice as a tuple."""
        if isinstance(index, slice):
            return tuple(map(self._draft, self._planned[index]))
        return self._draft(self._planned[index])

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, DraftRows | tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def _draft(self, row: PlannedRow) -> Row:
        if is_unstored(row.sound):
            return _draft(row, MADE_PREFIX + row.front_end, 0)
        sound = (row.sound.audio, row.front_end)
        shards = self._shards[row.sound.home, row.clip.num_frames]
        shard = shards[bisect_right(shards, sound, key=_first_sound) - 1]
        return _draft(row, shard.path, bisect_left(shard.sounds, sound))


def _first_sound(shard: Shard) -> tuple[str, str]:
    return shard.sounds[0]


def lay_out(plan: Plan) -> Layout:
    """Return the files that `plan` needs, and its rows with the paths of theirs."""
    with without_cycles():
        return _lay_out(plan)


def _lay_out(plan: Plan) -> Layout:
    made: dict[str, MadeSound] = {}
    groups: dict[tuple[str, int], set[tuple[str, str]]] = {}
    for sound, num_frames, front_end in plan.rows.stored_sounds():
        groups.setdefault((sound.home, num_frames), set()).add((sound.audio, front_end))
        if isinstance(sound, MadeSound):
            made[sound.audio] = sound
    pictures = {entry.path: entry for row in plan.rows.held() if row.picture is not None for entry in row.picture.made}
    sounds = tuple(made[audio] for audio in sorted(made))
    made.clear()
    shards = tuple(_shards(groups))
    return Layout(
        sounds=sounds,
        shards=shards,
        pictures=tuple(pictures[path] for path in sorted(pictures)),
        rows=DraftRows(plan.rows, shards),
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


def _shards(groups: dict[tuple[str, int], set[tuple[str, str]]]) -> Iterable[Shard]:
    for home, num_frames in sorted(groups):
        ordered = sorted(groups.pop((home, num_frames)))
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

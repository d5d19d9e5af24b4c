"""A manifest as a `torch.utils.data.Dataset` and as a plain iterator, for people who write their own loops.

Conventions
    An item is a dictionary: frames uint8 [T, 3, H, W]; audio in the form requested (`avsrobust.evaluation.sound`); mask bool
    [T, h, w], the objects of the clip, on frames where has_mask (bool [T]) is True; target bool [T, h, w], the right answer of
    an audio-visual model: the mask under a positive condition, nothing under a negative one; and index, split, clip_id,
    condition, polarity. ``dataset.rows[item["index"]]`` is the manifest's row.
    With `image_size` (height, width) frames are resized bilinearly with antialiasing, masks to the nearest pixel.
    Items depend on the manifest, the seed and the epoch alone, not on the workers of a `DataLoader`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from avsrobust.adapters.base import AudioInput
from avsrobust.errors import OptionError, did_you_mean
from avsrobust.evaluation.clip_data import ClipRows, check_data, clips_of, load_clip
from avsrobust.evaluation.sound import SoundReader
from avsrobust.manifest import Manifest, Row, load_manifest
from avsrobust.plain_arguments import with_plain_arguments
from avsrobust.remote.inputs import local_data_root
from avsrobust.vocabulary import CLEAN, NEGATIVE

Item = dict[str, Any]
Audio = AudioInput | str


@dataclass(frozen=True)
class ClipItem:
    """One clip with the audio of all its conditions.

    Attributes:
        split: Split of the clip.
        clip_id: Id of the clip.
        labels: Categories of the clip.
        frames: uint8 [T, 3, H, W].
        mask: Objects of the clip, bool [T, h, w].
        has_mask: bool [T], whether a frame has a mask.
        audio: Audio by condition (``mixture@-5`` where the condition has a level, ``offscreen#1`` for a further draw).
    """

    split: str
    clip_id: str
    labels: tuple[str, ...]
    frames: Tensor
    mask: Tensor
    has_mask: Tensor
    audio: dict[str, Tensor]


class RobustDataset(Dataset[Item]):
    """The rows of a manifest; with `negatives`, its clean rows, a share of which gets negative audio instead.

    Args:
        manifest: A manifest or its path.
        split: A split or several; None: all.
        conditions: A condition or several; None: all.
        audio: "log_mel", "embedding" (needs `vggish`) or `AudioInput.waveform(rate)`.
        data_root: Folder of the data set; None: the one that the build remembers.
        image_size: Size of frames and masks, (height, width) or the side of a square; None: as they are stored.
        negatives: Probability in [0, 1] that a clip's audio is replaced by that of one of its negative rows, each equally likely,
            and its target by an empty one; drawn anew in every epoch (`set_epoch`) from (seed, epoch, index). None: no such draw,
            all rows are items.
        seed: Seed of that draw.
        vggish: File of VGGish's weights.
        check: Compare the data root with the manifest's fingerprint.

    Raises:
        OptionError: The selection has no rows.
        ManifestError: The data is not the manifest's.
    """

    @with_plain_arguments
    def __init__(
        self,
        manifest: Manifest | Path | str,
        *,
        split: str | Sequence[str] | None = None,
        conditions: str | Sequence[str] | None = None,
        audio: Audio = "log_mel",
        data_root: Path | str | None = None,
        image_size: int | tuple[int, int] | None = None,
        negatives: float | None = None,
        seed: int = 0,
        vggish: Path | str | None = None,
        check: bool = True,
    ) -> None:
        source = _Source.open(manifest, split, conditions, audio, data_root, vggish, check=check)
        self._source = source
        self._image_size = (image_size, image_size) if isinstance(image_size, int) else image_size
        self._seed = seed
        self._negatives: dict[tuple[str, str], tuple[Row, ...]] | None = None
        # In shared memory, so that the workers of a DataLoader, persistent ones too, learn of a new epoch.
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]
        rows = source.manifest.rows
        self._share = negatives or 0.0
        if negatives is not None:
            self._negatives = _negatives_of(source.manifest, negatives)
            rows = tuple(row for row in rows if row.condition == CLEAN)
        if not rows:
            raise OptionError(f"{source.manifest.path}: has no row of the chosen split and conditions; choose others")
        self.rows: Sequence[Row] = rows

    def set_epoch(self, epoch: int) -> None:
        """Draw the negatives of this epoch from now on."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Item:
        """Return one item (see the module's conventions).

        Raises:
            DataSetError: A picture cannot be read.
            AudioError: A sound cannot be read.
            ManifestError: A file is not the one that was built.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        index %= len(self)
        row = self._sound_row(index)
        sample = load_clip((row,), self._source.manifest, self._source.data_root)
        target = torch.zeros_like(sample.target) if row.polarity == NEGATIVE else sample.target.clone()
        frames, mask = sample.frames, sample.target
        if self._image_size is not None:
            frames = _resize(frames, self._image_size)
            mask, target = (_resize_mask(tensor, self._image_size) for tensor in (mask, target))
        return {
            "frames": frames,
            "audio": self._source.sounds.read(row),
            "mask": mask,
            "target": target,
            "has_mask": sample.has_mask,
            "index": index,
            "split": row.split,
            "clip_id": row.clip_id,
            "condition": row.condition,
            "polarity": row.polarity,
        }

    def _sound_row(self, index: int) -> Row:
        """Return the row whose sound item `index` has in this epoch."""
        row = self.rows[index]
        if self._negatives is None:
            return row
        generator = np.random.default_rng([self._seed, int(self._epoch), index])
        choices = self._negatives[row.split, row.clip_id]
        if generator.random() >= self._share or not choices:
            return row
        return choices[int(generator.integers(len(choices)))]


def iterate_clips(
    manifest: Manifest | Path | str,
    *,
    split: str | Sequence[str] | None = None,
    conditions: str | Sequence[str] | None = None,
    audio: Audio = "log_mel",
    data_root: Path | str | None = None,
    vggish: Path | str | None = None,
    check: bool = True,
) -> Iterator[ClipItem]:
    """Yield the clips of a manifest in order, pictures read once, with the audio of all conditions, clean first.

    The arguments and errors are those of `RobustDataset`.
    """
    source = _Source.open(manifest, split, conditions, audio, data_root, vggish, check=check)
    for clip in clips_of(source.manifest.rows):
        yield _clip_item(clip, source)


def _clip_item(clip: ClipRows, source: _Source) -> ClipItem:
    sample = load_clip(clip, source.manifest, source.data_root)
    first = clip[0]
    return ClipItem(
        split=first.split,
        clip_id=first.clip_id,
        labels=first.labels,
        frames=sample.frames,
        mask=sample.target,
        has_mask=sample.has_mask,
        audio={_condition_key(row): source.sounds.read(row) for row in clip},
    )


def _condition_key(row: Row) -> str:
    level = "" if row.level is None else f"@{row.level:g}"
    return f"{row.condition}{level}{f'#{row.draw}' if row.draw else ''}"


@dataclass(frozen=True)
class _Source:
    """A selection of a manifest's rows, and the readers of their files."""

    manifest: Manifest
    data_root: Path
    sounds: SoundReader

    @classmethod
    def open(
        cls,
        manifest: Manifest | Path | str,
        split: str | Sequence[str] | None,
        conditions: str | Sequence[str] | None,
        audio: Audio,
        data_root: Path | str | None,
        vggish: Path | str | None,
        *,
        check: bool,
    ) -> _Source:
        whole = manifest.from_here() if isinstance(manifest, Manifest) else load_manifest(manifest)
        chosen = whole.select(
            _chosen(whole, "split", split, set(whole.distinct("split"))),
            _chosen(whole, "condition", conditions, set(whole.distinct("condition"))),
        )
        # The fingerprints that are checked are those of whole splits.
        root = whole.data_root(local_data_root(data_root, [whole], chosen.distinct("split")))
        if check:
            check_data(whole, root, chosen.distinct("split"))
        # It is read for as long as the process lives, which may go to another folder.
        chosen, root = replace(chosen, path=chosen.path.absolute()), root.absolute()
        weights = None if vggish is None else Path(vggish).absolute()
        return cls(chosen, root, SoundReader(chosen, root, AudioInput.of(audio), weights))


def _chosen(manifest: Manifest, noun: str, names: str | Sequence[str] | None, there: set[str]) -> list[str] | None:
    if names is None:
        return None
    chosen = [names] if isinstance(names, str) else list(names)
    for name in chosen:
        if name not in there:
            raise OptionError(
                f"{manifest.path}: has no rows of {noun} '{name}'; it has {', '.join(sorted(there))}"
                f"{did_you_mean(name, there)}"
            )
    return chosen


def _negatives_of(manifest: Manifest, share: float) -> dict[tuple[str, str], tuple[Row, ...]]:
    """Return each clip's negative rows."""
    if not 0 <= share <= 1:
        raise OptionError(f"negatives: found {share}; expected a share of the clips, from 0 to 1")
    negatives = {
        (clip[0].split, clip[0].clip_id): tuple(row for row in clip if row.polarity == NEGATIVE)
        for clip in clips_of(manifest.rows)
    }
    if share > 0 and not any(negatives.values()):
        raise OptionError(f"{manifest.path}: has no negative rows among those chosen; choose more conditions")
    return negatives


def _resize(frames: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.nn.functional.interpolate(frames, size=size, mode="bilinear", align_corners=False, antialias=True)


def _resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.nn.functional.interpolate(mask[None].to(torch.uint8), size=size, mode="nearest-exact")[0].bool()

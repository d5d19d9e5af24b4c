"""The released AVSBench-Robust generator, draw for draw: for comparison with published numbers, not for new ones.

Source: jiali-home/AVSBench-Robust, dataset_generation/audio_processing.py at 03e925dc (`process_dataset`).

Conventions
    One sequence of Python's `random` (Mersenne Twister, `random.choice`) gives the partners and one sequence of numpy's
    legacy generator the noise; both go through the splits test, train, val and through each split's sorted listing. Thus
    a clip's sounds depend on every clip before it. Nothing is drawn from global state here.
    A `ReleasedListing` is what the generator finds on disk; stems are file names without ".wav".
    The release names four broad kinds for 23 S4 categories and 22 objects of MS3, and maps nothing else. Its quirks are
    kept: MS3 rows without a mapped object are candidates for everyone, partners may be absent, fallbacks may share a kind.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avsrobust.clips import Clip
from avsrobust.datasets.taxonomy import (
    AVSS_SUPERCATEGORY,
    BACKGROUND,
    LEAST_SUITABLE,
    S4_SUPERCATEGORY,
    SUPERCATEGORIES,
)
from avsrobust.errors import RecipeError

AUDIO_FOLDER = "audio_wav"
SPLIT_ORDER = ("test", "train", "val")
# numpy's legacy seeding takes 32 bits.
HIGHEST_SEED = 2**32 - 1
NOISE_RATE = 44100
SILENCE_DURATION_MS = 5000
# 5 s of float64 noise, whose bytes were taken for 16-bit samples: four samples, and 20 s, for the price of 5 s.
_NOISE_DRAWS = 5 * NOISE_RATE
NOISE_SAMPLES = _NOISE_DRAWS * 4

# The objects that the release maps; AVSBench-semantic has more.
MS3_OBJECTS = frozenset(
    (
        "guitar", "tabla", "violin", "ukulele", "piano", "marimba",
        "man", "woman", "baby",
        "dog", "cat", "lion", "bird", "wolf",
        "mower", "background", "bus", "car", "gun", "saw", "emergency-car", "keyboard",
    )
)  # fmt: skip
# S4's table excludes "vehicle" for "device", a kind that no category has; so devices exclude nothing.
_S4_LEAST_SUITABLE = {"music": "human", "human": "music", "animal": "human"}


@dataclass(frozen=True)
class S4Listing:
    """S4's sounds: ``tree[split][category]`` holds the stems."""

    tree: Mapping[str, Mapping[str, tuple[str, ...]]]


@dataclass(frozen=True)
class Ms3Record:
    """A row of metadata.csv with label v1m: `objects` is the column a_obj, split at "_"."""

    vid: str
    split: str
    objects: tuple[str, ...]


@dataclass(frozen=True)
class Ms3Listing:
    """MS3's metadata in the file's own order, and its sounds: ``wavs[split]`` holds the stems."""

    metadata: tuple[Ms3Record, ...]
    wavs: Mapping[str, tuple[str, ...]]


ReleasedListing = S4Listing | Ms3Listing


def partners(listing: ReleasedListing, seed: int) -> dict[str, dict[str, str]]:
    """Return ``[split][key] = key`` of the sound that each sound is replaced by; keys as in `sound_keys`.

    Sounds that the generator gives no partner are absent.
    """
    generator = random.Random(seed)
    if isinstance(listing, S4Listing):
        return {split: dict(_s4_partners(listing.tree.get(split, {}), generator)) for split in SPLIT_ORDER}
    return {split: dict(_ms3_partners(listing, split, generator)) for split in SPLIT_ORDER}


def sound_keys(listing: ReleasedListing, split: str) -> tuple[str, ...]:
    """Return the sounds of a split in the generator's order: "category/stem" (S4) or the stem (MS3)."""
    if isinstance(listing, S4Listing):
        tree = listing.tree.get(split, {})
        return tuple(f"{category}/{stem}" for category in sorted(tree) for stem in _sorted(tree[category]))
    return tuple(_sorted(listing.wavs.get(split, ())))


def noise_order(listing: ReleasedListing) -> dict[tuple[str, str], int]:
    """Return for each (split, key) how many noises are drawn before its own."""
    order = [(split, key) for split in SPLIT_ORDER for key in sound_keys(listing, split)]
    return {entry: index for index, entry in enumerate(order)}


def sound_key(clip: Clip) -> str:
    """Return the key of a clip's sound: where it lies below ``audio_wav/<split>/``, without ".wav".

    In the semantic release's form the sound is called audio.wav everywhere; there the clip's name stands in.

    >>> from avsrobust.clips import SoundHeader
    >>> audio = "Single-source/s4_data/audio_wav/test/race_car/x_1.wav"
    >>> sound_key(Clip("s4", "test", "x_1", ("race_car",), ("device",), (), (), audio, SoundHeader(44100, 1, 1, "PCM_16")))
    'race_car/x_1'
    """
    _, found, below = clip.audio.rpartition(f"/{AUDIO_FOLDER}/{clip.split}/")
    if found:
        return below.removesuffix(".wav")
    name = clip.clip_id.rpartition("/")[2]
    return f"{_objects(clip)[0]}/{name}" if clip.dataset == "s4" else name


def listing_of(clips: Iterable[Clip]) -> ReleasedListing:
    """Return the listing as the table of clips has it, for trees that the released generator cannot read.

    Raises `RecipeError` for AVSS, which the released generator does not know.
    """
    ordered = sorted(clips, key=lambda clip: (clip.split, clip.clip_id))
    if any(clip.dataset not in ("s4", "ms3") for clip in ordered):
        raise RecipeError(
            f"--recipe: found generator: released with the data set {ordered[0].dataset}; "
            "expected s4 or ms3, which is what the released generator covers; use --recipe standard"
        )
    if any(clip.dataset == "s4" for clip in ordered):
        tree: dict[str, dict[str, tuple[str, ...]]] = {}
        for clip in ordered:
            category, _, stem = sound_key(clip).rpartition("/")
            of_split = tree.setdefault(clip.split, {})
            of_split[category] = (*of_split.get(category, ()), stem)
        return S4Listing(tree)
    wavs: dict[str, tuple[str, ...]] = {}
    for clip in ordered:
        wavs[clip.split] = (*wavs.get(clip.split, ()), sound_key(clip))
    return Ms3Listing(tuple(Ms3Record(sound_key(clip), clip.split, _objects(clip)) for clip in ordered), wavs)


def _objects(clip: Clip) -> tuple[str, ...]:
    # The release takes "background", which AVSBench-semantic's table says of MS3 clips without an on-screen label, for an object.
    return (BACKGROUND,) if clip.has_no_label else clip.labels


def silence() -> tuple[NDArray[np.int16], int]:
    """Return the released silence, int16 [55125], and its rate: pydub's default of 11025 Hz, whatever the clips have."""
    rate = 11025
    return np.zeros(rate * SILENCE_DURATION_MS // 1000, dtype=np.int16), rate


def noise(state: NoiseState) -> NDArray[np.int16]:
    """Return one noise, int16 [882000] at 44.1 kHz, from the generator's state before it.

    The bytes of float64 values in [-1, 1), read as 16-bit samples: every fourth sample holds sign and exponent.
    """
    values = state.generator().uniform(-1, 1, _NOISE_DRAWS)
    return values.astype("<f8").view("<i2").astype(np.int16)


@dataclass(frozen=True)
class NoiseState:
    """The state of numpy's legacy generator before one noise: the twister's 624 words (bytes) and its position."""

    words: bytes
    position: int

    @classmethod
    def of(cls, generator: np.random.RandomState) -> NoiseState:
        """Take the state of `generator`."""
        _, words, position, *_ = generator.get_state(legacy=True)
        return cls(np.asarray(words, dtype="<u4").tobytes(), int(position))

    def generator(self) -> np.random.RandomState:
        """Return a generator in this state."""
        generator = np.random.RandomState()
        generator.set_state(("MT19937", np.frombuffer(self.words, dtype="<u4"), self.position, 0, 0.0))
        return generator


def noise_states(seed: int, orders: Sequence[int]) -> dict[int, NoiseState]:
    """Return the states before the noises number `orders`, in one pass over the sequence, for workers to start from."""
    generator = np.random.RandomState(seed)
    states: dict[int, NoiseState] = {}
    drawn = 0
    for order in sorted(set(orders)):
        while drawn < order:
            generator.random_sample(_NOISE_DRAWS)
            drawn += 1
        states[order] = NoiseState.of(generator)
    return states


def _sorted(stems: Sequence[str]) -> list[str]:
    # As file names sort: "a-b.wav" comes before "a.wav".
    return sorted(stems, key=lambda stem: f"{stem}.wav")


def _s4_partners(tree: Mapping[str, tuple[str, ...]], generator: random.Random) -> Iterator[tuple[str, str]]:
    categories = sorted(tree)
    of_kind = {
        kind: [category for category in categories if S4_SUPERCATEGORY.get(category) == kind]
        for kind in SUPERCATEGORIES
    }
    for category in categories:
        kind = S4_SUPERCATEGORY.get(category)
        for stem in _sorted(tree[category]):
            eligible: list[str] = []
            if kind is not None:
                excluded = (kind, _S4_LEAST_SUITABLE.get(kind))
                eligible = [name for other, names in of_kind.items() if other not in excluded for name in names]
            eligible = eligible or [other for other in categories if other != category]
            if not eligible:
                continue
            source = generator.choice(eligible)
            if tree[source]:
                yield f"{category}/{stem}", f"{source}/{generator.choice(_sorted(tree[source]))}"


def _ms3_partners(listing: Ms3Listing, split: str, generator: random.Random) -> Iterator[tuple[str, str]]:
    rows = [(record.vid, _ms3_kinds(record.objects)) for record in listing.metadata if record.split == split]
    stems = _sorted(listing.wavs.get(split, ()))
    for vid in stems:
        kinds = next((kinds for other, kinds in rows if other == vid), frozenset())
        if not kinds:
            continue
        unsuitable = {LEAST_SUITABLE[kind] for kind in kinds}
        candidates = [other for other, its in rows if other != vid and not its & kinds and not its & unsuitable]
        candidates = candidates or [other for other, _ in rows if other != vid]
        if not candidates:
            continue
        source = generator.choice(candidates)
        if source in stems:
            yield vid, source


def _ms3_kinds(objects: Sequence[str]) -> frozenset[str]:
    return frozenset(AVSS_SUPERCATEGORY[name] for name in objects if name in MS3_OBJECTS)

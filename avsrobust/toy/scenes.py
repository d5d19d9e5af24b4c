"""The plan of a clip: its objects, how they move, and the seconds in which each of them sounds.

Conventions
    Objects bear AVSBench-semantic's names. Clip i of a part is about object ``i % len(objects)`` of the part's list; the
    lists go round the four supercategories, so that few clips already hold all of them. Splits follow the index alone:
    60 % train, 15 % val, 25 % test, an object's clips never twice in a row outside train.
    The toy has three parts. `single`: one object that sounds all the time, now and then a small silent one next to it (S4,
    AVSS v1s). `multi`: two or three objects, some of which sound for some of the time (MS3, AVSS v1m). `open`: the same
    with one to three objects, 10 s and other sizes (AVSS v2). A scene depends on (seed, part, index) alone: there is one
    generator per (seed, part, clip, purpose), so that no draw can disturb another.
    Frame k shows second k. `sounding[k]` says whether the object sounds in it: the masks of second k mark the visible
    pixels of exactly these objects. Actors are listed from back to front. Sizes in pixels, times in seconds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import combinations
from math import exp, hypot, log, pi, sin, sqrt

import numpy as np

from avsrobust.datasets.taxonomy import AVSS_SUPERCATEGORY
from avsrobust.toy.looks import LOOKS
from avsrobust.toy.looks.base import Look
from avsrobust.toy.painting import Pose, Tint, unit_area


def _names(names: str) -> tuple[str, ...]:
    return tuple(names.split())


SINGLE_OBJECTS = _names(
    "guitar dog helicopter man violin cat car woman piano bird emergency-car baby "
    "ukulele lion bus tabla wolf keyboard marimba horse saw mower gun"
)
# AVSBench-Robust knows a supercategory for these of MS3's objects (dataset_generation/audio_processing.py, `ms3`), no others.
MULTI_OBJECTS = tuple(name for name in SINGLE_OBJECTS if name not in ("helicopter", "horse"))
OPEN_OBJECTS = _names(
    "flute elephant vacuum-cleaner girl trumpet sheep hair-dryer man guitar dog frying-food woman "
    "violin cat missile-rocket baby piano bird helicopter ukulele lion car tabla wolf emergency-car "
    "marimba horse bus keyboard saw mower gun"
)

_SPLITS = {"T": "train", "V": "val", "E": "test"}
_TURNS = "TETVTTETTVTETTETVTET"
OBJECTS = {"single": SINGLE_OBJECTS, "multi": MULTI_OBJECTS, "open": OPEN_OBJECTS}
SQUARE = (224, 224)
OPEN_SIZES = ((320, 180), (288, 216), (240, 240), (208, 272))

# AVSBench cuts S4's clips out of 10 s: what starts after 5 s is shorter than 5 s (preprocess_s4.py, `t`).
_SOURCE_S = 10
_SHORT_EVERY, _SHORT_AT = 25, 17

_SILENT_NEIGHBOUR = 0.12
_AKIN = 0.5
_AREAS = {1: (0.06, 0.33), 2: (0.05, 0.2), 3: (0.04, 0.13)}
_NEIGHBOUR_AREA = (0.02, 0.035)
_LARGEST_UNIT = 0.5
_TRIES = 25


@dataclass(frozen=True)
class Actor:
    """One object in a scene: its pose and whether it sounds, per frame."""

    name: str
    poses: tuple[Pose, ...]
    tint: Tint
    sounding: tuple[bool, ...]


@dataclass(frozen=True)
class Scene:
    """One clip before it is drawn. `labels` names the objects that sound at some time, the clip's own object first."""

    seed: int
    part: str
    index: int
    split: str
    width: int
    height: int
    labels: tuple[str, ...]
    actors: tuple[Actor, ...]
    start_s: int
    sound_s: int

    @property
    def num_frames(self) -> int:
        """Number of frames, one per second of the picture."""
        return len(self.actors[0].poses)


def object_at(objects: tuple[str, ...], index: int) -> str:
    """Return the object that clip `index` is about.

    >>> object_at(SINGLE_OBJECTS, 0), object_at(SINGLE_OBJECTS, 23)
    ('guitar', 'guitar')
    """
    return objects[index % len(objects)]


def split_at(objects: tuple[str, ...], index: int) -> str:
    """Return the split of clip `index`: each round through `objects` starts one turn later.

    >>> [split_at(SINGLE_OBJECTS, index) for index in range(5)]
    ['train', 'test', 'train', 'val', 'train']
    """
    return _SPLITS[_TURNS[(index % len(objects) + index // len(objects)) % len(_TURNS)]]


def generator(seed: int, part: str, index: int, purpose: str) -> np.random.Generator:
    """Return the generator for one purpose in one clip; the same arguments give the same numbers.

    >>> float(generator(0, "single", 3, "plan").random()) == float(generator(0, "single", 3, "plan").random())
    True
    """
    key = f"avsrobust.toy.1/{seed}/{part}/{index}/{purpose}".encode()
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(key).digest()[:16], "big")))


def plan_scene(part: str, seed: int, index: int) -> Scene:
    """Return scene `index` of a part (`single`, `multi` or `open`)."""
    rng = generator(seed, part, index, "plan")
    objects = OBJECTS[part]
    num_frames = 10 if part == "open" else 5
    width, height = OPEN_SIZES[int(rng.integers(len(OPEN_SIZES)))] if part == "open" else SQUARE
    names = _cast(rng, part, object_at(objects, index))
    sounding = _turns(rng, part, len(names), num_frames)
    areas = _areas(rng, part, len(names))
    paths = _paths(rng, names, areas, num_frames, width, height)
    actors = [Actor(names[i], paths[i], _tint(rng), sounding[i]) for i in range(len(names))]
    depth = rng.permutation(len(actors))
    start_s, sound_s = _times(rng, part, index, num_frames)
    return Scene(
        seed=seed,
        part=part,
        index=index,
        split=split_at(objects, index),
        width=width,
        height=height,
        labels=tuple(actor.name for actor in actors if any(actor.sounding)),
        actors=tuple(actors[i] for i in depth),
        start_s=start_s,
        sound_s=sound_s,
    )


def _cast(rng: np.random.Generator, part: str, first: str) -> list[str]:
    """Return the objects in the picture, the one that the clip is about first."""
    if part == "single":
        count = 1 + int(rng.random() < _SILENT_NEIGHBOUR)
    elif part == "multi":
        count = 2 + int(rng.random() < 0.4)
    else:
        count = 1 + int(rng.choice(3, p=(0.2, 0.5, 0.3)))
    others = [name for name in sorted(OBJECTS[part]) if name != first]
    akin = [name for name in others if AVSS_SUPERCATEGORY[name] == AVSS_SUPERCATEGORY[first]]
    cast = [first]
    for _ in range(count - 1):
        candidates = akin if rng.random() < _AKIN else others
        left = [name for name in candidates if name not in cast]
        cast.append(left[int(rng.integers(len(left)))])
    return cast


def _turns(rng: np.random.Generator, part: str, objects: int, seconds: int) -> list[tuple[bool, ...]]:
    """Return for every object in which seconds it sounds; not all of several objects all the time."""
    silent = (False,) * seconds
    if part == "single":
        return [(True,) * seconds, *[silent] * (objects - 1)]
    share = {1: (1.0,), 2: (0.45, 0.55), 3: (0.3, 0.5, 0.2)}[objects]
    loud = 1 + int(rng.choice(objects, p=share))
    while True:
        turns = [_interval(rng, seconds, 0.5 if loud == 1 else 0.2) for _ in range(loud)] + [silent] * (objects - loud)
        if objects == 1 or not all(map(all, turns)):
            return turns


def _interval(rng: np.random.Generator, seconds: int, whole: float) -> tuple[bool, ...]:
    """Return one run of sounding seconds; the whole clip with probability `whole`."""
    if rng.random() < whole:
        return (True,) * seconds
    length = int(rng.integers((2 * seconds + 4) // 5, seconds))
    start = int(rng.integers(0, seconds - length + 1))
    return tuple(start <= second < start + length for second in range(seconds))


def _areas(rng: np.random.Generator, part: str, objects: int) -> list[float]:
    """Return the share of the picture that each object is to cover."""
    alike = [_AREAS[objects]] * objects
    ranges = [_AREAS[1], *[_NEIGHBOUR_AREA] * (objects - 1)] if part == "single" else alike
    return [exp(rng.uniform(log(low), log(high))) for low, high in ranges]


def _paths(
    rng: np.random.Generator, names: list[str], areas: list[float], frames: int, width: int, height: int
) -> list[tuple[Pose, ...]]:
    """Return a path per object; objects may overlap, but not hide each other."""
    wanted = rng.uniform(0.65, 1.15)
    best: tuple[float, list[tuple[Pose, ...]]] = (-1.0, [])
    for _ in range(_TRIES):
        paths = [_path(rng, LOOKS[name], area, frames, width, height) for name, area in zip(names, areas, strict=True)]
        radii = [sqrt(area * width * height / pi) for area in areas]
        gap = min(
            (_gap(paths[i], paths[j], radii[i] + radii[j]) for i, j in combinations(range(len(names)), 2)), default=9
        )
        if gap >= wanted:
            return paths
        best = max(best, (gap, paths), key=lambda found: found[0])
    return best[1]


def _gap(one: tuple[Pose, ...], other: tuple[Pose, ...], reach: float) -> float:
    """Return the smallest distance of two paths in units of `reach`."""
    return min(hypot(a.x - b.x, a.y - b.y) for a, b in zip(one, other, strict=True)) / reach


def _path(rng: np.random.Generator, look: Look, area: float, frames: int, width: int, height: int) -> tuple[Pose, ...]:
    """Return the poses of one object, moving in its own way from a random place on."""
    shorter = min(width, height)
    unit = min(sqrt(area * width * height / unit_area(look)), _LARGEST_UNIT * shorter)
    x, y = (rng.uniform(min(0.7 * unit, 0.5 * side), max(side - 0.7 * unit, 0.5 * side)) for side in (width, height))
    heading, phase = rng.uniform(0, 2 * pi), rng.uniform(0, 2 * pi)
    reach = shorter * rng.uniform(0.04, 0.09)
    turn, stretch = rng.uniform(-look.turn_deg, look.turn_deg), exp(rng.uniform(-0.1, 0.1))
    mirrored = bool(rng.random() < 0.5)
    poses = []
    for second in range(frames):
        dx, dy, wobble, zoom = _step(look.motion, second, frames, heading, phase)
        size = unit * zoom
        poses.append(
            Pose(
                x=_kept_inside(x + reach * dx, size, width),
                y=_kept_inside(y + reach * dy, size, height),
                unit=size,
                turn_deg=turn + wobble,
                stretch=stretch,
                mirrored=mirrored,
            )
        )
    return tuple(poses)


def _step(motion: str, second: int, frames: int, heading: float, phase: float) -> tuple[float, float, float, float]:
    """Return the offset (in units of the reach), the extra turn in degrees and the zoom of one frame."""
    middle = second - (frames - 1) / 2
    swing = 1.3 * second + phase
    match motion:
        case "drift":
            return middle * sin(heading + pi / 2), 0.4 * middle * sin(heading), 0.0, 1.0
        case "bounce":
            return 0.6 * middle * sin(heading), -1.8 * abs(sin(swing)), 4 * sin(swing), 1.0
        case "sway":
            return 1.5 * sin(swing), 0.3 * sin(2 * swing), 9 * sin(swing), 1.0
        case "orbit":
            return 1.4 * sin(swing), 1.4 * sin(swing + pi / 2), 5 * sin(swing), 1.0
        case "shake":
            return 0.4 * sin(4.1 * swing), 0.4 * sin(5.3 * swing), 12 * sin(3.7 * swing), 1.0
        case "approach":
            return 0.3 * middle * sin(heading), 0.2 * sin(swing), 2 * sin(swing), 1.0 + 0.14 * middle * 4 / (frames - 1)
        case _:
            raise ValueError(f"unknown motion {motion!r}")


def _kept_inside(centre: float, unit: float, length: int) -> float:
    """Return `centre`, moved so that most of the object stays in the picture."""
    margin = min(0.85 * unit, length / 2)
    return min(max(centre, margin), length - margin)


def _tint(rng: np.random.Generator) -> Tint:
    brightness = rng.uniform(0.82, 1.1)
    red, green, blue = brightness * rng.uniform(0.92, 1.08, size=3)
    return Tint((float(red), float(green), float(blue)), float(rng.random()))


def _times(rng: np.random.Generator, part: str, index: int, frames: int) -> tuple[int, int]:
    """Return where the clip starts in its source and how long its sound is."""
    if part != "single":
        return int(rng.integers(0, 180)), frames
    if index % _SHORT_EVERY == _SHORT_AT:
        start_s = int(rng.integers(6, 8))
        return start_s, _SOURCE_S - start_s
    return int(rng.integers(0, 6)), frames

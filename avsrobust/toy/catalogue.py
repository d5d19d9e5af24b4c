"""Which objects the toy knows, what S4 calls them, and in which turn they come.

Conventions
    Objects bear AVSBench-semantic's names. An *order* lists the objects of one part of the toy; clip i of that part is about
    ``order[i % len(order)]``. Orders go round the four broad kinds, so that few clips already hold all of them.
    Splits follow the index alone: 60 % train, 15 % val, 25 % test, an object's clips never twice in a row outside train.
"""

from __future__ import annotations


def _order(names: str) -> tuple[str, ...]:
    return tuple(names.split())


SINGLE_ORDER = _order(
    "guitar dog helicopter man violin cat car woman piano bird emergency-car baby "
    "ukulele lion bus tabla wolf keyboard marimba horse saw mower gun"
)
# AVSBench-Robust knows a kind for these of MS3's objects (dataset_generation/audio_processing.py, `ms3`), no others.
MULTI_ORDER = tuple(name for name in SINGLE_ORDER if name not in ("helicopter", "horse"))
OPEN_ORDER = _order(
    "flute elephant vacuum-cleaner girl trumpet sheep hair-dryer man guitar dog frying-food woman "
    "violin cat missile-rocket baby piano bird helicopter ukulele lion car tabla wolf emergency-car "
    "marimba horse bus keyboard saw mower gun"
)

_SPLITS = {"T": "train", "V": "val", "E": "test"}
_TURNS = "TETVTTETTVTETTETVTET"


def object_at(order: tuple[str, ...], index: int) -> str:
    """Return the object that clip `index` is about.

    >>> object_at(SINGLE_ORDER, 0), object_at(SINGLE_ORDER, 23)
    ('guitar', 'guitar')
    """
    return order[index % len(order)]


def split_at(order: tuple[str, ...], index: int) -> str:
    """Return the split of clip `index`: each round through `order` starts one turn later.

    >>> [split_at(SINGLE_ORDER, index) for index in range(5)]
    ['train', 'test', 'train', 'val', 'train']
    """
    return _SPLITS[_TURNS[(index % len(order) + index // len(order)) % len(_TURNS)]]

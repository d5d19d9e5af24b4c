"""Categories of AVSBench and their broad kinds: music, human, animal, device.

Conventions
    S4 has its own 23 category names; MS3 and AVSS share AVSBench-semantic's 70 names and ``background``. A *style* says
    which names are meant: ``s4``, ``ms3`` or ``avss`` (the last two are the same).
    `AVSS_CLASSES[i]` is the name of class id i, 0..70, as AVSS masks hold it; ``label2idx.json`` counts from 1.
    The kinds of S4's and MS3's names are those of AVSBench-Robust (dataset_generation/audio_processing.py
    `get_semantic_category`), ``background`` -> device included; the other AVSS names are sorted by the same idea.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from avsrobust.errors import DataSetError, OptionError, did_you_mean

BROAD_KINDS = ("music", "human", "animal", "device")

# The kind that contrasts least with the key, so that it is no source of off-screen sounds for it (CONTRACT.md section 5;
# AVSBench-Robust, dataset_generation/audio_processing.py `least_suitable_contrast` of MS3).
LEAST_SUITABLE: Mapping[str, str] = MappingProxyType(
    {"music": "human", "human": "music", "animal": "human", "device": "music"}
)

# AVSBench-semantic's label2idx.json, in its order.
_AVSS_CLASSES = """
    background accordion airplane axe baby bassoon bell bird boat boy bus car cat cello clarinet clipper clock dog donkey
    drum duck elephant emergency-car erhu flute frying-food girl goose guitar gun guzheng hair-dryer handpan harmonica
    harp helicopter hen horse keyboard leopard lion man marimba missile-rocket motorcycle mower parrot piano pig pipa saw
    saxophone sheep sitar sorna squirrel tabla tank tiger tractor train trombone truck trumpet tuba ukulele utv
    vacuum-cleaner violin wolf woman
"""
AVSS_CLASSES = tuple(_AVSS_CLASSES.split())
BACKGROUND = AVSS_CLASSES[0]


def _by_name(**names: str) -> Mapping[str, str]:
    """Turn lists of names per kind into a kind per name."""
    return MappingProxyType({name: kind for kind, listed in names.items() for name in listed.split()})


S4_KINDS = _by_name(
    music="""
    playing_acoustic_guitar playing_glockenspiel playing_piano playing_tabla playing_ukulele playing_violin
    """,
    human="baby_laughter female_singing male_speech",
    animal="cat_meowing coyote_howling dog_barking horse_clip-clop lions_roaring mynah_bird_singing",
    device="""
    ambulance_siren cap_gun_shooting chainsawing_trees driving_buses helicopter lawn_mowing race_car
    typing_on_computer_keyboard
    """,
)

AVSS_KINDS = _by_name(
    music="""
    accordion bassoon bell cello clarinet drum erhu flute guitar guzheng handpan harmonica harp marimba piano pipa
    saxophone sitar sorna tabla trombone trumpet tuba ukulele violin
    """,
    human="baby boy girl man woman",
    animal="""
    bird cat dog donkey duck elephant goose hen horse leopard lion parrot pig sheep squirrel tiger wolf
    """,
    device="""
    airplane axe background boat bus car clipper clock emergency-car frying-food gun hair-dryer helicopter keyboard
    missile-rocket motorcycle mower saw tank tractor train truck utv vacuum-cleaner
    """,
)

_STYLES: Mapping[str, Mapping[str, str]] = MappingProxyType({"s4": S4_KINDS, "ms3": AVSS_KINDS, "avss": AVSS_KINDS})


# S4 names sounds, AVSBench-semantic their sources; the pairs are those that the clips both releases share were given.
S4_CATEGORY: Mapping[str, str] = MappingProxyType(
    {
        "baby": "baby_laughter",
        "bird": "mynah_bird_singing",
        "bus": "driving_buses",
        "car": "race_car",
        "cat": "cat_meowing",
        "dog": "dog_barking",
        "emergency-car": "ambulance_siren",
        "guitar": "playing_acoustic_guitar",
        "gun": "cap_gun_shooting",
        "helicopter": "helicopter",
        "horse": "horse_clip-clop",
        "keyboard": "typing_on_computer_keyboard",
        "lion": "lions_roaring",
        "man": "male_speech",
        "marimba": "playing_glockenspiel",
        "mower": "lawn_mowing",
        "piano": "playing_piano",
        "saw": "chainsawing_trees",
        "tabla": "playing_tabla",
        "ukulele": "playing_ukulele",
        "violin": "playing_violin",
        "wolf": "coyote_howling",
        "woman": "female_singing",
    }
)


def kinds_of_style(style: str) -> Mapping[str, str]:
    """Return the broad kind of every category name of a style. Raises `OptionError` for an unknown style."""
    if style not in _STYLES:
        raise OptionError(f"style: found '{style}'; expected one of {', '.join(_STYLES)}{did_you_mean(style, _STYLES)}")
    return _STYLES[style]


def unknown_categories(style: str, labels: Iterable[str]) -> tuple[str, ...]:
    """Return the labels that are no category of the style, in their order.

    >>> unknown_categories("avss", ["dog", "dgo"])
    ('dgo',)
    """
    kinds = kinds_of_style(style)
    return tuple(label for label in labels if label not in kinds)


def broad_kinds(style: str, labels: Iterable[str]) -> tuple[str, ...]:
    """Return the broad kinds of a clip's labels, each once, in the order of `BROAD_KINDS`.

    Raises `DataSetError` for a label that is no category of the style, `OptionError` for an unknown style.

    >>> broad_kinds("avss", ["car", "man", "woman"])
    ('human', 'device')
    """
    labels = tuple(labels)
    kinds = kinds_of_style(style)
    for label in unknown_categories(style, labels):
        raise DataSetError(f"found the category '{label}'; expected a category of {style}{did_you_mean(label, kinds)}")
    present = {kinds[label] for label in labels}
    return tuple(kind for kind in BROAD_KINDS if kind in present)

"""Categories of AVSBench and their supercategories: music, human, animal, device.

Conventions
    S4 has its own 23 category names (`S4_CATEGORIES`); MS3 and AVSS share AVSBench-semantic's 70 names and ``background``
    (`AVSS_CATEGORIES`). Data sets of plug-ins bring `Categories` of their own.
    `AVSS_CLASSES[i]` is the name of class id i, 0..70, as AVSS masks hold it; ``label2idx.json`` counts from 1.
    The supercategories of S4's and MS3's names are those of AVSBench-Robust (dataset_generation/audio_processing.py
    `get_semantic_category`), ``background`` -> device included; the other AVSS names are sorted by the same idea.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from avsrobust.errors import DataSetError, did_you_mean

SUPERCATEGORIES = ("music", "human", "animal", "device")

# The supercategory that contrasts least with the key, so that it is no source of off-screen sounds for it (CONTRACT.md section 5;
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
OFF_THE_SCREEN = "off-the-screen"


def _by_name(**names: str) -> Mapping[str, str]:
    """Turn lists of names per supercategory into a supercategory per name."""
    return MappingProxyType({name: supercategory for supercategory, listed in names.items() for name in listed.split()})


S4_SUPERCATEGORY = _by_name(
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

AVSS_SUPERCATEGORY = _by_name(
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


@dataclass(frozen=True)
class Categories:
    """The category names of a data set.

    Attributes:
        supercategory: Supercategory of each category: one of `SUPERCATEGORIES`, or another name.
        title: A noun for messages.
        no_label: Labels which say that nothing on screen makes a sound. Such a label stands alone.
    """

    supercategory: Mapping[str, str]
    title: str = "the data set's categories"
    no_label: frozenset[str] = frozenset()

    def unknown(self, labels: Iterable[str]) -> tuple[str, ...]:
        """Return the labels that are no category, in their order.

        >>> AVSS_CATEGORIES.unknown(["dog", "dgo"])
        ('dgo',)
        """
        return tuple(label for label in labels if label not in self.supercategory)

    def supercategories(self, labels: Iterable[str]) -> tuple[str, ...]:
        """Return the supercategories of a clip's labels, each once: in the order of `SUPERCATEGORIES`, then others sorted.

        Raises:
            DataSetError: A label is no category.

        >>> AVSS_CATEGORIES.supercategories(["car", "man", "woman"])
        ('human', 'device')
        """
        labels = tuple(labels)
        for label in self.unknown(labels):
            hint = did_you_mean(label, self.supercategory)
            raise DataSetError(f"found the category '{label}'; expected one of {self.title}{hint}")
        present = {self.supercategory[label] for label in labels}
        return (
            *(name for name in SUPERCATEGORIES if name in present),
            *sorted(present.difference(SUPERCATEGORIES)),
        )


S4_CATEGORIES = Categories(S4_SUPERCATEGORY, "S4's 23 categories")
# MS3 and AVSS.
AVSS_CATEGORIES = Categories(
    AVSS_SUPERCATEGORY, "AVSBench-semantic's 70 categories", no_label=frozenset((OFF_THE_SCREEN, BACKGROUND))
)

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

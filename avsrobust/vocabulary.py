"""The names that manifests, results, options and messages share, and how numbers of things are said. Imports nothing.

Conventions
    One id per thing and no aliases, but for the data sets' names in AVSBench-semantic (`ALIASES`).
    Conditions beyond these, and baselines of a user's, come from plug-ins; the names here are those that a definition
    (of G, of a data set, of a task) rests on.
"""

from __future__ import annotations

# Data sets, splits, and the forms in which AVSBench was released: AVSBench-object, and AVSBench-semantic, which holds S4 and
# MS3 too (rows v1s, v1m), with other masks.
DATASETS = ("s4", "ms3", "avss")
ALIASES = {"v1s": "s4", "v1m": "ms3", "v2": "avss"}
SPLITS = ("train", "val", "test")
OBJECT_RELEASE = "object"
SEMANTIC_RELEASE = "semantic"
RELEASES = (OBJECT_RELEASE, SEMANTIC_RELEASE)
# The data set whose masks hold class ids.
CLASS_DATASET = "avss"

# Whether the objects in the picture make the sound, or none of them does.
POSITIVE = "positive"
NEGATIVE = "negative"

# The clip's own audio, and the negative conditions that the G scores average over (AVSBench-Robust).
CLEAN = "clean"
NEGATIVES = ("silence", "noise", "offscreen")

# Rules by which a binary mask is read: any pixel that is not black is foreground, or, of masks of grey values, any above half.
NON_ZERO = "non-zero"
ABOVE_HALF = "above half"
FOREGROUND_RULES = (NON_ZERO, ABOVE_HALF)

# Segmentation per class, or foreground against background.
SEMANTIC = "semantic"
BINARY = "binary"
TASKS = (SEMANTIC, BINARY)

# AVSBench, avs_scripts/avss/config.py: NUM_CLASSES, background included.
NUM_CLASSES = 71
BACKGROUND = 0

# Adapters that are no models, but reference points with known scores.
BASELINES = ("oracle", "visual_prior", "empty", "presence", "match_gate")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as messages for people have it.

    >>> counted(1, "clip"), counted(0, "class"), counted(2_000, "category"), counted(2, "key")
    ('1 clip', '0 classes', '2,000 categories', '2 keys')
    """
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{number:,} {noun[:-1]}ies"
    return f"{number:,} {noun}{'es' if noun.endswith(('s', 'x', 'ch', 'sh')) else 's'}"

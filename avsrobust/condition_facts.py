"""Facts about conditions that manifests and results keep, so that nobody need import a condition to know them.

Conventions
    Facts are plain JSON types: `polarity`, `levels` (None: no level), `level_unit` and `draws`.
"""

from __future__ import annotations

import math
from typing import Any

from avsrobust.files import is_safe_name
from avsrobust.vocabulary import CLEAN, NEGATIVE, NEGATIVES, POSITIVE

_MOST_DRAWS = 1000

# Facts about the conditions of the recipes `standard` and `reference`; of all others a manifest says them itself.
BASIC_FACTS = {
    name: {"polarity": POSITIVE if name == CLEAN else NEGATIVE, "levels": [None], "level_unit": None, "draws": 1}
    for name in (CLEAN, *NEGATIVES)
}


def are_facts(value: Any) -> bool:
    """Return whether a value from a file is facts about conditions, by name."""
    return isinstance(value, dict) and all(
        is_safe_name(name)
        and isinstance(facts, dict)
        and facts.get("polarity") in (POSITIVE, NEGATIVE)
        and isinstance(facts.get("levels"), list)
        and bool(facts["levels"])
        and all(level is None or _is_number(level) for level in facts["levels"])
        and isinstance(facts.get("level_unit"), str | None)
        and isinstance(facts.get("draws"), int)
        and not isinstance(facts["draws"], bool)
        and 1 <= facts["draws"] <= _MOST_DRAWS
        for name, facts in value.items()
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

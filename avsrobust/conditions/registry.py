"""The conditions that a recipe can name: built-in ones, and those that packages register (`avsrobust.plugins`)."""

from __future__ import annotations

from avsrobust.conditions.base import Condition
from avsrobust.errors import RecipeError
from avsrobust.files import SAFE_NAME, is_safe_name
from avsrobust.plugins import Registry
from avsrobust.vocabulary import NEGATIVE, POSITIVE

GROUP = "avsrobust.conditions"
_BUILT_IN = {
    "clean": "avsrobust.conditions.clean:Clean",
    "silence": "avsrobust.conditions.silence:Silence",
    "noise": "avsrobust.conditions.noise:Noise",
    "offscreen": "avsrobust.conditions.offscreen:Offscreen",
    "distractor": "avsrobust.conditions.distractor:Distractor",
    "distractor_swapped": "avsrobust.conditions.distractor:DistractorSwapped",
    "mixture": "avsrobust.conditions.mixture:Mixture",
    "noisy": "avsrobust.conditions.noisy:Noisy",
    "matched_noise": "avsrobust.conditions.matched:MatchedNoise",
    "matched_offscreen": "avsrobust.conditions.matched:MatchedOffscreen",
    "gaussian": "avsrobust.conditions.colored_noise:Gaussian",
    "pink": "avsrobust.conditions.colored_noise:Pink",
    "same_kind": "avsrobust.conditions.same_kind:SameKind",
    "shifted": "avsrobust.conditions.shifted:Shifted",
    "partial": "avsrobust.conditions.partial:Partial",
    "lowpass": "avsrobust.conditions.lowpass:Lowpass",
    "quiet": "avsrobust.conditions.gain:Quiet",
    "unseen": "avsrobust.conditions.unseen:Unseen",
    "loud": "avsrobust.conditions.gain:Loud",
}


def _check(spec: str, found: object) -> type[Condition]:
    if not isinstance(found, type) or not issubclass(found, Condition):
        raise RecipeError(f"condition {spec}: found {found!r:.80}; expected a class derived from avsrobust's Condition")
    name, polarity = getattr(found, "name", None), getattr(found, "polarity", None)
    if not isinstance(name, str) or not is_safe_name(name):
        raise RecipeError(f"condition {spec}: its name is {name!r:.80}; expected {SAFE_NAME}")
    if polarity not in (POSITIVE, NEGATIVE):
        raise RecipeError(f"condition {spec}: its polarity is {polarity!r:.80}; expected {POSITIVE!r} or {NEGATIVE!r}")
    return found


CONDITIONS: Registry[type[Condition]] = Registry(
    noun="condition", option="condition", group=GROUP, built_in=_BUILT_IN, check=_check, error=RecipeError
)

"""Seeds: the origin of every random number of a build.

Conventions
    A row's seed is a function of (seed, data set, clip, condition, level, draw) alone: no other clip, no order of listing, no
    worker and no split has a say, so one more clip in the data set leaves all other draws as they were.
    Seeds are integers in 0 .. 2**64 - 1. Levels are dB, rounded to float32 as the manifest stores them.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from avsrobust.errors import OptionError

HIGHEST_SEED = 2**64 - 1
_ROW = "avsrobust.row.1"
_CANDIDATE = "avsrobust.candidate.1"
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
# Scores in memory at once, and from how many on compiling (a second and a half) pays.
_SCORES_AT_ONCE = 1 << 16
_COMPILED_FROM = 1 << 26
# A text as JSON, in ASCII.
_quoted = json.encoder.encode_basestring_ascii


def check_seed(seed: int, highest: int = HIGHEST_SEED) -> None:
    """Raise `OptionError` unless `seed` is an integer in 0 .. `highest`."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= highest:
        raise OptionError(f"--seed: found {seed!r}; expected an integer from 0 to {highest}")


def row_seed(seed: int, dataset: str, clip_id: str, condition: str, level: float | None, draw: int = 0) -> int:
    """Return the seed of one row, an integer in 0 .. 2**64 - 1. Draw 0 has the seed of a condition without draws.

    The first 8 bytes (big-endian) of the SHA-256 of a JSON array: unambiguous whatever characters the names hold.
    Raises `OptionError` for a seed out of range, `ValueError` for a level that is not finite.
    """
    check_seed(seed)
    head, tail = _row_texts(seed, dataset, condition, level, draw)
    return _hash_text(head + _quoted(clip_id) + tail)


def row_seeds(
    seed: int, dataset: str, clip_ids: Iterable[str], condition: str, level: float | None, draw: int = 0
) -> NDArray[np.uint64]:
    """Return `row_seed` of each of `clip_ids`, uint64 [N], at a fifth of the cost."""
    check_seed(seed)
    head, tail = (text.encode("ascii") for text in _row_texts(seed, dataset, condition, level, draw))
    quoted = (_quoted(clip_id).encode("ascii") for clip_id in clip_ids)
    digests = b"".join([hashlib.sha256(head + name + tail).digest()[:8] for name in quoted])
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def _row_texts(seed: int, dataset: str, condition: str, level: float | None, draw: int) -> tuple[str, str]:
    """Return the JSON text of a row's names before and after the id of its clip."""
    exact = "null" if level is None else _quoted(_exact(level))
    drawn = f",{draw}" if draw else ""
    return f'["{_ROW}",{seed},{_quoted(dataset)},', f",{_quoted(condition)},{exact}{drawn}]"


def candidate_hashes(kind: str, names: Iterable[str]) -> NDArray[np.uint64]:
    """Return a hash per candidate, uint64 [N], for `rendezvous`; `kind` keeps clips and categories of one name apart."""
    head = f'["{_CANDIDATE}",{_quoted(kind)},'
    return np.array([_hash_text(f"{head}{_quoted(name)}]") for name in names], dtype=np.uint64)


def rendezvous(seed: int, candidates: NDArray[np.uint64]) -> int:
    """Return the index of the candidate that `seed` draws: the one with the highest mixed hash.

    Rendezvous hashing (Thaler and Ravishankar 1998): every candidate's score depends on the seed and itself alone, so the
    winner changes only if it goes, or if a new candidate wins. The mixer is that of splitmix64 (Steele, Lea and Flood
    2014; constants of Stafford's variant 13).
    """
    return int(np.argmax(_scores(seed, candidates)))


def rendezvous_many(
    seeds: NDArray[np.uint64], candidates: NDArray[np.uint64], work: int | None = None
) -> NDArray[np.intp]:
    """Return the index that `rendezvous` draws for each of `seeds`, [M]; of large tables by a compiled loop on all cores.

    `work` is the number of scores of all the draws that this one is among (default: of this one): it decides
    whether compiling pays.

    The work is M x N scores: a score mixes the bits of seed + candidate, so that nothing about the highest one follows from a
    part of them, and a table that answers for all seeds at once would solve 3SUM faster than quadratically.
    """
    if (len(seeds) * len(candidates) if work is None else work) >= _COMPILED_FROM:
        from avsrobust.conditions.compiled import highest_scores

        # The mixer can be undone: the highest score names its candidate.
        winners = _unmixed(highest_scores(seeds, candidates, MULTIPLIERS)) - seeds
        order = np.argsort(candidates, kind="stable")
        return np.asarray(order[np.searchsorted(candidates, winners, sorter=order)], dtype=np.intp)
    drawn = np.empty(len(seeds), dtype=np.intp)
    step = max(1, _SCORES_AT_ONCE // max(1, len(candidates)))
    for first in range(0, len(seeds), step):
        block = candidates[None, :] + seeds[first : first + step, None]
        drawn[first : first + step] = np.argmax(_mixed(block), axis=1)
    return drawn


def rendezvous_order(seed: int, candidates: NDArray[np.uint64]) -> list[int]:
    """Return the indices of all candidates, the one that `rendezvous` draws first."""
    return [int(index) for index in np.argsort(~_scores(seed, candidates), kind="stable")]


def _scores(seed: int, candidates: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return _mixed(candidates + np.uint64(seed))


def _mixed(score: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix sums of seed and candidate, in place."""
    score ^= score >> np.uint64(30)
    score *= np.uint64(MULTIPLIERS[0])
    score ^= score >> np.uint64(27)
    score *= np.uint64(MULTIPLIERS[1])
    score ^= score >> np.uint64(31)
    return score


def _unmixed(score: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Undo `_mixed`: multiply by the inverses modulo 2**64, and shift as often as it takes for all bits to come back."""
    inverses = [np.uint64(pow(factor, -1, 2**64)) for factor in MULTIPLIERS]
    score = score ^ (score >> np.uint64(31)) ^ (score >> np.uint64(62))
    score *= inverses[1]
    score ^= (score >> np.uint64(27)) ^ (score >> np.uint64(54))
    score *= inverses[0]
    return np.asarray(score ^ (score >> np.uint64(30)) ^ (score >> np.uint64(60)), dtype=np.uint64)


def _hash_text(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:8], "big")


def _exact(level: float) -> str:
    if not math.isfinite(level):
        raise ValueError(f"level {level} is not finite")
    # float32 because the manifest stores that, and whoever reads it must get the same seed; + 0.0 turns -0.0 into 0.0.
    return float(struct.unpack("<f", struct.pack("<f", level + 0.0))[0]).hex()

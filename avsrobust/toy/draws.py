"""Random generators of the toy: one per (seed, part, clip, purpose), so that no draw can disturb another."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, part: str, index: int, purpose: str) -> np.random.Generator:
    """Return the generator for one purpose in one clip; the same arguments give the same numbers.

    >>> float(generator(0, "single", 3, "plan").random()) == float(generator(0, "single", 3, "plan").random())
    True
    """
    key = f"avsrobust.toy.1/{seed}/{part}/{index}/{purpose}".encode()
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(key).digest()[:16], "big")))

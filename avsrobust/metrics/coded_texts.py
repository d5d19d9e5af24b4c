"""Texts of many frames, few of them different: numbers of one or two bytes, where numpy holds four for each character.

Conventions
    `CodedTexts` stands for an array of numpy strings [N] and takes its place in `ScoredFrames`: it is compared with a text, and
    indexed, as one is. What indexing returns is an array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Strings = npt.NDArray[np.str_]
_FEW = 1 << 8


class CodedTexts:
    """N texts.

    Args:
        words: The different texts.
        codes: Position of each text in `words`, int [N].
    """

    def __init__(self, words: Sequence[str], codes: npt.NDArray[np.integer[Any]]) -> None:
        self._words = np.array([str(word) for word in words], dtype=np.str_)
        self._codes = codes.astype(np.uint8 if len(words) <= _FEW else np.int32)

    def __len__(self) -> int:
        return len(self._codes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the array that it stands for."""
        return self._words.dtype

    @property
    def shape(self) -> tuple[int]:
        """Shape of the array that it stands for."""
        return (len(self._codes),)

    def __eq__(self, other: object) -> Any:
        """Return where the text is `other`, bool [N]; an array of texts is compared as numpy does."""
        if isinstance(other, str):
            return (self._words == other)[self._codes]
        return np.asarray(self) == other

    def __ne__(self, other: object) -> Any:
        return ~(self == other)

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, key: Any) -> Any:
        """Return what numpy does for the array."""
        return self._words[self._codes[key]]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Strings:
        if copy is False:
            raise ValueError("texts that are numbered cannot be had without a copy")
        found: Strings = self._words[self._codes]
        return found if dtype is None else found.astype(np.dtype(dtype))

    @property
    def ranks(self) -> npt.NDArray[np.int32]:
        """A number for each text, int32 [N], in the order of the texts."""
        ranks = np.unique(self._words, return_inverse=True)[1].astype(np.int32)
        return np.asarray(ranks[self._codes], dtype=np.int32)

"""A survey of all values in a folder of predictions: their scale, and whether they are class ids.

Conventions
    Decided once for all files, before one is scored: a file that holds zeros and ones alone may be binary, or a faint
    probability times 255. All files are read for it, in threads; floating point and bool need no decision.
    Class ids are few values a file, all small, and no 255: such a folder is refused unless the user declares classes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avsrobust.adapters.prediction_values import (
    BINARY,
    BYTE,
    SEMANTIC_HINT,
    WORD,
    StoredValues,
    distinct_values,
    stored_kind,
)
from avsrobust.errors import AdapterError, ClipError
from avsrobust.processes import usable_cores
from avsrobust.vocabulary import NUM_CLASSES, counted

# label2idx.json counts the 71 classes from 1.
_HIGHEST_ID = NUM_CLASSES
# A frame shows a handful of classes; a probability map has dozens of values.
_MOST_IDS_IN_A_FILE = 16
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Summary:
    """The integers of one file: smallest, largest, how many different ones, and which of 0..255 there are."""

    smallest: int
    largest: int
    count: int
    present: npt.NDArray[np.bool_]
    widest: int

    @classmethod
    def of(cls, stored: StoredValues) -> _Summary | None:
        """Summarise a file's different values, sorted; None where they are no integers on a scale."""
        found = stored.values
        if stored.widest == BINARY or found.dtype.kind not in "iu" or found.size == 0:
            return None
        present = np.zeros(256, np.bool_)
        present[found[(found >= 0) & (found < 256)].astype(np.int64)] = True
        return cls(int(found[0]), int(found[-1]), len(found), present, stored.widest)

    @property
    def full(self) -> int | None:
        """1, 255 or 65535 where the file holds nothing but 0 and that, 0 for nothing but 0, and None for other values."""
        if self.largest == 0 == self.smallest:
            return 0
        two_valued = self.count == 1 or (self.count == 2 and self.smallest == 0)
        return self.largest if two_valued and self.largest in (BINARY, BYTE, WORD) else None


@dataclass
class ValueSurvey:
    """The values of all integer files of a folder; its methods draw the conclusions.

    Attributes:
        binary: First file that holds nothing but 0 and one other value, by (that value, widest scale of the type).
        greys: First file with other values.
        largest: Largest value of all files.
        largest_in: File that holds it.
        narrow_largest: Largest value of the files that are not 16-bit.
        most_values: Most different values in one file.
        has_zero: Whether any file holds 0.
        files: Number of integer files.
        present: bool [256], which of the values 0..255 occur.
    """

    binary: dict[tuple[int, int], Path] = field(default_factory=dict)
    greys: Path | None = None
    largest: int = 0
    largest_in: Path | None = None
    narrow_largest: int = 0
    most_values: int = 0
    has_zero: bool = False
    files: int = 0
    present: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(256, np.bool_))

    def add(self, path: Path, summary: _Summary) -> None:
        """Add one file."""
        self.files += 1
        self.has_zero |= bool(summary.present[0])
        self.most_values = max(self.most_values, summary.count)
        self.present |= summary.present
        if summary.largest > self.largest:
            self.largest, self.largest_in = summary.largest, path
        if summary.widest != WORD:
            self.narrow_largest = max(self.narrow_largest, summary.largest)
        if summary.full is None:
            self.greys = self.greys or path
        elif summary.full:
            self.binary.setdefault((summary.full, summary.widest), path)

    def looks_like_ids(self, *, has_classes: bool) -> bool:
        """Return whether the files hold class ids: few values each, at most 71.

        Args:
            has_classes: The data set has classes; 255 may then mean "ignore".
        """
        present = np.flatnonzero(self.present)
        if has_classes:
            present = present[present != BYTE]
        if self.largest > (BYTE if has_classes else _HIGHEST_ID) or self.most_values > _MOST_IDS_IN_A_FILE:
            return False
        return bool(len(present) and 2 <= present[-1] <= _HIGHEST_ID)

    def require_no_ids(self, root: Path, *, has_classes: bool) -> None:
        """Refuse a folder of class ids.

        Args:
            root: The folder.
            has_classes: The data set has classes.

        Raises:
            AdapterError: The files look like class ids.
        """
        if self.looks_like_ids(has_classes=has_classes):
            shown = np.flatnonzero(self.present)
            listed = ", ".join(map(str, shown[:6])) + (", .." if len(shown) > 6 else "")
            raise AdapterError(
                f"--option masks={root}: holds only the values {listed} (see {self.greys}), which look like class ids and not "
                f"like probabilities times 255; {SEMANTIC_HINT}; store binary masks as 0 and 255"
            )

    def require_background(self, root: Path) -> None:
        """Refuse class ids that never are 0, the background.

        Raises:
            AdapterError: No file holds 0.
        """
        if self.files and not self.has_zero and self.largest <= _HIGHEST_ID:
            raise AdapterError(
                f"--option masks={root}: no pixel of {counted(self.files, 'file')} has class 0 (background); expected class ids "
                "0..70; label2idx.json counts from 1: subtract 1 from all"
            )

    def scale(self, root: Path) -> int:
        """Return the value that stands for a probability of 1: 1, 255 or 65535.

        Raises:
            AdapterError: The files contradict each other.
        """
        self._require_one_scale(root)
        if self.narrow_largest > BYTE or self.largest > WORD:
            raise AdapterError(
                f"--option masks={root}: found integers up to {self.largest} (in {self.largest_in}); expected masks of 0/1 or "
                "0/255, or probabilities times 255, or as floating point"
            )
        if self.largest > BYTE:
            return WORD
        if self.largest == 1:
            _LOG.warning(
                "%s: holds only the values 0 and 1, as do all files below %s: read as binary masks",
                self.largest_in,
                root,
            )
            return BINARY
        return BYTE

    def _require_one_scale(self, root: Path) -> None:
        """Refuse binary masks of several scales; where greys are among them, a file of 0 and 1 may be a faint probability."""
        scales = {full for full, _ in self.binary}
        wide = {full for full, widest in self.binary if widest == WORD}
        if self.greys is None and (len(wide) > 1 or (BINARY in scales and len(scales) > 1)):
            found = ", ".join(f"0 and {full} in {path}" for (full, _), path in sorted(self.binary.items()))
            raise AdapterError(
                f"--option masks={root}: found binary masks of several scales ({found}); expected one scale in the whole "
                "folder; store all masks as 0 and 255"
            )


def survey_values(paths: Sequence[Path], *, semantic: bool = False) -> ValueSurvey:
    """Read all files, in threads, and return the survey. Files that cannot be read are skipped: their clips will fail.

    Args:
        paths: PNG, NPY and NPZ files.
        semantic: The files hold class ids.
    """

    def look(path: Path) -> _Summary | None:
        try:
            if path.suffix != ".png" and stored_kind(path) in "fb":
                return None
            return _Summary.of(distinct_values(path, ids=semantic))
        except ClipError:
            return None

    survey = ValueSurvey()
    with ThreadPoolExecutor(max_workers=min(8, usable_cores())) as pool:
        for path, summary in zip(paths, pool.map(look, paths), strict=True):
            if summary is not None:
                survey.add(path, summary)
    return survey

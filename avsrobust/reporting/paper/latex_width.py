r"""How wide text is in LaTeX, and how the columns of a table go into a width without ``\resizebox``.

Conventions
    Widths are in points, of Computer Modern in a document of 10 points; Times and Latin Modern are no wider. They were measured
    with pdfTeX and are upper bounds: a table that fits here makes no overfull box.
    A table that does not fit in any size is split into panels, one below another, each with the models' names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Characters by their width at 10 pt; any other is taken for as wide as an em.
_WIDTHS = {
    "!',.:;<[]`il ": 2.8, "fj": 3.1, "-": 3.4, "I": 3.7, "()rst": 4.0, "cez": 4.5, ">?": 4.8, '"$*/0123456789\\^_ago{}~': 5.01,
    "J": 5.2, "kqvxy": 5.4, "Sbdhnpu": 5.6, "Z": 6.2, "L": 6.3, "F": 6.6, "EP": 6.9, "B": 7.1, "CTw": 7.3, "R": 7.4,
    "AHNUVXY": 7.6, "D": 7.7, "&+=@GKOQ": 7.9, "#%m": 8.4, "M": 9.2, "↑↓": 5.1, "–": 5.1, "†": 5.0, "Δ": 8.4, "±": 7.9,  # noqa: RUF001
}  # fmt: skip
_WIDTH_OF = {character: width for characters, width in _WIDTHS.items() for character in characters}
_EM = 10.4
_BOLD = 1.16
_LEAST_NAME = 62.0


@dataclass(frozen=True)
class Size:
    """A font size: its command, its width relative to 10 pt, the space on each side of a column, and the height of a line.

    `small` is the command of the size for intervals.
    """

    command: str
    scale: float
    gap: float
    line: float
    small: str


SIZES = (
    Size("normalsize", 1.0, 4.0, 12.0, "scriptsize"),
    Size("small", 0.93, 3.5, 11.0, "scriptsize"),
    Size("footnotesize", 0.86, 3.0, 9.5, "scriptsize"),
    Size("scriptsize", 0.825, 2.0, 8.0, "tiny"),
)
# The most that the small size is wide relative to its own: scriptsize in footnotesize.
SMALL = 0.96


@dataclass(frozen=True)
class Headed:
    """Columns under one heading: widths at 10 pt of the heading and of each column, or of further headed columns."""

    heading: float
    columns: tuple[float, ...]
    parts: tuple[Headed, ...] = ()

    def width(self, size: Size) -> float:
        """Return the width at a size; the space on both sides of every column belongs to it."""
        inner = (
            sum(part.width(size) for part in self.parts)
            if self.parts
            else sum(size.scale * width + 2 * size.gap for width in self.columns)
        )
        # One more gap: that of the shortened rules below the heading.
        return max(inner, size.scale * self.heading + 2 * size.gap)


@dataclass(frozen=True)
class Fit:
    """How a table fits.

    Attributes:
        size: The font size.
        panels: Numbers of the groups of each panel.
        name: Width of the column of names in points, where they have to be broken; None: their own.
    """

    size: Size
    panels: tuple[tuple[int, ...], ...]
    name: float | None


def text_width(text: str, *, bold: bool = False) -> float:
    """Return the largest width of a text at 10 pt.

    >>> round(text_width("87.67"), 1), round(text_width("87.67", bold=True), 1)
    (22.8, 26.5)
    """
    return sum(_WIDTH_OF.get(character, _EM) for character in text) * (
        _BOLD if bold else 1.03 if not text[:1].isdigit() else 1.0
    )


def fit(names: Sequence[float], groups: Sequence[Headed], width: float) -> Fit:
    """Return the largest size, and the fewest panels, in which groups of columns go into a width.

    Args:
        names: Widths of the names at 10 pt.
        groups: The groups, none of which is split.
        width: The width in points.
    """
    longest = max(names, default=0.0)
    everything = tuple(range(len(groups)))
    for broken in (False, True):
        for size in SIZES:
            rest = width - sum(group.width(size) for group in groups)
            own = size.scale * longest + size.gap
            if own <= rest:
                return Fit(size, (everything,), None)
            if broken and rest >= min(own, _LEAST_NAME + size.gap):
                return Fit(size, (everything,), rest - size.gap)
    size = SIZES[-1]
    own = size.scale * longest + size.gap
    column = name_width(longest, width)
    panels: list[list[int]] = []
    room = 0.0
    for number, group in enumerate(groups):
        needed = group.width(size)
        if not panels or needed > room:
            panels.append([])
            room = width - column
        panels[-1].append(number)
        room -= needed
    # A larger size where the panels leave room for it.
    for larger in SIZES:
        widest = max(sum(groups[number].width(larger) for number in panel) for panel in panels)
        if widest + larger.scale * longest + larger.gap <= width:
            return Fit(larger, tuple(map(tuple, panels)), None)
    return Fit(size, tuple(map(tuple, panels)), None if own <= column else column - size.gap)


def name_width(longest: float, width: float) -> float:
    """Return the width that the column of names takes where space is short; `longest` is that of the longest name at 10 pt."""
    size = SIZES[-1]
    return min(size.scale * longest + size.gap, max(_LEAST_NAME, 0.3 * width))


def split(group: Headed, room: float) -> list[range]:
    """Return the columns of each piece that a group has to be split into to fit the room, at the smallest size.

    Parts are kept together where one fits alone.
    """
    size = SIZES[-1]
    if group.width(size) <= room:
        return [range(len(group.columns))]
    found: list[range] = []
    first = place = 0
    used = 0.0
    for part in group.parts:
        widths = [size.scale * width + 2 * size.gap for width in part.columns]
        units = [(len(widths), part.width(size))] if part.width(size) <= room else [(1, width) for width in widths]
        for count, width in units:
            if place > first and used + width > room:
                found.append(range(first, place))
                first, used = place, 0.0
            place, used = place + count, used + width
    return [*found, range(first, place)]

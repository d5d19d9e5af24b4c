"""Frame numbers of stored predictions: counted from 0, or from 1.

Conventions
    Frames are numbered from 0 here. Files may count from 1, as AVSBench's own masks do: that is decided once for all clips of a
    condition (or of one file), by whether the number 0 occurs anywhere in it, and never clip by clip.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from avsrobust.adapters.base import RowView
from avsrobust.errors import ClipError


def frames_with_mask(row: RowView) -> list[int]:
    """Return the frames of a row that are scored."""
    return [frame for frame, has_mask in enumerate(row.has_mask.tolist()) if has_mask]


def first_frame_number(smallest: int | None) -> int:
    """Return the number of the first frame.

    Args:
        smallest: Smallest number in any clip; None: there is none.

    >>> first_frame_number(0), first_frame_number(1), first_frame_number(None)
    (0, 1, 0)
    """
    return 0 if smallest in (None, 0) else 1


def check_numbering(numbers: Collection[int], masked: Sequence[int], num_frames: int, first: int, where: str) -> None:
    """Check that a clip's numbers fit one way of counting only, the one found for all clips.

    Args:
        numbers: Numbers that the files of the clip carry.
        masked: Frames of the clip that have a mask and so need a prediction, counted from 0.
        num_frames: Number of frames of the clip.
        first: Number of the first frame (`first_frame_number`).
        where: Beginning of the message.

    Raises:
        ClipError: The numbers fit the other way as well, or instead.
    """
    if first == 0:
        if 0 not in numbers and num_frames in numbers:
            raise ClipError(
                f"{where}: its frames are counted from 1 (found {num_frames}, and no 0), those of other clips from 0; "
                "expected one way of counting; number them all alike"
            )
        return
    if all(frame in numbers for frame in masked) and all(frame + 1 in numbers for frame in masked):
        raise ClipError(
            f"{where}: found no frame 0 in any clip, and frames {_listed(numbers)} here, of {num_frames}: they may be counted "
            "from 0 or from 1; expected a prediction of every frame; write the missing ones too"
        )


def _listed(numbers: Collection[int]) -> str:
    return ", ".join(map(str, sorted(numbers)[:12]))


def describe(row: RowView) -> str:
    """Return the text by which messages name a row."""
    level = "" if row.level is None else f" at level {row.level:g}"
    draw = f", draw {row.draw}" if row.draw else ""
    return f"clip {row.clip_id} under {row.condition}{level}{draw}"

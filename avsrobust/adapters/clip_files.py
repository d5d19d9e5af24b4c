"""Files that a model looks up per clip: first-stage masks, captions, features that were extracted elsewhere.

Conventions
    Such a file was made from the clip's sound, so it is another one under each condition. A file of the clean sound that is used
    under a negative gives the model the clean answer; the score is then of nothing.
    `ClipFiles` finds ``ROOT/<condition>[/<level>][/draw<k>]/<clip_id><suffix>``, the layout of the adapter `predictions`, or the
    last part of the id in its place. `OpenedFiles` finds out whether an adapter looks files up without the condition.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from avsrobust.adapters.base import ClipView
from avsrobust.errors import AdapterError, ClipError
from avsrobust.vocabulary import CLEAN


class ClipFiles:
    """Files per condition and clip.

    Args:
        root: Folder of one folder per condition.
        suffix: End of the files' names, such as ".npy" or ".png"; "" where each clip has a folder.

    Raises:
        AdapterError: There is no such folder.
    """

    def __init__(self, root: Path | str, suffix: str = ".npy") -> None:
        self._root = Path(root).absolute()
        self._suffix = suffix
        if not self._root.is_dir():
            raise AdapterError(f"{self._root}: not found; expected a folder of one folder per condition")

    def path(self, clip: ClipView) -> Path:
        """Return the file of a clip under its condition.

        Args:
            clip: The view that `segment` gets; that of `encode_frames` has no condition.

        Raises:
            ClipError: It is not there: it is never taken from another condition.
            AdapterError: The view has no condition.
        """
        if not clip.condition:
            raise AdapterError(
                "clip files: looked up in encode_frames, which is called once for all conditions; look them up in segment"
            )
        folder = self._folder(clip)
        places = [folder / f"{name}{self._suffix}" for name in (clip.clip_id, Path(clip.clip_id).name)]
        found = next((place for place in places if place.exists()), None)
        if found is not None:
            return found
        raise ClipError(f"{places[0]}: not found; expected what was made of this clip's sound under {clip.condition}")

    def _folder(self, clip: ClipView) -> Path:
        folder = self._root / clip.condition
        if clip.level is not None:
            folder /= f"{clip.level:g}"
        return folder / f"draw{clip.draw}" if clip.draw else folder


class OpenedFiles:
    """Records the paths that this thread opens in the with block, as far as Python opens them.

    Attributes:
        paths: The paths, as they were given.
    """

    def __init__(self) -> None:
        self.paths: list[str] = []
        self._thread = threading.get_ident()

    def __enter__(self) -> Self:
        _install()
        _WATCHES.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _WATCHES.remove(self)

    def record(self, path: object) -> None:
        """Remember a path that is opened now."""
        if threading.get_ident() == self._thread and isinstance(path, str | bytes | os.PathLike):
            self.paths.append(os.fsdecode(path))


def without_condition(opened: Iterable[str], clip: ClipView) -> list[str]:
    """Return the files that were looked up by a clip alone: they carry its name, and not that of its condition.

    Args:
        opened: Paths that were opened while the clip was segmented, or encoded.
        clip: Its view. Its own frames and sound do not count. Under clean sound nothing is suspicious.
    """
    if clip.condition == CLEAN:
        return []
    own = {str(path) for path in (*clip.frames, *([clip.sound] if clip.sound else []))}
    name = Path(clip.clip_id).name
    return sorted(
        {
            path
            for path in opened
            if os.path.abspath(path) not in own and name in path and not (clip.condition and clip.condition in path)  # noqa: PTH100
        }
    )


# Watches that are open now. An audit hook cannot be taken away, so there is one, which does nothing while there are none.
_WATCHES: list[OpenedFiles] = []
_INSTALLED: list[bool] = []


def _install() -> None:
    if not _INSTALLED:
        _INSTALLED.append(True)
        sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _WATCHES:
        for watch in list(_WATCHES):
            watch.record(arguments[0])

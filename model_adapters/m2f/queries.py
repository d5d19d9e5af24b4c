"""Active queries: the queries that the audio of a frame may use.

Conventions
    A gate is float32 [T, Q] for a clip of T frames: 1 for active queries, 0 for the others. "reference" behaviour clamps
    to [1e-6, 1 - 1e-6] and takes any list of one index for query 0, as the published code does (bias_in_AVS,
    avs_m2f_base.py `one_hot_encoding`).
    Class files are .pth, one per clip, of classes and one cluster found in the sound (README of bias_in_AVS, "Audio
    pretransform"): a list with the indices of each frame, or one list for the whole clip; lists, or integer tensors.
    DIR/CONDITION/CLIP.pth is looked for, and DIR/CLIP.pth for clean sound: under a negative condition the queries come from
    the negative audio. CLIP is the clip's id, or its last part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from avsrobust.errors import AdapterError
from avsrobust.files import resolve_inside
from avsrobust.vocabulary import CLEAN, counted
from model_adapters.m2f.debias import Behaviour
from model_adapters.m2f.state import read_pickle

_CLAMP = 1e-6
# A clip of ten frames under the published 100 queries has a thousand at most.
_MOST_INDICES = 1_000_000


@dataclass(frozen=True)
class ClassFiles:
    """A folder of class files.

    Attributes:
        folder: The folder.
        behaviour: "paper", or "reference" for the gates of the published code.
    """

    folder: Path
    behaviour: Behaviour = "paper"

    def gate(self, clip_id: str, condition: str, level: float | None, num_frames: int, num_queries: int) -> Tensor:
        """Return the gate of one clip under one condition.

        Args:
            clip_id: The clip's id.
            condition: The condition.
            level: Its level in dB; None where it has none.
            num_frames: Number of the clip's frames, T.
            num_queries: Number of the network's queries, Q.

        Returns:
            The gate, float32 [T, Q].

        Raises:
            AdapterError: The file is missing, or its indices are not those of queries.
        """
        path = self._find(clip_id, condition if level is None else f"{condition}{level:+g}dB")
        return gate_of_indices(read_indices(path, num_frames, num_queries), num_queries, self.behaviour)

    def _find(self, clip_id: str, condition: str) -> Path:
        names = dict.fromkeys((clip_id, PurePosixPath(clip_id).name))
        folders = [f"{condition}/", ""] if condition == CLEAN else [f"{condition}/"]
        tried = [f"{folder}{name}.pth" for folder in folders for name in names]
        for relative in tried:
            path = resolve_inside(self.folder, relative, named_by="the manifest")
            if path.is_file():
                return path
        raise AdapterError(
            f"--option classes={self.folder}: found no class file of clip {clip_id} under {condition} sound; expected "
            f"{' or '.join(tried)} in it; make them with 'avsrobust pretransform', or take --option queries=all"
        )


def read_indices(path: Path, num_frames: int, num_queries: int) -> list[list[int]]:
    """Return the indices of the active queries of every frame.

    Args:
        path: The class file.
        num_frames: Number of the clip's frames; a single list holds for all of them.
        num_queries: Number of the network's queries.

    Raises:
        AdapterError: The file holds no lists of indices, those of another number of frames, or indices outside
            0 .. num_queries - 1.
    """
    content = read_pickle(path)
    _require_few(content, path)
    lists = _lists(content.tolist() if isinstance(content, Tensor) else content, path)
    if len(lists) == 1:
        lists = lists * num_frames
    if len(lists) != num_frames:
        raise AdapterError(
            f"{path}: found indices of {counted(len(lists), 'frame')}; the clip has {num_frames}; make the file anew "
            "for this clip"
        )
    for index in (index for frame in lists for index in frame):
        if not 0 <= index < num_queries:
            raise AdapterError(
                f"{path}: found query index {index}; expected 0 to {num_queries - 1}, the queries of this checkpoint; "
                "name class files that were made for it"
            )
    return lists


def gate_of_indices(indices: Sequence[Sequence[int]], num_queries: int, behaviour: Behaviour = "paper") -> Tensor:
    """Return the gate of a clip that switches on the queries of each frame.

    Args:
        indices: The active queries of each of T frames.
        num_queries: Number of the network's queries, Q.
        behaviour: "paper", or "reference" as in the module's conventions.

    Returns:
        The gate, float32 [T, Q] in [0, 1].
    """
    gate = torch.zeros(len(indices), num_queries)
    for frame, active in enumerate(indices):
        chosen = [0] if behaviour == "reference" and len(active) == 1 else list(active)
        gate[frame, chosen] = 1.0
    return gate.clamp(_CLAMP, 1 - _CLAMP) if behaviour == "reference" else gate


def _require_few(content: object, path: Path) -> None:
    """Refuse tensors of far more numbers than there are indices: a view can repeat one number without end."""
    parts = content if isinstance(content, list | tuple) else [content]
    tensors = [part for part in parts if isinstance(part, Tensor)]
    odd = [part for part in tensors if part.layout is not torch.strided or part.device.type != "cpu"]
    if odd or sum(part.numel() for part in tensors) > _MOST_INDICES:
        raise AdapterError(f"{path}: found tensors that are no lists of query indices; expected one list per frame")


def _lists(content: object, path: Path) -> list[list[int]]:
    if isinstance(content, list | tuple):
        frames: list[Any] = [frame.tolist() if isinstance(frame, Tensor) else frame for frame in content]
        if frames and all(_is_index(frame) for frame in frames):
            return [frames]
        if frames and all(isinstance(frame, list | tuple) and all(map(_is_index, frame)) for frame in frames):
            return [list(frame) for frame in frames]
    raise AdapterError(
        f"{path}: found {type(content).__name__}, not lists of query indices; expected one list of integers per frame, "
        "or one for the clip"
    )


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)

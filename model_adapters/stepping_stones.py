"""The adapter `stepping_stones`: Adaptive AVS of Stepping-Stones, for S4, MS3 and AVSS, in an environment of its own.

Conventions
    The checkout is GeWu-Lab/Stepping-Stones (Ma et al., ECCV 2024), which ships a changed copy of transformers 4.35.2. So it
    runs in another Python, behind a pipe: `avsrobust.adapters.worker`, serving ``examples/worker_stepping_stones.py``.
    S4 and MS3: the mask is the argmax of (background, foreground), the score is sigmoid(2 b - a), as its evaluation takes
    them (avs/utils/utility.py). AVSS: class ids.
    AVSS is the second of two stages and reads the binary masks of the first, which depend on the sound: so there is one per
    condition. ``masks=FILE.parquet`` takes what ``evaluate --save-masks --score-size 224`` of the first stage wrote;
    ``masks=DIR`` a folder ``<condition>[/<level>][/draw<k>]/<clip_id>/<frame>.png``.
    Sound: VGGish's embedding, which the runner makes (``--option vggish=FILE``).
"""

from __future__ import annotations

import itertools
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from avsrobust.adapters.base import ClipView, NativeSound, Segmentation
from avsrobust.adapters.worker import DEFAULT_TIMEOUT_S, Worker
from avsrobust.bundled import guide
from avsrobust.errors import AdapterError, ClipError
from avsrobust.stored_masks import StoredMasks
from avsrobust.vocabulary import counted

WORKER = "examples/worker_stepping_stones.py"
_NEEDS = "torch, numpy, pillow, scipy, tokenizers>=0.14,<0.19 and huggingface-hub<1 (docs/published_models.md)"


class SteppingStones(Worker):
    """Adaptive AVS behind a pipe; of AVSS with the first stage's masks."""

    _first_stage: FirstStage | None = None

    @classmethod
    def load(  # type: ignore[override]  # the options by name, so that others are refused
        cls,
        checkpoint: Path | None,
        device: torch.device,
        *,
        repo: str | None = None,
        python: str | None = None,
        masks: str | None = None,
        config: str | None = None,
        workers: str = "1",
        timeout: str = str(DEFAULT_TIMEOUT_S),
    ) -> Self:
        """Start the workers.

        Args:
            checkpoint: The network's weights; they say whether it is for 2 classes or for 71.
            device: Device that it runs on.
            repo: The checkout's folder.
            python: Python of the environment, or a command that starts one.
            masks: First-stage masks of AVSS, a parquet file or a folder.
            config: A Mask2Former configuration instead of the checkout's.
            workers: Number of processes.
            timeout: Limit of one answer, in seconds.

        Raises:
            AdapterError: An option is missing or wrong, or the worker cannot be started.
        """
        if repo is None or python is None:
            missing = "repo" if repo is None else "python"
            raise AdapterError(
                f"stepping_stones: found no --option {missing}; expected repo=PATH, a checkout of "
                f"github.com/GeWu-Lab/Stepping-Stones, and python=PATH, the Python of an environment with {_NEEDS}"
            )
        options = {"repo": str(Path(repo).absolute()), "workers": workers, "timeout": timeout}
        if config is not None:
            options["config"] = str(Path(config).absolute())
        first_stage = FirstStage(Path(masks)) if masks is not None else None
        if first_stage is not None:
            options["masks"] = str(first_stage.folder)
        command = f"{python} {shlex.quote(str(guide(WORKER)))}"
        adapter = super().load(checkpoint, device, command=command, **options)
        adapter._first_stage = first_stage
        return adapter

    def segment(
        self, encoded: Any, audio: Tensor | Sequence[NativeSound], clips: Sequence[ClipView] = ()
    ) -> Tensor | Segmentation:
        """Segment the clips; the worker finds their first-stage masks in a folder."""
        if self._first_stage is not None:
            for clip in clips:
                self._first_stage.lay_out(clip)
        return super().segment(encoded, audio, clips)

    def segment_in_turn(
        self,
        encoded: Any,
        audio: Sequence[Tensor | Sequence[NativeSound]],
        clips: Sequence[Sequence[ClipView]],
    ) -> Iterator[Tensor | Segmentation]:
        """Segment the clips under several conditions, whose first-stage masks are laid out before."""
        if self._first_stage is not None:
            for clip in itertools.chain.from_iterable(clips):
                self._first_stage.lay_out(clip)
        return super().segment_in_turn(encoded, audio, clips)


class FirstStage:
    """First-stage masks as the worker reads them: a folder, for which stored masks are written out row by row.

    Args:
        source: A parquet file that ``--save-masks`` wrote, or a folder.

    Attributes:
        folder: The folder, absolute.

    Raises:
        AdapterError: There is no such file or folder.
    """

    def __init__(self, source: Path) -> None:
        self._stored: StoredMasks | None = None
        if source.is_dir():
            self.folder = source.absolute()
            return
        if not source.is_file():
            raise AdapterError(
                f"--option masks={source}: not found; expected masks.parquet of a first stage, or a folder"
            )
        self._stored = StoredMasks(source)
        # Deleted with this object.
        self._temporary = tempfile.TemporaryDirectory(prefix="avsrobust-")
        self.folder = Path(self._temporary.name)

    def lay_out(self, clip: ClipView) -> None:
        """Write the masks of one row where the worker looks for them.

        Raises:
            ClipError: The file has none for it.
        """
        if self._stored is None:
            return
        folder = self.folder / clip.condition
        if clip.level is not None:
            folder /= f"{clip.level:g}"
        if clip.draw:
            folder /= f"draw{clip.draw}"
        folder /= clip.clip_id
        if folder.is_dir():
            return
        masks = self._stored.read(clip.split, clip.clip_id, clip.condition, clip.level, clip.draw)
        if sorted(masks) != list(range(clip.num_frames)):
            raise ClipError(
                f"--option masks: holds {len(masks)} of {counted(clip.num_frames, 'mask')} of {clip.clip_id} under "
                f"{clip.condition}; expected those of a first stage on the same build"
            )
        folder.mkdir(parents=True)
        for frame, mask in masks.items():
            Image.fromarray(np.uint8(255) * mask.astype(np.uint8)).save(folder / f"{frame}.png")

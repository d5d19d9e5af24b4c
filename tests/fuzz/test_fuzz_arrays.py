"""Arrays and weights of any content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avsrobust.arrays import map_npy, read_npy, read_npz
from avsrobust.audio.vggish import load_vggish
from avsrobust.errors import ClipError
from avsrobust.pretransform.beats import _read as read_beats
from avsrobust.pretransform.layout import read_layout
from model_adapters.m2f.checkpoint import load_checkpoint
from model_adapters.m2f.queries import read_indices
from model_adapters.m2f.state import read_state

READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "npy": ("npy", lambda path: read_npy(path, ClipError)),
    "mapped npy": ("npy", lambda path: map_npy(path, ClipError).sum()),
    "npz": ("npz", lambda path: read_npz(path, ClipError)),
    "weights": ("weights", read_state),
    "layouts": ("layouts", read_layout),
    "class files": ("class_files", lambda path: read_indices(path, 2, 4)),
}
# Good files of these are large; small ones of other networks are refused in one line as well.
REFUSING: dict[str, tuple[str, Callable[[Path], object]]] = {
    "m2f": ("weights", load_checkpoint),
    "vggish": ("weights", load_vggish),
    "beats": ("weights", read_beats),
}


@pytest.mark.parametrize("reader", READERS)
def test_damaged_files(reader: str, fuzz: Any) -> None:
    folder, read = READERS[reader]
    fuzz(folder, read)


@pytest.mark.parametrize("reader", REFUSING)
def test_weights_of_other_networks(reader: str, fuzz: Any) -> None:
    folder, read = REFUSING[reader]
    fuzz(folder, read, good=False)


@pytest.mark.parametrize("reader", [*REFUSING, "weights", "layouts", "class files"])
def test_what_is_no_file(reader: str, refuses_what_is_no_file: Any) -> None:
    _, read = {**REFUSING, **READERS}[reader]
    for name in ("a.safetensors",) if reader == "layouts" else ("a.pth", "b.safetensors"):
        refuses_what_is_no_file(name, read)

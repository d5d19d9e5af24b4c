"""A user's file type-checks against the installed package (``py.typed``), and a wrong one does not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

RIGHT = '''
"""An adapter as a user would write it."""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter, AudioInput


class Loud(Adapter):
    """Foreground where the sound has energy."""

    audio = AudioInput.waveform(16_000)

    @classmethod
    def load(cls, checkpoint: Path | None, device: torch.device, **options: str) -> Self:
        return cls()

    def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
        level = audio.square().mean(dim=-1).sqrt()
        return level[..., None, None].expand(*level.shape, *encoded.shape[-2:])


def shape(adapter: Loud) -> torch.Size:
    return adapter.segment(torch.zeros(1, 5, 3, 8, 8), torch.zeros(1, 5, 16_000)).shape
'''

WRONG = """
from torch import Tensor

from avsrobust.adapters.base import Adapter, AudioInput


class Wrong(Adapter):
    audio = AudioInput.waveform("16 kHz")

    def segment(self, encoded: Tensor, audio: Tensor) -> list[float]:
        return [0.5]
"""


@pytest.mark.slow
def test_a_users_file(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is in the extra `lint`, which is not installed")
    for name, text in (("right", RIGHT), ("wrong", WRONG)):
        (tmp_path / f"{name}.py").write_text(text.lstrip())
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "right.py", "wrong.py"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 1, found.stdout + found.stderr
    errors = re.findall(r"^(\w+\.py):(\d+): error: .*\[([a-z-]+)\]$", found.stdout, re.MULTILINE)
    assert errors == [("wrong.py", "7", "arg-type"), ("wrong.py", "9", "override")], found.stdout

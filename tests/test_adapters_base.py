from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avsrobust.adapters.base import Adapter, AudioInput
from avsrobust.errors import AdapterError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("log_mel", AudioInput.log_mel()),
        ("embedding", AudioInput.embedding()),
        (AudioInput.waveform(16000), AudioInput.waveform(16000)),
    ],
)
def test_audio_input_of_accepts_strings_and_values(value: object, expected: AudioInput) -> None:
    assert AudioInput.of(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("waveform", "a waveform needs its rate"),
        (None, "found None; expected AudioInput.waveform"),
        (AudioInput("waveform"), "waveform at None Hz"),
        (AudioInput.waveform(0), "waveform at 0 Hz"),
        (AudioInput("spectrum"), "expected AudioInput.waveform"),  # type: ignore[arg-type]
    ],
)
def test_audio_input_of_refuses_what_no_front_end_makes(value: object, message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        AudioInput.of(value)


def test_default_load_takes_neither_checkpoint_nor_options() -> None:
    with pytest.raises(AdapterError, match=r"--checkpoint x\.pth: Adapter takes none"):
        Adapter.load(Path("x.pth"), torch.device("cpu"))
    with pytest.raises(AdapterError, match="--option size: Adapter takes no options"):
        Adapter.load(None, torch.device("cpu"), size="3")
    assert Adapter.load(None, torch.device("cpu")).device == torch.device("cpu")


def test_base_class_says_what_to_define() -> None:
    with pytest.raises(NotImplementedError, match="must define segment"):
        Adapter().segment(None, torch.zeros(1))
    with pytest.raises(NotImplementedError, match="must define segment_rows"):
        Adapter().segment_rows(None, torch.zeros(1), [])
    frames = torch.zeros(1, 5, 3, 2, 2, dtype=torch.uint8)
    assert Adapter().encode_frames(frames) is frames

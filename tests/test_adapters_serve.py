from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from avsrobust.adapters.lookup import find_adapter
from avsrobust.adapters.serve import main
from avsrobust.adapters.worker import Worker
from avsrobust.errors import AdapterError

CPU = torch.device("cpu")
SERVE = f"'{sys.executable}' -m avsrobust.adapters.serve"
MODEL = """
import torch
from avsrobust.adapters.base import Adapter, AudioInput

class Model(Adapter):
    audio = AudioInput.waveform(8000)

    @classmethod
    def load(cls, checkpoint, device, gain="1"):
        print("printing is harmless")
        model = cls()
        model.gain = float(gain)
        model.offset = torch.load(checkpoint, weights_only=True)["offset"]
        return model

    def encode_frames(self, frames):
        return frames.float().mean(2) / 255 * self.gain + self.offset

    def segment(self, encoded, audio):
        self.loudness = audio.abs().mean(1, keepdim=True).expand(-1, encoded.shape[1])
        return (encoded * self.loudness[..., None, None]).to(torch.bfloat16)

    def extras(self):
        return {"loudness": self.loudness}
"""


def test_a_served_adapter_answers_as_it_does_in_process(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    torch.save({"offset": torch.tensor(0.25)}, tmp_path / "weights.pt")
    spec = f"{tmp_path / 'model.py'}:Model"
    served = Worker.load(tmp_path / "weights.pt", CPU, command=f"{SERVE} '{spec}'", gain="0.5")
    local = find_adapter(spec).load(tmp_path / "weights.pt", CPU, gain="0.5")
    assert served.audio == local.audio
    frames = torch.randint(0, 256, (2, 5, 3, 8, 8), dtype=torch.uint8)
    audio = torch.rand(2, 5 * 8000)
    answer = served.segment(served.encode_frames(frames), audio)
    assert torch.equal(answer, local.segment(local.encode_frames(frames), audio).float())
    assert torch.equal(served.extras()["loudness"], local.extras()["loudness"])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64"])
def test_class_ids_stay_integers(tmp_path: Path, dtype: str) -> None:
    content = MODEL.replace(
        "(encoded * self.loudness[..., None, None]).to(torch.bfloat16)", f"encoded.to(torch.{dtype})"
    )
    (tmp_path / "model.py").write_text(content)
    torch.save({"offset": torch.tensor(3.0)}, tmp_path / "weights.pt")
    served = Worker.load(tmp_path / "weights.pt", CPU, command=f"{SERVE} '{tmp_path / 'model.py'}:Model'", gain="0")
    answer = served.segment(
        served.encode_frames(torch.zeros(2, 5, 3, 8, 8, dtype=torch.uint8)), torch.rand(2, 5 * 8000)
    )
    assert not answer.is_floating_point()
    assert torch.equal(answer, torch.full((2, 5, 8, 8), 3, dtype=answer.dtype))


def test_what_goes_wrong_over_there_is_said_here(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"unknown; .*did you mean 'oracle'"):
        Worker.load(None, CPU, command=f"{SERVE} orcale")
    (tmp_path / "model.py").write_text(MODEL)
    with pytest.raises(AdapterError, match=r"option volume: unknown to .*takes gain"):
        Worker.load(None, CPU, command=f"{SERVE} '{tmp_path / 'model.py'}:Model'", volume="3")


def test_one_argument_is_needed() -> None:
    with pytest.raises(AdapterError, match="expected one argument, what you would give --adapter"):
        main([])

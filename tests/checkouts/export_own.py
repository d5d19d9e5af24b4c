"""The data sets of CAVP and Stepping-Stones over an exported tree, in their own environments, without any of our code.

Conventions
    ``python export_own.py JOB.json``: kind (cavp or stepping_stones), root, trees by name, answers. Saves the sound of each
    test clip: CAVP's waveform [1, 160000]; of Stepping-Stones, whose embeddings towhee makes, the wav file's content.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path

import empty_modules
import numpy as np
import torch


def main(job: dict) -> None:
    """Do one job."""
    own = load(job["kind"])
    sys.path.insert(0, job["root"])
    sys.dont_write_bytecode = True
    if job["kind"] == "stepping_stones":
        import transformers  # noqa: F401  # before torchvision is empty
    empty_modules.install(own.EMPTY)
    read = cavp if job["kind"] == "cavp" else stepping_stones
    found = {f"{name}|{clip}": sound for name, tree in job["trees"].items() for clip, sound in read(job, own, tree)}
    np.savez(job["answers"], **found)


def load(kind: str) -> types.ModuleType:
    """Return our program for the repository, beside this one."""
    spec = importlib.util.spec_from_file_location("own", Path(__file__).with_name(f"{kind}_own.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cavp(job: dict, own: types.ModuleType, tree: str):
    """Name and waveform of the test clips."""
    job = {**job, "dataset": "avss", "classes": 71}
    for name, _, waveform in own.clips(job, own.settings(job), tree):
        yield name, waveform.numpy()


def stepping_stones(job: dict, own: types.ModuleType, tree: str):
    """Name and wav file of the test clips."""
    import dataset
    from transformers import Mask2FormerImageProcessor

    settings = json.loads(Path(job["root"], ".models/preprocessor_config.json").read_text())
    settings.pop("image_processor_type")
    dataset.Mask2FormerImageProcessor = types.SimpleNamespace(
        from_pretrained=lambda *arguments, **named: Mask2FormerImageProcessor(**settings)
    )
    args = types.SimpleNamespace(data_path=tree, model_dir="")
    for subset in ("v1s", "v1m", "v2"):
        data = dataset.AVSBench(args, "test", subset)
        read = []

        def embed(path: str, read: list = read) -> torch.Tensor:
            read.append(np.frombuffer(Path(path).read_bytes(), np.uint8))
            return torch.zeros(5, 128)

        data.get_audio_emb = embed
        for index in range(len(data)):
            yield data[index]["vid"], read[-1]


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))

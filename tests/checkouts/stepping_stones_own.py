"""Stepping-Stones' own loaders and forward pass, run in an environment of its own, without any of our code.

Conventions
    ``python stepping_stones_own.py JOB.json`` makes a folder as huggingface_hub's cache has it, with the checkout's own
    configuration (of fewer, thinner layers where the job says so) and seeded random weights, from which the released constructor
    starts;
    saves the network as their train.py does; and saves what its forward pass answers to the first test clips of every tree
    of the job: scores [T, 2, 224, 224], or class ids [T, 224, 224] and with them the masks of the first stage that it read.
    The embeddings come with the job: towhee, which makes them in the loader, is answered by an empty module, as is what draws
    and reports. "cuda" means the CPU.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import empty_modules
import numpy as np
import torch

EMPTY = ("towhee", "wandb", "torchvision", "matplotlib")
NAME = "facebook/mask2former-swin-base-ade-semantic"


def main(job: dict) -> None:
    """Do one job: root, subsets, trees by condition, embeddings, first-stage masks, settings, checkpoint, answers, seed."""
    root = Path(job["root"])
    sys.path.insert(0, str(root))
    sys.dont_write_bytecode = True
    import transformers

    empty_modules.install(EMPTY)
    assert Path(transformers.__file__).is_relative_to(root)
    torch.Tensor.cuda = lambda self, *arguments, **named: self
    torch.nn.Module.cuda = lambda self, *arguments, **named: self
    cache = Path(job["cache"])
    fill_cache(root, cache, job)
    args = types.SimpleNamespace(model_dir=str(cache), mask_path="", data_path="", task="avss", bs=1)
    import avs_model
    import dataset

    torch.manual_seed(job["seed"])
    made = (avs_model.AdaptiveAVS if root.name == "avss" else avs_model.AdaptiveAVS_AVSS)(args)
    spread(made)
    made.eval()
    answers = {}
    with np.load(job["embeddings"]) as archive:
        embeddings = dict(archive)
    first = True
    for condition, tree in job["trees"].items():
        args.data_path = tree
        made.mask_path = str(Path(job["masks"], condition)) if job["masks"] else ""
        for subset in job["subsets"]:
            for item in items(dataset.AVSBench(args, "test", subset), condition, embeddings):
                with torch.no_grad():
                    # The loss draws points; it changes no answer.
                    made.model.get_loss_dict = lambda *arguments, **named: {"loss": torch.zeros(())}
                    if first:
                        centre(made, item)
                        first = False
                    _, answer = made(item)
                answers[f"{condition}|{item['vid']}"] = torch.stack(answer).numpy()
    torch.save(made.state_dict(), job["checkpoint"])
    np.savez(job["answers"], **answers)


def fill_cache(root: Path, cache: Path, job: dict) -> None:
    """Write a folder as huggingface_hub's cache has it, which the constructor reads without a network."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

    folder = cache / f"models--{NAME.replace('/', '--')}"
    snapshot = folder / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0")
    config = json.loads((root / ".models/config.json").read_text())
    config["backbone_config"].update(job["backbone"])
    config.update(job["settings"])
    (snapshot / "config.json").write_text(json.dumps(config))
    Path(job["config"]).write_text(json.dumps(config))
    (snapshot / "preprocessor_config.json").write_text((root / ".models/preprocessor_config.json").read_text())
    torch.manual_seed(job["seed"])
    network = Mask2FormerForUniversalSegmentation(Mask2FormerConfig.from_dict(config))
    torch.save(network.state_dict(), snapshot / "pytorch_model.bin")


def items(data: object, condition: str, embeddings: dict):
    """The items of a data set, collated as its loaders do; the embeddings are the job's."""
    import dataset

    for index in range(len(data)):
        name = data.metadata.iloc[index]["uid"]
        data.get_audio_emb = lambda path, name=name: torch.from_numpy(embeddings[f"{condition}|{name}"])
        yield dataset.custom_collate([data[index]])


def spread(network: torch.nn.Module) -> None:
    """Move what starts at 0 or 1, and let the sound, of which an untrained network makes next to nothing, matter."""
    generator = torch.Generator().manual_seed(0)
    for value in network.parameters():
        if value.ndim == 1:
            value.data.add_(torch.randn(value.shape, generator=generator) * 0.05)
    network.audio_proj[0].weight.data.mul_(3)
    network.model.class_predictor.weight.data.mul_(20)


def centre(network: torch.nn.Module, item: dict) -> None:
    """Move the classes' biases so that several occur in the masks of an untrained network."""
    seen = []
    handle = network.model.class_predictor.register_forward_hook(lambda m, i, output: seen.append(output))
    network(item)
    handle.remove()
    network.model.class_predictor.bias.data.sub_(seen[-1].mean(dim=(0, 1)))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))

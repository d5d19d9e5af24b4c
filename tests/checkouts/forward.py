"""A published repository's own forward pass, run in a process of its own, without any of our code.

Conventions
    ``python forward.py JOB.json`` makes the network as the repository's own test script does, with seeded random
    weights, saves them as its training would, and saves what the network answers to the frames and sounds of the job.
    The data loaders' steps are written out here (Pillow's bilinear resize, ToTensor, Normalize): the loaders themselves need
    packages that are not everywhere. So are the helpers taken from timm; the deformable attention falls back to the
    repository's own code for the CPU, as it does where its CUDA extension fails.
"""

from __future__ import annotations

import json
import runpy
import sys
import types
from pathlib import Path

import numpy as np
import torch
from PIL import Image

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main(job: dict) -> None:
    """Do one job: kind, root, seed, size, inputs, checkpoint and answers are its keys."""
    _install_missing()
    sys.path.insert(0, job["root"])
    torch.Tensor.cuda = lambda self: self
    with np.load(job["inputs"]) as archive:
        frames, sounds = archive["frames"], archive["sounds"]
    torch.manual_seed(job["seed"])
    network = _avsegformer(job) if job["kind"] == "avsegformer" else _tpavi(job)
    _spread_statistics(network)
    network.eval()
    pictures = _load(frames, job["size"])
    with torch.no_grad():
        _centre(job, network, pictures, torch.from_numpy(sounds[0]))
        torch.save({f"module.{name}": value for name, value in network.state_dict().items()}, job["checkpoint"])
        answers = [_ask(job, network, pictures, torch.from_numpy(sound)) for sound in sounds]
        exact = _in_double_precision(job, network, pictures, sounds)
    kept = {f"output{index}": np.stack([a[index] for a in answers]) for index in range(len(answers[0]))}
    kept["rounding"] = np.array(max(np.abs(a[0] - e).max() for a, e in zip(answers, exact, strict=True)))
    np.savez(job["answers"], **kept)


def _in_double_precision(
    job: dict, network: torch.nn.Module, pictures: torch.Tensor, sounds: np.ndarray
) -> list[np.ndarray]:
    """Return the first outputs in float64: how far float32's are from them is this machine's rounding."""
    torch.set_default_dtype(torch.float64)
    network.double()
    return [_ask(job, network, pictures.double(), torch.from_numpy(sound).double())[0] for sound in sounds]


def _avsegformer(job: dict) -> torch.nn.Module:
    from model import build_model

    settings = runpy.run_path(job["config"])["model"]
    settings["type"] = job["type"]
    settings["backbone"]["init_weights_path"] = None
    settings["vggish"].update(freeze_audio_extractor=False, preprocess_audio_to_log_mel=False)
    return build_model(**settings)


def _tpavi(job: dict) -> torch.nn.Module:
    if job.get("borrow"):
        import model

        model.__path__.append(job["borrow"])
    if job["backbone"] == "resnet":
        from model import ResNet_AVSModel as AVSModel
    else:
        from model import PVT_AVSModel as AVSModel
    AVSModel.Pred_endecoder.initialize_weights = lambda self: None
    AVSModel.Pred_endecoder.initialize_pvt_weights = lambda self: None
    return AVSModel.Pred_endecoder(
        channel=256, config=types.SimpleNamespace(NUM_CLASSES=71), tpavi_stages=[0, 1, 2, 3], tpavi_va_flag=True
    )


def _ask(job: dict, network: torch.nn.Module, pictures: torch.Tensor, sound: torch.Tensor) -> list[np.ndarray]:
    if job["kind"] == "avsegformer":
        output, _, *rest = network(sound, pictures)
        return [value.numpy() for value in (output, *rest)]
    arguments = [pictures, sound]
    if job["task"] == "avss":
        # As the released loader has it: 10 frames, the missing ones black.
        missing = 10 - len(pictures)
        arguments = [
            torch.cat([pictures, torch.zeros(missing, *pictures.shape[1:])]),
            torch.cat([sound, torch.zeros(missing, sound.shape[1])]),
            torch.cat([torch.ones(len(pictures)), torch.zeros(missing)]),
        ]
    return [network(*arguments)[0][: len(pictures)].numpy()]


def _load(frames: np.ndarray, size: int) -> torch.Tensor:
    pictures = []
    for frame in frames:
        resized = np.asarray(Image.fromarray(frame).resize((size, size), Image.BILINEAR))
        tensor = torch.from_numpy(resized.copy()).permute(2, 0, 1).float().div(255)
        pictures.append((tensor - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None])
    return torch.stack(pictures)


def _spread_statistics(network: torch.nn.Module) -> None:
    """Move what starts at 0 or 1 (norms, TPAVI's last layer), so that a skipped part would be seen."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.named_parameters():
        if value.ndim == 1 or "level_embed" in name:
            value.data.add_(torch.randn(value.shape, generator=generator) * 0.05)
        if name == "audio_proj.weight":
            # Untrained, VGGish says next to nothing.
            value.data.mul_(1000)
    for name, value in network.named_buffers():
        if name.endswith("running_mean"):
            value.add_(torch.randn(value.shape, generator=generator) * 0.05)


def _centre(job: dict, network: torch.nn.Module, pictures: torch.Tensor, sound: torch.Tensor) -> None:
    """Move the last layer so that logits, which lie on one side of 0 in an untrained network, lie around it."""
    last = network.output_conv[4] if job["kind"] == "tpavi" else network.head.fc[4]
    seen = []
    handle = last.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    _ask(job, network, pictures, sound)
    handle.remove()
    activations, logits = seen[0]
    # Without a bias: along the mean activation.
    mean = activations.mean(dim=(0, 2, 3))
    last.weight.sub_(logits.median() * (mean / mean.dot(mean))[None, :, None, None])


def _install_missing() -> None:
    for name in ("MultiScaleDeformableAttention", "timm", "timm.models", "torchvision", "torchvision.models"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["torchvision"].models = sys.modules["torchvision.models"]
    layers = types.ModuleType("timm.models.layers")
    layers.DropPath = torch.nn.Dropout
    layers.to_2tuple = lambda value: (value, value)
    # Random either way, and fast.
    layers.trunc_normal_ = torch.nn.init.normal_
    registry = types.ModuleType("timm.models.registry")
    registry.register_model = lambda function: function
    vision = types.ModuleType("timm.models.vision_transformer")
    vision._cfg = dict
    for module in (layers, registry, vision):
        sys.modules[module.__name__] = module


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))

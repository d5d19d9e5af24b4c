"""A published repository's own evaluation of one clip, run in a process of its own, without any of our code.

Conventions
    ``python own_models.py JOB.json`` makes the network as the repository's own script does, with seeded random weights, saves
    them as its training would, and saves the logits of its forward pass, float32 [N, T, h, w], for the frames and the N
    sounds of the job.
    The data loaders' steps are written out here, with Pillow, where the loaders need packages that are not everywhere;
    modules that are imported and not used in a forward pass are empty ones of ours.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from PIL import Image

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def gavs(job: dict, frames: np.ndarray, sounds: torch.Tensor) -> tuple[torch.nn.Module, object, torch.nn.Module]:
    """run_v1m_x.py: AVSM, one frame after the other; sounds are embeddings [N, T, 128]."""
    sys.path[:0] = [job["root"], str(Path(job["root"]).parent)]
    sys.argv = ["run_v1m_x.py", "--tune_v", str(job["tune_v"]), "--device", "cpu"]
    from avs_model import AVSM
    from build_sam import sam_model_registry

    settings = {"device": "cpu", "tune_v": job["tune_v"], "loss": lambda prediction, mask: prediction.mean()}
    network = AVSM(model_v=sam_model_registry[job["size"]](None), model_t=None, config=settings)
    sam = network.model_v
    longest = sam.image_encoder.img_size

    def ask(sound: torch.Tensor) -> torch.Tensor:
        records = []
        for frame, heard in zip(frames, sound, strict=True):
            # cv2.imread, ResizeLongestSide.apply_image, Sam.preprocess.
            blue_first = np.ascontiguousarray(frame[..., ::-1])
            scale = longest * 1.0 / max(blue_first.shape[:2])
            height, width = (int(side * scale + 0.5) for side in blue_first.shape[:2])
            resized = np.array(Image.fromarray(blue_first).resize((width, height), Image.BILINEAR))
            picture = torch.as_tensor(resized).permute(2, 0, 1).contiguous()[None]
            records.append(
                {
                    "image": sam.preprocess(picture),
                    "input_size": tuple(picture.shape[-2:]),
                    "original_size": frame.shape[:2],
                    "audio": heard[None],
                }
            )
        masks = [torch.zeros(1, 1, *frames.shape[1:3]) for _ in frames]
        return torch.cat(network((records, masks, "a clip", None, None, None))[0])[:, 0]

    return network, ask, sam.mask_decoder


def sama(job: dict, frames: np.ndarray, sounds: torch.Tensor) -> tuple[torch.nn.Module, object, torch.nn.Module]:
    """test_avs.py: SAM.infer, one clip at a time; sounds are log-mels [N, T, 1, 96, 64]."""
    import yaml

    sys.path.insert(0, job["root"])
    from configs.vggish_config import cfg

    # Its own file of weights, which is not to be had here; the checkpoint holds the same tensors.
    cfg.TRAIN.FREEZE_AUDIO_EXTRACTOR = False
    import models

    settings = yaml.load(Path(job["config"]).read_text(), Loader=yaml.FullLoader)["model"]
    network = models.make(settings)
    pictures = _square(frames, settings["args"]["inp_size"])
    return network, lambda sound: network.infer(pictures, sound)[:, 0], network.mask_decoder


def ddeseg(job: dict, frames: np.ndarray, sounds: torch.Tensor) -> tuple[torch.nn.Module, object, None]:
    """train.py: DDESeg, a clip's frames as a batch; sounds are seconds at 22,050 Hz [N, T, 22050], each heard with seed 7."""
    import yaml

    sys.path.insert(0, job["root"])
    load = torch.load
    # Its constructor loads the audio backbone from a fixed path; strict=False, so that nothing is enough.
    torch.load = lambda *arguments, **named: {}
    from models import DDESeg

    settings = _attributes(yaml.safe_load(Path(job["config"]).read_text()))
    settings.align_model.avss_aud_bank = job["bank"]
    network = DDESeg(
        num_classes=job["classes"],
        embedding_dim=settings.seg_head.embedding_dim,
        audio_cfg=settings.audio_model,
        visual_cfg=settings.vis_model,
        av_cfg=settings.align_model,
        visual_pretrain=None,
        seg_head_cfg=settings.seg_head,
        task="v1s",
    )
    torch.load = load
    # The configuration makes mel filters of NaN (fmin equals fmax); trained weights come with others.
    network.audio_model.logmel_extractor.melW.uniform_(0, 0.02)
    pictures = _square(frames, 224 if job.get("image_size") is None else job["image_size"])

    def ask(sound: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(7)
        return network(img_input=pictures, aud_input=sound)

    return network, ask, None


KINDS = {"gavs": gavs, "sama": sama, "ddeseg": ddeseg}


def main(job: dict) -> None:
    """Do one job: kind, root, seed, inputs, checkpoint and answers are its keys, and those of the kind."""
    _install_missing()
    torch.set_grad_enabled(False)
    with np.load(job["inputs"]) as archive:
        frames, sounds = archive["frames"], torch.from_numpy(archive["sounds"])
    torch.manual_seed(job["seed"])
    network, ask, decoder = KINDS[job["kind"]](job, frames, sounds)
    _spread(network)
    network.eval()
    if decoder is not None:
        _centre_sam(decoder, lambda: ask(sounds[0]))
    else:
        network.decode_head.linear_pred.bias.sub_(ask(sounds[0]).median(dim=0).values.flatten(1).median(dim=1).values)
    state = network.state_dict()
    torch.save({"model": state, "epoch": 1, "miou": 0.5} if job["kind"] == "ddeseg" else state, job["checkpoint"])
    np.savez(job["answers"], logits=torch.stack([ask(sound) for sound in sounds]).numpy())


def _spread(network: torch.nn.Module) -> None:
    """Move what starts at 0 or 1 (norms, positions), and amplify what brings the sound in, so that each part is seen."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.named_parameters():
        if value.ndim == 1 or "pos" in name:
            value.add_(torch.randn(value.shape, generator=generator) * 0.05)
        if any(part in name for part in ("audio_proj", "lightweight_mlp", "aud_projs")):
            value.mul_(20)
        if ".audio_encoder." in f".{name}" and value.ndim > 1:
            # From torch's default to He's: untrained, VGGish says next to nothing.
            value.mul_(6**0.5)
    for name, value in network.named_buffers():
        if name.endswith("running_mean"):
            value.add_(torch.randn(value.shape, generator=generator) * 0.05)


def _centre_sam(decoder: torch.nn.Module, ask: object) -> None:
    """Move the logits of SAM's decoder, which lie on one side of 0 in an untrained network, around it."""
    seen = []
    handle = decoder.output_upscaling.register_forward_hook(lambda module, inputs, output: seen.append(output))
    logits = ask()
    handle.remove()
    mean = torch.cat(seen).mean(dim=(0, 2, 3))
    # Logits are a product of these activations with what this layer returns.
    decoder.output_hypernetworks_mlps[0].layers[-1].bias.sub_(logits.median() * mean / mean.dot(mean))


def _square(frames: np.ndarray, size: int) -> torch.Tensor:
    """torchvision's Resize, ToTensor and Normalize."""
    pictures = []
    for frame in frames:
        resized = np.array(Image.fromarray(frame).resize((size, size), Image.BILINEAR))
        tensor = torch.from_numpy(resized).permute(2, 0, 1).float().div(255)
        pictures.append((tensor - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None])
    return torch.stack(pictures)


class EasyDict(dict):
    """A dict whose keys are attributes."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


def _attributes(value: object) -> object:
    return EasyDict({key: _attributes(inner) for key, inner in value.items()}) if isinstance(value, dict) else value


def _install_missing() -> None:
    class Registry:
        def __init__(self, name: str) -> None:
            self.register_module = lambda: lambda registered: registered

    cv2, easydict, mmcv, utils = (types.ModuleType(name) for name in ("cv2", "easydict", "mmcv", "mmcv.utils"))
    easydict.EasyDict = EasyDict
    mmcv.__version__, mmcv.utils, mmcv.is_list_of = "1.7.0", utils, None
    utils.Registry, utils.build_from_cfg = Registry, None
    layers = types.ModuleType("timm.models.layers")
    # Random either way, and fast.
    layers.trunc_normal_ = torch.nn.init.normal_
    layers.DropPath, layers.to_2tuple = torch.nn.Dropout, lambda value: (value, value)
    packages = [types.ModuleType(name) for name in ("timm", "timm.models")]
    for module in (cv2, easydict, mmcv, utils, *packages, layers):
        sys.modules.setdefault(module.__name__, module)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))

"""CAVP's own loaders, front end and forward pass, run in its authors' environment, without any of our code.

Conventions
    ``python cavp_own.py JOB.json`` makes the network as test_avss_resize.py and test_avs_semantic.py do, with seeded random
    weights, saves it as their engine does, and saves what the loops of the trainers' `test` and `validation` answer to the first
    test clips of every tree of the job: class logits, and the waveforms of the loader.
    Needs torch, torchaudio, torchvision, timm, einops, easydict, loguru, pandas. What draws and reports is answered by empty
    modules: cv2, matplotlib, wandb, terminaltables, sklearn. "cuda" means the CPU.
"""

from __future__ import annotations

import copy
import json
import sys
import types
from pathlib import Path

import empty_modules
import numpy as np
import torch

EMPTY = ("cv2", "matplotlib", "wandb", "terminaltables", "sklearn", "torchmetrics", "seaborn", "moviepy")


def main(job: dict) -> None:
    """Do one job: root, data set, classes, trees by condition, clips, checkpoint, answers, seed."""
    empty_modules.install(EMPTY)
    sys.path.insert(0, job["root"])
    torch.Tensor.cuda = lambda self, *arguments, **named: self
    torch.nn.Module.cuda = lambda self, *arguments, **named: self
    to = torch.Tensor.to
    torch.Tensor.to = lambda self, *a, **k: self if a and a[0] == "cuda" else to(self, *a, **k)
    args = settings(job)
    network = make_network(args, job["seed"])
    trainer = front_end(args)
    answers = {}
    centred = False
    for condition, tree in job["trees"].items():
        for index, (name, images, waveform) in enumerate(clips(job, args, tree)):
            if index == job["clips"]:
                break
            # As the trainers view it.
            pieces = waveform.view(1, images.shape[0], 1, -1)
            count = 5 if job["dataset"] != "avss" else job["frames"][name]
            with torch.no_grad():
                spectra = [trainer.preprocess_audio(pieces[0, i, None]) for i in range(count)]
                if not centred:
                    centre(network, images[0, None], spectra[0])
                    centred = True
                logits = [network(images[i, None], spectra[i], eval_mode=True)[0] for i in range(count)]
            answers[f"{condition}|{name}"] = torch.cat(logits).numpy()
            answers[f"waveform|{condition}|{name}"] = waveform.numpy()
    # As engine/engine.py saves it: of the network in nn.DataParallel.
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save(
        {"model": state, "audio_optimizer": {}, "visual_optimizer": {}, "epoch": 3, "iteration": 9}, job["checkpoint"]
    )
    np.savez(job["answers"], **answers)


def settings(job: dict) -> object:
    """Their configuration, with the command line's defaults of config/flags.py."""
    from easydict import EasyDict

    if job["dataset"] == "avss":
        from config.config_avss import config
    else:
        from config.config_avss_binary import config
    args = EasyDict(config)
    args.update(setup="avss" if job["dataset"] == "avss" else "avss_binary", local_rank="cpu", resize_flag=True)
    args.update(
        avsbench_split="all" if job["dataset"] == "avss" else "v1s", visual_backbone=50, seg_model="DeepLabV3Plus"
    )
    args.update(use_synthetic=False, num_classes=job["classes"], image_width=224, image_height=224)
    return args


def make_network(args: object, seed: int) -> torch.nn.Module:
    import models.visual.backbones.resnet as resnet
    from models.cavp_model import CAVP

    # The files of pretrained weights are not here.
    resnet.load_model = lambda model, *rest: model
    torch.manual_seed(seed)
    network = CAVP(
        50, None, num_classes=args.num_classes, audio_backbone_pretrain_path=None, visual_backbone=50, args=args
    )
    generator = torch.Generator().manual_seed(0)
    for value in network.parameters():
        if value.ndim == 1:
            value.data.add_(torch.randn(value.shape, generator=generator) * 0.05)
    for name, value in network.named_buffers():
        if name.endswith("running_mean"):
            value.add_(torch.randn(value.shape, generator=generator) * 0.05)
    # Untrained, the sound says next to nothing.
    network.audio_backbone.backbone.embeddings[4].weight.data.mul_(300)
    return network.eval()


def front_end(args: object) -> object:
    """The trainer, as far as `preprocess_audio` needs it."""
    import torchaudio
    from trainer.trainer_cavp_avs_obj import CAVP_TRAINER

    stft = torchaudio.transforms.MelSpectrogram(
        sample_rate=16000, n_fft=512, win_length=400, hop_length=160, n_mels=64, f_min=125.0, f_max=3800.0
    )
    made = types.SimpleNamespace(args=args, stft=torch.nn.Sequential(stft))
    made.preprocess_audio = types.MethodType(CAVP_TRAINER.preprocess_audio, made)
    return made


def clips(job: dict, args: object, tree: str):
    """Name, pictures [T, 3, H, W] and waveform [1, 160000] of the test clips, by their own data sets."""
    if job["dataset"] == "avss":
        from config.avss import config_avsbench_semantics as semantics
        from dataset.avss.avss_datasets import AVSSDataset

        semantics.cfg.DATA.update(
            META_CSV_PATH=f"{tree}/metadata.csv", LABEL_IDX_PATH=f"{tree}/label2idx.json", DIR_BASE=tree
        )
        for image, waveform, _, _, name, *_ in items(AVSSDataset(args, "test")):
            yield name, image, waveform
        return
    if job["dataset"] == "s4":
        import config.avsbench.config_avsbench_s4 as places
        from dataset.avsbench_s4 import S4Dataset as Data
    else:
        import config.avsbench.config_avsbench_ms as places
        from dataset.avsbench_ms import MS3Dataset as Data
    # get_cfg joins the root to what it joined before.
    original = copy.deepcopy(dict(places.cfg.DATA))
    args.data_root = tree
    for image, waveform, _, _, name, *_ in items(Data("test", args)):
        yield name, image, waveform
    places.cfg.DATA.update(original)


def items(data):
    return (data[index] for index in range(len(data)))


def centre(network: torch.nn.Module, image: torch.Tensor, spectrum: torch.Tensor) -> None:
    """Move the classifier's bias so that an untrained network's classes are as frequent as one another."""
    logits = network(image, spectrum, eval_mode=True)[0]
    network.segment.upsample.classifier.bias.data.sub_(logits.mean(dim=(0, 2, 3)))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))

"""Clips per second of the debiased Mask2Former, in evaluation and in training, and what share of the device that uses.

Random weights, random pictures and sounds in memory. Measured are the model behind the adapter (`encode_frames` once,
`segment_many` for four conditions, clean and biased branch; the masks stay on the device, where the runner scores them) and the
step of training (losses, backward, AdamW). The share is the matrix operations that torch counts in one call (convolutions,
products and attention; twice their multiplications; uncompiled alone), per second, over those of a large square product of the
same precision, measured in the same run. `--grid-sample` leaves out the kernel of deformable attention, and
`--trained recipe` trains what m2f_debias_s4 does in place of everything. `benchmarks/roofline.py` estimates both on a CPU.

    python benchmarks/m2f_throughput.py --device cuda --bfloat16 [--compile] [--grid-sample] [--only evaluation|training]
    python benchmarks/m2f_throughput.py --toy --clips 2 --items 4 --repeat 2
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from avsrobust.adapters.base import ClipView
from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.training.losses import mask_losses
from avsrobust.training.model import Batch
from avsrobust.training.optimizer import choose_trained
from avsrobust.training.recipe import LossPart, load_train_recipe
from model_adapters.m2f import network as m2f_network
from model_adapters.m2f.adapter import M2FDebias
from model_adapters.m2f.checkpoint import LoadedNetwork, LoadReport
from model_adapters.m2f.config import PUBLISHED, M2FConfig, with_readout
from model_adapters.m2f.network import M2FNetwork
from model_adapters.m2f.settings import Settings
from model_adapters.m2f.training import M2FTraining

RECIPE = "m2f_debias_s4"
CONDITIONS = ("clean", "silence", "noise", "offscreen")
SECONDS = 5
FRAME_SIDE = 224
_SIDE_OF_PRODUCT = {"cuda": 8192, "cpu": 1024}


@dataclass(frozen=True)
class Setting:
    """Where and how precisely it is measured; `repeat`: timed calls, of which the median counts; `compiled`: by torch.compile."""

    device: torch.device
    bfloat16: bool
    repeat: int
    compiled: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """The type in which products are taken."""
        return torch.bfloat16 if self.bfloat16 else torch.float32

    def precision(self) -> AbstractContextManager[object]:
        """Return the context that asks for this precision."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self.bfloat16 else nullcontext()


@dataclass(frozen=True)
class Measured:
    """One call: median seconds, and the matrix operations counted in it."""

    seconds: float
    operations: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="a small size instead of the published one")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--compile", action="store_true", help="the network's parts through torch.compile")
    parser.add_argument("--clips", type=int, default=8, help="clips of five frames in a batch of the evaluation")
    parser.add_argument("--items", type=int, default=32, help="frames in a batch of the training")
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--grid-sample", action="store_true", help="deformable attention without its kernel")
    parser.add_argument(
        "--trained", choices=("all", "recipe"), default="all", help=f"all parameters, or those of {RECIPE}"
    )
    parser.add_argument("--only", choices=("evaluation", "training"), help="one of the two")
    arguments = parser.parse_args()
    setting = Setting(torch.device(arguments.device), arguments.bfloat16, arguments.repeat, arguments.compile)
    if arguments.grid_sample:
        m2f_network.can_fuse = lambda *_asked: False
    peak = _product(setting)
    compiled = ", compiled" if setting.compiled else ""
    config = M2FConfig() if arguments.toy else PUBLISHED
    heads = config.attention_heads
    kernel = m2f_network.can_fuse(torch.empty(0, device=setting.device).device, heads, config.hidden_dim // heads)
    print(f"{_name(setting.device)}, {setting.dtype}, torch {torch.__version__}{compiled}")
    print(f"deformable attention by {'its kernel' if kernel else 'grid_sample'}")
    how = f"{compiled}{', grid_sample' if arguments.grid_sample else ''}"
    print(f"a square product: {peak / 1e12:.2f} TFLOP/s")
    if arguments.only != "training":
        adapter = _adapter(arguments.toy, setting)
        evaluation = _measure(lambda: _evaluate(adapter, arguments.clips), setting)
        _tell(f"evaluation, 4 conditions x 2 branches{how}", evaluation, arguments.clips, "clips", peak)
    if arguments.only != "evaluation":
        model = _training(arguments.toy, setting)
        if arguments.trained == "recipe":
            choose_trained(model.network, load_train_recipe(RECIPE).model.trainable, "benchmark")
        training = _measure(_training_step(model, arguments.items, setting), setting)
        _tell(
            f"training, clean and biased branch, {arguments.trained} trained{how}",
            training,
            arguments.items,
            "frames",
            peak,
        )
    if setting.device.type == "cuda":
        print(f"most memory in use: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    return 0


def _adapter(toy: bool, setting: Setting) -> M2FDebias:
    network = (
        M2FNetwork.seeded(M2FConfig() if toy else with_readout(PUBLISHED, "foreground"), seed=0)
        .eval()
        .to(setting.device)
    )
    settings = Settings(
        debias="noise",
        precision="bfloat16" if setting.bfloat16 else "float32",
        compile="yes" if setting.compiled else "no",
    )
    return M2FDebias(LoadedNetwork(network, {}, LoadReport(0)), settings, setting.device)


def _training(toy: bool, setting: Setting) -> M2FTraining:
    # The recipe's patterns name the class predictor, which the toy's own readout would leave frozen.
    labels = {"readout": "foreground", "readout_labels": 22, **({"num_labels": 22} if toy else {})}
    size = {"size": "toy" if toy else "published", "config": labels}
    model = M2FTraining.open({**size, "debias": "noise"}, None, seed=0, where="benchmark")
    model.network.to(setting.device)
    if setting.compiled:
        model.compile()
    return model


def _evaluate(adapter: M2FDebias, clips: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (clips, SECONDS, 3, FRAME_SIDE, FRAME_SIDE), dtype=torch.uint8, generator=generator)
    shape = (1, 96, 64) if adapter.audio.kind == "log_mel" else (128,)
    sound = torch.randn(clips, SECONDS, *shape, generator=generator)
    encoded = adapter.encode_frames(frames)
    audio = torch.stack([sound] * len(CONDITIONS))
    return list(adapter.segment_many(encoded, audio, [_views(clips, name) for name in CONDITIONS]))


def _views(clips: int, condition: str) -> list[ClipView]:
    return [
        ClipView("s4", "test", str(clip), condition, None, 0, clip, (), None, SECONDS, 16_000) for clip in range(clips)
    ]


def _training_step(model: M2FTraining, items: int, setting: Setting) -> Callable[[], None]:
    batch = _batch(model, items).known()
    # Drawn on the host before the pass, as the trainer does it.
    batch = batch._replace(drawn=model.draw(batch))
    network = model.network
    trained = [part for part in network.parameters() if part.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True if setting.device.type == "cuda" else None)

    def step() -> None:
        network.train()
        optimizer.zero_grad()
        sent = batch.to(setting.device)
        with setting.precision():
            logits = network(sent).logits
        torch.stack(list(mask_losses(logits, sent.scored_target, LossPart()).values())).sum().backward()
        optimizer.step()

    return step


def _batch(model: M2FTraining, items: int) -> Batch:
    generator = torch.Generator().manual_seed(1)
    side = model.image_size
    shape = (1, 96, 64) if model.audio.kind == "log_mel" else (128,)
    return Batch(
        frames=torch.randint(0, 256, (items, 1, 3, side, side), dtype=torch.uint8, generator=generator),
        picture=torch.arange(items),
        audio=torch.randn(items, 1, *shape, generator=generator),
        target=torch.randint(0, 2, (items, 1, side, side), dtype=torch.uint8, generator=generator),
        scored=torch.ones(items, 1, dtype=torch.bool),
        positive=torch.ones(items),
        weight=torch.ones(items),
        audio_labels=torch.zeros(items, 1, len(AVSS_CLASSES)),
        seed=0,
    )


def _product(setting: Setting) -> float:
    """Return the matrix operations per second of one large square product."""
    side = _SIDE_OF_PRODUCT.get(setting.device.type, 1024)
    one, other = (torch.randn(side, side, device=setting.device, dtype=setting.dtype) for _ in range(2))
    return 2 * side**3 / _median_seconds(lambda: one @ other, setting)


def _measure(call: Callable[[], object], setting: Setting) -> Measured:
    seconds = _median_seconds(call, setting)
    if setting.compiled:
        return Measured(seconds, float("nan"))
    with FlopCounterMode(display=False) as counter:
        call()
    return Measured(seconds, float(counter.get_total_flops()))


def _median_seconds(call: Callable[[], object], setting: Setting) -> float:
    times = []
    for _ in range(setting.repeat + 2):
        _wait(setting.device)
        start = time.perf_counter()
        call()
        _wait(setting.device)
        times.append(time.perf_counter() - start)
    # The first two pay for kernels and memory.
    return statistics.median(times[2:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} thread(s)"


def _tell(what: str, measured: Measured, count: int, unit: str, peak: float) -> None:
    rate = measured.operations / measured.seconds
    print(
        f"{what}: {count / measured.seconds:.2f} {unit}/s  ({measured.operations / count / 1e9:.1f} GFLOP each, "
        f"{rate / 1e12:.2f} TFLOP/s, {rate / peak:.1%} of the product)"
    )


if __name__ == "__main__":
    sys.exit(main())

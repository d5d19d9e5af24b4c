"""Encode once: time of our debiased evaluation of one clip against full forward passes of the same network, in one run.

At the published size (Swin-B, 384 pixels, 100 queries, random weights), five frames, four conditions, clean and biased
branch: ours runs the backbone and the pixel decoder once and the masked decoder once on all eight audio queries; a plain
evaluation runs all of the network eight times. Expected: a ratio of at least 5. On the CPU it is CPU time of one thread,
which other work on the machine changes least.

    python benchmarks/m2f_encode_once.py [--toy] [--device cpu|cuda] [--repeat N] [--bfloat16]
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from model_adapters.m2f.config import PUBLISHED, M2FConfig
from model_adapters.m2f.debias import LAST_STEP, NoisyAudio, alpha_bars, prompt_queries
from model_adapters.m2f.network import M2FNetwork
from model_adapters.m2f.readout import read_out

CONDITIONS = ("clean", "silence", "noise", "offscreen")
FRAMES = 5
REQUIRED = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", action="store_true", help="a small size, that of the tests, instead")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true")
    arguments = parser.parse_args()
    config = M2FConfig() if arguments.toy else PUBLISHED
    device = torch.device(arguments.device)
    torch.set_num_threads(1)
    network = M2FNetwork.seeded(config, seed=0).eval().to(device)
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(FRAMES, 3, config.image_size, config.image_size, generator=generator).to(device)
    sounds = {name: _sound(config, generator).to(device) for name in CONDITIONS}
    contrast = NoisyAudio(
        alpha_bars()[LAST_STEP].to(device), torch.randn(FRAMES, config.hidden_dim, generator=generator).to(device)
    )
    precision = torch.autocast(device.type, dtype=torch.bfloat16) if arguments.bfloat16 else contextlib.nullcontext()
    with torch.inference_mode(), precision:
        once = _time(lambda: _encode_once(network, frames, sounds, contrast), arguments.repeat, device)
        encoding = _time(lambda: network.encode(frames), arguments.repeat, device)
        plain = _time(lambda: _full_passes(network, frames, sounds, contrast), arguments.repeat, device)
        apart = _difference(network, frames, sounds, contrast)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    size = "toy" if arguments.toy else "published"
    print(f"{size} size, {parameters / 1e6:.1f} M parameters, {FRAMES} frames, {device}")
    print(f"encode once, decode {len(CONDITIONS)} x 2 together: {once:8.3f} s  (of which encoding {encoding:.3f} s)")
    print(f"{2 * len(CONDITIONS)} full forward passes:     {plain:8.3f} s")
    print(f"largest difference of the maps: {apart:.1e}")
    print(f"ratio {plain / once:.2f} (expected: at least {REQUIRED})")
    return 0 if plain / once >= REQUIRED else 1


def _sound(config: M2FConfig, generator: torch.Generator) -> Tensor:
    shape = (FRAMES, 1, 96, 64) if config.audio == "log_mel" else (FRAMES, 128)
    return torch.randn(shape, generator=generator)


def _encode_once(
    network: M2FNetwork, frames: Tensor, sounds: dict[str, Tensor], contrast: NoisyAudio
) -> dict[str, Tensor]:
    encoded = network.encode(frames)
    branches = [network.branches(network.embed_audio(sound), None, contrast) for sound in sounds.values()]
    decoded = network.decode_prompts(encoded, [branch.prompt for pair in branches for branch in pair])
    return {
        name: read_out(network.config, [next(decoded) for _ in pair], [branch.gate for branch in pair])
        for name, pair in zip(sounds, branches, strict=True)
    }


def _full_passes(
    network: M2FNetwork, frames: Tensor, sounds: dict[str, Tensor], contrast: NoisyAudio
) -> dict[str, Tensor]:
    maps = {}
    for name, sound in sounds.items():
        projected = network.embed_audio(sound)
        gate = network.gate_of(projected)
        clean = network.decode(network.encode(frames), prompt_queries(projected, gate))
        biased = network.decode(network.encode(frames), contrast.branch(projected, gate).prompt)
        maps[name] = read_out(network.config, [clean, biased], [gate, gate])
    return maps


def _difference(network: M2FNetwork, frames: Tensor, sounds: dict[str, Tensor], contrast: NoisyAudio) -> float:
    first = {CONDITIONS[0]: sounds[CONDITIONS[0]]}
    ours, theirs = (way(network, frames, first, contrast)[CONDITIONS[0]] for way in (_encode_once, _full_passes))
    return float((ours - theirs).abs().max() / theirs.std())


def _time(call: Callable[[], object], repeat: int, device: torch.device) -> float:
    """Return the shortest of `repeat` timed calls, in seconds: of CPU time, or of the clock for a GPU, which is warmed up."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    if device.type == "cuda":
        call()
    times = []
    for _ in range(repeat):
        _wait(device)
        start = clock()
        call()
        _wait(device)
        times.append(clock() - start)
    return min(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    sys.exit(main())

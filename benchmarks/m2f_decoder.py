"""Masked decoder: time of ours against the library's own on the same weights and frames, in one run, interleaved.

At the published size (Swin-B, 384 pixels, 100 queries, random weights): five frames, four conditions, clean and biased branch.
The library's decoder is called as avsrobust called it before: once per condition, the frames repeated for the two branches. Ours
takes all conditions and branches in one call; its share of the encoding (keys, values, shrunk mask features) is counted with it.
On the CPU it is CPU time of one thread, which other work on the machine changes least; the ratio is that of the medians.
Expected: a ratio of at least 1.5.

    python benchmarks/m2f_decoder.py [--toy] [--device cpu|cuda] [--repeat N] [--bfloat16]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from model_adapters.m2f.config import PUBLISHED, M2FConfig
from model_adapters.m2f.decoder import prepare
from model_adapters.m2f.network import M2FNetwork

CONDITIONS, BRANCHES, FRAMES = 4, 2, 5
REQUIRED = 1.5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="a small size, that of the tests, instead")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--bfloat16", action="store_true")
    arguments = parser.parse_args()
    config = M2FConfig() if arguments.toy else PUBLISHED
    device = torch.device(arguments.device)
    torch.set_num_threads(1)
    network = M2FNetwork.seeded(config, seed=0).eval().to(device)
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(FRAMES, 3, config.image_size, config.image_size, generator=generator).to(device)
    shape = (FRAMES, config.num_queries, config.hidden_dim)
    prompts = [[torch.randn(shape, generator=generator).to(device) for _ in range(BRANCHES)] for _ in range(CONDITIONS)]
    precision = torch.autocast(device.type, dtype=torch.bfloat16) if arguments.bfloat16 else contextlib.nullcontext()
    with torch.inference_mode(), precision:
        pixels = network.mask2former.model.pixel_level_module(pixel_values=frames)
        ways = {
            "the library's": lambda: _stock(network, pixels, prompts),
            "ours": lambda: _ours(network, pixels, prompts),
        }
        seconds, masks = _interleaved(ways, arguments.repeat, device)
        with FlopCounterMode(display=False) as counter:
            ways["ours"]()
        apart, sides = _difference(masks["ours"], masks["the library's"])
    print(
        f"{'toy' if arguments.toy else 'published'} size, {FRAMES} frames, {CONDITIONS} x {BRANCHES} prompts, {device}"
    )
    for name, taken in seconds.items():
        print(f"{name:14}{statistics.median(taken):8.3f} s  ({', '.join(f'{one:.3f}' for one in taken)})")
    print(f"matrix operations of ours: {counter.get_total_flops() / 1e9:.2f} GFLOP")
    print(f"largest difference of the masks: {apart:.1e} of their deviation; {sides:.1e} of the pixels change side")
    ratio = statistics.median(seconds["the library's"]) / statistics.median(seconds["ours"])
    print(f"ratio {ratio:.2f} (expected: at least {REQUIRED})")
    return 0 if ratio >= REQUIRED else 1


def _ours(network: M2FNetwork, pixels: Any, prompts: list[list[Tensor]]) -> list[Tensor]:
    """Return the mask logits; the readout takes them only where it needs them, but the library's decoder makes them all."""
    module = network.mask2former.model.transformer_module
    encoded = prepare(module, tuple(pixels.decoder_hidden_states), pixels.decoder_last_hidden_state)
    decoded = network.decode_prompts(encoded, [prompt for branches in prompts for prompt in branches])
    return [queries.masks for queries in decoded]


def _stock(network: M2FNetwork, pixels: Any, prompts: list[list[Tensor]]) -> list[Tensor]:
    return [one for branches in prompts for one in _stock_condition(network, pixels, branches)]


def _stock_condition(network: M2FNetwork, pixels: Any, branches: list[Tensor]) -> list[Tensor]:
    module, prompt = network.mask2former.model.transformer_module, torch.cat(branches)

    def add(_module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "inputs_embeds": kwargs["inputs_embeds"] + prompt.transpose(0, 1)}

    handle = module.decoder.register_forward_pre_hook(add, with_kwargs=True)
    try:
        out = module(
            multi_scale_features=[level.repeat(BRANCHES, 1, 1, 1) for level in pixels.decoder_hidden_states],
            mask_features=pixels.decoder_last_hidden_state.repeat(BRANCHES, 1, 1, 1),
        )
    finally:
        handle.remove()
    network.mask2former.class_predictor(out.intermediate_hidden_states[-1].transpose(0, 1))
    return list(out.masks_queries_logits[-1].chunk(BRANCHES))


def _difference(ours: list[Tensor], theirs: list[Tensor]) -> tuple[float, float]:
    pairs = [(one.float(), other.float()) for one, other in zip(ours, theirs, strict=True)]
    apart = max(float((one - other).abs().max() / other.std()) for one, other in pairs)
    return apart, sum(float(((one > 0) != (other > 0)).float().mean()) for one, other in pairs) / len(pairs)


def _interleaved(
    ways: dict[str, Callable[[], list[Tensor]]], repeat: int, device: torch.device
) -> tuple[dict[str, list[float]], dict[str, list[Tensor]]]:
    """Return the seconds of `repeat` calls of each way, in turn, and what the last ones returned.

    They are seconds of CPU time, or of the clock for a GPU, which is warmed up.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, list[Tensor]] = {}
    for number in range(repeat + (device.type == "cuda")):
        for name, call in ways.items():
            _wait(device)
            start = clock()
            found[name] = call()
            _wait(device)
            if number >= (device.type == "cuda"):
                seconds[name].append(clock() - start)
    return seconds, found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    sys.exit(main())

"""Operations that a training step hands to the device, by part, and how often the step waits for it; counted on the CPU.

A small network on a GPU is bound by the launching of its kernels: a step takes as long as it takes to hand them over. What is
handed over does not depend on the device: `avsrobust.training.engine.train` runs a recipe on toy clips on the CPU, and every
operation that reaches the dispatcher is counted. Views and allocations launch nothing; all else is counted once, operations on
lists of tensors (AdamW, norms of gradients) once per 30 tensors, random numbers of a generator on the host as "host". Some
operations launch two or three kernels, so that the counts are a lower bound. "waits" are the operations that end the overlap of
host and device: those of which the host needs a number or a shape, and copies to the device that do not go on beside it (a
constant made of a list, `to(device)` without `non_blocking`). Backward operations belong to the part whose forward they undo.
The batch is small, and the published network narrow, with all of its layers, and takes log-mels in place of VGGish's embedding.

    python benchmarks/launches.py [--recipe NAME]... [--against CHECKOUT] [--operations] [--data FOLDER]

`--against` counts another checkout of the project too, in a process of its own, and prints the ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

ROOT = Path(__file__).resolve().parents[1]
TOYS = ("m2f_sound_toy", "m2f_toy", "m2f_debias_toy", "m2f_robust_toy")
PUBLISHED = ("m2f_debias_s4",)
PARTS = ("audio", "backbone", "pixel decoder", "masked decoder", "losses", "readout", "gradients", "optimizer", "rest")
# Tensors that torch's lists of tensors hand over per launch (`MultiTensorApply.cuh`, of four lists).
_PER_LAUNCH = 30
# Counted are the steps after the first, up to the last.
_FIRST, _LAST = 1, 3
_CLIPS = 60
# Frames of a step: what is handed over does not depend on their number.
_FRAMES = {"toy": 8, "published": 2}
# Nor on the widths: the published network with all of its layers, narrow, and with maps of as many windows as it has or more.
_NARROW = {
    "audio": "log_mel", "image_size": 96, "window_size": 3, "embed_dim": 16, "num_heads": [1, 2, 2, 2], "hidden_dim": 32,
    "encoder_feedforward_dim": 32, "feedforward_dim": 32, "attention_heads": 2, "num_queries": 8,
}  # fmt: skip
# Their result has a shape, or is a number, that the host waits for.
_WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2")
# What is counted as a wait in clipping and AdamW is none on a GPU: their numbers of the host, and copies that change no device.
_BESIDE = ("gradients", "optimizer")
_ATTENTION = "attention"
_NO_LAUNCH = (
    "detach", "empty", "empty_like", "empty_strided", "is_same_size", "lift_fresh", "_local_scalar_dense", "new_empty",
    "new_empty_strided", "_record_function_enter_new", "_record_function_exit", "_unsafe_view",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", action="append", help=f"[default: {', '.join((*TOYS, *PUBLISHED))}]")
    parser.add_argument("--against", type=Path, help="another checkout of the project")
    parser.add_argument("--operations", action="store_true", help="list the operations too")
    parser.add_argument("--data", type=Path, help="folder that the toy clips are kept in [default: a temporary one]")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    recipes = arguments.recipe or [*TOYS, *PUBLISHED]
    if arguments.child:
        print(json.dumps(count_recipe(recipes[0], arguments.data)))
        return 0
    sides = {"this checkout": ROOT, **({"the other": arguments.against.resolve()} if arguments.against else {})}
    with tempfile.TemporaryDirectory(prefix="avsrobust-launches-") as temporary:
        data = (arguments.data or Path(temporary)).resolve()
        for recipe in recipes:
            found = {name: _in_checkout(recipe, checkout, data) for name, checkout in sides.items()}
            _tell(recipe, found, arguments.operations)
    return 0


class Launches(TorchDispatchMode):
    """Counts by (part, direction, kind, operation), where kind is one of launch, wait, host."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[str, str, str, str]] = Counter()
        self.counting = False
        self._parts = ["rest"]
        # From which number of autograd's nodes on they belong to which part.
        self._nodes: list[tuple[int, str]] = [(0, "rest")]
        self._undone: set[tuple[str, int]] = set()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what is called inside as `name`, and its backward too."""
        self._parts.append(name)
        self._mark()
        try:
            yield
        finally:
            self._parts.pop()
            self._mark()

    def copied(self) -> None:
        """Count a copy to the device that is waited for."""
        if self.counting and self._parts[-1] not in ("reading", *_BESIDE):
            self.counts[self._parts[-1], "forward", "wait", "to(device)"] += 1

    def _mark(self) -> None:
        if torch.is_grad_enabled():
            with _disable_current_modes():
                node = (torch.zeros((), requires_grad=True) * 1).grad_fn
            self._nodes.append((node._sequence_nr(), self._parts[-1]))

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        node = torch._C._current_autograd_node()
        if self.counting and node is not None and (call := self._call_of(node)) is not None:
            if call not in self._undone:
                self._undone.add(call)
                self.counts[call[0], "backward", "launch", _ATTENTION] += 1
        elif self.counting and node is None and _ATTENTION in self._parts:
            pass
        elif self.counting and (node is not None or self._parts[-1] != "reading"):
            name = function.overloadpacket.__name__
            part, direction = (self._parts[-1], "forward") if node is None else (self._part_of(node), "backward")
            for kind, number in _kinds(function, name, args, kwargs):
                # AdamW's counts of steps are numbers of the host on a GPU too.
                if kind != "wait" or part not in _BESIDE:
                    self.counts[part, direction, kind, name] += number
        return function(*args, **kwargs)

    def attend(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call attention, which is one launch forward and one backward on a GPU, whatever the CPU makes of it."""
        if self.counting:
            self.counts[self._parts[-1], "forward", "launch", _ATTENTION] += 1
        with self.part(_ATTENTION):
            return call(*args, **kwargs)

    def _part_of(self, node: Any) -> str:
        number = node._sequence_nr()
        if number >= 1 << 62:
            return "gradients"
        return next((part for first, part in reversed(self._nodes) if first <= number), "rest")

    def _call_of(self, node: Any) -> tuple[str, int] | None:
        """Return part and first node of the call of attention that a node of autograd belongs to, None where it does to none."""
        number = node._sequence_nr()
        place = next((place for place, (first, _) in enumerate(reversed(self._nodes)) if first <= number), None)
        if place is None or number >= 1 << 62:
            return None
        at = len(self._nodes) - 1 - place
        return (self._nodes[at - 1][1], self._nodes[at][0]) if self._nodes[at][1] == _ATTENTION else None


def _kinds(function: Any, name: str, args: Any, kwargs: Any) -> Iterator[tuple[str, int]]:
    if kwargs.get("generator") is not None or name == "randperm":
        yield "host", 1
        return
    constant = name == "lift_fresh" and args[0].dim() > 0
    if constant or name in _WAITS or (name.startswith("index") and _has_mask(args)):
        yield "wait", 1
    if name in _NO_LAUNCH or _is_view(function):
        return
    lists = [
        len(each) for each in args if isinstance(each, list | tuple) and each and isinstance(each[0], torch.Tensor)
    ]
    of_lists = lists and (name.startswith(("_foreach", "_fused")) or name.endswith("_for_each"))
    yield "launch", -(-lists[0] // _PER_LAUNCH) if of_lists else 1


def _has_mask(args: Any) -> bool:
    indices = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ()
    return any(isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in indices)


def _is_view(function: Any) -> bool:
    returns = function._schema.returns
    return bool(returns) and all(one.alias_info is not None and not one.alias_info.is_write for one in returns)


def count_recipe(name: str, data: Path) -> dict[str, Any]:
    """Return the counts of one step of a recipe, by part, with the checkout that is imported."""
    from avsrobust.toy.build import toy_build
    from avsrobust.training.data import TrainingBuild
    from avsrobust.training.engine import TrainOptions, train
    from avsrobust.training.recipe import load_train_recipe

    torch.set_num_threads(1)
    recipe = load_train_recipe(name)
    options = dict(recipe.model.options)
    size = str(options.get("size", "toy"))
    if size == "published":
        options["config"] = {**options.get("config", {}), **_NARROW}
    steps = _LAST + 1
    length = {"steps": steps, "validate_every": steps, "validate_clips": 1, "checkpoint_every": steps}
    run = replace(recipe.run, batch_size=_FRAMES[size], accumulate=1, **length)
    recipe = replace(recipe, model=replace(recipe.model, options=options), run=run)
    launches = Launches()
    _name_parts(launches)

    def progress(done: int, total: int) -> None:
        if total == steps:
            if done == _LAST and launches.counting:
                raise _EnoughError
            launches.counting = done >= _FIRST

    with tempfile.TemporaryDirectory(prefix="avsrobust-launches-") as folder:
        builds = []
        for dataset in recipe.data.datasets:
            manifest = toy_build(dataset, _CLIPS, 0, on_message=lambda _line: None, root=data)
            builds.append(TrainingBuild(manifest, manifest.data_root(None)))
        with contextlib.suppress(_EnoughError), launches:
            train(
                recipe,
                builds,
                TrainOptions(Path(folder) / "run", device="cpu"),
                where=name,
                progress=progress,
                on_message=lambda line: print(line, file=sys.stderr),
            )
    each = _LAST - _FIRST
    return {"counts": [[*key, number / each] for key, number in sorted(launches.counts.items())]}


class _EnoughError(Exception):
    """The steps have been counted."""


def _name_parts(launches: Launches) -> None:
    """Wrap the parts' functions, as this checkout and earlier ones have them."""
    import transformers.models.mask2former.modeling_mask2former as stock
    import transformers.models.swin.modeling_swin as swin
    from torch.optim import adam
    from torch.utils.data import dataloader

    import avsrobust.training.engine as engine
    import model_adapters.m2f.network as network
    import model_adapters.m2f.training as training

    def wrap(owner: Any, name: str, part: str) -> None:
        plain: Callable[..., Any] | None = getattr(owner, name, None)
        if plain is None:
            return

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with launches.part(part):
                return plain(*args, **kwargs)

        setattr(owner, name, wrapped)

    wrap(dataloader._BaseDataLoaderIter, "__next__", "reading")
    wrap(swin.SwinBackbone, "forward", "backbone")
    wrap(network, "feature_maps", "backbone")
    wrap(network, "decode_pixels", "pixel decoder")
    wrap(stock.Mask2FormerPixelDecoder, "forward", "pixel decoder")
    for name in ("prepare", "decode"):
        wrap(network, name, "masked decoder")
    wrap(network.M2FNetwork, "embed_audio", "audio")
    wrap(network, "read_out", "readout")
    for name in ("read_out", "resize"):
        wrap(training, name, "readout")
    # On the host, before a step.
    wrap(engine._Run, "_with_noise", "reading")
    plain_attention = torch.nn.functional.scaled_dot_product_attention
    torch.nn.functional.scaled_dot_product_attention = partial(launches.attend, plain_attention)
    # Earlier the engine took the losses itself.
    for name in ("mask_losses", "similarity_loss"):
        wrap(sys.modules.get("avsrobust.training.step", engine), name, "losses")
    for name in ("_gate_losses", "_picture_losses", "_biased_loss"):
        wrap(training._Step, name, "losses")
    wrap(torch.optim.AdamW, "step", "optimizer")
    wrap(torch.optim.Optimizer, "zero_grad", "gradients")
    wrap(torch.nn.utils, "clip_grad_norm_", "gradients")
    # As on a GPU: unless a recipe asks otherwise, operations on lists of tensors, and copies that are waited for.
    adam._default_to_fused_or_foreach = lambda *_args, **_kwargs: (False, True)
    torch.nn.utils.clip_grad._has_foreach_support = lambda *_args: True
    plain = torch.Tensor.to

    def to(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        named = kwargs.get("device") is not None or any(isinstance(each, torch.device) for each in args)
        if named and not kwargs.get("non_blocking"):
            launches.copied()
        return plain(self, *args, **kwargs)

    torch.Tensor.to = to  # type: ignore[method-assign]


def _in_checkout(recipe: str, checkout: Path, data: Path) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": f"{checkout}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, __file__, "--child", "--recipe", recipe, "--data", str(data)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{checkout}: {run.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def _tell(recipe: str, found: dict[str, dict[str, Any]], operations: bool) -> None:
    print(f"\n{recipe}, one step")
    print(f"| part | {' | '.join(f'{name}: forward | backward | waits | host' for name in found)} |")
    print("| --- |" + " --- |" * 4 * len(found))
    columns = [("forward", "launch"), ("backward", "launch"), ("", "wait"), ("", "host")]
    for part in (*PARTS, "all"):
        cells = [
            f"{_sum(side['counts'], part, direction, kind):g}" for side in found.values() for direction, kind in columns
        ]
        print(f"| {part} | {' | '.join(cells)} |")
    totals = [_sum(side["counts"], "all", "", "launch") for side in found.values()]
    waits = [_sum(side["counts"], "all", "", "wait") for side in found.values()]
    line = f"{recipe}: {totals[0]:g} launches, {waits[0]:g} waits"
    if len(totals) > 1:
        line += f"; the other: {totals[1]:g}, {waits[1]:g}; ratio {totals[1] / totals[0]:.2f}"
    print(line, flush=True)
    if operations:
        for name, side in found.items():
            for part, direction, kind, operation, number in sorted(side["counts"], key=lambda row: (row[:3], -row[4])):
                print(f"  {name}: {part:16}{direction:10}{kind:8}{operation:40}{number:g}")


def _sum(counts: list[list[Any]], part: str, direction: str, kind: str) -> float:
    return sum(
        number
        for where, way, what, _, number in counts
        if part in ("all", where) and direction in ("", way) and what == kind
    )


if __name__ == "__main__":
    sys.exit(main())

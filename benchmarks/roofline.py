"""Time that a GPU would take for the published network, estimated without one, and the operations that cost most.

Encoding, four conditions of two branches, and a step of training run on tensors without data (torch's `FakeTensorMode`). Every
operation that reaches the dispatcher is counted at its true size: bytes read and written, and the multiplications and additions
of products. It takes the longest of a launch, its bytes over a bandwidth and its operations over a rate, which differ by the kind
of kernel. Those are an H200's, read off profiles of this network there (torch 2.11, bfloat16): `_BANDWIDTHS`, `_RATES`.

What is estimated is the device's own time, one kernel after the other. Beside it stands the host's, launches times what one took
there. The larger of the two is what a step takes; as a CUDA graph the device's alone. autocast has cuda's lists in place of the
CPU's, and attention is one operation forward and one backward, as on a GPU. Backward operations stand at the line whose forward
they undo. An estimate says what to look at first; whether a change is faster, a GPU tells.

    python benchmarks/roofline.py [--against CHECKOUT] [--only encode|segment|training] [--trained recipe|all] [--top 20]
    python benchmarks/roofline.py --toy --clips 1 --items 2
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

ROOT = Path(__file__).resolve().parents[1]
CONDITIONS, SECONDS, FRAME_SIDE = 4, 5, 224
PARTS = ("encode", "segment", "training")
# What the recipes of the published size train, `recipes/m2f_debias_s4.yaml`.
RECIPE = "m2f_debias_s4"

# Bytes per second of an H200's kernels, from profiles: copies and sums of tensors that lie alike; copies that change the order;
# bytes (masks) broadcast; and kernels that are slower than their traffic. "cache" and "atomic" (rows read from the second cache,
# and added to there) are guesses: no kernel of ours has been timed.
_BANDWIDTHS = {
    "elementwise": 2.6e12, "reordering": 1.7e12, "bytes": 1.2e12, "reduction": 1.1e12, "layer norm backward": 2.2e12,
    "grid_sampler_2d": 1.2e12, "grid_sampler_2d_backward": 0.2e12, "upsample_bilinear2d": 0.45e12,
    "upsample_bilinear2d_backward": 0.3e12, "gather": 1.3e12, "index_backward": 0.2e12, "attention": 0.7e12, "product": 2.4e12,
    "cache": 2.5e12, "atomic": 2e12,
}  # fmt: skip
# Shrinking, one output pixel per thread and all channels in one: 3.7 ms for [32, 256, 96, 96].
_SHRINKING = 0.05e12
# Rows of 128 numbers take 0.68 TB/s, of 256 1.15 TB/s.
_ROW, _BANDWIDTH_OF_ROWS, _EXPONENT, _MOST_OF_ROWS = 128, 0.68e12, 0.75, 2.2e12
# Operations per second: products and convolutions of bfloat16, of float32 (without TF32, as torch has it), attention.
_RATES = {"bfloat16": 550e12, "float32": 45e12, "attention": 115e12}
# Convolutions in float32 take TF32.
_TF32 = 250e12
# A kernel that does nothing, and the host's time to launch one: four conditions took 17.4 ms for some 850 launches, of which
# the device worked for 14.4.
_KERNEL_S, _LAUNCH_S = 2e-6, 20e-6

_ATTENTION, _DEFORMABLE = "attention", "deformable attention"
_NO_LAUNCH = (
    "detach", "empty", "empty_like", "empty_strided", "is_same_size", "lift_fresh", "_local_scalar_dense", "new_empty",
    "new_empty_strided", "_unsafe_view", "device",
)  # fmt: skip
# One kernel each, though torch can take them apart.
_WHOLE = ("upsample_bilinear2d", "_upsample_bilinear2d_aa", "native_layer_norm", "grid_sampler_2d")
# What they are called with is written, or only its type is looked at.
_WRITES = ("copy_", "fill_", "zero_", "new_ones", "new_zeros", "new_full", "ones_like", "zeros_like", "full_like")
_GATHERS = ("index", "index_select", "gather", "embedding")
_SUMS = ("sum", "mean", "any", "amax", "max", "logsumexp", "_softmax", "_log_softmax", "norm", "linalg_vector_norm")
# torch/csrc autocast_mode.h, AT_FORALL_FP32 and AT_FORALL_FP32_SET_OPT_DTYPE, as far as the network and its losses meet them.
_CUDA_FLOAT32 = (
    "layer_norm", "native_layer_norm", "group_norm", "cosine_similarity", "nll_loss", "nll_loss2d",
    "binary_cross_entropy_with_logits", "logsumexp", "softplus", "exp", "log", "pow.Tensor_Scalar", "rsqrt", "reciprocal",
    "softmax.int", "log_softmax.int", "sum", "sum.dim_IntList", "cumsum", "prod", "linalg_vector_norm",
)  # fmt: skip
# In the CPU's list of float32, and not in cuda's.
_CPU_FLOAT32_ALONE = (
    "upsample_bilinear2d.vec",
    "upsample_bilinear2d",
    "grid_sampler",
    "grid_sampler_2d",
    "binary_cross_entropy",
)
_OURS = (f"{os.sep}model_adapters{os.sep}", f"{os.sep}avsrobust{os.sep}")


@dataclass
class Work:
    """Total cost of one operation at one line.

    Attributes:
        calls: Launches.
        bytes: Read and written.
        operations: Multiplications and additions.
        seconds: Estimated time on the device.
    """

    calls: int = 0
    bytes: float = 0.0
    operations: float = 0.0
    seconds: float = 0.0

    def add(self, number: float, operations: float, seconds: float) -> None:
        """Add a call."""
        self.calls += 1
        self.bytes += number
        self.operations += operations
        self.seconds += seconds


class Roofline(TorchDispatchMode):
    """Counts work by (line, direction, operation)."""

    def __init__(self) -> None:
        super().__init__()
        self.work: dict[tuple[str, str, str], Work] = {}
        # From which number of autograd's nodes on they belong to which line.
        self._numbers, self._lines = [-1], ["gradients"]

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.prim.device.default:
            return function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name not in _WHOLE:
            # In inference mode operations arrive whole that are made of others.
            with self:
                result = function.decompose(*args, **(kwargs or {}))
            if result is not NotImplemented:
                return result
        result = function(*args, **(kwargs or {}))
        if name not in _NO_LAUNCH and not _is_view(function):
            inputs = [each for each in tree_leaves((args, kwargs or {})) if isinstance(each, Tensor)]
            self._count(
                function, name, inputs, [each for each in tree_leaves(result) if isinstance(each, Tensor)], args
            )
        elif torch._C._current_autograd_node() is None:
            self._mark(_line())
        return result

    def add(self, name: str, direction: str, line: str, cost: tuple[float, float, float]) -> None:
        """Add a call of an operation at a line: bytes, operations, seconds."""
        self.work.setdefault((line, direction, name), Work()).add(*cost)

    def line(self) -> tuple[str, str]:
        """Return the line that now computes, and the direction."""
        node = torch._C._current_autograd_node()
        if node is None:
            line = _line()
            self._mark(line)
            return line, "forward"
        number = node._sequence_nr()
        if number >= 1 << 62:
            return "gradients", "backward"
        return self._lines[bisect_right(self._numbers, number) - 1], "backward"

    def _mark(self, line: str) -> None:
        # The node of an operation has been made when it arrives here.
        number = torch._C._autograd._get_sequence_nr() - 1
        if torch.is_grad_enabled() and number > self._numbers[-1]:
            self._numbers.append(number)
            self._lines.append(line)

    def _count(self, function: Any, name: str, inputs: list[Tensor], outputs: list[Tensor], args: Any) -> None:
        line, direction = self.line()
        written = sum(map(_extent, outputs)) if outputs else 0
        if _mutates(function) or name.startswith(("_fused", "_foreach")):
            # In place: what is written has been read.
            written = written or sum(
                _extent(each)
                for argument, value in zip(function._schema.arguments, args, strict=False)
                if argument.alias_info is not None and argument.alias_info.is_write
                for each in tree_leaves(value)
                if isinstance(each, Tensor)
            )
        read = sum(map(_extent, inputs))
        if name in _GATHERS:
            read = written + sum(_extent(each) for each in inputs if each.dtype == torch.int64)
        if name in _WRITES and inputs:
            read -= _extent(inputs[0])
        counter = flop_registry.get(function.overloadpacket)
        operations = 0.0
        if name == "convolution_backward":
            gradient, _, weight = inputs[:3]
            operations = 2.0 * gradient.numel() * weight[0].numel() * sum(args[-1][:2])
        elif counter is not None:
            operations = float(counter(*args, out_val=outputs[0] if len(outputs) == 1 else tuple(outputs)))
        self.add(
            name,
            direction,
            line,
            (read + written, operations, _seconds(name, inputs, outputs, read + written, operations)),
        )


def _seconds(name: str, inputs: list[Tensor], outputs: list[Tensor], number: float, operations: float) -> float:
    """Return the estimated time of one kernel."""
    if operations:
        kind, precision = "product", str(inputs[-1].dtype).removeprefix("torch.")
        rate = _TF32 if "conv" in name and precision == "float32" else _RATES.get(precision, _RATES["float32"])
        return max(_KERNEL_S, number / _BANDWIDTHS[kind], operations / rate)
    return max(_KERNEL_S, number / _bandwidth(name, inputs, outputs))


def _bandwidth(name: str, inputs: list[Tensor], outputs: list[Tensor]) -> float:
    if name == "native_layer_norm":
        rows = inputs[0].shape[-1] / _ROW
        return min(_MOST_OF_ROWS, _BANDWIDTH_OF_ROWS * rows**_EXPONENT)
    if name == "native_layer_norm_backward":
        return _BANDWIDTHS["layer norm backward"]
    if name == "upsample_bilinear2d" and outputs[0].numel() < inputs[0].numel():
        return _SHRINKING
    if name in _BANDWIDTHS:
        return _BANDWIDTHS[name]
    if name in ("index_put", "index_put_", "_index_put_impl_", "embedding_dense_backward", "scatter_add"):
        return _BANDWIDTHS["index_backward"]
    if name in _GATHERS:
        return _BANDWIDTHS["gather"]
    if name in _SUMS:
        return _BANDWIDTHS["reduction"]
    if any(each.dtype in (torch.bool, torch.uint8) and each.numel() > 1 for each in (*inputs, *outputs)):
        return _BANDWIDTHS["bytes"]
    # Where one that is small lies otherwise, caches help.
    largest = max(map(_extent, (*inputs, *outputs)), default=0)
    full = [each for each in (*inputs, *outputs) if each.dim() > 1 and 4 * _extent(each) >= largest]
    return _BANDWIDTHS["elementwise" if len({_order(each) for each in full}) <= 1 else "reordering"]


def _order(tensor: Tensor) -> tuple[int, ...]:
    """Return the dimensions in the order in which a tensor lies in memory, those of one number or repeated left out."""
    sizes, strides = tensor.shape, tensor.stride()
    return tuple(sorted((d for d in range(tensor.dim()) if sizes[d] > 1 and strides[d]), key=lambda d: -strides[d]))


def _extent(tensor: Tensor) -> int:
    """Return the bytes of a tensor in memory; what is repeated counts once."""
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride else 1
    return count * tensor.element_size()


def _is_view(function: Any) -> bool:
    returns = function._schema.returns
    return bool(returns) and all(one.alias_info is not None and not one.alias_info.is_write for one in returns)


def _mutates(function: Any) -> bool:
    return bool(function._schema.is_mutable)


def _line() -> str:
    frame = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename
        if any(part in path for part in _OURS) and "site-packages" not in path:
            return f"{Path(path).name}:{frame.f_lineno} {frame.f_code.co_name}"
        if frame.f_code.co_name == "_optimize":
            return "optimizer"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


class _Attention(torch.autograd.Function):
    """One kernel forward and one backward, whatever the CPU makes of it."""

    @staticmethod
    def forward(ctx: Any, counter: Roofline, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        ctx.counter = counter
        ctx.save_for_backward(query, key, value, mask)
        ctx.line = _line()
        heads = query.shape[1]
        bytes_of_mask = 0 if mask is None else _extent(mask)
        # Written whole, of a mask that is repeated too.
        ctx.bytes_of_gradient = mask.element_size() * mask.numel() if mask is not None and mask.requires_grad else 0
        ctx.bytes = 2 * _extent(query) + _extent(key) + _extent(value) + bytes_of_mask
        ctx.operations = 4.0 * query.numel() * key.shape[2]
        if mask is not None and mask.dtype == torch.bool:
            # Made a summand first.
            number = 3 * mask.numel()
            counter.add("where", "forward", ctx.line, (number, 0, number / _BANDWIDTHS["bytes"]))
        counter.add(
            _ATTENTION, "forward", ctx.line, (ctx.bytes, ctx.operations, _of_attention(ctx.bytes, ctx.operations))
        )
        return query.new_empty((*query.shape[:1], query.shape[2], heads, value.shape[3])).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        number, operations = 2.5 * ctx.bytes + ctx.bytes_of_gradient, 2.5 * ctx.operations
        ctx.counter.add(_ATTENTION, "backward", ctx.line, (number, operations, _of_attention(number, operations)))
        needed = ctx.needs_input_grad[1:]
        return (
            None,
            *(torch.empty_like(each) if wanted else None for each, wanted in zip(tensors, needed, strict=True)),
        )


class _AttendLevels(torch.autograd.Function):
    """The kernel of deformable attention, `model_adapters.m2f.sampling_kernel`."""

    @staticmethod
    def forward(ctx: Any, counter: Roofline, values: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        ctx.counter, ctx.line = counter, _line()
        ctx.save_for_backward(values, locations, weights)
        # Four neighbours of each point, from the cache.
        ctx.gathered = 4 * weights.numel() * values.shape[-1]
        number = ctx.gathered * values.element_size() + _extent(locations) + _extent(weights) + _extent(values)
        counter.add(_DEFORMABLE, "forward", ctx.line, (number, 0, number / _BANDWIDTHS["cache"]))
        return torch.empty_like(values).flatten(2)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        number = ctx.gathered * tensors[0].element_size() + 2 * sum(map(_extent, tensors)) + 4 * tensors[0].numel()
        seconds = number / _BANDWIDTHS["cache"] + 4 * ctx.gathered / _BANDWIDTHS["atomic"]
        ctx.counter.add(_DEFORMABLE, "backward", ctx.line, (number + 4 * ctx.gathered, 0, seconds))
        return (None, *map(torch.empty_like, tensors))


@contextmanager
def _fused(counter: Roofline) -> Iterator[None]:
    """Inside, deformable attention is its kernel, where the checkout has one."""
    import model_adapters.m2f.network as network

    if not hasattr(network, "can_fuse"):
        yield
        return
    import model_adapters.m2f.pixel_decoder as pixel_decoder

    plain = network.can_fuse, pixel_decoder.fused
    network.can_fuse = lambda *_asked: True
    pixel_decoder.fused = lambda values, _sizes, *rest: _AttendLevels.apply(counter, values, *rest)
    try:
        yield
    finally:
        network.can_fuse, pixel_decoder.fused = plain


def _of_attention(number: float, operations: float) -> float:
    return max(_KERNEL_S, number / _BANDWIDTHS[_ATTENTION], operations / _RATES[_ATTENTION])


@contextmanager
def as_on_cuda(counter: Roofline) -> Iterator[None]:
    """Inside, autocast on the CPU has cuda's lists, and attention is one operation, counted by `counter`."""
    library = torch.library.Library("aten", "IMPL", "AutocastCPU")
    excluded = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)

    def kernel(name: str, widened: bool) -> Callable[..., Any]:
        packet, _, overload = name.partition(".")
        plain = getattr(getattr(torch.ops.aten, packet), overload or "default")

        def call(*args: Any, **kwargs: Any) -> Any:
            with torch._C._ExcludeDispatchKeyGuard(excluded):
                return plain(*(_widened(args) if widened else args), **kwargs)

        return call

    warnings.filterwarnings("ignore", "Warning only once for all operators")
    for names, widened in ((_CUDA_FLOAT32, True), (_CPU_FLOAT32_ALONE, False)):
        for name in names:
            library.impl(name, kernel(name, widened), allow_override=True)
    plain = F.scaled_dot_product_attention

    def attend(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_options: Any) -> Tensor:
        # Attention is in the list of bfloat16.
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            query, key, value = (each.to(dtype) for each in (query, key, value))
            attn_mask = attn_mask.to(dtype) if attn_mask is not None and attn_mask.dtype != torch.bool else attn_mask
        if attn_mask is not None and attn_mask.dim() == 4 and attn_mask.requires_grad:
            attn_mask = attn_mask.expand(len(query), *attn_mask.shape[1:])
        return _Attention.apply(counter, query, key, value, attn_mask)

    F.scaled_dot_product_attention = attend  # type: ignore[assignment]
    try:
        yield
    finally:
        F.scaled_dot_product_attention = plain  # type: ignore[assignment]
        library._destroy()


def _widened(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
    return type(value)(map(_widened, value)) if isinstance(value, list | tuple) else value


def emptied(module: nn.Module, mode: FakeTensorMode) -> None:
    """Put tensors without data in the place of a module's parameters and buffers."""
    made: dict[int, Tensor] = {}

    def empty(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            fake = mode.from_tensor(tensor.detach())
            made[id(tensor)] = nn.Parameter(fake, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fake
        return made[id(tensor)]

    for each in module.modules():
        for tensors in (each._parameters, each._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = empty(tensor)  # type: ignore[assignment]


def evaluation(clips: int, toy: bool, kernel: bool) -> dict[str, dict[tuple[str, str, str], Work]]:
    """Return the work of encoding clips of five frames, and of the masks of their conditions; arguments as of `training`."""
    from avsrobust.adapters.base import ClipView
    from model_adapters.m2f.adapter import M2FDebias
    from model_adapters.m2f.checkpoint import LoadedNetwork, LoadReport
    from model_adapters.m2f.config import PUBLISHED, M2FConfig, with_readout
    from model_adapters.m2f.network import M2FNetwork
    from model_adapters.m2f.settings import Settings

    network = M2FNetwork.seeded(M2FConfig() if toy else with_readout(PUBLISHED, "foreground"), seed=0).eval()
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    emptied(network, mode)
    settings = Settings(debias="noise", precision="bfloat16")
    adapter = M2FDebias(LoadedNetwork(network, {}, LoadReport(0)), settings, torch.device("cpu"))
    views = [
        [ClipView("s4", "test", str(clip), "clean", None, 0, clip, (), None, SECONDS, 16_000) for clip in range(clips)]
        for _ in range(CONDITIONS)
    ]
    found = {}
    with mode:
        frames = torch.zeros(clips, SECONDS, 3, FRAME_SIDE, FRAME_SIDE, dtype=torch.uint8)
        shape = (1, 96, 64) if network.config.audio == "log_mel" else (128,)
        audio = torch.zeros(CONDITIONS, clips, SECONDS, *shape)
        with _counted(kernel) as counter:
            encoded = adapter.encode_frames(frames)
        found["encode"] = counter.work
        with _counted(kernel) as counter:
            if hasattr(adapter, "segment_many"):
                list(adapter.segment_many(encoded, audio, views))
            else:
                for sound, rows in zip(audio, views, strict=True):
                    adapter.segment(encoded, sound, rows)
        found["segment"] = counter.work
    return found


@contextmanager
def _counted(kernel: bool) -> Iterator[Roofline]:
    counter = Roofline()
    with as_on_cuda(counter), _fused(counter) if kernel else nullcontext(), counter:
        yield counter


def training(items: int, toy: bool, trained: str, kernel: bool) -> dict[tuple[str, str, str], Work]:
    """Return the work of a step of training.

    Args:
        items: Frames of the batch.
        toy: Whether the network is the toy's.
        trained: "all" parameters, as m2f_throughput.py has it, or those of the "recipe".
        kernel: Whether deformable attention is its kernel, where the checkout has one.
    """
    from avsrobust.datasets.taxonomy import AVSS_CLASSES
    from avsrobust.training.losses import mask_losses
    from avsrobust.training.model import Batch
    from avsrobust.training.optimizer import choose_trained
    from avsrobust.training.recipe import LossPart, load_train_recipe
    from model_adapters.m2f.training import M2FTraining

    # The recipe's patterns name the class predictor, which the toy's own readout would leave frozen.
    toy_size = {"size": "toy", "config": {"readout": "foreground", "readout_labels": 22, "num_labels": 22}}
    size: dict[str, Any] = toy_size if toy else load_train_recipe(RECIPE).model.options
    model = M2FTraining.open({**size, "debias": "noise"}, None, seed=0, where="benchmark")
    network = model.network
    if trained == "recipe":
        choose_trained(network, load_train_recipe(RECIPE).model.trainable, "benchmark")
    side, shape = model.image_size, (1, 96, 64) if model.audio.kind == "log_mel" else (128,)
    batch = Batch(
        frames=torch.zeros(items, 1, 3, side, side, dtype=torch.uint8),
        picture=torch.arange(items),
        audio=torch.zeros(items, 1, *shape),
        target=torch.zeros(items, 1, side, side, dtype=torch.uint8),
        scored=torch.ones(items, 1, dtype=torch.bool),
        positive=torch.ones(items),
        weight=torch.ones(items),
        audio_labels=torch.zeros(items, 1, len(AVSS_CLASSES)),
        seed=0,
    )
    if hasattr(batch, "known"):
        batch = batch.known()._replace(drawn=model.draw(batch))
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    emptied(network, mode)
    parameters = [each for each in network.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    network.train()
    counter = Roofline()
    with mode:
        batch = batch._replace(**{name: mode.from_tensor(each) for name, each in _tensors(batch).items()})
        for group in range(2):
            counter.work.clear()
            if group:
                optimizer.zero_grad()
            with as_on_cuda(counter), _fused(counter) if kernel else nullcontext(), counter:
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    logits = network(batch).logits
                torch.stack(list(mask_losses(logits, batch.target.flatten(0, 1), LossPart()).values())).sum().backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
                optimizer.step()
    return counter.work


def _tensors(batch: Any) -> dict[str, Tensor]:
    return {name: each for name, each in batch._asdict().items() if isinstance(each, Tensor)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="a small size instead of the published one")
    parser.add_argument("--clips", type=int, default=8, help="clips of five frames in a batch of the evaluation")
    parser.add_argument("--items", type=int, default=32, help="frames in a batch of the training")
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument(
        "--trained", choices=("recipe", "all"), default="all", help=f"what {RECIPE} trains, or everything"
    )
    parser.add_argument("--without-kernel", action="store_true", help="deformable attention by grid_sample")
    parser.add_argument("--top", type=int, default=20, help="operations to list of each part")
    parser.add_argument("--against", type=Path, help="another checkout of the project")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(estimate(arguments)))
        return 0
    sides = {"this checkout": ROOT, **({"the other": arguments.against.resolve()} if arguments.against else {})}
    for name, checkout in sides.items():
        print(f"# {name}, estimated for an H200 in bfloat16")
        _tell(_in_checkout(checkout), arguments)
    return 0


def estimate(arguments: argparse.Namespace) -> dict[str, list[list[Any]]]:
    """Return the work of the parts that are asked for, as rows [line, direction, operation, work]."""
    found: dict[str, dict[tuple[str, str, str], Work]] = {}
    if arguments.only != "training":
        found |= evaluation(arguments.clips, arguments.toy, not arguments.without_kernel)
    if arguments.only in (None, "training"):
        found["training"] = training(arguments.items, arguments.toy, arguments.trained, not arguments.without_kernel)
    return {part: [[*key, asdict(work)] for key, work in rows.items()] for part, rows in found.items()}


def _in_checkout(checkout: Path) -> dict[str, list[list[Any]]]:
    environment = {**os.environ, "PYTHONPATH": f"{checkout}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, __file__, *sys.argv[1:], "--child"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{checkout}: {run.stderr[-4000:]}")
    found: dict[str, list[list[Any]]] = json.loads(run.stdout.splitlines()[-1])
    return found


def _tell(found: dict[str, list[list[Any]]], arguments: argparse.Namespace) -> None:
    totals = {}
    for part, rows in found.items():
        if arguments.only not in (None, part):
            continue
        work = [(*row[:3], Work(**row[3])) for row in rows]
        device, calls = sum(row[3].seconds for row in work), sum(row[3].calls for row in work)
        totals[part] = max(device, calls * _LAUNCH_S)
        print(f"\n{part}: device {device * 1e3:.1f} ms, host {calls * _LAUNCH_S * 1e3:.1f} ms ({calls} launches)")
        _tell_sums(work, device)
        for line, direction, name, each in sorted(work, key=lambda row: -row[3].seconds)[: arguments.top]:
            print(
                f"  {each.seconds * 1e3:7.2f} ms {each.calls:5} x {name:30} {direction:8} {each.bytes / 1e9:8.2f} GB "
                f"{each.operations / 1e12:7.2f} TFLOP  {line}"
            )
    if {"encode", "segment"} <= totals.keys():
        print(f"\nevaluation: {arguments.clips / (totals['encode'] + totals['segment']):.1f} clips/s estimated")
    if "training" in totals:
        print(f"training: {arguments.items / totals['training']:.1f} frames/s estimated")


def _tell_sums(work: Sequence[tuple[str, str, str, Work]], whole: float) -> None:
    for column in (0, 2):
        sums: dict[str, float] = {}
        for row in work:
            key = row[column].split(":")[0] + " " + row[1] if column == 0 else row[2]
            sums[key] = sums.get(key, 0.0) + row[3].seconds
        largest = sorted(sums.items(), key=lambda item: -item[1])[:8]
        print("  " + ", ".join(f"{name} {seconds * 1e3:.1f} ({seconds / whole:.0%})" for name, seconds in largest))


if __name__ == "__main__":
    sys.exit(main())

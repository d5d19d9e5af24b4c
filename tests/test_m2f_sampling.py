"""Deformable attention as one kernel: when it is taken, and, in Triton's interpreter, that it is the same function."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from avsrobust.errors import OptionError
from model_adapters.m2f import network, sampling
from model_adapters.m2f.config import M2FConfig
from model_adapters.m2f.network import M2FNetwork

GPU = torch.device("cuda", 0)

# The kernels run without a GPU where Triton interprets them, which it decides when they are imported.
INTERPRETED = """
import torch
from model_adapters.m2f import network, sampling
from model_adapters.m2f.config import M2FConfig
from model_adapters.m2f.network import M2FNetwork
from model_adapters.m2f.sampling_kernel import attend_levels

def inputs(sizes, heads, width, spread, dtype=torch.float32, frames=2):
    generator = torch.Generator().manual_seed(1)
    positions = sum(h * w for h, w in sizes)
    values = torch.randn(frames, positions, heads, width, generator=generator).to(dtype)
    locations = 0.5 + spread * torch.randn(frames, positions, heads, 3, 4, 2, generator=generator)
    weights = torch.rand(frames, positions, heads, 3, 4, generator=generator)
    return [each.requires_grad_() for each in (values, locations, weights)]

# A width that is no power of two, more positions than a program has, one position, and points far outside.
for sizes, heads, width, spread in (
    (((3, 4), (5, 2), (7, 6)), 2, 4, 0.7), (((1, 1), (2, 3), (3, 5)), 1, 12, 3.0)
):
    given = inputs(sizes, heads, width, spread)
    found, expected = (way(given[0], sizes, *given[1:]) for way in (sampling.fused, sampling.sampled))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    gradient = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    for one, other in zip(*(torch.autograd.grad(each, given, gradient) for each in (found, expected)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    # In bfloat16 it is rounded once, at the end.
    given = inputs(sizes, heads, width, spread, torch.bfloat16)
    found = sampling.fused(given[0], sizes, *given[1:])
    exact = sampling.sampled(given[0].float(), sizes, *given[1:])
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, atol=1e-4, rtol=2**-7)

# The whole network, once with each, in float32 and in bfloat16; and traced, as torch.compile has it.
def network_of(fused):
    network.can_fuse = lambda _device: fused
    model = M2FNetwork.seeded(M2FConfig(image_size=64, window_size=4, encoder_layers=1), seed=3).eval()
    for layer in model.mask2former.model.pixel_level_module.decoder.encoder.layers:
        # Fresh offsets are whole pixels, where the derivative jumps.
        torch.nn.init.normal_(layer.self_attn.sampling_offsets.weight, 0, 0.5, generator=torch.Generator().manual_seed(1))
    return model

frames = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
features, gradients = [], []
for fused in (True, False):
    model = network_of(fused)
    encoded = model.encode(frames)
    encoded.mask_features.square().mean().backward()
    features.append(encoded.mask_features)
    gradients.append([each.grad for each in model.parameters() if each.grad is not None])
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        features.append(model.encode(frames).mask_features)
torch.testing.assert_close(features[0], features[2], atol=2e-5, rtol=1e-4)
torch.testing.assert_close(features[1], features[3], atol=0.05, rtol=0.05)
for one, other in zip(*gradients, strict=True):
    torch.testing.assert_close(one, other, atol=1e-4 * float(other.abs().max()) + 1e-7, rtol=1e-3)
model = network_of(True)
model.compile_parts(backend="eager")
with torch.no_grad():
    torch.testing.assert_close(model.encode(frames).mask_features, features[0], atol=2e-5, rtol=1e-4)
arguments = (*inputs(((1, 1), (2, 2), (3, 3)), 1, 8, 0.5, frames=1), [1, 1, 2, 2, 3, 3])
torch.library.opcheck(attend_levels, arguments, test_utils=("test_schema", "test_autograd_registration", "test_faketensor"))
print("same")
"""

COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from model_adapters.m2f import sampling_kernel as kernels

constants = dict(h0=12, w0=12, h1=24, w1=24, h2=48, w2=48, points=4, heads=8, channels=32, wide=32, block=32)
for kernel in (kernels._forward, kernels._backward):
    names = [name for name in kernel.arg_names if name not in constants]
    types = {name: "*bf16" if name in ("values", "result", "gradient") else "*fp32" for name in names} | {"positions": "i32"}
    signature = types | dict.fromkeys(constants, "constexpr")
    for capability in (80, 90):
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        assert triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["cubin"]
print("compiled")
"""


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_kernel_is_the_same_function_in_tritons_interpreter() -> None:
    pytest.importorskip("triton", reason="Triton comes with torch for GPUs")
    assert run(INTERPRETED, TRITON_INTERPRET="1").strip() == "same"


@pytest.mark.slow
def test_kernel_compiles_for_gpus_without_one() -> None:
    pytest.importorskip("triton", reason="Triton comes with torch for GPUs")
    assert run(COMPILED).strip() == "compiled"


def test_difference_sees_a_way_that_is_another_function() -> None:
    def without_border(
        values: Tensor, sizes: tuple[tuple[int, int], ...], locations: Tensor, weights: Tensor
    ) -> Tensor:
        return sampling.sampled(values.float(), sizes, locations.clamp(0, 1), weights)

    cpu = torch.device("cpu")
    assert sampling.difference(sampling.gathered, cpu, torch.float32) < 1e-4
    assert sampling.difference(sampling.gathered, cpu, torch.bfloat16) < 2**-7
    for dtype in (torch.float32, torch.bfloat16):
        assert sampling.difference(without_border, cpu, dtype) > 0.1


def test_difference_sees_what_is_not_a_number() -> None:
    def broken(values: Tensor, sizes: tuple[tuple[int, int], ...], locations: Tensor, weights: Tensor) -> Tensor:
        return sampling.sampled(values, sizes, locations, weights) * torch.nan

    found = sampling.difference(broken, torch.device("cpu"), torch.float32)
    assert math.isnan(found)


@pytest.fixture
def untried() -> Iterator[None]:
    """A process that has tried the kernel on no GPU."""
    sampling._works.cache_clear()
    yield
    sampling._works.cache_clear()


@pytest.mark.usefixtures("untried")
def test_kernel_is_for_gpus_with_triton_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    can_fuse = sampling.can_fuse
    assert not can_fuse(torch.device("cpu"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not can_fuse(GPU)


@pytest.mark.usefixtures("untried")
@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (1e-6, None),
        (0.5, "differs from grid_sample by 0.5"),
        (float("nan"), "differs from grid_sample by nan"),
        (RuntimeError("no compiler"), "no compiler"),
    ],
)
def test_a_gpu_is_tried_and_what_fails_is_told(
    monkeypatch: pytest.MonkeyPatch, outcome: float | Exception, told: str | None
) -> None:
    # A GPU cannot be had here: what it would find is put in its place.
    def difference(*_arguments: Any) -> float:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    monkeypatch.setattr(sampling, "difference", difference)
    can_fuse = sampling.can_fuse
    if told is None:
        assert can_fuse(GPU)
        return
    with pytest.warns(UserWarning, match=told):
        assert not can_fuse(GPU)


@pytest.mark.usefixtures("untried")
def test_kernel_can_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    can_fuse = sampling.can_fuse
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    monkeypatch.setattr(sampling, "difference", lambda *_arguments: 0.0)
    for wanted, expected in (("yes", True), ("", True), ("no", False)):
        monkeypatch.setenv(sampling.ENVIRONMENT_KERNEL, wanted)
        assert can_fuse(GPU) is expected
    monkeypatch.setenv(sampling.ENVIRONMENT_KERNEL, "off")
    with pytest.raises(OptionError, match="AVSROBUST_M2F_KERNEL: found 'off'; expected yes or no"):
        can_fuse(GPU)


@pytest.mark.parametrize("compiled", [False, True])
def test_network_takes_the_kernel_where_it_can(monkeypatch: pytest.MonkeyPatch, compiled: bool) -> None:
    model = M2FNetwork.seeded(M2FConfig(), seed=0)
    if compiled:
        model.compile_parts(backend="eager")
    without = model._layers()
    monkeypatch.setattr(network, "can_fuse", lambda device: device.type == "cpu")
    fused = model._layers()
    assert (fused.block, fused.mask_layer) == (without.block, without.mask_layer)
    assert fused.pixel_layer is not without.pixel_layer
    assert compiled or fused.pixel_layer is network.fused_layer

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

from avsrobust.errors import AdapterError, OptionError
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

# Tensors that lie otherwise, and gradients of some alone.
sizes = ((1, 2), (2, 3), (3, 4))
given = inputs(sizes, 2, 4, 0.7)
plain = [each.detach() for each in given]
turned = [plain[0].transpose(1, 2).contiguous().transpose(1, 2), plain[1].transpose(0, 2).contiguous().transpose(0, 2)]
turned.append(plain[2].flip(1).flip(1).expand_as(plain[2]).transpose(2, 3).contiguous().transpose(2, 3))
assert not any(each.is_contiguous() for each in turned)
expected = sampling.fused(plain[0], sizes, *plain[1:])
gradients = torch.autograd.grad(sampling.fused(given[0], sizes, *given[1:]).sum(), given)
for wanted in range(3):
    part = [each.clone().requires_grad_(number == wanted) for number, each in enumerate(turned)]
    found = sampling.fused(part[0], sizes, *part[1:])
    assert torch.equal(found, expected)
    # The gradient of a sum is one number, repeated.
    found.sum().backward()
    assert torch.equal(part[wanted].grad, gradients[wanted]) and sum(each.grad is not None for each in part) == 1

# Where torch may take deterministic algorithms alone, the forward pass may run and the backward pass is refused.
torch.use_deterministic_algorithms(True)
found = sampling.fused(given[0], sizes, *given[1:])
assert torch.equal(found, expected)
try:
    found.sum().backward()
except RuntimeError as error:
    assert "use_deterministic_algorithms is on" in str(error)
else:
    raise AssertionError("expected a refusal")
torch.use_deterministic_algorithms(True, warn_only=True)
sampling.fused(given[0], sizes, *given[1:]).sum().backward()
torch.use_deterministic_algorithms(False)

# What a GPU is tried with.
assert sampling.difference(sampling.fused, torch.device("cpu"), torch.float32, 1, 32) < 1e-4
assert sampling.difference(sampling.fused, torch.device("cpu"), torch.bfloat16, 1, 32) < 2**-5

# The whole network, once with each, in float32 and in bfloat16; and traced, as torch.compile has it.
def network_of(fused):
    network.can_fuse = lambda *_asked: fused
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

constants = dict(points=4, heads=8, channels=32, wide=32, block=32)
for kernel in (kernels._forward, kernels._backward):
    names = [name for name in kernel.arg_names if name not in constants]
    types = {name: "*bf16" if name in ("values", "result", "gradient") else "*fp32" for name in names}
    signature = types | dict.fromkeys(kernels._SIZES, "i32") | dict.fromkeys(constants, "constexpr")
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


def test_kernel_is_for_gpus_with_triton_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    can_fuse = sampling.can_fuse.__wrapped__
    assert not can_fuse(torch.device("cpu"), 8, 32)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not can_fuse(GPU, 8, 32)


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
    monkeypatch.setattr(sampling, "fault_of", lambda _device: None)
    can_fuse = sampling.can_fuse.__wrapped__
    if told is None:
        assert can_fuse(GPU, 8, 32)
        return
    with pytest.warns(UserWarning, match=told):
        assert not can_fuse(GPU, 8, 32)


def test_a_gpu_that_a_fault_has_broken_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def difference(*_arguments: Any) -> float:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    monkeypatch.setattr(sampling, "difference", difference)
    monkeypatch.setattr(sampling, "fault_of", lambda _device: "AcceleratorError: unspecified launch failure")
    expected = (
        r"illegal memory access.*cuda:0 is of no use to this process since.*AVSROBUST_M2F_KERNEL=no and run again"
    )
    with pytest.raises(AdapterError, match=expected):
        sampling.can_fuse.__wrapped__(GPU, 8, 32)


def test_a_device_that_computes_has_no_fault() -> None:
    assert sampling.fault_of(torch.device("cpu")) is None


def test_a_device_that_does_not_compute_is_told() -> None:
    assert str(sampling.fault_of(torch.device("meta"))).startswith(
        "NotImplementedError: Cannot copy out of meta tensor"
    )


def test_gradients_that_must_be_deterministic_are_taken_of_gathered_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = M2FNetwork.seeded(M2FConfig(), seed=0)
    monkeypatch.setattr(network, "can_fuse", lambda *_asked: True)
    # The weights of a GPU cannot be had here; whether one is asked for is.
    monkeypatch.setattr(network, "only_deterministic", lambda _device: sampling.only_deterministic(GPU))
    assert model._layers().pixel_layer is network.fused_layer
    torch.use_deterministic_algorithms(True)
    try:
        assert model._layers().pixel_layer is network.gathered_layer
        assert not sampling.only_deterministic(torch.device("cpu"))
        with torch.no_grad():
            assert model._layers().pixel_layer is network.fused_layer
        model.compile_parts(backend="eager")
        compiled = model._compiled
        assert compiled is not None
        assert model._layers().pixel_layer is compiled[0].pixel_layer
    finally:
        torch.use_deterministic_algorithms(False)


def test_kernel_can_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    can_fuse = sampling.can_fuse.__wrapped__
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    monkeypatch.setattr(sampling, "difference", lambda *_arguments: 0.0)
    for wanted, expected in (("yes", True), ("", True), ("no", False)):
        monkeypatch.setenv(sampling.ENVIRONMENT_KERNEL, wanted)
        assert can_fuse(GPU, 8, 32) is expected
    monkeypatch.setenv(sampling.ENVIRONMENT_KERNEL, "off")
    with pytest.raises(OptionError, match="AVSROBUST_M2F_KERNEL: found 'off'; expected yes or no"):
        can_fuse(GPU, 8, 32)


@pytest.mark.parametrize("compiled", [False, True])
def test_network_takes_the_kernel_where_it_can(monkeypatch: pytest.MonkeyPatch, compiled: bool) -> None:
    model = M2FNetwork.seeded(M2FConfig(), seed=0)
    if compiled:
        model.compile_parts(backend="eager")
    without = model._layers()
    monkeypatch.setattr(network, "can_fuse", lambda device, *_widths: device.type == "cpu")
    fused = model._layers()
    assert (fused.block, fused.mask_layer) == (without.block, without.mask_layer)
    assert fused.pixel_layer is not without.pixel_layer
    assert compiled or fused.pixel_layer is network.fused_layer

"""`benchmarks/roofline.py`: bytes and operations of a small network by hand, and the whole of it on the toy network."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

ROOT = Path(__file__).parents[1]
ROWS, INSIDE, OUTSIDE = 8, 16, 32


@pytest.fixture(scope="module")
def roofline() -> ModuleType:
    specification = importlib.util.spec_from_file_location("roofline", ROOT / "benchmarks/roofline.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # Its dataclasses look their module up.
    sys.modules["roofline"] = module
    specification.loader.exec_module(module)
    return module


def test_a_linear_layer_and_a_norm_cost_what_they_do_on_a_gpu(roofline: ModuleType) -> None:
    layer, mode, counter = nn.Linear(INSIDE, OUTSIDE), FakeTensorMode(allow_non_fake_inputs=True), roofline.Roofline()
    roofline.emptied(layer, mode)
    with mode:
        x = torch.zeros(ROWS, INSIDE, requires_grad=True)
        query = torch.zeros(1, 2, ROWS, 4, requires_grad=True)
        with roofline.as_on_cuda(counter), counter:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                normed = F.layer_norm(layer(x), (OUTSIDE,))
                attended = F.scaled_dot_product_attention(query, query, query)
            (normed.sum() + attended.float().sum()).backward()
    assert normed.dtype == torch.float32
    work: dict[tuple[str, str], Any] = defaultdict(roofline.Work)
    for (_, direction, name), each in counter.work.items():
        work[name, direction].add(each.bytes, each.operations, each.seconds)
    product = 2 * ROWS * INSIDE * OUTSIDE
    assert work["addmm", "forward"].operations == product
    assert work["addmm", "forward"].bytes == 2 * (ROWS * INSIDE + INSIDE * OUTSIDE + OUTSIDE + ROWS * OUTSIDE)
    assert work["mm", "backward"].operations == 2 * product
    # As cuda's autocast has it, and unlike the CPU's: read and written in float32, with two numbers of each row.
    assert work["native_layer_norm", "forward"].bytes == 4 * (2 * ROWS * OUTSIDE + 2 * ROWS)
    assert work["attention", "forward"].operations == 4 * 2 * ROWS * ROWS * 4
    assert work["attention", "backward"].calls == 1
    assert all(each.seconds >= roofline._KERNEL_S for each in counter.work.values())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert F.layer_norm(torch.zeros(2, 4, dtype=torch.bfloat16), (4,)).dtype == torch.bfloat16


@pytest.mark.slow
def test_the_toy_network_is_estimated_whole() -> None:
    command = [sys.executable, "benchmarks/roofline.py", "--toy", "--clips", "1", "--items", "2", "--top", "1000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    for text in ("encode: device", "segment: device", "training: device", "clips/s estimated", "frames/s estimated"):
        assert text in done.stdout
    kernel = [line for line in done.stdout.splitlines() if "x deformable attention" in line]
    # Encoding, and both passes of a step.
    assert sorted("backward" in line for line in kernel) == [False, False, True]

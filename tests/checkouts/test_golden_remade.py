"""The committed golden files are what the published code gives: their scripts, run again on a checkout.

On the machine that recorded them every file but the front ends' is the same to the last byte. Elsewhere sums of float32 may
round otherwise, hence tolerances, which are those of the tests that use the files.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parents[1] / "golden"
AVSBENCH, ROBUST, BIAS = "AVSBench", "AVSBench-Robust", "bias_in_AVS"
INPUTS = ("_logits", "_gt", "_logits_q_int8", "_gt_uint8", "_int16", "_rate")
# By the end or a part of an array's name; VGGish's weights are drawn, so its embeddings sum thousands of products.
TOLERANCES = {"_robust": 1e-4, "_vggish": 1e-5, "_embedding": 1e-4, "_quantised": 1.0}
METRICS_TOLERANCE = 1e-6


@pytest.fixture
def remake(published_checkout: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """Run one script of ``tests/golden`` on checkouts; give the file it makes."""

    def run(script: str, golden: str, *repositories: str) -> Path:
        checkouts = [str(published_checkout(name)) for name in repositories]
        output = tmp_path / golden
        subprocess.run([sys.executable, str(GOLDEN / script), *checkouts, "--output", str(output)], check=True)
        return output

    return run


def tolerance(name: str) -> float:
    if name.endswith(INPUTS):
        return 0.0
    return next((value for part, value in TOLERANCES.items() if part in name), METRICS_TOLERANCE)


@pytest.mark.parametrize(
    ("stem", "repositories"),
    [
        ("metrics_binary", (ROBUST, BIAS)),
        ("metrics_semantic", (AVSBENCH,)),
        pytest.param("audio_front_ends", (AVSBENCH, ROBUST), marks=pytest.mark.slow),
    ],
)
def test_arrays(remake: Callable[..., Path], stem: str, repositories: tuple[str, ...]) -> None:
    with (
        np.load(remake(f"make_{stem}.py", f"{stem}.npz", *repositories)) as found,
        np.load(GOLDEN / f"{stem}.npz") as kept,
    ):
        assert found.files == kept.files
        for name in kept.files:
            assert found[name].dtype == kept[name].dtype
            np.testing.assert_allclose(found[name], kept[name], rtol=0, atol=tolerance(name), err_msg=name)


@pytest.mark.parametrize("stem", ["reference_generator", "broad_kinds"])
def test_tables(remake: Callable[..., Path], stem: str) -> None:
    found = remake(f"make_{stem}.py", f"{stem}.json", ROBUST)
    assert json.loads(found.read_text()) == json.loads((GOLDEN / f"{stem}.json").read_text())

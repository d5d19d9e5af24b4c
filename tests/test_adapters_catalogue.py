"""The catalogue of adapters is listed without importing any of them."""

from __future__ import annotations

import subprocess
import sys


def test_listing_imports_no_adapter() -> None:
    code = (
        "import sys; from avsrobust.adapters.catalogue import known_adapters; known_adapters(); "
        "models = 'avsrobust.adapters.b', 'avsrobust.adapters.p', 'model_adapters', 'torch'; "
        "print(any(n.startswith(models) for n in sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"

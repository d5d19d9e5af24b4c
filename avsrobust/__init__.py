"""avsrobust: does your audio-visual segmentation model listen?

    import avsrobust as ar

    ar.build("s4", seed=42)
    ar.evaluate("oracle")
    print(ar.report(protocols=["strict"]).content)

Every function does what the command of its name does. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Adapter",
    "AudioInput",
    "AvsRobustError",
    "Results",
    "RobustDataset",
    "__version__",
    "build",
    "check_adapter",
    "compare",
    "compare_models",
    "evaluate",
    "load_manifest",
    "load_results",
    "read_dataset",
    "report",
]

if TYPE_CHECKING:
    from avsrobust.adapters.base import Adapter, AudioInput
    from avsrobust.api import Results, build, compare, compare_models, evaluate, load_results, read_dataset, report
    from avsrobust.errors import AvsRobustError
    from avsrobust.evaluation.robust_dataset import RobustDataset
    from avsrobust.manifest import load_manifest
    from avsrobust.testing import check_adapter

_HOMES = {
    "Adapter": "avsrobust.adapters.base",
    "AudioInput": "avsrobust.adapters.base",
    "AvsRobustError": "avsrobust.errors",
    "Results": "avsrobust.api",
    "RobustDataset": "avsrobust.evaluation.robust_dataset",
    "build": "avsrobust.api",
    "check_adapter": "avsrobust.testing",
    "compare": "avsrobust.api",
    "compare_models": "avsrobust.api",
    "evaluate": "avsrobust.api",
    "load_manifest": "avsrobust.manifest",
    "load_results": "avsrobust.api",
    "read_dataset": "avsrobust.api",
    "report": "avsrobust.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: importing avsrobust alone loads neither torch nor pyarrow."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'avsrobust' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

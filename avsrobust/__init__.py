"""avsrobust: does your audio-visual segmentation model listen?

The command line is `avsrobust`; from Python, `load_manifest` and `RobustDataset` open what `avsrobust build` wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["RobustDataset", "__version__", "load_manifest"]

if TYPE_CHECKING:
    from avsrobust.evaluation.dataset import RobustDataset
    from avsrobust.manifest import load_manifest

_LAZY = {"load_manifest": "avsrobust.manifest", "RobustDataset": "avsrobust.evaluation.dataset"}


def __getattr__(name: str) -> Any:
    """Import torch and pyarrow only when somebody asks for what needs them."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'avsrobust' has no attribute {name!r}")

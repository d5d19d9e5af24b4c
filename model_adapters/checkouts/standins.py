"""Stand-ins for packages that checkouts import for a helper or two, where the real ones are not installed.

Conventions
    A real package always wins: `StandIns` is a finder for the end of ``sys.meta_path``, asked when nothing else was found.
    Everything here is for evaluation; what would only matter in training says so instead of doing something else.
    timm: DropPath (the identity in evaluation), to_2tuple, trunc_normal_ (torch's own), register_model, _cfg.
    torchvision: models, without any model in it (the checkouts build theirs from it only to load a backbone's weights).
    MultiScaleDeformableAttention: the CUDA extension of Deformable DETR, by `ms_deform_attn`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn, TypeVar

from torch import Tensor, nn

from model_adapters.checkouts.deformable import ms_deform_attn

_Function = TypeVar("_Function", bound=Callable[..., Any])


class DropPath(nn.Module):
    """Stochastic depth, in evaluation: the identity."""

    def __init__(self, drop_prob: float = 0.0, scale_by_keep: bool = True) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`."""
        if self.training and self.drop_prob > 0:
            raise NotImplementedError(
                "avsrobust's stand-in for timm's DropPath is for evaluation; install timm to train"
            )
        return x


def to_2tuple(value: object) -> tuple[Any, ...]:
    """Return a sequence as a tuple, anything else twice."""
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)


def register_model(function: _Function) -> _Function:
    """Return `function`; timm would add it to its list."""
    return function


def _cfg(**settings: object) -> dict[str, object]:
    return settings


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Return what the CUDA extension's function of this name returns."""
    return ms_deform_attn(value, spatial_shapes, sampling_locations, attention_weights)


def ms_deform_attn_backward(*arguments: object) -> NoReturn:
    """Say that there is no gradient here."""
    raise NotImplementedError(
        "avsrobust's stand-in for MultiScaleDeformableAttention is for evaluation; build it to train"
    )


_LAYERS = {"DropPath": DropPath, "to_2tuple": to_2tuple, "trunc_normal_": nn.init.trunc_normal_}
_CONTENTS: Mapping[str, Mapping[str, object]] = {
    "timm": {},
    "timm.layers": _LAYERS,
    "timm.models": {},
    "timm.models.layers": _LAYERS,
    "timm.models.registry": {"register_model": register_model},
    "timm.models.vision_transformer": {"_cfg": _cfg},
    "torchvision": {},
    "torchvision.models": {},
    "MultiScaleDeformableAttention": {
        "ms_deform_attn_forward": ms_deform_attn_forward,
        "ms_deform_attn_backward": ms_deform_attn_backward,
    },
}


class StandIns(MetaPathFinder, Loader):
    """Finds the stand-ins; `used` are the packages that were asked for."""

    def __init__(self) -> None:
        self.used: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the stand-in's spec, None where there is none of this name."""
        if fullname not in _CONTENTS:
            return None
        is_package = any(name.startswith(f"{fullname}.") for name in _CONTENTS)
        return ModuleSpec(fullname, self, origin="avsrobust's stand-in", is_package=is_package)

    def exec_module(self, module: ModuleType) -> None:
        """Fill the stand-in."""
        self.used.add(module.__name__.partition(".")[0])
        vars(module).update(_CONTENTS[module.__name__])
        module.__getattr__ = _explain(module.__name__)  # type: ignore[method-assign]


def _explain(module: str) -> Callable[[str], NoReturn]:
    def missing(name: str) -> NoReturn:
        raise AttributeError(f"{module}.{name} is not in avsrobust's stand-in; install {module.partition('.')[0]}")

    return missing


def is_stand_in(module: ModuleType) -> bool:
    """Tell whether a module is one of ours."""
    return isinstance(getattr(module, "__loader__", None), StandIns)

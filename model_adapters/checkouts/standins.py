"""Stand-ins for packages that checkouts import for a helper or two, where the real ones are not installed.

Conventions
    A real package always wins: `StandIns` is a finder for the end of ``sys.meta_path``, called when no other finds the module.
    Everything here is for evaluation; a helper that matters in training alone raises `NotImplementedError` there.
    timm: DropPath (the identity in evaluation), to_2tuple, trunc_normal_ (torch's own), register_model, _cfg.
    torchvision: models, without any model in it (the checkouts build theirs from it only to load a backbone's weights); its
    resnet18 can be imported and not called.
    einops, easydict, loguru: `small_packages`.
    MultiScaleDeformableAttention: the CUDA extension of Deformable DETR, by `ms_deform_attn` in plain torch.
    cv2: nothing of it; there is code that imports it and uses none.
    mmcv: version 1.7.0 as far as a copy of mmseg needs it to be imported, registries that only register.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from model_adapters.checkouts.small_packages import EasyDict, Mlp, Rearrange, logger, rearrange, repeat

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Class = TypeVar("_Class", bound=type)


class DropPath(nn.Module):
    """Stochastic depth, in evaluation: the identity."""

    def __init__(self, drop_prob: float = 0.0, scale_by_keep: bool = True) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`.

        Raises:
            NotImplementedError: The module is in training mode, where timm's would drop paths.
        """
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


class Registry:
    """A list of classes that code registers while it is imported; nothing is built from it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def register_module(self, *_arguments: object, **_named: object) -> Callable[[_Class], _Class]:
        """Return a decorator that leaves a class as it is."""
        return lambda registered: registered


def build_from_cfg(*_arguments: object) -> NoReturn:
    """Refuse: nothing was registered.

    Raises:
        NotImplementedError: Always.
    """
    raise NotImplementedError("avsrobust's stand-in for mmcv builds nothing; install mmcv 1.7")


def ms_deform_attn(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Return multi-scale deformable attention (Deformable DETR, Zhu et al., ICLR 2021, equation 3).

    Each query sums, over the levels l and points k of its heads, bilinear samples of level l's values at its location, times its
    attention weight. N clips' frames, Q queries, M heads of D channels, L levels of h_l x w_l positions, P points.

    Args:
        value: Values [N, sum of h_l * w_l, M, D], level after level.
        shapes: Whole numbers [L, 2], (h_l, w_l).
        locations: (x, y) [N, Q, M, L, P, 2] in [0, 1] of the level, 0 and 1 being the outer edges of the border pixels; outside,
            values are 0.
        weights: Attention weights [N, Q, M, L, P].

    Returns:
        Attended values [N, Q, M * D], of `value`'s dtype.
    """
    batch, _, heads, channels = value.shape
    queries = locations.shape[1]
    total = torch.zeros(batch * heads, channels, queries, dtype=value.dtype, device=value.device)
    start = 0
    for level, (height, width) in enumerate(shapes.tolist()):
        maps = value[:, start : start + height * width].permute(0, 2, 3, 1)
        start += height * width
        sampled = functional.grid_sample(
            maps.reshape(batch * heads, channels, height, width),
            (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1),
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        weight = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)[:, None]
        total += (sampled * weight).sum(-1)
    return total.reshape(batch, heads * channels, queries).transpose(1, 2)


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Return the attended values, as the CUDA extension's function of this name does; arguments as in `ms_deform_attn`."""
    return ms_deform_attn(value, spatial_shapes, sampling_locations, attention_weights)


def ms_deform_attn_backward(*arguments: object) -> NoReturn:
    """Refuse: the stand-in has no gradient.

    Raises:
        NotImplementedError: Always.
    """
    raise NotImplementedError(
        "avsrobust's stand-in for MultiScaleDeformableAttention is for evaluation; build it to train"
    )


def resnet18(*arguments: object, **named: object) -> NoReturn:
    """Refuse: checkouts import torchvision's ResNet-18, and what runs here does not call it.

    Raises:
        NotImplementedError: Always.
    """
    raise NotImplementedError("avsrobust has no stand-in for torchvision's resnet18; install torchvision")


_LAYERS = {"Mlp": Mlp, "DropPath": DropPath, "to_2tuple": to_2tuple, "trunc_normal_": nn.init.trunc_normal_}
_CONTENTS: Mapping[str, Mapping[str, object]] = {
    "cv2": {},
    "mmcv": {"__version__": "1.7.0"},
    "mmcv.utils": {"Registry": Registry, "build_from_cfg": build_from_cfg},
    "timm": {},
    "timm.layers": _LAYERS,
    "timm.models": {},
    "timm.models.layers": _LAYERS,
    "timm.models.registry": {"register_model": register_model},
    "timm.models.vision_transformer": {"_cfg": _cfg},
    "torchvision": {},
    "torchvision.models": {"resnet18": resnet18},
    "einops": {"rearrange": rearrange, "repeat": repeat},
    "einops.layers": {},
    "einops.layers.torch": {"Rearrange": Rearrange},
    "easydict": {"EasyDict": EasyDict},
    "loguru": {"logger": logger},
    "MultiScaleDeformableAttention": {
        "ms_deform_attn_forward": ms_deform_attn_forward,
        "ms_deform_attn_backward": ms_deform_attn_backward,
    },
}


class StandIns(MetaPathFinder, Loader):
    """Finds and fills the stand-ins.

    Attributes:
        used: Top-level names of the packages that were replaced so far.
    """

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
    """Return whether a module is a stand-in of ours."""
    return isinstance(getattr(module, "__loader__", None), StandIns)

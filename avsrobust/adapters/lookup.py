"""Finding and loading adapters: built-in names, entry points, ``package.module:Class`` and ``file.py:Class``.

Conventions
    Built-ins are lazy ``module:object`` strings, so that listing them imports no model.
    Third parties register names in the entry-point group `ENTRY_POINT_GROUP`; a user's definition wins over a built-in one of
    the same name, with a warning that names both.
    A class needs no base class: `load`, `encode_frames`, `segment` and `audio` make an adapter (`avsrobust.adapters.base`).
    A file's own folder can be imported from, as when Python runs the file.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch

from avsrobust.adapters.base import Adapter, AudioInput
from avsrobust.adapters.surroundings import remember_folder, surroundings
from avsrobust.errors import AdapterError, did_you_mean
from avsrobust.plugins import distribution_of, import_file, one_line, registered_in

ENTRY_POINT_GROUP = "avsrobust.adapters"
# The runner's own option (VGGish's weights, for models that hear embeddings); adapters never see it.
RUNNER_OPTIONS = frozenset({"vggish"})
METHODS = ("load", "encode_frames", "segment")

_LOG = logging.getLogger(__name__)
_FORMS = "a name, package.module:Class or file.py:Class"


@dataclass(frozen=True)
class AdapterEntry:
    """One name for ``--adapter``: where it is defined (``module:object``), by whom, what it does and needs.

    `needs` is what must be named on the command line; `packages` are the modules it imports beside those that avsrobust
    depends on, `install` the command that brings them. `more` is where to read on, in the repository.
    """

    name: str
    target: str
    source: str
    description: str
    needs: str = ""
    packages: tuple[str, ...] = ()
    install: str = ""
    more: str = ""


_M2F_PACKAGES = ("transformers",)
_M2F_INSTALL = "pip install 'avsrobust[m2f]'"
_PUBLISHED = "docs/published_models.md"

BUILT_IN = (
    AdapterEntry(
        "m2f",
        "model_adapters.m2f.adapter:M2F",
        "avsrobust",
        "Mask2Former prompted by sound, plain; small weights trained on the toy come with it",
        packages=_M2F_PACKAGES,
        install=_M2F_INSTALL,
    ),
    AdapterEntry(
        "m2f_debias",
        "model_adapters.m2f.adapter:M2FDebias",
        "avsrobust",
        "Mask2Former, debiased (contrast with a biased branch, active queries); toy weights too; reads bias_in_AVS checkpoints",
        packages=_M2F_PACKAGES,
        install=_M2F_INSTALL,
    ),
    AdapterEntry(
        "m2f_robust",
        "model_adapters.m2f.adapter:M2FRobust",
        "avsrobust",
        "Mask2Former trained with negative sounds and similarity of sound and picture; toy weights too",
        packages=_M2F_PACKAGES,
        install=_M2F_INSTALL,
    ),
    AdapterEntry(
        "oracle",
        "avsrobust.adapters.baselines:Oracle",
        "avsrobust",
        "baseline: segments exactly what sounds; every strict G score is 1",
    ),
    AdapterEntry(
        "visual_prior",
        "avsrobust.adapters.baselines:VisualPrior",
        "avsrobust",
        "baseline: segments the objects whatever it hears; the perfectly deaf model",
    ),
    AdapterEntry(
        "empty",
        "avsrobust.adapters.baselines:Empty",
        "avsrobust",
        "baseline: never segments anything; shows each protocol's floors",
    ),
    AdapterEntry(
        "predictions",
        "avsrobust.adapters.predictions:Predictions",
        "avsrobust",
        "masks that any other program wrote: PNG, NPY, NPZ, or run lengths in JSON or parquet (--save-masks)",
        "--option masks=DIR, masks=FILE.parquet or masks=FILE.json",
    ),
    AdapterEntry(
        "worker",
        "avsrobust.adapters.worker:Worker",
        "avsrobust",
        "a model in another environment, another Python or a container, behind a pipe",
        "--option command='...' that starts it",
        more="examples/README.md; COMBO-AVS: docs/worker_combo.md; AVSegFormer in its authors' environment: "
        "docs/published_models.md",
    ),
    AdapterEntry(
        "avsegformer",
        "model_adapters.avsegformer:AVSegFormer",
        "avsrobust",
        "AVSegFormer (vvvb-github/AVSegFormer), S4, MS3 and AVSS, from your own checkout",
        "--option repo=PATH, --checkpoint FILE",
        more=_PUBLISHED,
    ),
    AdapterEntry(
        "avsegformer_robust",
        "model_adapters.avsegformer:AVSegFormerRobust",
        "avsrobust",
        "AVSegFormer_robust (jiali-home/AVSBench-Robust), from your own checkout; keeps its similarity of sound and picture",
        "--option repo=PATH, --checkpoint FILE",
        more=_PUBLISHED,
    ),
    AdapterEntry(
        "tpavi",
        "model_adapters.tpavi:Tpavi",
        "avsrobust",
        "TPAVI (OpenNLPLab/AVSBench), S4, MS3 and AVSS, from your own checkout",
        "--option repo=PATH, --checkpoint FILE, --option vggish=FILE",
        more=_PUBLISHED,
    ),
)


def known_adapters() -> list[AdapterEntry]:
    """Return every name there is: entry points first, then the built-ins that none of them replaces."""
    registered = [
        AdapterEntry(name, point.value, distribution_of(point), f"{point.value} ({distribution_of(point)})")
        for name, point in sorted(_registered().items())
    ]
    taken = {entry.name for entry in registered}
    return [*registered, *(entry for entry in BUILT_IN if entry.name not in taken)]


def obstacle(entry: AdapterEntry) -> str:
    """Return why an adapter cannot run in this environment, an empty string where nothing is in its way. Imports nothing."""
    wanted = entry.packages or (entry.target.partition(":")[0].partition(".")[0],)
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    return f"{', '.join(missing)} not installed" + (f"; {entry.install}" if entry.install else "")


def find_adapter(spec: str) -> type[Adapter]:
    """Return the adapter class that `spec` names (see the module's conventions).

    Raises `AdapterError` for an unknown name, a module or file that cannot be imported, and for what is no adapter.
    """
    with surroundings() as departure:
        found = _find(spec)
    remember_folder(found, departure)
    return found


def _find(spec: str) -> type[Adapter]:
    place, separator, attribute = spec.rpartition(":")
    if place.endswith(".py"):
        return _require_adapter(spec, _attribute(spec, import_file(Path(place), "adapter", AdapterError), attribute))
    if separator:
        if str(Path.cwd()) not in sys.path:
            # Last, so that nothing beside the user's work shadows an installed package.
            sys.path.append(str(Path.cwd()))
        return _import_class(spec)
    if spec.endswith(".py"):
        raise AdapterError(f"--adapter {spec}: names no class; expected file.py:Class")
    built_in = {entry.name: entry for entry in BUILT_IN}
    registered = _registered()
    if spec in registered:
        point = registered[spec]
        if spec in built_in:
            _LOG.warning(
                "adapter '%s': %s (%s) is used instead of the built-in %s",
                spec,
                point.value,
                distribution_of(point),
                built_in[spec].target,
            )
        return _import_class(f"{point.module}:{point.attr}")
    if spec in built_in:
        return _import_class(built_in[spec].target)
    names = [entry.name for entry in known_adapters()]
    raise AdapterError(
        f"--adapter {spec}: unknown; expected {_FORMS}; known names: {', '.join(names)}{did_you_mean(spec, names)}"
    )


def load_adapter(
    spec: str | type[Any], *, checkpoint: Path | str | None, device: torch.device, options: Mapping[str, str]
) -> Adapter:
    """Find and load an adapter; `spec` is what `find_adapter` takes, or a class.

    `RUNNER_OPTIONS` are kept from it. Raises `AdapterError` where loading fails, whatever the class raises.
    """
    adapter_class = find_adapter(spec) if isinstance(spec, str) else _require_adapter(spec.__name__, spec)
    name = spec if isinstance(spec, str) else spec.__name__
    # As the class may change the working folder before it opens it.
    checkpoint = None if checkpoint is None else Path(checkpoint).absolute()
    if checkpoint is not None and not checkpoint.exists():
        raise AdapterError(f"--checkpoint {checkpoint}: not found; expected the weights of {name}")
    own = {key: value for key, value in options.items() if key not in RUNNER_OPTIONS}
    _require_options(name, adapter_class, own)
    with surroundings(adapter_class), one_line(f"--adapter {name}: load", AdapterError):
        adapter = adapter_class.load(checkpoint, device, **own)
    AudioInput.of(getattr(adapter, "audio", None))
    return adapter


def _require_options(name: str, adapter_class: type[Adapter], options: Mapping[str, str]) -> None:
    """Refuse options that `load` has no parameter for, before its TypeError does."""
    parameters = inspect.signature(adapter_class.load).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    takes = [key for key in parameters if key not in ("checkpoint", "device")]
    for key in options:
        if key not in takes:
            known = ", ".join(takes) or "no options"
            raise AdapterError(f"--option {key}: unknown to {name}, which takes {known}{did_you_mean(key, takes)}")


def _registered() -> dict[str, EntryPoint]:
    return registered_in(ENTRY_POINT_GROUP, "adapter", AdapterError)


def _import_class(spec: str) -> type[Adapter]:
    name, _, attribute = spec.partition(":")
    return _require_adapter(spec, _attribute(spec, _import_module(spec, name), attribute))


def _import_module(spec: str, name: str) -> ModuleType:
    with one_line(f"--adapter {spec}: importing {name}", AdapterError):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
                raise
            raise AdapterError(
                f"--adapter {spec}: found no module {error.name}; install its package, name a file (file.py:Class), or add "
                "its folder to PYTHONPATH"
            ) from error


def _attribute(spec: str, module: ModuleType, name: str) -> object:
    try:
        return getattr(module, name)
    except AttributeError as error:
        classes = [
            key for key, value in vars(module).items() if inspect.isclass(value) and value.__module__ == module.__name__
        ]
        hint = did_you_mean(name, classes) or (f"; it has {', '.join(classes)}" if classes else "")
        raise AdapterError(f"--adapter {spec}: {module.__file__} has no class '{name}'{hint}") from error


def _require_adapter(spec: str, found: object) -> type[Adapter]:
    expected = f"expected a class with {', '.join(METHODS)} and the attribute audio (avsrobust.adapters.base.Adapter)"
    if not inspect.isclass(found):
        raise AdapterError(f"--adapter {spec}: is a {type(found).__name__}; {expected}")
    missing = [name for name in METHODS if not callable(getattr(found, name, None))]
    if missing:
        raise AdapterError(f"--adapter {spec}: class {found.__name__} has no {', '.join(missing)}; {expected}")
    return cast("type[Adapter]", found)

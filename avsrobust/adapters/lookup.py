"""Finding and loading adapters: built-in names, entry points, ``package.module:Class`` and ``file.py:Class``.

Conventions
    Built-ins are lazy ``module:object`` strings, so that listing them imports no model.
    Third parties register names in the entry-point group `ENTRY_POINT_GROUP`; a user's definition wins over a built-in one of
    the same name, with a warning that names both.
    A class needs no base class: `load`, `encode_frames`, `segment` and `audio` make an adapter (`avsrobust.adapters.base`).
    A file's own folder can be imported from, as when Python runs the file.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch

from avsrobust.adapters.base import Adapter, AudioInput
from avsrobust.adapters.surroundings import remember_folder, surroundings
from avsrobust.errors import AdapterError, AvsRobustError, did_you_mean

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
        AdapterEntry(name, point.value, _distribution(point), f"{point.value} ({_distribution(point)})")
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
        return _require_adapter(spec, _attribute(spec, _import_file(Path(place)), attribute))
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
                _distribution(point),
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
    with surroundings(adapter_class), _as_adapter_error(f"--adapter {name}: load"):
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
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        other = found.get(point.name)
        if other is not None and other.value != point.value:
            raise AdapterError(
                f"adapter '{point.name}': registered by {_distribution(other)} ({other.value}) and by "
                f"{_distribution(point)} ({point.value}); uninstall one of them"
            )
        found[point.name] = point
    return found


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an installed package"


def _import_class(spec: str) -> type[Adapter]:
    name, _, attribute = spec.partition(":")
    return _require_adapter(spec, _attribute(spec, _import_module(spec, name), attribute))


def _import_module(spec: str, name: str) -> ModuleType:
    with _as_adapter_error(f"--adapter {spec}: importing {name}"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
                raise
            raise AdapterError(
                f"--adapter {spec}: found no module {error.name}; install its package, name a file (file.py:Class), or add "
                "its folder to PYTHONPATH"
            ) from error


def _import_file(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise AdapterError(f"{path}: not found; expected a Python file that defines the adapter")
    name = f"avsrobust_adapter_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if not (found := importlib.util.spec_from_file_location(name, path)) or found.loader is None:
        raise AdapterError(f"{path}: cannot be imported; expected a Python file that defines the adapter")
    module = importlib.util.module_from_spec(found)
    with _folder_on_path(path.parent), _as_adapter_error(f"{path}: importing it"):
        _forget_namesakes(path.parent)
        # Dataclasses and pickle look a class's module up by name.
        sys.modules[name] = module
        try:
            found.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return module


_FOLDERS: set[Path] = set()


def _forget_namesakes(folder: Path) -> None:
    """Let the file in `folder` import its own neighbours, not those of the same name beside an earlier adapter.

    Two checkouts that both hold a ``network.py`` are common; the earlier adapter keeps the modules it has imported.
    """
    neighbours = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is None or name.partition(".")[0] not in neighbours or Path(file).is_relative_to(folder):
            continue
        if any(Path(file).is_relative_to(other) for other in _FOLDERS):
            del sys.modules[name]
    _FOLDERS.add(folder)


@contextmanager
def _folder_on_path(folder: Path) -> Iterator[None]:
    """Import from `folder` first; afterwards last, for what an adapter imports later without shadowing anything."""
    entry = str(folder)
    known = entry in sys.path
    if not known:
        sys.path.insert(0, entry)
    try:
        yield
    finally:
        if not known:
            sys.path.remove(entry)
            sys.path.append(entry)


@contextmanager
def _as_adapter_error(what: str) -> Iterator[None]:
    """Turn whatever another's code raises (quit() included) into one line."""
    try:
        yield
    except AvsRobustError:
        raise
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        message = " ".join(str(error).split())[:400]
        raise AdapterError(
            f"{what} raised {type(error).__name__}: {message} ({last.filename}, line {last.lineno}); put that right first"
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

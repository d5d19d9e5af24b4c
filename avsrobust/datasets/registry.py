"""Data sets by name: the built-in ones, and those of other packages and of a user's files.

Conventions
    Packages register a class derived from `DataSetSpec` in the entry-point group ``avsrobust.datasets``, under its own name.
    A built-in name, and its alias in AVSBench-semantic, always means the built-in data set: manifests say names, and
    definitions rest on them.
"""

from __future__ import annotations

from avsrobust.datasets.spec import DataSetSpec
from avsrobust.datasets.taxonomy import Categories
from avsrobust.errors import OptionError, did_you_mean
from avsrobust.files import SAFE_NAME, is_safe_name
from avsrobust.manifest_checks import is_dataset_name
from avsrobust.plugins import Registry, spec_of
from avsrobust.vocabulary import ALIASES, DATASETS

GROUP = "avsrobust.datasets"


def canonical_name(name: str) -> str:
    """Return a built-in data set's name in our spelling: s4, ms3 or avss.

    Raises:
        OptionError: The name is no built-in data set's.

    >>> canonical_name("v1m"), canonical_name("S4")
    ('ms3', 's4')
    """
    canonical = _built_in_name(name)
    if canonical is None:
        raise _unknown(name, DATASETS)
    return canonical


def find_dataset(spec: str | type[DataSetSpec]) -> DataSetSpec:
    """Return the data set of a name, an alias, ``package.module:Class``, ``file.py:Class``, or of its class.

    Raises:
        OptionError: The name is unknown, or the object is no data set.
    """
    if not isinstance(spec, str):
        return _check(spec_of(spec) if isinstance(spec, type) else "", spec)
    built_in = _built_in_name(spec)
    if built_in is not None:
        # Not by the registry's names: a package's data set must not take a built-in one's place.
        return _REGISTRY.find(_BUILT_IN[built_in])
    name = spec.strip()
    if ":" not in name and not name.endswith(".py") and name not in _REGISTRY.names():
        raise _unknown(spec, dataset_names())
    found = _REGISTRY.find(name)
    if ":" not in name and found.name != name:
        raise OptionError(
            f"--dataset {name}: is registered under this name, but its class is named '{found.name}'; expected one name"
        )
    return found


def dataset_names() -> tuple[str, ...]:
    """Return the names of all data sets: the built-in ones, then those that packages register; imports nothing."""
    return tuple(name for name in _REGISTRY.names() if is_dataset_name(name))


def _built_in_name(name: str) -> str | None:
    folded = name.strip().casefold()
    canonical = ALIASES.get(folded, folded)
    return canonical if canonical in DATASETS else None


def _unknown(name: str, known: tuple[str, ...]) -> OptionError:
    return OptionError(
        f"--dataset: found '{name}'; expected {', '.join(known)} (or {', '.join(ALIASES)}, their names in "
        f"AVSBench-semantic){did_you_mean(name.strip().casefold(), (*known, *ALIASES))}"
    )


def _check(spec: str, found: object) -> DataSetSpec:
    if not isinstance(found, type) or not issubclass(found, DataSetSpec):
        raise OptionError(
            f"{f'--dataset {spec}' if spec else 'dataset'}: found {found!r:.80}; expected a class derived from avsrobust's "
            "DataSetSpec" + ("" if spec else f", or a name: {', '.join(DATASETS)}")
        )
    name, categories, releases = (getattr(found, field, None) for field in ("name", "categories", "releases"))
    if not is_dataset_name(name) or (name in DATASETS and spec not in _BUILT_IN.values()):
        raise OptionError(
            f"--dataset {spec}: its name is {name!r:.80}; expected {SAFE_NAME}, and none of {', '.join((*DATASETS, *ALIASES))}"
        )
    if not isinstance(categories, Categories):
        raise OptionError(f"--dataset {spec}: its categories are {categories!r:.80}; expected Categories")
    if not isinstance(releases, tuple) or not all(is_safe_name(release) for release in releases):
        raise OptionError(f"--dataset {spec}: its releases are {releases!r:.80}; expected a tuple of names")
    try:
        return found()
    except TypeError as error:
        raise OptionError(
            f"--dataset {spec}: cannot be made ({error}); expected a class with declare() and without arguments"
        ) from error


_BUILT_IN = {
    "s4": "avsrobust.datasets.s4:S4",
    "ms3": "avsrobust.datasets.ms3:MS3",
    "avss": "avsrobust.datasets.avss:AVSS",
}
_REGISTRY = Registry(
    noun="data set",
    option="--dataset",
    group=GROUP,
    built_in=_BUILT_IN,
    check=_check,
    error=OptionError,
    object_noun="class",
)

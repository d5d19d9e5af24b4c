"""The query layout: the query of each class and cluster, and the file that stores it.

Conventions
    Classes take the queries that the class map says, clusters those after its highest: cluster k is query
    ``first_cluster + k``. Several classes may share a query; classes that the map lacks have none. A frame's indices are the
    queries of its classes (score above the threshold), ascending, and last that of its one cluster ("C classes and 1
    cluster", FAQ of bias_in_AVS).
    The file is safetensors: the tensor ``centers``, float32 [K, D], and the rest as JSON in the metadata, under one key
    (safetensors stores several in no fixed order): equal layouts are equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, Strict
from pydantic.dataclasses import dataclass as pydantic_dataclass

from avsrobust.errors import OptionError, did_you_mean
from avsrobust.files import write_bytes
from avsrobust.pretransform.base import Encoding, Floats
from avsrobust.pretransform.clusters import nearest
from avsrobust.schemas import CLOSED, Integer, Number, read_schema
from avsrobust.textfiles import parse_json, read_yaml
from avsrobust.weights import check_weights_file

VERSION = 1
_KEY = "avsrobust.pretransform"
# Numbers of queries are far below; indices are stored as int64.
_HIGHEST_QUERY = (1 << 31) - 1


@pydantic_dataclass(frozen=True, config=CLOSED)
class _StoredLayout:
    """The JSON in the file's metadata."""

    version: Integer
    encoder: str
    identity: str | None
    labels: tuple[str, ...]
    class_map: dict[str, Annotated[int, Strict(), Field(ge=0, le=_HIGHEST_QUERY)]]
    threshold: Number
    fitted_on: dict[str, Any]


@dataclass(frozen=True)
class QueryLayout:
    """Queries of classes and clusters.

    Attributes:
        encoder: Name of the encoder.
        checksum: SHA-256 of the encoder's files (``identity`` in the file).
        labels: Classes that the encoder scores, in its order.
        class_map: Query of each class that has one.
        threshold: Score above which a class is active, in (0, 1).
        centers: Centres of the K clusters, float32 [K, D].
        fitted_on: Data set, splits, number of clips and seed of the fit.
    """

    encoder: str
    checksum: str | None
    labels: tuple[str, ...]
    class_map: Mapping[str, int]
    threshold: float
    centers: Floats
    fitted_on: Mapping[str, Any] = field(default_factory=dict)

    @property
    def first_cluster(self) -> int:
        """The query of cluster 0."""
        return max(self.class_map.values(), default=-1) + 1

    @property
    def highest_query(self) -> int:
        """The query of the last cluster."""
        return self.first_cluster + len(self.centers) - 1

    def indices(self, sound: Encoding) -> list[list[int]]:
        """Return the active queries of every frame of a sound."""
        queries = np.array([self.class_map.get(label, -1) for label in self.labels], np.int64)
        found = []
        for scores, cluster in zip(sound.scores, nearest(sound.embeddings, self.centers), strict=True):
            active = queries[(scores > self.threshold) & (queries >= 0)]
            found.append([*np.unique(active).tolist(), self.first_cluster + int(cluster)])
        return found

    def to_bytes(self) -> bytes:
        """Return the file's bytes (see the module's conventions)."""
        from safetensors.numpy import save

        content = {
            "version": VERSION,
            "encoder": self.encoder,
            "identity": self.checksum,
            "labels": list(self.labels),
            "class_map": dict(self.class_map),
            "threshold": self.threshold,
            "fitted_on": dict(self.fitted_on),
        }
        # Typed as returning None in some releases.
        stored: bytes = save(
            {"centers": np.ascontiguousarray(self.centers)}, metadata={_KEY: json.dumps(content, sort_keys=True)}
        )
        return stored

    def write(self, path: Path) -> None:
        """Write the file, atomically."""
        write_bytes(path, self.to_bytes())


def read_layout(path: Path) -> QueryLayout:
    """Return the layout of a file.

    Raises:
        OptionError: The file cannot be read, or is not what `QueryLayout.write` writes.
    """
    from safetensors import safe_open

    wanted = "expected clusters.safetensors of an earlier 'avsrobust pretransform'; name that file"
    try:
        check_weights_file(path, OptionError)
        with safe_open(path, framework="numpy") as stored:
            text: str | None = (stored.metadata() or {}).get(_KEY)
            centers = stored.get_tensor("centers") if text is not None else None
        content: Any = parse_json(text) if text is not None else None
    except OptionError:
        raise
    # The library raises, for types that numpy lacks for example, what comes to it.
    except Exception as error:
        raise OptionError(
            f"--clusters-from {path}: cannot be read ({' '.join(str(error).split())}); {wanted}"
        ) from error
    problem = None
    if content is None or centers is None:
        problem = "no layout of ours in its metadata"
    elif not isinstance(content, dict) or content.get("version") != VERSION:
        problem = f"another version than {VERSION}"
    elif centers.ndim != 2 or centers.dtype != np.float32 or 0 in centers.shape or not np.isfinite(centers).all():
        problem = f"centres {centers.dtype} {list(centers.shape)}"
    if problem is not None or centers is None:
        raise OptionError(f"--clusters-from {path}: found {problem}; {wanted}")
    stored_layout = read_schema(
        _StoredLayout, content, f"--clusters-from {path}", OptionError, prefix=f"{_KEY}.", remedy=wanted
    )
    return QueryLayout(
        stored_layout.encoder,
        stored_layout.identity,
        stored_layout.labels,
        stored_layout.class_map,
        stored_layout.threshold,
        centers,
        stored_layout.fitted_on,
    )


def require_room(highest_query: int, queries: int, named_by: str) -> None:
    """Check that the highest query index is below the number of queries; `named_by` is the option to change.

    Raises:
        OptionError: It is not.
    """
    if highest_query >= queries:
        raise OptionError(
            f"{named_by}: found query indices up to {highest_query}, classes and then clusters; expected 0 to {queries - 1} "
            f"(--queries {queries}); take fewer clusters or classes, or name the number of queries that the network has"
        )


def read_class_map(path: Path, labels: Sequence[str], queries: int) -> dict[str, int]:
    """Return a class map from a YAML or JSON file, ``label: query``.

    Args:
        path: The file.
        labels: The encoder's names of its classes.
        queries: Number of queries.

    Raises:
        OptionError: The file is no such map, names a label that the encoder lacks, or an index outside the queries.
    """
    wanted = "expected a YAML or JSON mapping of class names to query indices"
    try:
        content = read_yaml(path, OptionError)
    except (OSError, ValueError) as error:
        raise OptionError(f"--class-map {path}: cannot be read ({' '.join(str(error).split())}); {wanted}") from error
    if not isinstance(content, dict) or not content:
        raise OptionError(f"--class-map {path}: found {type(content).__name__}, not a map with entries; {wanted}")
    known = set(labels)
    for label, query in content.items():
        if label not in known:
            raise OptionError(
                f"--class-map {path}: found '{label}', which the encoder does not name{did_you_mean(str(label), labels)}; "
                f"expected its own names of classes, such as '{labels[0]}'"
            )
        if isinstance(query, bool) or not isinstance(query, int) or not 0 <= query < queries:
            raise OptionError(
                f"--class-map {path}: found query {query!r} for '{label}'; expected a whole number from 0 to {queries - 1} "
                f"(--queries {queries})"
            )
    return dict(content)


def class_map_of(counts: Mapping[str, int], room: int) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the class map of the classes that occur, and the classes that get no query.

    Args:
        counts: Number of seconds in which each class is active, in the encoder's order, which the queries follow.
        room: Most classes in the map; of more, the most frequent are taken, the first of equals.
    """
    seen = [label for label, count in counts.items() if count > 0]
    taken = set(sorted(seen, key=lambda label: -counts[label])[: max(room, 0)])
    kept = [label for label in seen if label in taken]
    return {label: query for query, label in enumerate(kept)}, tuple(label for label in seen if label not in taken)

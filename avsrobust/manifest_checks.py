"""Columns and metadata of a manifest's file, checked before anything is made of them.

Conventions
    Checks look at whole columns, and at every different text once, so that they cost little at any number of rows.
    A message names the column, the first value that is wrong, and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from avsrobust.condition_facts import are_facts
from avsrobust.errors import ManifestError
from avsrobust.files import SAFE_NAME, is_safe_name
from avsrobust.inert import inert_line
from avsrobust.limits import MANIFEST_TEXT
from avsrobust.manifest_columns import (
    DATASET,
    FOREGROUND,
    LABELS,
    LEVEL,
    NAME,
    NUMBER,
    PATHS,
    POLARITY,
    SHA256,
    TEXT,
    Column,
)
from avsrobust.packed_arrays import PackedArrays
from avsrobust.parquet import Kind
from avsrobust.textfiles import parse_json
from avsrobust.vocabulary import ALIASES, DATASETS, FOREGROUND_RULES, NEGATIVE, POSITIVE, RELEASES, counted

_POLARITIES = (POSITIVE, NEGATIVE)
_ROWS_AT_ONCE = 1 << 14
_MOST_CHARACTERS = 4096
_MOST_ITEMS = 10_000
_MOST_SAID = 100
# Entries that a build without them does not have.
_OPTIONAL = ("conditions",)
_HIGHEST_SEED = 2**64 - 1

# As `files.is_safe_relative`, for columns: an empty part, "." or "..", a backslash or a control character.
_UNSAFE_PATH = r"(^|/)\.{0,2}(/|$)|\\|[\x00-\x1f]"
_CONTROLS = r"^$|[\x00-\x1f\x7f]"
_NO_SHA256 = r"^(.{0,63}|.{65,}|.*[^0-9a-f].*)$"
# What may stand before a path, by column (`avsrobust.manifest`).
_PREFIXES = {
    "audio": "^(data|made):",
    "log_mel": "^made:",
    "frames": "^build:",
    "masks": "^build:",
    "annotated": "^build:",
}


@dataclass(frozen=True)
class Columns:
    """The columns of a manifest's file.

    `leaves`: the chunks of each column's values, texts as dictionaries, those of lists one after the other; `lengths`: the
    chunks of the lengths of lists, null where there is no list; chunk i of both is of the same rows.
    """

    path: Path
    schema: Mapping[str, Column]
    leaves: Mapping[str, PackedArrays]
    lengths: Mapping[str, PackedArrays]

    @classmethod
    def read(cls, path: Path, opened: pq.ParquetFile, schema: Mapping[str, Column], kind: Kind) -> Columns:
        """Read the columns of `schema`, by name, from a file of those types, opened with dictionaries.

        Raises `ManifestError` where it is damaged, or has texts that are too long: lists are read a part at a time, since a
        file of a few kilobytes can hold gigabytes of them.
        """
        columns = cls(path, schema, {name: PackedArrays() for name in schema}, {})
        lengths: dict[str, PackedArrays] = {}
        for name in (name for name, entry in schema.items() if not entry.is_list):
            # One after the other: of no two is arrow's own form in memory.
            chunks = kind.read_columns(path, opened, [name]).column(name).chunks
            columns._check_texts_fit(name, chunks)
            for chunk in chunks:
                columns.leaves[name].append_pieces(chunk, _ROWS_AT_ONCE)
        for name in (name for name, entry in schema.items() if entry.is_list):
            lengths[name], total = PackedArrays(), 0
            for chunk in kind.read_batches(path, opened, name, _ROWS_AT_ONCE):
                leaves = chunk.flatten().dictionary_encode()
                total = columns._check_texts_fit(name, [leaves], total)
                columns.leaves[name].append(leaves)
                lengths[name].append(chunk.value_lengths())
        return cls(path, schema, columns.leaves, lengths)

    def values(self, name: str) -> list[Any]:
        """Return a column as a list of Python values, lists as tuples; equal texts of a part of it are one object."""
        values = [value for chunk in self.leaves[name] for value in _plain(chunk)]
        if name not in self.lengths:
            return values
        lists, at = [], 0
        for length in (length for chunk in self.lengths[name] for length in chunk.to_pylist()):
            lists.append(None if length is None else tuple(values[at : at + length]))
            at += length or 0
        return lists

    def check(self) -> None:
        """Raise `ManifestError` for the first value that is none of its column's."""
        self._check_nulls()
        checks: dict[str, Callable[[Column], None]] = {
            DATASET: self._check_dataset,
            NAME: lambda entry: self._check_words(entry.name, is_safe_name, SAFE_NAME),
            POLARITY: lambda entry: self._check_words(entry.name, _POLARITIES.__contains__, " or ".join(_POLARITIES)),
            FOREGROUND: lambda entry: self._check_words(
                entry.name, FOREGROUND_RULES.__contains__, f"one of {', '.join(FOREGROUND_RULES)}"
            ),
            LABELS: lambda entry: self._refuse(entry.name, _CONTROLS, "names"),
            SHA256: lambda entry: self._refuse(entry.name, _NO_SHA256, "64 hexadecimal digits"),
            PATHS: lambda entry: self._check_paths(entry.name),
            LEVEL: lambda entry: self._check_level(entry.name),
            TEXT: lambda entry: self._refuse(entry.name, _CONTROLS, "a text"),
            NUMBER: self._check_number,
        }
        # One kind after the other: a column that names files is checked after those that say what is in them.
        for holds, check in checks.items():
            for entry in self.schema.values():
                if entry.holds == holds:
                    check(entry)
        for name, lengths in self.lengths.items():
            longest = _joined([pc.fill_null(chunk, 0) for chunk in lengths]).max(initial=0)
            if longest > _MOST_ITEMS:
                self._fail(name, f"a list of {longest:,}", f"at most {_MOST_ITEMS:,}")

    def check_together(self, dataset: str) -> None:
        """Raise `ManifestError` for the first column that contradicts another, or the metadata, whose data set is `dataset`."""
        self._check_words("dataset", lambda text: text == dataset, f"'{dataset}', as in the file's metadata")
        if not np.array_equal(_is_null(self.leaves["source_clip_id"]), _is_null(self.lengths["source_labels"])):
            self._fail(
                "source_labels", "values without a source_clip_id, or none beside one", "both or neither in a row"
            )
        for name in ("frames", "masks"):
            if not np.array_equal(_joined(self.lengths[name]), _joined(self.leaves["num_frames"])):
                self._fail(name, "lists of another length than num_frames", "an entry for every frame")

    def _fail(self, column: str, found: str, expected: str) -> NoReturn:
        raise ManifestError(f"{self.path}: column {column}: found {found}; expected {expected}; build again")

    def _words(self, name: str) -> Iterator[pa.Array]:
        """Yield the dictionaries of a column of texts."""
        return (chunk.dictionary for chunk in self.leaves[name])

    def _check_texts_fit(self, name: str, chunks: Sequence[pa.Array], total: int = 0) -> int:
        """Return the bytes of the texts of a column's chunks, with `total` of those before. Raises where they are too many."""
        for chunk in chunks:
            if pa.types.is_dictionary(chunk.type) and len(chunk.dictionary):
                lengths = pc.fill_null(pc.binary_length(chunk.dictionary), 0).to_numpy(zero_copy_only=False)
                if lengths.max() > _MOST_CHARACTERS:
                    self._fail(name, f"a text of {lengths.max():,} bytes", f"at most {_MOST_CHARACTERS:,}")
                total += int(lengths[chunk.indices.drop_null().to_numpy()].sum(dtype=np.int64))
        MANIFEST_TEXT.check(total, f"{self.path}: column {name}", ManifestError)
        return total

    def _check_nulls(self) -> None:
        for name, entry in self.schema.items():
            rows = self.lengths.get(name, self.leaves[name])
            missing = sum(chunk.null_count for chunk in rows)
            if missing and not entry.nullable:
                self._fail(name, f"{counted(missing, 'row')} without a value", "a value in every row")
            if entry.is_list and not entry.has_gaps and any(chunk.null_count for chunk in self.leaves[name]):
                self._fail(name, "a list with an empty place", "lists of names")

    def _check_dataset(self, entry: Column) -> None:
        self._check_words(entry.name, is_dataset_name, f"{', '.join(DATASETS)}, or {SAFE_NAME}")

    def _check_words(self, name: str, accepts: Callable[[str], bool], expected: str) -> None:
        for words in self._words(name):
            for word in words.to_pylist():
                if not accepts(word):
                    self._fail(name, _shown(word), expected)

    def _refuse(self, name: str, pattern: str, expected: str) -> None:
        word = _first_match(self._words(name), pattern)
        if word is not None:
            self._fail(name, _shown(word), expected)

    def _check_paths(self, name: str) -> None:
        words = self._words(name)
        if name in _PREFIXES:
            words = (pc.replace_substring_regex(chunk, _PREFIXES[name], "") for chunk in words)
        unsafe = _first_match(words, _UNSAFE_PATH)
        if unsafe is not None:
            raise ManifestError(
                f"{self.path}: column {name} names {_shown(unsafe)}, which leaves its root; "
                "do not use manifests from a source you do not trust; build again"
            )

    def _check_level(self, name: str) -> None:
        if not np.isfinite(_joined([chunk.drop_null() for chunk in self.leaves[name]])).all():
            self._fail(name, "a level that is no number", "levels in dB, or none")

    def _check_number(self, entry: Column) -> None:
        if entry.low == -np.inf and entry.high == np.inf:
            return
        numbers = _joined(self.leaves[entry.name])
        wrong = numbers[~((numbers >= entry.low) & (numbers <= entry.high))]
        if wrong.size:
            expected = f"{entry.low:g} to {entry.high:g}" if entry.high < np.inf else f"at least {entry.low:g}"
            self._fail(entry.name, str(wrong[0]), expected)


def is_dataset_name(text: object) -> bool:
    """Return whether `text` can be the name of a data set: a built-in one's, or a safe name that resembles none of theirs.

    >>> [is_dataset_name(text) for text in ("s4", "S4", "v1m", "rooms", "../x")]
    [True, False, False, True, False]
    """
    if not isinstance(text, str) or text in DATASETS:
        return isinstance(text, str)
    return is_safe_name(text) and text.casefold() not in (*DATASETS, *ALIASES)


def read_texts(path: Path, metadata: Mapping[bytes, bytes], prefix: str) -> dict[str, str]:
    """Return the metadata entries whose keys begin with `prefix`, without it.

    Raises `ManifestError` for bytes that are no text.
    """
    mark = prefix.encode()
    try:
        return {
            key.decode().removeprefix(prefix): value.decode() for key, value in metadata.items() if key.startswith(mark)
        }
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: has damaged metadata ({error.reason}); build again") from error


def parse_entries(texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of the metadata's entries, each of its kind. Raises `ValueError` or `KeyError` that says which is not.

    Names are names: data set and recipe become parts of the folders that results go to.
    """
    _require("dataset", is_dataset_name(texts["dataset"]), f"{', '.join(DATASETS)}, or {SAFE_NAME}")
    release = texts["release"]
    known = release in RELEASES if texts["dataset"] in DATASETS else is_safe_name(release)
    _require("release", not release or known, f"one of {', '.join(RELEASES)}")
    _require("version", is_safe_name(texts["version"]), "a version")
    checksum = texts["checksums_sha256"]
    _require("checksums_sha256", re.fullmatch(r"([0-9a-f]{64})?", checksum) is not None, "64 hexadecimal digits")
    whole = re.fullmatch(r"[0-9]{1,20}", texts["seed"]) is not None and int(texts["seed"]) <= _HIGHEST_SEED
    _require("seed", whole, "a whole number of at most 64 bits")
    found = {name: _parse(name, texts.get(name, "{}") if name in _OPTIONAL else texts[name]) for name in _KINDS}
    for name, (accepts, expected) in _KINDS.items():
        _require(name, accepts(found[name]), expected)
    return {
        **found,
        **{name: texts[name] for name in ("dataset", "release", "version", "checksums_sha256")},
        "seed": int(texts["seed"]),
    }


def _parse(name: str, text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _require(name: str, holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name}: expected {expected}")


def _is_recipe(value: Any) -> bool:
    if not isinstance(value, dict) or not is_safe_name(value.get("name", "unnamed")):
        return False
    conditions = value.get("conditions", {})
    return isinstance(conditions, dict) and all(isinstance(options, dict) for options in conditions.values())


def _is_skipped(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, list)
        and len(entry) == 3
        and _are_texts([entry[0], entry[2]])
        and (entry[1] is None or isinstance(entry[1], str))
        for entry in value
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


_KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "recipe": (_is_recipe, f"a recipe, whose name is {SAFE_NAME}"),
    "fingerprints": (
        lambda value: isinstance(value, dict) and _are_texts(list(value.values())),
        "a text for each split",
    ),
    "skipped": (_is_skipped, "lists of clip, condition and reason"),
    "notes": (_are_texts, "a list of texts"),
    "muted": (_are_texts, "a list of clips"),
    "survey": (lambda value: isinstance(value, dict), "a mapping"),
    "conditions": (are_facts, "facts about each condition"),
}


def _plain(chunk: pa.Array) -> list[Any]:
    if not pa.types.is_dictionary(chunk.type):
        values: list[Any] = chunk.to_pylist()
        return values
    words = chunk.dictionary.to_pylist()
    return [None if index is None else words[index] for index in chunk.indices.to_pylist()]


def _joined(chunks: Iterable[pa.Array]) -> np.ndarray[Any, Any]:
    arrays = [np.asarray(chunk.to_numpy(zero_copy_only=False)) for chunk in chunks]
    return np.concatenate(arrays) if arrays else np.empty(0)


def _is_null(chunks: Iterable[pa.Array]) -> np.ndarray[Any, Any]:
    return _joined([pc.is_null(chunk) for chunk in chunks])


def _shown(text: str) -> str:
    return f"'{inert_line(text[:_MOST_SAID])}'"


def _first_match(texts: Iterable[pa.Array], pattern: str) -> str | None:
    for chunk in texts:
        matching = chunk.filter(pc.match_substring_regex(chunk, pattern))
        if len(matching):
            return str(matching[0].as_py())
    return None

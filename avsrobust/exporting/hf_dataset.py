"""A build as a data set of Hugging Face: parquet files whose columns `datasets` reads as pictures and sounds.

Conventions
    ``OUTPUT/data/<split>-00000.parquet`` .. and ``OUTPUT/README.md``, whose head names the files of each split:
    ``datasets.load_dataset("OUTPUT")`` reads them. A row per (clip, condition, level, draw), in the manifest's order.
    `frames` is a list of ``Image``, `masks` one with None for frames without a mask, `audio` an ``Audio``; the other columns
    are the manifest's. The features stand in the parquet's own metadata, in the form that every release of `datasets` since 3.0
    reads. Files are named by absolute path, so that the data set is small and works on this machine alone, or, embedded, are in
    it, byte for byte as they are. A sound without a file (``made:``) is in it always. What is embedded is compared with the
    build's checksums. Equal bytes of a row group are stored once: the frames of a clip do not take their size again for each
    condition.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from avsrobust.audio.io import wav_bytes
from avsrobust.audio.made import FileReader, render_row
from avsrobust.callbacks import ProgressCallback
from avsrobust.checksums import Checksums, load_checksums
from avsrobust.errors import ManifestError, OptionError
from avsrobust.files import atomic_path, read_regular, write_text
from avsrobust.folders import new_folder
from avsrobust.limits import PICTURE_BYTES, SOUND_BYTES, Limit
from avsrobust.manifest import MADE_PREFIX, Manifest, Row, picture_entry
from avsrobust.remote.inputs import local_data_root
from avsrobust.reporting.escape import markdown

README_NAME = "README.md"
_DATA = "data"
_ROWS_PER_GROUP = 100
_GROUP_BYTES = 128 << 20
_SHARD_BYTES = 500 << 20
_SPLIT = re.compile(r"\w+(?:\.\w+)*", re.ASCII)
_MEDIUM = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
_TEXTS = pa.list_(pa.string())
_COLUMNS: Mapping[str, pa.DataType] = {
    "clip_id": pa.string(),
    "condition": pa.string(),
    "polarity": pa.string(),
    "level": pa.float32(),
    "draw": pa.int16(),
    "labels": _TEXTS,
    "source_clip_id": pa.string(),
    "source_labels": _TEXTS,
    "foreground": pa.string(),
    "sample_rate": pa.int32(),
    "duration_s": pa.float32(),
    "seed": pa.uint64(),
    "audio_sha256": pa.string(),
}
_MEDIA: Mapping[str, pa.DataType] = {"frames": pa.list_(_MEDIUM), "masks": pa.list_(_MEDIUM), "audio": _MEDIUM}
_BYTES_COLUMNS = ("frames.list.element.bytes", "masks.list.element.bytes", "audio.bytes")


@dataclass(frozen=True)
class WrittenDataset:
    """Outcome of an export: the folder, and the number of rows of each split."""

    folder: Path
    rows: Mapping[str, int]


def export_hf(
    manifest: Manifest,
    output: Path | str,
    *,
    embed: bool = False,
    data_root: Path | str | None = None,
    progress: ProgressCallback | None = None,
) -> WrittenDataset:
    """Write a build as a data set that `datasets` loads.

    Args:
        manifest: The build; `Manifest.select` chooses splits and conditions.
        output: Folder to write to.
        embed: Store pictures and sounds in the files, instead of their absolute paths.
        data_root: Folder of the data set; None: the one that the build remembers.
        progress: Called with (rows done, rows in total).

    Raises:
        ManifestError: A file is missing or is not the one that was built from.
        OptionError: The folder is there already and is not empty, or a split's name is none of `datasets`.
    """
    if not manifest.rows:
        raise ManifestError(f"{manifest.path}: holds no rows; expected at least one; build again")
    names = _split_names(manifest)
    folder = Path(output)
    media = _Media(manifest, manifest.data_root(local_data_root(data_root, [manifest])), embed)
    counts: dict[str, int] = {}
    with new_folder(folder) as temporary:
        done = 0
        for split, name in names.items():
            counts[split] = 0
            for _ in _write_split(temporary / _DATA, name, manifest.select([split]).rows, media):
                done, counts[split] = done + 1, counts[split] + 1
                if progress is not None:
                    progress(done, len(manifest.rows))
        write_text(temporary / README_NAME, _readme(manifest, names, counts, embed))
    return WrittenDataset(folder, counts)


def _split_names(manifest: Manifest) -> dict[str, str]:
    """Names of splits as `datasets` takes them."""
    names: dict[str, str] = {}
    for split in manifest.distinct("split"):
        name = re.sub(r"[^\w.]", "_", split, flags=re.ASCII)
        if not _SPLIT.fullmatch(name) or name in names.values():
            raise OptionError(
                f"{manifest.path}: has a split '{split}', which datasets has no name for; expected letters, digits, _ and dots"
            )
        names[split] = name
    return names


class _Media:
    """The files of rows, as cells: their bytes, or their absolute paths."""

    def __init__(self, manifest: Manifest, root: Path, embed: bool) -> None:
        self._manifest = manifest
        self._root = root
        self._embed = embed
        self._sums: Checksums | None = load_checksums(manifest)
        self._files = FileReader(self._checked)

    def picture(self, picture: str | None) -> dict[str, Any] | None:
        """Return the cell of a picture."""
        return None if picture is None else self._file(picture_entry(picture), PICTURE_BYTES)

    def sound(self, row: Row) -> dict[str, Any]:
        """Return the cell of a row's sound."""
        if not row.audio.startswith(MADE_PREFIX):
            return self._file(row.audio, SOUND_BYTES)
        rendered, rate = render_row(row, self._files)
        # The path tells players the form.
        return {"bytes": wav_bytes(self._manifest.path, rendered.samples, rate), "path": f"{row.condition}.wav"}

    def _file(self, entry: str, limit: Limit) -> dict[str, Any]:
        path = self._manifest.file(entry, self._root)
        if not self._embed:
            if not path.is_file():
                raise ManifestError(f"{path}: not found; expected a file of the build; build again")
            return {"bytes": None, "path": str(path.absolute())}
        try:
            content = read_regular(path, limit, ManifestError)
        except OSError as error:
            raise ManifestError(f"{path}: cannot be read ({error.strerror or error}); build again") from error
        if self._sums is not None:
            self._sums.check(entry, path, content)
        return {"bytes": content, "path": path.name}

    def _checked(self, entry: str) -> Path:
        path = self._manifest.file(entry, self._root)
        if self._sums is not None:
            self._sums.check_file(entry, path)
        return path


def _write_split(folder: Path, name: str, rows: Sequence[Row], media: _Media) -> Iterator[None]:
    """Write the files of a split; yield after each row."""
    # One row ahead, so that no file is begun that has none.
    remaining, shard = iter(rows), 0
    row = next(remaining, None)
    while row is not None:
        with (
            atomic_path(folder / f"{name}-{shard:05d}.parquet") as temporary,
            pq.ParquetWriter(
                temporary,
                _schema(),
                compression="zstd",
                use_dictionary=[*_BYTES_COLUMNS, *_COLUMNS],
                dictionary_pagesize_limit=_GROUP_BYTES,
            ) as writer,
        ):
            written = 0
            while row is not None and written < _SHARD_BYTES:
                group: list[dict[str, Any]] = []
                size = 0
                while row is not None and len(group) < _ROWS_PER_GROUP and size < _GROUP_BYTES:
                    cells = _cells(row, media)
                    row = next(remaining, None)
                    group.append(cells)
                    size += _size(cells)
                    yield
                writer.write_table(pa.Table.from_pylist(group, schema=_schema()))
                written += size
        shard += 1


def _cells(row: Row, media: _Media) -> dict[str, Any]:
    plain = {name: getattr(row, name) for name in _COLUMNS}
    return {
        **plain,
        "frames": [media.picture(name) for name in row.frames],
        "masks": [media.picture(name) for name in row.masks],
        "audio": media.sound(row),
    }


def _size(cells: Mapping[str, Any]) -> int:
    media = (*cells["frames"], *cells["masks"], cells["audio"])
    return sum(len(medium["bytes"]) for medium in media if medium is not None and medium["bytes"] is not None)


def _schema() -> pa.Schema:
    fields = [pa.field(name, kind) for name, kind in {**_COLUMNS, **_MEDIA}.items()]
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": _features()}})})


def _features() -> dict[str, Any]:
    picture, sound = {"_type": "Image"}, {"_type": "Audio"}
    features: dict[str, Any] = {}
    for name, kind in _COLUMNS.items():
        is_list = pa.types.is_list(kind)
        dtype = kind.value_type if is_list else kind
        # pyarrow's own text of float32 is "float".
        value = {"dtype": "float32" if dtype == pa.float32() else str(dtype), "_type": "Value"}
        features[name] = [value] if is_list else value
    return {**features, "frames": [picture], "masks": [picture], "audio": sound}


def _readme(manifest: Manifest, names: Mapping[str, str], counts: Mapping[str, int], embed: bool) -> str:
    info = manifest.info
    files = [{"split": names[split], "path": f"{_DATA}/{names[split]}-*.parquet"} for split in counts]
    head = {
        "configs": [{"config_name": "default", "data_files": files}],
        "tags": ["audio-visual-segmentation", "avsrobust"],
        "task_categories": ["image-segmentation"],
    }
    recipe = str(info.recipe.get("name", ""))
    conditions = ", ".join(manifest.distinct("condition"))
    media = (
        "Pictures and sounds are in the files, as they are in the data set and the build."
        if embed
        else "Pictures and sounds are named by their paths on the machine that wrote this: it works there alone. Sounds without "
        "a file are in it."
    )
    title = " ".join(filter(None, (info.dataset, info.release)))
    lines = [
        f"# {markdown(title)} under {markdown(conditions)}",
        "",
        f"A build of avsrobust {markdown(info.version)}: recipe {markdown(recipe)}, seed {info.seed}. A row is one clip under "
        "one condition; `frames` and `masks` belong together, `audio` is what the condition makes of the sound.",
        "",
        f"{media} The licence of the data set holds for what is in here.",
        "",
        "| split | rows |",
        "| --- | ---: |",
        *(f"| {markdown(split)} | {count} |" for split, count in counts.items()),
        "",
        "```python",
        "import datasets",
        "",
        'rows = datasets.load_dataset("THIS FOLDER", split="' + names[next(iter(counts))] + '")',
        'picture, mask, sound = rows[0]["frames"][0], rows[0]["masks"][0], rows[0]["audio"]',
        "```",
    ]
    text = yaml.safe_dump(head, sort_keys=False, allow_unicode=False)
    return f"---\n{text}---\n\n" + "\n".join(lines) + "\n"

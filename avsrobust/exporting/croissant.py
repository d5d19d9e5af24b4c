"""A build described in Croissant 1.0 (MLCommons): its files, their checksums, and the columns of its tables.

Source: https://docs.mlcommons.org/croissant/docs/croissant-spec.html.

Conventions
    Two files are described: the manifest and ``checksums.parquet``, which holds size and SHA-256 of every file that the rows
    name, so that the checksum of these two covers all of the build. The record set `rows` has a field per column of the
    manifest, `files` one per column of the checksums. Where they lie is said relative to the folder of the description. Equal
    builds give equal bytes, which hold neither a time nor an absolute path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from avsrobust.checksums import CHECKSUMS_NAME, sum_of_file
from avsrobust.checksums import SCHEMA as CHECKSUMS_SCHEMA
from avsrobust.errors import ManifestError, OptionError
from avsrobust.files import write_text
from avsrobust.inert import inert_line
from avsrobust.manifest import COLUMNS, Manifest
from avsrobust.reporting.escape import json_text

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
_PARQUET = "application/x-parquet"
# The specification's own, word for word: readers compare it.
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
DESCRIPTIONS: Mapping[str, str] = {
    "dataset": "Data set of the clip.",
    "split": "Split of the data set.",
    "clip_id": "Id of the clip.",
    "labels": "Categories of the sounding objects.",
    "broad": "Supercategories of the labels.",
    "condition": "Condition of the sound, such as clean, silence, noise or offscreen.",
    "polarity": "Whether the objects in the picture make the sound (positive) or not (negative).",
    "level": "Level of the condition, in its unit; null where it has none.",
    "source_clip_id": "Clip whose sound is heard, where it is another one.",
    "source_labels": "Categories of that clip.",
    "seed": "Seed of everything drawn for the row.",
    "audio": "File of the sound: relative to the build, with data: to the data root; made: is a definition in the column sound.",
    "audio_sha256": "SHA-256 of the sound's file, or of its definition and the files that it uses.",
    "log_mel": "Array file with the sound's log-mel spectrogram, or made: and a front end.",
    "log_mel_row": "Row of that array.",
    "frames": "Frames, relative to the data root, with build: to the build.",
    "masks": "Masks of the sounding objects, as the frames; null for frames without one.",
    "foreground": "Rule by which binary masks are read.",
    "num_frames": "Number of frames.",
    "sample_rate": "Sampling rate of the sound in Hz.",
    "duration_s": "Duration of the clip in seconds.",
    "draw": "Number of the draw, where a condition is drawn several times.",
    "source_dataset": "Data set of the source clip, where it is another one.",
    "sound": "Definition of the sound, in JSON.",
    "tiles": "Clips in a composed picture, row by row.",
    "annotated": "Masks of everything annotated, where masks shows less.",
    "path": "A file: relative to the build's folder, with data: to the data root.",
    "bytes": "Size of the file in bytes.",
    "sha256": "SHA-256 of the file.",
}


@dataclass(frozen=True)
class Publication:
    """Facts that only the publisher knows, each None where it is not given: licence, citation, and day (``2026-01-31``)."""

    license: str | None = None
    cite_as: str | None = None
    date_published: str | None = None

    def properties(self) -> dict[str, str]:
        """Return the properties of the description. Raises `OptionError` for a day that is none."""
        day = self.date_published
        if day is not None:
            try:
                date.fromisoformat(day)
            except ValueError as error:
                raise OptionError(f"--date {day}: expected a day such as 2026-01-31") from error
        found = {"license": self.license, "citeAs": self.cite_as, "datePublished": day}
        return {name: inert_line(value) for name, value in found.items() if value is not None}


def croissant(manifest: Manifest, relative_to: Path | str | None = None, publication: Publication | None = None) -> str:
    """Return the description of a build, as JSON-LD.

    Args:
        manifest: The build, whole.
        relative_to: Folder that the description will lie in; None: the build's own.
        publication: The publisher's facts; None: none, of which mlcroissant warns.

    Raises:
        ManifestError: The manifest or the checksums cannot be read.
        OptionError: The day of publication is none.
    """
    manifest = manifest.from_here()
    info = manifest.info
    folder = manifest.folder if relative_to is None else Path(relative_to)
    files = {"manifest": manifest.path}
    records = [
        _record_set("rows", "A row per clip, condition, level and draw.", "manifest", _manifest_schema(manifest))
    ]
    if info.checksums_sha256:
        files["checksums"] = manifest.folder / CHECKSUMS_NAME
        records.append(_record_set("files", "Every file that the rows name.", "checksums", CHECKSUMS_SCHEMA))
    found = {name: _file_object(name, path, folder) for name, path in files.items()}
    if info.checksums_sha256 and found["checksums"]["sha256"] != info.checksums_sha256:
        raise ManifestError(
            f"{manifest.folder / CHECKSUMS_NAME}: is not the one of {manifest.path}; build again with the same command"
        )
    recipe = inert_line(info.recipe.get("name", ""))
    conditions = ", ".join(sorted({inert_line(row.condition) for row in manifest.rows}))
    splits = ", ".join(sorted({inert_line(row.split) for row in manifest.rows}))
    title = " ".join(filter(None, (inert_line(info.dataset), inert_line(info.release))))
    content = {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "name": re.sub(r"[^A-Za-z0-9._-]", "_", f"{info.dataset}-seed{info.seed}-{recipe}")[:200],
        "description": (
            f"A build of avsrobust for measuring the robustness of audio-visual segmentation: {title} under {conditions}; "
            f"splits {splits}; recipe {recipe}, seed {info.seed}. Pictures and clean sounds are files of the data set, which is "
            "not part of the build."
        ),
        "conformsTo": CONFORMS_TO,
        "version": re.sub(r"[^0-9A-Za-z.+-]", "_", info.version),
        **(Publication() if publication is None else publication).properties(),
        "distribution": list(found.values()),
        "recordSet": records,
    }
    return json_text(content)


def export_croissant(manifest: Manifest, output: Path | str, publication: Publication | None = None) -> None:
    """Write the description of a build to a new file.

    Raises:
        OptionError: The file is there already, or cannot be written.
        ManifestError: As `croissant`.
    """
    path = Path(output)
    if os.path.lexists(path):
        found = "is a folder" if path.is_dir() else "is there already"
        raise OptionError(f"--output {path}: {found}; expected a new file; choose another name")
    write_text(path, croissant(manifest, path.absolute().parent, publication))


def _file_object(name: str, path: Path, folder: Path) -> dict[str, str]:
    try:
        found = sum_of_file(path.name, path)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror or error}); build again") from error
    # Not escaped as an address would be: mlcroissant opens it as a path.
    relative = Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": path.name,
        "contentUrl": relative,
        "contentSize": f"{found.num_bytes} B",
        "encodingFormat": _PARQUET,
        "sha256": found.sha256,
    }


def _manifest_schema(manifest: Manifest) -> pa.Schema:
    there = pq.read_schema(manifest.path).names
    return pa.schema([entry.arrow_field for name, entry in COLUMNS.items() if name in there])


def _record_set(name: str, description: str, file: str, schema: pa.Schema) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": description,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{entry.name}",
                "name": entry.name,
                "description": DESCRIPTIONS[entry.name],
                "dataType": _data_type(entry.type),
                **({"repeated": True} if pa.types.is_list(entry.type) else {}),
                "source": {"fileObject": {"@id": file}, "extract": {"column": entry.name}},
            }
            for entry in schema
        ],
    }


def _data_type(kind: pa.DataType) -> str:
    kind = kind.value_type if pa.types.is_list(kind) else kind
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"

"""The data root of a build, where it lies on another machine: a copy of the files that building reads.

Conventions
    First everything that is neither picture nor sound is copied, and the folders are made: tables and folders tell which clips
    there are. Then all files of the folders that the clips' files lie in: what lies there beside them is looked at too.
    Conditions that draw from other splits, or from the whole release, need all files of these clips too (`building.lenders`);
    those that draw as the released generator did, the names of all sounds (`building.listing`). A plug-in's data set may read
    anything: all of the data root is copied.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avsrobust.clips import DeclaredClip
from avsrobust.conditions.base import RELEASE, SPLIT
from avsrobust.datasets.read import list_dataset
from avsrobust.datasets.registry import find_dataset
from avsrobust.defaults import ENVIRONMENT_DATA_ROOT, default_data_root
from avsrobust.errors import DataSetError, OptionError
from avsrobust.remote import is_remote_place, local_copy
from avsrobust.remote.copies import make_copy
from avsrobust.vocabulary import DATASETS, RELEASES

if TYPE_CHECKING:
    from avsrobust.conditions.recipe import Recipe
    from avsrobust.datasets.spec import DataSetSpec

_MEDIA = (".png", ".jpg", ".jpeg", ".bmp", ".wav", ".flac", ".ogg", ".mp3", ".m4a", ".mp4", ".mkv", ".webm", ".avi")


def local_data_set(
    data_root: Path | str | None,
    dataset: str | type[DataSetSpec],
    splits: Sequence[str] | None = None,
    release: str | None = None,
    recipe: Recipe | None = None,
) -> Path:
    """Return the data root that a data set is read from: of a remote one, a copy of what is needed.

    Args:
        data_root: Path or URL; None: that of the environment, else the default.
        dataset: The data set, as `avsrobust.api.build` takes it.
        splits: Splits that are read; None or none: all.
        release: The form that is read.
        recipe: The conditions that are built; None: none.

    Raises:
        OptionError: The URL cannot be opened, or the data set is unknown.
        DataSetError: The data set is not there.
    """
    place = data_root if data_root is not None else os.environ.get(ENVIRONMENT_DATA_ROOT)
    if place is None or not is_remote_place(place):
        return default_data_root(data_root)
    url, spec = str(place), find_dataset(dataset)
    if spec.name not in DATASETS:
        return local_copy(url)
    tables = make_copy(url, lambda name: not _is_media(name), folders=True, lenient=True, settled=False)
    root = tables.files
    clips = list_dataset(dataset, root, splits=splits or None, release=release).declared.clips
    wanted = {_parent(file) for clip in clips for file in _files(clip)}
    if recipe is not None and recipe.pool != SPLIT:
        others = DATASETS if recipe.pool == RELEASE else (spec.name,)
        wanted |= {_parent(file) for name in others for clip in _all_clips(name, root) for file in _files(clip)}
    elif recipe is not None and any(entry.condition.needs_listing for entry in recipe.entries):
        wanted |= {_parent(clip.audio) for clip in _all_clips(spec.name, root)}
    return make_copy(
        url,
        lambda name: not _is_media(name) or _parent(name) in wanted,
        folders=True,
        lenient=True,
        since=tables,
    ).files


def _all_clips(dataset: str, root: Path) -> Iterator[DeclaredClip]:
    """Yield the clips of all splits, in all forms that the data set is there in."""
    for release in RELEASES:
        try:
            yield from list_dataset(dataset, root, release=release).declared.clips
        except (DataSetError, OptionError):
            # Not there in this form: building says so, where it needs it.
            continue


def _files(clip: DeclaredClip) -> Iterable[str]:
    return (*clip.frames, *(mask for mask in clip.masks if mask is not None), clip.audio)


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _is_media(name: str) -> bool:
    return name.lower().endswith(_MEDIA)

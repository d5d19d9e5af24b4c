"""Inputs of commands, by a path or by a URL: builds, data, results, weights.

Conventions
    Paths are handed through. Of a URL the part that is needed is copied to this machine (`copies`), and the copy's path returned.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avsrobust.errors import DataSetError, OptionError
from avsrobust.files import is_safe_relative
from avsrobust.remote.addresses import COPIES, FILES_NAME, is_remote, is_remote_place, local_home, origin
from avsrobust.remote.copies import keep, local_copy
from avsrobust.remote.on_demand import close, open_on_demand
from avsrobust.remote.store import Store

if TYPE_CHECKING:
    from avsrobust.manifest import Manifest


def local_build(place: Path | str, *, fresh: bool = False, on_demand: bool = False) -> Path:
    """Return the path of a build's folder or manifest.

    Args:
        place: Path or URL.
        fresh: Fetch all its files again.
        on_demand: Fetch the manifest and what lies beside it: all else is fetched by whoever reads it
            (`avsrobust.remote.on_demand`).

    Raises:
        OptionError: The URL cannot be opened.
        DataSetError: There is nothing.
    """
    from avsrobust.manifest import MANIFEST_NAME

    if not is_remote_place(place):
        return Path(place)
    url = str(place).rstrip("/").removesuffix(f"/{MANIFEST_NAME}")
    # Before a whole data set is copied whose address was named by mistake.
    if not Store.open(url).look([MANIFEST_NAME]):
        raise DataSetError(
            f"{url}: found no {MANIFEST_NAME} in it; expected the folder of a build made by 'avsrobust build'; check the address"
        )
    if on_demand:
        return open_on_demand(url, now=lambda name: "/" not in name)
    return close(local_copy(url, fresh=fresh))


def local_data_root(
    data_root: Path | str | None,
    builds: Sequence[Manifest],
    splits: Sequence[str] | None = None,
    *,
    fresh: bool = False,
    lenient: bool = False,
    on_demand: bool = False,
) -> Path | None:
    """Return the data root that builds are read with: of a remote one, a copy of the files that they need.

    Args:
        data_root: Path or URL; None: the URL in ``$AVSROBUST_DATA``, where that holds one and a build remembers no data root.
        builds: The builds.
        splits: Splits that are read; None: all.
        fresh: Fetch all files again.
        lenient: Do without files that are not there.
        on_demand: Copy none: they are fetched by whoever reads them (`avsrobust.remote.on_demand`).

    Returns:
        A path, or None where none was named.

    Raises:
        OptionError: A remote one cannot be opened.
        DataSetError: It lacks a file.
    """
    from avsrobust.manifest import DATA_ROOT_LINK, ENVIRONMENT_DATA_ROOT, data_files

    named = os.environ.get(ENVIRONMENT_DATA_ROOT)
    if data_root is None and is_remote(named):
        data_root = None if all((build.folder / DATA_ROOT_LINK).is_dir() for build in builds) else named
    if data_root is not None and not is_remote_place(data_root):
        return Path(data_root)

    def names(some: Sequence[Manifest]) -> set[str]:
        return data_files(row for build in some for row in build.rows if splits is None or row.split in splits)

    def copied(url: str, wanted: set[str]) -> Path:
        if on_demand:
            return open_on_demand(url, wanted, lenient=lenient)
        return close(local_copy(url, wanted, fresh=fresh, lenient=lenient))

    if data_root is not None:
        return copied(str(data_root), names(builds))
    for build in builds:
        # Builds of remote data remember their copy, whose files may have gone since.
        copy = (build.folder / DATA_ROOT_LINK).resolve()
        if (found := origin(copy)) is not None and not keep(copy, wanted := names([build])):
            copied(found[0], wanted)
    return None


def local_place(place: Path | str | None) -> Path | None:
    """Return the path of a file or folder, such as a model's weights; None for None.

    Raises:
        OptionError: The URL cannot be opened.
        DataSetError: There is nothing.
    """
    if place is None or not is_remote_place(place):
        return None if place is None else Path(place)
    url = str(place).rstrip("/")
    folder, _, name = url.rpartition("/")
    if folder.endswith(":/"):
        raise OptionError(f"{url}: names a whole bucket; expected a file or a folder in it")
    if Store.open(folder).look([name]):
        return local_copy(folder, [name]) / name
    return local_copy(url)


def named_copy(url: str, near: Path) -> Path | None:
    """Return the copy of a file or folder that a file of results names by its URL, None where it is not there.

    A file may name any address: only from the bucket that the results themselves were read from is anything fetched; else the
    copy counts that is on this machine already.

    Args:
        url: The URL.
        near: Folder of the results.

    Raises:
        OptionError: The URL cannot be opened.
        DataSetError: There is nothing.
    """
    found = origin(near)
    if found is not None and found[0].split("/")[:3] == url.split("/")[:3]:
        return local_place(url)
    folder, _, name = url.rstrip("/").rpartition("/")
    copies = (local_home(COPIES, folder) / FILES_NAME / name, local_home(COPIES, url) / FILES_NAME)
    return next((path for path in copies if is_safe_relative(name) and path.exists() and keep(path)), None)


def with_file(path: Path) -> Path:
    """Return a path; where it lies in the copy of a remote folder, that file has been fetched, if it is there."""
    found = origin(path)
    if found is not None:
        url, name = found
        local_copy(url, [name], lenient=True)
    return path


def with_folder(path: Path) -> Path:
    """Return a path; where it lies in the copy of a remote folder, all of that has been fetched."""
    found = origin(path)
    if found is not None:
        local_copy(found[0])
    return path

"""A folder that fsspec opens: its files listed, fetched, put and made exclusively, with errors in one line.

Conventions
    Names are paths relative to the folder, with forward slashes. A version is a text that changes when a file does: its size and
    ETag, or, of file systems without one, the time of its last change.
    fsspec keeps file systems, with their connections, for the life of the process. Where the environment, or a file of keys, that
    they were opened by has changed, they are opened anew: a session that names another endpoint, or new keys, means it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from avsrobust.errors import OptionError
from avsrobust.files import file_state, is_safe_relative
from avsrobust.limits import TEXT_BYTES
from avsrobust.optional_packages import import_causes, import_obstacle
from avsrobust.remote.conditional import ConditionalWriter, writer_of
from avsrobust.remote.failures import CHECK, because, reason, stays, words
from avsrobust.remote.messages import telling_of_silence

_S3 = "'avsrobust[s3]'"
# Schemes that were tried, and the package that opens them.
SCHEMES = {
    "s3": _S3,
    "s3a": _S3,
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
    "memory": "fsspec",
}
_EXPECTED = "expected s3://bucket/folder, gs://bucket/folder (Google) or abfs://container/folder (Azure)"
# Variables of the environment that SDKs and fsspec read, in small letters, and files of keys: the variable, and the default.
_VARIABLES = (
    "aws_",
    "azure_",
    "boto",
    "fsspec_",
    "gcsfs_",
    "google_",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "storage_",
)
_KEY_FILES = {
    "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials",
    "AWS_CONFIG_FILE": "~/.aws/config",
    "GOOGLE_APPLICATION_CREDENTIALS": "~/.config/gcloud/application_default_credentials.json",
}
# What the file systems of each scheme were opened by.
_OPENED_BY: dict[str, Hashable] = {}
_THREADS = 16
# Between tries of a store that does not answer; s3fs and its likes have tried several times themselves.
PAUSES_S = (1.0, 4.0, 16.0)
# Files that S3 names in one answer.
_LISTED = 1000
_CONNECTIONS = 32


@dataclass(frozen=True)
class RemoteFile:
    """A file of a remote folder.

    Attributes:
        size: Its size in bytes.
        version: Text that changes when the file does.
    """

    size: int
    version: str


@dataclass(frozen=True)
class Store:
    """A remote folder.

    Attributes:
        url: Its address, without a slash at the end.
        system: The file system of fsspec.
        root: The folder's path there.
    """

    url: str
    system: Any
    root: str

    @classmethod
    def open(cls, url: str) -> Store:
        """Return the folder at a URL.

        Raises:
            OptionError: The URL cannot be opened.
        """
        scheme, _, place = url.partition("://")
        if scheme.lower() in ("file", "local"):
            raise OptionError(f"{url}: is on this machine; expected the path itself; leave '{scheme}://' out")
        if scheme not in SCHEMES:
            advice = (
                f"write '{scheme.lower()}://'" if scheme.lower() in SCHEMES else "copy it to a folder of this machine"
            )
            raise OptionError(f"{url}: cannot be opened; {_EXPECTED}; {advice}")
        if not place.strip("/"):
            raise OptionError(f"{url}: names no folder; {_EXPECTED}")
        url = url.rstrip("/")
        # To S3 these are names like others, which no file system of a copy can have, and tools leave out.
        if any(part in ("", ".", "..") for part in place.rstrip("/").split("/")):
            raise OptionError(f"{url}: has an empty part, '.' or '..'; {_EXPECTED} without them")
        try:
            import fsspec
        except ImportError as error:
            raise OptionError(f"{url}: {import_obstacle(error, 'fsspec', _S3)}") from error
        try:
            _forget_others(fsspec.get_filesystem_class(scheme), scheme)
            # Listings that are kept would be out of date: other machines write there.
            system, root = fsspec.core.url_to_fs(
                url, use_listings_cache=False, **_connections(scheme, fsspec.config.conf)
            )
        except ImportError as error:
            # fsspec says "install it" whatever the cause.
            if error.__cause__ is not None and not isinstance(error.__cause__, ModuleNotFoundError):
                raise OptionError(
                    f"{url}: needs a package that is installed, but cannot be imported ({import_causes(error.__cause__)}); "
                    f"run: pip install --upgrade {SCHEMES[scheme]}"
                ) from error
            raise OptionError(
                f"{url}: needs a package that is not here ({words(error)}); run: pip install {SCHEMES[scheme]}"
            ) from error
        # Each file system has errors of its own.
        except Exception as error:
            raise OptionError(f"{url}: cannot be opened ({words(error)}); {CHECK}") from error
        return cls(url, system, str(root).rstrip("/"))

    @property
    def conditional(self) -> ConditionalWriter | None:
        """Conditional requests of the file system; None: it has none."""
        return writer_of(self.system)

    def heeds_conditions(self, name: str, content: bytes) -> bool:
        """Return whether a condition that cannot hold keeps a file of this content from being written again."""
        if self.conditional is None:
            return False
        try:
            self.conditional.write(self.system, self._path(name), content, self.conditional.impossible)
        # Whatever the reason: that a condition which holds is taken shows only when it is tried.
        except Exception:
            return True
        return False

    def listing(self) -> dict[str, RemoteFile]:
        """Return the files below the folder by name; a file whose name is no safe path is none.

        Raises:
            OptionError: The folder cannot be listed.
        """
        try:
            self.system.invalidate_cache()
            with telling_of_silence(self.url):
                found = self.system.find(self.root, detail=True)
        # Each file system has errors of its own.
        except Exception as error:
            raise OptionError(f"{self.url}: cannot be listed {because(error)}") from error
        files = {path[len(self.root) :].lstrip("/"): info for path, info in found.items() if self._has(path)}
        return {name: _remote_file(info) for name, info in files.items() if is_safe_relative(name)}

    def look(self, names: Iterable[str]) -> dict[str, RemoteFile]:
        """Return the files of these names that are there: for a few, quicker than a listing.

        Raises:
            OptionError: The folder cannot be looked at.
        """
        found: dict[str, RemoteFile] = {}
        for name in names:
            try:
                self.system.invalidate_cache()
                with telling_of_silence(self.url):
                    info = self.system.info(self._path(name), refresh=True)
            except FileNotFoundError:
                continue
            except Exception as error:
                raise OptionError(f"{self.url}: cannot be looked at {because(error)}") from error
            if info.get("type") == "file":
                found[name] = _remote_file(info)
        return found

    def look_again(self, names: Collection[str], count: int) -> dict[str, RemoteFile]:
        """Return at least the files of these names that are there, of a folder of about `count`, in as few requests as can be.

        Raises:
            OptionError: The folder cannot be looked at.
        """
        return self.look(names) if len(names) <= 1 + count // _LISTED else self.listing()

    def fetch(self, names: Sequence[str], paths: Sequence[Path]) -> None:
        """Write files to local paths, side by side. Raises `OSError` with the reason where that fails."""
        try:
            self.system.get([self._path(name) for name in names], [str(path) for path in paths])
        except Exception as error:
            raise OSError(reason(error)) from error

    def fetch_patiently(self, names: Sequence[str], paths: Sequence[Path]) -> None:
        """Fetch files, and try again where the store is out of order: file systems themselves do so for some failures alone.

        Raises:
            OSError: That fails again and again, or for a reason that stays, with the reason.
        """
        for pause_s in (*PAUSES_S, None):
            try:
                self.fetch(names, paths)
                break
            except OSError as error:
                if pause_s is None or stays(error.__cause__ or error):
                    raise
            time.sleep(pause_s)

    def put(self, files: Mapping[str, Path], known: Mapping[str, str] | None = None) -> None:
        """Write local files, side by side.

        Args:
            files: The files.
            known: Versions of those that are there: each is written on condition that its version is this one, or that there
                is none. None: over whatever is there.

        Raises:
            OptionError: That fails; of some it may have succeeded.
        """
        new = {name: path for name, path in files.items() if known is None or name not in known}
        writer = self.conditional
        try:
            if new:
                mode = {} if known is None else {"mode": "create"}
                self.system.put([str(path) for path in new.values()], [self._path(name) for name in new], **mode)
            if known is not None and writer is not None and len(new) < len(files):
                with ThreadPoolExecutor(_THREADS) as pool:
                    begun = [
                        pool.submit(writer.put, self.system, files[name], self._path(name), _mark(known[name]))
                        for name in files.keys() - new.keys()
                    ]
                for one in begun:
                    one.result()
            self.system.invalidate_cache()
        except Exception as error:
            raise self._cannot_be_written(error) from error

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a small file, None where there is none.

        Raises:
            OptionError: It cannot be read, or is not small.
        """
        try:
            self.system.invalidate_cache()
            size = int(self.system.info(self._path(name)).get("size") or 0)
            TEXT_BYTES.check(size, f"{self.url}/{name}", OptionError)
            content: bytes = self.system.cat_file(self._path(name))
        except FileNotFoundError:
            return None
        except OptionError:
            raise
        except Exception as error:
            raise OptionError(f"{self.url}/{name}: cannot be read {because(error)}") from error
        return content

    def create(self, name: str, content: bytes) -> bool:
        """Make a small file; return False, and change nothing, where it is there.

        Raises:
            OptionError: It cannot be written, or the file system offers no such thing.
        """
        try:
            with telling_of_silence(self.url):
                self.system.pipe_file(self._path(name), content, mode="create")
        except FileExistsError:
            return False
        except (TypeError, NotImplementedError) as error:
            raise OptionError(
                f"{self.url}: cannot be written safely (its file system does not make files exclusively: {words(error)}); "
                "expected s3:// or another that does; write to a folder of this machine, and copy it"
            ) from error
        except Exception as error:
            # Stores differ in how they say that there is one.
            if self.read(name) is not None:
                return False
            raise self._cannot_be_written(error) from error
        return True

    def write(self, name: str, content: bytes) -> None:
        """Write a small file over what is there. Raises `OptionError` where that fails."""
        try:
            self.system.pipe_file(self._path(name), content)
        except Exception as error:
            raise self._cannot_be_written(error) from error

    def replace(self, name: str, content: bytes, version: str) -> str | None:
        """Write a small file, whose content nobody else writes, over one of this version.

        Returns:
            Its new version; None where the old one is no more there, and nothing has changed.

        Raises:
            OptionError: It cannot be written.
        """
        writer = self.conditional
        if writer is None:
            raise OptionError(f"{self.url}: its file system has no conditional writes")
        try:
            mark = writer.write(self.system, self._path(name), content, _mark(version))
        except Exception as error:
            found = self.look([name]).get(name)
            if found is not None and found.version == version:
                raise self._cannot_be_written(error) from error
            mark = None
        if mark is not None:
            return f"{len(content)} {mark}"
        # Also where a request failed that the store has carried out: it is repeated when its answer is lost.
        return self.version_of(name, content)

    def version_of(self, name: str, content: bytes) -> str | None:
        """Return the version of a small file with this content, which nobody else writes; None where there is another, or none.

        Raises:
            OptionError: It cannot be read.
        """
        found = self.look([name]).get(name)
        return None if found is None or self.read(name) != content else found.version

    def remove_versions(self, versions: Mapping[str, str], *, fenced: bool) -> None:
        """Delete files, side by side; `fenced`: each on condition that it has this version.

        Raises:
            OptionError: That fails; of some it may have succeeded.
        """
        writer = self.conditional
        if writer is None or not fenced:
            self.remove(versions)
            return
        with ThreadPoolExecutor(_THREADS) as pool:
            begun = [
                pool.submit(writer.remove, self.system, self._path(name), _mark(version))
                for name, version in versions.items()
            ]
        for one in begun:
            try:
                one.result()
            except FileNotFoundError:
                continue
            except Exception as error:
                raise self._cannot_be_written(error) from error

    def remove(self, names: Iterable[str]) -> None:
        """Delete files. Raises `OptionError` where that fails."""
        paths = [self._path(name) for name in names]
        try:
            if paths:
                self.system.rm(paths)
                self.system.invalidate_cache()
        except FileNotFoundError:
            pass
        except Exception as error:
            raise self._cannot_be_written(error) from error

    def _cannot_be_written(self, error: Exception) -> OptionError:
        return OptionError(f"{self.url}: cannot be written {because(error)}")

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _has(self, path: str) -> bool:
        return path.startswith(f"{self.root}/")


def _connections(scheme: str, configured: Mapping[str, Any]) -> dict[str, Any]:
    """Return options for more connections at once than botocore's ten, which wait for answers most of the time.

    What the user has configured for fsspec stays.
    """
    if not scheme.startswith("s3"):
        return {}
    chosen = configured.get("s3", {}).get("config_kwargs", {})
    return {"config_kwargs": {"max_pool_connections": _CONNECTIONS, **chosen}}


def _forget_others(system: Any, scheme: str) -> None:
    """Let go of the kept file systems of a scheme where they were opened by other keys or addresses than would be used now."""
    opened_by = (
        frozenset((name, value) for name, value in os.environ.items() if name.lower().startswith(_VARIABLES)),
        tuple(file_state(Path(os.environ.get(name) or default).expanduser()) for name, default in _KEY_FILES.items()),
    )
    if _OPENED_BY.setdefault(scheme, opened_by) != opened_by:
        _OPENED_BY[scheme] = opened_by
        system.clear_instance_cache()


def size_text(count: int) -> str:
    """Return a number of bytes for people.

    >>> size_text(3), size_text(41_500_000), size_text(7_210_000_000)
    ('0.0 MB', '41.5 MB', '7.2 GB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _remote_file(info: Mapping[str, Any]) -> RemoteFile:
    # Of S3, Google (whose ETag is of the content alone), Azure, and all others.
    names = ("ETag", "generation", "etag", "LastModified", "mtime", "created")
    mark = next((info[name] for name in names if info.get(name)), None)
    # A time comes as a number from one call and as a `datetime` from another.
    mark = mark.timestamp() if isinstance(mark, datetime) else mark
    return RemoteFile(int(info.get("size") or 0), f"{info.get('size')} {mark}")


def _mark(version: str) -> str:
    return version.partition(" ")[2]

"""A staging folder: the files of a command that writes to a remote folder, and what both sides last had.

Conventions
    It is ``<cache>/staging/<name of the URL>``: the files are in ``files/``, copies that are being put in ``snapshot/``, what was
    set aside (`reconcile`) in ``stale-<time>/``. ``index.json`` holds version and SHA-256 of each file as both sides last had it,
    and a token that names the folder in the remote lock.
"""

from __future__ import annotations

import json
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from avsrobust.errors import OptionError
from avsrobust.files import sha256_of_file, write_text
from avsrobust.folders import MARKER_NAME
from avsrobust.locks import LOCK_NAME
from avsrobust.remote.addresses import FILES_NAME, INDEX_NAME, STAGING, local_home
from avsrobust.remote.lease import Lease
from avsrobust.remote.messages import tell
from avsrobust.remote.store import Store
from avsrobust.remote.upload_order import is_public
from avsrobust.textfiles import parse_json

SNAPSHOT_NAME = "snapshot"


@dataclass(frozen=True)
class Known:
    """A file as the remote folder and the staging folder both had it."""

    version: str
    sha256: str


@dataclass
class Stage:
    """A staging folder.

    Attributes:
        store: The remote folder.
        part: The folder below it that is written; "": all.
        without: A folder below it that is not.
        token: Names the staging folder to others.
        known: Files as both sides last had them.
        lease: The remote lock while it is held.
    """

    store: Store
    part: str
    without: str
    token: str = ""
    known: dict[str, Known] = field(default_factory=dict)
    lease: Lease | None = None

    @property
    def url(self) -> str:
        """Address of the remote folder."""
        return self.store.url

    @property
    def home(self) -> Path:
        """The staging folder."""
        return local_home(STAGING, f"{self.store.url}/{self.part}")

    @property
    def files(self) -> Path:
        """Folder of its files, in which the command works."""
        return self.home / FILES_NAME

    @property
    def snapshot(self) -> Path:
        """Folder of copies of files that are being put there."""
        return self.home / SNAPSHOT_NAME

    @property
    def lock(self) -> str:
        """Name of the remote lock."""
        return f"{self.part}/{LOCK_NAME}" if self.part else LOCK_NAME

    @property
    def is_fenced(self) -> bool:
        """Whether the store heeds conditions on each file."""
        return self.lease is not None and self.lease.fenced

    def renew(self) -> None:
        """Renew the remote lock. Raises `LostLeaseError` where it is lost."""
        if self.lease is not None:
            self.lease.renew()

    def read(self) -> None:
        """Read what an earlier command left, or begin anew."""
        try:
            content = parse_json((self.home / INDEX_NAME).read_bytes())
            self.token = str(content["token"])
            self.known = {str(name): Known(*map(str, entry)) for name, entry in content["files"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self.token = secrets.token_hex(8)
        self.write()

    def write(self) -> None:
        """Write the index."""
        files = {name: [entry.version, entry.sha256] for name, entry in self.known.items()}
        content = {"url": self.store.url, "token": self.token, "files": files}
        write_text(self.home / INDEX_NAME, json.dumps(content, sort_keys=True))

    def here(self) -> list[str]:
        """Return the names of the files to put: no locks, unfinished files and links."""
        found = (path for path in self.files.rglob("*") if path.is_file() and not path.is_symlink())
        names = (path.relative_to(self.files).as_posix() for path in found if is_public(path.name))
        return sorted(name for name in names if self._is_mine(name))

    def there(self) -> dict[str, str]:
        """Return the versions of the remote files that this folder is about."""
        listing = self.store.listing()
        return {
            name: file.version
            for name, file in listing.items()
            if self._is_mine(name) and is_public(name.rpartition("/")[2])
        }

    def sha256(self, name: str) -> str | None:
        """Return the SHA-256 of a file here, None where there is none."""
        path = self.files / name
        return sha256_of_file(path) if path.is_file() else None

    def is_new(self, name: str) -> bool:
        """Return whether a file that is here was never put there, or has changed since."""
        return name not in self.known or self.known[name].sha256 != self.sha256(name)

    def empty(self) -> None:
        """Delete the files; what is left says of which URL the folder was."""
        shutil.rmtree(self.files, ignore_errors=True)
        self.known = {}
        self.write()

    def leave(self) -> None:
        """Delete the files where nothing of them is new; else say where they are."""
        if not self.files.is_dir():
            return
        here = self.here()
        new = (name for name in here if name.rpartition("/")[2] != MARKER_NAME)
        if self.known.keys() - set(here) or any(map(self.is_new, new)):
            tell(f"{self.url}: what is finished is kept in {self.home}; the same command continues there")
        else:
            self.empty()

    def conflict(self, names: list[str]) -> OptionError:
        """Return the error of files that both sides have changed."""
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return self.clash(f"{names[0]}{more} changed there while this command worked on it")

    def clash(self, what: str) -> OptionError:
        """Return the error of two sides that cannot be put together."""
        return OptionError(
            f"{self.url}: {what}; expected nobody else to write there; nothing more was put there, the finished work is kept in "
            f"{self.home}; choose another --output, or delete that folder and run again to begin with what is there now"
        )

    def _is_mine(self, name: str) -> bool:
        if self.part:
            return name == MARKER_NAME or name.startswith(f"{self.part}/")
        return not self.without or not name.startswith(f"{self.without}/")

"""The lock of a remote folder: one holder at a time, and free by itself some time after a holder has died.

Conventions
    The lock is a file that is made only where there is none. It says who holds it and, where the store has conditional writes
    (`avsrobust.remote.conditional`), for how long without a renewal: `lease_s`. The holder rewrites it several times in that
    span, each time over the version that it wrote before, and before each step of putting files.
    Another process may replace a lock that it has seen unchanged for `lease_s`, on condition that it is still that version: so
    the holder's renewal and any number of others end in one holder. Each measures the span by its own clock, from its own first
    look, and counts no time in which it could not look. No two clocks are compared: not those of two machines, which may be
    hours apart, nor the store's date with that of a file, which have whole seconds and may come from different servers. The
    price is to wait for the whole span even where the holder has long been dead.
    A holder that was paused or cut off for longer may have been replaced without knowing, and finds out at its next renewal. What
    it was about to write is kept from taking effect by the same conditions on each file (`staging`).
    Stores that do not heed conditions are told by trying one that cannot hold. There a lock is no lease: it says no span, stays
    until somebody deletes it, and messages say so.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import copy_context
from datetime import UTC, datetime

from avsrobust.errors import AvsRobustError, OptionError
from avsrobust.remote.messages import tell
from avsrobust.remote.store import Store
from avsrobust.textfiles import parse_json

LEASE_S = 60.0
# Of the span: a renewal that fails can be tried again before the lease is over.
_RENEWALS = 4
_LONGEST_S = 3600.0
_POLL_S = 2.0


class LostLeaseError(OptionError):
    """Another process has taken the lock."""


class Lease:
    """A lock that is held.

    Args:
        store: The remote folder.
        name: The lock's file.
        owner: Says who holds it: "holder" (the staging folder's token), "who" and "since".

    Attributes:
        fenced: Whether the store heeds conditions, so that the lock is a lease.
    """

    def __init__(self, store: Store, name: str, owner: Mapping[str, str]) -> None:
        self.store, self.name, self.owner = store, name, owner
        self.fenced = False
        # Tells one process from the next in the same staging folder.
        self._claim = secrets.token_hex(8)
        self._count = 0
        self._content = self._next()
        self._version = ""
        self._lost: str | None = None
        self._busy = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def make(self) -> bool:
        """Make the lock where there is none; return whether it is ours."""
        return self.store.create(self.name, self._content) or self.store.read(self.name) == self._content

    def replace(self, version: str) -> bool:
        """Take the place of a lock of this version; return whether it is ours."""
        if self.store.conditional is not None:
            return self.store.replace(self.name, self._content, version) is not None
        # Only ours, of a process that died, is replaced there: it is no lease.
        self.store.write(self.name, self._content)
        return True

    def start(self) -> None:
        """Begin to renew the lock, if it can be a lease.

        Raises:
            LostLeaseError: A store without exclusive creation let two have it, and the other one has it.
        """
        self._version = self._require_content()
        # No file has such a mark: where it is taken, conditions are passed over, and the same content was written again.
        self.fenced = self.store.heeds_conditions(self.name, self._content)
        if self.fenced:
            try:
                self.renew()
            except LostLeaseError:
                raise
            except OptionError:
                # Conditions are refused altogether.
                self.fenced = False
        if self.fenced:
            self._thread = threading.Thread(target=copy_context().run, args=(self._keep,), daemon=True, name="lease")
            self._thread.start()
        else:
            self._version = self._require_content()

    def renew(self) -> None:
        """Show that the lock is ours still, for another span.

        Raises:
            LostLeaseError: It is not.
            OptionError: The store cannot be asked.
        """
        with self._busy:
            self.require()
            try:
                if not self.fenced:
                    self._version = self._require_content()
                    return
                content = self._next()
                version = self.store.replace(self.name, content, self._version)
                if version is None:
                    raise self._is_lost()
                self._content, self._version = content, version
            except LostLeaseError as error:
                self._lost = str(error)
                raise

    def require(self) -> None:
        """Raise `LostLeaseError` where it is known that the lock is lost."""
        if self._lost is not None:
            raise LostLeaseError(self._lost)

    def stop(self) -> None:
        """Give the lock up, if it is ours still."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if self._lost is not None:
            return
        try:
            if self.store.read(self.name) == self._content:
                self.store.remove_versions({self.name: self._version}, fenced=self.fenced)
        # What the block did, or failed at, is what counts.
        except AvsRobustError as error:
            then = f"others wait {LEASE_S:g} s for it" if self.fenced else "delete it"
            tell(f"{self.store.url}/{self.name}: cannot be deleted; {then} ({error})")

    def _keep(self) -> None:
        told = False
        while not self._over.wait(LEASE_S / _RENEWALS):
            try:
                self.renew()
                told = False
            except LostLeaseError as error:
                tell(str(error))
                return
            except AvsRobustError as error:
                if not told:
                    tell(f"{self.store.url}/{self.name}: cannot be renewed, and is tried again ({error})")
                told = True

    def _next(self) -> bytes:
        """Return the content of the next renewal: another one each time."""
        self._count += 1
        entries: dict[str, object] = {**self.owner, "claim": self._claim, "renewal": self._count}
        if self.fenced:
            entries["lease_s"] = LEASE_S
        return json.dumps(entries, sort_keys=True).encode()

    def _require_content(self) -> str:
        """Return the lock's version, which has our content."""
        version = self.store.version_of(self.name, self._content)
        if version is None:
            raise self._is_lost()
        return version

    def _is_lost(self) -> LostLeaseError:
        other = read_lock(self.store, self.name)
        by = f"by {other.get('who', 'another process')} " if other else ""
        return LostLeaseError(
            f"{self.store.url}: its lock was taken {by}while this command was paused or cut off from there, or deleted by hand; "
            "this command puts nothing more there; when the other one is done, run this one again"
        )


@contextmanager
def hold(store: Store, name: str, token: str, command: str, *, wait: bool) -> Iterator[Lease]:
    """Hold the lock of a remote folder for the block.

    Args:
        store: The remote folder.
        name: The lock's file.
        token: Names the staging folder, which the caller holds: another lock of it is one of a process that died.
        command: Names the holder to others.
        wait: Wait for a process that is alive, too.

    Raises:
        OptionError: The folder is in use, or cannot be written.
    """
    who = f"{command} (process {os.getpid()} on {socket.gethostname()})"
    since = datetime.now(UTC).isoformat(timespec="seconds")
    lease = Lease(store, name, {"holder": token, "who": who, "since": since})
    watched = _Watched(store, name)
    while not lease.make():
        watched.look()
        if watched.version is None:
            # It was given up between two looks.
            time.sleep(0.1)
        elif watched.other.get("holder") == token or watched.is_over:
            if lease.replace(watched.version):
                tell(f"{store.url}: its lock is taken over from {_who(watched.other)}, which gives no sign of life")
                break
        elif not wait and (watched.lease_s is None or watched.is_alive):
            raise _in_use(watched)
        else:
            watched.tell()
            time.sleep(_POLL_S)
    try:
        lease.start()
        yield lease
    finally:
        lease.stop()


class _Watched:
    """The lock of another process, looked at again and again.

    Attributes:
        version: Its version at the last look, None where there was none.
        other: What it says.
        lease_s: Seconds without a renewal after which it is free; None: it never is.
        is_alive: Whether it has changed while it was watched.
        unchanged_s: Seconds that it was seen unchanged for, by this machine's clock.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name
        self.version: str | None = None
        self.other: dict[str, str] = {}
        self.lease_s: float | None = None
        self.is_alive = False
        self.unchanged_s = 0.0
        self._looked = 0.0
        self._told = False

    @property
    def is_over(self) -> bool:
        """Whether the lease is over."""
        return self.lease_s is not None and self.unchanged_s >= self.lease_s

    def look(self) -> None:
        """Look at the lock."""
        found, now = self.store.look([self.name]).get(self.name), time.monotonic()
        version = None if found is None else found.version
        if version is not None and version == self.version:
            # While the store could not be asked, or this machine slept, the holder could not renew it either.
            self.unchanged_s += min(now - self._looked, 2 * _POLL_S)
        else:
            self.is_alive = self.version is not None
            self.unchanged_s = 0.0
            self.other = {} if version is None else read_lock(self.store, self.name)
            self.lease_s = _lease_s(self.other)
        self.version, self._looked = version, now

    def tell(self) -> None:
        """Say, once, what is waited for."""
        if not self._told and self.lease_s is not None:
            tell(
                f"{self.store.url}: is locked by {_who(self.other)}; free if that gives no sign of life for {self.lease_s:g} s"
            )
            self._told = True


def read_lock(store: Store, name: str) -> dict[str, str]:
    """Return what a lock says; nothing where it is gone, "another process" where it is none of ours."""
    content = store.read(name)
    if content is None:
        return {}
    try:
        return {str(key): str(value)[:200] for key, value in parse_json(content).items()}
    except (ValueError, AttributeError):
        return {"who": "another process"}


def _lease_s(other: Mapping[str, str]) -> float | None:
    try:
        lease_s = float(other["lease_s"])
    except (KeyError, ValueError):
        return None
    return lease_s if 0 < lease_s <= _LONGEST_S else None


def _who(other: Mapping[str, str]) -> str:
    return other.get("who", "another process")


def _in_use(watched: _Watched) -> OptionError:
    url, other = watched.store.url, watched.other
    advice = "" if watched.lease_s else f"; where that process is no more, delete {url}/{watched.name}"
    return OptionError(
        f"{url}: is in use by {_who(other)}, since {other.get('since', 'some time')}; wait until it is done, run again with "
        f"--wait, or choose another folder{advice}"
    )

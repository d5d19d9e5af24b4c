"""Putting the files of a staging folder to the remote one: at the end, and of a long command now and then.

Conventions
    Files that differ from what is known to be there are put in an order by which nobody takes half for the whole
    (`upload_order`). Where the store heeds conditions, each is written, and deleted, only while it has the version there that it
    last had: a process that slept through the end of its lease just before it writes changes nothing of another's. Before and
    after, the remote folder is listed: a file that somebody else has changed is a conflict, and nothing more is put there.
    What a long command has so far is put from copies of the files, in the background, while it goes on.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextvars import copy_context
from itertools import accumulate
from pathlib import Path
from threading import Thread

from avsrobust.errors import AvsRobustError, OptionError
from avsrobust.files import sha256_of_file
from avsrobust.remote.copies import adopt, make_copy
from avsrobust.remote.lease import LostLeaseError
from avsrobust.remote.messages import tell
from avsrobust.remote.stage import Known, Stage
from avsrobust.remote.upload_order import batches
from avsrobust.vocabulary import counted

# A machine that vanishes loses about as much.
PUT_EVERY_S = 30.0
_MOST_BYTES = 1 << 30
_TRIES = 3


class Upload:
    """Puts the files of a staging folder, whose remote lock is held.

    Attributes:
        putting: The thread that puts files there.
        began_s: When it began, by the clock of `time.monotonic`; before, when the folder was taken.

    Args:
        stage: The staging folder.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.putting: Thread | None = None
        self.began_s = time.monotonic()
        # Time of the last change of files as they were last put, by `put_so_far`.
        self._times: dict[str, int] = {}

    def put_so_far(self, *, often: bool) -> None:
        """Copy files that have changed, and put the copies to the remote folder in the background."""
        stage = self.stage
        if stage.lease is not None:
            stage.lease.require()
        is_soon = often and time.monotonic() - self.began_s < PUT_EVERY_S
        if is_soon or (self.putting is not None and self.putting.is_alive()):
            return
        self.began_s = time.monotonic()
        names = stage.here()
        found = {name: (stage.files / name).stat() for name in names}
        times = {name: entry.st_mtime_ns for name, entry in found.items()}
        changed = [name for name in names if name not in stage.known or self._times.get(name) != times[name]]
        if often:
            # The copies take room beside the files.
            ends = accumulate(found[name].st_size for name in changed)
            changed = [
                name for name, end in zip(changed, ends, strict=True) if end <= _MOST_BYTES or name == changed[0]
            ]
        shutil.rmtree(stage.snapshot, ignore_errors=True)
        for name in changed:
            (stage.snapshot / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(stage.files / name, stage.snapshot / name)
        times = {name: times[name] for name in changed}
        self.putting = Thread(target=copy_context().run, args=(self._put_snapshot, names, changed, times), name="put")
        self.putting.start()

    def publish(self) -> None:
        """Put what is new to the remote folder, delete there what is gone here, and make the files the copy for reading."""
        stage = self.stage
        self.join()
        self._put_changes(stage.files, {name: sha256_of_file(stage.files / name) for name in stage.here()})
        adopt(stage.url, stage.files, {name: entry.version for name, entry in stage.known.items()})
        stage.empty()

    def join(self) -> None:
        """Wait until nothing is put in the background."""
        if self.putting is not None:
            self.putting.join()
            self.putting = None
        shutil.rmtree(self.stage.snapshot, ignore_errors=True)

    def _put_snapshot(self, names: list[str], changed: list[str], times: Mapping[str, int]) -> None:
        stage = self.stage
        sums = {name: stage.known[name].sha256 for name in names if name in stage.known}
        sums |= {name: sha256_of_file(stage.snapshot / name) for name in changed}
        try:
            self._put_changes(stage.snapshot, sums)
            self._times.update(times)
        except LostLeaseError:
            # The next call, or the end, says so.
            pass
        except AvsRobustError as error:
            tell(f"{stage.url}: what is finished could not be put there yet ({error})")
        finally:
            shutil.rmtree(stage.snapshot, ignore_errors=True)

    def _put_changes(self, root: Path, sums: Mapping[str, str]) -> None:
        """Put files below `root` that differ from what is known to be there; delete there those that `sums` does not name."""
        stage, known = self.stage, self.stage.known
        due = {name for name, sha256 in sums.items() if name not in known or known[name].sha256 != sha256}
        gone = known.keys() - sums.keys()
        stage.renew()
        self._require_unchanged(sums)
        if not due and not gone:
            return
        count = sum((root / name).stat().st_size for name in due)
        tell(f"writing {counted(len(due), 'file')} ({count / 1e6:.1f} MB) to {stage.url}")
        for batch in batches(due):
            self._put_batch(root, batch, sums)
        # What says that the rest is whole goes first.
        for batch in reversed(list(batches(gone))):
            stage.store.remove_versions({name: known[name].version for name in batch}, fenced=stage.is_fenced)
        for name in gone:
            del known[name]
        stage.write()

    def _put_batch(self, root: Path, batch: list[str], sums: Mapping[str, str]) -> None:
        stage, known = self.stage, self.stage.known
        for left in reversed(range(_TRIES if stage.is_fenced else 1)):
            there = {name: known[name].version for name in batch if name in known}
            try:
                stage.store.put({name: root / name for name in batch}, there if stage.is_fenced else None)
                break
            except OptionError:
                # Because of another's files, or of our own, whose request was repeated since its answer was lost?
                stage.renew()
                self._require_unchanged(sums)
                batch = [name for name in batch if name not in known or known[name].sha256 != sums[name]]
                if not left:
                    raise
        self._note(root, batch, sums)

    def _require_unchanged(self, sums: Mapping[str, str]) -> None:
        """Refuse where the remote folder is not as it was when the work began, but for files that are as ours."""
        stage, known = self.stage, self.stage.known
        there = stage.there()
        changed = {name for name, version in there.items() if name not in known or known[name].version != version}
        gone = known.keys() - there.keys()
        if changed:
            copy = make_copy(stage.url, changed)
            for name in sorted(changed):
                if sha256_of_file(copy.files / name) == sums.get(name):
                    known[name] = Known(there[name], sums[name])
                    changed.discard(name)
        if changed or gone:
            raise stage.conflict(sorted(changed | gone))

    def _note(self, root: Path, names: list[str], sums: Mapping[str, str]) -> None:
        """Note the versions that files have got; refuse where one has not arrived whole."""
        stage = self.stage
        listing = stage.store.look_again(names, len(stage.known))
        # Held until now: what is listed is ours.
        stage.renew()
        for name in names:
            if name not in listing or listing[name].size != (root / name).stat().st_size:
                raise OptionError(
                    f"{stage.url}/{name}: is not there as it was written; expected its {sums[name][:12]}..; run the same "
                    "command again"
                )
            stage.known[name] = Known(listing[name].version, sums[name])
        stage.write()

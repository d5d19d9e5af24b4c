"""Writing to a remote folder: the work is done in a folder of this machine, and put there whole at the end.

Conventions
    The staging folder (`stage`) is first given what the remote folder holds (`reconcile`), so that a command adds to it,
    continues it or refuses it by the rules for local folders. When the command has succeeded, files that differ are put there
    (`upload`). Then the staging folder moves to the copy for reading. Where the command fails, is interrupted or killed, the
    staging folder stays, and the same command continues in it. A long command puts what it has so far there now and then
    (`put_so_far`).
    The remote folder holds ``.avsrobust.lock`` meanwhile (`avsrobust.remote.lease`): another machine is refused. A killed
    process leaves it; whoever continues its staging folder takes it over at once, others when its lease is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from avsrobust.errors import OptionError
from avsrobust.files import make_folder
from avsrobust.folders import MARKER_NAME, check_owner, parse_marker
from avsrobust.locks import acquire
from avsrobust.remote.addresses import COPIES, STAGING, is_remote_place, local_home, room_folders, url_of
from avsrobust.remote.lease import hold
from avsrobust.remote.reconcile import Lineage, take
from avsrobust.remote.stage import Stage
from avsrobust.remote.store import Store
from avsrobust.remote.upload import Upload

# What puts the staging folders that commands of this process work in.
_ACTIVE: dict[Path, Upload] = {}


@contextmanager
def output_folder(
    place: Path | str,
    command: str,
    kind: str,
    *,
    part: str = "",
    without: str = "",
    wait: bool = False,
    lineage: Lineage | None = None,
) -> Iterator[Path]:
    """Yield the local folder that a command writes to: a path itself, or the staging folder of a URL, put there at the end.

    Args:
        place: A path or a URL.
        command: Names the holder to others, such as "avsrobust build".
        kind: Kind of the folder (`avsrobust.folders`).
        part: A folder below the URL: the rest of the remote folder stays as it is, but for its marker.
        without: A folder below the URL that stays as it is.
        wait: Wait until another process gives the remote folder up.
        lineage: Compares the remote state with what an earlier command left here: which one continues the other; None: files
            that both sides have changed are refused.

    Raises:
        OptionError: The remote folder cannot be used: it is in use, holds what is not ours, has changed, or cannot be written.
    """
    if not is_remote_place(place):
        yield Path(place)
        return
    stage = Stage(Store.open(str(place)), part, without)
    require_own(stage.store.url, kind)
    make_folder(stage.home)
    with ExitStack() as stack:
        try:
            stack.enter_context(acquire(stage.home, command, wait=wait))
        except OptionError as error:
            raise OptionError(str(error).replace(str(stage.home), stage.store.url)) from error
        stage.read()
        stage.lease = stack.enter_context(hold(stage.store, stage.lock, stage.token, command, wait=wait))
        take(stage, lineage)
        _ACTIVE[stage.files] = upload = Upload(stage)
        try:
            yield stage.files
            upload.publish()
        finally:
            del _ACTIVE[stage.files]
            upload.join()
            stage.leave()


def put_so_far(folder: Path, *, often: bool = False) -> None:
    """Put the files that a staging folder holds now to its URL, in the background; nothing for other folders.

    While an earlier call still puts its files, nothing is begun: what is new goes with the next. Where it fails, people are told,
    and the next call tries again.

    Args:
        folder: The staging folder, in which nothing is written meanwhile but new files, each whole at once, and ends of journals.
        often: This is called often: nothing is begun within `upload.PUT_EVERY_S` after the last time, or after the command
            began, and no more than 1 GiB is put at once.

    Raises:
        LostLeaseError: Another process writes to the URL by now.
    """
    if (upload := _ACTIVE.get(folder)) is not None:
        upload.put_so_far(often=often)


def require_own(place: Path | str, kind: str) -> None:
    """Check that a remote folder can become, or is, one of ours of this kind, as `folders.ensure_own` does for local ones.

    Raises:
        OptionError: It holds anything that is not ours, or cannot be read.
    """
    store = Store.open(str(place))
    names = {name.partition("/")[0] for name in store.listing()}
    check_owner(store.url, kind, remote_marker(place) if MARKER_NAME in names else None, sorted(names))


def remote_marker(place: Path | str) -> tuple[str, int] | None:
    """Return kind and format of a remote folder of ours, None where it is not ours. Raises `OptionError` for a damaged marker."""
    store = Store.open(str(place))
    content = store.read(MARKER_NAME)
    return None if content is None else parse_marker(f"{store.url}/{MARKER_NAME}", content)


def published(path: Path) -> Path:
    """Return where a file of a staging folder lies after it was put to its URL; other paths as they are."""
    for room in room_folders(STAGING):
        if path.is_relative_to(room):
            home, *rest = path.relative_to(room).parts
            if (url := url_of(room / home)) is not None:
                return local_home(COPIES, url).joinpath(*rest)
    return path

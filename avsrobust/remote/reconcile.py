"""Bringing what is new in the remote folder to the staging folder, before a command goes on there.

Conventions
    A file that one side alone has changed since both had it is that side's. Files of parts of an evaluation are always the remote
    side's: parts that never came there give way to those of a machine that continued without them.
    A file that both have changed is a conflict, and refused. A folder whose files tell how far it is, such as a training run, has
    a `Lineage`: there the side that is ahead wins as a whole, if the other one is an earlier state of the same. What this
    side has beyond it is set aside then, in ``stale-<time>/`` in the staging folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from avsrobust.files import TEMPORARY_SUFFIX, sha256_of_file
from avsrobust.remote.copies import Copy, make_copy
from avsrobust.remote.messages import tell
from avsrobust.remote.stage import Known, Stage
from avsrobust.remote.store import size_text
from avsrobust.remote.upload_order import is_part
from avsrobust.vocabulary import counted

STALE_NAME = "stale"
HERE, THERE = "here", "there"


@dataclass(frozen=True)
class Sides:
    """Two states of a folder that come from one.

    Attributes:
        here: The folder here.
        there: A folder with those of the remote files that the lineage reads.
        names_there: Names of all remote files.
        shared: Names of the files that both sides have had in common.
    """

    here: Path
    there: Path
    names_there: Collection[str]
    shared: Collection[str]


@dataclass(frozen=True)
class Verdict:
    """Which side goes on from the other.

    Attributes:
        ahead: `HERE`, `THERE`, or "" for neither.
        why: What was found, for people.
    """

    ahead: str
    why: str


@dataclass(frozen=True)
class Lineage:
    """A comparison of two states of a folder: which one continues the other.

    Attributes:
        files: Names of the remote files that it reads, as far as they are there.
        compare: Compares the sides.
    """

    files: Sequence[str]
    compare: Callable[[Sides], Verdict]


def take(stage: Stage, lineage: Lineage | None = None) -> None:
    """Bring what is new in the remote folder to the staging folder; what is new here stays, or is set aside.

    Raises:
        OptionError: Both sides have changed.
    """
    there = stage.there()
    changed = [name for name in there if name not in stage.known or stage.known[name].version != there[name]]
    others = sorted({*changed, *(stage.known.keys() - there.keys())})
    if not others:
        stage.write()
        return
    copy = make_copy(stage.url, changed) if changed else None
    theirs = {name: None if copy is None or name not in there else sha256_of_file(copy.files / name) for name in others}
    mine = {name: stage.sha256(name) for name in others}
    is_here_ahead = False
    new = [] if lineage is None else [name for name in stage.here() if stage.is_new(name)]
    # What is gone here may have been set aside by a process that died before it was done.
    is_gone = any(not (stage.files / name).is_file() for name in stage.known)
    if lineage is not None and (new or is_gone):
        found = _compared(stage, lineage, there)
        if not found.ahead:
            raise stage.clash(found.why)
        is_here_ahead = found.ahead == HERE
        if not is_here_ahead:
            _set_aside(
                stage, [name for name in new if name not in theirs or stage.sha256(name) != theirs[name]], found.why
            )
            _restore(stage, there, changed)
            return
    if any(is_part(name) and mine[name] != theirs[name] for name in others):
        _give_way(stage, others)
    conflicts = []
    for name in others:
        before = stage.known.get(name)
        is_theirs = is_part(name) or mine[name] == (None if before is None else before.sha256)
        if (sha256 := theirs[name]) is None or copy is None:
            if is_theirs:
                (stage.files / name).unlink(missing_ok=True)
            del stage.known[name]
            continue
        if mine[name] != sha256 and not is_theirs and not is_here_ahead:
            conflicts.append(name)
            continue
        if mine[name] != sha256 and is_theirs:
            _bring(stage, copy, name)
        stage.known[name] = Known(there[name], sha256)
    stage.write()
    if conflicts:
        raise stage.conflict(conflicts)


def _bring(stage: Stage, copy: Copy, name: str) -> None:
    path = stage.files / name
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    shutil.copyfile(copy.files / name, temporary)
    temporary.replace(path)


def _compared(stage: Stage, lineage: Lineage, there: Mapping[str, str]) -> Verdict:
    copy = make_copy(stage.url, [name for name in lineage.files if name in there], lenient=True)
    return lineage.compare(Sides(stage.files, copy.files, there.keys(), stage.known.keys()))


def _set_aside(stage: Stage, names: Collection[str], why: str) -> None:
    """Move files out of the folder in which the command works."""
    if not names:
        return
    size = sum((stage.files / name).stat().st_size for name in names)
    began = f"{STALE_NAME}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    folder, number = stage.home / began, 1
    while folder.exists():
        folder, number = stage.home / f"{began}-{number}", number + 1
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (stage.files / name).replace(folder / name)
    tell(
        f"{stage.url}: {why}; goes on from there; {counted(len(names), 'file')} ({size_text(size)}) that this machine alone had "
        f"moved to {folder}; delete that folder when you need nothing of it"
    )


def _restore(stage: Stage, there: Mapping[str, str], changed: Collection[str]) -> None:
    """Make the staging folder what the remote one is."""
    due = {name for name in there if name in changed or stage.is_new(name)}
    copy = make_copy(stage.url, due) if due else None
    for name in sorted(due):
        if copy is not None:
            _bring(stage, copy, name)
            stage.known[name] = Known(there[name], sha256_of_file(copy.files / name))
    for name in stage.known.keys() - there.keys():
        (stage.files / name).unlink(missing_ok=True)
        del stage.known[name]
    stage.write()


def _give_way(stage: Stage, others: Collection[str]) -> None:
    """Delete parts that were never put there: another machine has continued without them, and has put `others` there."""
    mine = [name for name in stage.here() if is_part(name) and name not in stage.known]
    if mine:
        tell(
            f"{stage.url}: was continued elsewhere; {counted(len(mine), 'file')} of parts that were here alone give way"
        )
    for name in mine:
        if name not in others:
            (stage.files / name).unlink()

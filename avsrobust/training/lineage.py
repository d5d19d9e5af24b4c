"""Two states of a run's folder that two machines have made from one: which of them goes on from the other.

Conventions
    A run on S3 is continued by another machine from the last checkpoint that is there, while the first one may have steps and
    checkpoints of its own that never came there. Both repeat the steps after it: with the same numbers on the same kind of
    machine, with slightly other ones else.
    The remote state is a continuation where it is of the same run key, its losses are those of here up to the last checkpoint
    that both have had, and its last checkpoint is no earlier than the one here. The state here is one where it is the later one,
    and all losses that both logs have are the same. All else are two histories.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from avsrobust.errors import OptionError
from avsrobust.files import read_regular
from avsrobust.limits import METADATA_BYTES
from avsrobust.remote.reconcile import HERE, THERE, Lineage, Sides, Verdict
from avsrobust.textfiles import parse_json
from avsrobust.training.checkpoints import FOLDER, RUN_NAME, STATE_NAME
from avsrobust.training.logs import LOSSES

_STATE = re.compile(rf"{FOLDER}/step-(\d{{6,}})/{re.escape(STATE_NAME)}")


def compare(sides: Sides) -> Verdict:
    """Return which side of a run is ahead, and what was found."""
    run_here, run_there = _run_key(sides.here), _run_key(sides.there)
    if run_here is None or run_there is None:
        return Verdict(THERE, "the run there was deleted" if run_there is None else "a run was put there")
    if run_here != run_there:
        return Verdict("", "a run of another recipe, data or start was put there")
    names = (path.relative_to(sides.here).as_posix() for path in sides.here.glob(f"{FOLDER}/*/{STATE_NAME}"))
    mine, theirs, shared = _last_step(names), _last_step(sides.names_there), _last_step(sides.shared)
    here, there = _losses(sides.here), _losses(sides.there)
    common = sorted(here.keys() & there.keys())
    differing = next((step for step in common if here[step] != there[step]), None)
    if differing is None and (mine, max(here, default=0)) >= (theirs, max(there, default=0)):
        return Verdict(HERE, f"the run here is ahead of the one there, at the checkpoint after step {mine}")
    if theirs >= mine and (differing is None or differing > shared):
        return Verdict(THERE, f"was continued elsewhere, to the checkpoint after step {theirs} (here: {mine})")
    which = "" if differing is None else f" whose losses differ from step {differing} on"
    return Verdict(
        "",
        f"two histories of this run{which}: the one there has its last checkpoint after step {theirs}, the one here after step "
        f"{mine}",
    )


LINEAGE = Lineage((RUN_NAME, LOSSES), compare)


def _run_key(folder: Path) -> object:
    """Return the run key of a folder, None where there is none."""
    try:
        return parse_json(read_regular(folder / RUN_NAME, METADATA_BYTES, OptionError), finite=False)
    except (OSError, ValueError):
        return None


def _last_step(names: Iterable[str]) -> int:
    """Return the step of the last whole checkpoint among files, 0 where there is none."""
    return max((int(found[1]) for name in names if (found := _STATE.fullmatch(name))), default=0)


def _losses(folder: Path) -> dict[int, str]:
    """Return the whole lines of the log of losses, by step."""
    try:
        lines = (folder / LOSSES).read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError):
        return {}
    steps = ((line.partition(",")[0], line) for line in lines if line.endswith("\n"))
    return {int(step): line for step, line in steps if step.isdecimal()}

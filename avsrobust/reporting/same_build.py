"""One table, one build of each split: rows of different builds have other negatives, so that their scores do not compare.

Conventions
    A build is told by its seed, its recipe's name and the SHA-256 of its manifest, which ``run.json`` holds. The same manifest
    under two paths is one build. Facts that results do not say (no ``run.json``, no recipe) tell nothing apart. Results on
    different releases, splits or data sets do not meet in a table, and are not looked at together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from avsrobust.errors import ResultsError
from avsrobust.remote import address_of
from avsrobust.reporting.aggregate import SEEDS
from avsrobust.reporting.escape import one_line
from avsrobust.reporting.loading import load_runs
from avsrobust.reporting.naming import split_name
from avsrobust.reporting.split_results import SplitKey
from avsrobust.results import Scores, section
from avsrobust.vocabulary import counted

ALLOW_OPTION = "--allow-different-builds"
_FILES_SHOWN = 3
_CHECKSUM_SHOWN = 12


@dataclass(frozen=True)
class _Scored:
    """A result on one split, and the checksum of its manifest; empty where that is not known."""

    scores: Scores
    split: str
    manifest: str

    @property
    def seed(self) -> int:
        return self.scores.info.seed

    @property
    def recipe(self) -> str:
        return self.scores.info.recipe

    @property
    def clips(self) -> int:
        """Number of scored clips."""
        index = self.scores.index
        return int(index.loc[index["split"] == self.split, "clip_id"].nunique())

    @property
    def origin(self) -> str:
        """The results' folder, or the model of results in memory."""
        info, source = self.scores.info, self.scores.source
        return one_line(f"{info.model} (in memory)" if source is None else address_of(source.parent))


def require_one_build(results: Sequence[Scores], *, aggregate: str | None = None, can_aggregate: bool = True) -> None:
    """Refuse results of different builds of one split.

    Args:
        results: Stored results.
        aggregate: "seeds": several seeds are meant to be one line, and only other differences are refused.
        can_aggregate: Whether the command has ``--aggregate``, for the message.

    Raises:
        ResultsError: Two results of one split are of different builds.
    """
    found: dict[SplitKey, list[_Scored]] = {}
    for scores, run in zip(results, load_runs(results)[0], strict=True):
        manifest = None if run is None else section(run.details, "manifest").get("sha256")
        for split in pd.unique(scores.index["split"].to_numpy(dtype=object)):
            scored = _Scored(scores, str(split), manifest if isinstance(manifest, str) else "")
            found.setdefault((scores.info.dataset, scores.info.release, scored.split), []).append(scored)
    for key, of_split in found.items():
        different = _differences(of_split, aggregate)
        if different:
            raise ResultsError(_refusal(key, of_split, different, can_aggregate and aggregate is None))


def _differences(of_split: Sequence[_Scored], aggregate: str | None) -> list[str]:
    """What tells the builds of these results apart: "seed", "recipe", "rows"; empty where nothing does."""
    different = []
    if len({entry.seed for entry in of_split}) > 1 and aggregate != SEEDS:
        different.append("seed")
    if len({entry.recipe for entry in of_split} - {""}) > 1:
        different.append("recipe")
    if not different:
        manifests: dict[int, set[str]] = {}
        for entry in of_split:
            manifests.setdefault(entry.seed, set()).add(entry.manifest)
        if any(len(known - {""}) > 1 for known in manifests.values()):
            different.append("rows")
    return different


def _refusal(key: SplitKey, of_split: Sequence[_Scored], different: Sequence[str], has_aggregate: bool) -> str:
    """The message: the files of each build, what differs, and the ways out."""
    by_rows = "rows" in different
    builds: dict[str, list[str]] = {}
    for entry in of_split:
        facts = [f"seed {entry.seed}", f"recipe {one_line(entry.recipe) or 'unknown'}"]
        if by_rows:
            facts += [
                counted(entry.clips, "clip"),
                f"manifest {one_line(entry.manifest)[:_CHECKSUM_SHOWN] or 'unknown'}",
            ]
        builds.setdefault(", ".join(facts), []).append(entry.origin)
    listed = "; ".join(f"{facts}: {_files(origins)}" for facts, origins in builds.items())
    ways = ["name results of one build"]
    if has_aggregate and different == ["seed"]:
        ways.append(f"add --aggregate {SEEDS} for means over builds")
    ways.append(f"add {ALLOW_OPTION} to see them side by side")
    return (
        f"{split_name(key)}: its results are of different builds ({' and '.join(different)}), "
        f"whose negatives are others: {listed}; expected results on one build; {', or '.join(ways)}"
    )


def _files(origins: Sequence[str]) -> str:
    """The first of some files, and how many more there are."""
    distinct = list(dict.fromkeys(origins))
    more = len(distinct) - _FILES_SHOWN
    return ", ".join(distinct[:_FILES_SHOWN]) + (f" and {more} more" if more > 0 else "")

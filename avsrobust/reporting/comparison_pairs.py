"""The pairs of results that a comparison compares, and whether they belong together.

Conventions
    A group is all results on one data set. Results of other releases, sizes, splits or clips are refused in words; whatever two
    results have in common is compared, and the rest is noted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from avsrobust.errors import OptionError, ResultsError, did_you_mean
from avsrobust.metrics import SemanticProtocol
from avsrobust.remote import address_of
from avsrobust.reporting.common_clips import on_common_clips
from avsrobust.reporting.escape import one_line
from avsrobust.reporting.selection import AnyProtocol
from avsrobust.reporting.split_results import clip_ids_of, splits_of
from avsrobust.results import Scores
from avsrobust.vocabulary import BINARY, CLASS_DATASET, SEMANTIC, counted


@dataclass(frozen=True, eq=False)
class Group:
    """The results on one data set, their names, and the pairs to compare."""

    members: tuple[Scores, ...]
    names: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]


def groups_of(results: Sequence[Scores], reference: str | None) -> tuple[list[Group], list[str]]:
    """The results of each data set and their pairs, and a note on each that is in no pair."""
    if len(results) == 2 and results[0].info.dataset != results[1].info.dataset:
        names = [_origin(*side) for side in zip(results, ("the first", "the second"), strict=True)]
        raise ResultsError(
            f"{names[1]}: is of data set {one_line(results[1].info.dataset)}, {names[0]} of "
            f"{one_line(results[0].info.dataset)}; expected results of one data set"
        )
    models = [scores.info.model for scores in results]
    if reference is not None and reference not in models:
        known = sorted(set(models))
        raise OptionError(
            f"--reference: '{reference}' is no model of the results; expected {', '.join(known)}{did_you_mean(reference, known)}"
        )
    of_dataset: dict[str, list[Scores]] = {}
    for scores in results:
        of_dataset.setdefault(scores.info.dataset, []).append(scores)
    groups, notes = [], []
    for dataset, members in of_dataset.items():
        pairs = _pairs(members, reference)
        if pairs:
            groups.append(Group(tuple(members), _names(members), pairs))
        else:
            there = ", ".join(scores.info.model for scores in members)
            reason = (
                "expected two models or more" if len(members) < 2 else f"the reference {reference} is not among them"
            )
            notes.append(f"{one_line(dataset)} is skipped: only {one_line(there)} was evaluated on it; {reason}")
    if not groups:
        raise ResultsError(
            f"compare: found no two results on one data set ({'; '.join(notes) or 'no results'}); expected two models or more on "
            "the same data; evaluate them on one build"
        )
    return groups, notes


def _pairs(members: Sequence[Scores], reference: str | None) -> tuple[tuple[int, int], ...]:
    """The pairs (A, B) of the results on one data set."""
    if reference is None:
        return tuple(combinations(range(len(members)), 2))
    found = [number for number, scores in enumerate(members) if scores.info.model == reference]
    if len(found) > 1:
        files = ", ".join(_origin(members[number], "in memory") for number in found)
        raise ResultsError(
            f"--reference {one_line(reference)}: found {counted(len(found), 'result')} of it on "
            f"{one_line(members[0].info.dataset)} ({files}); "
            "expected one; name the results to compare"
        )
    return tuple((number, found[0]) for number in range(len(members)) if number not in found) if found else ()


def _names(members: Sequence[Scores]) -> tuple[str, ...]:
    """The models' names; those of several results are told apart by their files."""
    models = [scores.info.model for scores in members]
    ordinals = (
        ("the first", "the second") if len(members) == 2 else tuple(f"number {n + 1}" for n in range(len(members)))
    )
    return tuple(
        model if models.count(model) == 1 else f"{model} ({_origin(scores, ordinal)})"
        for model, scores, ordinal in zip(models, members, ordinals, strict=True)
    )


def groups_on_common_clips(groups: Sequence[Group]) -> tuple[list[Group], list[str]]:
    """The groups cut down to the clips that all results of a data set have."""
    found, notes = [], []
    for group in groups:
        members, left_out = on_common_clips(group.members)
        found.append(replace(group, members=tuple(members)))
        notes += left_out
    return found, notes


def check_pair(a: Scores, b: Scores) -> None:
    """Raise `ResultsError` where two results on one data set are of other pictures or other sizes."""
    origin_a, origin_b = _origin(a, "the first"), _origin(b, "the second")
    if a.info.release and b.info.release and a.info.release != b.info.release:
        raise ResultsError(
            f"{origin_b}: is of the {one_line(b.info.release)} release of {one_line(b.info.dataset)}, {origin_a} of the "
            f"{one_line(a.info.release)} release, "
            "whose pictures and masks are others; expected results on one release; evaluate both on builds of the same data"
        )
    if a.info.score_size != b.info.score_size:
        size_a, size_b = (one_line(entry.info.score_size) or "the mask files' own" for entry in (a, b))
        raise ResultsError(
            f"{origin_b}: its masks were scored at size {size_b}, those of {origin_a} at {size_a}; expected one size; evaluate "
            "both with the same --score-size"
        )


def _origin(scores: Scores, otherwise: str) -> str:
    """The results' file, for messages."""
    return otherwise if scores.source is None else one_line(address_of(scores.source))


def common_splits(a: Scores, b: Scores) -> tuple[list[str], list[str]]:
    """Return the splits with a clip that both were scored on, and a note on each of the others. Raises `ResultsError`."""
    names = (_origin(a, "the first"), _origin(b, "the second"))
    splits_a, splits_b = splits_of(a), splits_of(b)
    for name, splits in zip(names, (splits_a, splits_b), strict=True):
        if not splits:
            raise ResultsError(f"{name}: found no scored frame in it; expected results to compare; evaluate again")
    common = [split for split in splits_a if split in splits_b]
    if not common:
        raise ResultsError(
            f"{names[1]}: has split {_listed(splits_b)}, {names[0]} {_listed(splits_a)}; expected the same splits, or one that "
            "both have; evaluate both on the same ones"
        )
    shared = [split for split in common if set(clip_ids_of(a, split)) & set(clip_ids_of(b, split))]
    if not shared:
        raise ResultsError(
            f"{names[1]}: has no scored clip of split {_listed(common)} in common with {names[0]}; "
            "expected results on the same data; evaluate both on one manifest"
        )
    notes = [
        f"{split} is skipped: only {'A' if split in splits_a else 'B'} was evaluated on it"
        for split in sorted(set(splits_a) ^ set(splits_b))
    ]
    notes += [f"{split} is skipped: no clip of it was scored by both" for split in common if split not in shared]
    return shared, notes


def _listed(names: Sequence[str]) -> str:
    """Names on one line."""
    return one_line(", ".join(names))


def task_of(a: Scores, b: Scores, requested: str | None) -> str:
    """The requested task; otherwise semantic where both results hold classes, else binary."""
    without = [(scores, name) for scores, name in ((a, "the first"), (b, "the second")) if scores.classes is None]
    if requested == SEMANTIC and without:
        origins = " and ".join(_origin(scores, name) for scores, name in without)
        raise ResultsError(
            f"--task {SEMANTIC}: no classes in {origins}; expected two results of models that return class logits or ids, "
            f"evaluated on {CLASS_DATASET}; --task {BINARY} compares any two as binary segmentation"
        )
    return BINARY if without or requested == BINARY else SEMANTIC


def notes_of(a: Scores, b: Scores, protocol: AnyProtocol) -> Iterator[str]:
    """Sentences to know before quoting a difference."""
    for info in (a.info, b.info):
        if info.limited:
            yield (
                f"results of {info.model} on {info.dataset} are of a smoke run (evaluate --limit): a part of the clips of "
                f"{', '.join(info.limited)}; no result to quote"
            )
    if isinstance(protocol, SemanticProtocol):
        yield (
            f"mIoU and F are means over classes {protocol.headline}, computed anew from the sums per class of the clips of each "
            "resample"
        )
    elif a.classes is not None or b.classes is not None:
        alone = "" if a.classes is not None and b.classes is not None else ", which only one of the two has,"
        yield f"scored as binary segmentation: any class but background is foreground; classes{alone} are not compared"
    if a.info.seed != b.info.seed:
        yield (
            f"the builds' seeds differ ({a.info.seed}, {b.info.seed}): the models were given different noise and other "
            "off-screen audio, which is part of the difference"
        )
    if a.info.recipe != b.info.recipe:
        recipes = ", ".join(info.recipe or "unknown" for info in (a.info, b.info))
        yield (
            f"the builds' recipes differ ({recipes}): the models were given other negatives, which is part of the difference"
        )
    if a.info.release != b.info.release:
        yield f"only one of the results says of which release of {a.info.dataset} it is: the data may differ"
    yield from dict.fromkeys((*a.info.notes, *b.info.notes))
    yield (
        "p: two-sided share of resamples that turn the sign, for each score by itself; among many scores some are small by "
        "chance; p (Holm), in json p_holm, is shown of several pairs: corrected over all pairs, data sets and splits of one score"
    )

"""Verdicts of the audit: can negatives be separated from clean audio by feature statistics alone?

Conventions
    Every negative condition is set against the clean rows twice.
    *plain*: all rows of both. Silence and noise differ from recordings by nature, off-screen sounds may differ by which
    categories were drawn: the estimate is the score that a model reaches without looking at the picture.
    *matched*: every off-screen row against the clean row of the very same sound, where both have as many frames. Sound and
    mix of categories are equal, so any difference comes from the front end; out of one front end the AUROC is 0.5.
    A manifest fails where the front end gives a condition away; being silent or noisy is no fault.
    *loudness*: the integrated loudness (ITU-R BS.1770) of the sounds alone, of all rows. A condition that is made at the clips'
    own loudness fails where 0.5 is outside the interval: its level then gives it away.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avsrobust.audit.descriptions import STATISTICS, ConditionSummary, DescribedRows, Floats, describe_rows
from avsrobust.audit.separability import Estimate, Flags, Groups, estimate, linear_scores, weighted_auroc
from avsrobust.callbacks import MessageCallback, ProgressCallback
from avsrobust.errors import ManifestError
from avsrobust.manifest import MADE_PREFIX, Manifest, Row
from avsrobust.remote import address_of
from avsrobust.remote.inputs import local_data_root
from avsrobust.vocabulary import CLEAN, NEGATIVE, counted

# By nature unlike any recording: that they can be separated is no fault.
SEPARABLE_BY_NATURE = ("silence", "noise", "gaussian", "pink", "matched_noise")
# Conditions of the clips' own loudness.
MATCHED = ("matched_noise", "matched_offscreen")
# The lower end of the interval above which a front end is taken to be another one.
HIGHEST_AUROC = 0.65
FEWEST_SOUNDS = 4
# log(0.01): VGGish adds 0.01 to every magnitude before the logarithm (torchvggish/vggish_params.py LOG_OFFSET).
VGGISH_FLOOR = float(np.log(0.01))
_TOLERANCE = 1e-3
# AVSBench-Robust's arrays hold zeros from time step 44 of 96 on: 54 % of the positions never change.
_HIGHEST_FIXED_SHARE = 0.1


@dataclass(frozen=True)
class Separation:
    """Separability of one negative condition from clean.

    Attributes:
        condition: Name of the condition.
        rows: Number of its rows.
        auroc: AUROC of each of the `STATISTICS` alone.
        plain: Estimate of a linear classifier over all statistics, on sounds that it was not fitted on, all rows; None:
            too few rows.
        matched: The same for rows whose sound also occurs clean.
        matched_rows: Number of rows whose sound also occurs clean with as many frames.
        identical_share: Share of these whose statistics are equal there, 0..1; None: there are none.
        loudness: Estimate of the sounds' loudness alone, all rows; None: too few rows, or the data set is not there.
    """

    condition: str
    rows: int
    auroc: dict[str, float]
    plain: Estimate | None
    matched: Estimate | None
    matched_rows: int
    identical_share: float | None
    loudness: Estimate | None = None

    @property
    def strongest(self) -> tuple[str, float]:
        """The statistic whose AUROC is farthest from 0.5, and that AUROC."""
        return max(self.auroc.items(), key=lambda entry: abs(entry[1] - 0.5))


@dataclass(frozen=True)
class AuditReport:
    """Result of an audit.

    Attributes:
        manifest: Path of the manifest.
        dataset: Name of the data set.
        recipe: Name of the recipe.
        summaries: The arrays of each condition.
        separations: Separability of each negative condition.
        findings: Faults of the front end, a line each.
        remarks: Explanations that are no faults, a line each.
    """

    manifest: str
    dataset: str
    recipe: str
    summaries: tuple[ConditionSummary, ...]
    separations: tuple[Separation, ...]
    findings: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Whether the front end gives a condition away."""
        return bool(self.findings)


def audit(
    manifest: Manifest,
    data_root: Path | str | None = None,
    *,
    progress: ProgressCallback | None = None,
    on_stage: MessageCallback = lambda _text: None,
) -> AuditReport:
    """Describe the log-mel arrays of all rows and judge whether statistics alone separate the conditions.

    Args:
        manifest: A build with clean and negative rows.
        data_root: Folder of the data set (None: that of the build); where it is not there, loudness is not compared.
        progress: Called with (rows read, rows in total).
        on_stage: Called with the name of each stage as it begins, for progress.

    Returns:
        Summaries, separations and findings.

    Raises:
        ManifestError: There are no clean or no negative rows, an array is missing or damaged, or sounds without files have
            to be made and the data set is not there.
    """
    conditions = set(manifest.distinct("condition"))
    negative = sorted({row.condition for row in manifest.rows if row.polarity == NEGATIVE})
    if CLEAN not in conditions or not negative:
        found = ", ".join(sorted(conditions)) or "no rows"
        raise ManifestError(
            f"{manifest.path}: found {found}; expected clean and negative rows to set against each other; "
            "audit a build that has both"
        )
    on_stage("arrays and sounds are described")
    described = describe_rows(manifest, _data_root(manifest, data_root), progress)
    separations = []
    for condition in negative:
        on_stage(f"{condition} is set against {CLEAN}")
        separations.append(_separation(described, condition))
    findings = [*_front_end_findings(described.summaries), *_separation_findings(tuple(separations))]
    return AuditReport(
        manifest=address_of(manifest.path),
        dataset=manifest.info.dataset,
        recipe=str(manifest.info.recipe.get("name", "unnamed")),
        summaries=described.summaries,
        separations=tuple(separations),
        findings=tuple(findings),
        remarks=(*_muted_remarks(manifest), *(remark for entry in separations if (remark := _remark(entry)))),
    )


def _data_root(manifest: Manifest, data_root: Path | str | None) -> Path | None:
    needed = data_root is not None or any(row.audio.startswith(MADE_PREFIX) for row in manifest.rows)
    data_root = local_data_root(data_root, [manifest])
    try:
        return manifest.data_root(data_root)
    except ManifestError:
        if needed:
            raise
        return None


def _muted_remarks(manifest: Manifest) -> Iterator[str]:
    """Yield how many clean rows are silent, and how many others took the sound of a clip that is."""
    muted = frozenset(manifest.info.muted)
    clean = [row.clip_id in muted for row in manifest.rows if row.condition == CLEAN]
    if any(clean):
        yield (
            f"{CLEAN}: {sum(clean)} of {len(clean)} rows are muted, the recording itself is silent: they cannot be told from "
            "silence"
        )
    taken = Counter(row.condition for row in manifest.rows if row.source_clip_id in muted)
    for condition, count in sorted(taken.items()):
        verb = "has" if count == 1 else "have"
        yield f"{condition}: {counted(count, 'row')} {verb} the sound of a muted clip, which is silence"


def _separation(described: DescribedRows, condition: str) -> Separation:
    rows = described.rows
    clean = [index for index, row in enumerate(rows) if row.condition == CLEAN]
    negative = [index for index, row in enumerate(rows) if row.condition == condition]
    # A sound cut to fewer frames than its own clip has is another array, by any front end.
    clean_row_of = {(_sound(rows[index]), rows[index].num_frames): index for index in clean}
    pairs = [
        (index, clean_row_of[key])
        for index in negative
        if rows[index].source_clip_id is not None
        and (key := (_sound(rows[index]), rows[index].num_frames)) in clean_row_of
    ]
    matches = [index for _, index in pairs]
    paired = [index for index, _ in pairs]
    same = (described.statistics[paired] == described.statistics[matches]).all(axis=1)
    return Separation(
        condition=condition,
        rows=len(negative),
        auroc=_single(described, clean, negative),
        plain=_linear(described, clean, negative, "plain"),
        matched=_linear(described, matches, paired, "matched"),
        matched_rows=len(pairs),
        identical_share=float(same.mean()) if pairs else None,
        loudness=_by_loudness(described, clean, negative),
    )


def _sound(row: Row) -> str:
    """Return the clip that a row's sound was recorded in: the row's own, or its source clip."""
    return (
        f"{row.source_dataset or row.dataset}:{row.source_clip_id if row.source_clip_id is not None else row.clip_id}"
    )


def _single(described: DescribedRows, clean: list[int], negative: list[int]) -> dict[str, float]:
    statistics, is_negative = _stacked(described, clean, negative)
    weights = np.ones(is_negative.size)
    values = (weighted_auroc(statistics[:, column], is_negative, weights) for column in range(len(STATISTICS)))
    return {name: value for name, value in zip(STATISTICS, values, strict=True) if value is not None}


def _linear(described: DescribedRows, clean: list[int], negative: list[int], purpose: str) -> Estimate | None:
    statistics, is_negative = _stacked(described, clean, negative)
    names, sounds = np.unique([_sound(described.rows[index]) for index in clean + negative], return_inverse=True)
    if names.size < FEWEST_SOUNDS:
        return None
    groups: Groups = sounds.astype(np.int64)
    scores, valid = linear_scores(statistics, is_negative, groups)
    if not (is_negative & valid).any() or not (~is_negative & valid).any():
        return None
    generator = np.random.default_rng(_hash(f"audit bootstrap {purpose}"))
    return estimate(scores[valid], is_negative[valid], groups[valid], generator)


def _by_loudness(described: DescribedRows, clean: list[int], negative: list[int]) -> Estimate | None:
    names, sounds = np.unique([_sound(described.rows[index]) for index in clean + negative], return_inverse=True)
    if described.loudness is None or names.size < FEWEST_SOUNDS:
        return None
    # Matched to within the precision of the match; equal ones are ties.
    scores = np.round(described.loudness[clean + negative], 1)
    is_negative = np.arange(scores.size) >= len(clean)
    generator = np.random.default_rng(_hash("audit bootstrap loudness"))
    return estimate(scores, is_negative, sounds.astype(np.int64), generator)


def _stacked(described: DescribedRows, clean: list[int], negative: list[int]) -> tuple[Floats, Flags]:
    is_negative = np.zeros(len(clean) + len(negative), dtype=np.bool_)
    is_negative[len(clean) :] = True
    return described.statistics[clean + negative], is_negative


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _front_end_findings(summaries: tuple[ConditionSummary, ...]) -> list[str]:
    clean = next(summary for summary in summaries if summary.condition == CLEAN)
    findings = []
    for summary in summaries:
        name = summary.condition
        if not set(summary.forms) <= set(clean.forms):
            findings.append(f"{name}: arrays are {', '.join(summary.forms)}, clean ones {', '.join(clean.forms)}")
        if clean.minimum >= VGGISH_FLOOR - _TOLERANCE > summary.minimum:
            findings.append(
                f"{name}: values down to {summary.minimum:.2f}; clean ones stay above {VGGISH_FLOOR:.2f}, "
                "VGGish's lowest: another front end"
            )
        if name != "silence" and summary.fixed_share > clean.fixed_share + _HIGHEST_FIXED_SHARE:
            findings.append(
                f"{name}: {summary.fixed_share:.0%} of the positions hold the same value in every row, "
                f"{clean.fixed_share:.0%} in clean ones: another front end"
            )
    return findings


def _separation_findings(separations: tuple[Separation, ...]) -> list[str]:
    findings = []
    for entry in separations:
        if entry.condition in MATCHED and entry.loudness is not None and not _holds_chance(entry.loudness):
            findings.append(
                f"{entry.condition} can be told from clean by loudness alone (AUROC {entry.loudness.auroc:.2f}), "
                "which it is made to share"
            )
        judged = _judged(entry)
        if judged is not None and judged.low > HIGHEST_AUROC:
            findings.append(
                f"{entry.condition} can be told from clean by statistics of the features (AUROC {judged.auroc:.2f}): "
                "features of another front end?"
            )
    return findings


def _holds_chance(found: Estimate) -> bool:
    return found.low <= 0.5 <= found.high


def _judged(entry: Separation) -> Estimate | None:
    """Return the estimate that decides: the matched one where most rows have a match."""
    if entry.condition in SEPARABLE_BY_NATURE:
        return None
    if entry.matched is not None and 2 * entry.matched_rows >= entry.rows:
        return entry.matched
    # Sounds from outside the data set (unseen) may well differ; only another clip's sound has no reason to.
    return entry.plain if entry.condition == "offscreen" else None


def _remark(entry: Separation) -> str | None:
    if entry.condition in SEPARABLE_BY_NATURE:
        return f"{entry.condition}: unlike any recording by nature; that it can be told apart is expected"
    if entry.plain is None:
        return f"{entry.condition}: too few sounds to say ({counted(entry.rows, 'row')})"
    if entry.matched is None:
        return f"{entry.condition}: no row's sound occurs under clean, so only all rows could be compared"
    parts = [
        f"{entry.condition}: {entry.identical_share:.0%} of the sounds that also occur clean have the same features there"
    ]
    if entry.plain.low > 0.5 and entry.matched.low <= 0.5:
        parts.append(
            f"what separates them (AUROC {entry.plain.auroc:.2f} over all rows, {entry.matched.auroc:.2f} for the same "
            "sounds) is which sounds were drawn"
        )
    return "; ".join(parts)

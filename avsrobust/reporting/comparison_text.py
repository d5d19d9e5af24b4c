"""Comparisons as Markdown and as JSON.

Conventions
    The text shows percent, JSON fractions; undefined is null there. Names are inert in both.
    A comparison of two models has the same text and keys whether or not it is one of several.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from avsrobust.metrics import PairedDifference
from avsrobust.reporting.columns import MEASURES, METRICS, MISSING, condition_title, percent
from avsrobust.reporting.comparison_model import ChangedClip, Comparison, Comparisons, SplitComparison
from avsrobust.reporting.escape import json_text, markdown, markdown_line, one_line, text_table
from avsrobust.reporting.naming import dataset_title, task_title
from avsrobust.vocabulary import NEGATIVE, NEGATIVES

_LEVEL = 0.05
_OVERVIEW = ("mIoU", "F", "G_mIoU", "G_F", "G_FPR")


def render_comparison(comparison: Comparison) -> str:
    """Return one comparison as Markdown tables; a difference whose interval does not hold 0 is bold."""
    return "\n\n".join([*_parts(comparison, several=False), *_bullets(comparison.notes)]) + "\n"


def render_comparisons(found: Comparisons) -> str:
    """Return comparisons as Markdown: an overview, then each pair; bold where p after Holm's correction is below 0.05.

    A single pair is rendered by `render_comparison`.
    """
    if len(found.comparisons) == 1:
        text = render_comparison(found.comparisons[0])
        return text + "".join(f"\n{line}\n" for line in _bullets(found.notes))
    parts = [*_overviews(found)]
    for comparison in found.comparisons:
        parts += _parts(comparison, several=True)
    notes = dict.fromkeys(note for comparison in found.comparisons for note in comparison.notes)
    return "\n\n".join([*parts, *_bullets([*notes, *found.notes])]) + "\n"


def comparison_json(comparison: Comparison) -> str:
    """Return the comparison as JSON. A split has `further` and `changed` where it has further conditions and such clips."""
    return json_text(_content(comparison))


def comparisons_json(found: Comparisons) -> str:
    """Return comparisons as JSON: those of a single pair as `comparison_json`, else an object with the list of all."""
    if len(found.comparisons) == 1:
        content = _content(found.comparisons[0])
        return json_text({**content, "notes": [*content["notes"], *found.notes]})
    return json_text(
        {
            "reference": found.reference,
            "comparisons": [_content(comparison) for comparison in found.comparisons],
            "notes": list(found.notes),
        }
    )


def _content(comparison: Comparison) -> dict[str, Any]:
    """The plain content of a comparison."""
    content = asdict(comparison)
    for split in content["splits"]:
        for name in ("further", "changed"):
            if not split[name]:
                del split[name]
    return content


def _bullets(notes: Sequence[str]) -> list[str]:
    """Notes as items of a list."""
    return [f"- {markdown_line(note)}" for note in notes]


def _overviews(found: Comparisons) -> Iterator[str]:
    """A table per data set, split, task and protocol: a row per pair, a column per headline score."""
    keys: dict[tuple[str, ...], list[tuple[Comparison, SplitComparison]]] = {}
    for comparison in found.comparisons:
        title = f"{comparison.protocol}{task_title(comparison.task, comparison.dataset)}"
        for split in comparison.splits:
            key = (dataset_title(comparison.dataset, comparison.release), split.split, title)
            keys.setdefault(key, []).append((comparison, split))
    for (data, split_title, title), members in keys.items():
        yield f"## {markdown_line(data)}, {markdown_line(split_title)}: A - B, protocol {title}, in percent"
        header = ["A", "B", "clips"]
        for name in _OVERVIEW:
            header += [METRICS[name].heading, "95 % interval"]
        rows = []
        for comparison, split in members:
            entries = {entry.statistic: entry for entry in split.differences}
            cells = [markdown(comparison.a), markdown(comparison.b), str(split.common)]
            for name in _OVERVIEW:
                cells += [_marked(entries[name], several=True), _interval(entries[name])]
            rows.append(cells)
        yield text_table(header, rows, numeric_from=2)


def _parts(comparison: Comparison, *, several: bool) -> list[str]:
    """The tables of one pair."""
    data = markdown_line(dataset_title(comparison.dataset, comparison.release))
    parts = [
        f"A: {markdown(comparison.a)}\nB: {markdown(comparison.b)}\n"
        f"{data}, protocol {comparison.protocol}{task_title(comparison.task, comparison.dataset)}, "
        f"{comparison.samples} resamples of clips, in percent"
    ]
    if comparison.negatives != NEGATIVES:
        parts.append(f"G scores are over {markdown(', '.join(comparison.negatives))}")
    for split in comparison.splits:
        only = f"; {split.only_a} only in A, {split.only_b} only in B" if split.only_a or split.only_b else ""
        parts.append(f"{markdown_line(split.split)}: {split.common} common clips{only}")
        header = ["score", "A", "B", "A - B", "95 % interval", "p", *(["p (Holm)"] if several else [])]
        parts.append(text_table(header, [_row(_heading(entry), entry, several) for entry in split.differences]))
        if split.further:
            parts.append(f"{markdown_line(split.split)}: under further conditions")
            parts.append(text_table(["condition", *header], list(_further_rows(split, several)), numeric_from=2))
        if split.changed:
            parts.append(f"{markdown_line(split.split)}: the clips that changed most, mIoU of the clip alone")
            header = ["clip", "condition", "A", "B", "A - B"]
            parts.append(text_table(header, [_changed_row(clip) for clip in split.changed], numeric_from=2))
    return parts


def _heading(entry: PairedDifference) -> str:
    """A statistic for people, with the arrow towards better values."""
    return METRICS[entry.statistic].heading if entry.statistic in METRICS else f"{one_line(entry.statistic)} ↓"


def _further_rows(split: SplitComparison, several: bool) -> Iterator[list[str]]:
    """Rows of the further conditions; FPR only under negative ones, as a mask is right under the others."""
    for condition in split.further:
        title = markdown(condition_title(condition.condition, condition.level))
        negative = condition.polarity == NEGATIVE
        for measure, entry in zip(MEASURES, condition.differences, strict=True):
            if negative or measure != "FPR":
                yield [title, *_row(f"{measure} {'↓' if negative else '↑'}", entry, several)]


def _row(label: str, entry: PairedDifference, several: bool) -> list[str]:
    """Cells of one difference, in percent; with several comparisons the corrected p too."""
    if entry.difference is None:
        return [label, *[MISSING] * (6 if several else 5)]
    p = [MISSING if value is None else f"{value:.4f}" for value in (entry.p, entry.p_holm)]
    return [
        label,
        percent(entry.a),
        percent(entry.b),
        _marked(entry, several),
        _interval(entry),
        *(p if several else p[:1]),
    ]


def _marked(entry: PairedDifference, several: bool) -> str:
    """A difference in percent, bold where it exceeds chance: among several comparisons, by the corrected p."""
    if entry.difference is None:
        return MISSING
    text = f"{100 * entry.difference:+.2f}"
    if several:
        is_clear = entry.p_holm is not None and entry.p_holm < _LEVEL
    else:
        is_clear = entry.low is not None and entry.high is not None and (entry.low > 0 or entry.high < 0)
    return f"**{text}**" if is_clear else text


def _interval(entry: PairedDifference) -> str:
    """The interval in percent."""
    if entry.low is None or entry.high is None:
        return MISSING
    return f"[{100 * entry.low:+.2f}, {100 * entry.high:+.2f}]"


def _changed_row(clip: ChangedClip) -> list[str]:
    """Cells of a clip, in percent."""
    condition = markdown(condition_title(clip.condition, clip.level))
    difference = f"{100 * clip.difference:+.2f}"
    return [markdown(clip.clip_id), condition, percent(clip.a), percent(clip.b), difference]

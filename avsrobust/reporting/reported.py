"""Published numbers next to measured ones: a bundled YAML file of what papers report, and files of a user's.

Conventions
    A file holds ``sources``: citation, table, protocol, comparable (true or false), reason, and ``lines`` with model, models
    (names under which it may be measured), dataset, and optionally split ("test") and task ("binary").
    In the file, values are as papers print them: mIoU, F and G scores in percent, FPR as a fraction. Here all are fractions.
    A model is the same where its name is the reported one or one of ``models``, in any case of letters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avsrobust.errors import OptionError, did_you_mean
from avsrobust.reporting.columns import METRICS
from avsrobust.reporting.escape import one_line
from avsrobust.textfiles import read_yaml
from avsrobust.vocabulary import BINARY, TASKS

if TYPE_CHECKING:
    from avsrobust.reporting.model import Line, Subject

BUNDLED = Path(__file__).with_name("reported.yaml")
_SOURCE_KEYS = ("citation", "table", "protocol", "comparable", "reason", "lines")
_LINE_KEYS = ("model", "models", "dataset", "split", "task", "values")


@dataclass(frozen=True)
class ReportedLine:
    """Published scores of one model on one data set.

    Attributes:
        model: The model, as the table names it.
        models: Other names of the same model, in lower case.
        dataset: Data set.
        split: Split.
        task: "semantic" or "binary".
        protocol: Name of the protocol that comes closest.
        values: Scores by column, as fractions.
        source: The publication.
        table: The table, or how the numbers were found.
        comparable: Whether the protocol and data are the same as here.
        reason: The differences, or their absence, in words.
    """

    model: str
    models: frozenset[str]
    dataset: str
    split: str
    task: str
    protocol: str
    values: Mapping[str, float] = field(hash=False)
    source: str
    table: str
    comparable: bool
    reason: str

    @property
    def citation(self) -> str:
        """The source for people, and whether its numbers compare."""
        verdict = "comparable" if self.comparable else "not strictly comparable"
        return f"reported by {self.source}; {self.table}; {verdict}: {self.reason}"

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Data set, split, task and protocol."""
        return (self.dataset, self.split, self.task, self.protocol)

    def is_of_model(self, line: Line) -> bool:
        """Whether a measured line is of the same model."""
        return line.subject.model.casefold() in self.models

    def is_of(self, line: Line) -> bool:
        """Whether a measured line is of the same model, split, task and protocol, over all clips."""
        subject = line.subject
        key = (subject.dataset, subject.split, subject.task, line.protocol.name)
        return line.is_overall and self.key == key and self.is_of_model(line)


@dataclass(frozen=True)
class ReportedScore:
    """One published score.

    Attributes:
        line: The line it is of.
        column: Its column.
        value: The score, a fraction.
        measured: The same model's own score and the model, one pair for each result.
    """

    line: ReportedLine
    column: str
    value: float
    measured: tuple[tuple[Subject, float], ...]


def difference(line: Line, column: str, reported: Sequence[ReportedLine]) -> float | None:
    """Return measured minus reported of one score, or None where none is reported of the same model.

    Of several reports the first counts, comparable ones before others.
    """
    value = line.score.columns().get(column)
    known = reported_value(line, column, reported)
    return None if value is None or known is None else value - known


def reported_value(line: Line, column: str, reported: Sequence[ReportedLine]) -> float | None:
    """Return the score that is reported of a line's model (see `difference`)."""
    found = sorted(
        (entry for entry in reported if column in entry.values and entry.is_of(line)),
        key=lambda entry: not entry.comparable,
    )
    return found[0].values[column] if found else None


def reported_scores(lines: Sequence[Line], reported: Sequence[ReportedLine]) -> tuple[ReportedScore, ...]:
    """Return every published score of the data set, task and protocol of comparable lines, with the same model's own ones."""
    keys = {(line.subject.dataset, line.subject.split, line.subject.task, line.protocol.name) for line in lines}
    found = []
    for entry in (entry for entry in reported if entry.key in keys):
        for column, value in entry.values.items():
            scores = ((line.subject, line.score.columns()[column]) for line in lines if entry.is_of(line))
            measured = tuple((subject, score) for subject, score in scores if score is not None)
            found.append(ReportedScore(entry, column, value, measured))
    return tuple(found)


def load_reported(path: Path | str = BUNDLED) -> tuple[ReportedLine, ...]:
    """Read published numbers; without a path those that come with avsrobust.

    Raises:
        OptionError: The file cannot be read, or is not as in the module's conventions.
    """
    path = Path(path)
    try:
        content = read_yaml(path, OptionError)
    except OSError as error:
        raise _wrong(path, str(error.strerror or error)) from error
    except ValueError as error:
        raise _wrong(path, str(error)) from error
    if not isinstance(content, Mapping) or list(content) != ["sources"] or not isinstance(content["sources"], list):
        raise _wrong(path, "found no list 'sources', or other keys")
    return tuple(line for source in content["sources"] for line in _lines(path, source))


def _lines(path: Path, source: object) -> Iterator[ReportedLine]:
    """The lines of one source."""
    fields = _mapping(path, "a source", source, _SOURCE_KEYS)
    texts = {key: _text(path, fields, key) for key in ("citation", "table", "protocol", "reason")}
    if not isinstance(fields.get("comparable"), bool):
        raise _wrong(path, f"comparable: found {fields.get('comparable')!r}; expected true or false")
    if not isinstance(fields.get("lines"), list):
        raise _wrong(path, "lines: expected a list")
    for entry in fields["lines"]:
        line = _mapping(path, "a line", entry, _LINE_KEYS)
        model = _text(path, line, "model")
        others = line.get("models", [])
        if not isinstance(others, list) or not all(isinstance(name, str) for name in others):
            raise _wrong(path, f"{model}: models: expected a list of names")
        task = line.get("task", BINARY)
        if task not in TASKS:
            raise _wrong(path, f"{model}: task: found {task!r}; expected {' or '.join(TASKS)}")
        yield ReportedLine(
            model=model,
            models=frozenset(name.casefold() for name in (model, *others)),
            dataset=_text(path, line, "dataset"),
            split=_text(path, {"split": "test", **line}, "split"),
            task=task,
            protocol=texts["protocol"],
            values=_values(path, model, line.get("values")),
            source=texts["citation"],
            table=texts["table"],
            comparable=fields["comparable"],
            reason=texts["reason"],
        )


def _values(path: Path, model: str, values: object) -> dict[str, float]:
    """Scores by column, as fractions."""
    if not isinstance(values, Mapping) or not values:
        raise _wrong(path, f"{model}: values: expected scores by column, such as {{mIoU: 83.3}}")
    found = {}
    for column, value in values.items():
        if column not in METRICS:
            raise _wrong(
                path,
                f"{model}: values: found '{column}'; expected {', '.join(METRICS)}{did_you_mean(str(column), METRICS)}",
            )
        highest = 1 if METRICS[column].measure == "FPR" else 100
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 <= value <= highest
            or math.isnan(value)
        ):
            raise _wrong(path, f"{model}: {column}: found {value!r}; expected a number from 0 to {highest}")
        found[column] = value / highest
    return found


def _mapping(path: Path, noun: str, value: object, keys: Sequence[str]) -> Mapping[str, Any]:
    """A mapping without unknown keys."""
    if not isinstance(value, Mapping):
        raise _wrong(path, f"{noun} is {type(value).__name__}; expected keys {', '.join(keys)}")
    for key in value:
        if key not in keys:
            raise _wrong(path, f"{noun}: found key '{key}'; expected {', '.join(keys)}{did_you_mean(str(key), keys)}")
    return value


def _text(path: Path, values: Mapping[str, Any], key: str) -> str:
    """A text that is not empty."""
    value = values.get(key)
    if not isinstance(value, str) or not value.strip():
        raise _wrong(path, f"{key}: found {value!r}; expected a text")
    return value


def _wrong(path: Path, problem: str) -> OptionError:
    return OptionError(one_line(f"{path}: {problem}; see docs/reports.md for the form of published numbers"))

"""YAML and JSON files of any content: plain values, or one reason."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from avsrobust.errors import RecipeError
from avsrobust.limits import TEXT_BYTES, YAML_BYTES
from avsrobust.textfiles import MOST_LEVELS, parse_json, parse_yaml, read_json, read_yaml

PLAIN = {"a": [1, 2.5, True, None, "x"], "b": {"c": []}, "big": 2**64 - 1, "small": -(2**63)}
BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def test_plain_values_are_read() -> None:
    assert parse_json(json.dumps(PLAIN)) == PLAIN
    assert parse_yaml(json.dumps(PLAIN)) == PLAIN
    assert parse_json(b"\xef\xbb\xbf[1]") == [1]
    assert parse_yaml("") is None
    assert parse_json(nested(MOST_LEVELS)) == parse_yaml(nested(MOST_LEVELS))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "an anchor or alias"),
        ("a: &a [1]\n", "an anchor or alias"),
        ("a: *nowhere\n", "an anchor or alias"),
        ("a: {<<: {b: 1}, b: 2}\na: 1\n", "the key 'a' is given twice, line 1, column 1"),
        ("1: a\n'1': b\n", "the key '1' is given twice"),
        ("1: a\n", "found the key 1, which is no text"),
        ("? [a]\n: b\n", "unhashable"),
        ("? 0x" + "f" * 6000 + "\n: 1\n", "found the key of type int"),
        ("a: 0x" + "f" * 6000, "more than 64 bits"),
        ("a: 1" + "0" * 6000, "digits"),
        ("a: 2024-01-01\n", "found a date"),
        ("a: 2024-99-99\n", "month"),
        ("a: !!binary aGVsbG8=\n", "found a bytes"),
        ("a: !!set {x}\n", "found a set"),
        ("a: !!python/name:os.system\n", "could not determine a constructor"),
        ("a: .nan\n", "found the number nan"),
        ("a: -.inf\n", "found the number -inf"),
        ("a: 1.0e+999\n", "found the number inf"),
        ("a: !!float x\n", "float"),
        ("a: !!int ''\n", "."),
        ("a: 1\n---\na: 2\n", "single document"),
        ("a: [\n", "parsing"),
        ("\x07", "special characters"),
        (nested(MOST_LEVELS + 1), f"more than {MOST_LEVELS} levels"),
        (nested(20_000), f"more than {MOST_LEVELS} levels"),
        ("- " * 20_000, f"more than {MOST_LEVELS} levels"),
        ("{a: " * 500, f"more than {MOST_LEVELS} levels"),
    ],
)
def test_other_yaml_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        parse_yaml(text)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        (b"\xff", "utf-8"),
        ("NaN", "found the number NaN"),
        ("[-Infinity]", "found the number -Infinity"),
        ("1e999", "found the number inf"),
        ("18446744073709551616", "more than 64 bits"),
        ("1" * 6000, "digits"),
        (nested(MOST_LEVELS + 1), f"more than {MOST_LEVELS} levels"),
        ("[" * 100_000, f"more than {MOST_LEVELS} levels"),
        ('{"a":' * 100_000, f"more than {MOST_LEVELS} levels"),
    ],
)
def test_other_json_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


def test_files_of_ours_may_hold_numbers_that_are_not_finite() -> None:
    text = json.dumps({"option": [float("inf"), float("-inf"), float("nan"), 1.5]})
    assert str(parse_json(text, finite=False)) == "{'option': [inf, -inf, nan, 1.5]}"
    for other in ("18446744073709551616", nested(MOST_LEVELS + 1)):
        with pytest.raises(ValueError, match="more than"):
            parse_json(other, finite=False)


@pytest.mark.parametrize(("read", "limit"), [(read_yaml, YAML_BYTES), (read_json, TEXT_BYTES)])
def test_only_regular_files_of_bounded_size_are_read(read: Any, limit: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is a pipe, not a regular file"):
        read(tmp_path / "pipe", RecipeError)
    with pytest.raises(OSError, match="is a device, not a regular file"):
        read(Path("/dev/zero"), RecipeError)
    with (tmp_path / "long").open("wb") as stream:
        stream.truncate(limit.value + 1)
    with pytest.raises(RecipeError, match=r"long: found .* bytes; expected at most .*--raise-limits 2"):
        read(tmp_path / "long", RecipeError)
    (tmp_path / "target").write_text("[1]")
    (tmp_path / "link").symlink_to("target")
    assert read(tmp_path / "link", RecipeError) == [1]

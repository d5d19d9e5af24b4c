"""Mappings from YAML or JSON, read into typed values by pydantic; whatever is wrong with one is said in one line.

Conventions
    A schema is a pydantic dataclass (``@dataclass(frozen=True, config=CLOSED)``) or model. Its types say all that is checked;
    numbers and truth values use the strict aliases below, since pydantic otherwise takes "3" and True for numbers.
    Messages have one form, ``WHERE: key a.b[0]: found VALUE; expected TYPE AND BOUNDS``, and tell the first problem alone;
    unknown keys go first, since a misspelt key is also a missing one. Texts of pydantic's own appear only where the schema has
    no words for a type; ``Field(json_schema_extra={"expected": "..."})`` gives it some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, GetCoreSchemaHandler, Strict, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, core_schema

from avsrobust.errors import AvsRobustError, did_you_mean

# Unknown keys are refused; neither NaN nor infinity is a number.
CLOSED = ConfigDict(extra="forbid", allow_inf_nan=False)

Truth = Annotated[bool, Strict()]
Integer = Annotated[int, Strict()]
Count = Annotated[int, Strict(), Field(ge=0)]
Positive = Annotated[int, Strict(), Field(ge=1)]
# Whole numbers are numbers, and become floats.
Number = Annotated[float, Strict()]
NonNegative = Annotated[float, Strict(), Field(ge=0)]
Fraction = Annotated[float, Strict(), Field(ge=0, le=1)]

Value = TypeVar("Value")
Location = tuple[int | str, ...]
_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}
_PYDANTIC_PREFIX = "Input should be "
_LONGEST = 200


@dataclass(frozen=True)
class OneOf:
    """Restricts a text to names that are known as the program runs: ``Annotated[str, OneOf(DATASETS)]``.

    Attributes:
        names: The names, or a function that returns them when the schema is made.
    """

    names: tuple[str, ...] | Callable[[], Iterable[str]]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema(list(self.names() if callable(self.names) else self.names))


def read_schema(
    schema: type[Value],
    content: object,
    where: str,
    error: type[AvsRobustError],
    *,
    prefix: str = "",
    remedy: str = "correct the file",
) -> Value:
    """Return the value of type `schema` that `content` describes.

    Args:
        schema: A pydantic dataclass or model, or any other type that pydantic can validate.
        content: Content of a YAML or JSON file: mappings, lists, texts, numbers, truth values, None.
        where: The file or option that `content` comes from, for messages.
        error: The class of the error to raise.
        prefix: The keys above `content` in the file, with a dot at the end ("model.options."), for messages.
        remedy: What the user is to do about a wrong value.

    Raises:
        AvsRobustError: Of class `error`, for the first problem, in one line.

    >>> from pydantic.dataclasses import dataclass
    >>> @dataclass(frozen=True, config=CLOSED)
    ... class Run:
    ...     steps: Positive
    ...     share: Fraction = 0.5
    >>> read_schema(Run, {"steps": 3, "share": 1}, "x.yaml", AvsRobustError)
    Run(steps=3, share=1.0)
    >>> read_schema(Run, {"stepz": 3}, "x.yaml", AvsRobustError)
    Traceback (most recent call last):
    avsrobust.errors.AvsRobustError: x.yaml: key stepz: not known; did you mean 'steps'?; expected one of steps, share
    """
    adapter = TypeAdapter(schema)
    try:
        return adapter.validate_python(content)
    except ValidationError as cause:
        raise error(f"{where}: {explain(cause, adapter.json_schema(), prefix, remedy)}") from cause


def explain(
    error: ValidationError, schema: Mapping[str, Any], prefix: str = "", remedy: str = "correct the file"
) -> str:
    """Return the first problem of a failed validation in one line, in our words.

    Args:
        error: Error of pydantic.
        schema: The JSON schema of the validated type (``TypeAdapter(...).json_schema()``).
        prefix: The keys above the validated value, with a dot at the end, for the message.
        remedy: What the user is to do about a wrong value.
    """
    problems = error.errors(include_url=False)
    problem = next((found for found in problems if found["type"] in _UNKNOWN), problems[0])
    location: Location = problem["loc"]
    at = _at(schema, location)
    key = _key(location, prefix)
    if problem["type"] in _UNKNOWN:
        known = list((_at(schema, location[:-1]) or {}).get("properties", {}))
        return f"key {key}: not known{did_you_mean(str(location[-1]), known)}; expected one of {', '.join(known)}"
    if problem["type"] == "missing":
        return f"key {key}: not given; expected {expected(at) if at else 'a value'}; add it"
    found = problem["input"]
    if at is not None and "enum" in at and location and isinstance(location[-1], int):
        # Of a list of names the list is what is to be corrected, and the value says which of them is meant.
        return (
            f"key {_key(location[:-1], prefix)}: found {_shown(found)}; expected one of {_choices(at['enum'], found)}"
        )
    if at is not None and "enum" in at:
        return f"key {key}: found {_shown(found)}; expected {expected(at)}{_near(at['enum'], found)}"
    wanted = expected(at) if at else problem["msg"].removeprefix(_PYDANTIC_PREFIX)
    named = f"key {key}: " if key else ""
    return f"{named}found {_shown(found)}; expected {wanted}{_hint(at, found)}; {remedy}"


def expected(schema: Mapping[str, Any]) -> str:
    """Return what a JSON schema asks for, in words.

    >>> expected({"type": "integer", "minimum": 1})
    'a whole number of at least 1'
    >>> expected({"type": "number", "minimum": 0, "maximum": 1}), expected({"enum": ["cosine", "constant"]})
    ('a number from 0 to 1', 'cosine or constant')
    >>> expected({"type": "array", "minItems": 1, "maxItems": 100})
    'a list of 1 to 100'
    """
    if "expected" in schema:
        return str(schema["expected"])
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if "const" in schema:
        return repr(schema["const"])
    return _TYPES.get(str(schema.get("type")), "a value") + _bounds(schema) + _lengths(schema)


def _lengths(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minItems"), schema.get("maxItems")
    if least and most:
        return f" of {least} to {most}"
    return f" of at least {least}" if least else f" of at most {most}" if most else ""


def _bounds(schema: Mapping[str, Any]) -> str:
    # Of a number's bounds some releases of pydantic make floats.
    low, high, above = (_short(schema.get(name)) for name in ("minimum", "maximum", "exclusiveMinimum"))
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f" of at least {low}"
    if above is not None:
        return f" above {above}" + ("" if high is None else f", at most {high}")
    return "" if high is None else f" of at most {high}"


def _short(bound: Any) -> Any:
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def _at(schema: Mapping[str, Any], location: Sequence[int | str]) -> Mapping[str, Any] | None:
    """Return the part of a JSON schema that describes the value at `location`, None where it has none."""
    definitions = schema.get("$defs", {})
    at: Mapping[str, Any] | None = _resolved(schema, definitions)
    for step in location:
        if at is None:
            return None
        inner = at.get("items") if isinstance(step, int) else at.get("properties", {}).get(step)
        if inner is None and isinstance(at.get("additionalProperties"), dict):
            inner = at["additionalProperties"]
        at = None if inner is None else _resolved(inner, definitions)
    return at


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow references, and look through ``X | None`` at X."""
    if "$ref" in schema:
        return _resolved({**definitions[schema["$ref"].rpartition("/")[2]], **_notes(schema)}, definitions)
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    return _resolved({**options[0], **_notes(schema)}, definitions) if len(options) == 1 else schema


def _notes(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: schema[key] for key in ("expected",) if key in schema}


def _key(location: Sequence[int | str], prefix: str) -> str:
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{' '.join(str(step).split())[:_LONGEST]}"
    return (prefix + text.removeprefix(".")).rstrip(".")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}.."


def _choices(names: Sequence[Any], found: object) -> str:
    return ", ".join(map(str, names)) + _near(names, found)


def _near(names: Sequence[Any], found: object) -> str:
    return did_you_mean(found, [str(name) for name in names]) if isinstance(found, str) else ""


def _hint(schema: Mapping[str, Any] | None, found: object) -> str:
    """YAML 1.1 takes 6e-4 for a text."""
    if schema is None or schema.get("type") != "number" or not isinstance(found, str):
        return ""
    try:
        float(found)
    except ValueError:
        return ""
    return f" (YAML reads {found} as a text; write 6e-4 as 6.0e-4, and numbers without quotes)"[:_LONGEST]

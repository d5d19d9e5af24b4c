"""One line per problem, whatever pydantic finds."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import field
from typing import Annotated, Any, Literal

import pytest
from pydantic import AliasChoices, BaseModel, Field
from pydantic.dataclasses import dataclass

from avsrobust.errors import OptionError, RecipeError
from avsrobust.schemas import (
    CLOSED,
    Count,
    Fraction,
    Integer,
    NonNegative,
    Number,
    OneOf,
    Positive,
    Truth,
    expected,
    read_schema,
)


@dataclass(frozen=True, config=CLOSED)
class Part:
    share: Fraction = 0.5
    names: tuple[Literal["silence", "noise"], ...] = ()
    extra: Count = Field(default=0, validation_alias=AliasChoices("extra", "beside"))


@dataclass(frozen=True, config=CLOSED)
class Whole:
    steps: Positive
    schedule: Literal["cosine", "constant"] = "cosine"
    part: Part = field(default_factory=Part)
    parts: tuple[Part, ...] = ()
    weights: dict[str, NonNegative] = field(default_factory=dict)
    offset: Integer = 0
    rate: Annotated[Number, Field(gt=0)] | None = None
    on: Truth = False
    text: str = ""
    words: str = Field(default="", max_length=3, json_schema_extra={"expected": "three letters"})
    options: dict[str, Any] = field(default_factory=dict)


def read(**content: object) -> Whole:
    return read_schema(Whole, {"steps": 1, **content}, "x.yaml", RecipeError)


def test_values_are_typed() -> None:
    whole = read(part={"share": 1, "names": ["noise"]}, weights={"a": 2}, rate=3, options={"any": [1]})
    assert whole.part == Part(1.0, ("noise",))
    assert type(whole.part.share) is type(whole.weights["a"]) is type(whole.rate) is float
    assert whole.options == {"any": [1]}


def test_old_names_are_read() -> None:
    assert read(part={"beside": 2}).part == read(part={"extra": 2}).part == Part(extra=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"stepz": 2}, "key stepz: not known; did you mean 'steps'?; expected one of steps, schedule, part, "),
        (
            {"part": {"shares": 2}},
            "key part.shares: not known; did you mean 'share'?; expected one of share, names, extra",
        ),
        ({"steps": "3"}, "key steps: found '3'; expected a whole number of at least 1; correct the file"),
        ({"steps": 3.0}, "key steps: found 3.0; expected a whole number"),
        ({"steps": True}, "key steps: found True; expected a whole number"),
        ({"steps": 0}, "key steps: found 0; expected a whole number of at least 1"),
        ({"steps": None}, "key steps: found None; expected a whole number"),
        ({"offset": "a"}, "key offset: found 'a'; expected a whole number; correct the file"),
        (
            {"rate": "6e-4"},
            "key rate: found '6e-4'; expected a number above 0 (YAML reads 6e-4 as a text; write 6e-4 as 6.0e-4",
        ),
        ({"rate": "fast"}, "key rate: found 'fast'; expected a number above 0; correct the file"),
        ({"rate": 0}, "key rate: found 0; expected a number above 0"),
        ({"rate": float("inf")}, "key rate: found inf; expected a number above 0"),
        ({"rate": True}, "key rate: found True; expected a number"),
        ({"on": 1}, "key on: found 1; expected true or false"),
        ({"on": "yes"}, "key on: found 'yes'; expected true or false"),
        ({"text": 3}, "key text: found 3; expected a text"),
        ({"words": "four"}, "key words: found 'four'; expected three letters"),
        ({"schedule": "cosinus"}, "key schedule: found 'cosinus'; expected cosine or constant; did you mean 'cosine'?"),
        ({"schedule": 3}, "key schedule: found 3; expected cosine or constant"),
        ({"part": {"share": 1.5}}, "key part.share: found 1.5; expected a number from 0 to 1"),
        ({"part": {"share": float("nan")}}, "key part.share: found nan; expected a number from 0 to 1"),
        ({"part": {"names": ["rain"]}}, "key part.names: found 'rain'; expected one of silence, noise"),
        ({"part": {"names": "noise"}}, "key part.names: found 'noise'; expected a list"),
        ({"part": {"beside": -1}}, "key part.beside: found -1; expected greater than or equal to 0"),
        ({"part": [1]}, "key part: found [1]; expected a mapping"),
        ({"parts": [{}, {"share": "a"}]}, "key parts[1].share: found 'a'; expected a number from 0 to 1"),
        ({"weights": {"dice": -1}}, "key weights.dice: found -1; expected a number of at least 0"),
        ({"weights": 3}, "key weights: found 3; expected a mapping"),
        ({"a\nb": 3}, "key a b: not known"),
    ],
)
def test_problems_are_named(content: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(**content)
    assert str(caught.value).startswith(f"x.yaml: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", [("s4", "ms3"), lambda: iter(("s4", "ms3"))])
def test_names_that_are_known_as_the_program_runs(names: Any) -> None:
    schema: Any = dict[str, tuple[Annotated[str, OneOf(names)], ...]]
    assert read_schema(schema, {"more": ["ms3"]}, "f", OptionError) == {"more": ("ms3",)}
    with pytest.raises(OptionError, match=r"f: key more: found 'm3'; expected one of s4, ms3; did you mean 'ms3'\?$"):
        read_schema(schema, {"more": ["m3"]}, "f", OptionError)
    single: Any = dict[str, Annotated[str, OneOf(names)]]
    with pytest.raises(OptionError, match=r"f: key one: found 3; expected s4 or ms3$"):
        read_schema(single, {"one": 3}, "f", OptionError)


def test_missing_keys() -> None:
    with pytest.raises(
        OptionError, match=r"^f: key a\.steps: not given; expected a whole number of at least 1; add it$"
    ):
        read_schema(Whole, {}, "f", OptionError, prefix="a.")


def test_a_misspelt_key_goes_before_the_missing_one() -> None:
    with pytest.raises(OptionError, match="key step: not known; did you mean 'steps'"):
        read_schema(Whole, {"step": 3}, "f", OptionError)


@pytest.mark.parametrize("content", [[1], None, "text"])
def test_content_that_is_no_mapping(content: object) -> None:
    with pytest.raises(OptionError, match=r"^f: found .*; expected a mapping; correct the file$"):
        read_schema(Whole, content, "f", OptionError)
    with pytest.raises(OptionError, match=r"^f: key model\.options: found .*; expected a mapping"):
        read_schema(Whole, content, "f", OptionError, prefix="model.options.")


def test_long_values_are_cut() -> None:
    with pytest.raises(RecipeError) as caught:
        read(steps="9" * 10_000)
    assert len(str(caught.value)) < 300


def test_models_read_alike() -> None:
    class Model(BaseModel):
        model_config = CLOSED
        steps: Positive

    assert read_schema(Model, {"steps": 2}, "f", OptionError).steps == 2
    with pytest.raises(OptionError, match="f: key step: not known; did you mean 'steps'"):
        read_schema(Model, {"step": 2}, "f", OptionError)
    with pytest.raises(OptionError, match="f: found 3; expected a mapping"):
        read_schema(Model, 3, "f", OptionError)


def test_bounds_in_words() -> None:
    assert expected({"type": "number", "exclusiveMinimum": 0, "maximum": 1}) == "a number above 0, at most 1"
    assert expected({"type": "integer", "maximum": 1}) == "a whole number of at most 1"
    assert expected({"const": "build"}) == "'build'"
    assert expected({}) == "a value"


def test_help_does_without_pydantic() -> None:
    code = (
        "import sys\nfrom avsrobust.cli.main import run\nsys.argv = ['avsrobust', '--help']\n"
        "try:\n    run()\nexcept SystemExit:\n    pass\nassert 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

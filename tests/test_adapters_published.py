"""Published models: the docs' table and `avsrobust adapters` say the same."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from avsrobust.adapters.catalogue import BUILT_IN
from avsrobust.adapters.published import PUBLISHED, TABLE_HEAD, PublishedModel, table_row
from avsrobust.cli.main import invoke

PAGE = Path(__file__).parents[1] / "docs" / "published_models.md"


def test_the_docs_table_has_these_rows_and_no_others() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    first = lines.index(TABLE_HEAD[0])
    table = list(itertools.takewhile(lambda line: line.startswith("|"), lines[first:]))
    assert table == [*TABLE_HEAD, *map(table_row, PUBLISHED)]


@pytest.mark.parametrize("model", PUBLISHED, ids=lambda model: model.model)
def test_every_model_has_an_adapter_and_every_fact(model: PublishedModel) -> None:
    assert model.adapter in {entry.name for entry in BUILT_IN}
    for name, text in vars(model).items():
        assert text, name
        assert not set(text) & set("|\n"), name


def test_the_listing_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["adapters"]) == 0
    out = capsys.readouterr().out
    for model in PUBLISHED:
        for name, text in vars(model).items():
            assert text in out, name

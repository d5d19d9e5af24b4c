from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from avsrobust.datasets.tables import Table, read_table
from avsrobust.errors import DataSetError
from avsrobust.limits import TABLE_BYTES, Limit

PLAIN = "name,category,split\na,dog,test\nb,cat,val\n"


def read(root: Path, content: str | bytes) -> Table:
    (root / "t.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(root, "t.csv")


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.rstrip(),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.replace("a,dog", '"a","dog"'),
        PLAIN.replace("a,dog", " a , dog "),
        PLAIN.replace("\nb", "\n\n , ,\nb"),
        PLAIN.replace("test\n", "test,\n"),
        PLAIN.replace("name,category", "Name, CATEGORY"),
    ],
    ids=["plain", "crlf", "no newline", "bom", "quoted", "blanks", "blank lines", "trailing comma", "other case"],
)
def test_reads_the_same_rows_however_they_are_written(tmp_path: Path, content: str | bytes) -> None:
    table = read(tmp_path, content)
    assert [row.cells for row in table.rows] == [("a", "dog", "test"), ("b", "cat", "val")]
    assert table.require("name", "split") == {"name": 0, "split": 2}
    assert table.findings == ()


def test_a_quoted_cell_may_hold_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    table = read(tmp_path, 'name,split\n"a,""b""\nc",test\n')
    assert table.rows[0].cells == ('a,"b"\nc', "test")


def test_rows_that_do_not_fit_the_header_are_findings_with_their_line(tmp_path: Path) -> None:
    table = read(tmp_path, PLAIN + "c\nd,dog,test,more\n")
    assert len(table.rows) == 2
    assert [str(finding) for finding in table.findings] == [
        "t.csv:4: found 1 cells; expected 3, as in the header",
        "t.csv:5: found 4 cells; expected 3, as in the header",
    ]
    assert [finding.clip_id for finding in table.findings] == ["line 4", "line 5"]


def test_missing_columns_are_named_and_those_found_listed(tmp_path: Path) -> None:
    table = read(tmp_path, PLAIN)
    with pytest.raises(DataSetError, match=r"t.csv: has no column vid, label; found the columns name, category, split"):
        table.require("vid", "split", "label")


@pytest.mark.parametrize(("sign", "named"), [(";", "semicolons"), ("\t", "tabs"), ("|", "'|'")])
def test_other_separators_are_named(tmp_path: Path, sign: str, named: str) -> None:
    table = read(tmp_path, PLAIN.replace(",", sign))
    with pytest.raises(
        DataSetError, match=re.escape(f"expected name, split, separated by commas, not by {named}; take")
    ):
        table.require("name", "split")


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    table = read(tmp_path, "name,split,split\na,test,val\n")
    with pytest.raises(DataSetError, match="has the column 'split' twice"):
        table.require("split")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "t.csv: found no header"),
        (b"name,split\n", "t.csv: found a header without rows"),
        ("name,split\né,test\n".encode("latin-1"), "t.csv: is not UTF-8 .*; take that, or save yours as csv in UTF-8"),
        ("name,split\na,test\n".encode("utf-16"), "t.csv: is not UTF-8"),
        (b"PK\x03\x04" + bytes(200), "t.csv: is a zip archive or a spreadsheet; expected the csv table"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "t.csv: is a pointer of Git LFS.*; fetch it with 'git lfs pull'",
        ),
        (b'name,split\n"a,test\nb,val\n', "t.csv: is no well-formed csv"),
    ],
    ids=["empty", "header only", "latin-1", "utf-16", "spreadsheet", "pointer", "unclosed quote"],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataSetError, match=message):
        read(tmp_path, content)


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(DataSetError, match=r"t.csv: cannot be read"):
        read_table(tmp_path, "t.csv")


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(DataSetError, match=r"t.csv: cannot be read \(is a pipe, not a regular file\)"):
        read_table(tmp_path, "t.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    with pytest.raises(DataSetError, match=r"zero.csv: cannot be read \(is a device, not a regular file\)"):
        read_table(tmp_path, "zero.csv")
    (tmp_path / "real").write_text(PLAIN)
    (tmp_path / "link.csv").symlink_to("real")
    assert read_table(tmp_path, "link.csv").rows


def test_endless_tables_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "t.csv").open("wb") as stream:
        stream.truncate(TABLE_BYTES.value + 1)
    with pytest.raises(
        DataSetError, match=r"t.csv: found 67,108,865 bytes; expected at most 67,108,864 .*--raise-limits 2"
    ):
        read_table(tmp_path, "t.csv")
    monkeypatch.setattr("avsrobust.datasets.tables.TABLE_ROWS", Limit(3, "rows", "a test"))
    with pytest.raises(DataSetError, match=r"t.csv: found 4 rows; expected at most 3"):
        read(tmp_path, "name,split\n" + "a,b\n" * 9)
    with pytest.raises(DataSetError, match=r"t.csv: has 2,001 cells in line 1; expected at most 1000"):
        read(tmp_path, "," * 2000 + "\n")
    with pytest.raises(DataSetError, match=r"t.csv: is no well-formed csv, line 2 \(field larger than field limit"):
        read(tmp_path, f'name,split\n"{"x" * 200_000}",test\n')


def test_columns_are_named_in_one_short_inert_line(tmp_path: Path) -> None:
    table = read(tmp_path, ",".join(f"\x1b[{number}m{'x' * 1000}" for number in range(500)) + "\na\n")
    with pytest.raises(DataSetError, match="and 490 more") as caught:
        table.require("vid")
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()

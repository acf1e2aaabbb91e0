"""Files as people have them: what is read of each, or what is said, when training, when scoring and when skipping."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memae.config import override
from memae.errors import DataError
from memae.modality import FitOptions, collect, open_source, prepare, preset_config
from memae.table.csv import CsvSource
from memae.table.fit_schema import survey
from memae.table.schema import ColumnKind, column_kind
from memae.table.source import Table

PLAIN = "a,b,c\n1,x,true\n2,y,false\n"
ROWS = [[1, "x", True], [2, "y", False]]
UMLAUTS = "naïve,b\ngrüße,1\ncafé,2\n"
CELL = "in the number column"

# a file, the kinds of its columns, and its first rows
READ: dict[str, tuple[Any, str, list[Any]]] = {
    "CRLF": (PLAIN.replace("\n", "\r\n"), "ncb", ROWS),
    "CR alone": (PLAIN.replace("\n", "\r"), "ncb", ROWS),
    "all ends of lines": ("a,b\r\n1,x\n2,y\r\n3,z\r4,w\n", "nc", [[1, "x"], [2, "y"], [3, "z"], [4, "w"]]),
    "no last line feed": (PLAIN[:-1], "ncb", ROWS),
    "blank lines": ("\n\n" + PLAIN.replace("\n", "\n\n"), "ncb", ROWS),
    "spaces around cells": (
        "a,b,c\n 1 , x , true\n2 ,y, false\n",
        "ncc",
        [[1, " x ", " true"], [2, "y", " false"]],
    ),
    "UTF-8 with a mark": (PLAIN.encode("utf-8-sig"), "ncb", ROWS),
    "UTF-16": (PLAIN.encode("utf-16"), "ncb", ROWS),
    "UTF-16, the big end first": (b"\xfe\xff" + PLAIN.encode("utf-16-be"), "ncb", ROWS),
    "Windows-1252": (UMLAUTS.encode("cp1252"), "cn", [["grüße", 1], ["café", 2]]),
    "one byte that is not UTF-8": (b"a,b\n1,gr\xc3\xbc\n2,\xff\n", "nc", [[1, "grÃ¼"], [2, "ÿ"]]),
    "signs beyond the first plane": ("😀,b\n1,👍\n2,👎\n", "nc", [[1, "👍"], [2, "👎"]]),
    "semicolons in text": ('a,b\n1,"x;y;z"\n2,"u;v"\n3,q\n', "nc", [[1, "x;y;z"], [2, "u;v"]]),
    "commas in text": ('a;b\n1;"x,y"\n2;"u,v"\n3;q\n', "nc", [[1, "x,y"], [2, "u,v"]]),
    "unquoted commas in text": ("name;x;y\nMeier, Hans;1,5;2\nM, F;2,5;3\n", "cnn", [["Meier, Hans", 1.5, 2]]),
    "decimal commas": ("a;b;c\n1,5;x;1\n-2,25;y;2\n", "ncn", [[1.5, "x", 1], [-2.25, "y", 2]]),
    "decimal commas and tabs": ("a\tb\n1,5\tx\n2,5\ty\n", "nc", [[1.5, "x"], [2.5, "y"]]),
    "decimal points and semicolons": ("a;b\n1.5;01.02.2024\n2.5;02.02.2024\n", "nc", [[1.5, "01.02.2024"]]),
    "decimal points among commas": ("a;b\n1,5;1.5\n2,5;2.5\n3,5;x\n", "nc", [[1.5, "1.5"], [2.5, "2.5"]]),
    "thousands": ('a,b\n"1,000.5",x\n"2,000.75",y\n', "cc", [["1,000.5", "x"]]),
    "thousands with points": ("a;b\n1.000,5;x\n2.000,75;y\n", "cc", [["1.000,5", "x"]]),
    "one column": ("a\n1\n2\n", "n", [[1], [2]]),
    "another delimiter": ("a b c\n1 x true\n2 y false\n", "c", [["1 x true"]]),
    "doubled quotes": ('a,b\n1,"say ""hi"""\n2,"x"\n', "nc", [[1, 'say "hi"']]),
    "quotes within a cell": ('a,b\n1,5" pipe\n2,6" pipe\n', "nc", [[1, '5" pipe']]),
    "a quote that never ends": ('a,b\n1,"x\n2,y\n', "nc", [[1, "x\n2,y\n"]]),
    "line feeds in a header": ('"a\nb",c\n1,2\n3,4\n', "nn", [[1, 2], [3, 4]]),
    "quotes in names": ('it\'s,"say ""b"""\n1,x\n2,y\n', "nc", [[1, "x"]]),
    "no header": ("1,2\n3,4\n5,6\n", "nn", [[3, 4], [5, 6]]),
    "a form feed": ("a,b\n1,x\x0cy\n2,z\n", "nc", [[1, "x\x0cy"]]),
    "a long line": (f"a,b\n1,{'x' * 2_000_000}\n2,y\n", "nc", [[1, "x" * 2_000_000]]),
    "missing in every way": ("a,b\n1,NA\n?,x\nnull,NULL\n,n/a\nNaN,\n", "nc", [[1, "NA"], [None, "x"]]),
    "missing with spaces is a word": ("a,b\n1, NA\n NA ,x\n 4 ,y\n", "cc", [["1", " NA"], [" NA ", "x"]]),
    "infinity": ("a,b\ninf,1\n-inf,2\n1e400,3\n5,4\n", "nn", [[float("inf"), 1]]),
    "beyond 64 bits": ("a,b\n9223372036854775808,1\n123456789012345678901234567890,2\n", "nn", [[2.0**63, 1]]),
    "hexadecimal": ("a,b\n0x1F,1\n0x2A,2\n", "nn", [[31, 1], [42, 2]]),
    "leading zeros": ("zip,b\n007,1\n010,2\n", "nn", [[7, 1], [10, 2]]),
    "signs and exponents": ("a,b\n+1,1\n1E-3,2\n1.,3\n.5,4\n", "nn", [[1, 1], [0.001, 2], [1, 3], [0.5, 4]]),
    "percent, currency, minus": ("a,b,c\n10%,€1,−1\n20%,€2,−2\n", "ccc", [["10%", "€1", "−1"]]),
    "digits of other scripts": ("a,b\n١,1\n٢,2\n", "cn", [["١", 1]]),
    "no-break spaces": ("a,b\n1\u00a0,1\n2\u00a0,2\n", "cn", [["1\u00a0", 1]]),
    "truth in several ways": ("a,b\ntrue,1\nFALSE,0\n0,0\n", "bn", [[True, 1], [False, 0]]),
    "truth and missing": ("a,b\ntrue,1\nNA,0\nfalse,1\n", "bn", [[True, 1], [None, 0]]),
    "truth in odd cases": ("a,b\ntRuE,1\nfalse,0\n", "cn", [["tRuE", 1]]),
    "yes and no": ("a,b\nyes,1\nno,0\n", "cn", [["yes", 1]]),
    "bits are numbers": ("a,b\n0,1\n1,0\n", "nn", [[0, 1]]),
    "dates and text": ("a,b\n2024-01-01,1\nsoon,2\n", "cn", [["2024-01-01", 1]]),
    "dates of other lands": ("a,b\n01/31/2024,1\n02/01/2024,2\n", "cn", [["01/31/2024", 1]]),
    "gzip in two members": (
        gzip.compress(PLAIN.encode()) + gzip.compress(b"3,z,true\n"),
        "ncb",
        [*ROWS, [3, "z", True]],
    ),
}

# a file, and what is said when training
REFUSED = {
    "two names alike": ("a,a,b\n1,2,3\n", "column names must differ; given twice: a"),
    "two empty names": ("a,,\n1,2,3\n", "column names must differ; given twice: "),
    "dates": ("a,b\n2024-01-01,1\n9999-12-31,2\n", r"column 'a' holds date32.*hour and weekday taken.*`drop=\['a'\]`"),
    "dates and missing": ("a,b\n2024-01-01,1\nNA,2\n", "column 'a' holds date32"),
    "times of dates": ("a,b\n2024-01-01 10:00:00.5,1\n2024-01-02 11:00:00,2\n", "column 'a' holds timestamp"),
    "times with a zone": ("a,b\n2024-01-01T10:00:00+02:00,1\n2024-01-02T10:00:00Z,2\n", "column 'a' holds time.*UTC"),
    "times of day": ("a,b\n10:00,1\n11:30,2\n", "column 'a' holds time32"),
    "an empty column": ("a,b\n1,\n2,\n", r"column 'b' is empty: there is nothing to learn; .*`drop=\['b'\]`"),
    "an empty last column": ("a,b,\n1,2,\n3,4,\n", "column '' is empty"),
    "a header alone": ("a,b,c\n", "holds no samples"),
    "a header without an end": ("a,b,c", "holds no samples"),
    "a line feed": ("\n", "holds no samples"),
    "short rows": ("a,b,c\n1,2\n3,4\n", r"line 2 has 2 cells and the header 3 \(1,2\); mend that line, .*`skip_bad"),
    "a delimiter at the end": ("a,b\n1,2,\n3,4,\n", r"line 2 has 3 cells and the header 2 \(1,2,\)"),
    "a title": ("My table\na,b\n1,2\n", r"line 2 has 2 cells and the header 1 \(a,b\)"),
    "comments": ("# by x\n# y\na,b\n1,2\n", r"line 3 has 2 cells and the header 1 \(a,b\)"),
    "text with commas alone": ("word\nhello, world\nfoo\n", r"line 2 has 2 cells and the header 1"),
    "JSON": ('{"a": [1, 2],\n "b": [3, 4]}\n', "line 2 has 2 cells and the header 3"),
    "NUL bytes": ("a,b\n1,\0\n", "holds NUL bytes, .*save the file as UTF-8"),
    "UTF-16 without a mark": (PLAIN.encode("utf-16-le"), "holds NUL bytes, .*UTF-16 without its mark"),
    "UTF-16 that is cut": (PLAIN.encode("utf-16")[:-1], "begins as utf-16 and is cut or damaged"),
    "gzip that is cut": (gzip.compress(PLAIN.encode() * 999)[:-9], "cannot be read .*write it again"),
    "gzip and more": (gzip.compress(PLAIN.encode()) + b"garbage", "cannot be read .*write it again"),
    "a PDF file": (b"%PDF-1.4 x", "is no CSV file but a PDF file; save the table as CSV"),
    "a database": (b"SQLite format 3", "is no CSV file but a database"),
    "a cell of many lines": ('a,b\n1,"' + "x\n" * 1_200_000 + '"\n2,y\n', "a row is longer than .*; is a quotation"),
}  # fmt: skip

# a file, and the bad rows when training may skip some
SKIPPED = {
    "rows of all lengths": (
        "a,b,c\n1\n1,2,3\n4\n6,7,8\n9,9,9,9\n",
        {0: "has 1 cell and the header 3", 2: "has 1 cell and the header 3", 4: "has 4 cells and the header 3"},
    ),
    "a word at the end": (
        "a\n" + "".join(f"{i}\n" for i in range(300_000)) + "oops\n", {300_000: f"holds 'oops' {CELL} 'a'"}
    ),
    "words in decimal commas": (
        "a;b\n" + "".join(f"{i},5;x\n" for i in range(40)) + "1.5;y\n", {40: f"holds '1.5' {CELL} 'a'"}
    ),
    "codes": ("a,b\n" + "".join(f"{i},A{i % 3}\n" for i in range(40)), {}),
}  # fmt: skip

KINDS: dict[str, ColumnKind] = {"n": "number", "c": "category", "b": "boolean"}


@pytest.fixture
def path(tmp_path: Path) -> Callable[..., Path]:
    def write(content: str) -> Path:
        (tmp_path / "t.csv").write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / "t.csv"

    return write


def rows_of(table: Table) -> list[list[float | str]]:
    return [list(row.values()) for row in table.columns.to_pylist()]


@pytest.mark.parametrize("name", READ)
def test_an_odd_file_is_read_the_same_when_training_when_scoring_and_when_skipping(
    path: Callable[..., Path], name: str
) -> None:
    content, kinds, expected = READ[name]
    table = collect(CsvSource(path(content), {}))
    assert "".join(column_kind(kind)[0] for kind in table.columns.schema.types) == kinds
    rows = rows_of(table)
    assert rows[: len(expected)] == expected
    known = {name: KINDS[kind] for name, kind in zip(table.columns.column_names, kinds, strict=True)}
    scored = CsvSource(path(content), known)
    if "0x" not in str(content):  # Arrow knows such numbers as whole ones only
        assert [row for part in scored.chunks(2) for row in rows_of(part)] == rows
        assert rows_of(collect(scored.skipping())) == rows
    skipping = collect(CsvSource(path(content), {}).skipping())
    assert (rows_of(skipping), dict(skipping.unreadable)) == (rows, {})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_an_odd_file_that_cannot_be_learnt_from_is_refused_in_one_sentence(
    path: Callable[..., Path], name: str, stream: bool
) -> None:
    content, message = REFUSED[name]
    settings = {"train": {"patience": 0, "validation_share": 0}, "threshold": {"calibration_share": 0}}
    config = override(preset_config("table-paper", "table"), settings, "test")
    with pytest.raises(DataError, match=rf"t\.csv: {message}"):
        prepare(open_source(path(content)), config, 0, FitOptions(stream=stream))


@pytest.mark.parametrize("name", SKIPPED)
def test_bad_rows_of_an_odd_file_are_skipped(path: Callable[..., Path], name: str) -> None:
    content, bad = SKIPPED[name]
    assert dict(collect(CsvSource(path(content), {}).skipping()).unreadable) == bad


def test_a_word_among_numbers_is_found_however_late_it_stands() -> None:
    parts = [pa.table({"a": list(map(str, range(start, start + 5000)))}) for start in range(0, 50_000, 5000)]
    tables = [*parts, pa.table({"a": ["12", "oops", "13"]})]
    with pytest.raises(DataError, match="column 'a' holds 'oops' among numbers"):
        survey(collect(open_source(table)) for table in tables)


PARQUET = {
    "decimals": (pa.array([1, 2]).cast(pa.decimal128(25, 2)), "number"),
    "half precision": (pa.array(np.array([1.5, 2.5], np.float16)), "number"),
    "large text": (pa.array(["x", "y"], pa.large_string()), "category"),
    "views of text": (pa.array(["x", "y"], pa.string_view()), "category"),
    "categories": (pa.array(["x", "y"]).dictionary_encode(), "category"),
    "unsigned": (pa.array([1, 2**63], pa.uint64()), "number"),
    "truth and null": (pa.array([True, None]), "boolean"),
}


@pytest.mark.parametrize("name", PARQUET)
def test_odd_columns_of_parquet_are_read(tmp_path: Path, name: str) -> None:
    column, kind = PARQUET[name]
    pq.write_table(pa.table({"a": column}), tmp_path / "t.parquet")
    table = collect(open_source(tmp_path / "t.parquet"))
    assert column_kind(table.columns.schema.types[0]) == kind
    assert table.columns["a"].to_pylist() == column.to_pylist()


def test_an_index_of_pandas_that_is_a_range_hides_no_column(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1.0], "b": [2.0]}, index=pd.RangeIndex(5, 6)).to_parquet(tmp_path / "t.parquet")
    assert collect(open_source(tmp_path / "t.parquet")).columns.column_names == ["a", "b"]

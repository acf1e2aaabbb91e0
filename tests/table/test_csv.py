import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memae.errors import DataError
from memae.modality import collect
from memae.table.csv import CsvSource
from memae.table.schema import ColumnKind
from memae.table.source import Table
from memae.types import EVERYTHING

KINDS: dict[str, ColumnKind] = {"a": "number", "b": "category", "c": "boolean"}
A_AND_B: dict[str, ColumnKind] = {"a": "number", "b": "category"}
TEXT = "a,b,c\n1,x,true\n2,y,false\n3.5,x,true\n4,z,true\n"


def csv(path: Path, text: str = TEXT) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def everything(source: CsvSource) -> Table:
    table: Table = collect(source)
    return table


def rows(source: CsvSource, size: int = EVERYTHING) -> list[dict[str, Any]]:
    return [row for part in source.chunks(size) for row in part.columns.to_pylist()]


def keys(source: CsvSource, size: int) -> list[Any]:
    return [key for part in source.chunks(size) for key in part.keys]


def types(source: CsvSource) -> list[str]:
    return [str(field.type) for field in everything(source).columns.schema]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_csv_types_are_inferred(tmp_path: Path, name: str) -> None:
    source = CsvSource(csv(tmp_path / name), {})
    assert types(source) == ["double", "string", "bool"]
    assert rows(source)[2] == {"a": 3.5, "b": "x", "c": True}
    assert list(everything(source).keys) == [0, 1, 2, 3]


def test_csv_types_are_inferred_over_the_whole_file(tmp_path: Path) -> None:
    source = CsvSource(csv(tmp_path / "t.csv", "a,b\n" + "1,2\n" * 400_000 + "1.5,x\n"), {})
    assert types(source) == ["double", "string"]
    assert everything(source).columns["a"][400_000].as_py() == 1.5
    assert everything(source).columns["a"][0].as_py() == 1.0


def test_only_spaces_and_tabs_may_stand_around_a_number(tmp_path: Path) -> None:
    numbers = "".join(f"{number},x,true\n" for number in range(30))
    path = csv(tmp_path / "t.csv", f'a,b,c\n 1,x,true\n\t2 ,y,false\n3\f,x,true\n"4\n",z,true\n{numbers}')
    for kinds in ({}, KINDS):
        source = CsvSource(path, kinds).skipping()
        assert [row["a"] for row in rows(source)][:4] == [1.0, 2.0, None, None]
        assert [key for part in source.chunks(EVERYTHING) for key in part.unreadable] == [2, 3]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_csv_chunks_are_the_whole_in_order(tmp_path: Path, name: str, size: int) -> None:
    whole = CsvSource(csv(tmp_path / name), {})
    chunked = CsvSource(tmp_path / name, KINDS)
    assert rows(chunked, size) == rows(whole)
    assert keys(chunked, size) == [0, 1, 2, 3]
    assert max(len(part) for part in chunked.chunks(size)) <= size


def test_csv_chunks_are_the_whole_where_a_block_ends_in_a_quoted_line_break(tmp_path: Path) -> None:
    lines = "".join(f'{i},"first line\nof, {i}",{"true" if i % 3 else "false"}\n' for i in range(60_000))
    path = csv(tmp_path / "t.csv", "a,b,c\n" + lines)
    assert path.stat().st_size > 1 << 20  # more than one block of Arrow's reader
    assert rows(CsvSource(path, KINDS), 7_000) == rows(CsvSource(path, {}))
    assert keys(CsvSource(path, KINDS), 7_000) == list(range(60_000))


def test_csv_is_told_from_gzip_by_its_content(tmp_path: Path) -> None:
    packed, plain = csv(tmp_path / "packed.csv.gz"), csv(tmp_path / "plain.csv")
    wrong = [packed.rename(tmp_path / "packed.csv"), plain.rename(tmp_path / "plain.csv.gz")]
    for path in wrong:
        assert rows(CsvSource(path, {})) == rows(CsvSource(path, KINDS), 2)


@pytest.mark.parametrize("size", [2, EVERYTHING])
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_text_in_a_number_column_is_refused_by_column_value_and_line(tmp_path: Path, name: str, size: int) -> None:
    path = csv(tmp_path / name, TEXT.replace("3.5", "n/k"))
    with pytest.raises(
        DataError, match=r"line 4 holds 'n/k' in the number column 'a' \(n/k,x,true\); mend that line, .*`skip"
    ):
        rows(CsvSource(path, KINDS), size)


def test_text_in_a_number_column_is_found_beyond_the_first_block(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", "a\n" + "1\n" * 700_000 + "oops\n")
    with pytest.raises(DataError, match="line 700002 holds 'oops' in the number column 'a'"):
        rows(CsvSource(path, {"a": "number"}), 100_000)


def test_text_in_a_boolean_column_is_refused(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", TEXT.replace("false", "maybe"))
    with pytest.raises(
        DataError, match=r"line 3 holds 'maybe' in the boolean column 'c' \(2,y,maybe\); mend that line"
    ):
        rows(CsvSource(path, KINDS), 2)


def test_a_column_that_the_model_does_not_know_may_hold_anything(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", "id,a\n" + "7,1\n" * 400_000 + "x,2\n")
    source = CsvSource(path, {"a": "number"})
    assert sum(len(part) for part in source.without(["id"]).chunks(65_536)) == 400_001
    assert everything(source.without(["id"])).columns.column_names == ["a"]
    assert source.labels("id")[-1] == "x"
    assert sum(len(part) for part in source.chunks(65_536)) == 400_001


def test_csv_columns_can_be_left_out(tmp_path: Path) -> None:
    source = CsvSource(csv(tmp_path / "t.csv"), {}).without(["b"]).without(["c"])
    assert everything(source).columns.column_names == ["a"]
    with pytest.raises(DataError, match=r"t\.csv: no column 'b'; it has 'a'"):
        source.without(["b"])
    with pytest.raises(DataError, match=r"t\.csv: no column 'z'; it has 'a'"):
        source.labels("z")


def test_csv_labels_are_text_as_written(tmp_path: Path) -> None:
    source = CsvSource(csv(tmp_path / "t.csv", "a,y\n1,01\n2,1\n3,1.0\n"), {})
    assert source.labels("y").tolist() == ["01", "1", "1.0"]


def test_duplicate_csv_columns_can_be_left_out(tmp_path: Path) -> None:
    source = CsvSource(csv(tmp_path / "t.csv", "a,a,b\n1,2,3\n"), {}).without(["a"])
    assert rows(source) == [{"b": 3}]


@pytest.mark.parametrize("text", ["a,b,c\n", "a,b,c", "\n"])
def test_a_csv_file_without_rows_yields_none_or_says_so(tmp_path: Path, text: str) -> None:
    for kinds in ({}, KINDS):
        try:
            assert rows(CsvSource(csv(tmp_path / "t.csv", text), kinds), 10) == []
        except DataError as error:
            assert "t.csv: holds no samples" in str(error) or "no header line can be read" in str(error)


@pytest.mark.parametrize("kinds", [{}, KINDS])
def test_a_row_of_another_length_is_refused_by_line(tmp_path: Path, kinds: dict[str, ColumnKind]) -> None:
    path = csv(tmp_path / "t.csv", TEXT + "5,x\n")
    with pytest.raises(DataError, match=r"t\.csv: line 6 has 2 cells and the header 3 \(5,x\); mend that line"):
        rows(CsvSource(path, kinds), 2)


@pytest.mark.parametrize("kinds", [{}, KINDS])
@pytest.mark.parametrize("damage", ["short", "bytes"])
def test_a_damaged_gz_file_is_refused(tmp_path: Path, kinds: dict[str, ColumnKind], damage: str) -> None:
    generator = np.random.default_rng(0)
    lines = "".join(f"{number},x,true\n" for number in generator.integers(10**6, size=200_000))
    content = gzip.compress(f"a,b,c\n{lines}".encode(), compresslevel=1)
    half = len(content) // 2
    broken = content[:half] if damage == "short" else content[:half] + bytes(200) + content[half + 200 :]
    (tmp_path / "t.csv.gz").write_bytes(broken)
    with pytest.raises(DataError, match=r"t\.csv\.gz: .*(write it again|mend)"):
        rows(CsvSource(tmp_path / "t.csv.gz", kinds), 1000)


FORMS = {
    "semicolons": ("a;b;c\n1;x;true\n-2,5;y;false\n", "utf-8", ()),
    "semicolons and points": ("a;b;c\n1.0;x;true\n-2.5;y;false\n", "utf-8", ()),
    "tabs": ("a\tb\tc\n1\tx\ttrue\n-2.5\ty\tfalse\n", "utf-8", ()),
    "tabs and decimal commas": ("a\tb\tc\n1\tx\ttrue\n-2,5\ty\tfalse\n", "utf-8", ()),
    "bars": ("a|b|c\n1|x|true\n-2.5|y|false\n", "utf-8", ()),
    "commas in quotes": ('a,b,c\n"1",x,"true"\n-2.5,y,false\n', "utf-8", ()),
    "a mark": ("a,b,c\n1,x,true\n-2.5,y,false\n", "utf-8-sig", ()),
    "Windows lines": ("a,b,c\r\n1,x,true\r\n-2.5,y,false\r\n", "utf-8", ()),
    "UTF-16": ("a,b,c\n1,x,true\n-2.5,y,false\n", "utf-16", ("utf-16",)),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_a_file_is_found(tmp_path: Path, form: str, packed: bool) -> None:
    text, encoding, notes = FORMS[form]
    path = tmp_path / "t.csv"
    path.write_bytes(gzip.compress(text.encode(encoding)) if packed else text.encode(encoding))
    expected = [{"a": 1.0, "b": "x", "c": True}, {"a": -2.5, "b": "y", "c": False}]
    for kinds in ({}, KINDS):
        source = CsvSource(path, kinds)
        assert rows(source) == rows(source, 1) == expected
        assert source.labels("a").tolist() == [row.split(text[1])[0].strip('"') for row in text.splitlines()[1:]]
        assert [note.split(" as ")[1] for note in source.notes] == list(notes)


@pytest.mark.parametrize(("word", "encoding"), [("gr\xfc\xdfe \u20ac", "cp1252"), ("\x81gr\xfc\xdfe", "latin-1")])
@pytest.mark.parametrize("late", [False, True])
def test_text_that_is_not_utf8_is_read_as_windows_or_latin_text_and_that_is_said(
    tmp_path: Path, word: str, encoding: str, late: bool
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(("a,b\n" + "1,x\n" * (400_000 * late) + f"2,{word}\n").encode(encoding))
    for kinds in ({}, A_AND_B):
        source = CsvSource(path, kinds)
        assert rows(source, 100_000)[-1] == {"a": 2, "b": word}
        assert source.without(["a"]).notes == (f"{path}: is not UTF-8 and was read as {encoding}",)


def test_a_header_that_is_not_utf8_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("caf\xe9,b\n1,x\n".encode("latin-1"))
    assert rows(CsvSource(path, {"caf\xe9": "number"}), 2) == [{"caf\xe9": 1.0, "b": "x"}]


OTHERS = {
    b"PK\x03\x04rest": "a zip or an Excel file; unpack it",
    b"PAR1rest": r"a Parquet file; name it \.parquet",
    b"ARROW1rest": r"an Arrow file; name it \.arrow",
    b"a,b\n1,\0\n": "holds NUL bytes, .*save the file as UTF-8",
    "a,b\n1,2\n".encode("utf-16-le"): "holds NUL bytes, .*save the file as UTF-8",
}


@pytest.mark.parametrize("content", OTHERS)
def test_what_is_no_csv_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"t\.csv: .*{OTHERS[content]}"):
        rows(CsvSource(tmp_path / "t.csv", {}))


def test_utf16_that_is_cut_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(TEXT.encode("utf-16")[:-1])
    with pytest.raises(DataError, match=r"t\.csv: begins as utf-16 and is cut or damaged; save the file as UTF-8"):
        rows(CsvSource(tmp_path / "t.csv", {}))


def test_the_ways_to_say_that_a_number_is_missing(tmp_path: Path) -> None:
    words = ["", "NA", "N/A", "NaN", "null", "?", "None", "nan"]
    path = csv(tmp_path / "t.csv", "a,b\n" + "".join(f"{word},{word}\n" for word in words) + "1.5,x\n")
    for kinds in ({}, A_AND_B):
        table = everything(CsvSource(path, kinds))
        assert table.columns["a"].to_pylist() == [None] * len(words) + [1.5]
        assert table.columns["b"].to_pylist() == [*words, "x"]  # a word is a word where words stand


def test_a_code_that_is_read_as_text_keeps_its_zeros(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", "code,a\n007,1\n7,2\n")
    assert [row["code"] for row in rows(CsvSource(path, {}).as_text(["code"]))] == ["007", "7"]


@pytest.mark.parametrize("kinds", [{}, KINDS])
@pytest.mark.parametrize("packed", [False, True])
def test_the_line_of_a_ragged_row_is_that_of_the_file(
    tmp_path: Path, kinds: dict[str, ColumnKind], packed: bool
) -> None:
    text = 'a,b,c\n1,"x\ny, ""z""",true\n\n2,y,false,4\n3\n'
    path = csv(tmp_path / ("t.csv.gz" if packed else "t.csv"), text)
    with pytest.raises(
        DataError, match=r"line 5 has 4 cells and the header 3 \(2,y,false,4\); mend .* `skip_bad=True`"
    ):
        rows(CsvSource(path, kinds), 2)


BAD_LINES = 'a,b,c\nonly\n1,"x\ny",true\n\nn/k,y,maybe\n3,z\nNA,q,\n4,z,0,9\n'


@pytest.mark.parametrize("size", [1, 2, EVERYTHING])
def test_rows_that_are_skipped_keep_their_places(tmp_path: Path, size: int) -> None:
    source = CsvSource(csv(tmp_path / "t.csv", BAD_LINES), KINDS).skipping()
    why = {part.keys[row]: reason for part in source.chunks(size) for row, reason in part.unreadable.items()}
    assert keys(source, size) == [0, 1, 2, 3, 4, 5]
    assert why == {
        0: "has 1 cell and the header 3",
        2: "holds 'n/k' in the number column 'a'",
        3: "has 2 cells and the header 3",
        5: "has 4 cells and the header 3",
    }
    assert rows(source, size)[1] == {"a": 1.0, "b": "x\ny", "c": True}
    assert rows(source, size)[4] == {"a": None, "b": "q", "c": None}
    assert source.labels("b").tolist() == ["", "x\ny", "y", "", "q", ""]


def test_skipped_rows_keep_their_places_over_many_blocks(tmp_path: Path) -> None:
    lines = [f"{i},{'x' * 20}" for i in range(150_000)]
    bad = [0, 1, 2, 70_000, 149_998, 149_999]
    for row in bad:
        lines[row] = "bad"
    path = csv(tmp_path / "t.csv", "a,b\n" + "\n".join(lines) + "\n")
    for kinds in ({}, A_AND_B):
        source = CsvSource(path, kinds).skipping()
        found = [row["a"] for row in rows(source, 7_000 if kinds else EVERYTHING)]
        assert found == [None if i in bad else i for i in range(150_000)]
        assert [part.keys[row] for part in source.chunks(7_000) for row in part.unreadable] == bad


def test_a_word_among_the_numbers_of_a_training_file_is_a_bad_row_and_codes_stay_codes(tmp_path: Path) -> None:
    lines = "".join(f"{i},A{i % 3},{i % 9 or 'x'}\n" for i in range(40))
    path = csv(tmp_path / "t.csv", f"a,b,c\n{lines}oops,A1,2\n")
    table = everything(CsvSource(path, {}).skipping())
    assert table.unreadable == {40: "holds 'oops' in the number column 'a'"}
    assert [str(kind) for kind in table.columns.schema.types] == ["double", "string", "string"]


class TestHeader:
    """Whether the first line names the columns."""

    @pytest.mark.parametrize(
        "first",
        [
            "width,height,kind",
            "0,1,2",
            "2019,2020,2021",
            "400.5,401.5,402.5",
            "300,200,100",
            "1.5,height,kind",
            "width,2,red",
            "a,b,c",
            "1.5,2,blue",
        ],
    )
    def test_a_line_with_a_cell_that_only_a_header_has_is_one(self, tmp_path: Path, first: str) -> None:
        source = opened(tmp_path, f"{first}\n1.5,2,red\n2.5,7,red\n")
        assert source.notes == ()
        assert list(collect(source).columns.column_names) == first.split(",")
        assert len(collect(source)) == 2

    @pytest.mark.parametrize(
        "text",
        [
            "5.1,3.5,red\n4.9,3.0,blue\n4.7,3.2,red\n",
            "7,3,5\n1,2,3\n",
            "tcp,http,SF\nudp,dns,SF\nudp,http,S0\ntcp,dns,S0\n",
        ],
    )
    def test_without_a_header_no_row_is_lost(self, tmp_path: Path, text: str) -> None:
        source = opened(tmp_path, text)
        table = collect(source)
        assert len(table) == text.count("\n")
        assert list(table.columns.column_names) == ["column 1", "column 2", "column 3"]
        assert text.startswith(str(table.columns["column 1"][0].as_py()))
        (note,) = source.notes
        assert "its first line looks like data" in note
        assert "called column 1 to column 3" in note

    def test_many_numbers_that_only_rise_are_names(self, tmp_path: Path) -> None:
        names, row = "1,5,10,25,50,75,90,99", "3,1,4,1,5,9,2,6"
        assert opened(tmp_path, f"{names}\n{row}\n").notes == ()
        assert opened(tmp_path, f"{row}\n{names}\n").notes != ()

    def test_a_line_with_a_name_that_a_model_knows_is_a_header(self, tmp_path: Path) -> None:
        text = "10,2\n1.5,2.5\n"
        assert len(collect(opened(tmp_path, text))) == 2
        assert len(collect(CsvSource(tmp_path / "t.csv", {"10": "number", "2": "number"}))) == 1

    @pytest.mark.parametrize("text", ["7,x\n8,y\n9,x\n", "never,a\nsuch,b\ntexts,c\n"])
    def test_names_that_are_given_make_the_first_line_a_row(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "t.csv").write_text(text)
        source = CsvSource(tmp_path / "t.csv", {}, ["size", "kind"])
        assert source.notes == ()
        table = collect(source).columns
        assert (table.column_names, len(table)) == (["size", "kind"], 3)
        (tmp_path / "t.csv").write_text("size,kind\n" + text)
        assert collect(CsvSource(tmp_path / "t.csv", {}, ["size", "kind"])).columns == table
        with pytest.raises(DataError, match=r"t\.csv: has 2 columns, and `columns` names 1; name each"):
            CsvSource(tmp_path / "t.csv", {}, ["size"])

    def test_bad_rows_keep_their_numbers_and_lines(self, tmp_path: Path) -> None:
        source = opened(tmp_path, "5.1,3.5\n4.9\n4.7,3.2\n")
        with pytest.raises(DataError, match=r"line 2 has 1 cell and the header 2 \(4\.9\)"):
            collect(source)
        table = collect(source.skipping())
        assert dict(table.unreadable) == {1: "has 1 cell and the header 2"}
        assert len(table) == 3


def opened(folder: Path, text: str) -> CsvSource:
    (folder / "t.csv").write_text(text)
    return CsvSource(folder / "t.csv", {})

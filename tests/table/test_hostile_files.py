"""Files that were made to break the reader: each is refused in one sentence, and the process lives on."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memae.errors import DataError
from memae.modality import collect, open_source

TEXTS = pa.table({"name": ["abcd", "efgh", "ijkl"], "size": [1.0, 2.0, 3.0]})
OFFSETS = (0, 4, 8, 12)


def write_arrow(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def write_parquet(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path)


def with_offsets(path: Path, wrong: tuple[int, ...]) -> None:
    """Replaces the offsets of the texts in a file."""
    content = path.read_bytes()
    offsets = np.array(OFFSETS, np.int32).tobytes()
    assert content.count(offsets) == 1
    path.write_bytes(content.replace(offsets, np.array(wrong, np.int32).tobytes()))


@pytest.mark.parametrize(
    "wrong",
    [(0, 4, 8, 2**31 - 1), (0, 2**30, 8, 12), (0, 4, -5, 12), (-(2**31), 4, 8, 12)],
    ids=["beyond the end", "far away in between", "falling", "before the start"],
)
@pytest.mark.parametrize("suffix", ["arrow", "feather"])
def test_offsets_that_point_out_of_the_file_are_refused(
    tmp_path: Path, suffix: str, wrong: tuple[int, ...]
) -> None:
    path = tmp_path / f"t.{suffix}"
    write_arrow(path, TEXTS)
    assert collect(open_source(path)).columns.equals(TEXTS)
    with_offsets(path, wrong)
    with pytest.raises(DataError, match=r"t\.\w+: not a readable Arrow file \(.*offset.*\); write it again"):
        collect(open_source(path))
    with pytest.raises(DataError, match="not a readable Arrow file"):
        open_source(path).labels("name")


@pytest.mark.parametrize(("suffix", "write"), [("arrow", write_arrow), ("parquet", write_parquet)])
def test_text_that_is_no_utf8_is_refused(tmp_path: Path, suffix: str, write: Callable[..., None]) -> None:
    path = tmp_path / f"t.{suffix}"
    if suffix == "parquet":
        pq.write_table(TEXTS, path, compression="none", use_dictionary=False, write_statistics=False)
    else:
        write(path, TEXTS)
    path.write_bytes(path.read_bytes().replace(b"abcd", b"ab\xff\xff"))
    with pytest.raises(DataError, match=rf"t\.{suffix}: not a readable \w+ file \(.*UTF8"):
        collect(open_source(path))


@pytest.mark.parametrize(
    "metadata",
    [b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000, b'{"index_columns": 3}', b'{"index_columns": [["a"]]}'],
    ids=["cut", "a list", "a text", "no UTF-8", "deep", "a number", "a list of lists"],
)
@pytest.mark.parametrize(("suffix", "write"), [("arrow", write_arrow), ("parquet", write_parquet)])
def test_broken_metadata_of_pandas_is_refused(
    tmp_path: Path, suffix: str, write: Callable[..., None], metadata: bytes
) -> None:
    write(tmp_path / f"t.{suffix}", TEXTS.replace_schema_metadata({b"pandas": metadata}))
    with pytest.raises(DataError, match=rf"t\.{suffix}: not a readable \w+ file \(.*\); write it again"):
        open_source(tmp_path / f"t.{suffix}")


def test_metadata_of_pandas_without_an_index_hides_no_column(tmp_path: Path) -> None:
    metadata = json.dumps({"index_columns": [{"kind": "range"}], "columns": []}).encode()
    write_parquet(tmp_path / "t.parquet", TEXTS.replace_schema_metadata({b"pandas": metadata}))
    assert collect(open_source(tmp_path / "t.parquet")).columns.column_names == TEXTS.column_names


READ_AND_END = """
import sys
from pathlib import Path
from memae.errors import DataError
from memae.table.csv import CsvSource
for attempt in range(3):
    try:
        list(CsvSource(Path(sys.argv[1]), {}).chunks(1000))
        print("read")
    except DataError as error:
        print(error)
"""


@pytest.mark.parametrize("place", [1 << 20, -1], ids=["in the middle", "at the end"])
def test_utf16_of_an_odd_length_is_refused_and_the_process_ends_in_peace(tmp_path: Path, place: int) -> None:
    content = ("a,b\n" + "1,x\n" * 400_000).encode("utf-16")
    (tmp_path / "t.csv").write_bytes(content[:place] + (b"z" + content[place:] if place > 0 else b""))
    command = [sys.executable, "-c", READ_AND_END, str(tmp_path / "t.csv")]
    done: Any = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("t.csv: begins as utf-16 and is cut or damaged; save the file as UTF-8") == 3

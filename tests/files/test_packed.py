"""Files that unpack to far more than their size are refused before they fill the memory."""

import gzip
import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from memae.errors import DataError
from memae.files.packed import ALWAYS_BYTES, MOST_TIMES, PackedError, check_unpacked, gunzipped
from memae.modality import open_source

MEGABYTE = 1 << 20


def small_gzip(megabytes: int) -> bytes:
    """Zeros packed to a thousandth, without packing each of them here."""
    packing = zlib.compressobj(9, wbits=31)
    start = packing.compress(bytes(MEGABYTE)) + packing.flush(zlib.Z_FULL_FLUSH)
    block = packing.compress(bytes(MEGABYTE)) + packing.flush(zlib.Z_FULL_FLUSH)
    return start + block * (megabytes - 1)


def small_npz(path: Path, megabytes: int) -> Path:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (megabytes, 1024, 1024)}
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        member.write(header.getvalue())
        for _ in range(megabytes):
            member.write(bytes(MEGABYTE))
    return path


def test_a_limit_depends_on_the_size_of_the_file() -> None:
    check_unpacked(0, ALWAYS_BYTES)
    check_unpacked(ALWAYS_BYTES, MOST_TIMES * ALWAYS_BYTES)
    for packed, unpacked in ((1000, ALWAYS_BYTES + 1), (ALWAYS_BYTES, MOST_TIMES * ALWAYS_BYTES + 1)):
        with pytest.raises(PackedError, match=r"unpacks to more than 256 MiB and 200 times its size"):
            check_unpacked(packed, unpacked)


def test_gzip_gives_the_content_of_all_members() -> None:
    assert gunzipped(gzip.compress(b"one ") + gzip.compress(b"two")) == b"one two"
    with pytest.raises(EOFError):
        gunzipped(gzip.compress(b"cut short")[:-9])


def test_an_idx_file_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(small_gzip(300))
    assert path.stat().st_size < MEGABYTE
    with pytest.raises(DataError, match=r"idx3-ubyte\.gz: unpacks to more than 256 MiB"):
        open_source(path)


def test_an_npz_file_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.npz: unpacks to more than 256 MiB"):
        open_source(small_npz(tmp_path / "a.npz", 300))


def test_a_member_of_an_npz_file_that_is_no_array_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((3, 2)))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "not an array")
        archive.writestr("X", "nor this")
    assert sum(len(chunk) for chunk in open_source(path).chunks(10)) == 3

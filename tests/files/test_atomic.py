import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from memae.files import parts
from memae.files.atomic import atomic_directory, atomic_file, folders_below, natural_key


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


def test_a_file_appears_whole_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "scores.csv"
    with atomic_file(target) as part:
        part.write_text("new")
        assert not target.exists()
        assert part.parent == target.parent  # else the move would copy
    assert target.read_text() == "new"
    assert names(target.parent) == ["scores.csv"]


def test_an_old_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("old")
    with atomic_file(tmp_path / "scores.csv") as part:
        part.write_text("new")
        assert (tmp_path / "scores.csv").read_text() == "old"
    assert (tmp_path / "scores.csv").read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [None, "old"])
def test_an_exception_leaves_the_old_file_and_no_litter(
    tmp_path: Path, error: type[BaseException], old: str | None
) -> None:
    if old:
        (tmp_path / "scores.csv").write_text(old)
    with pytest.raises(error), atomic_file(tmp_path / "scores.csv") as part:
        part.write_text("half")
        raise error
    assert names(tmp_path) == (["scores.csv"] if old else [])
    assert not old or (tmp_path / "scores.csv").read_text() == old


def test_new_files_have_the_usual_permissions(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with atomic_file(tmp_path / "scores.csv") as part:
            part.write_text("x")
        with atomic_directory(tmp_path / "model") as part:
            (part / "config.json").write_text("{}")
            (part / "config.json").chmod(0o600)
    finally:
        os.umask(old)
    assert (tmp_path / "scores.csv").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "model" / "config.json").stat().st_mode & 0o777 == 0o640


def test_a_directory_appears_whole_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "model"
    with atomic_directory(target) as part:
        (part / "a").write_text("new")
        assert not target.exists()
    assert (target / "a").read_text() == "new"
    assert names(target.parent) == ["model"]


def test_an_old_directory_is_replaced_with_all_that_it_held(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").write_text("old")
    with atomic_directory(tmp_path / "model") as part:
        (part / "new").write_text("new")
        assert names(tmp_path / "model") == ["old"]
    assert names(tmp_path / "model") == ["new"]
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [None, "old"])
def test_an_exception_leaves_the_old_directory_and_no_litter(
    tmp_path: Path, error: type[BaseException], old: str | None
) -> None:
    if old:
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "a").write_text(old)
    with pytest.raises(error), atomic_directory(tmp_path / "model") as part:
        (part / "a").write_text("half")
        raise error
    assert names(tmp_path) == (["model"] if old else [])
    assert not old or (tmp_path / "model" / "a").read_text() == old


def test_the_old_directory_comes_back_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a").write_text("old")
    rename = Path.rename

    def fail_for_the_new_one(self: Path, target: Path) -> Path:
        if self.suffix == ".part":
            raise OSError("the disk says no")
        return rename(self, target)

    monkeypatch.setattr(parts, "exchanged", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
    with pytest.raises(OSError, match="the disk says no"), atomic_directory(tmp_path / "model") as part:
        (part / "a").write_text("new")
    assert (tmp_path / "model" / "a").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_a_link_to_a_directory_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "model-1").mkdir()
    (tmp_path / "latest").symlink_to("model-1")
    with atomic_directory(tmp_path / "latest") as part:
        (part / "a").write_text("new")
    assert (tmp_path / "latest").is_symlink()
    assert (tmp_path / "model-1" / "a").read_text() == "new"
    assert names(tmp_path) == ["latest", "model-1"]


def test_the_working_directory_itself_can_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path / "model")
    with atomic_directory(Path()) as part:
        (part / "a").write_text("new")
    assert (tmp_path / "model" / "a").read_text() == "new"
    monkeypatch.chdir(tmp_path)


def test_in_natural_order_2_comes_before_10() -> None:
    names = ["b10", "B2", "a", "10", "2", "b2x1", "²"]
    assert sorted(names, key=natural_key) == ["2", "10", "a", "B2", "b2x1", "b10", "²"]


def test_folders_are_found_once_real_ones_first_and_hidden_ones_never(tmp_path: Path) -> None:
    for name in ("b/1.png", "a_gt/2.png", ".git/3.png", "b/deep/4.png", "b/._1.png"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).touch()
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "5.png").touch()
    root = tmp_path / "root"
    (root / "a").symlink_to(root / "b")
    (root / "b" / "back").symlink_to(root)
    (root / "b" / "z").symlink_to(tmp_path / "away")
    found = {
        folder.relative_to(root).as_posix(): [file.name for file in files] for folder, files in folders_below(root)
    }
    assert found == {".": [], "a_gt": ["2.png"], "b": ["1.png"], "b/deep": ["4.png"], "b/z": ["5.png"]}
    assert len([*folders_below(root, lambda name: name.endswith("_gt"))]) == 4


FULL = """
import resource, signal
from memae.errors import WriteError
from memae.files.atomic import temporary_file

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails, and the process lives
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with temporary_file("the rows") as file:
        file.write(bytes(COUNT))
        file.flush()
except WriteError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no RLIMIT_FSIZE there")
@pytest.mark.parametrize("size", [2000, 100_000])  # what waits in a buffer, and what does not
def test_a_temporary_file_without_room_names_its_folder(size: int) -> None:
    code = FULL.replace("COUNT", str(size))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith(f"{tempfile.gettempdir()}: no space left for the rows, 0 MiB so far; make room")
    assert "TMPDIR" in done.stdout

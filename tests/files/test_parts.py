"""A process that is killed at any moment leaves the old or the new content, and the next one sweeps up."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memae.files import parts
from memae.files.atomic import atomic_directory, atomic_file, check_writable
from memae.files.exchange import exchanged
from memae.files.parts import recover, remove

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="no fork and no such locks there"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

EXCHANGES = [
    pytest.param(True, marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has it")),
    False,
]
EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "shutil.rmtree")


def write_model(path: Path, text: str) -> None:
    with atomic_directory(path) as part:
        (part / "weights").write_text(text)
        (part / "config").write_text(text)


def write_scores(path: Path, text: str) -> None:
    with atomic_file(path) as part:
        part.write_text(text)


def read(path: Path) -> Any:
    if path.is_dir():
        return {file.name: file.read_text() for file in path.iterdir()}
    return path.read_text() if path.exists() else None


def whole(path: Path, text: str) -> Any:
    return {"weights": text, "config": text} if path.name == "model" else text


def killed_at(event: int, work: Callable[[], None]) -> bool:
    """Whether a forked process was killed before the step of this number; False: it had fewer and ended by itself."""
    child = os.fork()
    if child == 0:
        try:
            left = event

            def count(name: str, args: tuple[Any, ...] = ()) -> None:
                nonlocal left
                if name in EVENTS:
                    left -= 1
                    if left < 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            sync = os.fsync

            def counted_sync(fd: Any) -> None:
                count("open")
                sync(fd)

            os.fsync = counted_sync
            sys.addaudithook(count)
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.fixture(params=EXCHANGES, ids=["exchanged", "moved aside"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    if not request.param:
        monkeypatch.setattr(parts, "exchanged", lambda one, other: False)
    yield request.param


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("old", [None, "old"])
@pytest.mark.parametrize(("name", "write"), [("model", write_model), ("scores.csv", write_scores)])
def test_a_kill_at_any_step_leaves_the_old_or_the_new_and_the_next_writer_sweeps_up(
    tmp_path: Path, name: str, write: Callable[[Path, str], None], old: str | None
) -> None:
    event, path = 0, tmp_path / name
    while True:
        for left in tmp_path.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        if old:
            write(path, old)
        if not killed_at(event, lambda: write(path, "new")):
            break
        recover(path)
        assert read(path) in ([whole(path, old)] if old else [None]) + [whole(path, "new")], event
        assert [file.name for file in tmp_path.iterdir()] == [name] * path.exists(), event
        write(path, "newer")
        assert read(path) == whole(path, "newer"), event
        event += 1
    assert event > 5


def test_a_reader_finds_a_directory_at_any_step_where_the_system_exchanges(tmp_path: Path) -> None:
    if not can_exchange(tmp_path):
        pytest.skip("this disk cannot")
    write_model(tmp_path / "model", "old")
    event = 0
    while killed_at(event, lambda: write_model(tmp_path / "model", "new")):
        assert read(tmp_path / "model") in (whole(tmp_path / "model", "old"), whole(tmp_path / "model", "new"))
        event += 1
    assert event > 5


def can_exchange(folder: Path) -> bool:
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    return exchanged(folder / "a", folder / "b")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has it")
def test_two_folders_change_places_or_the_error_names_them(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not exchanged(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this disk cannot")
    assert (tmp_path / "a" / "b").exists()
    assert (tmp_path / "b" / "a").exists()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        exchanged(tmp_path / "a", tmp_path / "nowhere")


@pytest.mark.usefixtures("system")
def test_what_another_process_is_making_stays(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "model") as first:
        (first / "config").write_text("first")
        recover(tmp_path / "model")
        check_writable(tmp_path / "model")
        write_model(tmp_path / "model", "second")
        assert (first / "config").read_text() == "first"
    assert read(tmp_path / "model") == {"config": "first"}
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_more_writers_than_usual_are_served(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    writers = [atomic_file(path) for _ in range(parts.PLACES + 2)]
    made = [writer.__enter__() for writer in writers]
    assert len(set(made)) == len(made)
    for number, (writer, part) in enumerate(zip(writers, made, strict=True)):
        part.write_text(str(number))
        writer.__exit__(None, None, None)
    assert path.read_text() == str(len(made) - 1)
    assert [file.name for file in tmp_path.iterdir()] == ["scores.csv"]


def test_a_kill_while_a_directory_is_removed_leaves_all_of_it_or_nothing(tmp_path: Path) -> None:
    event, path = 0, tmp_path / "model"
    while True:
        write_model(path, "old")
        if not killed_at(event, lambda: remove(path)):
            break
        assert read(path) in (whole(path, "old"), None), event
        event += 1
    assert event > 3
    recover(path)
    assert not list(tmp_path.iterdir())

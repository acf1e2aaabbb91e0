import os
import tempfile
from pathlib import Path

import pytest

from memae.errors import DataError
from memae.files.patterns import is_pattern
from memae.image.paths import find_images


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree of empty files: nobody opens them here."""
    for name in (
        "b.png", "a/z.jpg", "a/ok_1.png", "a/ok_2.WEBP", "a/no_1.png", "c/ok_3.tiff", "c/deep/ok_4.bmp", "a/._x.png",
        ".hidden/x.png", "notes.md",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def keys(*paths: str | Path) -> list[str]:
    return [file.key for file in find_images([Path(path) for path in paths])]


def test_a_folder_is_its_images_at_any_depth_sorted_without_hidden_ones(root: Path) -> None:
    found = ["a/no_1.png", "a/ok_1.png", "a/ok_2.WEBP", "a/z.jpg", "b.png", "c/deep/ok_4.bmp", "c/ok_3.tiff"]
    assert keys(root) == found


def test_a_pattern_is_what_it_matches_below_its_fixed_part(root: Path) -> None:
    assert keys(root / "*" / "ok_*") == ["a/ok_1.png", "a/ok_2.WEBP", "c/ok_3.tiff"]
    assert keys(root / "a" / "ok_[12].*") == ["ok_1.png", "ok_2.WEBP"]
    assert keys(root / "**" / "ok_*.bmp") == ["c/deep/ok_4.bmp"]


def test_folders_that_a_pattern_matches_are_searched(root: Path) -> None:
    assert keys(root / "[c-d]*") == ["c/deep/ok_4.bmp", "c/ok_3.tiff"]


def test_a_relative_pattern_needs_no_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert keys("*.png") == ["b.png"]
    assert keys("a/*.png") == ["no_1.png", "ok_1.png"]


def test_a_file_that_is_called_like_a_pattern_is_a_file(root: Path) -> None:
    (root / "x[1].png").touch()
    assert not is_pattern(root / "x[1].png")
    assert keys(root / "x[1].png") == ["x[1].png"]


def test_a_list_is_its_lines_in_their_order(root: Path) -> None:
    (root / "lists").mkdir()
    (root / "lists" / "good.txt").write_text("# good ones\n\n../b.png\n  ../a/z.jpg  \n../a/ok_1.png\n")
    found = find_images([root / "lists" / "good.txt"])
    assert [file.key for file in found] == ["../b.png", "../a/z.jpg", "../a/ok_1.png"]
    assert all(file.path.exists() for file in found)
    assert found[1].where == f"{root}/lists/good.txt line 4: {root}/lists/../a/z.jpg"


def test_a_list_may_have_a_byte_order_mark_and_windows_ends(root: Path) -> None:
    (root / "list.txt").write_bytes(b"\xef\xbb\xbfb.png\r\na/z.jpg\r\n")
    assert keys(root / "list.txt") == ["b.png", "a/z.jpg"]


def test_of_several_sources_the_key_is_the_path_as_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    (root / "list.txt").write_text("b.png\n")
    assert keys("c", "a/z.jpg", "list.txt") == ["c/deep/ok_4.bmp", "c/ok_3.tiff", "a/z.jpg", "b.png"]


def test_what_is_named_twice_is_taken_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert keys("c", root / "c", "c/ok_3.tiff") == ["c/deep/ok_4.bmp", "c/ok_3.tiff"]


def test_a_loop_of_links_ends_and_each_file_comes_once_by_its_own_path(root: Path) -> None:
    (root / "a" / "back").symlink_to(root)
    (root / "0link").symlink_to(root / "c")  # sorts before the folder itself
    assert keys(root / "c") == ["deep/ok_4.bmp", "ok_3.tiff"]
    found = ["a/no_1.png", "a/ok_1.png", "a/ok_2.WEBP", "a/z.jpg", "b.png", "c/deep/ok_4.bmp", "c/ok_3.tiff"]
    assert keys(root) == found


def test_a_link_to_a_folder_elsewhere_is_followed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    there = tmp_path_factory.mktemp("there")
    (there / "far.png").touch()
    (root / "c" / "link").symlink_to(there)
    assert keys(root / "c") == ["deep/ok_4.bmp", "link/far.png", "ok_3.tiff"]


def test_a_broken_link_is_an_image_so_that_reading_it_names_it(root: Path) -> None:
    (root / "c" / "gone.png").symlink_to(root / "nowhere.png")
    assert "gone.png" in keys(root / "c")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", "no such file or folder; check the path"),
        (".hidden/none", "no such file"),
        ("a/*.bmp", r"a/\*\.bmp: matches no \.png, \.jpg, .* file; check the path"),
        ("*.md", r"matches no \.png"),
    ],
)
def test_nothing_there_is_refused(root: Path, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        keys(root / name)


def test_a_folder_without_images_is_refused(root: Path) -> None:
    (root / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: holds no \.png, \.jpg"):
        keys(root / "empty")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lists no image; write one path a line"),
        (b"# nothing\n\n", "lists no image; write one path a line"),
        (
            b"hello world\n",
            "line 1 is 'hello world', no path of an image .* one path a line, relative to the list",
        ),
        (b"b.png\n" + b"x" * 100, r"line 2 is 'x{57}\.\.\.', no path"),
        (b"\xff\xfe\x00", "cannot be read as a list of images"),
    ],
)
def test_a_text_that_is_no_list_is_refused(root: Path, content: bytes, message: str) -> None:
    (root / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"list\.txt: {message}"):
        keys(root / "list.txt")


def test_a_folder_without_permission_is_refused() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "shut").mkdir(mode=0)
        (folder / "a.png").touch()
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)  # root may look everywhere
        try:
            with pytest.raises(
                DataError, match=r"shut: cannot look into this folder \(Permission denied\); check"
            ):
                keys(folder)
        finally:
            os.seteuid(was)

"""Which image files are meant by a folder, a pattern, a list file, single files, or several of these."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from memae.errors import DataError, shortened
from memae.files.patterns import files_meant, fixed_part, is_pattern

__all__ = [
    "IMAGE_SUFFIXES",
    "LIST_SUFFIX",
    "NORMAL_FOLDER",
    "ImageFile",
    "MVTecFolders",
    "find_images",
    "find_mvtec",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
LIST_SUFFIX = ".txt"
NORMAL_FOLDER = "good"
"""Of normal images in the layout of MVTec AD."""


class ImageFile(NamedTuple):
    """One image on the disk."""

    path: Path
    key: str
    """Below the folder that was named, or of a pattern below its part without wildcards; of a list the line; of
    several sources the path as it was named."""
    where: str
    """How messages call it."""


def find_images(paths: Sequence[Path]) -> list[ImageFile]:
    """The images behind paths, in their order; within a folder or a pattern sorted by path, each file once.

    Folders are searched to any depth. Links to folders are followed, but no folder is entered twice; what is hidden
    (a name with a dot before it) is left out.

    Raises:
        DataError: nothing there, no image in it, a folder that cannot be looked into, or a list that is none.
    """
    found: dict[str, ImageFile] = {}
    for path in paths:
        for file in _images_at(path, several=len(paths) > 1):
            found.setdefault(os.path.abspath(file.path), file)  # noqa: PTH100  Path.resolve would follow links
    return list(found.values())


def _images_at(path: Path, several: bool) -> list[ImageFile]:
    if path.is_file():
        if path.suffix.lower() == LIST_SUFFIX:
            return _listed(path, several)
        return [ImageFile(path, path.as_posix() if several else path.name, str(path))]
    if path.is_dir():
        root = path
    elif is_pattern(path):
        root = fixed_part(path)
    else:
        raise DataError(f"{path}: no such file or folder; check the path")
    files = set(files_meant(path, IMAGE_SUFFIXES))
    if not files:
        what = "holds" if root == path else "matches"
        raise DataError(f"{path}: {what} no {', '.join(IMAGE_SUFFIXES)} file; check the path")
    return [
        ImageFile(file, (file if several else file.relative_to(root)).as_posix(), str(file))
        for file in sorted(files)
    ]


def _listed(path: Path, several: bool) -> list[ImageFile]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of images ({error}); write one path a line") from None
    found = []
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        file = path.parent / name
        if file.suffix.lower() not in IMAGE_SUFFIXES:
            raise DataError(
                f"{path}: line {number} is {shortened(name)!r}, no path of an image ({', '.join(IMAGE_SUFFIXES)}); "
                "a list of images holds one path a line, relative to the list"
            )
        key = file.as_posix() if several else Path(name).as_posix()
        found.append(ImageFile(file, key, f"{path} line {number}: {file}"))
    if not found:
        raise DataError(f"{path}: lists no image; write one path a line, relative to the list")
    return found


class MVTecFolders(NamedTuple):
    """A folder laid out like MVTec AD: train/good, test/<defect>, ground_truth/<defect>/<name>_mask.png."""

    train: Path
    test: Path
    masks: Path | None


def find_mvtec(root: Path) -> MVTecFolders | None:
    """The parts of a folder that has train/good and test; None for any other."""
    train, test, masks = root / "train" / NORMAL_FOLDER, root / "test", root / "ground_truth"
    if not (train.is_dir() and test.is_dir()):
        return None
    return MVTecFolders(train, test, masks if masks.is_dir() else None)
